//! Both clocks of the machine at one moment, as they are stored with each commit: by them a hub that starts finds out how
//! far what is stored has to be moved. Pure but for [`ClockMark::this_boot`].

use std::sync::OnceLock;

use crate::common::steady_clock;

/// Clocks that differ by less than this were not set, in ms.
const TOLERANCE_MS: i64 = 1_000;

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockMark {
    /// The hub's time, in ms since the epoch.
    pub at_ms: u64,
    /// The machine's monotonic clock, in ms.
    pub steady_ms: u64,
    /// The boot of the machine in which that clock goes on, as a number; 0 if it is not known.
    pub boot: u64,
}

impl ClockMark {
    /// Returns the boot of this machine, as a number; 0 if it is not known.
    pub fn this_boot() -> u64 {
        // No process outlives it, and each commit asks.
        static THIS_BOOT: OnceLock<u64> = OnceLock::new();
        *THIS_BOOT.get_or_init(|| {
            let digits = |id: String| id.chars().filter(char::is_ascii_hexdigit).take(16).collect::<String>();
            let number = steady_clock::boot_id().map(digits).and_then(|hex| u64::from_str_radix(&hex, 16).ok());
            number.unwrap_or_default()
        })
    }

    /// Returns how far times that were stored at this moment have to be moved now, in ms.
    ///
    /// Within one boot of the machine that is what the wall clock shows beyond the time that has passed. Across a reboot
    /// nothing tells a clock that leapt from a hub that was down: the time counts as passed, but it never runs back. Either
    /// way no stored wait is longer than it was at this moment.
    pub fn moved_ms(self, now: Self) -> i64 {
        let apart = |at: u64, from: u64| at.cast_signed().saturating_sub(from.cast_signed());
        let shown = apart(now.at_ms, self.at_ms);
        let is_one_boot = self.boot == now.boot && self.boot != 0 && now.steady_ms >= self.steady_ms;
        let step = match is_one_boot {
            true => shown.saturating_sub(apart(now.steady_ms, self.steady_ms)),
            // Two machines of a cluster differ by a little.
            false => shown.min(0),
        };
        if step.abs() < TOLERANCE_MS { 0 } else { step }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const H: u64 = 3_600_000;

    fn mark(at_ms: u64, steady_ms: u64, boot: u64) -> ClockMark {
        ClockMark { at_ms, steady_ms, boot }
    }

    #[test]
    fn within_a_boot_only_what_the_clock_was_set_by_is_moved() {
        let then = mark(100 * H, 5 * H, 7);
        for (at, steady, moved) in [
            (101 * H, 6 * H, 0),
            (101 * H + 999, 6 * H, 0),
            (109 * H, 6 * H, 8 * 3_600_000),
            (93 * H, 6 * H, -8 * 3_600_000),
            (0, 5 * H, -100 * 3_600_000),
        ] {
            assert_eq!(then.moved_ms(mark(at, steady, 7)), moved, "{at} {steady}");
        }
    }

    #[test]
    fn across_a_reboot_time_passes_and_never_runs_back() {
        let then = mark(100 * H, 5 * H, 7);
        for now in [mark(108 * H, 1, 8), mark(108 * H, 5 * H, 0), mark(108 * H, 5 * H - 1, 7)] {
            assert_eq!(then.moved_ms(now), 0, "{now:?}");
        }
        assert_eq!(then.moved_ms(mark(92 * H, 9 * H, 8)), -8 * 3_600_000);
        assert_eq!(mark(u64::MAX / 2, 0, 0).moved_ms(mark(0, 0, 0)), -(u64::MAX / 2).cast_signed());
    }
}
