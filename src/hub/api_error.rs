//! The error answers of the HTTP API.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::hub::actor::Stopping;
use crate::hub::random::NoRandomBytes;
use crate::hub::state::roles::Role;

/// An error answer: a JSON object that always has `error`.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    body: Value,
}

impl ApiError {
    /// Creates an error. `error` is for programs; `hint` tells people what to do.
    pub fn new(status: StatusCode, error: &str, hint: &str) -> Self {
        Self { status, body: json!({"error": error, "hint": hint}) }
    }

    /// Returns the status and the body.
    pub(super) fn into_parts(self) -> (StatusCode, Value) {
        (self.status, self.body)
    }

    /// Adds a field to the body.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        if let Some(body) = self.body.as_object_mut() {
            body.insert(key.to_owned(), value.into());
        }
        self
    }

    /// Creates the 422 error for a request with these invalid fields.
    pub fn invalid(errors: Vec<Value>) -> Self {
        let hint = "correct the named fields; nothing was changed";
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "validation_failed", hint).with("errors", errors)
    }

    /// Creates the 422 error for one field whose value is invalid although its type is right.
    pub fn invalid_field(field: &str, error: &str, detail: String) -> Self {
        Self::invalid(vec![json!({"field": field, "error": error, "detail": detail})])
    }

    /// Creates the 403 error for a token of `name` with a role that does not let it do `what`; `needed` does.
    pub fn forbidden(name: &str, role: Role, needed: Role, what: &str) -> Self {
        let hint = format!(
            "the token of {name} has the role {role} and may not {what}; that takes the role {needed} or more \
             (agentcom-hub token NAME --role {needed})"
        );
        Self::new(StatusCode::FORBIDDEN, "forbidden", &hint)
            .with("role", <&str>::from(role))
            .with("needed_role", <&str>::from(needed))
    }

    /// Creates the 403 error for a token of `name` that may not do `what` because its agent registered openly.
    pub fn registered_openly(name: &str, role: Role, what: &str) -> Self {
        let hint = format!(
            "{name} registered without an admin and without an invitation, so its token may not {what}; one that may: \
             agentcom-hub token NAME --replace, on the hub's machine"
        );
        Self::new(StatusCode::FORBIDDEN, "forbidden", &hint)
            .with("role", <&str>::from(role))
            .with("needed_role", <&str>::from(role))
            .with("registered_openly", true)
    }

    /// Creates the 404 error for an unknown task.
    pub fn task_not_found(task_id: &str) -> Self {
        let hint = "GET /api/tasks lists the tasks that this hub knows";
        Self::new(StatusCode::NOT_FOUND, "task_not_found", hint).with("task_id", task_id)
    }
}

impl From<Stopping> for ApiError {
    fn from(_: Stopping) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "the hub is stopping; ask again in a moment")
    }
}

impl From<NoRandomBytes> for ApiError {
    fn from(error: NoRandomBytes) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "no_entropy", &error.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}
