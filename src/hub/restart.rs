//! One commanded restart: the command, every step it took, and how it reads over HTTP. It moves nowhere by itself; the
//! ledger in `restarts` moves it.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::restarts::Run;
use crate::wire::RestartCommand;

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
pub struct Step {
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
    pub steps: Vec<Step>,
}

impl Restart {
    /// Writes one line of the story. A flapping link cannot make it long: past the cap the oldest but one goes.
    pub fn note(&mut self, step: &str, detail: Value, now_ms: u64) {
        if self.steps.len() >= STEPS_CAP {
            self.steps.remove(1);
        }
        self.steps.push(Step { step: step.to_owned(), at_ms: now_ms, detail });
    }

    /// The run that was told to end.
    pub fn run_before(&self) -> Run {
        Run { boot_id: self.boot_before.clone(), restart_count: self.count_before }
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
