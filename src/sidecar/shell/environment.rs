//! What the daemon depends on besides its configuration: random bytes, the wall clock, threads for blocking work, the
//! transport to the hub, and the agent's side. [`Environment::real`] is the real one; a simulation passes another.

use std::sync::Arc;

use crate::common::wall_clock::now_ms;
use crate::sidecar::agent::side::{AgentSide, RealAgent};
use crate::sidecar::hub_connection::transport::Connector;
use crate::sidecar::supervisor::look_ahead::LookAhead;

/// A function that fills a buffer with random bytes and returns false if there are none.
pub type RandomBytes = Arc<dyn Fn(&mut [u8]) -> bool + Send + Sync>;

/// What the daemon depends on besides its configuration.
pub struct Environment {
    /// The source of random bytes.
    pub random: RandomBytes,
    /// The wall clock, read once; ms since the epoch.
    pub now_ms: fn() -> u64,
    /// Whether the journal is written on a thread for blocking work, so that a slow disk does not block the
    /// connection.
    pub threads: bool,
    /// The transport to the hub, if it is not TCP.
    pub connector: Option<Connector>,
    /// Whether the process uses what belongs to a real machine: signals, pm2's channel, the local socket, commands run
    /// as tasks.
    pub on_a_machine: bool,
    /// The adapters on the agent's side.
    pub agent: Box<dyn AgentSide>,
    /// The restart check, if it is not the one that asks pm2 and tries out the program at our path.
    pub look_ahead: Option<Arc<dyn LookAhead>>,
}

impl Environment {
    /// Returns the real environment.
    pub fn real() -> Self {
        Self {
            random: Arc::new(|bytes| getrandom::fill(bytes).is_ok()),
            now_ms,
            threads: true,
            connector: None,
            on_a_machine: true,
            agent: Box::new(RealAgent),
            look_ahead: None,
        }
    }
}
