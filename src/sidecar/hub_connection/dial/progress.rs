//! What a dial is doing at this moment, for operators. No decision depends on it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::common::http_client::addresses::Attempt;
use crate::common::http_client::route::Step;

/// What a dial has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The end of the connection before is awaited.
    Begins,
    /// A name is looked up.
    LooksUp {
        /// The host.
        host: String,
    },
    /// Addresses are dialled, this one last.
    Connects {
        /// The address.
        attempt: Attempt,
    },
    /// The proxy is asked for a tunnel.
    AsksProxy,
    /// There is a connection to an address: the hub's, or the proxy's.
    Connected,
    /// The TLS handshake is under way.
    SpeaksTls,
    /// The answer to the upgrade is awaited.
    Upgrades,
    /// The WebSocket is open.
    Open,
}

/// The state of the last dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DialState {
    /// When it began.
    pub(crate) began: Instant,
    /// What it has come to.
    pub(crate) stage: Stage,
    /// The proxy on the way, without its credentials, and the variable that names it.
    pub(crate) proxy: Option<String>,
    /// The last address that was dialled.
    pub(crate) attempt: Option<Attempt>,
    /// The address that there is a connection to: the hub's, or the proxy's.
    pub(crate) peer: Option<SocketAddr>,
    /// The address at which the dial before came no further: others are tried before it.
    dead_end: Option<SocketAddr>,
}

impl DialState {
    fn new() -> Self {
        Self { began: Instant::now(), stage: Stage::Begins, proxy: None, attempt: None, peer: None, dead_end: None }
    }
}

impl fmt::Display for DialState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with_peer = |f: &mut fmt::Formatter<'_>, what: &str, word: &str| match self.peer {
            Some(peer) => write!(f, "{what} {word} {peer}"),
            None => f.write_str(what),
        };
        match &self.stage {
            Stage::Begins => f.write_str("begins to dial")?,
            Stage::LooksUp { host } => write!(f, "looking up {host}")?,
            Stage::Connects { attempt: Attempt { address, of: 1, .. } } => write!(f, "dialing {address}")?,
            Stage::Connects { attempt: Attempt { address, number, of } } => {
                write!(f, "dialing {address} ({number} of {of})")?;
            }
            Stage::AsksProxy => f.write_str("asking for a tunnel")?,
            Stage::SpeaksTls => with_peer(f, "in the TLS handshake", "with")?,
            Stage::Upgrades => with_peer(f, "opening the WebSocket", "at")?,
            Stage::Connected | Stage::Open => with_peer(f, "connected", "to")?,
        }
        match &self.proxy {
            Some(proxy) => write!(f, ", through the proxy {proxy}"),
            None => Ok(()),
        }
    }
}

/// Publishes the state of the dial; none before the first one.
#[derive(Debug, Clone)]
pub(crate) struct Progress(Arc<watch::Sender<Option<DialState>>>);

impl Progress {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::channel(None).0))
    }

    /// Returns the receiver of the states.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<DialState>> {
        self.0.subscribe()
    }

    /// Publishes that another dial begins.
    pub(crate) fn begin(&self) {
        self.0.send_modify(|state| {
            let dead_end = state.as_ref().filter(|last| last.stage != Stage::Open).and_then(|last| last.peer);
            *state = Some(DialState { dead_end, ..DialState::new() });
        });
    }

    /// Returns the address at which the dial before this one came no further.
    pub(super) fn dead_end(&self) -> Option<SocketAddr> {
        self.0.borrow().as_ref().and_then(|state| state.dead_end)
    }

    /// Publishes that there is a connection to this address.
    pub(super) fn connected(&self, address: SocketAddr) {
        self.change(|state| (state.stage, state.peer) = (Stage::Connected, Some(address)));
    }

    /// Publishes what the dial has come to.
    pub(crate) fn reached(&self, stage: Stage) {
        self.change(|state| state.stage = stage);
    }

    /// Publishes a step on the way to the hub's port.
    pub(super) fn step(&self, step: Step<'_>) {
        self.change(|state| {
            let by = match step {
                Step::LooksUp { host, proxy } => {
                    state.stage = Stage::LooksUp { host: host.to_owned() };
                    proxy
                }
                Step::Connects { attempt, proxy } => {
                    (state.stage, state.attempt) = (Stage::Connects { attempt }, Some(attempt));
                    proxy
                }
                Step::AsksProxy { proxy } => {
                    state.stage = Stage::AsksProxy;
                    Some(proxy)
                }
            };
            state.proxy = by.map(ToString::to_string);
        });
    }

    fn change(&self, change: impl FnOnce(&mut DialState)) {
        self.0.send_modify(|state| change(state.get_or_insert_with(DialState::new)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stage_says_what_is_dialled() {
        let progress = Progress::new();
        let shown = || progress.subscribe().borrow().as_ref().map(ToString::to_string).unwrap_or_default();
        assert_eq!(shown(), "");
        progress.begin();
        assert_eq!(shown(), "begins to dial");
        progress.step(Step::LooksUp { host: "hub.example", proxy: None });
        assert_eq!(shown(), "looking up hub.example");
        let address = "192.0.2.1:443".parse().unwrap();
        progress.step(Step::Connects { attempt: Attempt { address, number: 2, of: 4 }, proxy: None });
        assert_eq!(shown(), "dialing 192.0.2.1:443 (2 of 4)");
        progress.connected(address);
        progress.reached(Stage::SpeaksTls);
        assert_eq!(shown(), "in the TLS handshake with 192.0.2.1:443");
        progress.reached(Stage::Upgrades);
        assert_eq!(shown(), "opening the WebSocket at 192.0.2.1:443");
        progress.begin();
        assert_eq!(progress.dead_end(), Some(address), "it did not open");
        progress.connected(address);
        progress.reached(Stage::Open);
        progress.begin();
        assert_eq!(progress.dead_end(), None);
    }
}
