//! How an open connection can fail, as texts for people and as close codes for the peer. It only describes; the
//! conversation decides what to do.

use tokio_tungstenite::tungstenite::error::{CapacityError, Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::sidecar::hub_connection::ConnectionConfig;
use crate::sidecar::hub_connection::dial::loggable_url;

/// Returns the close code and reason for a peer that violated the protocol; none if the peer is gone or not at fault.
pub(super) fn close_frame_for(e: &Error) -> Option<(CloseCode, &'static str)> {
    if matches!(e, Error::Capacity(_)) {
        Some((CloseCode::Size, "message too large"))
    } else if matches!(e, Error::Utf8(_)) {
        Some((CloseCode::Invalid, "text is not UTF-8"))
    } else if matches!(e, Error::Protocol(why) if *why != ProtocolError::ResetWithoutClosingHandshake) {
        Some((CloseCode::Protocol, "WebSocket protocol error"))
    } else {
        None
    }
}

/// Describes an error on an open connection and what to do.
pub(super) fn explain(config: &ConnectionConfig, e: &Error) -> String {
    let url = loggable_url(&config.url);
    let dropped = matches!(e, Error::ConnectionClosed | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake));
    if let Error::Capacity(CapacityError::MessageTooLong { size, max_size }) = e {
        format!("{url} sent a message of {size} bytes, at most {max_size} are allowed; raise max_frame_bytes if meant")
    } else if dropped {
        format!("{url} dropped the connection without a close frame: it died, or a proxy cut the line; dial again")
    } else if matches!(e, Error::Utf8(_)) {
        format!("{url} sent a text frame that is not UTF-8: {e}; is something else on that port?")
    } else {
        format!("connection to {url} broken: {e}; dial again")
    }
}

/// Describes a timeout, while `closing` or in the middle of a write.
pub(super) fn explain_silence(config: &ConnectionConfig, closing: bool) -> String {
    let url = loggable_url(&config.url);
    if closing {
        let limit = config.close_timeout_ms;
        format!("{url} did not finish the closing handshake within {limit} ms; what was sent last may not have arrived")
    } else {
        let limit = config.write_timeout_ms;
        format!("{url} took no data for {limit} ms: the link is half-open or the hub hangs; dial again")
    }
}
