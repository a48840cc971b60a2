//! The frames that a hub sends to a sidecar.

use serde::{Deserialize, Deserializer, Serialize};
use strum::VariantNames as _;

use crate::protocol::{FrameError, JsonFields, JsonText, JsonType, fields_of_refused, split};

/// A frame from a hub. Unknown fields are ignored except in `task_assign`, whose whole object is kept.
#[derive(Debug, Clone, PartialEq, Serialize, strum::VariantNames)]
#[serde(tag = "type", rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum HubFrame {
    /// The answer to a valid `identify`.
    Identified {
        /// The agent's id.
        agent_id: String,
        /// The hub's features beyond those of a legacy hub, which does not send this.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        features: Vec<String>,
    },
    /// A frame or request was refused.
    Error(HubError),
    /// The answer to `ping`.
    Pong {
        /// The hub's clock, ms since the epoch.
        timestamp: JsonText,
    },
    /// The assignment of a task.
    TaskAssign(Assignment),
    /// The hub accepted one of the sidecar's task frames.
    TaskAck {
        /// The task's id.
        task_id: String,
        /// The outcome for the task.
        status: TaskAckStatus,
    },
    /// The answer to `task_recovering`: the task is still assigned.
    TaskContinue {
        /// The task's id.
        task_id: String,
        /// The generation it is assigned under now.
        generation: Option<u64>,
    },
    /// The task is not assigned to the agent any more. The answer to `task_recovering`; with a generation (feature
    /// `task_reassign`) also sent whenever the hub reclaims the task.
    TaskReassign {
        /// The task's id.
        task_id: String,
        /// The last generation that this is about: a later assignment still counts.
        #[serde(skip_serializing_if = "Option::is_none")]
        generation: Option<u64>,
    },
    /// Somebody wrote in a room. This project's hub has none.
    RoomMessage {
        /// The message: `from`, `text`, `seq`, ...
        #[serde(flatten)]
        message: JsonFields,
    },
    /// The task was cancelled.
    TaskCancelled {
        /// The task's id.
        task_id: String,
    },
    /// The answer to `state_report`.
    StateReportAck {
        /// The task's id.
        task_id: String,
        /// Whether to continue the task.
        action: StateAction,
    },
    /// The command to finish and restart.
    RestartSidecar(RestartCommand),
    /// The hub dropped a frame of the sidecar for its rate (without saying which).
    RateLimited {
        /// The time after which to try again, in ms.
        retry_after_ms: Option<u64>,
        /// `light`, `normal` or `heavy`.
        tier: Option<String>,
    },
    /// The sidecar is close to the rate limit.
    RateLimitWarning {},
    /// The hub considers an agent gone.
    AgentLeft {
        /// The agent's id.
        agent_id: String,
    },
}

impl HubFrame {
    /// Reads a text frame from a hub.
    ///
    /// # Errors
    /// [`FrameError`] says whether the text is not a frame, of an unknown type, refused, or of a known type with an
    /// invalid field.
    pub fn parse(text: &str) -> Result<Self, FrameError> {
        let (kind, fields) = split(text, Self::VARIANTS)?;
        Self::read(&kind, fields).map_err(|detail| FrameError::Malformed { kind, detail })
    }

    fn read(kind: &str, mut fields: JsonFields) -> Result<Self, String> {
        Ok(match kind {
            "identified" => Self::Identified {
                agent_id: fields.take("agent_id")?,
                features: fields.take_optional("features")?.unwrap_or_default(),
            },
            "error" => Self::Error(fields.read_as()?),
            "pong" => Self::Pong { timestamp: fields.remove("timestamp").unwrap_or_default() },
            "task_assign" => Self::TaskAssign(Assignment {
                task_id: fields.take("task_id")?,
                generation: fields.take_optional("generation")?.unwrap_or_default(),
                rest: fields,
            }),
            "task_ack" => Self::TaskAck { task_id: fields.take("task_id")?, status: fields.take("status")? },
            "task_continue" => {
                Self::TaskContinue { task_id: fields.take("task_id")?, generation: fields.take_optional("generation")? }
            }
            "task_reassign" => {
                Self::TaskReassign { task_id: fields.take("task_id")?, generation: fields.take_optional("generation")? }
            }
            "room_message" => Self::RoomMessage { message: fields },
            "task_cancelled" => Self::TaskCancelled { task_id: fields.take("task_id")? },
            "state_report_ack" => {
                Self::StateReportAck { task_id: fields.take("task_id")?, action: fields.take("action")? }
            }
            "restart_sidecar" => Self::RestartSidecar(fields.read_as()?),
            "rate_limited" => Self::RateLimited {
                retry_after_ms: fields.take_optional("retry_after_ms")?,
                tier: fields.take_optional("tier")?,
            },
            "rate_limit_warning" => Self::RateLimitWarning {},
            "agent_left" => Self::AgentLeft { agent_id: fields.take("agent_id")? },
            _ => return Err("unknown type".to_owned()),
        })
    }

    /// Returns the frame as text.
    pub fn to_text(&self) -> String {
        // Maps with string keys and plain values: nothing here can fail to serialize.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// The `error` frame: `error` names the error; the other fields are for `validation_failed`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HubError {
    /// The error's name: `invalid_token`, `task_complete_failed: stale_generation`, `validation_failed`, ...
    /// A value that is no string is read as its JSON text: it is an error in any form.
    #[serde(default, deserialize_with = "as_text")]
    pub error: String,
    /// The type of the sidecar's frame that failed validation.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "as_text_if_any")]
    pub message_type: Option<String>,
    /// The id of the task whose verdict is refused (a legacy hub does not name it).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
    /// The generation of the verdict that is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// One entry per invalid field.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "as_list")]
    pub errors: Vec<JsonText>,
}

fn text_of(value: &JsonText) -> String {
    value.string().unwrap_or_else(|| value.to_string())
}

fn as_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    JsonText::deserialize(deserializer).map(|value| text_of(&value))
}

fn as_text_if_any<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    JsonText::deserialize(deserializer).map(|value| (!value.is_null()).then(|| text_of(&value)))
}

fn as_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<JsonText>, D::Error> {
    let value = JsonText::deserialize(deserializer)?;
    match value.json_type() {
        JsonType::Array => value.read().map_err(serde::de::Error::custom),
        JsonType::Null | JsonType::Boolean | JsonType::Number | JsonType::String | JsonType::Object => Ok(vec![value]),
    }
}

/// The `task_assign` frame. Only the fields that the sidecar acts on are named; the others are kept unchanged for the
/// agent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Assignment {
    /// The task's id.
    pub task_id: String,
    /// The hub's count of assignments of this task.
    pub generation: u64,
    /// Everything else in the frame (`description`, `metadata`, `assigned_at`, `routing_decision`, ...).
    #[serde(flatten)]
    pub rest: JsonFields,
}

impl Assignment {
    /// Reads the task's id and generation of an assignment whose JSON is refused. Returns `None` if it has no id.
    pub fn named_in(text: &str) -> Option<Self> {
        let mut named = fields_of_refused(text, |name| matches!(name, "task_id" | "generation"));
        let generation = named.take_optional("generation").ok()?.unwrap_or_default();
        Some(Self { task_id: named.take("task_id").ok()?, generation, rest: JsonFields::default() })
    }

    /// Returns the time limit that the task asks for, ms: `timeout_ms` or `metadata.timeout_ms`, the shorter one. That in the
    /// metadata of a shell command is the command's.
    pub fn timeout_ms(&self) -> Option<u64> {
        let in_metadata = || {
            let metadata = self.rest.get("metadata")?;
            let metadata =
                JsonFields::of_unchecked(metadata.as_str(), |name| matches!(name, "shell_command" | "timeout_ms"));
            let is_command = metadata.string("shell_command").is_some_and(|command| !command.trim().is_empty());
            metadata.read::<u64>("timeout_ms").filter(|_| !is_command)
        };
        let asked = [self.rest.read::<u64>("timeout_ms"), in_metadata()];
        asked.into_iter().flatten().filter(|asked| *asked > 0).min()
    }

    /// Returns `assigned_at` in ms since the epoch, if the hub sent it.
    pub fn assigned_at(&self) -> Option<u64> {
        self.rest.read("assigned_at")
    }
}

/// The value of `task_ack.status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskAckStatus {
    /// `task_accepted` was accepted.
    Accepted,
    /// `task_complete` was accepted.
    Complete,
    /// `task_failed` was accepted; terminal.
    Failed,
    /// `task_failed` was accepted; the task will be assigned again.
    Retried,
    /// `task_failed` was accepted; the task has no attempts left.
    DeadLetter,
    /// An unknown status; it counts as an answer all the same.
    #[serde(other)]
    Other,
}

/// The value of `state_report_ack.action`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateAction {
    /// The task is still assigned to the sidecar.
    Continue,
    /// The task is not assigned to the sidecar any more.
    Abort,
}

/// The `restart_sidecar` frame. A legacy hub sends only `reason`; this project's hub adds the rest (feature
/// `restart.v2`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RestartCommand {
    /// The reason, for people.
    #[serde(default)]
    pub reason: Option<String>,
    /// The command's id, the same across repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<String>,
    /// The longest time, in ms, that a running task may delay the restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// Whether to restart without waiting for the task.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub force: bool,
    /// The name of the principal that commanded it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}
