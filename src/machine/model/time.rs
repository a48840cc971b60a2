//! Time as data. Nothing here reads a clock: the shell says what time it is, and never says an earlier one later.

/// Milliseconds since the Unix epoch, as the shell's clock counts them (monotonic within one process).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The given milliseconds since the epoch.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// `ms` later; saturates at the end of time, which is never reached.
    pub const fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// `ms` earlier, not before the epoch.
    pub const fn minus(self, ms: u64) -> Self {
        Self(self.0.saturating_sub(ms))
    }

    /// Milliseconds from `earlier` to here; 0 if it is not earlier.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_saturates_at_both_ends() {
        let (epoch, end) = (Timestamp::from_millis(0), Timestamp::from_millis(u64::MAX));
        assert_eq!((epoch.minus(1), end.plus(1)), (epoch, end));
        assert_eq!((epoch.since(end), end.since(epoch)), (0, u64::MAX));
        assert_eq!(epoch.plus(7).minus(2).as_millis(), 5);
    }
}
