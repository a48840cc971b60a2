//! The frames on the wire as data, and how JSON is read: serde only, no sockets and no decisions.
//!
//! One text frame is one JSON object whose `"type"` names it. Both ends share these types, and the tests send every
//! frame through both, so one end cannot send what the other cannot read.
//!
//! Source: the legacy hub's schema listing and recorded conversations (see `docs/protocol.md`).

mod agent_name;
mod hub_frame;
mod identity_conflict;
mod json;
mod labels;
mod limits;
pub mod schema;
mod sidecar_frame;

pub use agent_name::{BadAgentName, NEW_NAME, check_agent_name, check_new_name};
pub use hub_frame::{Assignment, HubError, HubFrame, RestartCommand, StateAction, TaskAckStatus};
pub use identity_conflict::{
    CLOSE_REFUSED, CLOSE_SUPERSEDED, RECENT_CONFLICT_MS, Rival, refused_reason, superseded_reason,
};
pub use json::{
    Document, JsonError, JsonFields, JsonText, JsonType, MAX_JSON_DEPTH, MAX_RESULT_DEPTH, MAX_STORED_DEPTH,
    RESERVED_KEY, Refusal, Repaired, json_bytes, limit_depth, read_part, read_stored, repair, stored_fields,
    stored_value,
};
pub use labels::{BadLabel, Labels, MAX_LABEL_CHARS, MAX_LABELS, check_label_key, check_label_value};
pub use limits::{Limit, clip};
pub use sidecar_frame::{
    Identify, Pm2Info, PreviousEnd, RestartAck, RestartAckOutcome, Restarted, Restarting, SidecarFrame, TaskCompletion,
    WakeStatus,
};

/// The protocol version, part of every frame that a sidecar sends.
pub const PROTOCOL_VERSION: u32 = 1;

/// The entry of `identified.features` of a hub that knows the restart conversation of `docs/protocol.md`
/// (`command_id`, `restart_ack`, the long form of `agent_restarting`, `identify.restarted`).
pub const FEATURE_RESTART_V2: &str = "restart.v2";

/// The entry of `identified.features` of a hub that understands `task_rejected`.
pub const FEATURE_TASK_REJECTED: &str = "task_rejected";

/// The entry of `identified.features` of a hub that understands `cordon`.
pub const FEATURE_CORDON: &str = "cordon";

/// The entry of `identified.features` and of `identify.features` of a peer for which `task_reassign` with a
/// `generation` may come at any time: the task is not the agent's any more under any generation up to that one.
pub const FEATURE_TASK_REASSIGN: &str = "task_reassign";

/// The `status` of a `state_report` about work that the sidecar only keeps (feature `task_reassign`).
pub const STATUS_PARKED: &str = "parked";

/// The beginning of the `status` of a sidecar that cannot write its journal.
pub const STATUS_UNWELL: &str = "unwell: ";

/// The reason why a text frame could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The text is not JSON, or not one JSON object with a string `type`.
    #[error("not a frame: {0}")]
    NotAFrame(String),
    /// The type is unknown to this side. Legacy hubs push many of those; they are ignored at debug level.
    #[error("unknown frame type {0:?}")]
    UnknownType(String),
    /// The type is known, but the JSON is refused.
    #[error("{kind} frame is not taken: {refusal}")]
    Refused {
        /// The frame's `type`.
        kind: String,
        /// The reason.
        refusal: Refusal,
    },
    /// The type is known, but a field is missing or of the wrong type; the text names the field.
    #[error("malformed {kind} frame: {detail}")]
    Malformed {
        /// The frame's `type`.
        kind: String,
        /// What was found and what was expected, by field.
        detail: String,
    },
}

/// Checks that the text is a frame of one of the `known` types, and returns its type and its other fields.
fn split(text: &str, known: &[&str]) -> Result<(String, JsonFields), FrameError> {
    let is_known = |kind: &str| match known.contains(&kind) {
        true => Ok(()),
        false => Err(FrameError::UnknownType(kind.to_owned())),
    };
    let no_type = || FrameError::NotAFrame("no string field \"type\"".into());
    let document = match Document::check(text.as_bytes(), MAX_JSON_DEPTH) {
        Ok(document) => document,
        Err(JsonError::NotJson(error)) => return Err(FrameError::NotAFrame(error.to_string())),
        Err(JsonError::NotAnObject) => return Err(FrameError::NotAFrame("no object".into())),
        Err(JsonError::Refused(refusal)) => {
            let kind = kind_of(text).ok_or_else(no_type)?;
            is_known(&kind)?;
            return Err(FrameError::Refused { kind, refusal });
        }
    };
    let kind = document.fields_that(|name| name == "type").string("type").ok_or_else(no_type)?;
    is_known(&kind)?;
    Ok((kind, document.fields_that(|name| name != "type")))
}

/// Returns the `type` of a frame whose JSON is refused.
pub fn kind_of(text: &str) -> Option<String> {
    fields_of_refused(text, |name| name == "type").string("type")
}

/// Returns the id and generation of the task that a frame names whose JSON is refused.
pub fn task_named_in(text: &str) -> (Option<String>, Option<u64>) {
    let named = fields_of_refused(text, |name| matches!(name, "task_id" | "generation"));
    (named.string("task_id").map(|id| clip(&id, Limit::AgentId)), named.read("generation"))
}

/// Returns some fields of a frame whose JSON is refused.
fn fields_of_refused(text: &str, wanted: impl Fn(&str) -> bool) -> JsonFields {
    JsonFields::of_unchecked(&repair(text.as_bytes()).text, wanted)
}

#[cfg(test)]
pub(crate) mod tests;
