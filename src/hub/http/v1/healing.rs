//! The healing route of `/api/v1`.

use axum::extract::State;
use axum::response::Response;

use crate::hub::http::credentials::Credentials;
use crate::hub::http::reply::require;
use crate::hub::http::request::{Shared, ok};
use crate::hub::problem::Problem;
use crate::hub::scheduler::healing::shown::HealingStatus;
use crate::hub::state::roles::Permission;

/// Shows the healing rules: what each is, which agents match it, and what it did.
#[utoipa::path(
    get, path = "/api/v1/healing", tag = "healing", operation_id = "get_healing", security(("token" = [])),
    responses(
        (status = 200, description = "the rules", body = HealingStatus),
        (status = "4XX", description = "no valid token", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn get(State(app): Shared, who: Credentials) -> Result<Response, Problem> {
    let snapshot = app.snapshot();
    require(&snapshot, &who, Permission::ReadAnyRestarts, "read the healing rules")?;
    Ok(ok(&*snapshot.healing)?)
}
