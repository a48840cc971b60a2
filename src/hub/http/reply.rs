//! What all HTTP routes share: errors that say what was found, where, and what to do next; request bodies; bearer
//! tokens. It knows no route.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, header};

use crate::hub::api_error::ApiError;
use crate::hub::http::credentials::{Credentials, LocalUser};
use crate::hub::hub_state::Snapshot;
use crate::hub::not_unicode;
use crate::hub::scheduler::healing::AUTHOR_PREFIX;
use crate::hub::state::audit::{Author, STRANGER, Via};
use crate::hub::state::roles::{Permission, Role};
use crate::hub::state::tokens::{TokenHash, id_of};
use crate::protocol::schema::{Field, check, refusal_error};
use crate::protocol::{Document, JsonError, JsonFields, MAX_JSON_DEPTH, NEW_NAME, check_new_name};

/// The largest request body, bytes.
pub const MAX_BODY_BYTES: usize = 1 << 20;

/// Reads the request's body as an object, and returns the given fields of it. An absent body counts as an empty object.
///
/// # Errors
/// 413 if it is too large, 415 if its content type is not JSON, 400 if its text is not JSON, 422 if it is nested too
/// deep or a field is invalid.
pub fn read_body(
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
    fields: &[Field],
) -> Result<JsonFields, ApiError> {
    let body = take_body(body)?;
    let is_known = |name: &str| fields.iter().any(|field| field.is(name));
    let object = if body.is_empty() { JsonFields::default() } else { parse_body(headers, &body, is_known)? };
    let errors = check(&object, fields);
    if errors.is_empty() { Ok(object) } else { Err(ApiError::invalid(errors)) }
}

/// Checks that a text can be the name of a new agent or operator.
///
/// # Errors
/// 422 if it cannot, or would be taken for somebody without a token.
pub fn check_name(agent_id: &str) -> Result<(), ApiError> {
    if let Err(bad) = check_new_name(agent_id) {
        return Err(ApiError::invalid_field("agent_id", "invalid", format!("is {bad}; allowed: {NEW_NAME}")));
    }
    let is_reserved = RESERVED.iter().any(|prefix| agent_id.starts_with(prefix)) || agent_id == STRANGER;
    if is_reserved {
        let detail = format!(
            "the audit uses `uid:...`, `invitation:...`, `{AUTHOR_PREFIX}...` and `{STRANGER}` for others: choose another name"
        );
        return Err(ApiError::invalid_field("agent_id", "reserved", detail));
    }
    Ok(())
}

/// What the names begin with under which the audit records those who have no token.
const RESERVED: [&str; 3] = ["uid:", "invitation:", AUTHOR_PREFIX];

/// Returns the bytes of the request's body.
///
/// # Errors
/// 413 if it is too large, 400 if it cannot be read.
pub(super) fn take_body(body: Result<Bytes, BytesRejection>) -> Result<Bytes, ApiError> {
    body.map_err(|rejection| {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            let hint = format!("a body may have {MAX_BODY_BYTES} bytes");
            return ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", &hint);
        }
        ApiError::new(StatusCode::BAD_REQUEST, "body_unreadable", &rejection.body_text())
    })
}

/// Reads a body as an object, and returns the fields for which `wanted` returns true.
///
/// # Errors
/// 415 if its content type is not JSON, 400 if its text is not JSON, 422 if it is no object or refused.
pub(super) fn parse_body(
    headers: &HeaderMap,
    body: &Bytes,
    wanted: impl Fn(&str) -> bool,
) -> Result<JsonFields, ApiError> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("none");
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence != "application/json" && !essence.ends_with("+json") {
        let hint = format!("send Content-Type: application/json (found: {content_type})");
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", &hint));
    }
    let document = Document::check(body, MAX_JSON_DEPTH).map_err(|unread| match unread {
        JsonError::NotAnObject => ApiError::invalid_field("body", "wrong_type", "expected JSON object".to_owned()),
        JsonError::Refused(refusal) => ApiError::invalid(vec![refusal_error("body", &refusal)]),
        JsonError::NotJson(error) => {
            let hint = format!("the body is not JSON: {error}");
            ApiError::new(StatusCode::BAD_REQUEST, "invalid_json", &hint)
        }
    })?;
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or("a client");
    not_unicode::warn("body", agent, document.replaced());
    Ok(document.fields_that(wanted))
}

/// What proves who a caller is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// A token, by its hash.
    Token(TokenHash),
    /// That it may open the hub's own socket.
    Local(LocalUser),
}

/// The agent or operator that sends a request.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The name of the agent or operator.
    pub name: String,
    /// Since when the name has its present owner, in ms since the epoch; `None` for a local user.
    pub owned_since: Option<u64>,
    /// The role.
    pub role: Role,
    /// Whether it registered without an admin and without an invitation: then it may only do what is its own.
    pub registered_openly: bool,
    /// What proves it.
    pub proof: Proof,
    /// Whether the token's use is to be noted.
    pub use_is_news: bool,
}

impl Caller {
    /// Returns whether the caller has the permission.
    pub fn may(&self, permission: Permission) -> bool {
        self.role.may(permission) && (!self.registered_openly || permission.is_of_the_openly_registered())
    }

    /// Checks that the caller has the permission; `what` names the action for people.
    ///
    /// # Errors
    /// 403, with the role that is needed, if the caller does not have it.
    pub fn require(&self, permission: Permission, what: &str) -> Result<(), ApiError> {
        if self.may(permission) { Ok(()) } else { Err(self.forbidden(permission, what)) }
    }

    /// Checks that the caller has the permission for every agent, or is this agent and has the one for itself.
    ///
    /// # Errors
    /// 403, with the role that is needed for every agent, if neither is so.
    pub fn require_for(&self, agent_id: &str, any: Permission, own: Permission, what: &str) -> Result<(), ApiError> {
        if self.may(any) || (self.may(own) && self.name == agent_id) {
            return Ok(());
        }
        Err(self.forbidden(any, what))
    }

    /// Returns the 403 error for a caller that may not do `what` for want of the permission.
    pub fn forbidden(&self, permission: Permission, what: &str) -> ApiError {
        if self.registered_openly && self.role.may(permission) {
            return ApiError::registered_openly(&self.name, self.role, what);
        }
        ApiError::forbidden(&self.name, self.role, permission.needed_role(), what)
    }

    /// Returns the author of the caller's acts.
    pub fn author(&self) -> Author {
        match self.proof {
            Proof::Token(hash) => {
                let (who, role, token) = (self.name.clone(), Some(self.role), Some(id_of(&hash)));
                Author { who, role, token, via: Via::Http, registered_openly: self.registered_openly }
            }
            Proof::Local(user) => user.author(),
        }
    }
}

/// Returns the caller that the request's credentials prove, whatever its role. What the caller asks for is to be checked
/// before it is done: with [`Caller::require`], [`Caller::require_for`] or, at once, [`require`].
///
/// # Errors
/// 401 if there is no token, or it is unknown or has expired.
pub fn caller_of(snapshot: &Snapshot, who: &Credentials) -> Result<Caller, ApiError> {
    let (token, principal) = match who {
        Credentials::Header(given) => {
            let (scheme, token) = given.split_once(' ').ok_or_else(unauthorized)?;
            if !scheme.eq_ignore_ascii_case("bearer") {
                return Err(unauthorized());
            }
            snapshot.tokens.find(token.trim()).ok_or_else(unauthorized)?
        }
        Credentials::Session(token) => (*token, snapshot.tokens.get(token).ok_or_else(unauthorized)?),
        Credentials::Local(user) => {
            let (name, proof) = (user.author().who, Proof::Local(*user));
            return Ok(Caller {
                name,
                owned_since: None,
                role: Role::Admin,
                registered_openly: false,
                proof,
                use_is_news: false,
            });
        }
        Credentials::None => return Err(unauthorized()),
    };
    let now_ms = snapshot.now_ms();
    if principal.has_expired(now_ms) {
        return Err(expired(&principal.name));
    }
    Ok(Caller {
        name: principal.name.clone(),
        owned_since: Some(principal.owned_since),
        role: principal.role,
        registered_openly: principal.registered_openly,
        proof: Proof::Token(token),
        use_is_news: principal.use_is_news(now_ms),
    })
}

/// Returns the caller that the request's credentials prove, who must have the permission; `what` names the action for
/// people.
///
/// # Errors
/// 401 as [`caller_of`], 403 as [`Caller::require`].
pub fn require(snapshot: &Snapshot, who: &Credentials, permission: Permission, what: &str) -> Result<Caller, ApiError> {
    let caller = caller_of(snapshot, who)?;
    caller.require(permission, what)?;
    Ok(caller)
}

fn expired(name: &str) -> ApiError {
    let hint = format!("the token of {name} has expired: ask an admin for another (agentcom-hub token NAME)");
    ApiError::new(StatusCode::UNAUTHORIZED, "token_expired", &hint)
}

/// Returns the 401 error for a request without a valid token.
pub fn unauthorized() -> ApiError {
    let hint = "provide Authorization: Bearer <token>; agentcom-hub token NAME makes one";
    ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", hint)
}
