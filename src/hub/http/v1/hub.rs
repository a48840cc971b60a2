//! The routes of `/api/v1` about the hub itself: the audit, the caller, the store.

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::hub::http::audit;
use crate::hub::http::credentials::Credentials;
use crate::hub::http::reply::{caller_of, require};
use crate::hub::http::request::{QueryParameters, Shared, ok};
use crate::hub::http::v1::body::read_parameters;
use crate::hub::http::v1::problem::Problem;
use crate::hub::state::audit::{Page, Via};
use crate::hub::state::roles::{Permission, Role};
use crate::hub::state::store::{AuditReader, UnreadRecord};

/// Lists what was done, by whom and why, newest first.
#[utoipa::path(
    get, path = "/api/v1/audit", tag = "hub", security(("token" = [])),
    params(
        ("who" = Option<String>, Query, description = "what this agent or operator did"),
        ("action" = Option<String>, Query, description = "acts of this kind"),
        ("target" = Option<String>, Query, description = "what was done to this agent, task, invitation or setting"),
        ("since" = Option<u64>, Query, description = "what was done since this time, in ms since the epoch"),
        ("limit" = Option<usize>, Query, minimum = 1, maximum = 1000, description = "the number of items on the page"),
        ("cursor" = Option<u64>, Query, description = "`next_cursor` of the page before"),
    ),
    responses(
        (status = 200, description = "a page of the audit", body = Page),
        (status = "4XX", description = "the request is not understood", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn read_audit(
    State(app): Shared,
    who: Credentials,
    query: QueryParameters,
) -> Result<Response, Problem> {
    require(&app.snapshot(), &who, Permission::ReadAudit, "read the audit")?;
    let query = read_parameters(query, &["who", "action", "target", "since", "limit", "cursor"])?;
    Ok(ok(audit::read_page(&app, &query).await?)?)
}

/// Who sends a request.
#[derive(Serialize, ToSchema)]
pub(super) struct Me {
    /// The name of the agent or operator; `uid:N` over the hub's own socket.
    name: String,
    /// The role.
    role: Role,
    /// The way in which the request came.
    via: Via,
    /// The hub's version.
    hub_version: &'static str,
}

/// Tells a caller who it is to the hub.
#[utoipa::path(
    get, path = "/api/v1/me", tag = "hub", security(("token" = [])),
    responses(
        (status = 200, description = "the caller", body = Me),
        (status = "4XX", description = "no valid token", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn me(State(app): Shared, who: Credentials) -> Result<Response, Problem> {
    let caller = caller_of(&app.snapshot(), &who)?;
    let via = caller.author().via;
    Ok(ok(Me { name: caller.name, role: caller.role, via, hub_version: env!("CARGO_PKG_VERSION") })?)
}

/// The records of the store that cannot be read.
#[derive(Serialize, ToSchema)]
pub(super) struct UnreadRecords {
    /// The records; each is kept as it is and counts for nothing.
    items: Vec<UnreadRecord>,
}

/// Lists the records of the store that cannot be read: those that the hub met at its start, and those of the audit.
#[utoipa::path(
    get, path = "/api/v1/store/unread", tag = "hub", security(("token" = [])),
    responses(
        (status = 200, description = "the records", body = UnreadRecords),
        (status = "4XX", description = "no valid token", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn unread(State(app): Shared, who: Credentials) -> Result<Response, Problem> {
    let snapshot = app.snapshot();
    require(&snapshot, &who, Permission::InspectStore, "look into the store")?;
    let unread = audit::read(&app, AuditReader::unread).await?;
    Ok(ok(UnreadRecords { items: snapshot.unread.iter().cloned().chain(unread).collect() })?)
}
