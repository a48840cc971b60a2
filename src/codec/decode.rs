//! Decodes frames from the hub to the machine's events.

use crate::machine::{Features, FromHub, RestartOrder, Task, TaskId, VerdictName, VerdictRefusal};
use crate::protocol::{
    Assignment, FEATURE_CORDON, FEATURE_RESTART_V2, FEATURE_TASK_REASSIGN, FEATURE_TASK_REJECTED, FrameError, HubError,
    HubFrame, JsonText, Limit, Refusal, RestartCommand, StateAction, TaskAckStatus, clip,
};

/// The key in the payload of a task that cannot be started, with the reason. A hub cannot send it.
pub const CANNOT_START_KEY: &str = "$agentcom.not_kept";

/// The longest id of a restart command that is remembered, bytes.
const MAX_COMMAND_ID_BYTES: usize = 4 * 1024;

/// The wait after a rate-limited frame, in ms, if the hub names none.
const DEFAULT_RETRY_MS: u64 = 1_000;

/// Decodes one text frame to the agent `agent_id`. A frame without a meaning is still a sign of life.
pub fn decode_frame(text: &str, agent_id: &str) -> FromHub {
    match HubFrame::parse(text) {
        Ok(HubFrame::AgentLeft { agent_id: gone }) if gone == agent_id => FromHub::Forgotten,
        Ok(HubFrame::TaskAssign(mut assignment)) => {
            assignment.rest.remove(CANNOT_START_KEY);
            from_assignment(assignment)
        }
        Ok(frame) => from_frame(frame),
        Err(FrameError::UnknownType(kind)) => {
            tracing::debug!(frame = kind, "a frame type without a meaning here");
            FromHub::SignOfLife
        }
        Err(FrameError::Refused { kind, refusal }) if kind == "task_assign" => refused_assignment(text, &refusal),
        Err(error @ (FrameError::Refused { .. } | FrameError::NotAFrame(_) | FrameError::Malformed { .. })) => {
            tracing::warn!(%error, bytes = text.len(), "a frame that makes no sense was ignored");
            FromHub::SignOfLife
        }
    }
}

fn from_frame(frame: HubFrame) -> FromHub {
    match frame {
        HubFrame::Identified { agent_id: _, features } => {
            let has = |name: &str| features.iter().any(|feature| feature == name);
            FromHub::Identified {
                features: Features {
                    restart_v2: has(FEATURE_RESTART_V2),
                    task_rejected: has(FEATURE_TASK_REJECTED),
                    cordon: has(FEATURE_CORDON),
                    task_reassign: has(FEATURE_TASK_REASSIGN),
                },
            }
        }
        HubFrame::Error(error) => from_error(&error),
        HubFrame::TaskAssign(assignment) => from_assignment(assignment),
        HubFrame::TaskAck { task_id, status } => match status {
            TaskAckStatus::Accepted => FromHub::AcceptAcknowledged { task_id },
            // Any answer ends the wait for one.
            TaskAckStatus::Complete
            | TaskAckStatus::Failed
            | TaskAckStatus::Retried
            | TaskAckStatus::DeadLetter
            | TaskAckStatus::Other => FromHub::VerdictAcknowledged { task_id },
        },
        HubFrame::TaskContinue { task_id, generation } => FromHub::TaskContinue { task_id, generation },
        HubFrame::TaskReassign { task_id, generation } => FromHub::TaskReassigned { task_id, generation },
        // The event loop has passed it on.
        HubFrame::RoomMessage { message: _ } => FromHub::SignOfLife,
        HubFrame::TaskCancelled { task_id } => FromHub::TaskCancelled { task_id },
        HubFrame::StateReportAck { task_id, action } => {
            FromHub::ReportAnswered { task_id, go_on: action == StateAction::Continue }
        }
        HubFrame::RestartSidecar(command) => FromHub::RestartCommanded(restart_order(command)),
        HubFrame::RateLimited { retry_after_ms, tier } => {
            let retry_after_ms = retry_after_ms.unwrap_or(DEFAULT_RETRY_MS);
            tracing::warn!(retry_after_ms, tier, "the hub dropped a frame for its rate");
            FromHub::RateLimited { retry_after_ms }
        }
        HubFrame::Pong { .. } | HubFrame::RateLimitWarning {} | HubFrame::AgentLeft { .. } => FromHub::SignOfLife,
    }
}

fn from_error(error: &HubError) -> FromHub {
    let text = error.error.as_str();
    if let "invalid_token" | "token_agent_mismatch" = text {
        return FromHub::IdentifyRefused { error: text.to_owned() };
    }
    if text == "rate_limited" {
        return FromHub::RateLimited { retry_after_ms: DEFAULT_RETRY_MS };
    }
    for (prefix, complete) in [("task_complete_failed:", true), ("task_fail_failed:", false)] {
        match text.strip_prefix(prefix).map(str::trim) {
            None => {}
            Some("stale_generation" | "invalid_state") => {
                return FromHub::VerdictRefused { complete, why: VerdictRefusal::NotNow, of: named(error) };
            }
            Some("rate_limited") => return FromHub::RateLimited { retry_after_ms: DEFAULT_RETRY_MS },
            Some("not_found") => {
                return FromHub::VerdictRefused { complete, why: VerdictRefusal::Never, of: named(error) };
            }
            Some(_) => return verdict_refused(Some(complete), text, named(error)),
        }
    }
    let about = error.message_type.as_deref();
    match (text, about) {
        ("validation_failed", Some("identify")) => {
            FromHub::IdentifyRefused { error: format!("validation_failed: {}", JsonText::of(&error.errors)) }
        }
        ("validation_failed", Some("state_report")) => FromHub::ReportNotUnderstood,
        // Expected of legacy hubs: see `docs/protocol.md`.
        ("validation_failed", Some("agent_restarting")) => FromHub::SignOfLife,
        (_, Some(kind @ ("task_complete" | "task_failed"))) => {
            let words = format!("{text}: {}", JsonText::of(&error.errors));
            verdict_refused(Some(kind == "task_complete"), &words, named(error))
        }
        (_, Some(_)) => {
            tracing::warn!(error = text, frame = about, "the hub refused something");
            FromHub::SignOfLife
        }
        (_, None) => {
            tracing::warn!(error = text, "the hub refused something, and does not say what");
            verdict_refused(None, text, named(error))
        }
    }
}

fn verdict_refused(complete: Option<bool>, error: &str, of: Option<VerdictName>) -> FromHub {
    FromHub::RefusedInOtherWords { complete, error: clip(error, Limit::Status), of }
}

/// Returns the verdict that an error names.
fn named(error: &HubError) -> Option<VerdictName> {
    let (task_id, generation) = (error.task_id.clone()?, error.generation?);
    Some(VerdictName { task_id, generation })
}

fn from_assignment(assignment: Assignment) -> FromHub {
    let (generation, assigned_at) = (assignment.generation, assignment.assigned_at());
    match TaskId::new(&assignment.task_id) {
        Ok(id) => {
            let payload = task_payload(&assignment);
            let timeout_ms = assignment.timeout_ms();
            FromHub::Assigned { task: Task { id, generation, payload: payload.into() }, assigned_at, timeout_ms }
        }
        Err(why) => FromHub::AssignedInvalid { task_id: assignment.task_id, generation, why: why.to_string() },
    }
}

/// Decodes an assignment whose content cannot be stored: the task is accepted by its id alone, and fails when it is to
/// be started. Its failure is stored and reported like any other; work on it that an older sidecar has begun goes on.
fn refused_assignment(text: &str, refusal: &Refusal) -> FromHub {
    let Some(mut assignment) = Assignment::named_in(text) else {
        tracing::warn!(%refusal, bytes = text.len(), "an assignment that names no task was ignored");
        return FromHub::SignOfLife;
    };
    let field = refusal.field().map(|field| format!("field {field:?}: ")).unwrap_or_default();
    let why = format!("task_{}: {field}{refusal}", refusal.name());
    tracing::warn!(task_id = assignment.task_id, why, "a task cannot be kept as it came, and will fail");
    assignment.rest.set(CANNOT_START_KEY, &why);
    from_assignment(assignment)
}

/// Returns the assignment as the agent gets it: one JSON object with all fields but the frame's `type`.
fn task_payload(assignment: &Assignment) -> String {
    // In the order of their names: the texts of one task are equal.
    let mut object = assignment.rest.clone();
    object.set("task_id", &assignment.task_id);
    object.set("generation", &assignment.generation);
    object.to_text().to_string()
}

fn restart_order(command: RestartCommand) -> RestartOrder {
    let reason = command.reason.filter(|reason| !reason.is_empty());
    // It is remembered in the journal, sixteen of them: one that is too long for that is as none.
    let fits = |id: &String| id.len() <= MAX_COMMAND_ID_BYTES;
    RestartOrder {
        reason: clip(reason.as_deref().unwrap_or("hub_commanded"), Limit::Reason),
        command_id: command.command_id.filter(fits),
        deadline_ms: command.deadline_ms,
        force: command.force,
        by: command.by.map(|by| clip(&by, Limit::Status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn hear_json(value: &Value) -> FromHub {
        decode_frame(&value.to_string(), "alice")
    }

    #[test]
    fn an_assignment_keeps_everything_but_the_frame_type() {
        let heard =
            hear_json(&json!({"type": "task_assign", "task_id": "t-1", "generation": 3, "assigned_at": 5, "x": [1]}));
        let FromHub::Assigned { task, assigned_at, timeout_ms: None } = heard else { panic!("{heard:?}") };
        assert_eq!((task.id.as_str(), task.generation, assigned_at), ("t-1", 3, Some(5)));
        let payload: Value = serde_json::from_str(&task.payload).unwrap();
        assert_eq!(payload, json!({"task_id": "t-1", "generation": 3, "assigned_at": 5, "x": [1]}));
    }

    #[test]
    fn a_hub_cannot_say_that_a_task_is_not_kept() {
        let frame = r#"{"type": "task_assign", "task_id": "t-1", "generation": 3, "$agentcom.not_kept": "no"}"#;
        let FromHub::Assigned { task, .. } = decode_frame(frame, "alice") else { panic!() };
        assert!(!task.payload.contains(CANNOT_START_KEY), "{}", task.payload);
    }

    #[test]
    fn a_task_that_cannot_be_kept_is_taken_by_its_name_with_why_it_fails() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        let frame = |task_id: &str| {
            decode_frame(
                &format!(r#"{{"x":{deep},"type":"task_assign","task_id":"{task_id}","generation":3}}"#),
                "alice",
            )
        };
        let heard = frame("t-1");
        let FromHub::Assigned { task, .. } = heard else { panic!("{heard:?}") };
        let payload: Value = serde_json::from_str(&task.payload).unwrap();
        assert_eq!((task.generation, &payload["task_id"]), (3, &json!("t-1")));
        let why = payload[CANNOT_START_KEY].as_str().unwrap();
        assert!(why.starts_with("task_too_deep: field \"x\": nested 201 levels deep"), "{why}");
        assert!(matches!(frame("../x"), FromHub::AssignedInvalid { .. }));
        let nameless = format!(r#"{{"x":{deep},"type":"task_assign"}}"#);
        assert_eq!(decode_frame(&nameless, "alice"), FromHub::SignOfLife);
        let unknown = format!(r#"{{"x":{deep},"type":"channel_message"}}"#);
        assert_eq!(decode_frame(&unknown, "alice"), FromHub::SignOfLife);
    }

    #[test]
    fn a_task_id_that_is_a_path_is_told_apart() {
        let heard = hear_json(&json!({"type": "task_assign", "task_id": "../x", "generation": 1}));
        assert!(matches!(heard, FromHub::AssignedInvalid { .. }), "{heard:?}");
    }

    #[test]
    fn a_stale_verdict_may_count_later_and_an_unknown_task_never() {
        let refused = |error: &str| hear_json(&json!({"type": "error", "error": error}));
        assert_eq!(
            refused("task_complete_failed: stale_generation"),
            FromHub::VerdictRefused { complete: true, why: VerdictRefusal::NotNow, of: None }
        );
        assert_eq!(
            refused("task_fail_failed: not_found"),
            FromHub::VerdictRefused { complete: false, why: VerdictRefusal::Never, of: None }
        );
    }

    #[test]
    fn a_hub_that_does_not_know_the_goodbye_is_no_trouble() {
        let heard =
            hear_json(&json!({"type": "error", "error": "validation_failed", "message_type": "agent_restarting"}));
        assert_eq!(heard, FromHub::SignOfLife);
    }

    /// What an error says of the verdict in flight, if that is how it is taken.
    fn refusal(error: &Value) -> Option<(Option<bool>, String)> {
        let heard = hear_json(error);
        if let FromHub::RefusedInOtherWords { complete, error, of: _ } = heard {
            return Some((complete, error));
        }
        let elsewhere =
            matches!(heard, FromHub::SignOfLife | FromHub::RateLimited { .. } | FromHub::VerdictRefused { .. });
        assert!(elsewhere, "{heard:?}");
        None
    }

    #[test]
    fn an_error_that_names_nothing_else_is_about_the_verdict_in_flight() {
        let refused = |complete, error: &str| Some((complete, error.to_owned()));
        for (error, taken_as) in [
            (json!("invalid_json"), refused(None, "invalid_json")),
            (json!({"code": 7}), refused(None, "{\"code\":7}")),
            (json!(null), refused(None, "null")),
            (json!("task_complete_failed: no_room"), refused(Some(true), "task_complete_failed: no_room")),
            (json!("task_fail_failed: no_room"), refused(Some(false), "task_fail_failed: no_room")),
            (json!("task_complete_failed: not_found"), None),
            (json!("task_complete_failed: rate_limited"), None),
            (json!("rate_limited"), None),
        ] {
            assert_eq!(refusal(&json!({"type": "error", "error": error})), taken_as);
        }
        assert_eq!(refusal(&json!({"type": "error"})), refused(None, ""));
        assert_eq!(refusal(&json!({"type": "error", "error": "no", "errors": "all"})), refused(None, "no"));
        let long = json!({"type": "error", "error": "x".repeat(10_000)});
        assert!(refusal(&long).is_some_and(|(_, error)| error.len() < 300));
    }

    #[test]
    fn an_error_about_another_frame_is_not_about_the_verdict() {
        let about = |kind: &str| {
            refusal(&json!({"type": "error", "error": "validation_failed", "message_type": kind, "errors": []}))
        };
        assert_eq!([about("status"), about("agent_restarting"), about("task_rejected")], [None, None, None]);
        let of = |kind| about(kind).map(|(complete, _)| complete);
        assert_eq!([of("task_complete"), of("task_failed")], [Some(Some(true)), Some(Some(false))]);
    }

    #[test]
    fn only_our_own_leaving_means_something() {
        let left = |agent_id: &str| hear_json(&json!({"type": "agent_left", "agent_id": agent_id}));
        assert_eq!((left("alice"), left("bob")), (FromHub::Forgotten, FromHub::SignOfLife));
    }
}
