//! Takes terminal escape sequences out of a text (ECMA-48), as far as they stand between a reader and the text's lines.

use std::borrow::Cow;

const ESCAPE: char = '\u{1b}';
/// The control characters that begin a control sequence, and a string: the 8-bit forms of `ESC [` and of `ESC P X ] ^ _`.
const SEQUENCE: char = '\u{9b}';
const STRINGS: [char; 5] = ['\u{90}', '\u{98}', '\u{9d}', '\u{9e}', '\u{9f}'];

#[derive(Clone, Copy)]
enum State {
    Text,
    /// After `ESC`, and the intermediate bytes of an escape sequence.
    Escape,
    /// In a control sequence.
    Sequence,
    /// In a string, up to its terminator.
    String,
}

/// Returns the text without escape sequences and control characters. A sequence that moves the cursor inside its line or
/// erases it begins a new one, and so does a backspace. A line feed ends every sequence.
pub(super) fn without_escapes(text: &str) -> Cow<'_, str> {
    if !text.contains(|c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut state = State::Text;
    for character in text.chars() {
        state = match (state, character) {
            (_, '\n') => {
                plain.push(character);
                State::Text
            }
            (_, ESCAPE) => State::Escape,
            (State::Text, SEQUENCE) | (State::Escape, '[') => State::Sequence,
            (State::Text, control) if STRINGS.contains(&control) => State::String,
            (State::Escape, ']' | 'P' | 'X' | '^' | '_') => State::String,
            (State::Escape, ' '..='/') => State::Escape,
            (State::Sequence, ' '..='?') => State::Sequence,
            (State::Sequence, 'G' | 'H' | 'J' | 'K' | 'f') | (State::Text, '\u{8}') => {
                plain.push('\n');
                State::Text
            }
            (State::String, '\u{7}' | '\u{9c}') | (State::Escape | State::Sequence, _) => State::Text,
            (State::String, _) => State::String,
            (State::Text, kept) => {
                if !kept.is_control() || matches!(kept, '\r' | '\t') {
                    plain.push(kept);
                }
                State::Text
            }
        };
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_go_and_text_stays() {
        for (text, plain) in [
            ("a\tb\r\n", "a\tb\r\n"),
            ("\u{1b}[1;31mred\u{1b}[0m", "red"),
            ("\u{1b}(B\u{1b}[mplain", "plain"),
            ("\u{1b}]0;title\u{7}a\u{1b}]8;;url\u{1b}\\b", "ab"),
            ("\u{1b}Pq\u{9c}a\u{9b}2mb", "ab"),
            ("x\u{1b}[2K\u{1b}[1Ga", "x\n\na"),
            ("10\u{8}\u{8}a\0b", "10\n\nab"),
            ("\u{1b}]0;no end\na\u{1b}", "\na"),
            ("\u{1b}é", ""),
        ] {
            assert_eq!(without_escapes(text), plain, "{text:?}");
        }
    }
}
