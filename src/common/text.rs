//! Texts from outside, made fit for one line of a log, a table or an error.

use std::borrow::Cow;

/// Returns the number with the word in its form.
pub fn count_of(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// Returns the first `most` characters.
pub fn first_chars(text: &str, most: usize) -> &str {
    text.char_indices().nth(most).map_or(text, |(end, _)| &text[..end])
}

/// Returns the last `count` characters.
pub fn last_chars(text: &str, count: usize) -> &str {
    match text.char_indices().rev().nth(count) {
        // The last character that is dropped.
        Some((i, before)) => &text[i + before.len_utf8()..],
        None => text,
    }
}

/// Returns the text with each character that a terminal would act on as a space: it can neither move a cursor, nor look like
/// a further line, nor like another text.
pub fn on_one_line(text: &str) -> String {
    text.chars().map(|c| if is_unsafe_in_terminal(c) { ' ' } else { c }).collect()
}

/// Returns whether a terminal would act on the character, or show nothing for it: a control character, a line break among
/// them, one that changes the reading direction, or one without a width. A text with one may look like another text. The
/// joiners of emoji and of some scripts (U+200C, U+200D) are among them: shown as spaces, they take no text apart.
pub fn is_unsafe_in_terminal(c: char) -> bool {
    c.is_control()
        || matches!(c,
            // Breaks of lines and paragraphs, and of words that are not seen.
            '\u{2028}' | '\u{2029}' | '\u{ad}' | '\u{34f}'
            // Directions.
            | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}'
            // Without a width.
            | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2065}' | '\u{feff}' | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            // What chooses the form of the character before it.
            | '\u{180b}'..='\u{180f}' | '\u{fe00}'..='\u{fe0f}'
            // Letters that are blank, and tags.
            | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{2800}' | '\u{3164}' | '\u{ffa0}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// Returns whether the text could be taken for another one where it is a name: it has white space around it, a space in it
/// that is not the usual one, or a character that is [unsafe in a terminal](is_unsafe_in_terminal).
pub fn looks_like_another(text: &str) -> bool {
    let is_odd_space = |c: char| c.is_whitespace() && c != ' ';
    text.trim() != text || text.chars().any(|c| is_odd_space(c) || is_unsafe_in_terminal(c))
}

/// Returns the text with a number, as `\u{200b}`, in place of each character by which it [looks like another](looks_like_another);
/// spaces stay.
pub fn escape_hidden(text: &str) -> String {
    let is_seen = |c: char| c == ' ' || !looks_like_another(c.encode_utf8(&mut [0; 4]));
    text.chars().map(|c| if is_seen(c) { c.to_string() } else { c.escape_unicode().to_string() }).collect()
}

/// Returns the longest beginning of at most `most` bytes that ends on a character.
pub fn first_bytes(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Returns the longest end of at most `most` bytes that begins on a character.
pub fn last_bytes(text: &str, most: usize) -> &str {
    let mut at = text.len().saturating_sub(most);
    while !text.is_char_boundary(at) {
        at += 1;
    }
    &text[at..]
}

/// Returns the text that the bytes hold, with U+FFFD in place of every part that is not UTF-8, and the number of those
/// parts.
pub(crate) fn to_unicode(bytes: &[u8]) -> (Cow<'_, str>, usize) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Cow::Borrowed(text), 0),
        Err(_) => {
            let replaced = bytes.utf8_chunks().filter(|chunk| !chunk.invalid().is_empty()).count();
            (String::from_utf8_lossy(bytes), replaced)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_on_a_character() {
        assert_eq!([first_bytes("äöü", 3), last_bytes("äöü", 3), last_bytes("ä", 9)], ["ä", "ü", "ä"]);
        assert_eq!([first_chars("äöü", 2), first_chars("äöü", 3), first_chars("", 3)], ["äö", "äöü", ""]);
    }

    #[test]
    fn a_line_stays_one() {
        assert_eq!(on_one_line("a\nb\u{1b}[2J\tc\u{202e}d"), "a b [2J c d");
        assert_eq!(on_one_line("a\u{200b}b\u{2028}c\u{feff}d\u{e0041}e"), "a b c d e");
    }

    #[test]
    fn a_name_looks_like_itself_only() {
        for good in ["", "a", "agent 7", "Größe", "名前", "عامل"] {
            assert!(!looks_like_another(good), "{good:?}");
        }
        let bad =
            ["a ", "\u{a0}a", "a\n", "ali\u{200b}ce", "a\u{202e}b", "a\u{2066}b", "\u{feff}a", "a\u{ad}b", "\u{3164}"];
        let of_another_form = ["\u{fe0f}", "a\u{fe00}", "a\u{180b}b", "a\u{1d173}b", "a\u{2800}"];
        let with_another_space = ["agent\u{a0}7", "agent\u{2003}7", "agent\u{3000}7"];
        for bad in bad.iter().chain(&of_another_form).chain(&with_another_space) {
            assert!(looks_like_another(bad), "{bad:?}");
        }
    }

    #[test]
    fn the_end_of_a_text_is_counted_in_characters() {
        assert_eq!(last_chars("aäöü", 2), "öü");
        assert_eq!(last_chars("aäöü", 4), "aäöü");
        assert_eq!(last_chars("", 2), "");
    }
}
