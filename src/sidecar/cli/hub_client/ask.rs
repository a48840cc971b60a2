//! One question over HTTP/1.1, one connection each: `hyper`'s client on the hub link's own TCP and TLS. It follows no
//! redirects, keeps nothing, and bounds both time and size.

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

/// Nothing that is asked here has a longer answer.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// What is asked.
#[derive(Debug)]
pub(crate) struct HttpRequest<'a> {
    /// The hub, `http://` or `https://`.
    pub(crate) base: &'a str,
    /// From `/` on.
    pub(crate) path: &'a str,
    /// For `Authorization: Bearer`.
    pub(crate) token: Option<&'a Secret>,
    /// A `POST` of this, else a `GET`.
    pub(crate) body: Option<Value>,
    /// For everything, from the name's lookup to the last byte.
    pub(crate) timeout: Duration,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct HttpResponse {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The body; `Null` where it is no JSON.
    pub(crate) body: Value,
}

impl HttpResponse {
    /// What the hub says is wrong: `error`, and our hub's `hint` or first `errors[].detail`.
    pub(crate) fn why(&self) -> String {
        let text = |value: &Value| value.as_str().map(|text| first_chars(text, 300).to_owned());
        let error = text(&self.body["error"]).unwrap_or_else(|| "no reason given".to_owned());
        match text(&self.body["hint"]).or_else(|| text(&self.body["errors"][0]["detail"])) {
            Some(more) => format!("HTTP {}, {error}: {more}", self.status),
            None => format!("HTTP {}, {error}", self.status),
        }
    }
}

/// How far it came before it failed, and why; each says what to do.
#[derive(Debug)]
pub(crate) enum AskError {
    /// The host's name has no address.
    Name(String),
    /// Nothing answers there.
    Tcp(String),
    /// No TLS.
    Tls(String),
    /// It does not speak HTTP, or broke off.
    Http(String),
    /// It took too long.
    TimedOut(String),
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(why) | Self::Tcp(why) | Self::Tls(why) | Self::Http(why) | Self::TimedOut(why) => {
                f.write_str(why)
            }
        }
    }
}

/// Asks.
///
/// # Errors
/// [`AskError`]: no answer, and how far it came.
pub(crate) async fn ask(question: HttpRequest<'_>) -> Result<HttpResponse, AskError> {
    let (base, after) = (question.base.to_owned(), question.timeout);
    tokio::time::timeout(after, answered(question)).await.unwrap_or_else(|_| {
        let why = format!(
            "{base} did not answer within {} s: is the hub up, does a firewall stand between?",
            after.as_secs()
        );
        Err(AskError::TimedOut(why))
    })
}

/// The addresses of a URL's host.
///
/// # Errors
/// [`AskError::Name`].
pub(crate) async fn resolve(url: &str) -> Result<Vec<SocketAddr>, AskError> {
    let uri: Uri = url.parse().map_err(|error| AskError::Name(format!("{url} is no address: {error}")))?;
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
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

async fn answered(question: HttpRequest<'_>) -> Result<HttpResponse, AskError> {
    resolve(question.base).await?;
    // The link's own way to connect, which knows WebSocket addresses; `http` and `ws` differ in nothing else.
    let ws = question.base.replacen("http", "ws", 1);
    let stream = dial::tcp(ws).await.map_err(|error| AskError::Tcp(explain_tcp(question.base, &error)))?;
    if question.base.starts_with("https") {
        let uri: Uri = question.base.parse().map_err(|error| AskError::Name(format!("{error}")))?;
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let failed = |why: &dyn fmt::Display| AskError::Tls(format!("cannot speak TLS to {}: {why}", question.base));
        let config = dial::tls(Roots::Native).await.map_err(|why| failed(&why))?;
        let name = ServerName::try_from(host).map_err(|error| failed(&error))?;
        let stream = TlsConnector::from(config).connect(name, stream).await;
        let stream = stream.map_err(|error| AskError::Tls(dial::explain_handshake(question.base, &error)))?;
        return converse(question, stream).await;
    }
    converse(question, stream).await
}

fn explain_tcp(base: &str, error: &std::io::Error) -> String {
    // Only the hint is the link's: it knows the kinds of refusal.
    dial::explain_tcp(&base.replacen("http", "ws", 1), error).replacen("ws", "http", 1)
}

async fn converse<S>(question: HttpRequest<'_>, stream: S) -> Result<HttpResponse, AskError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let base = question.base;
    let failed = |error: &dyn fmt::Display| AskError::Http(format!("{base} did not answer as a web server: {error}"));
    let request = request(&question).map_err(|error| failed(&error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    // It ends with the sender or the peer; what it fails with, the request fails with too.
    tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(|error| failed(&error))?;
    let status = answer.status().as_u16();
    let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await.map_err(|error| failed(&error))?;
    let mut text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    if let Some(token) = question.token {
        // What is answered is shown to people.
        text = text.replace(token.expose(), REDACTED);
    }
    Ok(HttpResponse { status, body: serde_json::from_str(&text).unwrap_or(Value::Null) })
}

fn request(question: &HttpRequest<'_>) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
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
