//! The time limit for a task.

use crate::machine::model::time::Timestamp;

/// The time limit for a task in hand. The operator is warned at half of it; at its end the task fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TimeLimit {
    /// The limit in ms.
    pub limit_ms: u64,
    /// When the task fails.
    pub until: Timestamp,
    /// Whether half of it is over and was told.
    pub warned: bool,
}

impl TimeLimit {
    /// Returns a limit that begins now.
    pub fn new(limit_ms: u64, now: Timestamp) -> Self {
        Self { limit_ms, until: now.plus(limit_ms), warned: false }
    }

    /// Returns what is due next: the warning or the end.
    pub(in crate::machine) fn next(&self) -> Timestamp {
        if self.warned { self.until } else { self.until.minus(self.limit_ms / 2) }
    }

    /// Returns the limit of work that goes on under an assignment: its files are looked for until `look`, and what was due
    /// while it was not in hand is not told any more.
    pub(in crate::machine) fn settle(self, now: Timestamp, look: Timestamp) -> Self {
        Self { until: self.until.max(look), warned: self.warned || self.next() <= now, ..self }
    }

    /// Returns the limit after a crash, no longer than one that begins now: the clock may have been set back.
    pub(in crate::machine) fn after_crash(self, now: Timestamp) -> Self {
        Self { until: self.until.min(now.plus(self.limit_ms)), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    #[test]
    fn the_warning_comes_at_half_and_the_end_at_the_whole() {
        let limit = TimeLimit::new(1_000, NOW);
        assert_eq!(limit.next(), NOW.plus(500));
        assert_eq!(TimeLimit { warned: true, ..limit }.next(), NOW.plus(1_000));
    }

    #[test]
    fn a_clock_that_was_set_back_prolongs_no_limit() {
        let limit = TimeLimit::new(1_000, NOW.plus(9_000_000));
        assert_eq!(limit.after_crash(NOW).until, NOW.plus(1_000));
        assert_eq!(limit.after_crash(NOW.plus(9_000_500)).until, limit.until);
    }

    #[test]
    fn work_that_is_taken_up_after_its_time_is_looked_for_first() {
        let (limit, look) = (TimeLimit::new(1_000, NOW), NOW.plus(9_000));
        assert_eq!(limit.settle(NOW.plus(7_000), look), TimeLimit { until: look, warned: true, ..limit });
        assert_eq!(limit.settle(NOW.plus(1), NOW.plus(2)), limit);
    }
}
