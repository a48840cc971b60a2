//! The routes for tokens and settings, on the legacy hub's paths. Each reads the request, asks the actor and writes
//! JSON. The only decision here is permission: the legacy hub accepts any token, this one an admin's (and an agent may
//! revoke its own).

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde_json::json;

use crate::hub::acts::NewToken;
use crate::hub::api_error::ApiError;
use crate::hub::http::credentials::Credentials;
use crate::hub::http::lists::{TokenList, stream};
use crate::hub::http::reply::{Caller, caller_of, check_name, read_body, require};
use crate::hub::http::request::{
    Body, Id, QueryParameters, Reply, Shared, created, ok, path_id, read_query, required_text,
};
use crate::hub::random;
use crate::hub::state::audit::without_credentials;
use crate::hub::state::lifetime::check_lifetime;
use crate::hub::state::roles::{Permission, Role};
use crate::hub::state::settings::DEFAULT_REPO;
use crate::hub::state::tokens::{NotIssued, TokenSelector};
use crate::protocol::JsonFields;
use crate::protocol::schema::{Kind, may, must};

pub(crate) async fn make_token(State(app): Shared, who: Credentials, headers: HeaderMap, body: Body) -> Reply {
    let caller = require(&app.snapshot(), &who, Permission::ManageTokens, "make tokens")?;
    let fields = [
        must("agent_id", Kind::Text),
        may("admin", Kind::Flag),
        may("role", Kind::Text),
        may("expires_in_ms", Kind::Count),
    ];
    let new = parse_new_token(&read_body(&headers, body, &fields)?)?;
    let (secret, author, wanted) = (random::secret()?, caller.author(), new.clone());
    let issued = app.act(&caller, move |state, now_ms| state.acts(&author, now_ms).issue_token(secret, &wanted));
    let token = issued.await?.map_err(not_issued_error)?;
    let admin = new.role == Role::Admin;
    created(json!({"agent_id": new.name, "token": token, "admin": admin, "role": new.role}))
}

/// Reads a request for a token from checked fields.
///
/// # Errors
/// 422 for a name, role or lifetime that cannot be.
pub(super) fn parse_new_token(body: &JsonFields) -> Result<NewToken, ApiError> {
    let name = required_text(body, "agent_id");
    check_name(&name)?;
    let unknown = |named: &str| format!("expected one of {}, got {named:?}", Role::NAMES);
    let role = match (body.string("role"), body.read("admin")) {
        (Some(named), admin) => {
            let invalid = |_| ApiError::invalid_field("role", "invalid", unknown(&named));
            let role: Role = named.parse().map_err(invalid)?;
            if admin.is_some_and(|admin: bool| admin != (role == Role::Admin)) {
                let detail = format!("`admin` says otherwise than the role {role}: leave it out");
                return Err(ApiError::invalid_field("admin", "invalid", detail));
            }
            role
        }
        (None, Some(true)) => Role::Admin,
        (None, Some(false) | None) => Role::Agent,
    };
    let expires_in_ms: Option<u64> = body.read("expires_in_ms");
    expires_in_ms
        .map_or(Ok(()), check_lifetime)
        .map_err(|detail| ApiError::invalid_field("expires_in_ms", "invalid", detail))?;
    Ok(NewToken { name, role, expires_in_ms })
}

pub(crate) async fn list_tokens(State(app): Shared, who: Credentials) -> Result<Response, ApiError> {
    require(&app.snapshot(), &who, Permission::ManageTokens, "list tokens")?;
    Ok(stream(&app, "tokens", TokenList::default(), None))
}

pub(crate) async fn revoke_tokens(State(app): Shared, who: Credentials, id: Id, query: QueryParameters) -> Reply {
    let caller = caller_of(&app.snapshot(), &who)?;
    let agent_id = path_id(id)?;
    let which = selected_tokens(&caller, &agent_id, read_query(query)?.get("id"))?;
    let (name, author) = (agent_id.clone(), caller.author());
    let revoked =
        app.act(&caller, move |state, now_ms| state.acts(&author, now_ms).revoke_tokens(&name, &which)).await?;
    ok(json!({"status": "revoked", "agent_id": agent_id, "revoked": revoked}))
}

/// Returns which tokens of the name a request to revoke them means: the one with the id, or all that the caller may revoke.
///
/// # Errors
/// 403 if the caller may not.
pub(super) fn selected_tokens(caller: &Caller, agent_id: &str, id: Option<&String>) -> Result<TokenSelector, ApiError> {
    let what = "revoke these tokens";
    caller.require_for(agent_id, Permission::ManageTokens, Permission::RevokeOwnTokens, what)?;
    // An agent must not be able to revoke an operator's token of the same name.
    match (id, caller.may(Permission::ManageTokens)) {
        (None, false) => Ok(TokenSelector::Agents),
        (None, true) => Ok(TokenSelector::All),
        (Some(id), true) => Ok(TokenSelector::One(id.clone())),
        (Some(_), false) => Err(caller.forbidden(Permission::ManageTokens, "choose among its tokens")),
    }
}

/// Replaces all tokens of the agent by a new one.
pub(crate) async fn reset_token(State(app): Shared, who: Credentials, id: Id) -> Reply {
    let caller = require(&app.snapshot(), &who, Permission::ManageTokens, "reset a token")?;
    let agent_id = path_id(id)?;
    let (secret, author) = (random::secret()?, caller.author());
    let new = NewToken::of_agent(&agent_id);
    let issued = app.act(&caller, move |state, now_ms| {
        // A token of another role and the same name stays: the agent does not use it.
        let has_one = state.tokens.valid().has_any(&new.name, &TokenSelector::Agents);
        has_one.then(|| state.acts(&author, now_ms).replace_tokens(secret, &new, &TokenSelector::Agents))
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
pub(crate) async fn set_default_repo(State(app): Shared, who: Credentials, headers: HeaderMap, body: Body) -> Reply {
    let caller = require(&app.snapshot(), &who, Permission::ChangeSettings, "set the default repository")?;
    let body = read_body(&headers, body, &[must("url", Kind::Text)])?;
    let url = required_text(&body, "url");
    let (value, author) = (url.clone(), caller.author());
    app.act(&caller, move |state, now_ms| state.acts(&author, now_ms).set_address(DEFAULT_REPO, &value)).await?;
    tracing::info!(url = without_credentials(&url), by = %caller.name, "the default repository was set");
    ok(json!({"status": "ok", "default_repo": url}))
}

/// Converts the reason why no token was issued to an HTTP error.
pub(crate) fn not_issued_error(why: NotIssued) -> ApiError {
    match why {
        NotIssued::NameTaken => {
            let hint = "use the token it got then, or make another on the hub's machine: agentcom-hub token NAME, \
                        with --replace where the name was registered openly";
            ApiError::new(StatusCode::CONFLICT, "agent_id already registered", hint)
        }
        NotIssued::HeldOpenly => {
            let hint = "an agent that registered openly uses this name, and would share what is given to it: take the \
                        name over with agentcom-hub token NAME --replace, or choose another";
            ApiError::new(StatusCode::CONFLICT, "registered_openly", hint)
        }
        NotIssued::SecretInUse => {
            let hint = "these bytes are another token's: take new ones";
            ApiError::new(StatusCode::CONFLICT, "secret_in_use", hint)
        }
        NotIssued::Full => {
            let hint = "there are too many tokens: agentcom-hub token list shows them, token revoke NAME removes some";
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_tokens", hint)
        }
        NotIssued::FullOfStrangers => {
            let hint = "too many agents registered openly: ask an admin for an invitation (agentcom-hub invite), for \
                        which there is always room";
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_tokens", hint)
        }
    }
}
