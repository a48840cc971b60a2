//! What all HTTP routes share: errors that say what was found, where, and what to do next; request bodies; bearer
//! tokens. It knows no route.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, header};

use crate::hub::api_error::ApiError;
use crate::hub::hub_state::Snapshot;
use crate::hub::not_unicode;
use crate::hub::state::tokens::TokenHash;
use crate::protocol::schema::{Field, check, refusal_error};
use crate::protocol::{Document, JsonError, JsonFields, MAX_JSON_DEPTH, check_agent_name};

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

/// Checks that a text can be an agent's name.
///
/// # Errors
/// 422 if it cannot.
pub fn check_name(agent_id: &str) -> Result<(), ApiError> {
    if check_agent_name(agent_id).is_err() {
        let detail = "must hold a visible character and no control characters".to_owned();
        return Err(ApiError::invalid_field("agent_id", "invalid", detail));
    }
    Ok(())
}

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

/// The agent or operator that a request's token proves.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The name of the agent or operator.
    pub name: String,
    /// Whether the token is an admin's, which may do everything.
    pub admin: bool,
    /// The token's hash.
    pub token: TokenHash,
}

/// Returns the caller that the request's bearer token proves.
///
/// # Errors
/// 401 if there is no token, or it is unknown.
pub fn authenticate(snapshot: &Snapshot, headers: &HeaderMap) -> Result<Caller, ApiError> {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).ok_or_else(unauthorized)?;
    let (scheme, token) = given.split_once(' ').ok_or_else(unauthorized)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(unauthorized());
    }
    let (token, principal) = snapshot.tokens.find(token.trim()).ok_or_else(unauthorized)?;
    Ok(Caller { name: principal.name.clone(), admin: principal.admin, token })
}

/// Returns the 401 error for a request without a valid token.
pub fn unauthorized() -> ApiError {
    let hint = "provide Authorization: Bearer <token>; agentcom-hub token NAME makes one";
    ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", hint)
}
