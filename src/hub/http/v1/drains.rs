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
use crate::hub::scheduler::drains::DrainRequest;
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
    /// Whether nothing is done, and only told who is meant.
    dry_run: Option<bool>,
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
    /// Whether nothing is done, and only told who is meant.
    dry_run: Option<bool>,
}

/// What changed, or would.
#[derive(Serialize, ToSchema)]
pub(super) struct DrainsChanged {
    /// Whether nothing was done.
    dry_run: bool,
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
    may("dry_run", Kind::Flag),
];

pub(super) const RESUME_FIELDS: &[Field] =
    &[may("selector", Kind::Any), may("reason", Kind::Text), may("dry_run", Kind::Flag)];

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
    let dry_run = body.read("dry_run").unwrap_or(false);
    let author = caller.author();
    act_once(&app, &caller, asked, StatusCode::OK, move |state, now_ms| {
        let from_now = |ms: Option<u64>| ms.map(|ms| now_ms.saturating_add(ms));
        let request =
            DrainRequest { by: author.who.clone(), reason, until: from_now(until_ms), deadline: from_now(deadline_ms) };
        Ok(change(state, &selector, dry_run, now_ms, |state, agent_id| {
            if dry_run {
                return state.scheduler.would_drain(agent_id, &request);
            }
            Some(state.acts(&author, now_ms).drain(agent_id, request.clone(), &selector)?.is_change())
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
    let dry_run = body.read("dry_run").unwrap_or(false);
    let author = caller.author();
    act_once(&app, &caller, asked, StatusCode::OK, move |state, now_ms| {
        Ok(change(state, &selector, dry_run, now_ms, |state, agent_id| {
            if dry_run {
                return state.scheduler.would_resume(agent_id);
            }
            Some(state.acts(&author, now_ms).resume(agent_id, reason.as_deref(), &selector)?.is_change())
        }))
    })
    .await
}

/// Does the same to each agent of a selection, or (in a dry run) looks what it would do. `act` returns whether that changes
/// anything; an agent without a record, for which it returns `None`, is passed over.
fn change(
    state: &mut HubState,
    selector: &Selector,
    dry_run: bool,
    now_ms: u64,
    mut act: impl FnMut(&mut HubState, &str) -> Option<bool>,
) -> DrainsChanged {
    let selected = state.snapshot().selected(selector, now_ms);
    let (matched, skipped) = (selected.agents.len(), selected.unknown.into_iter().map(Skipped::unknown).collect());
    let mut told = DrainsChanged { dry_run, matched, changed: Vec::new(), unchanged: Vec::new(), skipped };
    for agent_id in selected.agents {
        match act(state, &agent_id) {
            Some(true) => told.changed.push(agent_id),
            Some(false) => told.unchanged.push(agent_id),
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
