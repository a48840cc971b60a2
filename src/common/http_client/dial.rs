//! Connections to a hub in words: its URL as it may be logged, and a TCP connect that failed.

use std::io;

use hyper::Uri;

/// Returns the URL as it may be logged: without user, password and query, any of which may contain a token.
pub fn loggable_url(uri: &Uri) -> String {
    with_scheme(uri, uri.scheme_str().unwrap_or("http"))
}

/// Returns the URL as it may be logged, with another scheme.
pub fn with_scheme(uri: &Uri, scheme: &str) -> String {
    let port = uri.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{scheme}://{}{port}{}", uri.host().unwrap_or_default(), uri.path())
}

/// Describes a failed TCP connect and what to do; `shown` is the peer's address.
pub fn explain_tcp(shown: &str, e: &io::Error) -> String {
    format!("cannot connect to {shown}: {}", with_hint(e, "the hub"))
}

/// Returns a failed connect to a port of `whose`, and what to do.
pub(super) fn with_hint(e: &io::Error, whose: &str) -> String {
    if e.kind() == io::ErrorKind::ConnectionRefused {
        format!("{e}; nothing listens there: is {whose} running, and is the port right?")
    } else if e.kind() == io::ErrorKind::TimedOut {
        format!("{e}; no answer: is the host up, and does a firewall stand between?")
    } else {
        e.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logged_url_keeps_no_secrets() {
        let uri: Uri = "wss://user:s3cret@hub.example:4443/ws?token=s3cret".parse().unwrap();
        assert_eq!(loggable_url(&uri), "wss://hub.example:4443/ws");
        assert_eq!(with_scheme(&uri, "ws"), "ws://hub.example:4443/ws");
    }
}
