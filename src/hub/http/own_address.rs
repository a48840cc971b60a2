//! The hub's own address, as those who are to connect to it are told.

use axum::http::{HeaderMap, header};

use crate::common::http_client::HubAddress;
use crate::common::http_host::Authority;
use crate::hub::http::entrance::Entrance;

/// The headers by which a proxy shows itself.
pub(super) const OF_A_PROXY: [&str; 4] = ["forwarded", "via", "x-forwarded-for", "x-real-ip"];

/// Returns whether a proxy says that it passes the request on.
pub(super) fn is_passed_on(headers: &HeaderMap) -> bool {
    OF_A_PROXY.iter().any(|name| headers.contains_key(*name))
}

/// Returns the address that a caller reached the hub by: `--public-url`, where it asks by a name or through a proxy; else its
/// `Host`, else where the port listens; with TLS, if the port speaks it or a proxy says that the caller does.
pub(super) fn own_address(entrance: &Entrance, headers: &HeaderMap) -> HubAddress {
    let header_text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let host = header_text(header::HOST.as_str()).filter(|host| is_plain(host));
    let is_named = host.and_then(Authority::parse).is_some_and(|named| named.host.is_in_dns());
    if let Some(own) = entrance.own_pages.public_url.as_ref().filter(|_| is_named || is_passed_on(headers)) {
        return address(own.tls, &own.authority());
    }
    let tls = entrance.tls || header_text("x-forwarded-proto") == Some("https");
    address(tls, host.unwrap_or(&entrance.listen))
}

fn is_plain(host: &str) -> bool {
    !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']'))
}

fn address(tls: bool, authority: &str) -> HubAddress {
    let (ws, http) = if tls { ("wss", "https") } else { ("ws", "http") };
    HubAddress { http: format!("{http}://{authority}"), ws: format!("{ws}://{authority}/ws") }
}
