//! Turns a command's end into the task's result. It writes nothing.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::protocol::{JsonError, MAX_RESULT_DEPTH, read_object};
use crate::sidecar::agent::results::outcome::{MAX_FILE_BYTES, ResultContent};
use crate::sidecar::agent::supervised::output::{Stream, cut_to_end};
use crate::sidecar::agent::wake::process_group;

/// How much output a result includes, bytes.
const OUTPUT_BYTES: usize = 64 * 1024;

/// How much of the output a failure's reason quotes, bytes: a hub accepts 2,000 characters.
const QUOTED_BYTES: usize = 1_800;

/// A command's end and its output.
pub(super) struct Ended {
    pub(super) kind: EndKind,
    pub(super) streams: [Stream; 2],
    /// The leader of the process group to end, if anything was started.
    pub(super) leader: Option<u32>,
}

pub(super) enum EndKind {
    NotStarted(io::Error),
    Exited(ExitStatus),
    TimedOut,
    /// This process received SIGTERM.
    Signalled,
    Lost(io::Error),
}

impl Ended {
    /// Returns the content of the result file.
    pub(super) fn result(&self, took: Duration, limit_ms: u64) -> Value {
        let [out, err] = &self.streams;
        let (text, lost) = out.kept();
        let mut output = text.to_owned();
        let left_out = lost + cut_to_end(&mut output, OUTPUT_BYTES);
        let mut result = Map::new();
        result.insert("output".into(), output.into());
        if left_out > 0 {
            result.insert("output_left_out_bytes".into(), left_out.into());
        }
        result.insert("execution_ms".into(), u64::try_from(took.as_millis()).unwrap_or(u64::MAX).into());
        let reason = match &self.kind {
            EndKind::Exited(status) => {
                result.insert("exit_code".into(), json!(status.code()));
                if status.success() {
                    result.insert("status".into(), "success".into());
                    let printed = printed_result(text);
                    return merge_printed(result, printed);
                }
                process_group::describe_exit(*status)
            }
            EndKind::TimedOut => format!("timed out: ran longer than {limit_ms} ms and was ended"),
            EndKind::Signalled => "was ended by SIGTERM to its supervisor (is the machine going down?)".to_owned(),
            EndKind::Lost(error) => format!("was lost: {error}"),
            EndKind::NotStarted(error) => format!("did not start: {error}; is `sh` there, and the working folder?"),
        };
        let quoted = if err.kept().0.trim().is_empty() { text } else { err.kept().0 };
        let mut tail = quoted.trim().to_owned();
        cut_to_end(&mut tail, QUOTED_BYTES);
        let reason = if tail.is_empty() { format!("command {reason}") } else { format!("command {reason}: {tail}") };
        result.insert("status".into(), "failed".into());
        result.insert("reason".into(), reason.into());
        Value::Object(result)
    }
}

/// Merges the printed result into `result`, if the whole still fits in a result file; otherwise returns a failure.
fn merge_printed(result: Map<String, Value>, printed: Map<String, Value>) -> Value {
    let mut whole = result.clone();
    whole.extend(printed);
    let whole = Value::Object(whole);
    let bytes = whole.to_string().len() as u64;
    if bytes <= MAX_FILE_BYTES {
        return whole;
    }
    let mut failed = result;
    failed.insert("status".into(), "failed".into());
    failed.insert(
        "reason".into(),
        format!(
            "result_too_large: with what the command printed it has {bytes} bytes, more than {MAX_FILE_BYTES}; leave large \
             output in a file of its own, and name that in the result"
        )
        .into(),
    );
    Value::Object(failed)
}

/// Returns the result that the command printed: its whole output, or the last line of it, if that is a JSON object. An
/// object that no hub would accept becomes a failure, since its content cannot be passed on.
fn printed_result(text: &str) -> Map<String, Value> {
    let last = text.trim_end().lines().next_back().unwrap_or_default();
    let printed = |text: &str| match read_object(text.as_bytes(), MAX_RESULT_DEPTH) {
        Ok(object) => Some(object),
        Err(JsonError::Refused(refusal)) => {
            Some(ResultContent::refused("what the command printed", &refusal).to_object())
        }
        Err(JsonError::NotJson(_) | JsonError::NotAnObject) => None,
    };
    [text, last].into_iter().find_map(printed).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_printed_object_is_a_result_that_is_taken_and_never_lost(
            value in crate::protocol::tests::any_text::value(),
            banner in prop::option::of("[a-z ]{1,9}\n"),
        ) {
            let printed = printed_result(&format!("{}{{\"deep\":{value}}}\n", banner.unwrap_or_default()));
            prop_assert!(printed.contains_key("deep") || printed["status"] == "failed", "{printed:?}");
            let file = Value::Object(printed).to_string();
            prop_assert!(read_object(file.as_bytes(), MAX_RESULT_DEPTH).is_ok(), "{file}");
        }
    }

    #[test]
    fn what_is_too_large_for_a_result_file_with_its_numbers_written_out_is_a_failure() {
        let printed = printed_result(&format!("{{\"n\":[{}]}}", vec!["1e15"; 200_000].join(",")));
        let result = merge_printed(Map::from_iter([("output".to_owned(), json!("tail"))]), printed);
        assert!(result["reason"].as_str().unwrap().starts_with("result_too_large: "), "{result}");
        assert_eq!((&result["status"], &result["output"], result.get("n")), (&json!("failed"), &json!("tail"), None));
    }

    #[test]
    fn a_list_is_no_result_however_deep() {
        let list = format!("{}{}", "[".repeat(200), "]".repeat(200));
        assert_eq!(printed_result(&list), Map::new());
    }
}
