//! The rule for labels: what an operator groups agents by (`{"pool": "gpu"}`).

use std::collections::BTreeMap;

use crate::common::text::looks_like_another;

/// The largest number of an agent's labels.
pub const MAX_LABELS: usize = 16;
/// The largest number of characters in a label's key, and in its value.
pub const MAX_LABEL_CHARS: usize = 64;

/// Labels by key.
pub type Labels = BTreeMap<String, String>;

/// The reason why a label is not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadLabel {
    /// The key has another form.
    #[error(
        "a key is 1 to 64 characters of a-z, 0-9, `.`, `_`, `/` and `-`, and begins with a letter or a digit: \"pool\", \"site/rack\""
    )]
    Key,
    /// The value is too long, or would break the lines that show it.
    #[error(
        "a value is a text of at most 64 characters, none of them a control character or one that is not seen, without white \
         space around it, and with none but spaces in it: \"gpu\""
    )]
    Value,
    /// There are too many.
    #[error("at most 16 labels")]
    TooMany,
}

/// Checks a label's key: `[a-z0-9][a-z0-9._/-]*`, at most [`MAX_LABEL_CHARS`] characters.
///
/// # Errors
/// [`BadLabel::Key`].
pub fn check_label_key(key: &str) -> Result<(), BadLabel> {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_inner = |byte: u8| is_word(byte) || matches!(byte, b'.' | b'_' | b'/' | b'-');
    let fits = key.bytes().next().is_some_and(is_word) && key.bytes().all(is_inner) && key.len() <= MAX_LABEL_CHARS;
    if fits { Ok(()) } else { Err(BadLabel::Key) }
}

/// Checks a label's value: at most [`MAX_LABEL_CHARS`] characters, and [looks like no other](looks_like_another).
///
/// # Errors
/// [`BadLabel::Value`].
pub fn check_label_value(value: &str) -> Result<(), BadLabel> {
    let fits = value.chars().count() <= MAX_LABEL_CHARS && !looks_like_another(value);
    if fits { Ok(()) } else { Err(BadLabel::Value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_short_word() {
        for good in ["a", "0", "pool", "site/rack-1_b.c", &"k".repeat(64)] {
            assert_eq!(check_label_key(good), Ok(()), "{good}");
        }
        for bad in ["", "Pool", "-a", "/a", ".a", "_a", "a b", "a=b", "ä", &"k".repeat(65)] {
            assert_eq!(check_label_key(bad), Err(BadLabel::Key), "{bad}");
        }
    }

    #[test]
    fn a_value_is_a_short_text_on_one_line() {
        for good in ["", "gpu", "Größe, = 7", &"ä".repeat(64)] {
            assert_eq!(check_label_value(good), Ok(()), "{good}");
        }
        for bad in ["a\nb", "\u{1b}[1m", "gpu ", "g\u{200b}pu", &"ä".repeat(65)] {
            assert_eq!(check_label_value(bad), Err(BadLabel::Value), "{bad}");
        }
    }
}
