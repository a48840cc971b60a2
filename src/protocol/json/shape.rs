//! Looks at the brackets and keys of a text without reading it: documents of any depth are measured without recursion.

use core::ops::Range;

use crate::protocol::json::RESERVED_KEY;

/// The result of scanning the brackets and keys of a text. It is meaningless for a text that is not JSON.
#[derive(Debug, Default)]
pub(super) struct Shape {
    /// The number of levels of arrays and objects.
    pub(super) depth: usize,
    /// The position of the key of the object's most deeply nested field.
    pub(super) deepest_field: Range<usize>,
    /// Whether [`RESERVED_KEY`] is a key.
    pub(super) reserved_key: bool,
}

impl Shape {
    /// Scans `text`, which may be any bytes.
    pub(super) fn of(text: &[u8]) -> Self {
        let mut shape = Self::default();
        let (mut at, mut level, mut field) = (0, 0_usize, 0..0);
        while let Some(byte) = text.get(at) {
            let begin = at;
            at += 1;
            match byte {
                b'{' | b'[' => {
                    level += 1;
                    if level > shape.depth {
                        shape.depth = level;
                        shape.deepest_field.clone_from(&field);
                    }
                }
                b'}' | b']' => level = level.saturating_sub(1),
                b'"' => {
                    at = end_of_string(text, at);
                    let string = text.get(begin..at).unwrap_or_default();
                    if is_key(text, at) {
                        shape.reserved_key |= is_reserved(string);
                        if level == 1 {
                            field = begin..at;
                        }
                    }
                }
                _ => {}
            }
        }
        shape
    }
}

/// Returns the position after the closing quote of the string whose content begins at `at`.
fn end_of_string(text: &[u8], mut at: usize) -> usize {
    loop {
        match text.get(at) {
            None => return text.len(),
            Some(b'"') => return at + 1,
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
        }
    }
}

fn is_key(text: &[u8], after: usize) -> bool {
    text.get(after..).unwrap_or_default().iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':')
}

/// Returns whether the quoted `string` is [`RESERVED_KEY`]; each character may be an escape of six.
fn is_reserved(string: &[u8]) -> bool {
    string.len() <= 6 * RESERVED_KEY.len() + 2
        && serde_json::from_slice::<String>(string).is_ok_and(|string| string == RESERVED_KEY)
}
