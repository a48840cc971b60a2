//! The error answers of `/api/v1`: problem details (RFC 9457).

use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::hub::actor::Stopping;
use crate::hub::api_error::ApiError;
use crate::hub::random::NoRandomBytes;
use crate::hub::state::roles::Role;

/// An error answer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// A URN that names the kind of problem: `urn:agentcom:` and the code.
    #[serde(rename = "type")]
    urn: String,
    /// The HTTP status, in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// The kind of problem, for programs.
    code: String,
    /// What was found, and what to do next, for people.
    detail: String,
    /// The role that the caller lacks, if it is that.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    needed_role: Option<Role>,
    /// The invalid fields, if there are any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldProblem>,
    /// After how many seconds the same request may do better; a header of the answer.
    #[serde(skip)]
    retry_after_s: Option<u8>,
}

/// One invalid field of a request.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FieldProblem {
    /// The field's name, with its place: `items[3].name`.
    field: String,
    /// The kind of problem, for programs.
    code: String,
    /// What was found, and what is expected.
    detail: String,
}

impl Problem {
    /// Creates a problem. `code` is for programs; `detail` tells people what was found and what to do next.
    pub(crate) fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        Self {
            urn: format!("urn:agentcom:{code}"),
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            code: code.to_owned(),
            detail: detail.into(),
            needed_role: None,
            errors: Vec::new(),
            retry_after_s: None,
        }
    }

    /// Adds after how many seconds the same request may do better.
    #[must_use]
    pub(crate) fn retry_after(self, seconds: u8) -> Self {
        Self { retry_after_s: Some(seconds), ..self }
    }

    /// Creates the 422 problem for a request with these invalid fields, each as `schema::check` describes it.
    pub(crate) fn invalid(errors: &[Value]) -> Self {
        let text = |error: &Value, key: &str| error[key].as_str().unwrap_or_default().to_owned();
        let field = |error: &Value| FieldProblem {
            field: text(error, "field"),
            code: text(error, "error"),
            detail: text(error, "detail"),
        };
        let detail = "correct the named fields; nothing was changed";
        Self {
            errors: errors.iter().map(field).collect(),
            ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "validation_failed", detail)
        }
    }

    /// Creates the 422 problem for one invalid field.
    pub(crate) fn invalid_field(field: &str, code: &str, detail: &str) -> Self {
        Self::invalid(&[json!({"field": field, "error": code, "detail": detail})])
    }
}

impl From<ApiError> for Problem {
    fn from(error: ApiError) -> Self {
        let (status, body) = error.into_parts();
        let text = |key: &str| body[key].as_str().unwrap_or_default();
        match body["errors"].as_array() {
            Some(errors) => Self::invalid(errors),
            None => Self {
                needed_role: body["needed_role"].as_str().and_then(|role| role.parse().ok()),
                ..Self::new(status, text("error"), text("hint"))
            },
        }
    }
}

impl From<Stopping> for Problem {
    fn from(stopping: Stopping) -> Self {
        ApiError::from(stopping).into()
    }
}

impl From<NoRandomBytes> for Problem {
    fn from(error: NoRandomBytes) -> Self {
        ApiError::from(error).into()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry_after = self.retry_after_s.map(u16::from).map(HeaderValue::from);
        let mut response = (status, axum::Json(self)).into_response();
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response
    }
}

/// Returns whether the path is `/api/v1`, or below it.
pub(crate) fn is_in_v1(uri: &Uri) -> bool {
    uri.path() == "/api/v1" || uri.path().starts_with("/api/v1/")
}

/// Returns the answer to an error: a problem below `/api/v1`, and the legacy hub's form elsewhere.
pub(crate) fn or_problem(uri: &Uri, error: ApiError) -> Response {
    if is_in_v1(uri) { Problem::from(error).into_response() } else { error.into_response() }
}
