//! What a rollout looks at: an agent's presence, run and version, and its restarts. It changes nothing.

use crate::hub::scheduler::Scheduler;
use crate::hub::scheduler::inventory::status::AgentStatus;
use crate::hub::scheduler::restart::{Restart, RunIdentity};

/// The facts of one agent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    /// Whether it is connected.
    pub(super) connected: bool,
    /// Until when an agent that is away may only be so because the hub has just started, in ms since the epoch.
    pub(super) returns_until: u64,
    /// Its run that identified last.
    pub(super) run: &'a RunIdentity,
    /// The version that it names.
    pub(super) version: Option<&'a str>,
    /// Whether it is drained, from the hub or on its machine.
    pub(super) cordoned: bool,
    /// Whether it has an open restart command, whoever gave it.
    pub(super) on_restart: bool,
    /// The command that was asked for.
    pub(super) command: Option<&'a Restart>,
}

/// All agents, at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fleet<'a> {
    scheduler: &'a Scheduler,
    /// The moment, in ms since the epoch.
    pub(super) now_ms: u64,
}

impl<'a> Fleet<'a> {
    pub(super) fn new(scheduler: &'a Scheduler, now_ms: u64) -> Self {
        Self { scheduler, now_ms }
    }

    /// Returns the facts of an agent and of this command; `None` if the agent is not known.
    pub(super) fn facts(self, agent_id: &str, command_id: Option<&str>) -> Option<Facts<'a>> {
        let Scheduler { inventory, restarts, agents_return_until, .. } = self.scheduler;
        let record = inventory.get(agent_id)?;
        Some(Facts {
            connected: self.scheduler.is_connected(agent_id),
            returns_until: *agents_return_until,
            run: &record.run,
            version: record.about.version.as_deref(),
            cordoned: record.takes_no_task(),
            on_restart: restarts.open_for(agent_id).is_some(),
            command: command_id.and_then(|command_id| restarts.get(command_id)),
        })
    }

    /// Returns whether nothing is wrong with the agent.
    pub(super) fn is_healthy(self, agent_id: &str) -> bool {
        let standing = self.scheduler.view().standing(agent_id, self.now_ms);
        standing.is_some_and(|standing| standing.status == AgentStatus::Healthy)
    }
}
