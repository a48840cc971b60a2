//! Makes Unicode text of what others wrote. The legacy sidecar read a text with half a character pair, or in another
//! encoding, with U+FFFD in those places; so does this program, at every entrance.

use std::borrow::Cow;

use crate::common::text::to_unicode;

/// A JSON text as it is read.
#[derive(Debug, PartialEq, Eq)]
pub struct Repaired<'a> {
    /// The text.
    pub text: Cow<'a, str>,
    /// The number of characters that were replaced by U+FFFD.
    pub replaced: usize,
}

/// Returns the JSON text that the bytes hold, without byte order marks, with U+FFFD in place of every part that is not
/// UTF-8 and every `\u` escape that is half a pair of surrogates.
pub fn repair(bytes: &[u8]) -> Repaired<'_> {
    let mut bytes = bytes;
    // Programs that each put a mark before a text leave several.
    while let Some(rest) = bytes.strip_prefix(b"\xef\xbb\xbf") {
        bytes = rest;
    }
    let (text, replaced) = to_unicode(bytes);
    let halves = unpaired_surrogates(text.as_bytes());
    if halves.is_empty() {
        return Repaired { text, replaced };
    }
    let replaced = replaced + halves.len();
    let mut repaired = String::with_capacity(text.len());
    let mut kept_from = 0;
    for at in halves {
        repaired.push_str(text.get(kept_from..at).unwrap_or_default());
        repaired.push_str("\\ufffd");
        kept_from = at + ESCAPE_BYTES;
    }
    repaired.push_str(text.get(kept_from..).unwrap_or_default());
    Repaired { text: Cow::Owned(repaired), replaced }
}

/// The length of `\uXXXX`.
const ESCAPE_BYTES: usize = 6;

/// Returns the positions of the escapes that are half a pair of surrogates.
fn unpaired_surrogates(text: &[u8]) -> Vec<usize> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(offset) = text.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == b'\\')) {
        at += offset;
        match surrogate(text, at) {
            Some(Half::High) if surrogate(text, at + ESCAPE_BYTES) == Some(Half::Low) => at += 2 * ESCAPE_BYTES,
            Some(Half::High | Half::Low) => {
                found.push(at);
                at += ESCAPE_BYTES;
            }
            // The character after a backslash begins no escape.
            None => at += 2,
        }
    }
    found
}

#[derive(PartialEq, Eq)]
enum Half {
    High,
    Low,
}

/// Returns which half of a pair the escape at `at` is, if it is one.
fn surrogate(text: &[u8], at: usize) -> Option<Half> {
    let digits = text.get(at..at + ESCAPE_BYTES)?.strip_prefix(b"\\u")?;
    let [b'd' | b'D', second, third, fourth] = digits else { return None };
    if !(third.is_ascii_hexdigit() && fourth.is_ascii_hexdigit()) {
        return None;
    }
    match second.to_ascii_lowercase() {
        b'8' | b'9' | b'a' | b'b' => Some(Half::High),
        b'c'..=b'f' => Some(Half::Low),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn repaired(text: &str) -> (String, usize) {
        let Repaired { text, replaced } = repair(text.as_bytes());
        (text.into_owned(), replaced)
    }

    #[test]
    fn half_a_pair_is_replaced_and_a_pair_is_not() {
        for (text, expected, count) in [
            (r#""\ud83e""#, r#""\ufffd""#, 1),
            (r#""\uDD16 \uD83E\uDD16 \ud83e\ud83e\udd16""#, r#""\ufffd \uD83E\uDD16 \ufffd\ud83e\udd16""#, 2),
            (r#""\\ud83e \\\ud83e""#, r#""\\ud83e \\\ufffd""#, 1),
            (r#""\ud83""#, r#""\ud83""#, 0),
            (r#""\ud7ff\ue000""#, r#""\ud7ff\ue000""#, 0),
            ("\"\\", "\"\\", 0),
        ] {
            assert_eq!(repaired(text), (expected.to_owned(), count), "{text}");
        }
    }

    #[test]
    fn a_mark_goes_and_what_is_not_utf_8_is_replaced() {
        for marked in [&b"\xef\xbb\xbf{}"[..], b"\xef\xbb\xbf\xef\xbb\xbf{}"] {
            assert_eq!(repair(marked), Repaired { text: "{}".into(), replaced: 0 });
        }
        assert_eq!(
            repair(b"\"caf\xe9 \xff\xff\""),
            Repaired { text: "\"caf\u{fffd} \u{fffd}\u{fffd}\"".into(), replaced: 3 }
        );
        assert!(matches!(repair("{\"a\":\"\u{e9}\\n\"}".as_bytes()).text, Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn whatever_a_string_holds_it_is_read(parts in prop::collection::vec(
            prop_oneof![
                (0xd800_u32..0xe000).prop_map(|unit| format!("\\u{unit:04x}").into_bytes()),
                any::<u8>().prop_filter("a string goes on", |byte| *byte >= 0x20 && *byte != b'"' && *byte != b'\\')
                    .prop_map(|byte| vec![byte]),
                Just(b"\\\\".to_vec()),
                Just("\u{1f916}".as_bytes().to_vec()),
            ],
            0..12,
        )) {
            let text = [b"\"".to_vec(), parts.concat(), b"\"".to_vec()].concat();
            let Repaired { text: read, replaced } = repair(&text);
            let value: String = serde_json::from_str(&read).unwrap();
            prop_assert_eq!(value.chars().filter(|char| *char == '\u{fffd}').count(), replaced);
            prop_assert_eq!(repair(read.as_bytes()), Repaired { text: Cow::Borrowed(&*read), replaced: 0 });
        }
    }
}
