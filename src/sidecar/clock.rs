//! The daemon's clock, in milliseconds since the epoch. It never goes backwards within one process, even if the
//! system clock is changed.

use std::time::Duration;

use tokio::time::Instant;

use crate::machine::Timestamp;

/// A wall clock that is read once and then advanced by the monotonic clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    started: Instant,
    started_at: Timestamp,
}

impl Clock {
    /// Creates a clock that shows `now_ms` (since the epoch) now.
    pub(crate) fn start_at(now_ms: u64) -> Self {
        Self { started: Instant::now(), started_at: Timestamp::from_millis(now_ms) }
    }

    /// Returns the current time.
    pub(crate) fn now(&self) -> Timestamp {
        let ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.started_at.plus(ms)
    }

    /// Returns the runtime's instant for `at`; for times before the start, the start.
    ///
    /// At most one day ahead: the loop computes it again after that.
    pub(crate) fn instant(&self, at: Timestamp) -> Instant {
        let ahead = at.since(self.started_at).min(self.started.elapsed().as_millis() as u64 + 86_400_000);
        self.started + Duration::from_millis(ahead)
    }
}
