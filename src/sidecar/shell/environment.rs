//! What the daemon stands on besides its configuration: dice, the wall clock, threads for blocking work, the way to the
//! hub, and the agent's side. The real one is [`Environment::real`]; a simulation gives another. It decides nothing.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::sidecar::agent::side::{AgentSide, RealAgent};
use crate::sidecar::hub_connection::transport::Connector;
use crate::sidecar::supervisor::look_ahead::LookAhead;

/// Fills a buffer with random bytes; false when there are none.
pub type RandomBytes = Arc<dyn Fn(&mut [u8]) -> bool + Send + Sync>;

/// What the daemon stands on.
pub struct Environment {
    /// Random bytes.
    pub random: RandomBytes,
    /// The wall clock, asked once; ms since the epoch.
    pub now_ms: fn() -> u64,
    /// Whether the journal is written on a thread for blocking work, so that a slow disk does not stop the link.
    pub threads: bool,
    /// The way to the hub, where it is not TCP.
    pub connector: Option<Connector>,
    /// Whether there is a machine around it: signals, pm2's channel, the operators' socket, commands run as tasks.
    pub on_a_machine: bool,
    /// The agent's side.
    pub agent: Box<dyn AgentSide>,
    /// What finds out what would follow, where it is not pm2 and the program at our path.
    pub look_ahead: Option<Arc<dyn LookAhead>>,
}

impl Environment {
    /// The world.
    pub fn real() -> Self {
        Self {
            random: Arc::new(|bytes| getrandom::fill(bytes).is_ok()),
            now_ms: || {
                let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
            },
            threads: true,
            connector: None,
            on_a_machine: true,
            agent: Box::new(RealAgent),
            look_ahead: None,
        }
    }
}
