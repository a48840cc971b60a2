//! The daemon's clock, in milliseconds since the epoch. It never goes backwards within one process, even if the
//! system clock is changed: what is measured by it lasts as long as it should. Only what is shown follows the system clock.

use std::time::Duration;

use tokio::time::Instant;

use crate::machine::Timestamp;

/// The clock and the wall clock that differ by less than this are shown as one, in ms.
const TOLERANCE_MS: u64 = 1_000;

/// A wall clock that is read once and then advanced by the monotonic clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    started: Instant,
    started_at: Timestamp,
    wall_ms: fn() -> u64,
}

impl Clock {
    /// Creates a clock that shows what `wall_ms` (since the epoch) says now.
    pub(crate) fn start(wall_ms: fn() -> u64) -> Self {
        Self { started: Instant::now(), started_at: Timestamp::from_millis(wall_ms()), wall_ms }
    }

    /// Returns a time of this clock as the wall clock tells it, in ms since the epoch: that may have been set since the
    /// start, or the machine suspended.
    pub(crate) fn shown(&self, at_ms: u64) -> u64 {
        let (now_ms, wall_ms) = (self.now().as_millis(), (self.wall_ms)());
        match now_ms.abs_diff(wall_ms) < TOLERANCE_MS {
            true => at_ms,
            false => at_ms.saturating_add_signed(wall_ms.cast_signed().saturating_sub(now_ms.cast_signed())),
        }
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_changes_what_is_shown_and_nothing_that_is_measured() {
        static WALL_MS: AtomicU64 = AtomicU64::new(50_000_000);
        let clock = Clock::start(|| WALL_MS.load(Ordering::SeqCst));
        let began = clock.now();
        tokio::time::advance(Duration::from_millis(700)).await;
        assert_eq!((clock.now().since(began), clock.shown(50_000_500)), (700, 50_000_500));
        for (set_to, shown) in
            [(50_000_700 + 8 * 3_600_000, 50_000_500 + 8 * 3_600_000), (0, 0), (50_000_700, 50_000_500)]
        {
            WALL_MS.store(set_to, Ordering::SeqCst);
            assert_eq!((clock.now().since(began), clock.shown(50_000_500)), (700, shown));
        }
    }
}
