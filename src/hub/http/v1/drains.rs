//! The drain routes of `/api/v1`.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::hub::http::credentials::Credentials;
use crate::hub::http::reply::require;
use crate::hub::http::request::{Body, Shared};
use crate::hub::http::v1::body::{bytes_of, read_strict};
use crate::hub::http::v1::once::{Asked, act_once};
use crate::hub::http::v1::parameters::OnceHeader;
use crate::hub::http::v1::selected::{SelectorForm, Skipped, read_selector};
use crate::hub::hub_state::HubState;
use crate::hub::problem::Problem;
use crate::hub::scheduler::drains::{DrainRequest, Drained};
use crate::hub::scheduler::selector::Selector;
use crate::hub::state::lifetime::check_lifetime;
use crate::hub::state::roles::Permission;
use crate::protocol::JsonFields;
use crate::protocol::schema::{Field, Kind, may};

/// A drain of agents.
#[derive(Deserialize, ToSchema)]
#[allow(dead_code, reason = "it describes the body, which is read by its fields")]
#[serde(deny_unknown_fields)]
pub(super) struct NewDrain {
    /// The agents.
    selector: SelectorForm,
    /// The reason, for people.
    #[schema(max_length = 2_000)]
    reason: Option<String>,
    /// The time after which it ends by itself, in ms; without one, it lasts until it is resumed.
    #[schema(minimum = 1, maximum = 315_360_000_000_u64)]
    until_ms: Option<u64>,
    /// The time after which an agent that still holds a task is told of, in ms. Nothing is taken from it.
    #[schema(minimum = 1, maximum = 315_360_000_000_u64)]
    deadline_ms: Option<u64>,
}

/// The end of a drain of agents.
#[derive(Deserialize, ToSchema)]
#[allow(dead_code, reason = "it describes the body, which is read by its fields")]
#[serde(deny_unknown_fields)]
pub(super) struct DrainEnd {
    /// The agents.
    selector: SelectorForm,
    /// The reason, for people.
    #[schema(max_length = 2_000)]
    reason: Option<String>,
}

/// What changed.
#[derive(Serialize, ToSchema)]
pub(super) struct DrainsChanged {
    /// The number of agents that are meant.
    matched: usize,
    /// The agents whose drain changed.
    changed: Vec<String>,
    /// The agents with which it was so already.
    unchanged: Vec<String>,
    /// The agents that were passed over.
    skipped: Vec<Skipped>,
}

pub(super) const DRAIN_FIELDS: &[Field] = &[
    may("selector", Kind::Any),
    may("reason", Kind::Text),
    may("until_ms", Kind::Count),
    may("deadline_ms", Kind::Count),
];

pub(super) const RESUME_FIELDS: &[Field] = &[may("selector", Kind::Any), may("reason", Kind::Text)];

/// Drains agents: they get no new task, and what they hold goes on. The same again with other values changes them.
#[utoipa::path(
    post, path = "/api/v1/drain", tag = "agents", operation_id = "drain_agents", request_body = NewDrain, security(("token" = [])),
    params(OnceHeader),
    responses(
        (status = 200, description = "what changed", body = DrainsChanged),
        (status = "4XX", description = "nothing was changed", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn drain(
    State(app): Shared,
    uri: Uri,
    who: Credentials,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let caller = require(&app.snapshot(), &who, Permission::DrainAgents, "drain agents")?;
    let asked = Asked::of("POST", &uri, &headers, bytes_of(&body))?;
    let body = read_strict(&headers, body, DRAIN_FIELDS)?.fields;
    let (selector, reason) = (read_selector(&body)?, body.string("reason"));
    let (until_ms, deadline_ms) = (duration(&body, "until_ms")?, duration(&body, "deadline_ms")?);
    let author = caller.author();
    act_once(&app, &caller, asked, StatusCode::OK, move |state, now_ms| {
        let from_now = |ms: Option<u64>| ms.map(|ms| now_ms.saturating_add(ms));
        let request =
            DrainRequest { by: author.who.clone(), reason, until: from_now(until_ms), deadline: from_now(deadline_ms) };
        Ok(change(state, &selector, now_ms, |state, agent_id| {
            state.acts(&author, now_ms).drain(agent_id, request.clone(), &selector)
        }))
    })
    .await
}

/// Lets agents that were drained from the hub take tasks again. What an operator on an agent's machine wants stays as it is.
#[utoipa::path(
    post, path = "/api/v1/resume", tag = "agents", operation_id = "resume_agents", request_body = DrainEnd, security(("token" = [])),
    params(OnceHeader),
    responses(
        (status = 200, description = "what changed", body = DrainsChanged),
        (status = "4XX", description = "nothing was changed", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn resume(
    State(app): Shared,
    uri: Uri,
    who: Credentials,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let caller = require(&app.snapshot(), &who, Permission::DrainAgents, "resume agents")?;
    let asked = Asked::of("POST", &uri, &headers, bytes_of(&body))?;
    let body = read_strict(&headers, body, RESUME_FIELDS)?.fields;
    let (selector, reason) = (read_selector(&body)?, body.string("reason"));
    let author = caller.author();
    act_once(&app, &caller, asked, StatusCode::OK, move |state, now_ms| {
        Ok(change(state, &selector, now_ms, |state, agent_id| {
            state.acts(&author, now_ms).resume(agent_id, reason.as_deref(), &selector)
        }))
    })
    .await
}

/// Does the same to each agent of a selection. An agent without a record, for which `act` returns `None`, is passed over.
fn change(
    state: &mut HubState,
    selector: &Selector,
    now_ms: u64,
    mut act: impl FnMut(&mut HubState, &str) -> Option<Drained>,
) -> DrainsChanged {
    let selected = state.snapshot().selected(selector, now_ms);
    let (matched, skipped) = (selected.agents.len(), selected.unknown.into_iter().map(Skipped::unknown).collect());
    let mut told = DrainsChanged { matched, changed: Vec::new(), unchanged: Vec::new(), skipped };
    for agent_id in selected.agents {
        match act(state, &agent_id) {
            Some(drained) if drained.is_change() => told.changed.push(agent_id),
            Some(_) => told.unchanged.push(agent_id),
            None => told.skipped.push(Skipped::never_seen(agent_id)),
        }
    }
    told
}

fn duration(body: &JsonFields, field: &str) -> Result<Option<u64>, Problem> {
    let given: Option<u64> = body.read(field);
    given.map_or(Ok(()), check_lifetime).map_err(|detail| Problem::invalid_field(field, "invalid", &detail))?;
    Ok(given)
}
