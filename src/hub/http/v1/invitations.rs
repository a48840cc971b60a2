//! The invitation routes of `/api/v1`.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::hub::api_error::ApiError;
use crate::hub::http::credentials::Credentials;
use crate::hub::http::lists::{self, InvitationList, InvitationPage, page_limit};
use crate::hub::http::reply::{check_name, require};
use crate::hub::http::request::{Body, Id, QueryParameters, Shared, path_id, read_query};
use crate::hub::http::v1::body::{bytes_of, read_strict};
use crate::hub::http::v1::once::{Asked, act_once, act_once_secretly};
use crate::hub::http::v1::parameters::{OnceHeader, PageSize};
use crate::hub::problem::Problem;
use crate::hub::random;
use crate::hub::state::invitations::{DEFAULT_LIFE_MS, InvitationRequest, MAX_USES, TooManyInvitations};
use crate::hub::state::lifetime::check_lifetime;
use crate::hub::state::roles::Permission;
use crate::protocol::JsonFields;
use crate::protocol::schema::{Field, Kind, may};

/// An invitation to make.
#[derive(Deserialize, ToSchema)]
#[allow(dead_code, reason = "it describes the body, which is read by its fields")]
#[serde(deny_unknown_fields)]
pub(super) struct NewInvitation {
    /// The only agent that may use it; without one, any may.
    #[schema(min_length = 1, max_length = 128)]
    agent_id: Option<String>,
    /// The number of agents that it is for; 1 by default.
    #[schema(minimum = 1, maximum = 10_000)]
    uses: Option<u64>,
    /// The time for which it is valid, in ms; a day by default.
    #[schema(minimum = 1)]
    expires_in_ms: Option<u64>,
}

/// A new invitation.
#[derive(Clone, Serialize, ToSchema)]
pub(super) struct IssuedInvitation {
    /// The id, by which it is listed and withdrawn.
    id: String,
    /// The code. It is in this answer and nowhere else: null in one that is repeated for its `Idempotency-Key`.
    invitation: Option<String>,
    /// The only agent that may use it; null if any may.
    agent_id: Option<String>,
    /// The number of agents that it is for.
    uses: u64,
    /// The time from which on it is worth nothing, in ms since the epoch.
    expires_at: u64,
}

impl IssuedInvitation {
    fn without_code(&self) -> Self {
        Self { invitation: None, ..self.clone() }
    }
}

/// An invitation that was withdrawn.
#[derive(Serialize, ToSchema)]
pub(super) struct RevokedInvitation {
    /// Its id.
    id: String,
}

/// The fields of a request for an invitation.
pub(super) const FIELDS: &[Field] =
    &[may("agent_id", Kind::Text), may("uses", Kind::Count), may("expires_in_ms", Kind::Count)];

/// Makes an invitation.
#[utoipa::path(
    post, path = "/api/v1/invitations", tag = "invitations", operation_id = "make_invitation", request_body = Option<NewInvitation>, security(("token" = [])),
    params(OnceHeader),
    responses(
        (status = 201, description = "the invitation", body = IssuedInvitation),
        (status = "4XX", description = "nothing was changed", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "there are too many invitations", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn make(
    State(app): Shared,
    uri: Uri,
    who: Credentials,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let caller = require(&app.snapshot(), &who, Permission::ManageTokens, "make invitations")?;
    let asked = Asked::of("POST", &uri, &headers, bytes_of(&body))?;
    let request = parse_invitation(&read_strict(&headers, body, FIELDS)?.fields)?;
    let (secret, author) = (random::secret()?, caller.author());
    act_once_secretly(
        &app,
        &caller,
        asked,
        StatusCode::CREATED,
        IssuedInvitation::without_code,
        move |state, now_ms| {
            let made = state.acts(&author, now_ms).make_invitation(secret, request);
            let (code, made) = made.map_err(too_many_invitations)?;
            Ok(IssuedInvitation {
                id: made.id,
                invitation: Some(code),
                agent_id: made.agent_id,
                uses: made.uses,
                expires_at: made.expires_at,
            })
        },
    )
    .await
}

/// Reads a request for an invitation from checked fields.
///
/// # Errors
/// 422 for a name, number or lifetime that cannot be.
fn parse_invitation(body: &JsonFields) -> Result<InvitationRequest, ApiError> {
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
fn too_many_invitations(_: TooManyInvitations) -> ApiError {
    let hint = "there are too many invitations: GET /api/v1/invitations lists them, DELETE withdraws one";
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_invitations", hint)
}

/// Returns the 404 error for an invitation that is not there.
fn no_such_invitation(id: &str) -> ApiError {
    let hint = "GET /api/v1/invitations lists those that there are";
    ApiError::new(StatusCode::NOT_FOUND, "invitation_not_found", hint).with("id", id)
}

/// Lists the invitations, by id, without their codes.
#[utoipa::path(
    get, path = "/api/v1/invitations", tag = "invitations", operation_id = "list_invitations", security(("token" = [])),
    params(
        PageSize,
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses(
        (status = 200, description = "a page of invitations", body = InvitationPage),
        (status = "4XX", description = "the request is not understood", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(State(app): Shared, who: Credentials, query: QueryParameters) -> Result<Response, Problem> {
    let snapshot = app.snapshot();
    require(&snapshot, &who, Permission::ManageTokens, "list invitations")?;
    let query = read_query(query)?;
    Ok(lists::page(&snapshot, InvitationList { after: query.get("cursor").cloned() }, page_limit(&query)?))
}

/// Withdraws an invitation. Agents that registered with it stay.
#[utoipa::path(
    delete, path = "/api/v1/invitations/{id}", tag = "invitations", operation_id = "revoke_invitation", security(("token" = [])),
    params(
        ("id" = String, Path, description = "the invitation's id"),
        OnceHeader,
    ),
    responses(
        (status = 200, description = "it is withdrawn", body = RevokedInvitation),
        (status = "4XX", description = "nothing was changed", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn revoke(
    State(app): Shared,
    uri: Uri,
    who: Credentials,
    headers: HeaderMap,
    id: Id,
) -> Result<Response, Problem> {
    let caller = require(&app.snapshot(), &who, Permission::ManageTokens, "revoke invitations")?;
    let id = path_id(id)?;
    let asked = Asked::of("DELETE", &uri, &headers, &[])?;
    let author = caller.author();
    act_once(&app, &caller, asked, StatusCode::OK, move |state, now_ms| {
        match state.acts(&author, now_ms).revoke_invitation(&id) {
            true => Ok(RevokedInvitation { id }),
            false => Err(no_such_invitation(&id).into()),
        }
    })
    .await
}
