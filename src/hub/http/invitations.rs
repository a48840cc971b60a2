//! The routes for invitations. Each reads the request, asks the actor and writes JSON.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde_json::json;

use crate::hub::api_error::ApiError;
use crate::hub::http::reply::{check_name, read_body, require};
use crate::hub::http::request::{Body, Id, Reply, Shared, created, ok, path_id};
use crate::hub::random;
use crate::hub::state::invitations::{DEFAULT_LIFE_MS, Invitation, InvitationRequest, MAX_USES};
use crate::hub::state::lifetime::check_lifetime;
use crate::hub::state::roles::Permission;
use crate::protocol::schema::{Kind, may};

/// Makes an invitation. Its code is in this answer and nowhere else.
pub(super) async fn make(State(app): Shared, headers: HeaderMap, body: Body) -> Reply {
    let caller = require(&app.snapshot(), &headers, Permission::ManageTokens, "make invitations")?;
    let fields = [may("agent_id", Kind::Text), may("uses", Kind::Count), may("expires_in_ms", Kind::Count)];
    let body = read_body(&headers, body, &fields)?;
    let agent_id = body.string("agent_id");
    agent_id.as_deref().map_or(Ok(()), check_name)?;
    let uses: u64 = body.read("uses").unwrap_or(1);
    if !(1..=MAX_USES).contains(&uses) {
        return Err(ApiError::invalid_field("uses", "invalid", format!("expected 1 to {MAX_USES}, got {uses}")));
    }
    let expires_in_ms = body.read("expires_in_ms").unwrap_or(DEFAULT_LIFE_MS);
    check_lifetime(expires_in_ms).map_err(|detail| ApiError::invalid_field("expires_in_ms", "invalid", detail))?;
    let request = InvitationRequest { agent_id, uses, expires_in_ms };
    let (secret, author) = (random::secret()?, caller.author());
    let made = app.act(&caller, move |state, now_ms| state.acts(&author, now_ms).make_invitation(secret, request));
    let (code, made) = made.await?.map_err(|_| {
        let hint = "there are too many invitations: GET /api/admin/invitations lists them, DELETE withdraws one";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_invitations", hint)
    })?;
    created(json!({
        "id": made.id,
        "invitation": code,
        "agent_id": made.agent_id,
        "uses": made.uses,
        "expires_at": made.expires_at,
        "hint": "this code is shown once: agentcom-sidecar onboard --invitation CODE",
    }))
}

pub(super) async fn list(State(app): Shared, headers: HeaderMap) -> Reply {
    let snapshot = app.snapshot();
    require(&snapshot, &headers, Permission::ManageTokens, "list invitations")?;
    let invitations: Vec<_> = snapshot.invitations.values().map(Invitation::summary).collect();
    ok(json!({"invitations": invitations}))
}

pub(super) async fn revoke(State(app): Shared, headers: HeaderMap, id: Id) -> Reply {
    let caller = require(&app.snapshot(), &headers, Permission::ManageTokens, "revoke invitations")?;
    let id = path_id(id)?;
    let (wanted, author) = (id.clone(), caller.author());
    let revoked = app.act(&caller, move |state, now_ms| state.acts(&author, now_ms).revoke_invitation(&wanted));
    if !revoked.await? {
        let hint = "GET /api/admin/invitations lists those that there are";
        return Err(ApiError::new(StatusCode::NOT_FOUND, "invitation_not_found", hint).with("id", id));
    }
    ok(json!({"status": "revoked", "id": id}))
}
