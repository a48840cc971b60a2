//! Single requests to the hub, bounded in time and size.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt as _, Limited};
use hyper::Method;
use serde_json::Value;
use tokio::time::Instant;

use crate::common::http_client::route::Transport;
use crate::common::http_client::tls_advice::speaks_of_tls;
use crate::common::http_client::{AskError, HttpRequest, addresses, exchange};
use crate::common::secret::{REDACTED, Secret};
use crate::common::text::first_chars;

/// The longest response body that is read, bytes. No endpoint that is used here has a longer one.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// A question to the hub.
#[derive(Debug)]
pub(crate) struct Question<'a> {
    /// The hub's address, `http://` or `https://`.
    pub(crate) base: &'a str,
    /// The path, from `/` on.
    pub(crate) path: &'a str,
    /// The token for `Authorization: Bearer`.
    pub(crate) token: Option<&'a Secret>,
    /// The body of a `POST`; without one the request is a `GET`.
    pub(crate) body: Option<Value>,
    /// The time limit for everything, from the name lookup to the last byte.
    pub(crate) timeout: Duration,
    /// How the hub is reached.
    pub(crate) transport: &'a Transport,
}

/// The hub's response.
#[derive(Debug)]
pub(crate) struct HttpResponse {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The body; `Null` if it is not JSON.
    pub(crate) body: Value,
    /// Whether it is an error page that says that the port is one for TLS.
    pub(crate) speaks_of_tls: bool,
}

impl HttpResponse {
    /// Returns the hub's error text: `error`, with the `hint` or the first `errors[].detail` that AgentCom's Rust hub
    /// adds.
    pub(crate) fn error_text(&self) -> String {
        let text = |value: &Value| value.as_str().map(|text| first_chars(text, 300).to_owned());
        let error = text(&self.body["error"]).unwrap_or_else(|| "no reason given".to_owned());
        match text(&self.body["hint"]).or_else(|| text(&self.body["errors"][0]["detail"])) {
            Some(more) => format!("HTTP {}, {error}: {more}", self.status),
            None => format!("HTTP {}, {error}", self.status),
        }
    }
}

/// Asks the hub and returns its response.
///
/// # Errors
/// Returns an [`AskError`] with the step that failed.
pub(crate) async fn ask(question: Question<'_>) -> Result<HttpResponse, AskError> {
    let (base, after) = (question.base, question.timeout);
    tokio::time::timeout(after, send(&question)).await.unwrap_or_else(|_| {
        let why = format!(
            "{base} did not answer within {} s: is the hub up, does a firewall stand between?",
            after.as_secs()
        );
        Err(AskError::TimedOut(why))
    })
}

/// Looks up the addresses of a URL's host.
///
/// # Errors
/// Returns [`AskError::Name`] if the host has none.
pub(crate) async fn resolve(url: &str) -> Result<Vec<SocketAddr>, AskError> {
    let uri = exchange::parse(url)?;
    addresses::resolve(&uri).await.map_err(|error| AskError::Name(error.to_string()))
}

async fn send(question: &Question<'_>) -> Result<HttpResponse, AskError> {
    let Question { base, path, token, body, timeout, transport } = question;
    let stream = exchange::connect(base, Instant::now() + *timeout, transport).await?;
    let method = if body.is_some() { Method::POST } else { Method::GET };
    let body = body.as_ref().map(Value::to_string);
    let request = HttpRequest { method, base, path, token: *token, headers: &[], body };
    let answer = exchange::send(stream, &request).await?;
    let status = answer.status().as_u16();
    let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await;
    let body = body.map_err(|error| AskError::Http(format!("{base} did not answer as a web server: {error}")))?;
    let mut text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    if let Some(token) = token.filter(|token| !token.expose().is_empty()) {
        // Responses are shown to operators.
        text = text.replace(token.expose(), REDACTED);
    }
    let speaks_of_tls = status == 400 && speaks_of_tls(&text);
    Ok(HttpResponse { status, body: serde_json::from_str(&text).unwrap_or(Value::Null), speaks_of_tls })
}
