//! Close reasons as texts: cuts a reason to what a close frame holds and parses the hub's cooldown. Both functions are
//! pure and never fail; neither depends on sockets.

use crate::common::text::first_bytes;

/// The longest close reason, bytes: a control frame carries 125, two of them the code (RFC 6455, 5.5).
const MAX_REASON_BYTES: usize = 123;

/// Returns the longest prefix of `reason` that fits in a close frame, cut at a character boundary.
pub(super) fn truncate(reason: &str) -> &str {
    first_bytes(reason, MAX_REASON_BYTES)
}

/// Returns the cooldown that a legacy hub requests, in ms, parsed from the reason of its close 1008: `"cooldown active:
/// retry in 29s"`. Returns `None` if the text contains none.
pub fn cooldown_ms(reason: &str) -> Option<u64> {
    let (_, rest) = reason.split_once("retry in ")?;
    let rest = rest.trim_start();
    let after = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    let number: u64 = rest[..rest.len() - after.len()].parse().ok()?;
    let unit = after.trim_start();
    let unit = unit.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or(unit);
    let factor = match unit {
        "ms" => 1,
        "" | "s" | "sec" | "second" | "seconds" => 1_000,
        "m" | "min" | "minute" | "minutes" => 60_000,
        _ => return None,
    };
    number.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_the_real_hubs_cooldown() {
        assert_eq!(cooldown_ms("cooldown active: retry in 29s"), Some(29_000));
    }

    #[test]
    fn reads_other_units() {
        assert_eq!(cooldown_ms("retry in 250ms"), Some(250));
        assert_eq!(cooldown_ms("retry in 5 min."), Some(300_000));
        assert_eq!(cooldown_ms("retry in 7"), Some(7_000));
    }

    #[test]
    fn says_nothing_when_the_text_does_not() {
        for text in ["", "policy violation", "retry in soon", "retry in 3 fortnights", "retry in 99999999999999999999s"]
        {
            assert_eq!(cooldown_ms(text), None, "{text:?}");
        }
    }

    #[test]
    fn an_overflowing_wait_is_none() {
        assert_eq!(cooldown_ms(&format!("retry in {}s", u64::MAX)), None);
    }

    #[test]
    fn a_reason_is_cut_on_a_character_boundary() {
        let long = "é".repeat(100);
        assert_eq!(truncate(&long), "é".repeat(61));
        assert_eq!(truncate("short"), "short");
    }

    proptest! {
        #[test]
        fn both_are_total(text in "\\PC*", tail in "\\PC{0,40}") {
            prop_assert!(truncate(&text).len() <= MAX_REASON_BYTES);
            let _ = cooldown_ms(&text);
            let _ = cooldown_ms(&format!("retry in {tail}"));
        }
    }
}
