//! The machine's clock, as everything on disk and on the wire tells time.

use std::time::{SystemTime, UNIX_EPOCH};

/// Returns the current time, in ms since the epoch.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
