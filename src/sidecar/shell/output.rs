//! The frame for what a task's command prints.

use serde_json::json;

use crate::protocol::{JsonText, SidecarFrame};
use crate::sidecar::agent::supervised::OutputBatch;

/// Returns the frame for output of a running task, in the legacy sidecar's form.
pub(crate) fn output_frame(batch: OutputBatch, now_ms: u64) -> SidecarFrame {
    let event = json!({
        "event_type": batch.stream, "text": batch.text, "tokens_so_far": null, "model": null, "timestamp": now_ms,
    });
    SidecarFrame::TaskProgress { task_id: batch.task_id, progress: None, execution_event: Some(JsonText::of(&event)) }
}
