//! One task: the submission, its status, and its JSON for the wire and the HTTP API. `tasks` moves it from status to
//! status.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::hub::scheduler::waiting::WaitingFor;
use crate::protocol::{Assignment, JsonFields, JsonText, MAX_JSON_DEPTH, json_bytes, limit_depth};

/// The largest number of history entries that a task keeps, newest first (the legacy hub keeps as many).
const HISTORY_CAP: usize = 50;

/// The history event of an assignment; its details name the `agent_id`.
pub(super) const ASSIGNED: &str = "assigned";

/// The lane of a task. The numbers are those of the legacy hub's API.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    strum::EnumString,
    strum::VariantNames,
    utoipa::ToSchema,
)]
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
    /// The metadata, for the agent to read, as it was submitted: an object.
    pub metadata: JsonText,
    /// The lane.
    pub priority: Priority,
    /// The number of failures that make a dead letter; at least 1.
    pub max_retries: u64,
    /// The capabilities that the agent must have, all of them.
    pub needed_capabilities: Vec<String>,
    /// The other fields that the API takes and the assignment carries (`repo`, `branch`, `file_hints`, ...).
    pub extra: JsonFields,
    /// The agent or operator that the request's token proves.
    pub submitted_by: String,
    /// Since when the name had its owner then, in ms since the epoch: no later owner of the name is taken for it, however the
    /// clock is set. `None` for a local user, and in a record of an older hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitter_since: Option<u64>,
}

impl Submission {
    /// Returns the one agent that is to do the task, if the task names one: `assign_to`, or what AgentCom's own
    /// clients put into the metadata (`assign_to`, and `target_agent` of `agentcom-submit --target`).
    pub fn assign_to(&self) -> Option<String> {
        let named = match self.extra.get("assign_to") {
            Some(named) => named.string(),
            None => {
                let named = JsonFields::of_unchecked(self.metadata.as_str(), |name| {
                    matches!(name, "assign_to" | "target_agent")
                });
                named.get("assign_to").or_else(|| named.get("target_agent")).and_then(JsonText::string)
            }
        };
        named.filter(|name| !name.is_empty())
    }
}

/// The status of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, strum::IntoStaticStr, strum::EnumDiscriminants)]
#[serde(tag = "is", rename_all = "snake_case", try_from = "JsonFields")]
#[strum(serialize_all = "snake_case")]
#[strum_discriminants(
    name(StatusName),
    doc = "The name of a task's status.",
    derive(strum::EnumString, strum::VariantNames, utoipa::ToSchema),
    schema(rename_all = "snake_case"),
    strum(serialize_all = "snake_case")
)]
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
        #[serde(skip_serializing_if = "Option::is_none")]
        carried_since: Option<u64>,
    },
    /// The task is done.
    Completed {
        /// The agent that did it.
        agent_id: String,
        /// The time of the assignment, in ms since the epoch.
        assigned_at: u64,
        /// The agent's result: an object.
        result: JsonText,
        /// The verdict's other fields (`tokens_used`, `verification_report`, ...).
        report: JsonFields,
    },
    /// The task has no tries left, or is invalid.
    DeadLetter,
    /// The task was cancelled.
    Cancelled,
}

impl TryFrom<JsonFields> for Status {
    type Error = String;

    fn try_from(mut fields: JsonFields) -> Result<Self, String> {
        Ok(match fields.take::<String>("is")?.as_str() {
            "queued" => Self::Queued,
            "assigned" => Self::Assigned {
                agent_id: fields.take("agent_id")?,
                assigned_at: fields.take("assigned_at")?,
                accepted: fields.take("accepted")?,
                carried_since: fields.take_optional("carried_since")?,
            },
            "completed" => Self::Completed {
                agent_id: fields.take("agent_id")?,
                assigned_at: fields.take("assigned_at")?,
                result: fields.take_object("result")?,
                report: fields.take("report")?,
            },
            "dead_letter" => Self::DeadLetter,
            "cancelled" => Self::Cancelled,
            other => return Err(format!("unknown status {other:?}")),
        })
    }
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HistoryEntry {
    /// The event: `queued`, `assigned`, `accepted`, `reclaimed`, `retry`, `completed`, `dead_letter`, `cancelled`.
    pub event: String,
    /// The time of the event, in ms since the epoch.
    pub timestamp: u64,
    /// The reason, or the agent or operator behind the event.
    #[schema(value_type = Value)]
    pub details: JsonText,
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
        task.add_history("queued", &json!("submitted"), now_ms);
        task
    }

    /// Adds an entry to the history and sets `updated_at`.
    pub fn add_history(&mut self, event: &str, details: &Value, now_ms: u64) {
        let entry = HistoryEntry { event: event.to_owned(), timestamp: now_ms, details: JsonText::of(details) };
        self.history.insert(0, Arc::new(entry));
        self.history.truncate(HISTORY_CAP);
        self.updated_at = now_ms;
    }

    /// Returns every agent that the task was assigned to, as far as the history goes back.
    pub fn assigned_to(&self) -> BTreeSet<String> {
        let assigned = self.history.iter().filter(|entry| entry.event == ASSIGNED);
        assigned.filter_map(|entry| entry.details.read::<JsonFields>().ok()?.string("agent_id")).collect()
    }

    /// Returns the agent that holds the task, or did it.
    pub fn holder(&self) -> Option<&str> {
        match &self.status {
            Status::Assigned { agent_id, .. } | Status::Completed { agent_id, .. } => Some(agent_id),
            Status::Queued | Status::DeadLetter | Status::Cancelled => None,
        }
    }

    /// Returns when the task was assigned to the agent that holds it, or did it, in ms since the epoch.
    pub const fn assigned_at(&self) -> Option<u64> {
        match self.status {
            Status::Assigned { assigned_at, .. } | Status::Completed { assigned_at, .. } => Some(assigned_at),
            Status::Queued | Status::DeadLetter | Status::Cancelled => None,
        }
    }

    /// Returns the time by which it should be done, in ms since the epoch by the wall clock, if it was submitted with one.
    pub fn complete_by(&self) -> Option<u64> {
        self.submission.extra.read("complete_by")
    }

    /// Returns whether no work on the task will ever count again. (A dead letter may be revived.)
    pub const fn has_ended_for_good(&self) -> bool {
        match self.status {
            Status::Completed { .. } | Status::Cancelled => true,
            Status::Queued | Status::Assigned { .. } | Status::DeadLetter => false,
        }
    }

    /// Returns the other fields that the task was submitted with, and those that the legacy hub's clients read through
    /// where it was submitted without them.
    fn shown_extra(&self) -> JsonFields {
        let mut extra = self.submission.extra.clone();
        let absent = [
            ("repo", JsonText::null()),
            ("branch", JsonText::null()),
            ("goal_id", JsonText::null()),
            ("complete_by", JsonText::null()),
            ("routing_decision", JsonText::null()),
            ("file_hints", JsonText::of(&[(); 0])),
            ("success_criteria", JsonText::of(&[(); 0])),
            ("verification_steps", JsonText::of(&[(); 0])),
            ("depends_on", JsonText::of(&[(); 0])),
            ("max_verification_retries", JsonText::of(&0)),
            ("complexity", JsonText::of(&self.complexity())),
        ];
        for (name, value) in absent {
            if extra.get(name).is_none() {
                extra.insert(name, value);
            }
        }
        extra
    }

    fn complexity(&self) -> Complexity {
        let tier = self.submission.extra.get("complexity_tier").cloned().unwrap_or_else(JsonText::null);
        let has_tier = !tier.is_null();
        Complexity {
            effective_tier: if has_tier { tier.clone() } else { JsonText::of("standard") },
            source: if has_tier { "explicit" } else { "default" },
            explicit_tier: tier,
        }
    }

    /// Returns the `task_assign` frame for the current generation.
    pub fn assignment(&self) -> Assignment {
        let asked = &self.submission;
        let assigned_at = self.assigned_at();
        let extra = |key: &str, default: &Value| asked.extra.get(key).cloned().unwrap_or_else(|| JsonText::of(default));
        let (complexity, none) = (self.complexity(), JsonText::null());
        // A task that version 0.1.0 accepted may be nested deeper than a sidecar accepts.
        let limited = |value: JsonText| limit_depth(value, MAX_JSON_DEPTH - 1);
        let mut rest = JsonFields::from_iter([
            ("description", JsonText::of(&asked.description)),
            ("metadata", limited(asked.metadata.clone())),
            ("assigned_at", JsonText::of(&assigned_at)),
            ("repo", extra("repo", &Value::Null)),
            ("branch", extra("branch", &Value::Null)),
            ("file_hints", limited(extra("file_hints", &json!([])))),
            ("success_criteria", limited(extra("success_criteria", &json!([])))),
            ("verification_steps", limited(extra("verification_steps", &json!([])))),
            ("complexity", JsonText::of(&complexity)),
            // A null decision sends the task to the agent's wake_command, which every sidecar of this hub has.
            ("routing_decision", none),
            ("skip_verification", extra("skip_verification", &json!(false))),
            ("verification_timeout_ms", extra("verification_timeout_ms", &Value::Null)),
            ("max_verification_retries", extra("max_verification_retries", &json!(0))),
        ]);
        // A legacy hub knows no such field.
        if let Some(timeout_ms) = asked.extra.get("timeout_ms") {
            rest.set("timeout_ms", timeout_ms);
        }
        Assignment { task_id: self.id.clone(), generation: self.generation, rest }
    }

    /// Returns the task's size on disk, in bytes.
    pub fn weight(&self) -> u64 {
        json_bytes(self)
    }

    /// Returns the task as the API shows it, with what it waits for.
    pub fn shown(&self, waiting_for: Option<WaitingFor>) -> ShownTask<'_> {
        let asked = &*self.submission;
        let (assigned_to, assigned_at, result, report) = match &self.status {
            Status::Assigned { agent_id, assigned_at, .. } => (Some(agent_id), Some(*assigned_at), None, None),
            Status::Completed { agent_id, assigned_at, result, report } => {
                (Some(agent_id), Some(*assigned_at), Some(result), Some(report))
            }
            Status::Queued | Status::DeadLetter | Status::Cancelled => (None, None, None, None),
        };
        ShownTask {
            id: &self.id,
            task_id: &self.id,
            description: &asked.description,
            metadata: &asked.metadata,
            priority: asked.priority.number(),
            status: self.status.name(),
            accepted: matches!(self.status, Status::Assigned { accepted: true, .. }),
            assigned_to: assigned_to.map(String::as_str),
            assigned_at,
            generation: self.generation,
            retry_count: self.retry_count,
            max_retries: asked.max_retries,
            losses: self.losses,
            needed_capabilities: &asked.needed_capabilities,
            last_error: self.last_error.as_deref(),
            result,
            tokens_used: report.and_then(|report| report.get("tokens_used")),
            verification_report: report.and_then(|report| report.get("verification_report")),
            submitted_by: &asked.submitted_by,
            created_at: self.created_at,
            updated_at: self.updated_at,
            history: &self.history,
            waiting_for,
            extra: self.shown_extra(),
        }
    }
}

/// The part `complexity` of an assignment.
#[derive(Serialize)]
struct Complexity {
    explicit_tier: JsonText,
    effective_tier: JsonText,
    source: &'static str,
}

/// A task as the API shows it. The fields are in the order of their names, as clients have always got them.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ShownTask<'a> {
    /// Whether its agent has confirmed it.
    accepted: bool,
    /// The time of the assignment, in ms since the epoch.
    assigned_at: Option<u64>,
    /// The agent that holds it, or did it.
    assigned_to: Option<&'a str>,
    /// The time of the submission, in ms since the epoch.
    created_at: u64,
    /// What is to be done.
    description: &'a str,
    /// The number of assignments and reclaims so far.
    generation: u64,
    /// What happened to it, newest first.
    #[schema(value_type = Vec<HistoryEntry>)]
    history: &'a [Arc<HistoryEntry>],
    /// The task's id.
    id: &'a str,
    /// The reason of the last failure.
    last_error: Option<&'a str>,
    /// The number of times that an agent lost it.
    losses: u64,
    /// The number of failures that make a dead letter.
    max_retries: u64,
    /// Whatever the agent needs beside the description.
    #[schema(value_type = Object)]
    metadata: &'a JsonText,
    /// The capabilities that its agent must have.
    needed_capabilities: &'a [String],
    /// The lane: 0 (urgent) to 3 (low).
    priority: u8,
    /// The agent's result.
    #[schema(value_type = Option<Object>)]
    result: Option<&'a JsonText>,
    /// The number of failures so far.
    retry_count: u64,
    /// The status: queued, assigned, completed, dead_letter or cancelled.
    status: &'static str,
    /// Who submitted it.
    submitted_by: &'a str,
    /// The task's id, as the legacy hub names it.
    task_id: &'a str,
    /// The number of tokens that its agent reports.
    #[schema(value_type = Option<i64>)]
    tokens_used: Option<&'a JsonText>,
    /// The time of the last entry of the history, in ms since the epoch.
    updated_at: u64,
    /// The report of the verification, as its agent sent it.
    #[schema(value_type = Option<Object>)]
    verification_report: Option<&'a JsonText>,
    waiting_for: Option<WaitingFor>,
    /// The names are those of the API's fields that are not named here.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    extra: JsonFields,
}
