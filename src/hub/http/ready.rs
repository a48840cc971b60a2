//! `GET /ready`: whether the hub does its work now, and what keeps it from it. It reads a few numbers and asks nobody, so a
//! hub that hangs answers too.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

use crate::common::steady_clock;
use crate::hub::http::request::{App, Shared};

/// One thing that keeps the hub from its work.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Reason {
    /// The check that failed: `stopping`, `store`, `actor`, `listener`.
    check: &'static str,
    /// What is wrong and what to do, for people.
    detail: String,
}

pub(super) async fn ready(State(app): Shared) -> Response {
    let reasons = reasons(&app);
    let (status, ready) = match reasons.is_empty() {
        true => (StatusCode::OK, true),
        false => (StatusCode::SERVICE_UNAVAILABLE, false),
    };
    (status, Json(serde_json::json!({"ready": ready, "reasons": reasons}))).into_response()
}

/// Returns everything that keeps the hub from its work.
pub(super) fn reasons(app: &App) -> Vec<Reason> {
    let stopping = app.stop.is_cancelled().then(|| ("stopping", "the hub was told to stop".to_owned()));
    let actor = app.actor.pulse().complaint(steady_clock::now_ms());
    let listener = app.connections.complaint().map(|detail| ("listener", detail));
    let all = [stopping, actor, listener].into_iter().flatten();
    all.map(|(check, detail)| Reason { check, detail }).collect()
}
