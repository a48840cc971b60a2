//! The routes for invitations. Each reads the request, asks the actor and writes JSON.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde_json::json;

use crate::hub::api_error::ApiError;
use crate::hub::http::credentials::Credentials;
use crate::hub::http::reply::{check_name, read_body, require};
use crate::hub::http::request::{Body, Id, Reply, Shared, created, ok, path_id};
use crate::hub::random;
use crate::hub::state::invitations::{DEFAULT_LIFE_MS, Invitation, InvitationRequest, MAX_USES, TooManyInvitations};
use crate::hub::state::lifetime::check_lifetime;
use crate::hub::state::roles::Permission;
use crate::protocol::JsonFields;
use crate::protocol::schema::{Field, Kind, may};

/// Makes an invitation. Its code is in this answer and nowhere else.
pub(super) async fn make(State(app): Shared, who: Credentials, headers: HeaderMap, body: Body) -> Reply {
    let caller = require(&app.snapshot(), &who, Permission::ManageTokens, "make invitations")?;
    let request = parse_invitation(&read_body(&headers, body, INVITATION_FIELDS)?)?;
    let (secret, author) = (random::secret()?, caller.author());
    let made = app.act(&caller, move |state, now_ms| state.acts(&author, now_ms).make_invitation(secret, request));
    let (code, made) = made.await?.map_err(too_many_invitations)?;
    created(json!({
        "id": made.id,
        "invitation": code,
        "agent_id": made.agent_id,
        "uses": made.uses,
        "expires_at": made.expires_at,
        "hint": "this code is shown once: agentcom-sidecar onboard --invitation CODE",
    }))
}

/// The fields of a request for an invitation.
pub(super) const INVITATION_FIELDS: &[Field] =
    &[may("agent_id", Kind::Text), may("uses", Kind::Count), may("expires_in_ms", Kind::Count)];

/// Reads a request for an invitation from checked fields.
///
/// # Errors
/// 422 for a name, number or lifetime that cannot be.
pub(super) fn parse_invitation(body: &JsonFields) -> Result<InvitationRequest, ApiError> {
    let agent_id = body.string("agent_id");
    agent_id.as_deref().map_or(Ok(()), check_name)?;
    let uses: u64 = body.read("uses").unwrap_or(1);
    if !(1..=MAX_USES).contains(&uses) {
        return Err(ApiError::invalid_field("uses", "invalid", format!("expected 1 to {MAX_USES}, got {uses}")));
    }
    let expires_in_ms = body.read("expires_in_ms").unwrap_or(DEFAULT_LIFE_MS);
    check_lifetime(expires_in_ms).map_err(|detail| ApiError::invalid_field("expires_in_ms", "invalid", detail))?;
    Ok(InvitationRequest { agent_id, uses, expires_in_ms })
}

/// Returns the 503 error for one invitation too many.
pub(super) fn too_many_invitations(_: TooManyInvitations) -> ApiError {
    let hint = "there are too many invitations: GET /api/v1/invitations lists them, DELETE withdraws one";
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_invitations", hint)
}

/// Returns the 404 error for an invitation that is not there.
pub(super) fn no_such_invitation(id: &str) -> ApiError {
    let hint = "GET /api/v1/invitations lists those that there are";
    ApiError::new(StatusCode::NOT_FOUND, "invitation_not_found", hint).with("id", id)
}

pub(super) async fn list(State(app): Shared, who: Credentials) -> Reply {
    let snapshot = app.snapshot();
    require(&snapshot, &who, Permission::ManageTokens, "list invitations")?;
    let invitations: Vec<_> = snapshot.invitations.values().map(Invitation::summary).collect();
    ok(json!({"invitations": invitations}))
}

pub(super) async fn revoke(State(app): Shared, who: Credentials, id: Id) -> Reply {
    let caller = require(&app.snapshot(), &who, Permission::ManageTokens, "revoke invitations")?;
    let id = path_id(id)?;
    let (wanted, author) = (id.clone(), caller.author());
    let revoked = app.act(&caller, move |state, now_ms| state.acts(&author, now_ms).revoke_invitation(&wanted));
    if !revoked.await? {
        return Err(no_such_invitation(&id));
    }
    ok(json!({"status": "revoked", "id": id}))
}
