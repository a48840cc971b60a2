//! The route for the audit. It reads the store on a thread of its own and asks the actor nothing.

use std::collections::HashMap;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};

use crate::hub::api_error::ApiError;
use crate::hub::http::lists::{PAGE_BYTES, page_limit};
use crate::hub::http::reply::require;
use crate::hub::http::request::{App, QueryParameters, Reply, Shared, ok, read_query};
use crate::hub::state::audit::{Action, Filter, Page};
use crate::hub::state::roles::Permission;

/// Lists one page of the audit, newest first.
pub(super) async fn page(State(app): Shared, headers: HeaderMap, query: QueryParameters) -> Reply {
    require(&app.snapshot(), &headers, Permission::ReadAudit, "read the audit")?;
    ok(read_page(&app, &read_query(query)?).await?)
}

/// Returns the page of the audit that a query asks for by `who`, `action`, `target`, `since` (ms since the epoch), `limit`
/// and `cursor`.
///
/// # Errors
/// 422 for a value that is none of its parameter's, 500 if the store cannot be read.
pub(super) async fn read_page(app: &App, query: &HashMap<String, String>) -> Result<Page, ApiError> {
    let filter = Filter {
        who: query.get("who").cloned(),
        action: query.get("action").map(|named| parse_action(named)).transpose()?,
        target: query.get("target").cloned(),
        since: number(query, "since", "a time in ms since the epoch")?,
    };
    let (limit, before) = (page_limit(query)?, number(query, "cursor", "the cursor of an answer of this list")?);
    let audit = app.actor.audit();
    let read = tokio::task::spawn_blocking(move || audit.page(&filter, before, limit, PAGE_BYTES));
    let page = match read.await {
        Ok(read) => read.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    page.map_err(|why| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "audit_unreadable", &why))
}

fn parse_action(named: &str) -> Result<Action, ApiError> {
    named.parse().map_err(|_| {
        let known = <Action as strum::VariantNames>::VARIANTS.join(", ");
        ApiError::invalid_field("action", "invalid", format!("expected one of {known}, got {named:?}"))
    })
}

fn number(query: &HashMap<String, String>, field: &str, expected: &str) -> Result<Option<u64>, ApiError> {
    let Some(text) = query.get(field) else { return Ok(None) };
    let invalid = |_| ApiError::invalid_field(field, "invalid", format!("expected {expected}, got {text:?}"));
    text.parse().map(Some).map_err(invalid)
}
