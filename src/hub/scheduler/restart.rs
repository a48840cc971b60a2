//! One commanded restart: the command, its steps, and its JSON for the HTTP API. The ledger in `restart_ledger` moves
//! it from phase to phase.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::protocol::{Identify, RestartCommand, json_bytes};

/// The steps that a connection which flaps repeats without end. Each other step happens once in a restart.
const REPEATABLE: [&str; 4] = ["sent_again", "duplicate", "socket_closed", "reconnected"];
/// The number of repeatable steps that a restart keeps: the newest.
const MAX_REPEATS: usize = 24;

/// The phase of a commanded restart.
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
    strum::IntoStaticStr,
    strum::VariantNames,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum RestartPhase {
    /// The command is recorded, and the agent fenced.
    Commanded,
    /// The frame was written to the agent's socket.
    Delivered,
    /// The agent accepted the command.
    Accepted,
    /// The agent sent `agent_restarting`.
    Draining,
    /// The agent's socket closed after that.
    Exiting,
    /// Final: the agent identified again, as another run.
    Back,
    /// Final: the agent refused the command.
    Refused,
    /// Final unless the agent comes back later: the restart took too long.
    Overdue,
    /// Final: the agent's last token was revoked.
    Revoked,
    /// Final: the command was withdrawn before it had reached the agent.
    Withdrawn,
}

impl RestartPhase {
    /// Returns the name in the API.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Returns whether the command still fences its agent.
    pub const fn is_open(self) -> bool {
        match self {
            Self::Commanded | Self::Delivered | Self::Accepted | Self::Draining | Self::Exiting => true,
            Self::Back | Self::Refused | Self::Overdue | Self::Revoked | Self::Withdrawn => false,
        }
    }
}

/// One step of a restart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RestartStep {
    /// A phase, or an event inside one: `sent_again`, `force_added`, `socket_closed`, `reconnected`, `duplicate`.
    pub step: String,
    /// The time of the step, in ms since the epoch.
    pub at_ms: u64,
    /// Further details, as the event has them.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    #[schema(value_type = Option<Object>)]
    pub detail: Value,
}

/// A restart request of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestartRequest {
    /// The reason, as text for people.
    pub reason: String,
    /// The time for which a running task may delay the restart, in ms; the hub's default if absent.
    pub deadline_ms: Option<u64>,
    /// Whether to restart without waiting for the task.
    pub force: bool,
    /// The name that the request's token proves.
    pub by: String,
}

/// What the hub knows about a run of an agent's process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RunIdentity {
    /// `identify.boot_id`; a peer that sends it speaks `restart.v2`.
    pub boot_id: Option<String>,
    /// `identify.pm2_info.restart_count`.
    pub restart_count: Option<u64>,
}

impl RunIdentity {
    /// Returns the run that sent an identify.
    pub fn of(identify: &Identify) -> Self {
        let restart_count = identify.pm2_info.as_ref().and_then(|info| info.restart_count);
        Self { boot_id: identify.boot_id.clone(), restart_count }
    }

    /// Returns whether this is another run than `before`; `None` if that cannot be told.
    pub fn is_other_than(&self, before: &Self) -> Option<bool> {
        match (&self.boot_id, &before.boot_id) {
            (Some(now), Some(before)) => Some(now != before),
            (Some(_), None) | (None, Some(_)) => Some(true),
            (None, None) => self.restart_count.zip(before.restart_count).map(|(now, before)| now != before),
        }
    }

    /// Returns whether this is a run after `before`; `None` if that cannot be told. `pm2 reset` sets the count to 0 and
    /// ends no process.
    pub fn replaces(&self, before: &Self) -> Option<bool> {
        let is_reset = self.boot_id.is_none() && self.restart_count == Some(0);
        self.is_other_than(before).map(|is_other| is_other && !is_reset)
    }
}

/// One commanded restart, as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Restart {
    /// The command's id, the same for every repeat.
    pub command_id: String,
    /// The agent to restart.
    pub agent_id: String,
    /// The reason, as text for people.
    pub reason: String,
    /// The name that the first request's token proved.
    pub by: String,
    /// The time for which a running task may delay the restart, if the command sets it, in ms.
    pub deadline_ms: Option<u64>,
    /// Whether the restart does not wait for the task.
    pub force: bool,
    /// Whether `force` was sent to the agent.
    pub force_told: bool,
    /// The command's number, in the order of the commands.
    pub seq: u64,
    /// The time of the command, in ms since the epoch.
    pub commanded_at: u64,
    /// How far the machine's clock was set since the command, in ms.
    #[serde(default)]
    pub clock_moved_ms: i64,
    /// The time from which on the restart is overdue, in ms since the epoch.
    pub overdue_at: u64,
    /// The current phase.
    pub phase: RestartPhase,
    /// The `boot_id` of the run that is to end; `None` for a peer that sends none.
    pub boot_before: Option<String>,
    /// pm2's restart count of that run, if the peer sent it.
    pub count_before: Option<u64>,
    /// The time when the agent announced that it leaves, or when its socket closed, in ms since the epoch.
    pub left_at: Option<u64>,
    /// The `boot_id` of the run that came back.
    pub boot_after: Option<String>,
    /// The time from the announcement (or the closing of the socket) to the next identify, by the hub's clock, in ms.
    pub gap_ms: Option<u64>,
    /// The same time as the agent reports it (`identify.restarted.gap_ms`), in ms.
    pub reported_gap_ms: Option<u64>,
    /// Whether the agent left unfinished work, if it reported that.
    pub forced: Option<bool>,
    /// The time from which on an agent that refused for now would accept another command, in ms since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<u64>,
    /// The steps, oldest first: each that happens once, and the newest of those that repeat.
    pub steps: Vec<Arc<RestartStep>>,
    /// The number of repeated steps that are left out of `steps`.
    #[serde(default)]
    pub steps_left_out: u64,
}

impl Restart {
    /// Adds a step, and leaves out the oldest repeated one if there are too many.
    pub fn add_step(&mut self, step: &str, detail: Value, now_ms: u64) {
        self.steps.push(Arc::new(RestartStep { step: step.to_owned(), at_ms: now_ms, detail }));
        self.bound_steps();
    }

    /// Leaves out the oldest repeated steps while there are too many.
    pub(crate) fn bound_steps(&mut self) {
        let repeats = |step: &Arc<RestartStep>| REPEATABLE.contains(&step.step.as_str());
        let mut excess = self.steps.iter().filter(|step| repeats(step)).count().saturating_sub(MAX_REPEATS);
        self.steps_left_out = self.steps_left_out.saturating_add(excess as u64);
        self.steps.retain(|step| {
            let left_out = excess > 0 && repeats(step);
            excess -= usize::from(left_out);
            !left_out
        });
    }

    /// Returns the restart's size on disk, in bytes.
    pub fn weight(&self) -> u64 {
        json_bytes(self)
    }

    /// Returns why the agent refused the command, if it did and said why.
    pub(crate) fn refused_because(&self) -> Option<&str> {
        let refused = self.steps.iter().rfind(|step| step.step == RestartPhase::Refused.name())?;
        refused.detail.get("detail")?.as_str()
    }

    /// Returns the time of the command by the clock as it is now, in ms since the epoch.
    pub(crate) fn counts_from(&self) -> u64 {
        self.commanded_at.saturating_add_signed(self.clock_moved_ms)
    }

    /// Returns the time of the last step, in ms since the epoch.
    pub(crate) fn last_step_at(&self) -> u64 {
        self.steps.last().map_or(self.commanded_at, |step| step.at_ms)
    }

    /// Returns whether the agent announced that it leaves.
    pub(crate) fn was_announced(&self) -> bool {
        self.steps.iter().any(|step| step.step == RestartPhase::Draining.name())
    }

    /// Returns whether an identify comes from another run than the one that is to end.
    ///
    /// For a run with a `boot_id`, that is so if the `boot_id` differs. A legacy sidecar sends none: it is another run
    /// if it had sent `agent_restarting`, if pm2's restart count differs and is not 0 (`pm2 reset` sets it to 0 and
    /// ends no process), or, if pm2's count is unknown, if the socket had closed.
    pub fn is_ended_by(&self, run: &RunIdentity) -> bool {
        match (&self.boot_before, &run.boot_id) {
            (Some(before), Some(now)) => before != now,
            (None, Some(_)) | (Some(_), None) => true,
            (None, None) if self.was_announced() => true,
            (None, None) => match (self.count_before, run.restart_count) {
                (Some(before), Some(now)) => now != before && now != 0,
                (None, _) | (_, None) => self.left_at.is_some(),
            },
        }
    }

    /// Ends the restart: the agent identified as another run, in time or late.
    pub fn mark_back(&mut self, identify: &Identify, now_ms: u64) {
        let late = self.phase == RestartPhase::Overdue;
        self.phase = RestartPhase::Back;
        self.boot_after = identify.boot_id.clone();
        self.gap_ms = self.left_at.map(|left_at| now_ms.saturating_sub(left_at));
        // The agent may report another restart; only a report of this command belongs here.
        let own = identify.restarted.as_ref().filter(|report| report.command_id.as_ref() == Some(&self.command_id));
        if let Some(own) = own {
            self.reported_gap_ms = Some(own.gap_ms);
            self.forced = Some(own.forced);
        }
        let detail = json!({"boot_id": identify.boot_id, "late": late, "named_the_command": own.is_some()});
        self.add_step(RestartPhase::Back.name(), detail, now_ms);
    }

    /// Returns the frame for an agent that knows `restart.v2`, or for one that knows only `reason`.
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

    /// Returns the restart as the API shows it.
    pub fn shown(&self) -> ShownRestart<'_> {
        ShownRestart {
            boot_after: self.boot_after.as_deref(),
            boot_before: self.boot_before.as_deref(),
            agent_id: &self.agent_id,
            by: &self.by,
            command_id: &self.command_id,
            commanded_at: self.commanded_at,
            deadline_ms: self.deadline_ms,
            force: self.force,
            forced: self.forced,
            gap_ms: self.gap_ms,
            open: self.phase.is_open(),
            overdue_at: self.overdue_at,
            reason: &self.reason,
            reported_gap_ms: self.reported_gap_ms,
            state: self.phase.name(),
            steps: &self.steps,
            steps_left_out: self.steps_left_out,
        }
    }
}

/// A restart as the API shows it. The fields are in the order of their names.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ShownRestart<'a> {
    /// The agent.
    agent_id: &'a str,
    /// The `boot_id` of the run that came back.
    boot_after: Option<&'a str>,
    /// The `boot_id` of the run that is to end, or has ended.
    boot_before: Option<&'a str>,
    /// Who commanded it.
    by: &'a str,
    /// The command's id, the same for every repeat.
    command_id: &'a str,
    /// The time of the command, in ms since the epoch.
    commanded_at: u64,
    /// The time for which a running task may delay it, in ms, if the command says.
    deadline_ms: Option<u64>,
    /// Whether it does not wait for the task.
    force: bool,
    /// Whether the agent left unfinished work, if it reported that.
    forced: Option<bool>,
    /// The time from the agent's leaving to its return, by the hub's clock, in ms.
    gap_ms: Option<u64>,
    /// Whether it goes on: the agent gets no task meanwhile.
    open: bool,
    /// The time from which on it is overdue, in ms since the epoch.
    overdue_at: u64,
    /// The reason.
    reason: &'a str,
    /// The same time as the agent reports it, in ms.
    reported_gap_ms: Option<u64>,
    /// The phase.
    state: &'static str,
    /// The steps, oldest first.
    #[schema(value_type = Vec<RestartStep>)]
    steps: &'a [Arc<RestartStep>],
    /// The number of repeated steps that are left out.
    steps_left_out: u64,
}
