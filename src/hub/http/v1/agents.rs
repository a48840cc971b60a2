//! The agent routes of `/api/v1`.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use crate::hub::actor::now_ms;
use crate::hub::api_error::ApiError;
use crate::hub::http::lists::{self, AgentPage, FleetList, page_limit};
use crate::hub::http::reply::require;
use crate::hub::http::request::{Id, QueryParameters, Shared, ok, path_id};
use crate::hub::http::v1::body::read_parameters;
use crate::hub::http::v1::problem::Problem;
use crate::hub::scheduler::inventory::entry::{AgentEntry, Detail};
use crate::hub::scheduler::selector::{BadSelector, Selector};
use crate::hub::state::roles::Permission;

/// Lists all agents that are known, or those that the selector means, by id.
#[utoipa::path(
    get, path = "/api/v1/agents", tag = "agents", security(("token" = [])),
    params(
        ("selector" = Option<String>, Query, description = "`all`, or parts such as `label.pool=gpu,status=offline`"),
        ("limit" = Option<usize>, Query, minimum = 1, maximum = 1000, description = "the number of items on the page"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses(
        (status = 200, description = "a page of agents", body = AgentPage),
        (status = "4XX", description = "the request is not understood", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(State(app): Shared, headers: HeaderMap, query: QueryParameters) -> Result<Response, Problem> {
    let snapshot = app.snapshot();
    require(&snapshot, &headers, Permission::ReadFleet, "read agents")?;
    let query = read_parameters(query, &["selector", "limit", "cursor"])?;
    let invalid =
        |text: &str, why: BadSelector| ApiError::invalid_field("selector", "invalid", format!("{text:?}: {why}"));
    let selector = query.get("selector").map(|text| text.parse().map_err(|why| invalid(text, why))).transpose()?;
    let list = FleetList::new(selector.unwrap_or(Selector::All), query.get("cursor").cloned());
    Ok(lists::page(&snapshot, list, page_limit(&query)?))
}

/// Returns one agent.
#[utoipa::path(
    get, path = "/api/v1/agents/{id}", tag = "agents", security(("token" = [])),
    params(("id" = String, Path, description = "the agent")),
    responses(
        (status = 200, description = "the agent", body = AgentEntry<'static>),
        (status = "4XX", description = "there is no such agent, or no token", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn get(State(app): Shared, headers: HeaderMap, id: Id) -> Result<Response, Problem> {
    let snapshot = app.snapshot();
    require(&snapshot, &headers, Permission::ReadFleet, "read agents")?;
    let id = path_id(id)?;
    let entry = snapshot.agent_entry(&id, Detail::Full, now_ms()).ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, "agent_not_found", "GET /api/v1/agents lists the agents that are known")
    })?;
    Ok(ok(entry)?)
}
