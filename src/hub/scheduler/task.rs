//! One task: the submission, its status, and its JSON for the wire and the HTTP API. `tasks` moves it from status to
//! status.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::protocol::{Assignment, MAX_JSON_DEPTH, limit_depth};

/// The largest number of history entries that a task keeps, newest first (the legacy hub keeps as many).
const HISTORY_CAP: usize = 50;

/// The history event of an assignment; its details name the `agent_id`.
pub(super) const ASSIGNED: &str = "assigned";

/// The lane of a task. The numbers are those of the legacy hub's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, strum::EnumString)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Priority {
    /// Before all other lanes.
    Urgent,
    /// Before `Normal`.
    High,
    /// The default.
    Normal,
    /// When no other task is queued.
    Low,
}

impl Priority {
    /// All lanes, the most urgent first.
    pub const ALL: [Self; 4] = [Self::Urgent, Self::High, Self::Normal, Self::Low];

    /// Returns the number that the API shows: 0 (urgent) to 3 (low).
    pub const fn number(self) -> u8 {
        self as u8
    }
}

/// A task as it was submitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Submission {
    /// The description, for the agent to read.
    pub description: String,
    /// The metadata, for the agent to read, as it was submitted.
    pub metadata: Map<String, Value>,
    /// The lane.
    pub priority: Priority,
    /// The number of failures that make a dead letter; at least 1.
    pub max_retries: u64,
    /// The capabilities that the agent must have, all of them.
    pub needed_capabilities: Vec<String>,
    /// The other fields that the API takes and the assignment carries (`repo`, `branch`, `file_hints`, ...).
    pub extra: Map<String, Value>,
    /// The agent or operator that the request's token proves.
    pub submitted_by: String,
}

impl Submission {
    /// Returns the one agent that is to do the task, if the task names one: `assign_to`, or what AgentCom's own
    /// clients put into the metadata (`assign_to`, and `target_agent` of `agentcom-submit --target`).
    pub fn assign_to(&self) -> Option<&str> {
        let named = self.extra.get("assign_to");
        let named = named.or_else(|| self.metadata.get("assign_to")).or_else(|| self.metadata.get("target_agent"));
        named.and_then(Value::as_str).filter(|name| !name.is_empty())
    }
}

/// The status of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(tag = "is", rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Status {
    /// The task waits for an agent.
    Queued,
    /// The task is assigned to an agent under its current generation.
    Assigned {
        /// The holder.
        agent_id: String,
        /// The time of the assignment, in ms since the epoch.
        assigned_at: u64,
        /// Whether the agent has sent `task_accepted` for this generation.
        accepted: bool,
        /// The time at which a legacy sidecar first took the work over from its previous process, in ms since the
        /// epoch.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        carried_since: Option<u64>,
    },
    /// The task is done.
    Completed {
        /// The agent that did it.
        agent_id: String,
        /// The time of the assignment, in ms since the epoch.
        assigned_at: u64,
        /// The agent's result.
        result: Map<String, Value>,
        /// The verdict's other fields (`tokens_used`, `verification_report`, ...).
        report: Map<String, Value>,
    },
    /// The task has no tries left, or is invalid.
    DeadLetter,
    /// The task was cancelled.
    Cancelled,
}

impl Status {
    /// Returns the name in the API.
    pub fn name(&self) -> &'static str {
        self.into()
    }

    /// Returns whether the task stays in this status unless a request changes it.
    pub const fn is_final(&self) -> bool {
        match self {
            Self::Queued | Self::Assigned { .. } => false,
            Self::Completed { .. } | Self::DeadLetter | Self::Cancelled => true,
        }
    }
}

/// One entry of a task's history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// The event: `queued`, `assigned`, `accepted`, `reclaimed`, `retry`, `completed`, `dead_letter`, `cancelled`.
    pub event: String,
    /// The time of the event, in ms since the epoch.
    pub timestamp: u64,
    /// The reason, or the agent or operator behind the event.
    pub details: Value,
}

/// One task, as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// The task's id: `task-` and 16 hex digits.
    pub id: String,
    /// The task's number in the order of submission: FIFO inside a lane.
    pub seq: u64,
    /// The task as it was submitted.
    pub submission: Arc<Submission>,
    /// The status.
    pub status: Status,
    /// The number of assignments and reclaims so far: a verdict for another generation changes nothing.
    pub generation: u64,
    /// The number of failures so far.
    pub retry_count: u64,
    /// The number of times that an agent lost the task: it left unannounced, or showed no sign of life.
    #[serde(default)]
    pub losses: u64,
    /// The reason of the last failure.
    pub last_error: Option<String>,
    /// The time of the submission, in ms since the epoch.
    pub created_at: u64,
    /// The time of the last history entry, in ms since the epoch.
    pub updated_at: u64,
    /// The history, newest first.
    pub history: Vec<Arc<HistoryEntry>>,
}

impl Task {
    /// Creates a task that waits for an agent.
    pub fn new(id: String, seq: u64, submission: Submission, now_ms: u64) -> Self {
        let mut task = Self {
            id,
            seq,
            submission: Arc::new(submission),
            status: Status::Queued,
            generation: 0,
            retry_count: 0,
            losses: 0,
            last_error: None,
            created_at: now_ms,
            updated_at: now_ms,
            history: Vec::new(),
        };
        task.add_history("queued", json!("submitted"), now_ms);
        task
    }

    /// Adds an entry to the history and sets `updated_at`.
    pub fn add_history(&mut self, event: &str, details: Value, now_ms: u64) {
        let entry = HistoryEntry { event: event.to_owned(), timestamp: now_ms, details };
        self.history.insert(0, Arc::new(entry));
        self.history.truncate(HISTORY_CAP);
        self.updated_at = now_ms;
    }

    /// Returns every agent that the task was assigned to, as far as the history goes back.
    pub fn assigned_to(&self) -> BTreeSet<&str> {
        let assigned = self.history.iter().filter(|entry| entry.event == ASSIGNED);
        assigned.filter_map(|entry| entry.details.get("agent_id")?.as_str()).collect()
    }

    /// Returns the agent that holds the task, or did it.
    pub fn holder(&self) -> Option<&str> {
        match &self.status {
            Status::Assigned { agent_id, .. } | Status::Completed { agent_id, .. } => Some(agent_id),
            Status::Queued | Status::DeadLetter | Status::Cancelled => None,
        }
    }

    /// Returns whether no work on the task will ever count again. (A dead letter may be revived.)
    pub const fn has_ended_for_good(&self) -> bool {
        match self.status {
            Status::Completed { .. } | Status::Cancelled => true,
            Status::Queued | Status::Assigned { .. } | Status::DeadLetter => false,
        }
    }

    /// Returns the `task_assign` frame for the current generation.
    pub fn assignment(&self) -> Assignment {
        let asked = &self.submission;
        let assigned_at = match &self.status {
            Status::Assigned { assigned_at, .. } | Status::Completed { assigned_at, .. } => json!(assigned_at),
            Status::Queued | Status::DeadLetter | Status::Cancelled => Value::Null,
        };
        let extra = |key: &str, default: Value| asked.extra.get(key).cloned().unwrap_or(default);
        let tier = extra("complexity_tier", Value::Null);
        let rest = json!({
            "description": asked.description,
            "metadata": asked.metadata,
            "assigned_at": assigned_at,
            "repo": extra("repo", Value::Null),
            "branch": extra("branch", Value::Null),
            "file_hints": extra("file_hints", json!([])),
            "success_criteria": extra("success_criteria", json!([])),
            "verification_steps": extra("verification_steps", json!([])),
            "complexity": {
                "explicit_tier": tier,
                "effective_tier": if tier.is_null() { json!("standard") } else { tier.clone() },
                "source": if tier.is_null() { "default" } else { "explicit" },
            },
            // A null decision sends the task to the agent's wake_command, which every sidecar of this hub has.
            "routing_decision": Value::Null,
            "skip_verification": extra("skip_verification", json!(false)),
            "verification_timeout_ms": extra("verification_timeout_ms", Value::Null),
            "max_verification_retries": extra("max_verification_retries", json!(0)),
        });
        let rest = match rest {
            Value::Object(map) => map,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
        };
        // A task that version 0.1.0 accepted may be nested deeper than a sidecar accepts.
        Assignment { task_id: self.id.clone(), generation: self.generation, rest: limit_depth(rest, MAX_JSON_DEPTH) }
    }

    /// Returns the task's size on disk, in bytes.
    pub fn weight(&self) -> u64 {
        let mut weight = Weight(0);
        // Counting cannot fail, and neither can serializing a task: it is stored in the same form.
        let _ = serde_json::to_writer(&mut weight, self);
        weight.0
    }

    /// Returns the task as the API shows it.
    pub fn to_json(&self) -> Value {
        let asked = &self.submission;
        let (assigned_to, assigned_at, result, report) = match &self.status {
            Status::Assigned { agent_id, assigned_at, .. } => (json!(agent_id), json!(assigned_at), Value::Null, None),
            Status::Completed { agent_id, assigned_at, result, report } => {
                (json!(agent_id), json!(assigned_at), json!(result), Some(report))
            }
            Status::Queued | Status::DeadLetter | Status::Cancelled => (Value::Null, Value::Null, Value::Null, None),
        };
        let reported = |key: &str| report.and_then(|r| r.get(key)).cloned().unwrap_or(Value::Null);
        let mut shown = json!({
            "id": self.id,
            "task_id": self.id,
            "description": asked.description,
            "metadata": asked.metadata,
            "priority": asked.priority.number(),
            "status": self.status.name(),
            "accepted": matches!(self.status, Status::Assigned { accepted: true, .. }),
            "assigned_to": assigned_to,
            "assigned_at": assigned_at,
            "generation": self.generation,
            "retry_count": self.retry_count,
            "max_retries": asked.max_retries,
            "losses": self.losses,
            "needed_capabilities": asked.needed_capabilities,
            "last_error": self.last_error,
            "result": result,
            "tokens_used": reported("tokens_used"),
            "verification_report": reported("verification_report"),
            "submitted_by": asked.submitted_by,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
            "history": self.history,
        });
        if let Some(map) = shown.as_object_mut() {
            for (key, value) in &asked.extra {
                map.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
        shown
    }
}

/// A writer that only counts the bytes.
struct Weight(u64);

impl std::io::Write for Weight {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = self.0.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
