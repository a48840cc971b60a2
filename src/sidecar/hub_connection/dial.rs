//! Opens a WebSocket from a URL: name lookup, TCP, TLS, upgrade, each failure as a text that says what to do. It has no
//! deadline and keeps no connection; the caller limits its time.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::{IntoClientRequest, uri_mode};
use tokio_tungstenite::tungstenite::error::{Error, UrlError};
use tokio_tungstenite::tungstenite::http::{Response, Uri, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::stream::Mode;
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, client_async_tls_with_config};

use crate::common::http_client::dial;
use crate::common::text::first_chars;
use crate::sidecar::hub_connection::{ConnectionConfig, MAX_OUTGOING_BYTES};

/// The initial size of a connection's read and write buffers, bytes; an idle daemon would pay for the library's 128
/// KiB.
const BUFFER_BYTES: usize = 8 * 1024;

/// The write buffer's space beyond one frame of the largest size, for a frame header and control frames, bytes.
const WRITE_SLACK_BYTES: usize = 64 * 1024;

/// How much of a refused upgrade's body is quoted, characters.
const BODY_EXCERPT_CHARS: usize = 200;

/// Looks up the host and connects to the first of its addresses that answers.
pub(crate) async fn tcp(url: String) -> io::Result<TcpStream> {
    dial::tcp(&parse(&url)?).await
}

/// Turns a byte stream into a WebSocket, through TLS for `wss://`.
pub(crate) async fn upgrade<S>(
    config: &ConnectionConfig,
    stream: S,
) -> Result<WebSocketStream<MaybeTlsStream<S>>, UpgradeError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let request = config.url.as_str().into_client_request()?;
    let connector = match uri_mode(request.uri())? {
        Mode::Plain => Connector::Plain,
        Mode::Tls => Connector::Rustls(dial::tls(config.roots.clone()).await.map_err(UpgradeError::Roots)?),
    };
    let limits = WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_write_buffer_size(MAX_OUTGOING_BYTES + WRITE_SLACK_BYTES)
        .max_message_size(Some(config.max_frame_bytes))
        .max_frame_size(Some(config.max_frame_bytes));
    let (socket, _) = client_async_tls_with_config(request, stream, Some(limits), Some(connector)).await?;
    Ok(socket)
}

/// The reason why a stream did not become a WebSocket.
pub(crate) enum UpgradeError {
    /// The trust store is empty or unusable.
    Roots(String),
    /// Any error of the WebSocket library. Boxed: it is large, and errors are rare.
    Socket(Box<Error>),
}

impl UpgradeError {
    /// Returns whether it failed before any HTTP was exchanged.
    pub(crate) fn is_tls(&self) -> bool {
        match self {
            Self::Roots(_) => true,
            Self::Socket(e) => matches!(e.as_ref(), Error::Io(io) if dial::tls_error(io).is_some()),
        }
    }
}

impl From<Error> for UpgradeError {
    fn from(e: Error) -> Self {
        Self::Socket(Box::new(e))
    }
}

fn parse(url: &str) -> io::Result<Uri> {
    let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidInput, why);
    let uri: Uri = url.parse().map_err(|e| invalid(format!("hub_url is not a URL: {e}")))?;
    match uri.scheme_str() {
        Some("ws" | "wss") if uri.host().is_some_and(|host| !host.is_empty()) => Ok(uri),
        Some(_) | None => Err(invalid("hub_url must read ws://host[:port]/path or wss://host[:port]/path".into())),
    }
}

/// Returns the URL as it may be logged: without user, password and query, any of which may contain a token.
pub(crate) fn loggable_url(url: &str) -> String {
    parse(url).map_or_else(|_| "the configured hub_url".into(), |uri| dial::loggable_url(&uri))
}

/// Describes a failed TCP connect and what to do.
pub(crate) fn explain_tcp(url: &str, e: &io::Error) -> String {
    dial::explain_tcp(&loggable_url(url), e)
}

/// Describes a failed TLS handshake or upgrade and what to do.
pub(crate) fn explain_upgrade(url: &str, e: &UpgradeError) -> String {
    let shown = loggable_url(url);
    let e = match e {
        UpgradeError::Roots(why) => return format!("cannot speak TLS to {shown}: {why}"),
        UpgradeError::Socket(e) => e,
    };
    if let Error::Http(answer) = e.as_ref() {
        return explain_refusal(&shown, answer);
    }
    if let Error::Io(io) = e.as_ref()
        && let Some(tls) = dial::tls_error(io)
    {
        return dial::explain_tls(&shown, "ws://", tls);
    }
    if matches!(e.as_ref(), Error::Url(UrlError::UnsupportedUrlScheme)) {
        return format!("cannot connect to {shown}: hub_url must begin with ws:// or wss://");
    }
    format!("{shown} did not answer as a WebSocket server: {e}; is this the hub's address, and its /ws path?")
}

fn explain_refusal(shown: &str, answer: &Response<Option<Vec<u8>>>) -> String {
    let status = answer.status();
    let hint = if status.is_redirection() {
        let to = answer.headers().get(header::LOCATION).and_then(|to| to.to_str().ok()).unwrap_or("an unnamed place");
        format!("it redirects to {:?}: write that address into hub_url", first_chars(to, BODY_EXCERPT_CHARS))
    } else if status.as_u16() == 404 {
        "check hub_url's path (the hub listens at /ws)".to_owned()
    } else if status.is_server_error() || status.as_u16() == 429 {
        "the hub, or a proxy before it, is not ready; it is worth another try later".to_owned()
    } else {
        "check hub_url, and any proxy between".to_owned()
    };
    let body = answer.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    let body = if body.trim().is_empty() {
        String::new()
    } else {
        format!(" ({:?})", first_chars(body.trim(), BODY_EXCERPT_CHARS))
    };
    format!("{shown} refused the WebSocket upgrade with HTTP {status}{body}; {hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_scheme_is_named_as_such() {
        let e = parse("http://hub.example/ws").unwrap_err();
        assert!(e.to_string().contains("ws://host"), "{e}");
    }
}
