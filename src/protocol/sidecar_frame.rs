//! Sidecar -> hub.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::protocol::{FrameError, PROTOCOL_VERSION};

/// A frame from a sidecar.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum SidecarFrame {
    /// The first frame on a connection.
    Identify(Box<Identify>),
    /// Heartbeat.
    Ping {},
    /// What presence shows.
    Status {
        /// At most 256 characters.
        status: String,
    },
    /// The task is ours: the journal holds it.
    TaskAccepted {
        /// Which task.
        task_id: String,
    },
    /// The task is not taken (feature `task_rejected`; an existing Node sidecar says it without `generation`).
    TaskRejected {
        /// Which task.
        task_id: String,
        /// Its generation.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        generation: Option<u64>,
        /// `busy`, `restarting` or `invalid`.
        reason: String,
    },
    /// A sign of life of the task.
    TaskProgress {
        /// Which task.
        task_id: String,
        /// Per cent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        progress: Option<i64>,
        /// Passed on to dashboards.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        execution_event: Option<Map<String, Value>>,
    },
    /// The task is done.
    TaskComplete(Verdict),
    /// The task failed.
    TaskFailed {
        /// Which task.
        task_id: String,
        /// The generation it was done under.
        generation: u64,
        /// At most 2,000 characters. An existing sidecar may say `error` instead.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// The other name for `reason`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// After a crash or restart: is this task still ours?
    TaskRecovering {
        /// Which task.
        task_id: String,
        /// How far it had come: `accepted`, `waking`, `waking_confirmation`, `working`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last_status: Option<String>,
        /// Everything else (`description`, `metadata`, `generation`).
        #[serde(flatten)]
        rest: Map<String, Value>,
    },
    /// After a reconnect with a task under way: is this task still ours?
    StateReport {
        /// Which task.
        task_id: String,
        /// How far it has come.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<String>,
        /// Its generation.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        generation: Option<u64>,
        /// When the hub assigned it, ms since the epoch.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        assigned_at: Option<u64>,
    },
    /// How a wake went.
    WakeResult {
        /// Which task.
        task_id: String,
        /// How.
        status: WakeStatus,
        /// Counted from 1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        attempt: Option<u64>,
        /// What went wrong.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        /// The other name for `error`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The machine's load.
    ResourceReport {
        /// `cpu_percent`, `ram_used_bytes`, ...
        #[serde(flatten)]
        rest: Map<String, Value>,
    },
    /// Whether the agent takes tasks at all (feature `cordon`).
    Cordon {
        /// It takes none.
        on: bool,
    },
    /// The last words before a restart.
    AgentRestarting(Restarting),
    /// What became of a `restart_sidecar` (feature `restart.v2`).
    RestartAck(RestartAck),
}

impl SidecarFrame {
    /// The types [`SidecarFrame::parse`] knows.
    pub const KNOWN: &'static [&'static str] = &[
        "identify",
        "ping",
        "status",
        "task_accepted",
        "task_rejected",
        "task_progress",
        "task_complete",
        "task_failed",
        "task_recovering",
        "state_report",
        "wake_result",
        "resource_report",
        "cordon",
        "agent_restarting",
        "restart_ack",
    ];

    /// Reads a text frame from a sidecar.
    ///
    /// # Errors
    /// [`FrameError`] says whether it is garbage, a type we do not know, or a known type with a bad field.
    pub fn parse(text: &str) -> Result<Self, FrameError> {
        crate::protocol::parse(text, Self::KNOWN)
    }

    /// The frame's `type`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Identify(_) => "identify",
            Self::Ping {} => "ping",
            Self::Status { .. } => "status",
            Self::TaskAccepted { .. } => "task_accepted",
            Self::TaskRejected { .. } => "task_rejected",
            Self::TaskProgress { .. } => "task_progress",
            Self::TaskComplete(_) => "task_complete",
            Self::TaskFailed { .. } => "task_failed",
            Self::TaskRecovering { .. } => "task_recovering",
            Self::StateReport { .. } => "state_report",
            Self::WakeResult { .. } => "wake_result",
            Self::ResourceReport { .. } => "resource_report",
            Self::Cordon { .. } => "cordon",
            Self::AgentRestarting(_) => "agent_restarting",
            Self::RestartAck(_) => "restart_ack",
        }
    }

    /// The frame as text, with the protocol version that rides on every one.
    pub fn to_text(&self) -> String {
        #[derive(Serialize)]
        struct Versioned<'a> {
            #[serde(flatten)]
            frame: &'a SidecarFrame,
            protocol_version: u32,
        }
        let framed = Versioned { frame: self, protocol_version: PROTOCOL_VERSION };
        // Maps with string keys and plain values: nothing here can fail to serialize.
        serde_json::to_string(&framed).unwrap_or_default()
    }
}

/// `identify`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Identify {
    /// Who we are.
    pub agent_id: String,
    /// The agent's secret.
    pub token: String,
    /// For people; the agent id by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `idle` or `restarting: <reason>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// What tasks we can do.
    #[serde(default)]
    pub capabilities: Vec<Value>,
    /// `sidecar`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_type: Option<String>,
    /// What pm2 says of us.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pm2_info: Option<Pm2Info>,
    /// A local Ollama endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ollama_url: Option<String>,
    /// Names this run of the process; another one after every start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// The sidecar's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The commanded restart that this run is the return from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarted: Option<Restarted>,
}

/// `identify.pm2_info`, as the Node sidecar sends it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Pm2Info {
    /// pm2's name for the process.
    #[serde(default)]
    pub name: Option<String>,
    /// `online`, or `unknown` when pm2 cannot be asked.
    #[serde(default)]
    pub status: Option<String>,
    /// Since the process started, ms.
    #[serde(default)]
    pub uptime_ms: Option<u64>,
    /// pm2's count.
    #[serde(default)]
    pub restart_count: Option<u64>,
    /// Resident set, bytes.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
}

/// `identify.restarted`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restarted {
    /// The command that caused it, where the hub named one.
    #[serde(default)]
    pub command_id: Option<String>,
    /// The command's reason.
    #[serde(default)]
    pub reason: String,
    /// Whether work was left under way.
    #[serde(default)]
    pub forced: bool,
    /// From leaving (the drain's begin) to this `identify`, ms.
    #[serde(default)]
    pub gap_ms: u64,
}

/// `task_complete`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Which task.
    pub task_id: String,
    /// The generation it was done under.
    pub generation: u64,
    /// The agent's result file.
    #[serde(default)]
    pub result: Option<Map<String, Value>>,
    /// Everything else (`verification_report`, `tokens_used`, ...).
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// `wake_result.status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WakeStatus {
    /// The wake command exited 0.
    Success,
    /// It did not.
    Failed,
    /// It took too long, or the agent never confirmed.
    Timeout,
}

/// `agent_restarting`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restarting {
    /// The command's reason.
    #[serde(default)]
    pub reason: String,
    /// The command, where the hub named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<String>,
    /// Whether work is left under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forced: Option<bool>,
    /// When to expect the next `identify`, ms from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_back_ms: Option<u64>,
    /// The task that is left under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
}

/// `restart_ack`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartAck {
    /// The command this answers.
    pub command_id: String,
    /// What became of it.
    pub outcome: RestartAckOutcome,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// When a running task will be left behind at the latest, ms from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
}

/// `restart_ack.outcome`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartAckOutcome {
    /// It will happen.
    Accepted,
    /// It is already under way, or was this run's cause: nothing more will happen.
    Duplicate,
    /// It will not happen; `detail` says why.
    Refused,
}
