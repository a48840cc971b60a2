//! One commanded restart: the command, every step it took, and how it reads over HTTP. It moves nowhere by itself; the
//! ledger in `restarts` moves it.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::protocol::{Identify, RestartCommand};

/// How many steps a restart keeps.
const STEPS_CAP: usize = 200;

/// How far a commanded restart has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Phase {
    /// Recorded, and the agent fenced.
    Commanded,
    /// The frame was written to the agent's socket.
    Delivered,
    /// The agent promised it.
    Accepted,
    /// The agent said its last words.
    Draining,
    /// Its socket closed after that.
    Exiting,
    /// End: the agent identified again, as another run.
    Back,
    /// End: the agent will not do it.
    Refused,
    /// End, until the agent comes back late: it took longer than it could have.
    Overdue,
}

impl Phase {
    /// The name in the API.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Whether the command still fences its agent.
    pub const fn is_open(self) -> bool {
        match self {
            Self::Commanded | Self::Delivered | Self::Accepted | Self::Draining | Self::Exiting => true,
            Self::Back | Self::Refused | Self::Overdue => false,
        }
    }
}

/// One line of a restart's story.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RestartStep {
    /// A phase, or what happened inside one: `sent_again`, `force_added`, `socket_closed`, `reconnected`, `duplicate`.
    pub step: String,
    /// When, ms since the epoch.
    pub at_ms: u64,
    /// What else is known.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub detail: Value,
}

/// What the API was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestartRequest {
    /// Why, for people.
    pub reason: String,
    /// How long a running task may hold it up, ms; the hub's default where absent.
    pub deadline_ms: Option<u64>,
    /// Do not wait for the task.
    pub force: bool,
    /// Whose token it was.
    pub by: String,
}

/// What the hub knows of a run when it is told to end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Run {
    /// `identify.boot_id`; a peer that says it knows `restart.v2`.
    pub boot_id: Option<String>,
    /// `identify.pm2_info.restart_count`.
    pub restart_count: Option<u64>,
}

impl Run {
    /// The run that an identify speaks for.
    pub fn of(identify: &Identify) -> Self {
        let restart_count = identify.pm2_info.as_ref().and_then(|info| info.restart_count);
        Self { boot_id: identify.boot_id.clone(), restart_count }
    }
}

/// One commanded restart, as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Restart {
    /// Names the command across repeats.
    pub command_id: String,
    /// Whom it restarts.
    pub agent_id: String,
    /// Why, for people.
    pub reason: String,
    /// Who asked first.
    pub by: String,
    /// How long a running task may hold it up, where the command said, ms.
    pub deadline_ms: Option<u64>,
    /// Whether it does not wait for the task.
    pub force: bool,
    /// Whether the agent was told so.
    pub force_told: bool,
    /// The order of the commands.
    pub seq: u64,
    /// ms since the epoch.
    pub commanded_at: u64,
    /// When it is called overdue, ms since the epoch.
    pub overdue_at: u64,
    /// How far it came.
    pub phase: Phase,
    /// The run that was told to end; absent for a peer that does not name its runs.
    pub boot_before: Option<String>,
    /// pm2's restart count of that run, where the peer said it.
    pub count_before: Option<u64>,
    /// When the agent was last heard before it went away, ms since the epoch.
    pub left_at: Option<u64>,
    /// The run that came back.
    pub boot_after: Option<String>,
    /// From the last words (or the closing of the socket) to the next identify, by the hub's clock, ms.
    pub gap_ms: Option<u64>,
    /// The same by the agent's own account (`identify.restarted.gap_ms`), ms.
    pub reported_gap_ms: Option<u64>,
    /// Whether work was left under way, where the agent said.
    pub forced: Option<bool>,
    /// Everything that happened, oldest first.
    pub steps: Vec<RestartStep>,
}

impl Restart {
    /// Writes one line of the story. A flapping link cannot make it long: past the cap the oldest but one goes.
    pub fn note(&mut self, step: &str, detail: Value, now_ms: u64) {
        if self.steps.len() >= STEPS_CAP {
            self.steps.remove(1);
        }
        self.steps.push(RestartStep { step: step.to_owned(), at_ms: now_ms, detail });
    }

    /// Whether an identify comes from another run than the one that was told to end.
    ///
    /// A run that names itself is another one when the name differs. An original Node sidecar names none: it is another
    /// run when it had said `agent_restarting`, when pm2's count is another one and not 0 (`pm2 reset` makes it 0, and
    /// ends nobody), or, where pm2 said no count, when the socket had closed.
    pub fn is_ended_by(&self, run: &Run) -> bool {
        match (&self.boot_before, &run.boot_id) {
            (Some(before), Some(now)) => before != now,
            (None, Some(_)) | (Some(_), None) => true,
            (None, None) => {
                let said_so = self.steps.iter().any(|step| step.step == Phase::Draining.name());
                match (self.count_before, run.restart_count) {
                    (Some(before), Some(now)) => said_so || (now != before && now != 0),
                    (None, _) | (_, None) => said_so || self.left_at.is_some(),
                }
            }
        }
    }

    /// The agent identified as another run: the end, late or not.
    pub fn come_back(&mut self, identify: &Identify, now_ms: u64) {
        let late = self.phase == Phase::Overdue;
        self.phase = Phase::Back;
        self.boot_after = identify.boot_id.clone();
        self.gap_ms = self.left_at.map(|left_at| now_ms.saturating_sub(left_at));
        // A return may report a restart of its own; only what it says of this command belongs here.
        let own = identify.restarted.as_ref().filter(|told| told.command_id.as_ref() == Some(&self.command_id));
        if let Some(own) = own {
            self.reported_gap_ms = Some(own.gap_ms);
            self.forced = Some(own.forced);
        }
        let detail = json!({"boot_id": identify.boot_id, "late": late, "named_the_command": own.is_some()});
        self.note(Phase::Back.name(), detail, now_ms);
    }

    /// The frame for an agent that knows `restart.v2`, or for one that knows only `reason`.
    pub fn frame(&self, v2: bool) -> RestartCommand {
        if !v2 {
            return RestartCommand { reason: Some(self.reason.clone()), ..RestartCommand::default() };
        }
        RestartCommand {
            reason: Some(self.reason.clone()),
            command_id: Some(self.command_id.clone()),
            deadline_ms: self.deadline_ms,
            force: self.force,
            by: Some(self.by.clone()),
        }
    }

    /// The restart as the API shows it.
    pub fn to_json(&self) -> Value {
        json!({
            "command_id": self.command_id,
            "agent_id": self.agent_id,
            "reason": self.reason,
            "by": self.by,
            "deadline_ms": self.deadline_ms,
            "force": self.force,
            "state": self.phase.name(),
            "open": self.phase.is_open(),
            "commanded_at": self.commanded_at,
            "overdue_at": self.overdue_at,
            "boot_before": self.boot_before,
            "boot_after": self.boot_after,
            "gap_ms": self.gap_ms,
            "reported_gap_ms": self.reported_gap_ms,
            "forced": self.forced,
            "steps": self.steps,
        })
    }
}
