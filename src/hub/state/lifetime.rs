//! For how long a token or an invitation may be valid, and how people write that.

/// The longest time, in ms: ten years.
pub const MAX_LIFETIME_MS: u64 = 315_360_000_000;

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

/// Reads a duration such as `90s`, `30m`, `24h`, `30d` or `2w`, and returns it in ms.
///
/// # Errors
/// Returns what is expected and what was found.
pub fn parse_duration(text: &str) -> Result<u64, String> {
    let expected = || format!("expected a number with s, m, h, d or w, such as 24h or 30d, got {text:?}");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit_ms: u64 = match &text[digits.len()..] {
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "w" => 604_800_000,
        _ => return Err(expected()),
    };
    let number: u64 = digits.parse().map_err(|_| expected())?;
    let ms = number.saturating_mul(unit_ms);
    check_lifetime(ms)?;
    Ok(ms)
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
    fn durations_are_read_as_people_write_them() {
        for (text, ms) in
            [("90s", 90_000), ("1m", 60_000), ("24h", 86_400_000), ("30d", 2_592_000_000), ("2w", 1_209_600_000)]
        {
            assert_eq!(parse_duration(text), Ok(ms), "{text}");
        }
        for text in ["", "d", "30", "0s", "1.5h", "-1d", "30 d", "30D", "1y", "99999d", "99999999999999999999s", "ä"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_shown_in_one_unit() {
        let shown: Vec<String> = [0, 59_999, 60_000, 3_600_000, 172_800_000].map(show_duration).into();
        assert_eq!(shown, ["0 s", "59 s", "1 m", "1 h", "2 d"]);
    }
}
