//! The frames that a sidecar sends to a hub.

use serde::{Deserialize, Serialize};
use strum::VariantNames as _;

use crate::protocol::{FrameError, JsonFields, JsonText, Labels, PROTOCOL_VERSION, split};

/// A frame from a sidecar.
#[derive(Debug, Clone, PartialEq, Serialize, strum::VariantNames, strum::IntoStaticStr)]
#[serde(tag = "type", rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum SidecarFrame {
    /// The first frame on a connection.
    Identify(Box<Identify>),
    /// The heartbeat.
    Ping {},
    /// The status that the hub shows for the agent.
    Status {
        /// The text, at most 256 characters.
        status: String,
    },
    /// The sidecar has accepted the task: it is in the journal.
    TaskAccepted {
        /// The task's id.
        task_id: String,
        /// The assignment's generation (a legacy sidecar does not name it).
        #[serde(skip_serializing_if = "Option::is_none")]
        generation: Option<u64>,
    },
    /// The sidecar rejects the task (feature `task_rejected`; a legacy sidecar sends it without `generation`).
    TaskRejected {
        /// The task's id.
        task_id: String,
        /// The assignment's generation.
        #[serde(skip_serializing_if = "Option::is_none")]
        generation: Option<u64>,
        /// The reason: `busy`, `restarting`, `invalid`, or `draining` (feature `cordon`).
        reason: String,
    },
    /// A sign of life of the task.
    TaskProgress {
        /// The task's id.
        task_id: String,
        /// The progress, in per cent.
        #[serde(skip_serializing_if = "Option::is_none")]
        progress: Option<i64>,
        /// An event that is passed on to dashboards.
        #[serde(skip_serializing_if = "Option::is_none")]
        execution_event: Option<JsonText>,
    },
    /// The task is done.
    TaskComplete(TaskCompletion),
    /// The task failed.
    TaskFailed {
        /// The task's id.
        task_id: String,
        /// The generation that the task was executed under.
        generation: u64,
        /// The reason, at most 2,000 characters. A legacy sidecar may send `error` instead.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// The other name for `reason`.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// The question, after a crash or restart, whether the task is still assigned to the sidecar.
    TaskRecovering {
        /// The task's id.
        task_id: String,
        /// The last status of the task: `accepted`, `waking`, `waking_confirmation`, `working`.
        #[serde(skip_serializing_if = "Option::is_none")]
        last_status: Option<String>,
        /// All other fields (`description`, `metadata`, `generation`).
        #[serde(flatten)]
        rest: JsonFields,
    },
    /// The question, after a reconnect with a running task, whether the task is still assigned to the sidecar.
    StateReport {
        /// The task's id.
        task_id: String,
        /// The status of the task.
        #[serde(skip_serializing_if = "Option::is_none")]
        status: Option<String>,
        /// The assignment's generation.
        #[serde(skip_serializing_if = "Option::is_none")]
        generation: Option<u64>,
        /// The time of the assignment, in ms since the epoch.
        #[serde(skip_serializing_if = "Option::is_none")]
        assigned_at: Option<u64>,
    },
    /// The result of waking the agent.
    WakeResult {
        /// The task's id.
        task_id: String,
        /// The result.
        status: WakeStatus,
        /// The number of the attempt, counted from 1.
        #[serde(skip_serializing_if = "Option::is_none")]
        attempt: Option<u64>,
        /// The error.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        /// The other name for `error`.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The load of the computer.
    ResourceReport {
        /// The figures: `cpu_percent`, `ram_used_bytes`, ...
        #[serde(flatten)]
        rest: JsonFields,
    },
    /// Whether the agent is cordoned (feature `cordon`).
    Cordon {
        /// Whether the agent takes no tasks.
        on: bool,
    },
    /// The final message before a restart.
    AgentRestarting(Restarting),
    /// The answer to a `restart_sidecar` (feature `restart.v2`).
    RestartAck(RestartAck),
}

impl SidecarFrame {
    /// Reads a text frame from a sidecar.
    ///
    /// # Errors
    /// [`FrameError`] says whether the text is not a frame, of an unknown type, refused, or of a known type with an
    /// invalid field.
    pub fn parse(text: &str) -> Result<Self, FrameError> {
        let (kind, fields) = split(text, Self::VARIANTS)?;
        Self::read(&kind, fields).map_err(|detail| FrameError::Malformed { kind, detail })
    }

    /// Reads a frame of this type from its fields.
    pub(super) fn read(kind: &str, mut fields: JsonFields) -> Result<Self, String> {
        Ok(match kind {
            "identify" => Self::Identify(Box::new(fields.read_as()?)),
            "ping" => Self::Ping {},
            "status" => Self::Status { status: fields.take("status")? },
            "task_accepted" => {
                Self::TaskAccepted { task_id: fields.take("task_id")?, generation: fields.take_optional("generation")? }
            }
            "task_rejected" => Self::TaskRejected {
                task_id: fields.take("task_id")?,
                generation: fields.take_optional("generation")?,
                reason: fields.take("reason")?,
            },
            "task_progress" => Self::TaskProgress {
                task_id: fields.take("task_id")?,
                progress: fields.take_optional("progress")?,
                execution_event: fields.remove("execution_event").filter(|event| !event.is_null()),
            },
            "task_complete" => Self::TaskComplete(TaskCompletion {
                task_id: fields.take("task_id")?,
                generation: fields.take("generation")?,
                result: fields.remove("result").filter(|result| !result.is_null()),
                rest: fields,
            }),
            "task_failed" => Self::TaskFailed {
                task_id: fields.take("task_id")?,
                generation: fields.take("generation")?,
                reason: fields.take_optional("reason")?,
                error: fields.take_optional("error")?,
            },
            "task_recovering" => Self::TaskRecovering {
                task_id: fields.take("task_id")?,
                last_status: fields.take_optional("last_status")?,
                rest: fields,
            },
            "state_report" => Self::StateReport {
                task_id: fields.take("task_id")?,
                status: fields.take_optional("status")?,
                generation: fields.take_optional("generation")?,
                assigned_at: fields.take_optional("assigned_at")?,
            },
            "wake_result" => Self::WakeResult {
                task_id: fields.take("task_id")?,
                status: fields.take("status")?,
                attempt: fields.take_optional("attempt")?,
                error: fields.take_optional("error")?,
                reason: fields.take_optional("reason")?,
            },
            "resource_report" => Self::ResourceReport { rest: fields },
            "cordon" => Self::Cordon { on: fields.take("on")? },
            "agent_restarting" => Self::AgentRestarting(fields.read_as()?),
            "restart_ack" => Self::RestartAck(fields.read_as()?),
            _ => return Err("unknown type".to_owned()),
        })
    }

    /// Returns the frame's `type`.
    pub fn kind(&self) -> &'static str {
        self.into()
    }

    /// Returns the frame as text, including the protocol version.
    pub fn to_text(&self) -> String {
        #[derive(Serialize)]
        struct Versioned<'a> {
            #[serde(flatten)]
            frame: &'a SidecarFrame,
            protocol_version: u32,
        }
        let framed = Versioned { frame: self, protocol_version: PROTOCOL_VERSION };
        // Maps with string keys and plain values: this cannot fail.
        serde_json::to_string(&framed).unwrap_or_default()
    }
}

/// The `identify` frame.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Identify {
    /// The agent's id.
    pub agent_id: String,
    /// The agent's token, a secret.
    pub token: String,
    /// The agent's name for people; its id by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The status: `idle` or `restarting: <reason>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// The agent's capabilities: the kinds of tasks that it can do.
    #[serde(default)]
    pub capabilities: Vec<JsonText>,
    /// What its operator groups agents by, as its configuration has it.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// The keys of labels that were left out as they came, since they are not allowed.
    #[serde(skip)]
    pub dropped_labels: Vec<String>,
    /// The kind of client: `sidecar`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_type: Option<String>,
    /// pm2's figures of the sidecar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pm2_info: Option<Pm2Info>,
    /// The URL of a local Ollama endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ollama_url: Option<String>,
    /// The id of this run of the process; a new one after every start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// The sidecar's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The commanded restart that started this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarted: Option<Restarted>,
    /// How the run before this one ended, as this one found it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_end: Option<PreviousEnd>,
    /// The same in words, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_end_detail: Option<String>,
    /// The longest time after the last word of a hub for which the sidecar may still listen to that connection, in ms: a ping
    /// and the wait for its pong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silence_bound_ms: Option<u64>,
    /// What the sidecar understands beyond a legacy sidecar.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
}

/// The value of `identify.previous_end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "scheduler", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum PreviousEnd {
    /// An operator or the supervisor stopped it (a signal).
    Stopped,
    /// It left for a restart.
    Restarted,
    /// It had an error of its own.
    Crashed,
    /// A signal that cannot be answered ended it.
    Killed,
    /// The kernel killed it for memory.
    OutOfMemory,
    /// The machine was rebooted, or the container started anew.
    Rebooted,
    /// That is not known, or there was none.
    #[serde(other)]
    Unknown,
}

impl PreviousEnd {
    /// Returns whether the run's end was wanted by somebody.
    pub const fn is_planned(self) -> bool {
        match self {
            Self::Stopped | Self::Restarted => true,
            Self::Crashed | Self::Killed | Self::OutOfMemory | Self::Rebooted | Self::Unknown => false,
        }
    }
}

/// The value of `identify.pm2_info`, as the legacy sidecar sends it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Pm2Info {
    /// pm2's name for the process.
    #[serde(default)]
    pub name: Option<String>,
    /// The process status: `online`, or `unknown` when pm2 cannot be asked.
    #[serde(default)]
    pub status: Option<String>,
    /// The time since the process started, in ms.
    #[serde(default)]
    pub uptime_ms: Option<u64>,
    /// pm2's count of restarts.
    #[serde(default)]
    pub restart_count: Option<u64>,
    /// The resident set size, in bytes.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
}

/// The value of `identify.restarted`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restarted {
    /// The id of the command that caused it, if the hub sent one.
    #[serde(default)]
    pub command_id: Option<String>,
    /// The command's reason.
    #[serde(default)]
    pub reason: String,
    /// Whether a running task was left behind.
    #[serde(default)]
    pub forced: bool,
    /// The time from the beginning of the drain to this `identify`, in ms.
    #[serde(default)]
    pub gap_ms: u64,
}

/// The `task_complete` frame.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskCompletion {
    /// The task's id.
    pub task_id: String,
    /// The generation that the task was executed under.
    pub generation: u64,
    /// The content of the agent's result file.
    pub result: Option<JsonText>,
    /// All other fields (`verification_report`, `tokens_used`, ...).
    #[serde(flatten)]
    pub rest: JsonFields,
}

/// The value of `wake_result.status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WakeStatus {
    /// The wake command exited 0.
    Success,
    /// The wake command did not exit 0.
    Failed,
    /// The wake command took too long, or the agent never confirmed.
    Timeout,
}

/// The `agent_restarting` frame.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restarting {
    /// The command's reason.
    #[serde(default)]
    pub reason: String,
    /// The command's id, if the hub sent one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<String>,
    /// Whether a running task is left behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forced: Option<bool>,
    /// The time until the next `identify` is expected, in ms from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_back_ms: Option<u64>,
    /// The id of the running task that is left behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
}

/// The `restart_ack` frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartAck {
    /// The id of the command that this answers.
    pub command_id: String,
    /// The outcome of the command.
    pub outcome: RestartAckOutcome,
    /// The explanation, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The latest time at which a running task will be left behind, in ms from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// The time after which a command that is refused for now would be accepted, in ms from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// The value of `restart_ack.outcome`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartAckOutcome {
    /// The restart will happen.
    Accepted,
    /// The restart is already under way, or it started this run: nothing more will happen.
    Duplicate,
    /// The restart will not happen; `detail` says why.
    Refused,
}
