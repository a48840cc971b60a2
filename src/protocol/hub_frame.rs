//! Hub -> sidecar.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::protocol::FrameError;

/// A frame from a hub. Unknown fields are ignored except in `task_assign`, whose whole object is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum HubFrame {
    /// The answer to a valid `identify`.
    Identified {
        /// Whom the hub takes us for.
        agent_id: String,
        /// What this hub can do beyond an existing installation; absent there.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        features: Vec<String>,
    },
    /// Something was refused.
    Error(HubError),
    /// The answer to `ping`.
    Pong {
        /// The hub's clock, ms since the epoch.
        #[serde(default)]
        timestamp: Value,
    },
    /// A task to do.
    TaskAssign(Assignment),
    /// A task frame of ours was taken.
    TaskAck {
        /// Which task.
        task_id: String,
        /// What became of it.
        status: TaskAckStatus,
    },
    /// The answer to `task_recovering`: the task is still assigned.
    TaskContinue {
        /// Which task.
        task_id: String,
        /// The generation it is assigned under now.
        generation: Option<u64>,
    },
    /// The answer to `task_recovering`: the hub has taken the task back.
    TaskReassign {
        /// Which task.
        task_id: String,
    },
    /// The task is not wanted any more.
    TaskCancelled {
        /// Which task.
        task_id: String,
    },
    /// The answer to `state_report`.
    StateReportAck {
        /// Which task.
        task_id: String,
        /// Whether to go on with it.
        action: StateAction,
    },
    /// Finish and restart yourself.
    RestartSidecar(RestartCommand),
    /// A frame of ours was dropped for its rate (it does not say which).
    RateLimited {
        /// When to try again, ms.
        #[serde(default)]
        retry_after_ms: Option<u64>,
        /// `light`, `normal` or `heavy`.
        #[serde(default)]
        tier: Option<String>,
    },
    /// Close to the rate limit.
    RateLimitWarning {},
    /// An agent is not there any more, as far as the hub knows.
    AgentLeft {
        /// Which.
        agent_id: String,
    },
}

impl HubFrame {
    const KNOWN: &'static [&'static str] = &[
        "identified",
        "error",
        "pong",
        "task_assign",
        "task_ack",
        "task_continue",
        "task_reassign",
        "task_cancelled",
        "state_report_ack",
        "restart_sidecar",
        "rate_limited",
        "rate_limit_warning",
        "agent_left",
    ];

    /// Reads a text frame from a hub.
    ///
    /// # Errors
    /// [`FrameError`] says whether it is garbage, a type we do not know, or a known type with a bad field.
    pub fn parse(text: &str) -> Result<Self, FrameError> {
        crate::protocol::parse(text, Self::KNOWN)
    }
}

/// `error`: `error` names it; the rest is there for `validation_failed`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HubError {
    /// `invalid_token`, `task_complete_failed: stale_generation`, `validation_failed`, ...
    /// Whatever else a hub says there is read as its text: an error is an error in every form.
    #[serde(default, deserialize_with = "as_text")]
    pub error: String,
    /// The type of our frame that failed validation.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "as_text_if_any")]
    pub message_type: Option<String>,
    /// One entry a bad field.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "as_list")]
    pub errors: Vec<Value>,
}

fn text_of(value: Value) -> String {
    if let Value::String(text) = value { text } else { value.to_string() }
}

fn as_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Value::deserialize(deserializer).map(text_of)
}

fn as_text_if_any<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Option::<Value>::deserialize(deserializer).map(|value| value.map(text_of))
}

fn as_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Value>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    Ok(if let Value::Array(items) = value { items } else { vec![value] })
}

/// `task_assign`. The fields we act on are named; the whole object rides along untouched for the agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    /// Which task.
    pub task_id: String,
    /// The hub's count of hand-outs of this task.
    #[serde(default)]
    pub generation: u64,
    /// Everything else in the frame (`description`, `metadata`, `assigned_at`, `routing_decision`, ...).
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Assignment {
    /// As much of an assignment in JSON that is not taken as names the task; none where it does not say it.
    pub fn named_in(text: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Named {
            task_id: String,
            #[serde(default)]
            generation: u64,
        }
        let Named { task_id, generation } = serde_json::from_str(text).ok()?;
        Some(Self { task_id, generation, rest: Map::new() })
    }

    /// `assigned_at` in ms since the epoch, where the hub said it.
    pub fn assigned_at(&self) -> Option<u64> {
        self.rest.get("assigned_at").and_then(Value::as_u64)
    }
}

/// `task_ack.status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskAckStatus {
    /// `task_accepted` was taken.
    Accepted,
    /// `task_complete` was taken.
    Complete,
    /// `task_failed` was taken; terminal.
    Failed,
    /// `task_failed` was taken; the task will be handed out again.
    Retried,
    /// `task_failed` was taken; the task has no tries left.
    DeadLetter,
    /// A status we have not met: an answer all the same.
    #[serde(other)]
    Other,
}

/// `state_report_ack.action`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateAction {
    /// The task is still ours.
    Continue,
    /// It is not.
    Abort,
}

/// `restart_sidecar`. An existing hub says only `reason`; ours adds the rest (feature `restart.v2`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RestartCommand {
    /// Why, for people.
    #[serde(default)]
    pub reason: Option<String>,
    /// Names the command across repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<String>,
    /// How long a running task may hold the restart up, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// Do not wait for the task.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub force: bool,
    /// Who asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}
