//! The opening handshake of a WebSocket (RFC 6455, section 4.2): checks the request, answers it, and takes the stream over
//! from HTTP with none of its buffers.

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use data_encoding::BASE64;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use sha1::{Digest as _, Sha1};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::hub::connections::message_stream::MessageStream;
use crate::hub::connections::tls::stream::Stream;

/// What the protocol appends to the client's key.
const PROTOCOL_ID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A request for a WebSocket that was accepted.
pub(in crate::hub) struct Upgrade(OnUpgrade);

impl Upgrade {
    /// Accepts a request for a WebSocket, and returns the answer that must be given to it.
    ///
    /// # Errors
    /// Says what the request lacks.
    pub(in crate::hub) fn accept(request: &mut Request) -> Result<(Self, Response), &'static str> {
        if request.method() != Method::GET {
            return Err("Request method must be `GET`");
        }
        let headers = request.headers();
        if !names(headers, &header::CONNECTION, "upgrade") {
            return Err("Connection header did not include 'upgrade'");
        }
        if !names(headers, &header::UPGRADE, "websocket") {
            return Err("`Upgrade` header did not include 'websocket'");
        }
        if !names(headers, &header::SEC_WEBSOCKET_VERSION, "13") {
            return Err("`Sec-WebSocket-Version` header did not include '13'");
        }
        let key = headers.get(header::SEC_WEBSOCKET_KEY).ok_or("`Sec-WebSocket-Key` header missing")?;
        let proof = BASE64.encode(&Sha1::new().chain_update(key.as_bytes()).chain_update(PROTOCOL_ID).finalize());
        let proof = HeaderValue::try_from(proof).map_err(|_| "`Sec-WebSocket-Key` header is of no use")?;
        let upgrade = request.extensions_mut().remove().ok_or("the connection cannot become a WebSocket")?;
        let headers = [
            (header::CONNECTION, HeaderValue::from_static("upgrade")),
            (header::UPGRADE, HeaderValue::from_static("websocket")),
            (header::SEC_WEBSOCKET_ACCEPT, proof),
        ];
        Ok((Self(upgrade), (StatusCode::SWITCHING_PROTOCOLS, headers, Body::empty()).into_response()))
    }

    /// Waits until the answer is written, and returns the messages of the stream; `None` if the connection broke.
    pub(super) async fn messages(self, max_message_bytes: usize) -> Option<MessageStream<Stream>> {
        let (stream, ahead) = stream_of(self.0).await?;
        Some(MessageStream::new(stream, &ahead, max_message_bytes))
    }
}

/// Waits until the answer after which a connection is no longer HTTP is written, and returns its stream, and what was read
/// of it ahead; `None` if the connection broke.
pub(in crate::hub) async fn taken_over(
    upgrade: OnUpgrade,
) -> Option<(impl AsyncRead + AsyncWrite + Unpin + Send + 'static, Bytes)> {
    stream_of(upgrade).await
}

async fn stream_of(upgrade: OnUpgrade) -> Option<(Stream, Bytes)> {
    let parts = upgrade.await.ok()?.downcast::<TokioIo<Stream>>().ok()?;
    Some((parts.io.into_inner(), parts.read_buf))
}

/// Returns whether a header has this value in its list, in any case.
fn names(headers: &HeaderMap, name: &HeaderName, value: &str) -> bool {
    let lists = headers.get_all(name).into_iter().filter_map(|list| list.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|item| item.trim().eq_ignore_ascii_case(value))
}
