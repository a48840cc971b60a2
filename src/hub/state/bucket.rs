//! A limit on how often something happens: so many at once, then one each time that a pause has passed. Pure.

/// How often something may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How often it may happen at once.
    pub at_once: u64,
    /// The pause after which it may happen once more, in ms; at least 1.
    pub pause_ms: u64,
}

/// What is left of a [`Rate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    rate: Rate,
    left: u64,
    /// The time up to which what is left was counted, in ms.
    counted_at: u64,
}

impl Bucket {
    /// Creates one of which nothing is used at this time, in ms.
    pub const fn new(rate: Rate, now_ms: u64) -> Self {
        Self { rate, left: rate.at_once, counted_at: now_ms }
    }

    /// Uses it once.
    ///
    /// # Errors
    /// Returns the time after which it can be used again, in ms.
    pub fn take(&mut self, now_ms: u64) -> Result<(), u64> {
        self.count(now_ms);
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(self.counted_at.saturating_add(self.rate.pause_ms).saturating_sub(now_ms).max(1)),
        }
    }

    /// Returns whether nothing of it is used at this time, in ms.
    pub fn is_full(&mut self, now_ms: u64) -> bool {
        self.count(now_ms);
        self.left == self.rate.at_once
    }

    fn count(&mut self, now_ms: u64) {
        // The clock may have been set back.
        self.counted_at = self.counted_at.min(now_ms);
        let pauses = (now_ms - self.counted_at) / self.rate.pause_ms;
        self.counted_at += pauses * self.rate.pause_ms;
        self.left = self.left.saturating_add(pauses).min(self.rate.at_once);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { at_once: 2, pause_ms: 10 };

    #[test]
    fn it_happens_so_often_at_once_and_then_once_each_pause() {
        let mut bucket = Bucket::new(RATE, 100);
        assert_eq!([bucket.take(100), bucket.take(100), bucket.take(103)], [Ok(()), Ok(()), Err(7)]);
        assert_eq!([bucket.take(110), bucket.take(119), bucket.take(120)], [Ok(()), Err(1), Ok(())]);
        assert!(!bucket.is_full(139) && bucket.is_full(140) && bucket.is_full(9_000));
        assert_eq!([bucket.take(9_000), bucket.take(9_000), bucket.take(9_000)], [Ok(()), Ok(()), Err(10)]);
    }

    #[test]
    fn a_clock_that_is_set_back_holds_nothing_up() {
        let mut bucket = Bucket::new(RATE, 9_000);
        assert_eq!([bucket.take(9_000), bucket.take(9_000), bucket.take(100)], [Ok(()), Ok(()), Err(10)]);
        assert_eq!(bucket.take(110), Ok(()));
    }
}
