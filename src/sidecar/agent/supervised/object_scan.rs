//! Finds where an object that a command prints ends, byte by byte, so that its beginning need not be kept. It checks just
//! enough of the syntax to tell an object from other text with braces.

/// What one more byte means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The object goes on.
    Open,
    /// The byte ends the object.
    End,
    /// The text is no JSON object.
    Broken,
}

/// The state of the scan of one object, from its first brace on.
#[derive(Debug, Clone, Default)]
pub(super) struct ObjectScan {
    depth: usize,
    string: Option<Text>,
    /// Whether the last value outside of strings was the string `status`, at the first level.
    after_status: bool,
    begun: bool,
    has_status: bool,
}

/// A string that is being scanned.
#[derive(Debug, Clone, Default)]
struct Text {
    escaped: bool,
    length: usize,
    is_status: bool,
}

const STATUS: &[u8] = b"status";

impl ObjectScan {
    /// Returns whether the object has had a key `status`.
    pub(super) fn has_status(&self) -> bool {
        self.has_status
    }

    /// Scans one more byte.
    pub(super) fn step(&mut self, byte: u8) -> Step {
        if let Some(text) = &mut self.string {
            if byte < b' ' {
                return Step::Broken;
            }
            if !text.escaped && byte == b'"' {
                self.after_status = self.depth == 1 && text.is_status && text.length == STATUS.len();
                self.string = None;
                return Step::Open;
            }
            text.is_status = (text.length == 0 || text.is_status) && STATUS.get(text.length) == Some(&byte);
            text.length += 1;
            text.escaped = !text.escaped && byte == b'\\';
            return Step::Open;
        }
        if byte.is_ascii_whitespace() {
            return Step::Open;
        }
        // After the first brace comes a key, or the end.
        if self.depth == 1 && !self.begun && !matches!(byte, b'"' | b'}') {
            return Step::Broken;
        }
        self.begun = self.depth > 0;
        self.has_status |= self.after_status && byte == b':';
        self.after_status = false;
        match byte {
            b'"' => self.string = Some(Text::default()),
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        if self.depth == 0 { Step::End } else { Step::Open }
    }

    /// Scans text until the object ends. Returns what the last byte meant, and the number of bytes up to it, itself
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

/// The scan of the part of a command's output that is not kept: whether its end is inside an object that began a line.
#[derive(Debug, Clone, Default)]
pub struct DroppedText {
    object: Option<ObjectScan>,
    /// Whether something other than whitespace has come on the last line.
    mid_line: bool,
}

impl DroppedText {
    /// Scans text that is dropped.
    pub(super) fn push(&mut self, text: &str) {
        for byte in text.bytes() {
            if let Some(object) = &mut self.object {
                match object.step(byte) {
                    Step::Open => continue,
                    Step::End | Step::Broken => self.object = None,
                }
            } else if byte == b'{' && !self.mid_line {
                let mut object = ObjectScan::default();
                object.step(byte);
                self.object = Some(object);
            }
            self.mid_line = !matches!(byte, b'\n' | b'\r') && (self.mid_line || !byte.is_ascii_whitespace());
        }
    }

    /// Returns the object that the dropped text ends in.
    pub(super) fn open_object(&self) -> Option<ObjectScan> {
        self.object.clone()
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
    fn an_object_ends_with_its_brace() {
        assert_eq!(scan(r#"{"a":"}\"}","status" : [{}]} x"#), (Step::End, 28, true));
        assert_eq!(scan("{ } x"), (Step::End, 3, false));
        assert_eq!(scan(r#"{"a":{"status":1}"#), (Step::Open, 17, false));
        assert!(!scan(r#"{"a":"status","xstatus":1,"statusx":1}"#).2);
    }

    #[test]
    fn what_is_no_object_is_broken_soon() {
        assert_eq!(scan("{it's {} ").0, Step::Broken);
        assert_eq!(scan("{\"a\n\":1}").0, Step::Broken);
    }

    #[test]
    fn dropped_text_may_end_inside_of_an_object_that_began_a_line() {
        let ends_in = |text: &str| {
            let mut dropped = DroppedText::default();
            // In two parts: a drop may end anywhere.
            let (one, other) = text.split_at(text.len() / 2);
            dropped.push(one);
            dropped.push(other);
            dropped.open_object().map(|object| object.has_status())
        };
        assert_eq!(ends_in("log\n  {\"status\":\"failed\",\"n\":[1,"), Some(true));
        assert_eq!(ends_in("log\n{\"n\":[1,"), Some(false));
        assert_eq!(ends_in("log {\"status\":\"failed\",\"n\":[1,"), None);
        assert_eq!(ends_in("{\"status\":\"failed\"}\nlog {"), None);
        assert_eq!(ends_in("{ \"a broken\nline {\"status\":"), None);
    }
}
