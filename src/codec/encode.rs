//! Encodes the machine's messages to the hub as frames. Adds what the machine does not know: the agent's identity and
//! pm2's information.

use crate::common::secret::Secret;
use crate::machine::{self, RejectReason, RestartAnswer, ReturnedFrom, Task, TaskId, ToHub, WakeReport};
use crate::protocol::{
    FEATURE_TASK_REASSIGN, Identify, JsonFields, JsonText, JsonType, Labels, Limit, MAX_JSON_DEPTH, MAX_RESULT_DEPTH,
    Pm2Info, PreviousEnd, RestartAck, RestartAckOutcome, Restarted, Restarting, STATUS_PARKED, SidecarFrame,
    TaskCompletion, WakeStatus, clip, limit_depth, stored_fields, stored_value,
};

/// The field of a result that is sent beside it.
const REPORT: &str = "verification_report";

/// The constant content of `identify`.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The agent's id.
    pub agent_id: String,
    /// The agent's secret.
    pub token: Secret,
    /// The kinds of tasks that the agent can do.
    pub capabilities: Vec<String>,
    /// What operators group agents by.
    pub labels: Labels,
    /// The URL of a local Ollama endpoint.
    pub ollama_url: Option<String>,
    /// The id of this run of the process.
    pub boot_id: String,
    /// How the run before ended as this machine tells it, if there was one.
    pub previous: Option<FoundEnd>,
    /// The likely duration of a restart, in ms.
    pub expected_back_ms: u64,
    /// The longest time after the hub's last word for which its connection is listened to, in ms.
    pub silence_bound_ms: u64,
}

/// How a run of the process ended, as was found out afterwards.
#[derive(Debug, Clone)]
pub struct FoundEnd {
    /// How it ended; [`PreviousEnd::Unknown`] if it was wanted, which is the journal's to say, or could not be found out.
    pub end: PreviousEnd,
    /// Whether nobody wanted it.
    pub is_unplanned: bool,
    /// The same in words; may be empty.
    pub why: String,
}

/// Encodes a message as a frame. `pm2` is called only for `identify`.
pub fn encode_frame(message: ToHub, identity: &Identity, pm2: impl FnOnce() -> Pm2Info) -> SidecarFrame {
    match message {
        ToHub::Identify { status, restarted, previous_end } => {
            identify(&status, restarted, previous_end, identity, pm2())
        }
        ToHub::Ping => SidecarFrame::Ping {},
        ToHub::Status { status } => SidecarFrame::Status { status: clip(&status, Limit::Status) },
        ToHub::TaskAccepted { task_id, generation } => {
            SidecarFrame::TaskAccepted { task_id: task_id.to_string(), generation }
        }
        ToHub::TaskRejected { task_id, generation, reason } => {
            let reason = match reason {
                RejectReason::Busy => "busy",
                RejectReason::Restarting => "restarting",
                RejectReason::Draining => "draining",
                RejectReason::Invalid => "invalid",
            };
            SidecarFrame::TaskRejected { task_id, generation: Some(generation), reason: reason.into() }
        }
        ToHub::TaskProgress { task_id } => {
            SidecarFrame::TaskProgress { task_id: task_id.to_string(), progress: None, execution_event: None }
        }
        ToHub::TaskComplete { task_id, generation, result } => task_complete(&task_id, generation, &result),
        ToHub::TaskFailed { task_id, generation, reason } => {
            let reason = Some(clip(&reason, Limit::Reason));
            SidecarFrame::TaskFailed { task_id, generation, reason, error: None }
        }
        ToHub::TaskRecovering { task, last_status } => task_recovering(&task, last_status),
        ToHub::StateReport { task_id, generation, status, assigned_at } => SidecarFrame::StateReport {
            task_id: task_id.to_string(),
            status: Some(status.into()),
            generation: Some(generation),
            assigned_at,
        },
        ToHub::ParkedReport { task_id } => SidecarFrame::StateReport {
            task_id: task_id.to_string(),
            status: Some(STATUS_PARKED.into()),
            generation: None,
            assigned_at: None,
        },
        ToHub::WakeResult { task_id, attempt, report } => wake_result(&task_id, attempt, report),
        ToHub::RestartAck { command_id, answer } => SidecarFrame::RestartAck(restart_ack(command_id, answer)),
        ToHub::Cordon { on } => SidecarFrame::Cordon { on },
        ToHub::AgentRestarting { restart, task_id, long_form } => SidecarFrame::AgentRestarting(Restarting {
            reason: clip(&restart.reason, Limit::Reason),
            command_id: restart.command_id.filter(|_| long_form),
            forced: long_form.then_some(restart.forced),
            expected_back_ms: long_form.then_some(identity.expected_back_ms),
            task_id: task_id.filter(|_| long_form).map(|id| id.to_string()),
        }),
    }
}

fn identify(
    status: &str,
    from: Option<ReturnedFrom>,
    previous_end: machine::PreviousEnd,
    identity: &Identity,
    pm2_info: Pm2Info,
) -> SidecarFrame {
    let (previous_end, previous_end_detail) = ended_before(previous_end, identity.previous.as_ref());
    SidecarFrame::Identify(Box::new(Identify {
        agent_id: identity.agent_id.clone(),
        token: identity.token.expose().to_owned(),
        name: Some(identity.agent_id.clone()),
        status: Some(clip(status, Limit::Status)),
        capabilities: identity.capabilities.iter().map(JsonText::of).collect(),
        labels: identity.labels.clone(),
        dropped_labels: Vec::new(),
        client_type: Some("sidecar".into()),
        pm2_info: Some(pm2_info),
        ollama_url: identity.ollama_url.clone(),
        boot_id: Some(identity.boot_id.clone()),
        version: Some(env!("CARGO_PKG_VERSION").into()),
        restarted: from.map(restarted),
        previous_end: Some(previous_end),
        previous_end_detail,
        silence_bound_ms: Some(identity.silence_bound_ms),
        features: vec![FEATURE_TASK_REASSIGN.to_owned()],
    }))
}

/// Returns how the run before ended, and the same in words. That it was wanted is the journal's to say, once: an end that
/// counted for one hub does not count for the next.
fn ended_before(journal: machine::PreviousEnd, found: Option<&FoundEnd>) -> (PreviousEnd, Option<String>) {
    let in_words = |is_unplanned: bool| {
        let found = found.filter(|run| run.is_unplanned == is_unplanned && !run.why.is_empty());
        found.map(|run| clip(&run.why, Limit::Reason))
    };
    match (journal, found.map(|run| run.end)) {
        (machine::PreviousEnd::Stopped, _) => (PreviousEnd::Stopped, in_words(false)),
        (machine::PreviousEnd::Restarted, _) => (PreviousEnd::Restarted, in_words(false)),
        (machine::PreviousEnd::Unknown, None | Some(PreviousEnd::Unknown)) => (PreviousEnd::Unknown, None),
        (machine::PreviousEnd::Unknown, Some(end)) => (end, in_words(true)),
    }
}

fn task_complete(task_id: &TaskId, generation: u64, result: &str) -> SidecarFrame {
    // Version 0.1.0 accepted results that are nested deeper than a hub accepts.
    let mut result = limit_depth(stored_value(result), MAX_RESULT_DEPTH);
    let mut rest = JsonFields::of_unchecked(result.as_str(), |name| name == REPORT);
    // Hubs expect the report beside the result, where the legacy sidecar puts it. A legacy hub's queue crashes
    // on a summary that is no object, and the connection with it.
    let summary = rest.read::<JsonFields>(REPORT).map(|report| report.get("summary").map(JsonText::json_type));
    match summary {
        Some(None | Some(JsonType::Object)) => {
            result = JsonFields::of_unchecked(result.as_str(), |name| name != REPORT).to_text();
        }
        Some(Some(_)) | None => rest = JsonFields::default(),
    }
    SidecarFrame::TaskComplete(TaskCompletion { task_id: task_id.to_string(), generation, result: Some(result), rest })
}

fn task_recovering(task: &Task, last_status: &str) -> SidecarFrame {
    // Version 0.1.0 accepted tasks that are nested deeper than a hub accepts.
    let payload = stored_fields(&task.payload);
    let mut rest = JsonFields::default();
    for name in ["description", "metadata"] {
        if let Some(value) = payload.get(name) {
            rest.insert(name, limit_depth(value.clone(), MAX_JSON_DEPTH - 1));
        }
    }
    // Not the payload's generation: the hub may have assigned the task again since.
    rest.set("generation", &task.generation);
    SidecarFrame::TaskRecovering { task_id: task.id.to_string(), last_status: Some(last_status.into()), rest }
}

fn wake_result(task_id: &TaskId, attempt: Option<u8>, report: WakeReport) -> SidecarFrame {
    let (status, error) = match report {
        WakeReport::Success => (WakeStatus::Success, None),
        WakeReport::Failed { error } => (WakeStatus::Failed, Some(error)),
        WakeReport::TimedOut { error } => (WakeStatus::Timeout, Some(error)),
    };
    SidecarFrame::WakeResult {
        task_id: task_id.to_string(),
        status,
        attempt: attempt.map(u64::from),
        error: error.map(|error| clip(&error, Limit::Reason)),
        reason: None,
    }
}

fn restarted(from: ReturnedFrom) -> Restarted {
    let ReturnedFrom { restart, gap_ms } = from;
    Restarted {
        command_id: restart.command_id,
        reason: clip(&restart.reason, Limit::Reason),
        forced: restart.forced,
        gap_ms,
    }
}

fn restart_ack(command_id: String, answer: RestartAnswer) -> RestartAck {
    let ack = |outcome| RestartAck { command_id, outcome, detail: None, deadline_ms: None, retry_after_ms: None };
    match answer {
        RestartAnswer::Accepted { deadline_ms } => {
            RestartAck { deadline_ms: Some(deadline_ms), ..ack(RestartAckOutcome::Accepted) }
        }
        RestartAnswer::Duplicate => ack(RestartAckOutcome::Duplicate),
        RestartAnswer::Refused { detail, retry_after_ms } => {
            RestartAck { detail: Some(detail), retry_after_ms, ..ack(RestartAckOutcome::Refused) }
        }
    }
}

/// Returns the frame for the machine's load, in the legacy sidecar's form.
pub fn resource_frame(identity: &Identity, figures: JsonFields, now_ms: u64) -> SidecarFrame {
    let mut rest = figures;
    rest.set("agent_id", &identity.agent_id);
    rest.set("timestamp", &now_ms);
    SidecarFrame::ResourceReport { rest }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::OpenRestart;
    use serde_json::{Value, json};

    fn who() -> Identity {
        Identity {
            agent_id: "a".into(),
            token: Secret::new("t"),
            capabilities: vec!["code".into()],
            labels: Labels::from([("pool".to_owned(), "gpu".to_owned())]),
            ollama_url: None,
            boot_id: "b".into(),
            previous: None,
            expected_back_ms: 500,
            silence_bound_ms: 40_000,
        }
    }

    fn said(what: ToHub) -> Value {
        serde_json::from_str(&encode_frame(what, &who(), Pm2Info::default).to_text()).unwrap()
    }

    #[test]
    fn an_existing_hub_gets_the_short_goodbye() {
        let restart = OpenRestart { command_id: Some("c".into()), reason: "r".into(), forced: true, leaving_at: None };
        let short = said(ToHub::AgentRestarting { restart: restart.clone(), task_id: None, long_form: false });
        assert_eq!(short, serde_json::json!({"type": "agent_restarting", "reason": "r", "protocol_version": 1}));
        let long = said(ToHub::AgentRestarting { restart, task_id: None, long_form: true });
        assert_eq!((&long["command_id"], &long["forced"]), (&Value::from("c"), &Value::from(true)));
    }

    #[test]
    fn a_recovering_task_is_asked_about_under_the_generation_it_has_now() {
        let id = crate::machine::TaskId::new("t").unwrap();
        let payload = r#"{"task_id":"t","generation":1,"description":"d"}"#.into();
        let task = crate::machine::Task { id, generation: 3, payload };
        let frame = said(ToHub::TaskRecovering { task, last_status: "working" });
        assert_eq!((&frame["generation"], &frame["description"]), (&Value::from(3), &Value::from("d")));
    }

    #[test]
    fn a_verification_report_is_said_beside_the_result() {
        let id = crate::machine::TaskId::new("t").unwrap();
        let result = r#"{"status":"success","verification_report":{"status":"pass"}}"#.into();
        let frame = said(ToHub::TaskComplete { task_id: id, generation: 2, result });
        assert_eq!(frame["verification_report"]["status"], "pass");
        assert_eq!(frame["result"], json!({"status": "success"}));
    }

    #[test]
    fn a_verification_report_with_a_summary_that_is_no_object_stays_in_the_result() {
        let id = crate::machine::TaskId::new("t").unwrap();
        let result = r#"{"verification_report":{"summary":null}}"#.into();
        let frame = said(ToHub::TaskComplete { task_id: id, generation: 2, result });
        assert_eq!(frame.get("verification_report"), None);
        assert_eq!(frame["result"], json!({"verification_report": {"summary": null}}));
    }

    #[test]
    fn the_result_is_said_as_the_object_it_is() {
        let id = crate::machine::TaskId::new("t").unwrap();
        let frame = said(ToHub::TaskComplete { task_id: id, generation: 2, result: r#"{"status":"success"}"#.into() });
        assert_eq!((&frame["generation"], &frame["result"]["status"]), (&Value::from(2), &Value::from("success")));
    }
}
