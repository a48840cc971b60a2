//! The fields of every frame that a sidecar may send, as a table. The checks themselves are in `schema`.
//!
//! Source: the legacy hub's schema listing, and `docs/protocol.md` for the additions of this project.

use crate::protocol::schema::field::{Field, Kind, may, must};

const TASK: Field = must("task_id", Kind::Text);

/// Each frame's fields besides `type`.
const FRAMES: &[(&str, &[Field])] = &[
    (
        "identify",
        &[
            must("agent_id", Kind::Text),
            must("token", Kind::Text),
            may("name", Kind::Text),
            may("status", Kind::Text),
            may("capabilities", Kind::List),
            may("labels", Kind::Any),
            may("ollama_url", Kind::Text),
            may("client_type", Kind::Text),
            may("pm2_info", Kind::Object),
            may("boot_id", Kind::Text),
            may("version", Kind::Text),
            may("restarted", Kind::Object),
            may("previous_end", Kind::Text),
            may("previous_end_detail", Kind::Text),
            may("silence_bound_ms", Kind::Count),
            may("features", Kind::Texts),
        ],
    ),
    ("ping", &[]),
    ("status", &[must("status", Kind::Text)]),
    ("task_accepted", &[TASK, may("generation", Kind::Count)]),
    ("task_recovering", &[TASK, may("last_status", Kind::Text)]),
    ("task_rejected", &[TASK, must("reason", Kind::Text), may("generation", Kind::Count)]),
    ("task_progress", &[TASK, may("progress", Kind::Integer), may("execution_event", Kind::Object)]),
    (
        "task_complete",
        &[
            TASK,
            must("generation", Kind::Count),
            may("result", Kind::Object),
            may("tokens_used", Kind::Integer),
            may("verification_report", Kind::Object),
            may("verification_history", Kind::Objects),
        ],
    ),
    ("task_failed", &[TASK, must("generation", Kind::Count), may("error", Kind::Text), may("reason", Kind::Text)]),
    (
        "state_report",
        &[TASK, may("status", Kind::Text), may("generation", Kind::Count), may("assigned_at", Kind::Number)],
    ),
    (
        "wake_result",
        &[
            TASK,
            must("status", Kind::Text),
            may("attempt", Kind::Integer),
            may("error", Kind::Text),
            may("reason", Kind::Text),
        ],
    ),
    (
        "resource_report",
        &[
            may("cpu_percent", Kind::Number),
            may("ram_used_bytes", Kind::Number),
            may("ram_total_bytes", Kind::Number),
            may("vram_used_bytes", Kind::Number),
            may("vram_total_bytes", Kind::Number),
            may("timestamp", Kind::Number),
        ],
    ),
    ("cordon", &[must("on", Kind::Flag)]),
    ("ollama_report", &[must("ollama_url", Kind::Text)]),
    (
        "agent_restarting",
        &[
            may("reason", Kind::Text),
            may("command_id", Kind::Text),
            may("forced", Kind::Flag),
            may("expected_back_ms", Kind::Count),
            may("task_id", Kind::Text),
        ],
    ),
    (
        "restart_ack",
        &[
            must("command_id", Kind::Text),
            must("outcome", Kind::Text),
            may("detail", Kind::Text),
            may("deadline_ms", Kind::Count),
            may("retry_after_ms", Kind::Count),
        ],
    ),
];

/// Returns the fields of a frame besides `type`, or `None` for a type that this hub does not know.
pub(crate) fn frame_fields(kind: &str) -> Option<&'static [Field]> {
    FRAMES.iter().find(|(name, _)| *name == kind).map(|(_, fields)| *fields)
}

/// Returns every type that this hub knows, in alphabetical order.
pub(crate) fn known_types() -> Vec<&'static str> {
    let mut known: Vec<&str> = FRAMES.iter().map(|(name, _)| *name).collect();
    known.sort_unstable();
    known
}
