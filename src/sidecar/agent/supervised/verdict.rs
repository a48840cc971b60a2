//! Finds the verdict that a command prints among its other output: the last JSON object that begins a line and has a
//! string `status`. What looks like one and cannot be read is a failure, never a success.

use crate::common::text::first_chars;
use crate::protocol::{Document, JsonError, JsonFields, MAX_RESULT_DEPTH};
use crate::sidecar::agent::results::outcome::ResultContent;
use crate::sidecar::agent::supervised::escapes::without_escapes;
use crate::sidecar::agent::supervised::object_scan::{ObjectScan, Step};

/// The place that errors name.
const PLACE: &str = "what the command printed";

/// How often each byte of the output is looked at, at most: every line may begin an object that does not end.
const LOOKS: usize = 64;

/// What a command printed as its result.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Printed {
    /// The fields of its verdict, else those of the object that is its last line or its whole output.
    pub fields: JsonFields,
    /// Whether they stand for a verdict that cannot be read, or whose status is no word for success or failure.
    pub is_unreadable: bool,
    /// The number of its characters that were replaced because they are not Unicode.
    pub replaced: usize,
}

/// What was printed before the text that is kept.
#[derive(Debug, Default)]
pub struct DroppedText {
    /// The last verdict in it.
    last: Option<Verdict>,
    /// The object or array that its end is inside of.
    open: Option<ObjectScan>,
    /// Whether its end is inside of a line.
    mid_line: bool,
}

#[derive(Debug)]
struct Verdict {
    printed: Printed,
    /// How far it is indented: a part of another object is indented further.
    indent: usize,
}

impl DroppedText {
    /// Adds text that follows, and is dropped.
    pub(super) fn push(&mut self, text: &str) {
        let text = without_escapes(text);
        let mut search = Search::new(&text, std::mem::take(self));
        search.run();
        let open = search.open.take();
        *self = Self { last: search.last, open, mid_line: !text.ends_with(['\n', '\r']) };
    }
}

/// Returns what the command printed as its result, if anything. `dropped` is what came before `text`.
pub fn printed_result(text: &str, dropped: DroppedText) -> Printed {
    let text = without_escapes(text);
    // The rest of a line is neither a line nor the whole.
    let rest_of_line = if dropped.mid_line { text.find(['\n', '\r']).unwrap_or(text.len()) } else { 0 };
    let mut search = Search::new(&text, dropped);
    search.run();
    match search.last.take() {
        Some(Verdict { mut printed, indent: _ }) => {
            let status = printed.fields.string("status").unwrap_or_default();
            printed.is_unreadable |= !matches!(status.as_str(), "success" | "failed" | "failure" | "error");
            give_reason(&mut printed.fields, &status);
            printed
        }
        None => whole_or_last_line(text.get(rest_of_line..).unwrap_or_default()).unwrap_or_default(),
    }
}

/// The search for verdicts in a text.
struct Search<'a> {
    text: &'a str,
    /// The position of the next line to look at.
    at: usize,
    last: Option<Verdict>,
    /// The indentation of the last verdict that has no end: what is indented further may be a part of it.
    unended: Option<usize>,
    /// The end and the indentation of the last value without a status: what is indented further up to there is a part of
    /// it.
    other: (usize, usize),
    /// The value that the text's end is inside of.
    open: Option<ObjectScan>,
    looks_left: usize,
}

impl<'a> Search<'a> {
    fn new(text: &'a str, before: DroppedText) -> Self {
        let looks_left = text.len().saturating_mul(LOOKS);
        let other = (0, 0);
        let mut search = Self { text, at: 0, last: before.last, unended: None, other, open: None, looks_left };
        match before.open {
            Some(open) => search.pass_rest_of(open),
            None if before.mid_line => search.next_line(0),
            None => {}
        }
        search
    }

    fn run(&mut self) {
        while let Some(line) = self.text.get(self.at..).filter(|rest| !rest.is_empty()) {
            let content = line.trim_start_matches(is_blank);
            let indent = line.len() - content.len();
            let (end, outer) = self.other;
            let is_part = self.unended.is_some_and(|unended| indent > unended) || (self.at < end && indent > outer);
            let begins = content.starts_with(['{', '[']) && !is_part;
            let passed = if begins { self.examine(content, indent) } else { 0 };
            if self.looks_left == 0 {
                return self.found(unreadable("too many objects in it have no end"), 0);
            }
            self.next_line(self.at + indent + passed);
        }
    }

    /// Goes on after the line in which this position is.
    fn next_line(&mut self, from: usize) {
        let rest = self.text.get(from..).unwrap_or_default();
        self.at = rest.find(['\n', '\r']).map_or(self.text.len(), |end| from + end + 1);
    }

    /// Examines the object or array that `text` begins with. Returns how many bytes of it are read.
    fn examine(&mut self, text: &str, indent: usize) -> usize {
        let mut scan = ObjectScan::default();
        let (step, length) = scan.scan(text.as_bytes());
        self.looks_left = self.looks_left.saturating_sub(length);
        let value = text.get(..length).unwrap_or_default();
        match step {
            Step::End if self.read(value, scan.has_status(), indent) => length,
            Step::End => {
                self.other = (self.at + indent + length, indent);
                0
            }
            Step::Open | Step::Broken => {
                if scan.has_status() {
                    let error = Document::check(value.as_bytes(), MAX_RESULT_DEPTH).err();
                    let why = error.map_or_else(|| "it has no end".to_owned(), |error| describe(&error));
                    self.found(unreadable(&why), indent);
                    self.unended = Some(indent);
                }
                if step == Step::Open && self.open.is_none() {
                    self.open = Some(scan);
                }
                0
            }
        }
    }

    /// Reads a value that has an end, and returns whether it is, or looks like, a verdict.
    fn read(&mut self, value: &str, has_status: bool, indent: usize) -> bool {
        match Document::check(value.as_bytes(), MAX_RESULT_DEPTH) {
            Ok(document) => {
                let status = document.fields_that(|name| name == "status").string("status");
                let is_verdict = status.is_some();
                if is_verdict {
                    self.found(read_whole(&document), indent);
                    self.unended = None;
                }
                is_verdict
            }
            Err(JsonError::Refused(refusal)) if has_status => {
                self.found(not_taken(ResultContent::refused(PLACE, &refusal)), indent);
                true
            }
            Err(error) if has_status => {
                self.found(unreadable(&describe(&error)), indent);
                true
            }
            Err(_) => false,
        }
    }

    /// Notes a verdict, unless it may be a part of the last one, which is indented less.
    fn found(&mut self, printed: Printed, indent: usize) {
        if self.last.as_ref().is_none_or(|last| indent <= last.indent) {
            self.last = Some(Verdict { printed, indent });
        }
    }

    /// Passes the rest of a value whose beginning was dropped.
    fn pass_rest_of(&mut self, mut open: ObjectScan) {
        let (step, length) = open.scan(self.text.as_bytes());
        if open.has_status() {
            let why = "it is longer than the output that is kept; leave large output in a file of its own";
            self.found(unreadable(why), 0);
        }
        match step {
            Step::End => self.next_line(length),
            Step::Open | Step::Broken => {
                self.unended = open.has_status().then_some(0);
                self.open = (step == Step::Open).then_some(open);
                self.next_line(0);
            }
        }
    }
}

/// Returns whether the character may stand before an object that begins a line.
fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\u{a0}' | '\u{feff}')
}

/// Returns the object that is the whole text, or its last line: fields beside the command's own.
fn whole_or_last_line(text: &str) -> Option<Printed> {
    let text = text.trim_matches(|c: char| c.is_ascii_whitespace() || is_blank(c));
    let last = text.lines().next_back().unwrap_or_default();
    let object = |text: &str| match Document::check(text.as_bytes(), MAX_RESULT_DEPTH) {
        Ok(document) => Some(read_whole(&document)),
        Err(JsonError::Refused(refusal)) => Some(not_taken(ResultContent::refused(PLACE, &refusal))),
        Err(JsonError::NotJson(_) | JsonError::NotAnObject) => None,
    };
    [text, last].into_iter().find_map(object)
}

fn read_whole(document: &Document<'_>) -> Printed {
    Printed { fields: document.fields(), is_unreadable: false, replaced: document.replaced() }
}

fn not_taken(failure: ResultContent) -> Printed {
    Printed { fields: failure.to_object(), is_unreadable: true, replaced: 0 }
}

/// Sets the reason of a verdict with this status, if it is a failure without one.
fn give_reason(verdict: &mut JsonFields, status: &str) {
    if status != "success" && ["reason", "error"].iter().all(|name| verdict.get(name).is_none()) {
        let shown = first_chars(status, 100);
        verdict.set("reason", &format!("the command printed the status {shown:?}, and no reason"));
    }
}

fn unreadable(why: &str) -> Printed {
    let reason = format!("result_parse_error: {PLACE} looks like a verdict, and cannot be read: {why}");
    not_taken(ResultContent::Failure { reason })
}

fn describe(error: &JsonError) -> String {
    match error {
        JsonError::NotJson(error) => error.to_string(),
        JsonError::NotAnObject => "it is no object".to_owned(),
        JsonError::Refused(refusal) => refusal.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn printed(text: &str) -> JsonFields {
        printed_result(text, DroppedText::default()).fields
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
            format!("\u{1b}(B\u{1b}[m{FAILED}\u{1b}(B\u{1b}[m\n"),
            format!("spinner\u{1b}[2K\u{1b}[1G{FAILED}\n"),
            format!("10 %\u{8}\u{8}\u{8}\u{8}{FAILED}\n"),
            format!("\u{9b}31m{FAILED}\u{9b}0m\n"),
            format!("\u{1b}P1$r0m\u{1b}\\{FAILED}\n"),
            format!("\0{FAILED}\n"),
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
            "{\"a\":{\"status\":\"failed\"",
            "{\"status\":200,\"path\":\"/x",
            "{",
            "x {\"status\":\"failed\"}",
            "[\n  {\"name\":\"ci\",\"status\":\"failed\"}\n]\n",
            "{\n  \"n\": NaN,\n  \"jobs\": [\n    {\"status\": \"failed\"}\n  ]\n}\n",
            &"{\"ts\":1712345678,\"v\":12\n".repeat(200),
        ] {
            assert_eq!(printed(text), JsonFields::default(), "{text}");
        }
        assert_eq!(printed("log\n{\"tokens_used\":7}\n").read::<u64>("tokens_used"), Some(7));
        assert_eq!(printed("log\n{\"status\":1,\"reason\":\"r\"}\n").string("reason").as_deref(), Some("r"));
        let list = format!("{}{}", "[".repeat(200), "]".repeat(200));
        assert_eq!(printed(&list), JsonFields::default());
    }

    #[test]
    fn what_is_indented_further_than_a_verdict_may_be_a_part_of_it() {
        for after in ["[\n  {\"step\":1,\"status\":\"success\"}\n]", "Steps:\n  {\"status\":\"success\"}"] {
            assert_eq!(status(&format!("{FAILED}\n{after}\n")).as_deref(), Some("failed"), "{after}");
        }
        assert_eq!(status(&format!("  {FAILED}\n{{\"status\":\"success\"}}\n")).as_deref(), Some("success"));
    }

    #[test]
    fn a_failure_without_a_reason_says_what_was_printed() {
        let reason = printed("{\"status\":\"ok\"}").string("reason").unwrap();
        assert_eq!(reason, "the command printed the status \"ok\", and no reason");
        assert!(printed_result("{\"status\":\"ok\"}", DroppedText::default()).is_unreadable);
    }

    #[test]
    fn replaced_characters_are_counted() {
        let printed = printed_result(r#"{"status":"failed","reason":"\ud83e"}"#, DroppedText::default());
        assert_eq!((printed.replaced, printed.is_unreadable), (1, false));
    }

    #[test]
    fn what_was_dropped_counts() {
        let after = |dropped: &[&str], text: &str| {
            let mut before = DroppedText::default();
            dropped.iter().for_each(|part| before.push(part));
            printed_result(text, before).fields.string("status")
        };
        let begun = "log\n{\"status\":\"failed\",\"output\":\"";
        assert_eq!(after(&[begun], "long\"}\n").as_deref(), Some("failed"));
        assert_eq!(after(&[begun, "long"], "long\",\n  {\"status\":\"success\"}\n").as_deref(), Some("failed"));
        assert_eq!(after(&[begun], "long\"}\n{\"status\":\"success\"}\n").as_deref(), Some("success"));
        assert_eq!(after(&["\u{feff}\u{1b}[31m", begun], "long\"}\n").as_deref(), Some("failed"));
        // A whole one, with much after it.
        let whole = format!("{FAILED}\nmore\n");
        assert_eq!(after(&[&whole, "and more\n"], "the end\n").as_deref(), Some("failed"));
        assert_eq!(after(&[&whole], "{\"status\":\"success\"}\n").as_deref(), Some("success"));
        // The rest of a line begins none.
        assert_eq!(after(&["said: "], "{\"status\":\"failed\"}\n"), None);
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
