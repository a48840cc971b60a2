//! The opening handshake of a WebSocket (RFC 6455, 4.1): sends the request, reads the answer and checks every part of it.
//! The library's own client refuses a `Connection` of more than one token, which a proxy may send.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::handshake::client::generate_request;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::http::{StatusCode, Version, header};

use crate::common::http_client::head::{Head, HeadError, has_token, read_head};
use crate::sidecar::hub_connection::dial::UpgradeError;

/// How much of a refusal's body is read, bytes.
const MAX_BODY_BYTES: usize = 4 * 1024;

/// How long the body of a refusal is waited for.
const BODY_TIMEOUT: Duration = Duration::from_millis(500);

/// An answer other than a WebSocket.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The status.
    pub(crate) status: StatusCode,
    /// Where it points to.
    pub(crate) location: Option<String>,
    /// The beginning of its body.
    pub(crate) body: String,
}

/// A part of the answer that is not as RFC 6455 wants it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    /// The answer is of another version of HTTP.
    #[error("the answer is not HTTP/1.1")]
    Version,
    /// `Upgrade` names something else.
    #[error("the answer lacks \"Upgrade: websocket\"")]
    Upgrade,
    /// `Connection` does not name the upgrade.
    #[error("the answer's \"Connection\" does not contain \"upgrade\"")]
    Connection,
    /// `Sec-WebSocket-Accept` is not made of our key.
    #[error("the answer's \"Sec-WebSocket-Accept\" is missing or wrong")]
    Accept,
    /// Extensions are used that nobody asked for.
    #[error("the answer uses an extension that was not asked for: \"Sec-WebSocket-Extensions\"")]
    Extensions,
    /// A subprotocol is used that nobody asked for.
    #[error("the answer chooses a subprotocol that was not asked for: \"Sec-WebSocket-Protocol\"")]
    Subprotocol,
}

/// Asks for a WebSocket and checks the answer. Returns the bytes of the first frames that came with it.
pub(super) async fn shake_hands<S>(stream: &mut S, url: &str) -> Result<Vec<u8>, UpgradeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let invalid = |error| UpgradeError::Url(std::io::Error::new(std::io::ErrorKind::InvalidInput, error));
    let (request, key) = url.into_client_request().and_then(generate_request).map_err(|e| invalid(e.to_string()))?;
    let sent = async {
        stream.write_all(&request).await?;
        stream.flush().await
    };
    // A peer that answers without reading on, such as one that does not take our certificate, may have closed its side.
    let failed = sent.await.err();
    let head = read_head(stream).await.map_err(|error| match (error, failed) {
        (HeadError::NoAnswer, Some(failed)) => UpgradeError::Head(HeadError::Io(failed)),
        (error, _) => UpgradeError::Head(error),
    })?;
    if head.status != StatusCode::SWITCHING_PROTOCOLS {
        return Err(UpgradeError::Refused(Box::new(refusal(stream, head).await)));
    }
    check(&head, &key).map_err(UpgradeError::Violation)?;
    Ok(head.rest)
}

fn check(head: &Head, key: &str) -> Result<(), Violation> {
    let Head { version, headers, .. } = head;
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let accepted = headers.get_all(header::SEC_WEBSOCKET_ACCEPT).iter().count() == 1
        && text(header::SEC_WEBSOCKET_ACCEPT) == Some(derive_accept_key(key.as_bytes()).as_str());
    let is_used = |name| text(name).is_some_and(|value| !value.is_empty());
    if *version != Version::HTTP_11 {
        Err(Violation::Version)
    } else if !has_token(headers, header::UPGRADE, "websocket") {
        Err(Violation::Upgrade)
    } else if !has_token(headers, header::CONNECTION, "upgrade") {
        Err(Violation::Connection)
    } else if !accepted {
        Err(Violation::Accept)
    } else if is_used(header::SEC_WEBSOCKET_EXTENSIONS) {
        Err(Violation::Extensions)
    } else if headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL) {
        Err(Violation::Subprotocol)
    } else {
        Ok(())
    }
}

/// Reads the beginning of a refusal's body, as far as it comes soon.
async fn refusal<S: AsyncRead + Unpin>(stream: &mut S, head: Head) -> Refusal {
    let Head { status, headers, rest: mut body, .. } = head;
    let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).trim().to_owned());
    let length = text(header::CONTENT_LENGTH).and_then(|length| length.parse().ok()).unwrap_or(MAX_BODY_BYTES);
    let (length, until) = (length.min(MAX_BODY_BYTES), Instant::now() + BODY_TIMEOUT);
    while body.len() < length {
        let mut piece = [0; 1024];
        match timeout_at(until, stream.read(&mut piece)).await {
            Ok(Ok(count)) if count > 0 => body.extend_from_slice(&piece[..count]),
            Ok(Ok(_) | Err(_)) | Err(_) => break,
        }
    }
    Refusal { status, location: text(header::LOCATION), body: String::from_utf8_lossy(&body).into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderName, HeaderValue};

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    /// Checks an answer that is right but for `changes`; an empty value takes the line out.
    fn checked(changes: &[(&str, &str)]) -> Result<(), Violation> {
        let mut headers = HeaderMap::new();
        let right = [("upgrade", "websocket"), ("connection", "Upgrade"), ("sec-websocket-accept", ACCEPT)];
        for (name, value) in right.iter().chain(changes) {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            match *value {
                "" => drop(headers.remove(name)),
                value => drop(headers.insert(name, HeaderValue::from_str(value).unwrap())),
            }
        }
        let head =
            Head { status: StatusCode::SWITCHING_PROTOCOLS, version: Version::HTTP_11, headers, rest: Vec::new() };
        check(&head, KEY)
    }

    #[test]
    fn a_connection_of_several_tokens_is_taken_in_any_case() {
        for value in ["Upgrade", "upgrade", "Keep-Alive, Upgrade", "UPGRADE,keep-alive"] {
            assert_eq!(checked(&[("connection", value)]), Ok(()), "{value}");
        }
        assert_eq!(checked(&[("upgrade", "WebSocket")]), Ok(()));
    }

    #[test]
    fn each_broken_answer_is_refused_by_name() {
        for (name, value, violation) in [
            ("upgrade", "", Violation::Upgrade),
            ("upgrade", "h2c", Violation::Upgrade),
            ("connection", "", Violation::Connection),
            ("connection", "keep-alive, upgraded", Violation::Connection),
            ("sec-websocket-accept", "", Violation::Accept),
            ("sec-websocket-accept", "S3pPLMBiTxaQ9kYGzzhZRbK+xOo=", Violation::Accept),
            ("sec-websocket-extensions", "permessage-deflate", Violation::Extensions),
            ("sec-websocket-protocol", "chat", Violation::Subprotocol),
        ] {
            assert_eq!(checked(&[(name, value)]), Err(violation), "{name}: {value}");
        }
    }
}
