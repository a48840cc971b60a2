//! The token routes of `/api/v1`.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::hub::http::admin::{not_issued_error, parse_new_token, selected_tokens};
use crate::hub::http::credentials::Credentials;
use crate::hub::http::lists::{self, TokenList, TokenPage, page_limit};
use crate::hub::http::reply::{caller_of, require};
use crate::hub::http::request::{Body, Id, QueryParameters, Shared, path_id, read_query};
use crate::hub::http::v1::body::{Checked, bytes_of, read_strict};
use crate::hub::http::v1::once::{Asked, act_once, act_once_secretly};
use crate::hub::http::v1::parameters::{OnceHeader, PageSize, bad_cursor};
use crate::hub::problem::Problem;
use crate::hub::random;
use crate::hub::state::roles::{Permission, Role};
use crate::hub::state::tokens::{SECRET_BYTES, TokenSelector, hash_of, id_of, secret_of};
use crate::protocol::schema::{Field, Kind, may, must};

/// A token to make.
#[derive(Deserialize, ToSchema)]
#[allow(dead_code, reason = "it describes the body, which is read by its fields")]
#[serde(deny_unknown_fields)]
pub(super) struct TokenRequest {
    /// The name of the agent or operator.
    #[schema(min_length = 1, max_length = 128)]
    agent_id: String,
    /// `viewer`, `operator`, `admin` or `agent` (the default).
    role: Option<String>,
    /// The time for which it is valid, in ms; without one, it does not expire.
    #[schema(minimum = 1)]
    expires_in_ms: Option<u64>,
    /// Whether all other tokens of the name are revoked in the same step.
    replace: Option<bool>,
    /// The token itself, 64 hex digits of a client's own random bytes, which stored it before it asks.
    #[schema(min_length = 64, max_length = 64, pattern = "^[0-9a-f]{64}$")]
    secret: Option<String>,
}

/// A new token.
#[derive(Clone, Serialize, ToSchema)]
pub(super) struct IssuedToken {
    /// The name of the agent or operator.
    agent_id: String,
    /// The id, by which it is listed and revoked.
    id: String,
    /// The role.
    role: Role,
    /// The token. It is in this answer and nowhere else: null in one that is repeated for its `Idempotency-Key`.
    token: Option<String>,
    /// The time from which on it is worth nothing, in ms since the epoch.
    expires_at: Option<u64>,
}

/// How many tokens were revoked.
#[derive(Serialize, ToSchema)]
pub(super) struct RevokedTokens {
    /// The name of the agent or operator.
    agent_id: String,
    /// The number of tokens.
    revoked: usize,
}

pub(super) const FIELDS: &[Field] = &[
    must("agent_id", Kind::Text),
    may("role", Kind::Text),
    may("expires_in_ms", Kind::Count),
    may("replace", Kind::Flag),
    may("secret", Kind::Text),
];

impl IssuedToken {
    fn without_token(&self) -> Self {
        Self { token: None, ..self.clone() }
    }
}

/// Makes a token.
#[utoipa::path(
    post, path = "/api/v1/tokens", tag = "tokens", operation_id = "make_token", request_body = TokenRequest, security(("token" = [])),
    params(OnceHeader),
    responses(
        (status = 201, description = "the token", body = IssuedToken),
        (status = "4XX", description = "nothing was changed", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "there are too many tokens", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn make(
    State(app): Shared,
    uri: Uri,
    who: Credentials,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let caller = require(&app.snapshot(), &who, Permission::ManageTokens, "make tokens")?;
    let asked = Asked::of("POST", &uri, &headers, bytes_of(&body))?;
    let Checked { fields, .. } = read_strict(&headers, body, FIELDS)?;
    let new = parse_new_token(&fields)?;
    let secret = fields.string("secret").map_or_else(|| Ok(random::secret()?), |given| parse_secret(&given))?;
    let replace = fields.read("replace").unwrap_or(false);
    let author = caller.author();
    act_once_secretly(&app, &caller, asked, StatusCode::CREATED, IssuedToken::without_token, move |state, now_ms| {
        let acts = state.acts(&author, now_ms);
        let issued = match replace {
            true => acts.replace_tokens(secret, &new, &TokenSelector::All),
            false => acts.issue_token(secret, &new),
        };
        let token = issued.map_err(not_issued_error)?;
        let hash = hash_of(&token);
        let expires_at = state.tokens.valid().get(&hash).and_then(|principal| principal.expires_at);
        Ok(IssuedToken { agent_id: new.name, id: id_of(&hash), role: new.role, token: Some(token), expires_at })
    })
    .await
}

fn parse_secret(given: &str) -> Result<[u8; SECRET_BYTES], Problem> {
    secret_of(given).ok_or_else(|| {
        let detail = format!("expected {} characters of 0-9 and a-f: random bytes in hex", 2 * SECRET_BYTES);
        Problem::invalid_field("secret", "invalid", &detail)
    })
}

/// Lists the tokens, by name and age, without what they are.
#[utoipa::path(
    get, path = "/api/v1/tokens", tag = "tokens", operation_id = "list_tokens", security(("token" = [])),
    params(
        PageSize,
        ("cursor" = Option<String>, Query, pattern = "^[0-9]{1,15}-([0-9a-f]{2}){6}-.+$", description = "`next_cursor` of the page before"),
    ),
    responses(
        (status = 200, description = "a page of tokens", body = TokenPage),
        (status = "4XX", description = "the request is not understood", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(State(app): Shared, who: Credentials, query: QueryParameters) -> Result<Response, Problem> {
    let snapshot = app.snapshot();
    require(&snapshot, &who, Permission::ManageTokens, "list tokens")?;
    let query = read_query(query)?;
    let list = match query.get("cursor") {
        Some(cursor) => TokenList::after(cursor).ok_or_else(bad_cursor)?,
        None => TokenList::default(),
    };
    Ok(lists::page(&snapshot, list, page_limit(&query)?))
}

/// Revokes the tokens of a name, or one of them, and closes its connections. An agent may revoke its own.
#[utoipa::path(
    delete, path = "/api/v1/tokens/{agent_id}", tag = "tokens", operation_id = "revoke_tokens", security(("token" = [])),
    params(
        ("agent_id" = String, Path, description = "the agent or operator"),
        ("id" = Option<String>, Query, description = "only the token with this id"),
        OnceHeader,
    ),
    responses(
        (status = 200, description = "how many were revoked", body = RevokedTokens),
        (status = "4XX", description = "nothing was changed", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn revoke(
    State(app): Shared,
    uri: Uri,
    who: Credentials,
    headers: HeaderMap,
    id: Id,
    query: QueryParameters,
) -> Result<Response, Problem> {
    let caller = caller_of(&app.snapshot(), &who)?;
    let agent_id = path_id(id)?;
    let query = read_query(query)?;
    let which = selected_tokens(&caller, &agent_id, query.get("id"))?;
    let asked = Asked::of("DELETE", &uri, &headers, query.get("id").map_or(&[], |id| id.as_bytes()))?;
    let author = caller.author();
    act_once(&app, &caller, asked, StatusCode::OK, move |state, now_ms| {
        let revoked = state.acts(&author, now_ms).revoke_tokens(&agent_id, &which);
        Ok(RevokedTokens { agent_id, revoked })
    })
    .await
}
