//! The daemon's clock. It says milliseconds since the epoch and never goes back within one
//! process, whatever is done to the machine's clock; it does not survive the process.

use std::time::Duration;

use tokio::time::Instant;

use crate::machine::Timestamp;

/// A wall clock that runs on the monotonic one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    started: Instant,
    started_at: Timestamp,
}

impl Clock {
    /// Sets the clock, once; ms since the epoch.
    pub(crate) fn start_at(now_ms: u64) -> Self {
        Self { started: Instant::now(), started_at: Timestamp::from_millis(now_ms) }
    }

    /// Now.
    pub(crate) fn now(&self) -> Timestamp {
        let ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.started_at.plus(ms)
    }

    /// When the runtime's clock shows `at`; for times in the past, the start.
    pub(crate) fn instant(&self, at: Timestamp) -> Instant {
        // A day is as far ahead as anything is awaited in one go: the loop looks again after it.
        let ahead = at.since(self.started_at).min(self.started.elapsed().as_millis() as u64 + 86_400_000);
        self.started + Duration::from_millis(ahead)
    }
}
