//! The agent routes of `/api/v1`.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use crate::hub::api_error::ApiError;
use crate::hub::http::credentials::Credentials;
use crate::hub::http::lists::{self, AgentPage, FleetList, page_limit};
use crate::hub::http::reply::{caller_of, require};
use crate::hub::http::request::{Id, QueryParameters, Shared, ok, path_id, read_query};
use crate::hub::http::v1::parameters::PageSize;
use crate::hub::problem::Problem;
use crate::hub::scheduler::inventory::entry::{AgentEntry, Detail};
use crate::hub::scheduler::selector::{BadSelector, Selector};
use crate::hub::state::roles::Permission;

/// Lists all agents that are known, or those that the selector means, by id.
#[utoipa::path(
    get, path = "/api/v1/agents", tag = "agents", operation_id = "list_agents", security(("token" = [])),
    params(
        ("selector" = Option<String>, Query, description = "`all`, or parts such as `label.pool=gpu,status=offline`"),
        PageSize,
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses(
        (status = 200, description = "a page of agents", body = AgentPage),
        (status = "4XX", description = "the request is not understood", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(State(app): Shared, who: Credentials, query: QueryParameters) -> Result<Response, Problem> {
    let snapshot = app.snapshot();
    require(&snapshot, &who, Permission::ReadFleet, "read agents")?;
    let query = read_query(query)?;
    let invalid =
        |text: &str, why: BadSelector| ApiError::invalid_field("selector", "invalid", format!("{text:?}: {why}"));
    let selector = query.get("selector").map(|text| text.parse().map_err(|why| invalid(text, why))).transpose()?;
    let list = FleetList::new(selector.unwrap_or(Selector::All), query.get("cursor").cloned());
    Ok(lists::page(&snapshot, list, page_limit(&query)?))
}

/// Returns one agent.
#[utoipa::path(
    get, path = "/api/v1/agents/{id}", tag = "agents", operation_id = "get_agent", security(("token" = [])),
    params(("id" = String, Path, description = "the agent")),
    responses(
        (status = 200, description = "the agent", body = AgentEntry<'static>),
        (status = "4XX", description = "there is no such agent, or no token", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn get(State(app): Shared, who: Credentials, id: Id) -> Result<Response, Problem> {
    let snapshot = app.snapshot();
    let caller = caller_of(&snapshot, &who)?;
    let id = path_id(id)?;
    caller.require_for(&id, Permission::ReadFleet, Permission::ReadItself, "read other agents")?;
    let reads_restarts = caller.may(Permission::ReadAnyRestarts) || caller.name == id;
    let detail = if reads_restarts { Detail::Full } else { Detail::WithoutRestarts };
    let entry = snapshot.agent_entry(&id, detail, snapshot.now_ms()).ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, "agent_not_found", "GET /api/v1/agents lists the agents that are known")
    })?;
    Ok(ok(entry)?)
}
