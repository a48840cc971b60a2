//! Single HTTP/1.1 requests, each on a connection of its own: `hyper`'s client over the TCP and TLS code of the hub
//! connection. It follows no redirects and bounds both time and size.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use crate::common::secret::{REDACTED, Secret};
use crate::common::text::first_chars;
use crate::sidecar::hub_connection::{Roots, dial};

/// The longest response body that is read, bytes. No endpoint that is used here has a longer one.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// A request to the hub.
#[derive(Debug)]
pub(crate) struct HttpRequest<'a> {
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
}

/// The hub's response.
#[derive(Debug)]
pub(crate) struct HttpResponse {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The body; `Null` if it is not JSON.
    pub(crate) body: Value,
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

/// The step at which a request failed. Each holds a message that says why and what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// The host's name has no address.
    #[error("{0}")]
    Name(String),
    /// No TCP connection could be opened.
    #[error("{0}")]
    Tcp(String),
    /// The TLS handshake failed.
    #[error("{0}")]
    Tls(String),
    /// The peer does not speak HTTP, or closed the connection early.
    #[error("{0}")]
    Http(String),
    /// The request's time limit passed.
    #[error("{0}")]
    TimedOut(String),
}

/// Sends the request and returns the response.
///
/// # Errors
/// Returns an [`AskError`] with the step that failed.
pub(crate) async fn ask(question: HttpRequest<'_>) -> Result<HttpResponse, AskError> {
    let (base, after) = (question.base.to_owned(), question.timeout);
    tokio::time::timeout(after, send_request(question)).await.unwrap_or_else(|_| {
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
    let uri: Uri = url.parse().map_err(|error| AskError::Name(format!("{url} is no address: {error}")))?;
    let host = host(&uri);
    let tls = matches!(uri.scheme_str(), Some("https" | "wss"));
    let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let hint = "is it spelled right, and does this machine's DNS (or /etc/hosts) know it?";
    match tokio::net::lookup_host((host.as_str(), port)).await {
        Ok(found) => {
            let found: Vec<_> = found.collect();
            if found.is_empty() { Err(AskError::Name(format!("{host} has no address; {hint}"))) } else { Ok(found) }
        }
        Err(error) => Err(AskError::Name(format!("{host} cannot be looked up: {error}; {hint}"))),
    }
}

async fn send_request(question: HttpRequest<'_>) -> Result<HttpResponse, AskError> {
    resolve(question.base).await?;
    // The hub connection's dialer takes WebSocket addresses; for TCP, `http` and `ws` differ in nothing else.
    let ws = question.base.replacen("http", "ws", 1);
    let stream = dial::tcp(ws).await.map_err(|error| AskError::Tcp(explain_tcp(question.base, &error)))?;
    if question.base.starts_with("https") {
        let uri: Uri = question.base.parse().map_err(|error| AskError::Name(format!("{error}")))?;
        let host = host(&uri);
        let failed = |why: &dyn fmt::Display| AskError::Tls(format!("cannot speak TLS to {}: {why}", question.base));
        let config = dial::tls(Roots::Native).await.map_err(|why| failed(&why))?;
        let name = ServerName::try_from(host).map_err(|error| failed(&error))?;
        let stream = TlsConnector::from(config).connect(name, stream).await;
        let stream = stream.map_err(|error| AskError::Tls(dial::explain_handshake(question.base, &error)))?;
        return exchange(question, stream).await;
    }
    exchange(question, stream).await
}

/// Returns the URL's host; an IPv6 address without its brackets.
fn host(uri: &Uri) -> String {
    uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned()
}

fn explain_tcp(base: &str, error: &std::io::Error) -> String {
    // The hub connection's explanation takes WebSocket addresses; the message shows the one that was asked for.
    dial::explain_tcp(&base.replacen("http", "ws", 1), error).replacen("ws", "http", 1)
}

async fn exchange<S>(question: HttpRequest<'_>, stream: S) -> Result<HttpResponse, AskError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let base = question.base;
    let failed = |error: &dyn fmt::Display| AskError::Http(format!("{base} did not answer as a web server: {error}"));
    let request = build_request(&question).map_err(|error| failed(&error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    // The task ends with the sender or the peer; an error in it fails the request as well.
    tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(|error| failed(&error))?;
    let status = answer.status().as_u16();
    let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await.map_err(|error| failed(&error))?;
    let mut text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    if let Some(token) = question.token {
        // Responses are shown to operators.
        text = text.replace(token.expose(), REDACTED);
    }
    Ok(HttpResponse { status, body: serde_json::from_str(&text).unwrap_or(Value::Null) })
}

fn build_request(question: &HttpRequest<'_>) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
    let uri: Uri = format!("{}{}", question.base, question.path).parse()?;
    let host = uri.authority().map(ToString::to_string).unwrap_or_default();
    let target = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::builder().uri(target).header(HOST, host);
    if let Some(token) = question.token {
        request = request.header(AUTHORIZATION, format!("Bearer {}", token.expose()));
    }
    match &question.body {
        None => request.body(Full::default()),
        Some(body) => request
            .method("POST")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(body.to_string().into_bytes())),
    }
}
