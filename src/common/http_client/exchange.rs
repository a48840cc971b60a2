//! One request and its answer on a byte stream, through `hyper`'s client; and the streams to a hub's HTTP address.

use std::fmt;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use crate::common::http_client::route::{ByteStream, Transport};
use crate::common::http_client::tls_advice::{self, Peer};
use crate::common::http_client::{addresses, dial, route};
use crate::common::secret::Secret;

/// The step at which a request failed. Each holds a message that says why and what to do.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The host's name has no address.
    #[error("{0}")]
    Name(String),
    /// No connection could be opened.
    #[error("{0}")]
    Tcp(String),
    /// The TLS handshake failed.
    #[error("{0}")]
    Tls(String),
    /// The peer does not speak HTTP.
    #[error("{0}")]
    Http(String),
    /// The peer closed the connection before its answer was complete: it may have done what was asked.
    #[error("{0}")]
    Closed(String),
    /// The request's time limit passed.
    #[error("{0}")]
    TimedOut(String),
}

/// A request.
#[derive(Debug)]
pub struct HttpRequest<'a> {
    /// The method.
    pub method: Method,
    /// The address of the hub, `http://` or `https://`, without a trailing slash.
    pub base: &'a str,
    /// The path, from `/` on, with its query.
    pub path: &'a str,
    /// The token for `Authorization: Bearer`.
    pub token: Option<&'a Secret>,
    /// Further header lines.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body, as JSON.
    pub body: Option<String>,
}

impl HttpRequest<'_> {
    fn build(&self) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let uri: Uri = format!("{}{}", self.base, self.path).parse()?;
        let host = uri.authority().map(ToString::to_string).unwrap_or_default();
        let target = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::builder().method(self.method.clone()).uri(target).header(HOST, host);
        if let Some(token) = self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {}", token.expose()));
        }
        for (name, value) in self.headers {
            request = request.header(*name, *value);
        }
        match &self.body {
            None => request.body(Full::default()),
            Some(body) => request.header(CONTENT_TYPE, "application/json").body(Full::from(body.clone().into_bytes())),
        }
    }
}

/// Connects to a hub's HTTP address before `deadline`, through TLS for `https://`.
///
/// # Errors
/// Returns an [`AskError`] with the step that failed; nothing was asked then.
pub async fn connect(base: &str, deadline: Instant, transport: &Transport) -> Result<Box<dyn ByteStream>, AskError> {
    let uri = parse(base)?;
    let opened = route::open(&uri, transport.proxies, None, deadline, |_| {}).await;
    let (stream, _) = opened.map_err(|error| AskError::Tcp(dial::explain_tcp(base, &error)))?;
    if !addresses::is_tls(&uri) {
        return Ok(stream);
    }
    let plain = dial::with_scheme(&uri, "http");
    let peer = Peer { shown: base, plain: &plain, set_by: "the hub's address", options: &transport.tls };
    let secured = route::secure(stream, addresses::host(&uri), &transport.tls).await;
    Ok(Box::new(secured.map_err(|error| AskError::Tls(tls_advice::explain_handshake(peer, &error)))?))
}

/// Parses an address.
///
/// # Errors
/// Returns [`AskError::Name`] if it is none.
pub fn parse(url: &str) -> Result<Uri, AskError> {
    url.parse().map_err(|error| AskError::Name(format!("{url} is no address: {error}")))
}

/// Sends the request over the stream, and returns the answer as far as its head; the body follows.
///
/// # Errors
/// Returns [`AskError::Http`] or [`AskError::Closed`].
pub async fn send<S>(stream: S, request: &HttpRequest<'_>) -> Result<Response<Incoming>, AskError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let base = request.base;
    let built = request.build().map_err(|error| AskError::Http(explain(base, &error)))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(base, &error))?;
    // The task ends with the answer's body or the peer; an error in it fails the request as well.
    tokio::spawn(connection);
    sender.send_request(built).await.map_err(|error| failed(base, &error))
}

/// Returns the failure of an exchange.
pub fn failed(base: &str, error: &hyper::Error) -> AskError {
    if error.is_parse() { AskError::Http(explain(base, error)) } else { AskError::Closed(explain(base, error)) }
}

fn explain(base: &str, error: &dyn fmt::Display) -> String {
    format!("{base} did not answer as a web server: {error}")
}
