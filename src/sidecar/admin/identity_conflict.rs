//! Another sidecar that uses this agent's identity, as the hub's close frames name it: for operators; no decision depends
//! on it.
//!
//! A process has one connection at a time. So whoever made the hub end this one's current connection in favour of
//! another is another process.

use crate::machine::Timestamp;
use crate::protocol::{RECENT_CONFLICT_MS, Rival};

/// What to do about another sidecar with the same identity, and where it usually comes from.
pub(crate) const REMEDY: &str = "stop one of the two, or give one a name of its own (agentcom-sidecar onboard --hub URL \
                                 --name NAME); the usual causes: this folder was copied, or two machines have one \
                                 config.json";

/// What this process knows of another sidecar with its identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IdentityConflict {
    /// The other's address, as the hub named it last.
    pub(crate) address: Option<String>,
    /// The last time that the hub ended a connection in favour of it.
    pub(crate) last_at: Timestamp,
    /// How often that happened.
    pub(crate) times: u64,
}

impl IdentityConflict {
    /// Returns the record after the hub named the rival at `now`.
    pub(crate) fn after(before: Option<Self>, rival: &Rival, now: Timestamp) -> Self {
        let times = before.as_ref().map_or(0, |before| before.times);
        let address = rival.address.clone().or(before.and_then(|before| before.address));
        Self { address, last_at: now, times: times.saturating_add(1) }
    }

    /// Returns whether the other still counts as present.
    pub(crate) fn is_recent(&self, now: Timestamp) -> bool {
        now.since(self.last_at) < RECENT_CONFLICT_MS
    }
}
