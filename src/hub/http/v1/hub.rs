//! The routes of `/api/v1` about the hub itself: the caller, the store.

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::hub::http::credentials::Credentials;
use crate::hub::http::reply::{caller_of, require};
use crate::hub::http::request::{Shared, ok};
use crate::hub::http::v1::audit;
use crate::hub::problem::Problem;
use crate::hub::registration::Registration;
use crate::hub::state::audit::Via;
use crate::hub::state::roles::{Permission, Role};
use crate::hub::state::store::{AuditReader, UnreadRecord};

/// Who sends a request.
#[derive(Serialize, ToSchema)]
pub(super) struct Me {
    /// The name of the agent or operator; `uid:N` over the hub's own socket.
    name: String,
    /// The role.
    role: Role,
    /// Whether it registered without an admin and without an invitation: then it may only do what is its own.
    registered_openly: bool,
    /// The way in which the request came.
    via: Via,
    /// Who may register agents.
    registration: Registration,
    /// The hub's version.
    hub_version: &'static str,
}

/// Tells a caller who it is to the hub.
#[utoipa::path(
    get, path = "/api/v1/me", tag = "hub", operation_id = "get_me", security(("token" = [])),
    responses(
        (status = 200, description = "the caller", body = Me),
        (status = "4XX", description = "no valid token", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn me(State(app): Shared, who: Credentials) -> Result<Response, Problem> {
    let caller = caller_of(&app.snapshot(), &who)?;
    let via = caller.author().via;
    Ok(ok(Me {
        name: caller.name,
        role: caller.role,
        registered_openly: caller.registered_openly,
        via,
        registration: app.registration,
        hub_version: env!("CARGO_PKG_VERSION"),
    })?)
}

/// The records of the store that cannot be read.
#[derive(Serialize, ToSchema)]
pub(super) struct UnreadRecords {
    /// The records; each is kept as it is and counts for nothing.
    items: Vec<UnreadRecord>,
}

/// Lists the records of the store that cannot be read: those that the hub met at its start, and those of the audit.
#[utoipa::path(
    get, path = "/api/v1/store/unread", tag = "hub", operation_id = "list_unread_records", security(("token" = [])),
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
