//! The addresses of a hub: its HTTP address and its WebSocket address, each derived from the other, and paths below them.
//! It resolves no names.

use hyper::Uri;

use crate::common::http_client::addresses::has_wrong_port;

/// The accepted forms, for error messages.
const ALLOWED: &str = "an address such as http://localhost:4000, https://hub.example or ws://localhost:4000/ws";

/// The HTTP address and the WebSocket address of one hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubAddress {
    /// The HTTP address, `http://` or `https://`, without a trailing slash.
    pub http: String,
    /// The WebSocket address, `ws://` or `wss://`, with its path.
    pub ws: String,
}

impl HubAddress {
    /// Derives both addresses from either one. For `http://host/base` the WebSocket is `ws://host/base/ws`. For a
    /// WebSocket address that ends in `/ws` the HTTP address is the part before it, for any other the host alone.
    ///
    /// # Errors
    /// Returns a text with what was found and what is allowed. A password in the address is not quoted.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.contains('@') {
            return Err(format!("found an address with credentials in it; allowed: {ALLOWED}"));
        }
        let wrong = |why: &str| Err(format!("found \"{text}\"{why}; allowed: {ALLOWED}"));
        let Ok(uri) = text.parse::<Uri>() else { return wrong("") };
        let host = uri.authority().filter(|authority| !authority.host().is_empty());
        let Some(host) = host else { return wrong(", which names no host") };
        if has_wrong_port(&uri) {
            return wrong(", whose port is none from 1 to 65535");
        }
        if uri.query().is_some() {
            return wrong(", which has a `?` in it");
        }
        let path = uri.path().trim_end_matches('/');
        let (tls, given_ws) = match uri.scheme_str() {
            Some("http") => (false, false),
            Some("https") => (true, false),
            Some("ws") => (false, true),
            Some("wss") => (true, true),
            Some(_) | None => return wrong(""),
        };
        let (http, ws) = if tls { ("https", "wss") } else { ("http", "ws") };
        let (base, socket) = match (given_ws, path.strip_suffix("/ws")) {
            (false, _) => (path.to_owned(), format!("{path}/ws")),
            (true, Some(base)) => (base.to_owned(), path.to_owned()),
            (true, None) if path.is_empty() => (String::new(), "/ws".to_owned()),
            (true, None) => (String::new(), path.to_owned()),
        };
        Ok(Self { http: format!("{http}://{host}{base}"), ws: format!("{ws}://{host}{socket}") })
    }
}

/// Returns `segment` percent-encoded as one segment of a URL's path (RFC 3986).
pub fn percent_encoded(segment: &str) -> String {
    use std::fmt::Write as _;
    segment.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            text.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(text: &str) -> (String, String) {
        let HubAddress { http, ws } = HubAddress::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
        (http, ws)
    }

    #[test]
    fn each_address_is_derived_from_the_other() {
        let local = ("http://localhost:4000".to_owned(), "ws://localhost:4000/ws".to_owned());
        for text in ["http://localhost:4000", "http://localhost:4000/", "ws://localhost:4000/ws", "ws://localhost:4000"]
        {
            assert_eq!(both(text), local, "{text}");
        }
        let safe = ("https://hub.example".to_owned(), "wss://hub.example/ws".to_owned());
        assert_eq!(both("https://hub.example"), safe);
        assert_eq!(both("wss://hub.example/ws/"), safe);
    }

    #[test]
    fn a_base_path_is_kept() {
        let based = ("https://h/agents".to_owned(), "wss://h/agents/ws".to_owned());
        assert_eq!(both("https://h/agents/"), based);
        assert_eq!(both("wss://h/agents/ws"), based);
        assert_eq!(
            both("ws://[::1]:4000/socket"),
            ("http://[::1]:4000".to_owned(), "ws://[::1]:4000/socket".to_owned())
        );
    }

    #[test]
    fn what_is_no_address_is_said_with_what_is_allowed() {
        for text in [
            "",
            "hub",
            "hub:4000",
            "ftp://hub",
            "http://",
            "http:///x",
            "http://h?token=x",
            "http://h:99999",
            "ws://a b/ws",
        ] {
            let why = HubAddress::parse(text).unwrap_err();
            assert!(why.contains("allowed: an address such as"), "{text}: {why}");
        }
    }

    #[test]
    fn a_password_is_not_quoted() {
        assert!(!HubAddress::parse("http://me:hunter2@hub").unwrap_err().contains("hunter2"));
    }

    #[test]
    fn a_name_is_one_segment_whatever_is_in_it() {
        assert_eq!(percent_encoded("my-agent_1.x"), "my-agent_1.x");
        assert_eq!(percent_encoded("a/b ?ä"), "a%2Fb%20%3F%C3%A4");
    }
}
