//! A limit on log lines: when a whole fleet restarts, the log tells the first of each kind and counts the rest. Pure;
//! the time is that of a clock that nobody sets.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// The time in which lines are counted, in ms.
pub const WINDOW_MS: u64 = 10_000;
/// The number of lines of one kind that are logged in that time.
pub const MAX_LINES: u64 = 20;

/// The lines of the present window.
#[derive(Debug, Default)]
pub struct LogBudget {
    started_at: Option<u64>,
    lines: BTreeMap<&'static str, u64>,
}

impl LogBudget {
    /// Creates a budget of which nothing is used.
    pub const fn new() -> Self {
        Self { started_at: None, lines: BTreeMap::new() }
    }

    /// Counts a line of this kind, and returns whether it is to be logged.
    pub fn permits(&mut self, kind: &'static str, now_ms: u64) -> bool {
        self.started_at.get_or_insert(now_ms);
        let lines = self.lines.entry(kind).or_default();
        *lines += 1;
        *lines <= MAX_LINES
    }

    /// Ends the window if its time is over, and returns the kinds of which lines were left out, with their number.
    pub fn end_window(&mut self, now_ms: u64) -> Vec<(&'static str, u64)> {
        if self.started_at.is_none_or(|started_at| now_ms < started_at + WINDOW_MS) {
            return Vec::new();
        }
        self.started_at = None;
        let lines = std::mem::take(&mut self.lines).into_iter();
        lines.filter_map(|(kind, lines)| Some((kind, lines.checked_sub(MAX_LINES).filter(|left| *left > 0)?))).collect()
    }
}

/// Logs a line of this kind by `line`, within a budget that all connections share, and how many were left out before.
pub(super) fn log_within(budget: &Mutex<LogBudget>, kind: &'static str, now_ms: u64, line: impl FnOnce()) {
    let mut budget = budget.lock().unwrap_or_else(PoisonError::into_inner);
    let left_out = budget.end_window(now_ms);
    let permits = budget.permits(kind, now_ms);
    drop(budget);
    if permits {
        line();
    }
    for (kind, lines) in left_out {
        tracing::warn!(kind, lines, "more like these were left out");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_each_kind_are_logged_and_the_rest_is_counted_once() {
        let mut budget = LogBudget::default();
        let logged = (0..MAX_LINES + 5).filter(|at| budget.permits("back", *at)).count() as u64;
        assert_eq!((logged, budget.permits("overdue", 30)), (MAX_LINES, true));
        assert_eq!(budget.end_window(WINDOW_MS - 1), []);
        assert_eq!(budget.end_window(WINDOW_MS), [("back", 5)]);
        assert_eq!(budget.end_window(2 * WINDOW_MS), []);
    }

    #[test]
    fn a_window_begins_with_its_first_line() {
        let mut budget = LogBudget::default();
        for _ in 0..=MAX_LINES {
            budget.permits("back", 7_000);
        }
        assert_eq!(budget.end_window(WINDOW_MS), []);
        assert_eq!(budget.end_window(7_000 + WINDOW_MS), [("back", 1)]);
        assert!(budget.permits("back", 7_000 + WINDOW_MS));
    }
}
