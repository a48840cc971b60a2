//! The last that an agent reported of its task: how far it is, and the end of its output.

use serde::{Deserialize, Serialize};

use crate::protocol::{JsonFields, JsonText};

/// The largest part of a task's output that is kept, in bytes: its end.
pub const MAX_OUTPUT_BYTES: usize = 4 << 10;

/// The last that an agent reported of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskProgress {
    /// The task.
    pub task_id: Box<str>,
    /// The time of the last report, in ms since the epoch.
    pub at: u64,
    /// The time of the last output, in ms since the epoch.
    #[serde(default)]
    pub output_at: Option<u64>,
    /// The progress, in per cent, if the agent names it.
    pub progress: Option<i64>,
    /// The end of its output: at most [`MAX_OUTPUT_BYTES`], with whatever characters it has.
    pub output: String,
    /// Whether more than that was reported.
    pub output_cut: bool,
}

impl TaskProgress {
    /// Creates the progress of a task of which nothing was reported yet.
    pub(super) fn new(task_id: &str) -> Self {
        Self {
            task_id: task_id.into(),
            at: 0,
            output_at: None,
            progress: None,
            output: String::new(),
            output_cut: false,
        }
    }

    /// Adds a report.
    pub(super) fn add(&mut self, progress: Option<i64>, event: Option<&JsonText>, now_ms: u64) {
        self.at = now_ms;
        self.progress = progress.or(self.progress);
        let named = |event: &JsonText| JsonFields::of_unchecked(event.as_str(), |name| name == "text").string("text");
        if let Some(text) = event.and_then(named) {
            self.output_at = Some(now_ms);
            self.add_output(&text);
        }
    }

    fn add_output(&mut self, text: &str) {
        let tail = from_byte(text, text.len().saturating_sub(MAX_OUTPUT_BYTES));
        self.output_cut |= tail.len() < text.len();
        let excess = (self.output.len() + tail.len()).saturating_sub(MAX_OUTPUT_BYTES);
        self.output_cut |= excess > 0;
        // An exact copy: thousands of agents keep one each.
        self.output = [from_byte(&self.output, excess), tail].concat();
    }
}

/// Returns the text from this byte on, or from the next that begins a character.
fn from_byte(text: &str, mut at: usize) -> &str {
    while !text.is_char_boundary(at) {
        at += 1;
    }
    &text[at..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(texts: &[&str]) -> TaskProgress {
        let mut progress = TaskProgress::new("t");
        for text in texts {
            progress.add(None, Some(&JsonText::of(&serde_json::json!({"event_type": "stdout", "text": text}))), 7);
        }
        progress
    }

    #[test]
    fn the_end_of_the_output_is_kept_as_it_is() {
        let short = after(&["one\n", "\u{1b}[31mtwo\r\n"]);
        assert_eq!((short.output.as_str(), short.output_cut, short.at), ("one\n\u{1b}[31mtwo\r\n", false, 7));
        let long = "x".repeat(MAX_OUTPUT_BYTES - 1);
        let cut = after(&["ab", &long]);
        assert_eq!((cut.output.len(), cut.output.starts_with("bx"), cut.output_cut), (MAX_OUTPUT_BYTES, true, true));
        let huge = format!("{}end", "y".repeat(3 * MAX_OUTPUT_BYTES));
        let cut = after(&["ab", &huge]);
        assert_eq!((cut.output.len(), cut.output.ends_with("yend"), cut.output_cut), (MAX_OUTPUT_BYTES, true, true));
    }

    #[test]
    fn no_character_is_cut_in_two() {
        for lead in 0..5 {
            let cut = after(&[&"a".repeat(lead), &"ä€𝄞".repeat(MAX_OUTPUT_BYTES)]);
            assert!(cut.output.len() <= MAX_OUTPUT_BYTES && cut.output.len() > MAX_OUTPUT_BYTES - 4);
        }
    }

    #[test]
    fn a_report_without_a_text_changes_the_time_and_what_it_names() {
        let mut progress = after(&["a"]);
        progress.add(Some(40), Some(&JsonText::of(&serde_json::json!({"text": 7}))), 9);
        progress.add(None, None, 10);
        assert_eq!((progress.output.as_str(), progress.progress, progress.at), ("a", Some(40), 10));
    }
}
