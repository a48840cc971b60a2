//! The scheduler's state as readers see it: pure. A view is a copy that shares everything with the scheduler, so it costs
//! nothing to make, and no reader holds the scheduler up.

use std::ops::Bound::{Excluded, Unbounded};

use serde::Serialize;
use serde_json::{Value, json};

use crate::hub::scheduler::Scheduler;
use crate::hub::scheduler::agents::{About, Agent, AgentTable, IDLE};
use crate::hub::scheduler::assignments::HolderTable;
use crate::hub::scheduler::crowds::Crowds;
use crate::hub::scheduler::inventory::AgentRecords;
use crate::hub::scheduler::policy::Policy;
use crate::hub::scheduler::restart_table::RestartTable;
use crate::hub::scheduler::rivals::Rivals;
use crate::hub::scheduler::rollouts::RolloutTable;
use crate::hub::scheduler::task::{Status, Task};
use crate::hub::scheduler::task_table::TaskTable;
use crate::protocol::{JsonFields, JsonText};

/// The scheduler's state at one moment.
#[derive(Debug, Clone, Default)]
pub struct View {
    pub(super) agents: AgentTable,
    connected_count: usize,
    pub(super) tasks: TaskTable,
    pub(super) holders: HolderTable,
    pub(super) restarts: RestartTable,
    rollouts: RolloutTable,
    pub(super) rivals: Rivals,
    pub(super) records: AgentRecords,
    pub(super) crowds: Crowds,
    pub(super) policy: Policy,
}

/// One agent, as `GET /api/agents` shows it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct AgentSummary<'a> {
    agent_id: &'a str,
    name: &'a str,
    status: &'a str,
    #[schema(value_type = Vec<Value>)]
    capabilities: JsonText,
    connected_at: Option<u64>,
    connected: bool,
    fsm_state: &'static str,
    current_task_id: Option<&'a str>,
    cordoned: bool,
    boot_id: Option<&'a str>,
    #[schema(value_type = Option<Object>)]
    about: Option<&'a About>,
    #[schema(value_type = Option<Object>)]
    resources: Option<&'a JsonFields>,
    #[schema(value_type = Option<Object>)]
    identity_conflict: Value,
    restart: Option<OpenRestart<'a>>,
}

/// The restart that an agent is on.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct OpenRestart<'a> {
    command_id: &'a str,
    state: &'static str,
    commanded_at: u64,
}

impl Scheduler {
    /// Returns the present state for reading.
    pub fn view(&self) -> View {
        View {
            agents: self.agents.all().clone(),
            connected_count: self.agents.connected_count(),
            tasks: self.tasks.all.clone(),
            holders: self.tasks.assignments.holders().clone(),
            restarts: self.restarts.all.clone(),
            rollouts: self.rollouts.all().clone(),
            rivals: self.rivals.clone(),
            records: self.inventory.all().clone(),
            crowds: self.agents.crowds().clone(),
            policy: self.policy,
        }
    }
}

impl View {
    /// Returns all tasks.
    pub fn tasks(&self) -> &TaskTable {
        &self.tasks
    }

    /// Returns all commanded restarts.
    pub fn restarts(&self) -> &RestartTable {
        &self.restarts
    }

    /// Returns all rollouts, each with its targets.
    pub fn rollouts(&self) -> &RolloutTable {
        &self.rollouts
    }

    /// Returns the number of connected agents.
    pub fn connected_count(&self) -> usize {
        self.connected_count
    }

    /// Returns the agents after this one, by id, that are connected or on a commanded restart. (An agent that is away for
    /// another reason is not listed, as at the legacy hub.)
    pub fn agents_after<'a>(&'a self, after: Option<&'a str>) -> impl Iterator<Item = &'a str> {
        let rest = self.agents.range::<_, str>((after.map_or(Unbounded, Excluded), Unbounded));
        let mut connected = rest.filter(|(_, agent)| agent.conn.is_some()).map(|(id, _)| &**id).peekable();
        // After a restart of the hub, only the id is known of an agent that is still away.
        let mut fenced = self.restarts.fenced_after(after).peekable();
        std::iter::from_fn(move || {
            let next = match (connected.peek(), fenced.peek()) {
                (Some(one), Some(other)) => *one.min(other),
                (Some(one), None) | (None, Some(one)) => one,
                (None, None) => return None,
            };
            connected.next_if_eq(&next);
            fenced.next_if_eq(&next);
            Some(next)
        })
    }

    /// Returns whether the agent is connected or on a commanded restart.
    pub fn is_listed(&self, agent_id: &str) -> bool {
        let connected = self.agents.get(agent_id).is_some_and(|agent| agent.conn.is_some());
        connected || self.restarts.open_for(agent_id).is_some()
    }

    /// Returns one agent, as `GET /api/agents` shows it.
    pub fn agent<'a>(&'a self, agent_id: &'a str, now_ms: u64) -> AgentSummary<'a> {
        let agent = self.agents.get(agent_id).map(|agent| &**agent);
        AgentSummary {
            agent_id,
            name: agent.map_or(agent_id, |agent| agent.name.as_str()),
            status: agent.map_or("away", |agent| agent.status.as_str()),
            capabilities: agent.map_or_else(|| JsonText::of(&[(); 0]), |agent| agent.capabilities.clone()),
            connected_at: agent.map(|agent| agent.connected_at),
            connected: agent.is_some_and(|agent| agent.conn.is_some()),
            fsm_state: self.fsm_state(agent_id),
            current_task_id: self.task_of(agent_id).map(|task| task.id.as_str()),
            cordoned: agent.is_some_and(Agent::takes_no_task),
            boot_id: agent.and_then(|agent| agent.run.boot_id.as_deref()),
            about: agent.map(|agent| &*agent.about),
            resources: agent.map(|agent| &*agent.resources),
            identity_conflict: self.identity_conflict(agent_id, now_ms),
            restart: self.open_restart(agent_id),
        }
    }

    /// Returns the restart that the agent is on.
    pub(super) fn open_restart(&self, agent_id: &str) -> Option<OpenRestart<'_>> {
        self.restarts.open_for(agent_id).map(|open| OpenRestart {
            command_id: &open.command_id,
            state: open.phase.name(),
            commanded_at: open.commanded_at,
        })
    }

    /// Returns the state of one agent, as the legacy hub shows it; `None` if it is neither connected nor expected back.
    pub fn agent_state(&self, agent_id: &str, now_ms: u64) -> Option<Value> {
        let agent = self.agents.get(agent_id);
        if !self.is_listed(agent_id) {
            return None;
        }
        let capabilities: Vec<Value> = agent
            .map(|agent| agent.capability_names.iter().map(|name| json!({"name": name})).collect())
            .unwrap_or_default();
        Some(json!({
            "agent_id": agent_id,
            "name": agent.map_or(agent_id, |agent| agent.name.as_str()),
            "fsm_state": self.fsm_state(agent_id),
            "current_task_id": self.task_of(agent_id).map(|task| task.id.as_str()),
            "capabilities": capabilities,
            // The legacy hub lists `unresponsive` here, for an agent that did not accept an assignment; this hub sets
            // no flags.
            "flags": [],
            "connected_at": agent.map(|agent| agent.connected_at),
            "last_state_change": agent.map(|agent| agent.state.1),
            "identity_conflict": self.identity_conflict(agent_id, now_ms),
        }))
    }

    pub(super) fn task_of(&self, agent_id: &str) -> Option<&Task> {
        self.tasks.get(&self.holders.get(agent_id)?.task_id)
    }

    /// Returns the latest conflict between two sidecars with this identity, or null if none is recent.
    pub(super) fn identity_conflict(&self, agent_id: &str, now_ms: u64) -> Value {
        let conflict = self.rivals.recent_conflict(agent_id, now_ms);
        conflict.map_or(Value::Null, |past| json!({"addresses": past.addresses, "last_at": past.at}))
    }

    /// Returns the agent's state in the terms of the legacy hub.
    pub(super) fn fsm_state(&self, agent_id: &str) -> &'static str {
        let agent = self.agents.get(agent_id).map(|agent| &**agent);
        let task = self.task_of(agent_id).map(|task| &task.status);
        fsm_state(agent, self.restarts.open_for(agent_id).is_some(), task)
    }
}

/// Returns an agent's state in the terms of the legacy hub, or `restarting`, or `draining` (idle, and to take no task).
pub(super) fn fsm_state(agent: Option<&Agent>, is_fenced: bool, task: Option<&Status>) -> &'static str {
    if is_fenced || agent.is_some_and(|agent| agent.leaving) {
        return "restarting";
    }
    match (agent.and_then(|agent| agent.conn), task) {
        (None, _) => "offline",
        (Some(_), Some(Status::Assigned { accepted: true, .. })) => "working",
        (Some(_), Some(Status::Assigned { accepted: false, .. })) => "assigned",
        (Some(_), Some(Status::Queued | Status::Completed { .. } | Status::DeadLetter | Status::Cancelled))
        | (Some(_), None) => match agent.is_some_and(Agent::takes_no_task) {
            true => "draining",
            false => IDLE,
        },
    }
}
