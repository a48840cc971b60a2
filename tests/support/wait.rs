//! Waiting for a thing that should come true, in short steps and with a bound. It never waits for time to pass: the bound
//! is there to end a failing test, not to pace a passing one.

use std::time::{Duration, Instant};

/// Long enough for two noisy cores; a passing test never waits that long.
pub const BOUND: Duration = Duration::from_secs(30);

/// How often the thing is looked at.
const STEP: Duration = Duration::from_millis(5);

/// Looks until `probe` answers `Some`, for at most `bound`.
///
/// # Panics
/// When the bound passes; the message names `what` and ends with `seen()`: what was there instead.
pub fn until_or<T>(
    what: &str,
    bound: Duration,
    mut probe: impl FnMut() -> Option<T>,
    seen: impl FnOnce() -> String,
) -> T {
    let end = Instant::now() + bound;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        if Instant::now() >= end {
            panic!("waited {} s in vain for {what}\n{}", bound.as_secs(), seen());
        }
        std::thread::sleep(STEP);
    }
}

/// [`until_or`] with the usual bound and nothing more to tell.
pub fn until<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    until_or(what, BOUND, probe, String::new)
}

/// Looks until `probe` is true, with the usual bound.
pub fn until_true(what: &str, mut probe: impl FnMut() -> bool) {
    until(what, || probe().then_some(()));
}

/// Looks for `window` whether `probe` ever becomes true, and fails as soon as it does. For what must *not* happen: the
/// window is part of the claim.
pub fn never(what: &str, window: Duration, mut probe: impl FnMut() -> bool) {
    let end = Instant::now() + window;
    while Instant::now() < end {
        assert!(!probe(), "must not happen, and did: {what}");
        std::thread::sleep(STEP);
    }
}
