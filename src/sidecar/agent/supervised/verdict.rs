//! Finds the verdict that a command prints among its other output: the last JSON object that begins a line and has a
//! string `status`. What looks like one and cannot be read is a failure, never a success.

use std::borrow::Cow;

use crate::protocol::{Document, JsonError, JsonFields, MAX_RESULT_DEPTH};
use crate::sidecar::agent::results::outcome::ResultContent;
use crate::sidecar::agent::supervised::object_scan::{DroppedText, ObjectScan, Step};

/// The place that errors name.
const PLACE: &str = "what the command printed";

/// How often each byte of the output is looked at, at most: every line may begin an object that does not end.
const LOOKS: usize = 64;

/// Returns what the command printed as its result: its verdict, else the fields of the object that is its last line or
/// its whole output, and nothing else. `dropped` is what came before `text`.
pub fn printed_result(text: &str, dropped: &DroppedText) -> JsonFields {
    let text = without_escapes(text);
    let verdict = Verdicts::new(&text).last(dropped.open_object());
    verdict.or_else(|| whole_or_last_line(&text)).unwrap_or_default()
}

/// The search for verdicts in a text.
struct Verdicts<'a> {
    text: &'a str,
    last: Option<JsonFields>,
    /// The indentation of the last object that has no end: what is indented further may be a part of it.
    unended: Option<usize>,
    looks_left: usize,
}

impl<'a> Verdicts<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, last: None, unended: None, looks_left: text.len().saturating_mul(LOOKS) }
    }

    /// Returns the last verdict; `open` is an object whose beginning was dropped.
    fn last(mut self, open: Option<ObjectScan>) -> Option<JsonFields> {
        let mut at = open.map_or(0, |open| self.skip_rest_of(open));
        while let Some(line) = self.text.get(at..).filter(|rest| !rest.is_empty()) {
            let content = line.trim_start_matches([' ', '\t', '\u{feff}']);
            let indent = line.len() - content.len();
            let is_part = self.unended.is_some_and(|unended| indent > unended);
            let passed = if content.starts_with('{') && !is_part { self.examine(content, indent) } else { 0 };
            if self.looks_left == 0 {
                return Some(failure("too many objects in it have no end"));
            }
            // The rest of the last line that was passed is no beginning of a line.
            let from = at + indent + passed;
            let rest = self.text.get(from..).unwrap_or_default();
            at = rest.find(['\n', '\r']).map_or(self.text.len(), |end| from + end + 1);
        }
        self.last
    }

    /// Examines the object that `text` begins with. Returns how many bytes of it are read.
    fn examine(&mut self, text: &str, indent: usize) -> usize {
        let mut scan = ObjectScan::default();
        let (step, length) = scan.scan(text.as_bytes());
        self.looks_left = self.looks_left.saturating_sub(length);
        let object = text.get(..length).unwrap_or_default();
        let read = Document::check(object.as_bytes(), MAX_RESULT_DEPTH);
        match (step, read) {
            (Step::End, Ok(document)) => {
                let status = document.fields_that(|name| name == "status").string("status");
                if status.is_some() {
                    self.last = Some(document.fields());
                    self.unended = None;
                }
                length
            }
            (Step::End, Err(JsonError::Refused(refusal))) if scan.has_status() => {
                self.last = Some(ResultContent::refused(PLACE, &refusal).to_object());
                length
            }
            (Step::End, Err(error)) if scan.has_status() => {
                self.last = Some(failure(&describe(&error)));
                length
            }
            (Step::Open | Step::Broken, Err(error)) if scan.has_status() => {
                self.last = Some(failure(&describe(&error)));
                self.unended = Some(indent);
                0
            }
            (Step::End | Step::Open | Step::Broken, _) => 0,
        }
    }

    /// Passes the rest of an object whose beginning was dropped.
    fn skip_rest_of(&mut self, mut open: ObjectScan) -> usize {
        let (step, length) = open.scan(self.text.as_bytes());
        if !open.has_status() {
            return if step == Step::End { length } else { 0 };
        }
        self.last = Some(failure("it is longer than the output that is kept; leave large output in a file of its own"));
        match step {
            Step::End => length,
            Step::Open | Step::Broken => {
                self.unended = Some(0);
                0
            }
        }
    }
}

/// Returns the object that is the whole text, or its last line, and has no `status`: fields beside the command's own.
fn whole_or_last_line(text: &str) -> Option<JsonFields> {
    let text = text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\u{feff}');
    let last = text.lines().next_back().unwrap_or_default();
    let object = |text: &str| match Document::check(text.as_bytes(), MAX_RESULT_DEPTH) {
        Ok(document) => Some(document.fields()),
        Err(JsonError::Refused(refusal)) => Some(ResultContent::refused(PLACE, &refusal).to_object()),
        Err(JsonError::NotJson(_) | JsonError::NotAnObject) => None,
    };
    [text, last].into_iter().find_map(object).filter(|fields| {
        let failed = fields.string("status").as_deref() == Some("failed");
        failed || fields.get("status").is_none()
    })
}

fn failure(why: &str) -> JsonFields {
    let reason = format!("result_parse_error: {PLACE} looks like a verdict, and cannot be read: {why}");
    ResultContent::Failure { reason }.to_object()
}

fn describe(error: &JsonError) -> String {
    match error {
        JsonError::NotJson(error) => error.to_string(),
        JsonError::NotAnObject => "it is no object".to_owned(),
        JsonError::Refused(refusal) => refusal.to_string(),
    }
}

/// Returns the text without terminal escape sequences (ECMA-48, 5.4, 5.6 and 8.3.89). A line feed ends any of them.
fn without_escapes(text: &str) -> Cow<'_, str> {
    #[derive(Clone, Copy)]
    enum State {
        Text,
        Escape,
        Sequence,
        Command,
    }
    const ESCAPE: char = '\u{1b}';
    if !text.contains(ESCAPE) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut state = State::Text;
    for character in text.chars() {
        state = match (state, character) {
            (_, ESCAPE) => State::Escape,
            (State::Text, _) | (_, '\n') => {
                plain.push(character);
                State::Text
            }
            (State::Escape, '[') => State::Sequence,
            (State::Escape, ']') => State::Command,
            (State::Sequence, ' '..='?') => State::Sequence,
            (State::Command, '\u{7}') | (State::Escape | State::Sequence, _) => State::Text,
            (State::Command, _) => State::Command,
        };
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn printed(text: &str) -> JsonFields {
        printed_result(text, &DroppedText::default())
    }

    fn status(text: &str) -> Option<String> {
        printed(text).string("status")
    }

    const FAILED: &str = r#"{"status":"failed","reason":"tests fail"}"#;

    #[test]
    fn a_verdict_is_found_among_other_output() {
        for text in [
            FAILED.to_owned(),
            format!("\u{feff}{FAILED}\n"),
            format!("{FAILED}\u{1b}[0m\n"),
            format!("\u{1b}]0;title\u{7}\u{1b}[1;31m{FAILED}\u{1b}[0m\n"),
            format!("warming up\n{FAILED}\nnotice: a new version is out\n"),
            format!("10 %\r{FAILED} (took 3 s)\r\n{{ no JSON }}\n"),
            "warming up\n{\n  \"status\": \"failed\",\n  \"reason\": \"tests fail\"\n}\nbye".to_owned(),
            format!("{{\"status\":\"success\"}}\n{FAILED}\n{{\"status\":200}}\n[{{\"status\":\"success\"}}]\n"),
            format!("{FAILED}\nsaid: {{\"status\":\"success\"}}"),
        ] {
            let printed = printed(&text);
            assert_eq!(printed.string("reason").as_deref(), Some("tests fail"), "{text:?}: {printed:?}");
            assert_eq!(printed.string("status").as_deref(), Some("failed"), "{text:?}");
        }
        assert_eq!(status(&format!("{FAILED}\n{{\"status\":\"success\"}}\n")).as_deref(), Some("success"));
    }

    #[test]
    fn what_is_inside_of_a_verdict_is_none() {
        let inner = "{\n  \"status\": \"failed\",\n  \"steps\": [\n    {\"status\": \"success\"}\n  ]";
        assert_eq!(status(&format!("{inner}\n}}\n")).as_deref(), Some("failed"));
        // Without its end, and with a number that is none.
        assert_eq!(status(inner).as_deref(), Some("failed"));
        assert_eq!(status(&format!("{inner},\n  \"score\": NaN\n}}\n")).as_deref(), Some("failed"));
    }

    #[test]
    fn what_looks_like_a_verdict_and_cannot_be_read_is_a_failure_that_says_so() {
        let deep = format!("{{\"status\":\"success\",\"d\":{}{}}}", "[".repeat(150), "]".repeat(150));
        for (text, said) in [
            (r#"{"status":"success","score":NaN}"#, "expected value"),
            (r#"{"status":"success","n":1e999}"#, "number out of range"),
            ("{\"status\":\"success\",\"a\":\"b\nc\"}", "control character"),
            (r#"{"status":"success","a":1"#, "EOF while parsing"),
            (&deep, "nested 151 levels deep"),
        ] {
            let printed = printed(text);
            let reason = printed.string("reason").unwrap_or_default();
            assert_eq!(printed.string("status").as_deref(), Some("failed"), "{text}");
            assert!(reason.contains(said), "{text}: {reason}");
        }
        // A later one that can be read counts.
        assert_eq!(status("{\"status\":\"failed\",\n{\"status\":\"success\"}").as_deref(), Some("success"));
    }

    #[test]
    fn other_output_is_no_verdict() {
        for text in [
            "",
            "done",
            "{ it's }",
            "{\"status\":7}",
            "{\"a\":{\"status\":\"failed\"",
            "{",
            "x {\"status\":\"failed\"}",
        ] {
            assert_eq!(printed(text), JsonFields::default(), "{text}");
        }
        assert_eq!(printed("log\n{\"tokens_used\":7}\n").read::<u64>("tokens_used"), Some(7));
        let list = format!("{}{}", "[".repeat(200), "]".repeat(200));
        assert_eq!(printed(&list), JsonFields::default());
    }

    #[test]
    fn a_verdict_whose_beginning_is_dropped_is_a_failure() {
        let mut dropped = DroppedText::default();
        dropped.push("log\n{\"status\":\"failed\",\"output\":\"");
        let printed = |text: &str| printed_result(text, &dropped).string("status");
        assert_eq!(printed("long\"}\n").as_deref(), Some("failed"));
        assert_eq!(printed("long\",\n  {\"status\":\"success\"}\n").as_deref(), Some("failed"));
        assert_eq!(printed("long\"}\n{\"status\":\"success\"}\n").as_deref(), Some("success"));
    }

    #[test]
    fn output_that_begins_objects_without_end_takes_no_time() {
        let text = "{\"status\":\n".repeat(100_000);
        assert_eq!(status(&text).as_deref(), Some("failed"));
    }

    proptest! {
        #[test]
        fn a_printed_object_is_a_result_that_is_taken_and_never_lost(
            value in crate::protocol::tests::any_text::value(),
            banner in prop::option::of("[a-z ]{1,9}\n"),
        ) {
            let printed = printed(&format!("{}{{\"deep\":{value}}}\n", banner.unwrap_or_default()));
            prop_assert!(printed.get("deep").is_some() || printed.string("status").as_deref() == Some("failed"));
            let file = printed.to_text();
            prop_assert!(Document::check(file.as_str().as_bytes(), MAX_RESULT_DEPTH).is_ok(), "{file}");
        }

        #[test]
        fn a_failure_is_never_a_success(
            noise in prop::collection::vec("[-{}\\[\\]\":,a \u{1b}m;0-9\\\\]{0,20}", 0..6),
            at in any::<prop::sample::Index>(),
        ) {
            let mut lines = noise;
            lines.insert(at.index(lines.len() + 1), FAILED.to_owned());
            let status = status(&lines.join("\n"));
            prop_assert_eq!(status.as_deref(), Some("failed"));
        }

        #[test]
        fn no_text_makes_the_search_fail(text in "[\\PC\n\r\u{1b}{}\"]{0,80}") {
            printed(&text);
        }
    }
}
