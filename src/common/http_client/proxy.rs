//! HTTP proxies on the way to a hub: which one the environment names for a URL, by curl's rules, and the tunnel through it
//! (`CONNECT`, RFC 9110, 9.3.6). A proxy's password is in no text that it returns.

use std::ffi::OsString;
use std::net::IpAddr;

use hyper::{StatusCode, Uri};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use crate::common::http_client::addresses::{has_wrong_port, host, is_tls, port};
use crate::common::http_client::head::{HeadError, read_head};
use crate::common::secret::Secret;

/// A proxy for one URL.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// Its address, `http://` or `https://`, without credentials.
    pub uri: Uri,
    /// The environment variable that names it.
    pub variable: &'static str,
    /// `user:password` in base64.
    credentials: Option<Secret>,
}

impl std::fmt::Display for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = self.uri.scheme_str().unwrap_or("http");
        let host = self.uri.host().unwrap_or_default();
        write!(f, "{scheme}://{host}:{} ({})", port(&self.uri), self.variable)
    }
}

/// Where proxies come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Proxies {
    /// Those that this process's environment names.
    #[default]
    OfEnvironment,
    /// There are none: the peer is this machine.
    None,
}

impl Proxies {
    /// Returns the proxy for a URL.
    ///
    /// # Errors
    /// The variable's value is no proxy that can be used.
    pub fn proxy_for(self, uri: &Uri) -> Result<Option<Proxy>, String> {
        match self {
            Self::OfEnvironment => choose(uri, |name| std::env::var_os(name)),
            Self::None => Ok(None),
        }
    }
}

/// Returns the proxy that `env` names for a URL: lower case first, as curl does; none for this machine itself.
fn choose(uri: &Uri, env: impl Fn(&str) -> Option<OsString>) -> Result<Option<Proxy>, String> {
    let value = |names: &[&'static str]| {
        names.iter().find_map(|name| {
            let value = env(name).filter(|value| !value.is_empty())?;
            Some((*name, value.to_string_lossy().trim().to_owned()))
        })
    };
    let names: &[&'static str] = if is_tls(uri) {
        &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]
    } else {
        &["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]
    };
    let Some((variable, text)) = value(names) else { return Ok(None) };
    let exempt = value(&["no_proxy", "NO_PROXY"]).map(|(_, list)| list).unwrap_or_default();
    if is_this_machine(host(uri)) || is_exempt(&exempt, host(uri), port(uri)) {
        return Ok(None);
    }
    parse(variable, &text).map(Some)
}

/// Returns whether the host is this machine, which no proxy reaches.
fn is_this_machine(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn parse(variable: &'static str, text: &str) -> Result<Proxy, String> {
    let wrong = |found: &str| {
        Err(format!("{variable} in the environment is {found}; a proxy is given as http://[USER:PASSWORD@]HOST:PORT"))
    };
    let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let Ok(uri) = text.parse::<Uri>() else { return wrong("no address") };
    match uri.scheme_str() {
        Some("http" | "https") => {}
        Some(other) => return wrong(&format!("a proxy of a kind that is not supported, {other}://")),
        None => return wrong("no address"),
    }
    let Some(authority) = uri.authority().filter(|authority| !authority.host().is_empty()) else {
        return wrong("an address without a host");
    };
    if text.contains('#') || uri.path_and_query().is_some_and(|rest| rest.as_str() != "/") {
        return wrong("an address with more after its host and port (in a password: %23 for #, %2F for /, %3F for ?)");
    }
    if has_wrong_port(&uri) {
        return wrong("an address whose port is none from 1 to 65535");
    }
    let (user, place) = match authority.as_str().rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, authority.as_str()),
    };
    let credentials = user.map(|user| {
        let (name, password) = user.split_once(':').unwrap_or((user, ""));
        let pair = [percent_decoded(name), vec![b':'], percent_decoded(password)].concat();
        Secret::new(data_encoding::BASE64.encode(&pair))
    });
    let scheme = uri.scheme_str().unwrap_or("http");
    match format!("{scheme}://{place}").parse() {
        Ok(uri) => Ok(Proxy { uri, variable, credentials }),
        Err(_) => wrong("no address"),
    }
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|_| *first == b'%');
        match hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                rest = &after[2..];
            }
            None => {
                decoded.push(*first);
                rest = after;
            }
        }
    }
    decoded
}

/// Returns whether `list` (`NO_PROXY`) exempts a host: `*`, a name with all below it, an address, or a network
/// (`10.0.0.0/8`); each with a port or for all of them. Entries are separated by commas or white space.
fn is_exempt(list: &str, host: &str, port: u16) -> bool {
    let entries = list.split(|c: char| c == ',' || c.is_whitespace()).filter(|entry| !entry.is_empty());
    entries.into_iter().any(|entry| matches_entry(entry, host, port))
}

fn matches_entry(entry: &str, host: &str, port: u16) -> bool {
    if entry == "*" {
        return true;
    }
    let (place, entry_port) = split_port(entry);
    if entry_port.is_some_and(|one| one != port) {
        return false;
    }
    if let Ok(address) = host.parse::<IpAddr>() {
        return is_in_network(place, address);
    }
    let (place, host) = (place.trim_start_matches("*.").trim_matches('.'), host.trim_end_matches('.'));
    let at = host.len().checked_sub(place.len());
    let is_below = |at: usize| at == 0 || host.as_bytes()[at - 1] == b'.';
    !place.is_empty()
        && at.is_some_and(|at| host.is_char_boundary(at) && host[at..].eq_ignore_ascii_case(place) && is_below(at))
}

/// Splits `host:port`; an IPv6 address with a port is in brackets.
fn split_port(entry: &str) -> (&str, Option<u16>) {
    if let Some((inside, after)) = entry.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (inside, after.strip_prefix(':').and_then(|port| port.parse().ok()));
    }
    match entry.rsplit_once(':') {
        Some((place, number)) if !place.contains(':') => match number.parse() {
            Ok(number) => (place, Some(number)),
            Err(_) => (entry, None),
        },
        Some(_) | None => (entry, None),
    }
}

/// Returns whether the address is `network`, or in it: `10.0.0.0/8`, `fd00::/8`.
fn is_in_network(network: &str, address: IpAddr) -> bool {
    let (base, length) = match network.split_once('/') {
        Some((base, length)) => (base, length.parse().ok()),
        None => (network, Some(u32::MAX)),
    };
    let (Ok(base), Some(length)) = (base.parse::<IpAddr>(), length) else { return false };
    let (width, one, other) = match (base, address) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (32, u128::from(one.to_bits()), u128::from(other.to_bits())),
        (IpAddr::V6(one), IpAddr::V6(other)) => (128, one.to_bits(), other.to_bits()),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
    };
    // The shift of a network of length 0 is the whole width.
    (one ^ other).checked_shr(width - length.min(width)).unwrap_or(0) == 0
}

/// Asks the proxy at the other end of `stream` for a tunnel to the URL's host and port.
///
/// # Errors
/// Why there is none, and what to do.
pub async fn tunnel<S>(stream: &mut S, proxy: &Proxy, uri: &Uri) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let target = match host(uri) {
        v6 if v6.contains(':') => format!("[{v6}]:{}", port(uri)),
        name => format!("{name}:{}", port(uri)),
    };
    let authorization = match &proxy.credentials {
        Some(credentials) => format!("Proxy-Authorization: Basic {}\r\n", credentials.expose()),
        None => String::new(),
    };
    let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization}\r\n");
    let head = match stream.write_all(request.as_bytes()).await {
        Ok(()) => read_head(stream).await,
        Err(error) => Err(HeadError::Io(error)),
    };
    let head = head
        .map_err(|why| format!("the proxy {proxy} did not open a tunnel to {target}: {why}; is it an HTTP proxy?"))?;
    if head.status.is_success() && head.rest.is_empty() {
        return Ok(());
    }
    let advice = advice_for(head.status, proxy, host(uri));
    Err(format!("the proxy {proxy} refused a tunnel to {target} with HTTP {}; {advice}", head.status))
}

fn advice_for(status: StatusCode, proxy: &Proxy, host: &str) -> String {
    let variable = proxy.variable;
    if status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
        match proxy.credentials {
            Some(_) => format!("correct the user and password in {variable} (characters such as @ as %40)"),
            None => format!("it wants credentials: write them into {variable} as http://USER:PASSWORD@HOST:PORT"),
        }
    } else if status.is_success() {
        format!("what it sent after its answer is no tunnel: is {variable} an HTTP proxy?")
    } else if status.is_server_error() {
        format!(
            "it cannot reach the hub: is the hub up? If the hub is to be reached without it, add {host} to NO_PROXY"
        )
    } else {
        format!("have it allow the hub, or, if the hub is to be reached without it, add {host} to NO_PROXY")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(url: &str, env: &[(&str, &str)]) -> Result<Option<String>, String> {
        let uri: Uri = url.parse().unwrap();
        let found = choose(&uri, |name| env.iter().find(|(one, _)| *one == name).map(|(_, value)| value.into()))?;
        Ok(found.map(|proxy| proxy.to_string()))
    }

    #[test]
    fn the_scheme_says_which_variable_counts() {
        let env = [("HTTPS_PROXY", "http://a:1"), ("http_proxy", "b:2"), ("HTTP_PROXY", "http://c:3")];
        assert_eq!(chosen("wss://hub.example/ws", &env).unwrap().unwrap(), "http://a:1 (HTTPS_PROXY)");
        assert_eq!(chosen("ws://hub.example/ws", &env).unwrap().unwrap(), "http://b:2 (http_proxy)");
        assert_eq!(chosen("wss://h/ws", &[("ALL_PROXY", "https://p")]).unwrap().unwrap(), "https://p:443 (ALL_PROXY)");
        assert_eq!(chosen("wss://h/ws", &[("HTTPS_PROXY", "")]).unwrap(), None);
        for own in ["ws://localhost:1/ws", "ws://127.0.0.1:1/ws", "ws://[::1]:1/ws"] {
            assert_eq!(chosen(own, &env).unwrap(), None, "{own}");
        }
    }

    #[test]
    fn a_proxy_that_cannot_be_used_is_named_without_its_password() {
        let socks = chosen("wss://h/ws", &[("ALL_PROXY", "socks5://me:hunter2@p:1080")]).unwrap_err();
        assert!(socks.contains("ALL_PROXY") && socks.contains("socks5://") && !socks.contains("hunter2"), "{socks}");
        assert!(chosen("wss://h/ws", &[("HTTPS_PROXY", "http://")]).unwrap_err().contains("HTTPS_PROXY"));
        for wrong in ["http://me:1#hunter2@p:1", "http://me:1/hunter2@p:1", "http://me:1?hunter2@p:1"] {
            let why = chosen("wss://h/ws", &[("HTTPS_PROXY", wrong)]).unwrap_err();
            assert!(why.contains("more after its host") && !why.contains("hunter2"), "{why}");
        }
        assert!(chosen("wss://h/ws", &[("HTTPS_PROXY", "http://p:99999")]).unwrap_err().contains("whose port is none"));
        assert_eq!(
            chosen("wss://h/ws", &[("HTTPS_PROXY", "http://p/")]).unwrap().unwrap(),
            "http://p:80 (HTTPS_PROXY)"
        );
        let shown = chosen("wss://h/ws", &[("HTTPS_PROXY", "http://me:hunter2@p:3128")]).unwrap().unwrap();
        assert_eq!(shown, "http://p:3128 (HTTPS_PROXY)");
    }

    #[test]
    fn credentials_are_percent_decoded() {
        let proxy = parse("HTTPS_PROXY", "http://me:p%40ss@p:3128").unwrap();
        assert_eq!(proxy.credentials.unwrap().expose(), data_encoding::BASE64.encode(b"me:p@ss"));
    }

    #[test]
    fn no_proxy_is_read_as_curl_does() {
        for (list, host, port, expected) in [
            ("*", "hub.example", 1, true),
            ("example", "hub.example", 1, true),
            (".example", "hub.example", 1, true),
            ("*.example", "hub.example", 1, true),
            ("a.test, HUB.EXAMPLE", "hub.example", 1, true),
            ("ub.example", "hub.example", 1, false),
            ("hub.example.org", "hub.example", 1, false),
            ("hub.example:4000", "hub.example", 4000, true),
            ("hub.example:4000", "hub.example", 4001, false),
            ("10.0.0.0/8", "10.9.8.7", 1, true),
            ("10.0.0.0/8", "11.0.0.1", 1, false),
            ("0.0.0.0/0", "11.0.0.1", 1, true),
            ("10.1.2.3", "10.1.2.3", 1, true),
            ("10.1.2.3:80", "10.1.2.3", 443, false),
            ("fd00::/8", "fd12::1", 1, true),
            ("[fd12::1]:443", "fd12::1", 443, true),
            ("fd12::1", "fd12::2", 1, false),
            ("", "hub.example", 1, false),
        ] {
            assert_eq!(is_exempt(list, host, port), expected, "{list} {host}:{port}");
        }
    }
}
