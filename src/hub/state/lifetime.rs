//! For how long a token or an invitation may be valid, and how ages are shown.

use crate::common::duration::MAX_DURATION_MS;

/// The longest time, in ms: as long as a duration that can be written.
pub const MAX_LIFETIME_MS: u64 = MAX_DURATION_MS;

/// Checks a time for which a token or an invitation is to be valid, in ms.
///
/// # Errors
/// Returns what is expected and what was found.
pub fn check_lifetime(ms: u64) -> Result<(), String> {
    if (1..=MAX_LIFETIME_MS).contains(&ms) {
        return Ok(());
    }
    Err(format!("expected 1 to {MAX_LIFETIME_MS} ms (ten years), got {ms}"))
}

/// Returns a duration in the largest unit that it has one of, rounded down: `3 d`.
pub fn show_duration(ms: u64) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m")];
    let unit = units.into_iter().find(|(unit_ms, _)| ms >= *unit_ms);
    let (unit_ms, name) = unit.unwrap_or((1_000, "s"));
    format!("{} {name}", ms / unit_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_shown_in_one_unit() {
        let shown: Vec<String> = [0, 59_999, 60_000, 3_600_000, 172_800_000].map(show_duration).into();
        assert_eq!(shown, ["0 s", "59 s", "1 m", "1 h", "2 d"]);
    }
}
