//! Durations as people write them on a command line.

/// The longest duration that is read, in ms: ten years.
pub const MAX_DURATION_MS: u64 = 315_360_000_000;

/// Reads a duration such as `90s`, `30m`, `24h`, `30d` or `2w`, and returns it in ms: at least 1 s, at most
/// [`MAX_DURATION_MS`].
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
    if (1..=MAX_DURATION_MS).contains(&ms) {
        return Ok(ms);
    }
    Err(format!("expected 1s to 3650d (ten years), got {text:?}"))
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
}
