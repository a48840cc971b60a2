//! Turns a command's end into the task's result. It writes nothing.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use crate::protocol::JsonFields;
use crate::sidecar::agent::results::outcome::MAX_FILE_BYTES;
use crate::sidecar::agent::supervised::output::{Stream, cut_to_end};
use crate::sidecar::agent::supervised::verdict::{Printed, printed_result};
use crate::sidecar::agent::wake::process_group;

/// The field of a result with the number of characters that were replaced because they are not Unicode.
pub(crate) const REPLACED: &str = "replaced_characters";

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

/// The result of a run.
pub(super) struct RunResult {
    /// The content of the result file.
    pub(super) fields: JsonFields,
    /// Whether the command printed a result that cannot be passed on.
    pub(super) is_unread: bool,
}

pub(super) enum EndKind {
    NotStarted(io::Error),
    Exited(ExitStatus),
    TimedOut {
        /// The command's time limit, ms.
        limit_ms: u64,
    },
    /// This process received SIGTERM.
    Signalled,
    Lost(io::Error),
}

impl Ended {
    /// Returns the content of the result file.
    pub(super) fn result(&mut self, took: Duration) -> RunResult {
        let dropped = self.streams[0].take_dropped();
        let [out, err] = &self.streams;
        let (text, lost) = out.kept();
        let mut output = text.to_owned();
        let left_out = lost + cut_to_end(&mut output, OUTPUT_BYTES);
        let mut result = JsonFields::default();
        result.set("output", &output);
        if left_out > 0 {
            result.set("output_left_out_bytes", &left_out);
        }
        let replaced = out.replaced() + err.replaced();
        set_replaced(&mut result, replaced);
        result.set("execution_ms", &u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        let reason = match &self.kind {
            EndKind::Exited(status) => {
                result.set("exit_code", &status.code());
                if status.success() {
                    result.set("status", "success");
                    let printed = printed_result(text, dropped);
                    set_replaced(&mut result, replaced + printed.replaced);
                    return merge_printed(result, printed);
                }
                process_group::describe_exit(*status)
            }
            EndKind::TimedOut { limit_ms } => format!("timed out: ran longer than {limit_ms} ms and was ended"),
            EndKind::Signalled => "was ended by SIGTERM to its supervisor (is the machine going down?)".to_owned(),
            EndKind::Lost(error) => format!("was lost: {error}"),
            EndKind::NotStarted(error) => format!("did not start: {error}; is the working folder there?"),
        };
        let quoted = if err.kept().0.trim().is_empty() { text } else { err.kept().0 };
        let mut tail = quoted.trim().to_owned();
        cut_to_end(&mut tail, QUOTED_BYTES);
        let reason = if tail.is_empty() { format!("command {reason}") } else { format!("command {reason}: {tail}") };
        result.set("status", "failed");
        result.set("reason", &reason);
        RunResult { fields: result, is_unread: false }
    }

    /// Returns the end of what the command printed on stdout.
    pub(super) fn printed(&self) -> &str {
        self.streams[0].kept().0
    }
}

fn set_replaced(result: &mut JsonFields, replaced: usize) {
    if replaced > 0 {
        result.set(REPLACED, &replaced);
    }
}

/// Merges the printed result into `result`, if the whole still fits in a result file; otherwise returns a failure.
fn merge_printed(result: JsonFields, printed: Printed) -> RunResult {
    let mut whole = result.clone();
    whole.extend(printed.fields);
    let bytes = whole.to_text().as_str().len() as u64;
    if bytes <= MAX_FILE_BYTES {
        return RunResult { fields: whole, is_unread: printed.is_unreadable };
    }
    let mut failed = result;
    failed.set("status", "failed");
    let reason = format!(
        "result_too_large: with what the command printed it has {bytes} bytes, more than {MAX_FILE_BYTES}; leave large \
         output in a file of its own, and name that in the result"
    );
    failed.set("reason", &reason);
    RunResult { fields: failed, is_unread: true }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::JsonText;

    #[test]
    fn what_is_too_large_for_a_result_file_is_a_failure() {
        let fields = JsonFields::from_iter([("n", JsonText::of(&"x".repeat(2 << 20)))]);
        let printed = Printed { fields, ..Printed::default() };
        let RunResult { fields: result, is_unread } =
            merge_printed(JsonFields::from_iter([("output", JsonText::of("tail"))]), printed);
        assert!(is_unread);
        assert!(result.string("reason").unwrap().starts_with("result_too_large: "), "{result:?}");
        let kept = (result.string("status"), result.string("output"), result.get("n"));
        assert_eq!(kept, (Some("failed".to_owned()), Some("tail".to_owned()), None));
    }
}
