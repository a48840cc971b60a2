//! The routes for tokens and settings, on the legacy hub's paths. Each reads the request, asks the actor and writes
//! JSON. The only decision here is permission: the legacy hub accepts any token, this one an admin's (and an agent may
//! revoke its own).

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde_json::json;

use crate::hub::api_error::ApiError;
use crate::hub::http::lists::{TokenList, stream};
use crate::hub::http::reply::{Caller, authenticate, check_name, read_body};
use crate::hub::http::request::{
    App, Body, Id, QueryParameters, Reply, Shared, created, ok, path_id, read_query, require_agent_or_admin,
    required_text,
};
use crate::hub::random;
use crate::hub::state::settings::DEFAULT_REPO;
use crate::hub::state::tokens::{NotIssued, Principal, TokenSelector};
use crate::protocol::schema::{Kind, may, must};

/// Returns the caller, who must be an admin.
pub(crate) fn require_admin(app: &App, headers: &HeaderMap, what: &str) -> Result<Caller, ApiError> {
    let caller = authenticate(&app.snapshot(), headers)?;
    if caller.admin { Ok(caller) } else { Err(ApiError::forbidden(&caller.name, what)) }
}

pub(crate) async fn make_token(State(app): Shared, headers: HeaderMap, body: Body) -> Reply {
    let caller = require_admin(&app, &headers, "make tokens")?;
    let body = read_body(&headers, body, &[must("agent_id", Kind::Text), may("admin", Kind::Flag)])?;
    let agent_id = required_text(&body, "agent_id");
    check_name(&agent_id)?;
    let admin = body.read("admin").unwrap_or(false);
    let secret = random::secret()?;
    let name = agent_id.clone();
    let issued = app.act(&caller, move |state, created_at| {
        state.issue_token(secret, Principal::new(&name, admin, created_at), false)
    });
    let token = issued.await?.map_err(not_issued_error)?;
    created(json!({"agent_id": agent_id, "token": token, "admin": admin}))
}

pub(crate) async fn list_tokens(State(app): Shared, headers: HeaderMap) -> Result<Response, ApiError> {
    require_admin(&app, &headers, "list tokens")?;
    Ok(stream(&app, "tokens", TokenList::default(), None))
}

pub(crate) async fn revoke_tokens(State(app): Shared, headers: HeaderMap, id: Id, query: QueryParameters) -> Reply {
    let caller = authenticate(&app.snapshot(), &headers)?;
    let agent_id = path_id(id)?;
    require_agent_or_admin(&caller, &agent_id, "revoke another's tokens")?;
    let query = read_query(query)?;
    // A caller that is no admin must not be able to revoke an admin's token of the same name.
    let which = match (query.get("id"), caller.admin) {
        (None, false) => TokenSelector::Agents,
        (None, true) => TokenSelector::All,
        (Some(id), true) => TokenSelector::One(id.clone()),
        (Some(_), false) => return Err(ApiError::forbidden(&caller.name, "choose among its tokens")),
    };
    let name = agent_id.clone();
    let revoked = app.act(&caller, move |state, now_ms| state.revoke(&name, &which, now_ms)).await?;
    ok(json!({"status": "revoked", "agent_id": agent_id, "revoked": revoked}))
}

/// Replaces all tokens of the agent by a new one.
pub(crate) async fn reset_token(State(app): Shared, headers: HeaderMap, id: Id) -> Reply {
    let caller = require_admin(&app, &headers, "reset a token")?;
    let agent_id = path_id(id)?;
    let secret = random::secret()?;
    let name = agent_id.clone();
    let issued = app.act(&caller, move |state, now_ms| {
        // An admin token of the same name stays: the agent does not use it.
        let (which, principal) = (TokenSelector::Agents, Principal::new(&name, false, now_ms));
        let has_one = state.tokens.valid().has_any(&name, &which);
        has_one.then(|| state.replace_tokens(secret, principal, &which, now_ms))
    });
    let unknown = || {
        let hint = "it has no token; POST /api/onboard/register makes its first";
        ApiError::new(StatusCode::NOT_FOUND, "agent_not_found", hint).with("agent_id", agent_id.as_str())
    };
    let token = issued.await?.ok_or_else(unknown)?.map_err(not_issued_error)?;
    let hint = "put it into the agent's config.json and restart its sidecar";
    created(json!({"agent_id": agent_id, "token": token, "hint": hint}))
}

pub(crate) async fn default_repo(State(app): Shared) -> Reply {
    let snapshot = app.snapshot();
    let repo = snapshot.settings.get(DEFAULT_REPO);
    // The legacy hub sends `default_repo`; its add-agent.js also looks for `url`.
    ok(json!({"default_repo": repo, "url": repo, "configured": repo.is_some()}))
}

/// Sets the repository that every new agent clones and runs from. Only an admin may, unlike on the legacy hub, where
/// any agent may.
pub(crate) async fn set_default_repo(State(app): Shared, headers: HeaderMap, body: Body) -> Reply {
    let caller = require_admin(&app, &headers, "set the default repository")?;
    let body = read_body(&headers, body, &[must("url", Kind::Text)])?;
    let url = required_text(&body, "url");
    let value = url.clone();
    app.act(&caller, move |state, _| state.settings.set(DEFAULT_REPO, &value)).await?;
    tracing::info!(%url, by = %caller.name, "the default repository was set");
    ok(json!({"status": "ok", "default_repo": url}))
}

/// Converts the reason why no token was issued to an HTTP error.
pub(crate) fn not_issued_error(why: NotIssued) -> ApiError {
    match why {
        NotIssued::NameTaken => {
            let hint = "use the token it got then, or make another with agentcom-hub token NAME on the hub's machine";
            ApiError::new(StatusCode::CONFLICT, "agent_id already registered", hint)
        }
        NotIssued::Full => {
            let hint = "there are too many tokens: agentcom-hub token list shows them, token revoke NAME removes some";
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_tokens", hint)
        }
    }
}
