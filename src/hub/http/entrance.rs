//! Where requests come in, as far as it matters to those who judge and answer them: this hub's own port, or that of the node
//! of a cluster that passes a request on.

use std::net::SocketAddr;

use crate::common::http_host::WebOrigin;
use crate::hub::http::browsers::own_pages::OwnPages;

/// A port that clients ask at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entrance {
    /// The address that it listens on, used for callers that sent no `Host`.
    pub listen: String,
    /// Whether it speaks TLS.
    pub tls: bool,
    /// The hosts and pages that are its own.
    pub own_pages: OwnPages,
}

impl Entrance {
    /// Creates the entrance of a port.
    pub fn new(address: SocketAddr, tls: bool, public_url: Option<WebOrigin>) -> Self {
        let checks_host = address.ip().to_canonical().is_loopback() || public_url.is_some();
        Self { listen: address.to_string(), tls, own_pages: OwnPages { checks_host, public_url } }
    }
}
