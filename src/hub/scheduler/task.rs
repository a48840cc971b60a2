//! One task: what was asked, how far it came, and how it reads on the wire and over HTTP. It moves nowhere by itself;
//! the queue in `tasks` moves it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::protocol::{Assignment, MAX_JSON_DEPTH, within};

/// How many history entries a task keeps, newest first (the original hub keeps as many).
const HISTORY_CAP: usize = 50;

/// The lane of a task. The numbers are those of the original hub's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, strum::EnumString)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Priority {
    /// Before everything.
    Urgent,
    /// Before the usual.
    High,
    /// The usual.
    Normal,
    /// When there is nothing else.
    Low,
}

impl Priority {
    /// All lanes, the first first.
    pub const ALL: [Self; 4] = [Self::Urgent, Self::High, Self::Normal, Self::Low];

    /// The number that the API shows: 0 (urgent) to 3 (low).
    pub const fn number(self) -> u8 {
        self as u8
    }
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Submission {
    /// For the agent to read.
    pub description: String,
    /// For the agent to read, as it came.
    pub metadata: Map<String, Value>,
    /// The lane.
    pub priority: Priority,
    /// How many failures make a dead letter; at least 1.
    pub max_retries: u64,
    /// All of these the agent must have.
    pub needed_capabilities: Vec<String>,
    /// The other fields that the API takes and the assignment carries (`repo`, `branch`, `file_hints`, ...).
    pub extra: Map<String, Value>,
    /// The agent or operator whose token it was.
    pub submitted_by: String,
}

impl Submission {
    /// The one agent that is to do it, if it names one: `assign_to`, or what the original's clients put into the metadata
    /// (`assign_to`, and `target_agent` of `agentcom-submit --target`).
    pub fn assign_to(&self) -> Option<&str> {
        let named = self.extra.get("assign_to");
        let named = named.or_else(|| self.metadata.get("assign_to")).or_else(|| self.metadata.get("target_agent"));
        named.and_then(Value::as_str).filter(|name| !name.is_empty())
    }
}

/// Where a task stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(tag = "is", rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Status {
    /// Waiting for an agent.
    Queued,
    /// Handed to an agent under the task's generation.
    Assigned {
        /// To whom.
        agent_id: String,
        /// When, ms since the epoch.
        assigned_at: u64,
        /// Whether the agent has said `task_accepted` for this generation.
        accepted: bool,
    },
    /// Done.
    Completed {
        /// By whom.
        agent_id: String,
        /// When it was handed out, ms since the epoch.
        assigned_at: u64,
        /// The agent's result.
        result: Map<String, Value>,
        /// The verdict's other fields (`tokens_used`, `verification_report`, ...).
        report: Map<String, Value>,
    },
    /// Out of tries, or invalid.
    DeadLetter,
    /// Not wanted any more.
    Cancelled,
}

impl Status {
    /// The name in the API.
    pub fn name(&self) -> &'static str {
        self.into()
    }

    /// Whether nothing will move it any more unless somebody asks.
    pub const fn is_final(&self) -> bool {
        match self {
            Self::Queued | Self::Assigned { .. } => false,
            Self::Completed { .. } | Self::DeadLetter | Self::Cancelled => true,
        }
    }
}

/// One line of a task's history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// What happened: `queued`, `assigned`, `accepted`, `reclaimed`, `retry`, `completed`, `dead_letter`, `cancelled`.
    pub event: String,
    /// When, ms since the epoch.
    pub timestamp: u64,
    /// Why, or by whom.
    pub details: Value,
}

/// One task, as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// `task-` and 16 hex digits.
    pub id: String,
    /// The order of submission: FIFO inside a lane.
    pub seq: u64,
    /// What was asked for.
    pub submission: Submission,
    /// Where it stands.
    pub status: Status,
    /// Counts hand-outs and take-backs: a verdict for another generation changes nothing.
    pub generation: u64,
    /// Failures so far.
    pub retry_count: u64,
    /// How often an agent broke it off: went away unannounced, or showed no life.
    #[serde(default)]
    pub losses: u64,
    /// The last failure's reason.
    pub last_error: Option<String>,
    /// ms since the epoch.
    pub created_at: u64,
    /// ms since the epoch.
    pub updated_at: u64,
    /// Newest first.
    pub history: Vec<HistoryEntry>,
}

impl Task {
    /// A task that waits for an agent.
    pub fn new(id: String, seq: u64, submission: Submission, now_ms: u64) -> Self {
        let mut task = Self {
            id,
            seq,
            submission,
            status: Status::Queued,
            generation: 0,
            retry_count: 0,
            losses: 0,
            last_error: None,
            created_at: now_ms,
            updated_at: now_ms,
            history: Vec::new(),
        };
        task.note("queued", json!("submitted"), now_ms);
        task
    }

    /// Writes one line of history and moves `updated_at`.
    pub fn note(&mut self, event: &str, details: Value, now_ms: u64) {
        self.history.insert(0, HistoryEntry { event: event.to_owned(), timestamp: now_ms, details });
        self.history.truncate(HISTORY_CAP);
        self.updated_at = now_ms;
    }

    /// Who holds it, or did it.
    pub fn holder(&self) -> Option<&str> {
        match &self.status {
            Status::Assigned { agent_id, .. } | Status::Completed { agent_id, .. } => Some(agent_id),
            Status::Queued | Status::DeadLetter | Status::Cancelled => None,
        }
    }

    /// The `task_assign` frame for the current generation.
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
            // A decision of null sends the task to the agent's wake_command, which is what every sidecar here has.
            "routing_decision": Value::Null,
            "skip_verification": extra("skip_verification", json!(false)),
            "verification_timeout_ms": extra("verification_timeout_ms", Value::Null),
            "max_verification_retries": extra("max_verification_retries", json!(0)),
        });
        let rest = match rest {
            Value::Object(map) => map,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
        };
        // A task that version 0.1.0 took may be nested deeper than a sidecar takes it.
        Assignment { task_id: self.id.clone(), generation: self.generation, rest: within(rest, MAX_JSON_DEPTH) }
    }

    /// What it weighs on disk, bytes.
    pub fn weight(&self) -> u64 {
        let mut weight = Weight(0);
        // A counter cannot fail, and neither can a task: it is stored in the same words.
        let _ = serde_json::to_writer(&mut weight, self);
        weight.0
    }

    /// The task as the API shows it.
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

/// Counts what is written.
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
