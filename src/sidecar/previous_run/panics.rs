//! Notes in the history what ends a run, or its start, in the wrong way, in time for the next run to tell.

use std::path::{Path, PathBuf};

use crate::common::text::first_chars;
use crate::sidecar::exit_code::ExitCode;
use crate::sidecar::history::{HistoryEvent, writer};
use crate::sidecar::previous_run::PreviousRun;

/// The most that is kept of a message, in characters.
const MAX_TEXT: usize = 500;

/// Notes each panic from now on, beside what the hook before does. A panic of a background task does not end the run.
pub(crate) fn note_all(queue_file: PathBuf, boot_id: String) {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        before(panic);
        let in_background = tokio::task::try_id().is_some();
        let what = HistoryEvent::Panicked { why: clipped(&panic.to_string()), in_background };
        writer::append_now(&queue_file, &boot_id, what);
    }));
}

/// Notes that a run could not begin, and how the run before it ended.
pub(crate) fn note_failed_start(queue_file: &Path, code: ExitCode, why: &str, before: Option<PreviousRun>) {
    let boot_id = format!("start of process {}", std::process::id());
    if let Some(PreviousRun { end, why, .. }) = before {
        writer::append_now(queue_file, &boot_id, HistoryEvent::RunBefore { end, why });
    }
    writer::append_now(queue_file, &boot_id, HistoryEvent::StartFailed { exit_code: code as u8, why: clipped(why) });
}

/// Returns the text on one line: a panic's has a line for its place.
fn clipped(text: &str) -> String {
    first_chars(text, MAX_TEXT).replace('\n', " ")
}
