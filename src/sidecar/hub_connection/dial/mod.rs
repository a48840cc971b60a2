//! Opens a WebSocket from a URL: name lookup, TCP, a proxy's tunnel, TLS, upgrade, each failure as a text that says what
//! to do, and each step published while it lasts. It keeps no connection and never retries.

mod advice;
mod handshake;
pub(crate) mod progress;

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::http::Uri;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::common::http_client::{addresses, dial, route};
use crate::sidecar::hub_connection::transport::Stream;
use crate::sidecar::hub_connection::{ConnectionConfig, MAX_OUTGOING_BYTES};

pub(crate) use advice::{explain_tcp, explain_upgrade};
pub(crate) use handshake::{Refusal, Violation};
use progress::{Progress, Stage};

/// The initial size of a connection's read and write buffers, bytes; an idle daemon would pay for the library's 128
/// KiB.
const BUFFER_BYTES: usize = 8 * 1024;

/// The write buffer's space beyond one frame of the largest size, for a frame header and control frames, bytes.
const WRITE_SLACK_BYTES: usize = 64 * 1024;

/// Connects to the hub's port within the connect timeout: to the first of its addresses that answers, or through the
/// proxy that the environment names.
pub(crate) async fn reach(config: ConnectionConfig, progress: Progress) -> io::Result<Box<dyn Stream>> {
    let uri = parse(&config.url)?;
    let deadline = Instant::now() + Duration::from_millis(config.connect_timeout_ms);
    let (proxies, last) = (config.transport.proxies, progress.dead_end());
    let opened = route::open(&uri, proxies, last, deadline, |step| progress.step(step)).await;
    let (stream, address) = opened?;
    progress.connected(address);
    Ok(stream)
}

/// Turns a byte stream into a WebSocket, through TLS for `wss://`.
pub(crate) async fn upgrade<S>(
    config: &ConnectionConfig,
    stream: S,
    progress: &Progress,
) -> Result<WebSocketStream<MaybeTlsStream<S>>, UpgradeError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let uri = parse(&config.url).map_err(UpgradeError::Url)?;
    let mut stream = if addresses::is_tls(&uri) {
        progress.reached(Stage::SpeaksTls);
        let secure = route::secure(stream, addresses::host(&uri), &config.transport.tls).await;
        MaybeTlsStream::Rustls(secure.map_err(UpgradeError::Tls)?)
    } else {
        MaybeTlsStream::Plain(stream)
    };
    progress.reached(Stage::Upgrades);
    let first = handshake::shake_hands(&mut stream, &config.url).await?;
    let limits = WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_write_buffer_size(MAX_OUTGOING_BYTES + WRITE_SLACK_BYTES)
        .max_message_size(Some(config.max_frame_bytes))
        .max_frame_size(Some(config.max_frame_bytes));
    Ok(WebSocketStream::from_partially_read(stream, first, Role::Client, Some(limits)).await)
}

/// The reason why a stream did not become a WebSocket.
#[derive(Debug)]
pub(crate) enum UpgradeError {
    /// The URL is none that a WebSocket can be opened to.
    Url(io::Error),
    /// There is no TLS.
    Tls(io::Error),
    /// The peer gave no answer in HTTP.
    Head(crate::common::http_client::head::HeadError),
    /// The peer answered in HTTP that it does not open a WebSocket.
    Refused(Box<Refusal>),
    /// The peer's answer to the upgrade breaks RFC 6455.
    Violation(Violation),
}

impl UpgradeError {
    /// Returns whether it failed before any HTTP was exchanged.
    pub(crate) fn is_tls(&self) -> bool {
        use crate::common::http_client::{head::HeadError, tls_advice::tls_error};
        match self {
            Self::Tls(_) => true,
            // A server that does not take the client certificate says so after the client's part of the handshake.
            Self::Head(HeadError::Io(error)) => tls_error(error).is_some(),
            Self::Url(_) | Self::Head(_) | Self::Refused(_) | Self::Violation(_) => false,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_scheme_is_named_as_such() {
        let e = parse("http://hub.example/ws").unwrap_err();
        assert!(e.to_string().contains("ws://host"), "{e}");
    }
}
