//! Finds where an object or array that a command prints ends, byte by byte. It checks just enough of the syntax to tell
//! JSON from other text with brackets; a value that cannot be read does not end the scan.

/// What one more byte means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The value goes on.
    Open,
    /// The byte ends the value.
    End,
    /// The text is no JSON.
    Broken,
}

/// The last token outside of strings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Last {
    /// The opening bracket of the whole.
    #[default]
    Opening,
    /// Another opening bracket, a comma or a colon: a value or a key may follow.
    Separator,
    /// The colon after the key `status`, at the first level.
    StatusColon,
    /// A string; the flag says whether it may be the key `status`, at the first level.
    Text(bool),
    /// A number or a word.
    Word,
    /// A closing bracket.
    Closing,
}

/// The state of the scan of one value, from its opening bracket on.
#[derive(Debug, Clone, Default)]
pub(super) struct ObjectScan {
    depth: usize,
    is_object: bool,
    string: Option<Text>,
    last: Last,
    has_status: bool,
}

/// A string that is being scanned.
#[derive(Debug, Clone, Default)]
struct Text {
    escaped: bool,
    length: usize,
    /// Whether it is the beginning of `status`. A key with escapes may be, too.
    is_status: bool,
    has_escapes: bool,
}

const STATUS: &[u8] = b"status";

impl ObjectScan {
    /// Returns whether the object has had a string `status`.
    pub(super) fn has_status(&self) -> bool {
        self.has_status
    }

    /// Scans one more byte.
    fn step(&mut self, byte: u8) -> Step {
        if let Some(text) = &mut self.string {
            if byte < b' ' {
                return Step::Broken;
            }
            if !text.escaped && byte == b'"' {
                let is_status = text.has_escapes || (text.is_status && text.length == STATUS.len());
                self.last = Last::Text(is_status && self.is_object && self.depth == 1);
                self.string = None;
                return Step::Open;
            }
            text.is_status = (text.length == 0 || text.is_status) && STATUS.get(text.length) == Some(&byte);
            text.length += 1;
            text.has_escapes |= byte == b'\\';
            text.escaped = !text.escaped && byte == b'\\';
            return Step::Open;
        }
        if byte.is_ascii_whitespace() {
            return Step::Open;
        }
        if self.depth == 0 {
            self.is_object = byte == b'{';
            self.depth = 1;
            return Step::Open;
        }
        let after_value = matches!(self.last, Last::Text(_) | Last::Word | Last::Closing);
        let first_of_object = self.last == Last::Opening && self.is_object;
        match byte {
            b'"' | b'{' | b'[' if after_value => return Step::Broken,
            b'"' => {
                self.has_status |= self.last == Last::StatusColon;
                self.string = Some(Text::default());
            }
            b'}' | b']' => {
                self.depth -= 1;
                self.last = Last::Closing;
            }
            // After the first brace comes a key, or the end.
            _ if first_of_object => return Step::Broken,
            b'{' | b'[' => {
                self.depth += 1;
                self.last = Last::Separator;
            }
            b':' if self.last == Last::Text(true) => self.last = Last::StatusColon,
            b':' | b',' => self.last = Last::Separator,
            _ => self.last = Last::Word,
        }
        if self.depth == 0 { Step::End } else { Step::Open }
    }

    /// Scans text until the value ends. Returns what the last byte meant, and the number of bytes up to it, itself
    /// included.
    pub(super) fn scan(&mut self, text: &[u8]) -> (Step, usize) {
        for (at, byte) in text.iter().enumerate() {
            match self.step(*byte) {
                Step::Open => {}
                ended @ (Step::End | Step::Broken) => return (ended, at + 1),
            }
        }
        (Step::Open, text.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(text: &str) -> (Step, usize, bool) {
        let mut scan = ObjectScan::default();
        let (step, length) = scan.scan(text.as_bytes());
        (step, length, scan.has_status())
    }

    #[test]
    fn a_value_ends_with_its_bracket() {
        assert_eq!(scan(r#"{"a":"}\"}","status" : "x","b":[{}]} x"#), (Step::End, 36, true));
        assert_eq!(scan("{ } x"), (Step::End, 3, false));
        assert_eq!(scan(r#"[{"status":"x"}] x"#), (Step::End, 16, false));
        assert_eq!(scan(r#"{"a":{"status":"x"}"#), (Step::Open, 19, false));
    }

    #[test]
    fn only_a_string_of_that_name_is_a_status() {
        for text in [r#"{"a":"status","xstatus":"1","statusx":"1"}"#, r#"{"status":200}"#, r#"{"status":200"#] {
            assert!(!scan(text).2, "{text}");
        }
        for text in [r#"{"\u0073tatus":"failed","n":NaN}"#, r#"{"n":NaN,"status":"failed"}"#, r#"{"status":"fai"#] {
            assert!(scan(text).2, "{text}");
        }
    }

    #[test]
    fn what_is_no_json_is_broken_soon() {
        assert_eq!(scan("{it's {} ").0, Step::Broken);
        assert_eq!(scan("{\"a\n\":1}").0, Step::Broken);
        assert_eq!(scan("{\"ts\":17,\"v\":12\n{\"ts\":17").0, Step::Broken);
        assert_eq!(scan("{\"a\" \"b\"}").0, Step::Broken);
    }
}
