//! What a node says of a request that it passes on, and the leader of its answer: headers that begin with
//! `agentcom-cluster-`. No client says or sees any of them.

use std::net::SocketAddr;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use crate::common::http_host::WebOrigin;
use crate::hub::http::browsers::own_pages::OwnPages;
use crate::hub::http::entrance::Entrance;

/// What the names of all these headers begin with.
const PREFIX: &str = "agentcom-cluster-";
/// The secret of the leader's epoch.
pub(super) const SECRET: HeaderName = HeaderName::from_static("agentcom-cluster-secret");
/// The request's origin: [`Forwarded`] as JSON.
pub(super) const FORWARDED: HeaderName = HeaderName::from_static("agentcom-cluster-forwarded");
/// In an answer, the epoch of who gives it.
pub(super) const EPOCH: HeaderName = HeaderName::from_static("agentcom-cluster-epoch");
/// In an answer, that the request brought a valid token.
pub(super) const AUTHENTICATED: HeaderName = HeaderName::from_static("agentcom-cluster-authenticated");

/// Removes all of these headers: those of a client, or those that are not for one.
pub(super) fn strip(headers: &mut HeaderMap) {
    let own: Vec<HeaderName> = headers.keys().filter(|name| name.as_str().starts_with(PREFIX)).cloned().collect();
    for name in own {
        headers.remove(name);
    }
}

/// Who sent a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Client {
    /// Who connected to the node's port from this address.
    Peer(SocketAddr),
    /// The user with this number, at the node's own socket.
    Local(u32),
}

/// Where a request came from, and by which port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Forwarded {
    /// Who sent it.
    pub(super) client: Client,
    /// The address that the port listens on.
    listen: String,
    /// Whether it speaks TLS.
    tls: bool,
    /// Whether a host must be one of the node's.
    checks_host: bool,
    /// The address that the node was told, `--public-url`.
    public_url: Option<String>,
}

impl Forwarded {
    /// Describes a request of this client, by this entrance.
    pub(super) fn new(client: Client, Entrance { listen, tls, own_pages }: &Entrance) -> Self {
        let url = |origin: &WebOrigin| {
            let scheme = if origin.tls { "https" } else { "http" };
            format!("{scheme}://{}", origin.authority())
        };
        Self {
            client,
            listen: listen.clone(),
            tls: *tls,
            checks_host: own_pages.checks_host,
            public_url: own_pages.public_url.as_ref().map(url),
        }
    }

    /// Returns the entrance; `None` if its address is none.
    pub(super) fn entrance(&self) -> Option<Entrance> {
        let public_url = match &self.public_url {
            Some(url) => Some(WebOrigin::parse(url)?),
            None => None,
        };
        let own_pages = OwnPages { checks_host: self.checks_host, public_url };
        Some(Entrance { listen: self.listen.clone(), tls: self.tls, own_pages })
    }

    /// Returns the value of the header.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        HeaderValue::try_from(serde_json::to_string(self).ok()?).ok()
    }

    /// Reads the header; `None` if it says anything else.
    pub(super) fn read(value: &HeaderValue) -> Option<Self> {
        serde_json::from_slice(value.as_bytes()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_described_as_it_came_in() {
        for (client, public_url) in [
            (Client::Peer("[2001:db8::7]:51234".parse().unwrap()), Some("https://hub.example:8443")),
            (Client::Peer("10.0.0.7:1".parse().unwrap()), Some("http://[::1]:4000")),
            (Client::Local(1_000), None),
        ] {
            let public_url = public_url.map(|url| WebOrigin::parse(url).unwrap());
            let entrance = Entrance::new("10.0.0.1:4000".parse().unwrap(), true, public_url);
            let read = Forwarded::read(&Forwarded::new(client, &entrance).header().unwrap()).unwrap();
            assert_eq!((read.client, read.entrance()), (client, Some(entrance)));
        }
    }

    #[test]
    fn what_is_no_description_is_refused() {
        for text in
            ["", "10.0.0.7:1", "{}", r#"{"client":{"peer":"10.0.0.7"},"listen":"","tls":false,"checks_host":true}"#]
        {
            assert_eq!(Forwarded::read(&HeaderValue::from_static(text)), None, "{text}");
        }
    }

    #[test]
    fn all_of_the_headers_are_removed_and_no_other() {
        let mut headers = HeaderMap::new();
        for name in ["agentcom-cluster-secret", "agentcom-cluster-of-a-later-version", "agentcom-page", "host"] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static("1"));
            headers.append(HeaderName::from_static(name), HeaderValue::from_static("2"));
        }
        strip(&mut headers);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["agentcom-page", "host"]);
    }
}
