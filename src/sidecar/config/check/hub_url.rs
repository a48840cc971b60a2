//! Checks whether a text is an address that a WebSocket can be opened to. It resolves no names.

use tokio_tungstenite::tungstenite::http::Uri;

use crate::common::http_client::addresses::has_wrong_port;

/// The allowed values, for error messages.
pub(super) const ALLOWED: &str = "a WebSocket address such as ws://localhost:4000/ws or wss://hub.example/ws";

/// A wrong address: what was found, without a password, and what is allowed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) found: String,
    pub(super) allowed: String,
}

/// Checks the address.
///
/// # Errors
/// Returns what is wrong with it.
pub(super) fn check(url: &str) -> Result<(), Wrong> {
    let wrong = |allowed: String| Err(Wrong { found: format!("\"{url}\""), allowed });
    if url.contains('@') {
        return Err(Wrong {
            found: "an address with credentials in it".to_owned(),
            allowed: format!("{ALLOWED}; the token has a key of its own"),
        });
    }
    // The parser that tungstenite opens the connection with.
    let Ok(uri) = url.parse::<Uri>() else { return wrong(ALLOWED.to_owned()) };
    match uri.scheme_str() {
        Some("ws" | "wss") => {}
        Some("http") => return wrong(format!("{ALLOWED}: write ws:// instead of http://")),
        Some("https") => return wrong(format!("{ALLOWED}: write wss:// instead of https://")),
        Some(_) | None => return wrong(ALLOWED.to_owned()),
    }
    if has_wrong_port(&uri) {
        return wrong(format!("{ALLOWED}: a port is a number from 1 to 65535"));
    }
    match uri.host() {
        Some(host) if !host.is_empty() => Ok(()),
        Some(_) | None => wrong(format!("{ALLOWED}: the host is missing")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_ws_and_wss() {
        for url in ["ws://localhost:4000/ws", "wss://hub.example/ws?x=1", "ws://[::1]:4000/ws", "ws://127.0.0.1"] {
            assert_eq!(check(url), Ok(()), "{url}");
        }
    }

    #[test]
    fn refuses_what_no_socket_opens() {
        for url in
            ["", "hub", "hub:4000/ws", "ftp://hub/ws", "ws://", "ws:///ws", "ws://a b/ws", "://x", "ws://h:99999/ws"]
        {
            assert!(check(url).is_err(), "{url}");
        }
    }

    #[test]
    fn says_which_scheme_to_write() {
        assert!(check("https://hub/ws").unwrap_err().allowed.contains("write wss:// instead of https://"));
        assert!(check("http://hub/ws").unwrap_err().allowed.contains("write ws:// instead of http://"));
    }

    #[test]
    fn does_not_quote_a_password() {
        assert!(!check("ws://me:hunter2@hub/ws").unwrap_err().found.contains("hunter2"));
    }
}
