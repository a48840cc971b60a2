//! The agent routes of `/api/v1`.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use crate::hub::actor::now_ms;
use crate::hub::http::lists::{self, AgentForm, AgentList, AgentPage, page_limit};
use crate::hub::http::reply::require;
use crate::hub::http::request::{Id, QueryParameters, Shared, ok, path_id};
use crate::hub::http::v1::body::read_parameters;
use crate::hub::http::v1::problem::Problem;
use crate::hub::scheduler::view::AgentSummary;
use crate::hub::state::roles::Permission;

/// Lists the agents that are connected or due back, by id.
#[utoipa::path(
    get, path = "/api/v1/agents", tag = "agents", security(("token" = [])),
    params(
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
    let query = read_parameters(query, &["limit", "cursor"])?;
    let list = AgentList::new(AgentForm::Summary, query.get("cursor").cloned());
    Ok(lists::page(&snapshot, list, page_limit(&query)?))
}

/// Returns one agent that is connected or due back.
#[utoipa::path(
    get, path = "/api/v1/agents/{id}", tag = "agents", security(("token" = [])),
    params(("id" = String, Path, description = "the agent")),
    responses(
        (status = 200, description = "the agent", body = AgentSummary<'static>),
        (status = "4XX", description = "there is no such agent, or no token", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn get(State(app): Shared, headers: HeaderMap, id: Id) -> Result<Response, Problem> {
    let snapshot = app.snapshot();
    require(&snapshot, &headers, Permission::ReadFleet, "read agents")?;
    let id = path_id(id)?;
    if !snapshot.view.is_listed(&id) {
        let detail = "GET /api/v1/agents lists who is here or due back";
        return Err(Problem::new(StatusCode::NOT_FOUND, "agent_not_found", detail));
    }
    Ok(ok(snapshot.view.agent(&id, now_ms()))?)
}
