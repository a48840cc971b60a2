//! The hub's own address, as those who are to connect to it are told.

use axum::http::{HeaderMap, header};

use crate::common::http_client::HubAddress;
use crate::hub::http::request::App;

/// Returns the address that a caller reached the hub by: its `Host`, else where the hub listens; with TLS, if the port speaks
/// it or a proxy says that the caller does.
pub(super) fn own_address(app: &App, headers: &HeaderMap) -> HubAddress {
    let header_text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let is_plain = |host: &&str| {
        !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']'))
    };
    let host = header_text(header::HOST.as_str()).filter(is_plain).unwrap_or(&app.listen);
    let tls = app.certificate.is_some() || header_text("x-forwarded-proto") == Some("https");
    let (ws, http) = if tls { ("wss", "https") } else { ("ws", "http") };
    HubAddress { http: format!("{http}://{host}"), ws: format!("{ws}://{host}/ws") }
}
