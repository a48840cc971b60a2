//! The audit route of `/api/v1`. It reads the store on a thread of its own and asks the actor nothing.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::hub::api_error::ApiError;
use crate::hub::http::credentials::Credentials;
use crate::hub::http::lists::{PAGE_BYTES, page_limit};
use crate::hub::http::reply::require;
use crate::hub::http::request::{App, QueryParameters, Shared, ok, read_query};
use crate::hub::http::v1::parameters::{PageSize, bad_cursor, named, number};
use crate::hub::problem::Problem;
use crate::hub::state::audit::{Action, Filter, Numbered, Page};
use crate::hub::state::roles::Permission;
use crate::hub::state::store::{AuditReader, StoreError};

/// A page of the audit.
#[derive(Serialize, ToSchema)]
pub(super) struct AuditPage {
    /// The entries, newest first.
    items: Vec<Numbered>,
    /// The cursor of the next page; null if nothing follows.
    next_cursor: Option<String>,
}

/// Lists what was done, by whom and why, newest first.
#[utoipa::path(
    get, path = "/api/v1/audit", tag = "audit", operation_id = "read_audit", security(("token" = [])),
    params(
        ("who" = Option<String>, Query, description = "what this agent or operator did"),
        ("action" = inline(Option<Action>), Query, description = "acts of this kind"),
        ("target" = Option<String>, Query, description = "what was done to this agent, task, invitation or setting"),
        ("since" = Option<u64>, Query, minimum = 0, maximum = 9007199254740991u64, description = "what was done since this time, in ms since the epoch"),
        PageSize,
        ("cursor" = Option<String>, Query, pattern = "^[0-9]{1,15}$", description = "`next_cursor` of the page before"),
    ),
    responses(
        (status = 200, description = "a page of the audit", body = AuditPage),
        (status = "4XX", description = "the request is not understood", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(State(app): Shared, who: Credentials, query: QueryParameters) -> Result<Response, Problem> {
    require(&app.snapshot(), &who, Permission::ReadAudit, "read the audit")?;
    let query = read_query(query)?;
    let filter = Filter {
        who: query.get("who").cloned(),
        action: named(&query, "action")?,
        target: query.get("target").cloned(),
        since: number(&query, "since")?,
    };
    let before = query.get("cursor").map(|cursor| cursor.parse().map_err(|_| bad_cursor())).transpose()?;
    let limit = page_limit(&query)?;
    let Page { items, next_cursor } = read(&app, move |audit| audit.page(&filter, before, limit, PAGE_BYTES)).await?;
    Ok(ok(AuditPage { items, next_cursor: next_cursor.map(|seq| seq.to_string()) })?)
}

/// Reads the audit, which is on the disk, on a thread of its own.
///
/// # Errors
/// 500 if the store cannot be read.
pub(super) async fn read<T: Send + 'static>(
    app: &App,
    work: impl FnOnce(&AuditReader) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, ApiError> {
    let audit = app.actor.audit();
    let read = match tokio::task::spawn_blocking(move || work(&audit)).await {
        Ok(read) => read.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    read.map_err(|why| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "audit_unreadable", &why))
}
