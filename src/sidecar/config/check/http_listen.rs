//! Parses the address of the local HTTP listener. It binds nothing.

use std::net::{Ipv4Addr, SocketAddr};

/// The allowed values, for error messages.
pub(super) const ALLOWED: &str = "an IP address and a port such as \"127.0.0.1:9464\"";
/// The allowed values without `http_allow_remote`, for error messages.
pub(super) const LOOPBACK_ONLY: &str = "a loopback address such as \"127.0.0.1:9464\": whoever reaches another one reads \
     the sidecar's state without a password (`\"http_allow_remote\": true` allows it)";

/// Parses the address. The only name that is accepted is `localhost`, since it needs no lookup.
pub(super) fn parse(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix("localhost:") {
        Some(port) => Some((Ipv4Addr::LOCALHOST, port.parse().ok()?).into()),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use crate::sidecar::config::check::http_listen::parse;

    #[test]
    fn an_address_has_a_port() {
        for (text, address) in [
            ("127.0.0.1:9464", Some("127.0.0.1:9464")),
            ("localhost:0", Some("127.0.0.1:0")),
            ("[::1]:80", Some("[::1]:80")),
            ("9464", None),
            ("127.0.0.1", None),
            ("localhost:http", None),
            ("example.org:80", None),
            ("127.0.0.1:70000", None),
        ] {
            assert_eq!(parse(text), address.map(|address| address.parse().unwrap()), "{text}");
        }
    }
}
