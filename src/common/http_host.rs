//! Where a request goes (`Host`) and which page it comes from (`Origin`), as values that compare as browsers compare them.
//! It resolves no name, and does not decide who may come in.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The host in a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostName {
    /// An IP address.
    Address(IpAddr),
    /// A name, in lower case and without the dot of the root.
    Name(String),
}

impl HostName {
    /// Parses the host of a URL: an IPv6 address stands in brackets. `None` for what no browser sends as one, such as
    /// `2130706433` and `0x7f.1`, which it reads as IPv4 addresses and writes with four numbers.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            // A zone says which network card leads there, and is no part of the address.
            let address = inner.split('%').next().unwrap_or_default();
            return address.parse::<Ipv6Addr>().ok().map(|address| Self::Address(address.into()));
        }
        let text = text.strip_suffix('.').unwrap_or(text);
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Some(Self::Address(address.into()));
        }
        let is_label = |label: &str| {
            !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        let is_name = text.split('.').all(is_label) && !text.rsplit('.').next().is_some_and(is_number);
        is_name.then(|| Self::Name(text.to_ascii_lowercase()))
    }

    /// Returns whether the DNS decides where the host is. An address is where it says, and browsers take `localhost` and
    /// the names below it to be this machine without asking.
    pub fn is_in_dns(&self) -> bool {
        match self {
            Self::Address(_) => false,
            Self::Name(name) => name != "localhost" && !name.ends_with(".localhost"),
        }
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Returns whether browsers take a host that ends in this label for an IPv4 address.
fn is_number(label: &str) -> bool {
    let in_hex = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    label.bytes().all(|byte| byte.is_ascii_digit())
        || in_hex.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// A host with its port, as in a `Host` header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// The host.
    pub host: HostName,
    /// The port, if one is named.
    pub port: Option<u16>,
}

impl Authority {
    /// Parses `host` or `host:port`. `None` for anything else, also with a user's name in it.
    pub fn parse(text: &str) -> Option<Self> {
        let end = if text.starts_with('[') { text.find(']')? + 1 } else { text.find(':').unwrap_or(text.len()) };
        let (host, port) = text.split_at(end);
        let port = match port.strip_prefix(':') {
            Some("") => None,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
            Some(_) => return None,
            None if port.is_empty() => None,
            None => return None,
        };
        Some(Self { host: HostName::parse(host)?, port })
    }
}

/// The origin of web pages: scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebOrigin {
    /// Whether the scheme is `https`, and not `http`.
    pub tls: bool,
    /// The host.
    pub host: HostName,
    /// The port, also where it is the scheme's own.
    pub port: u16,
}

impl WebOrigin {
    /// Parses an `Origin` header, or a URL without anything after its port. `None` for `null`, and for pages that did not
    /// come over HTTP.
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let Authority { host, port } = Authority::parse(authority)?;
        Some(Self { tls, host, port: port.unwrap_or_else(|| port_of(tls)) })
    }

    /// Returns the host, with its port where that is not the scheme's own.
    pub fn authority(&self) -> String {
        let Self { tls, host, port } = self;
        if *port == port_of(*tls) { host.to_string() } else { format!("{host}:{port}") }
    }

    /// Returns whether a page of this origin that asks where it comes from names this authority as the host.
    pub fn is_at(&self, authority: &Authority) -> bool {
        self.host == authority.host && self.port == authority.port.unwrap_or_else(|| port_of(self.tls))
    }
}

/// Returns the port of a scheme.
fn port_of(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_in_dns(host: &str) -> Option<bool> {
        Authority::parse(host).map(|authority| authority.host.is_in_dns())
    }

    #[test]
    fn an_address_and_localhost_are_where_they_say() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:4000",
            "127.0.0.1.",
            "10.0.0.1:",
            "[::1]",
            "[::1]:4000",
            "[fe80::1%25eth0]:1",
            "[fe80::1%eth0]",
            "[::ffff:127.0.0.1]:1",
            "[::ffff:7f00:1]",
            "localhost",
            "LocalHost:4000",
            "localhost.:1",
            "a.b.localhost",
            "A.LOCALHOST.",
        ] {
            assert_eq!(is_in_dns(host), Some(false), "{host}");
        }
    }

    #[test]
    fn any_other_name_is_where_the_dns_says() {
        for host in [
            "evil.test",
            "127.0.0.1.evil.com",
            "localhost.evil.com",
            "notlocalhost",
            "localhost.localdomain",
            "hub_backend",
            "hub:1",
            "1e100.net",
            "xn--lcalhost-54a",
            "127.0.0.1-evil.com",
            "0x7g",
        ] {
            assert_eq!(is_in_dns(host), Some(true), "{host}");
        }
    }

    #[test]
    fn what_no_browser_sends_is_no_host() {
        for host in [
            "",
            ":",
            ":4000",
            ".",
            "..",
            ".localhost",
            "a..localhost",
            "localhost..",
            "2130706433",
            "0x7f.1",
            "127.1",
            "0x7f000001",
            "0177.0.0.1",
            "256.0.0.1",
            "127.0.0.1.1",
            "0x",
            "a.0X",
            "::1",
            "::1:4000",
            "[::1",
            "[::1]x",
            "[::1]:x",
            "[127.0.0.1]",
            "[localhost]",
            "[]",
            "[%1]",
            "localhost:x",
            "localhost:+1",
            "localhost:-1",
            "localhost:99999",
            "localhost:1:2",
            "evil.test@localhost",
            "user@localhost",
            "evil.test/.localhost",
            "evil.test#.localhost",
            "evil.test\\.localhost",
            "localhost, evil.test",
            "localhost evil.test",
            "*.localhost",
            "l%6fcalhost",
            "löcalhost",
            "localhost\u{0}",
        ] {
            assert_eq!(is_in_dns(host), None, "{host}");
        }
    }

    #[test]
    fn an_origin_is_compared_by_scheme_host_and_port() {
        let is_at = |origin: &str, host: &str| {
            WebOrigin::parse(origin).is_some_and(|origin| origin.is_at(&Authority::parse(host).unwrap()))
        };
        for (origin, host) in [
            ("http://hub.test", "hub.test"),
            ("http://hub.test", "HUB.test:80"),
            ("https://hub.test", "hub.test"),
            ("https://hub.test", "hub.test:443"),
            ("HTTP://Hub.test:4000", "hub.test:4000"),
            ("http://[::1]:1", "[0::1]:1"),
            ("http://hub.test.:4000", "hub.test:4000"),
        ] {
            assert!(is_at(origin, host), "{origin} {host}");
        }
        for (origin, host) in [
            ("http://hub.test", "hub.test:443"),
            ("https://hub.test", "hub.test:80"),
            ("http://hub.test:1", "hub.test:2"),
            ("http://hub.test:4000", "hub.test"),
            ("http://hub.test.evil.com", "hub.test"),
            ("null", "null"),
            ("", "hub.test"),
            ("hub.test", "hub.test"),
            ("//hub.test", "hub.test"),
            ("file://", "hub.test"),
            ("ftp://hub.test", "hub.test"),
            ("chrome-extension://hub.test", "hub.test"),
            ("http://hub.test/", "hub.test"),
            ("http://user@hub.test", "hub.test"),
            ("http://hub.test http://evil.test", "hub.test"),
            (" http://hub.test", "hub.test"),
        ] {
            assert!(!is_at(origin, host), "{origin} {host}");
        }
    }
}
