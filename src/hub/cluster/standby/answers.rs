//! What a standby answers itself: that it lives, that it does not do the work of a hub, and that nothing can be passed on.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use serde_json::{Value, json};

use crate::hub::api_error::ApiError;
use crate::hub::cluster::standby::{NoLeader, Standby};
use crate::hub::cluster::{Leader, Role};
use crate::hub::connections::listener::Origin;
use crate::hub::http::alive;
use crate::hub::http::browsers::check;
use crate::hub::metrics::CONTENT_TYPE;
use crate::hub::problem::or_problem;

/// After how many seconds the same request may do better.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("2");

/// The metrics of a standby.
const STANDS_BY: &str = "\
# HELP agentcom_hub_standby Whether this node stands by while another one leads.
# TYPE agentcom_hub_standby gauge
agentcom_hub_standby 1
";

/// `GET /health`.
pub(super) async fn health(
    State(standby): State<Arc<Standby>>,
    origin: Option<Extension<Origin>>,
    request: Request,
) -> Response {
    standby.own_answer(origin.is_some(), &request, || {
        let mut health = alive();
        health["role"] = "standby".into();
        health["leader"] = match &*standby.role.borrow() {
            Role::Standby(Some(leader)) => shown(leader),
            Role::Standby(None) | Role::Leading { .. } => Value::Null,
        };
        Json(health).into_response()
    })
}

/// `GET /ready`: a standby never is, so that a load balancer sends its clients to the leader.
pub(super) async fn ready(
    State(standby): State<Arc<Standby>>,
    origin: Option<Extension<Origin>>,
    request: Request,
) -> Response {
    standby.own_answer(origin.is_some(), &request, || {
        let stands_by = |leader: &Leader| {
            let Leader { epoch, url, secret: _ } = leader;
            ("standby", format!("this node stands by and passes requests on to the leader, {url} (epoch {epoch})"))
        };
        let role = match &*standby.role.borrow() {
            Role::Standby(Some(leader)) => stands_by(leader),
            Role::Standby(None) => ("no_leader", NoLeader::Unknown.to_string()),
            Role::Leading { .. } => ("taking_over", NoLeader::TakingOver.to_string()),
        };
        let stopping = standby.stop.is_cancelled().then(|| ("stopping", "the hub was told to stop".to_owned()));
        let listener = standby.connections.complaint().map(|detail| ("listener", detail));
        let all = [stopping, Some(role), listener].into_iter().flatten();
        let reasons: Vec<Value> = all.map(|(check, detail)| json!({"check": check, "detail": detail})).collect();
        let body = json!({"ready": false, "role": "standby", "reasons": reasons});
        (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
    })
}

/// `GET /metrics`: of the hub's figures there is nothing here, and the leader's would count twice where each node is asked.
pub(super) async fn metrics(
    State(standby): State<Arc<Standby>>,
    origin: Option<Extension<Origin>>,
    request: Request,
) -> Response {
    standby
        .own_answer(origin.is_some(), &request, || ([(header::CONTENT_TYPE, CONTENT_TYPE)], STANDS_BY).into_response())
}

impl Standby {
    /// Answers a request whose host and page are this node's own, and refuses others.
    fn own_answer(&self, over_tcp: bool, request: &Request, answer: impl FnOnce() -> Response) -> Response {
        // Whether a token is valid, only the leader knows.
        match check(&self.entrance.own_pages, over_tcp, request, || false) {
            Ok(()) => answer(),
            Err(refusal) => or_problem(request.uri(), refusal),
        }
    }
}

fn shown(Leader { epoch, url, secret: _ }: &Leader) -> Value {
    json!({"epoch": epoch, "url": url})
}

/// Returns the 503 answer to a request that cannot be passed on; nothing was done then.
pub(super) fn unavailable(uri: &Uri, why: &NoLeader) -> Response {
    let hint = format!("{why}: ask again in a moment; agents keep their tasks meanwhile");
    let mut answer = or_problem(uri, ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "no_leader", &hint));
    answer.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
    answer
}
