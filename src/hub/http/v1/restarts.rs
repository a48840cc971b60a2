//! The restart routes of `/api/v1`.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;
use strum::VariantNames as _;
use utoipa::ToSchema;

use crate::hub::http::lists::{self, RestartList, RestartPage, page_limit};
use crate::hub::http::reply::caller_of;
use crate::hub::http::request::{Body, Id, QueryParameters, Shared, ok, path_id};
use crate::hub::http::v1::body::{bytes_of, read_parameters, read_strict};
use crate::hub::http::v1::once::{Asked, act_once};
use crate::hub::http::v1::problem::Problem;
use crate::hub::http::{RESTART_FIELDS, not_connected, restart_request};
use crate::hub::random;
use crate::hub::scheduler::restart::{RestartPhase, ShownRestart};
use crate::hub::state::roles::Permission;
use crate::protocol::JsonText;

/// A restart to command.
#[derive(Deserialize, ToSchema)]
#[allow(dead_code, reason = "it describes the body, which is read by its fields")]
#[serde(deny_unknown_fields)]
pub(super) struct NewRestart {
    /// The reason, for people.
    #[schema(max_length = 2_000)]
    reason: Option<String>,
    /// The time for which a running task may delay it, in ms.
    #[schema(minimum = 0, maximum = 86_400_000)]
    deadline_ms: Option<u64>,
    /// Whether it does not wait for the task.
    force: Option<bool>,
}

/// Commands a restart of one agent. While one goes on, the same is answered again.
#[utoipa::path(
    post, path = "/api/v1/agents/{id}/restart", tag = "restarts", request_body = NewRestart, security(("token" = [])),
    params(
        ("id" = String, Path, description = "the agent"),
        ("Idempotency-Key" = Option<String>, Header, description = "the same for each repeat of one request"),
    ),
    responses(
        (status = 202, description = "the restart", body = ShownRestart<'static>),
        (status = "4XX", description = "nothing was changed", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn command(
    State(app): Shared,
    uri: Uri,
    headers: HeaderMap,
    id: Id,
    body: Body,
) -> Result<Response, Problem> {
    let caller = caller_of(&app.snapshot(), &headers)?;
    let agent_id = path_id(id)?;
    caller.require_for(&agent_id, Permission::RestartAnyAgent, Permission::RestartItself, "restart this agent")?;
    let asked = Asked::of("POST", &uri, &headers, bytes_of(&body))?;
    let request = restart_request(&read_strict(&headers, body, RESTART_FIELDS)?.fields, &caller)?;
    let command_id = format!("restart-{}", random::id()?);
    let author = caller.author();
    act_once(&app, &caller, asked, StatusCode::ACCEPTED, move |state, now_ms| {
        let commanded = state.acts(&author, now_ms).command_restart(command_id, &agent_id, request);
        let commanded = commanded.ok_or_else(|| not_connected(&agent_id))?;
        let restart = state.scheduler.restarts().get(&commanded.command_id);
        Ok(restart.map_or_else(JsonText::null, |restart| JsonText::of(&restart.shown())))
    })
    .await
}

/// Lists restarts, newest first.
#[utoipa::path(
    get, path = "/api/v1/restarts", tag = "restarts", security(("token" = [])),
    params(
        ("agent_id" = Option<String>, Query, description = "those of one agent"),
        ("state" = Option<String>, Query, description = "those in this phase"),
        ("open" = Option<bool>, Query, description = "those that go on, or those that have ended"),
        ("limit" = Option<usize>, Query, minimum = 1, maximum = 1000, description = "the number of items on the page"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses(
        (status = 200, description = "a page of restarts", body = RestartPage),
        (status = "4XX", description = "the request is not understood", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(State(app): Shared, headers: HeaderMap, query: QueryParameters) -> Result<Response, Problem> {
    let snapshot = app.snapshot();
    let caller = caller_of(&snapshot, &headers)?;
    let query = read_parameters(query, &["agent_id", "state", "open", "limit", "cursor"])?;
    let agent_id = query.get("agent_id").cloned();
    let of = agent_id.as_deref().unwrap_or_default();
    caller.require_for(
        of,
        Permission::ReadAnyRestarts,
        Permission::ReadOwnRestarts,
        "read another agent's restarts",
    )?;
    let invalid = |field: &str, expected: &str, found: &str| {
        let detail = format!("expected {expected}, got {found:?}");
        Problem::invalid(&[json!({"field": field, "error": "invalid", "detail": detail})])
    };
    let state = query.get("state").map(|name| {
        let names = RestartPhase::VARIANTS.join(", ");
        name.parse::<RestartPhase>().map_err(|_| invalid("state", &format!("one of {names}"), name))
    });
    let open = query.get("open").map(|open| open.parse().map_err(|_| invalid("open", "true or false", open)));
    let after = query
        .get("cursor")
        .map(|cursor| cursor.parse().map_err(|_| invalid("cursor", "the cursor of an answer of this list", cursor)));
    let list = RestartList { agent_id, state: state.transpose()?, open: open.transpose()?, after: after.transpose()? };
    Ok(lists::page(&snapshot, list, page_limit(&query)?))
}

/// Returns one restart.
#[utoipa::path(
    get, path = "/api/v1/restarts/{id}", tag = "restarts", security(("token" = [])),
    params(("id" = String, Path, description = "the command's id")),
    responses(
        (status = 200, description = "the restart", body = ShownRestart<'static>),
        (status = "4XX", description = "there is no such restart, or no token", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn get(State(app): Shared, headers: HeaderMap, id: Id) -> Result<Response, Problem> {
    let snapshot = app.snapshot();
    let caller = caller_of(&snapshot, &headers)?;
    let id = path_id(id)?;
    let restart = snapshot.view.restarts().get(&id).ok_or_else(|| {
        Problem::new(
            StatusCode::NOT_FOUND,
            "restart_not_found",
            "GET /api/v1/restarts lists the restarts that are kept",
        )
    })?;
    let what = "read another agent's restarts";
    caller.require_for(&restart.agent_id, Permission::ReadAnyRestarts, Permission::ReadOwnRestarts, what)?;
    Ok(ok(restart.shown())?)
}
