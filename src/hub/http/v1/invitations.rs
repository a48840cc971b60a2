//! The invitation routes of `/api/v1`.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::hub::http::credentials::Credentials;
use crate::hub::http::invitations::{INVITATION_FIELDS, no_such_invitation, parse_invitation, too_many_invitations};
use crate::hub::http::lists::{self, InvitationList, InvitationPage, page_limit};
use crate::hub::http::reply::require;
use crate::hub::http::request::{Body, Id, QueryParameters, Shared, path_id};
use crate::hub::http::v1::body::{bytes_of, read_parameters, read_strict};
use crate::hub::http::v1::once::{Asked, act_once, act_once_secretly};
use crate::hub::http::v1::problem::Problem;
use crate::hub::random;
use crate::hub::state::roles::Permission;

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

/// Makes an invitation.
#[utoipa::path(
    post, path = "/api/v1/invitations", tag = "invitations", request_body = NewInvitation, security(("token" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "the same for each repeat of one request")),
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
    let request = parse_invitation(&read_strict(&headers, body, INVITATION_FIELDS)?.fields)?;
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

/// Lists the invitations, by id, without their codes.
#[utoipa::path(
    get, path = "/api/v1/invitations", tag = "invitations", security(("token" = [])),
    params(
        ("limit" = Option<usize>, Query, minimum = 1, maximum = 1000, description = "the number of items on the page"),
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
    let query = read_parameters(query, &["limit", "cursor"])?;
    Ok(lists::page(&snapshot, InvitationList { after: query.get("cursor").cloned() }, page_limit(&query)?))
}

/// Withdraws an invitation. Agents that registered with it stay.
#[utoipa::path(
    delete, path = "/api/v1/invitations/{id}", tag = "invitations", security(("token" = [])),
    params(
        ("id" = String, Path, description = "the invitation's id"),
        ("Idempotency-Key" = Option<String>, Header, description = "the same for each repeat of one request"),
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
