//! What the machine says at one moment: which boot of it this is, how long it has been up, and how many processes of this
//! cgroup the kernel has killed for memory.

use crate::common::wall_clock::now_ms;
use crate::sidecar::oom_counter::OomCounter;
use crate::sidecar::supervisor::pm2::{machine_boot_id, machine_uptime_ms};

/// What the machine says at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The wall clock, in ms since the epoch.
    pub(crate) now_ms: u64,
    /// The machine's (or the container's) boot.
    pub(crate) machine_boot: Option<String>,
    /// The time since that boot, suspended time included, in ms.
    pub(crate) uptime_ms: Option<u64>,
    /// The number of processes of this cgroup that were killed for memory.
    pub(crate) oom_kills: Option<u64>,
}

impl Facts {
    /// Reads them. What the system does not say is `None`.
    pub(crate) fn read() -> Self {
        Self {
            now_ms: now_ms(),
            machine_boot: machine_boot_id(),
            uptime_ms: machine_uptime_ms(),
            oom_kills: OomCounter::of_this_process().and_then(|counter| counter.read()),
        }
    }
}
