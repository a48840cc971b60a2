//! Which hosts and which web pages are the hub's own.

use crate::common::http_host::{Authority, WebOrigin};

/// Which hosts and pages are the hub's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnPages {
    /// Whether a host must be one of the hub's: it listens on loopback only, or was told its address.
    pub checks_host: bool,
    /// The address that the hub was told, `--public-url`.
    pub public_url: Option<WebOrigin>,
}

/// What a request names as its host.
pub(super) enum Host {
    /// Nothing, as no browser does.
    Absent,
    /// This.
    Named(Authority),
    /// This text, which is no host.
    Unreadable(String),
}

impl OwnPages {
    /// Returns whether the hub goes by this host.
    pub(super) fn has_host(&self, host: &Host) -> bool {
        match host {
            Host::Absent => true,
            // Its port is that of a proxy, or left out by one.
            Host::Named(named) => {
                !named.host.is_in_dns() || self.public_url.as_ref().is_some_and(|own| own.host == named.host)
            }
            Host::Unreadable(_) => false,
        }
    }

    /// Returns whether a page is the hub's own: of the public address, or of the host that the hub is asked by. A name in
    /// the DNS is proof of that only where hosts are not checked.
    pub(super) fn has_page(&self, origin: &WebOrigin, host: &Host, checks_host: bool) -> bool {
        let is_where_it_asks = match host {
            Host::Named(named) => origin.is_at(named) && !(checks_host && named.host.is_in_dns()),
            Host::Absent | Host::Unreadable(_) => false,
        };
        is_where_it_asks || self.public_url.as_ref() == Some(origin)
    }
}
