//! Time as data. The core reads no clock: the caller passes the time with each event, and it never decreases.

/// Milliseconds since the Unix epoch by the caller's clock (monotonic within one process).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// Creates a timestamp from milliseconds since the epoch.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms)
    }

    /// Returns the milliseconds since the epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Returns the time `ms` later, at most the greatest timestamp.
    pub const fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Returns the time `ms` earlier, not before the epoch.
    pub const fn minus(self, ms: u64) -> Self {
        Self(self.0.saturating_sub(ms))
    }

    /// Returns the time `ms` later, or earlier if that is negative, within what a timestamp can be.
    pub const fn moved_by(self, ms: i64) -> Self {
        Self(self.0.saturating_add_signed(ms))
    }

    /// Returns the milliseconds from `earlier` to this time; 0 if `earlier` is not earlier.
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
        assert_eq!(
            (epoch.moved_by(-1), epoch.plus(7).moved_by(-2), epoch.moved_by(5)),
            (epoch, epoch.plus(5), epoch.plus(5))
        );
    }
}
