//! The agents as the API shows them: pure, and it changes nothing.

use serde_json::{Value, json};

use crate::hub::scheduler::Scheduler;
use crate::hub::scheduler::agents::Agent;
use crate::hub::scheduler::task::Status;

impl Scheduler {
    /// Returns all agents that are connected or on a commanded restart, as the API shows them. (An agent that is away for
    /// another reason is not listed, as at the legacy hub.)
    pub fn agents_json(&self, now_ms: u64) -> Vec<Value> {
        self.listed_agents().map(|id| self.agent_json(id, now_ms)).collect()
    }

    fn listed_agents(&self) -> impl Iterator<Item = &str> {
        // After a restart of the hub, only the id is known of an agent that is still away.
        let unknown = self.restarts.fenced().filter(|id| self.agents.get(id).is_none());
        let listed = |(id, agent): &(&str, &Agent)| agent.conn.is_some() || self.restarts.open_for(id).is_some();
        self.agents.list().into_iter().filter(listed).map(|(id, _)| id).chain(unknown)
    }

    /// Returns the states of all agents that are connected or expected back, as the legacy hub shows them.
    pub fn states_json(&self, now_ms: u64) -> Vec<Value> {
        self.listed_agents().filter_map(|id| self.state_json(id, now_ms)).collect()
    }

    /// Returns the state of one agent; `None` if it is neither connected nor expected back.
    pub fn state_json(&self, agent_id: &str, now_ms: u64) -> Option<Value> {
        let agent = self.agents.get(agent_id);
        if agent.is_none_or(|agent| agent.conn.is_none()) && self.restarts.open_for(agent_id).is_none() {
            return None;
        }
        let capabilities: Vec<Value> = agent
            .map(|agent| agent.capability_names.iter().map(|name| json!({"name": name})).collect())
            .unwrap_or_default();
        Some(json!({
            "agent_id": agent_id,
            "name": agent.map_or(agent_id, |agent| agent.name.as_str()),
            "fsm_state": self.fsm_state(agent_id),
            "current_task_id": self.tasks.task_of(agent_id).map(|task| task.id.as_str()),
            "capabilities": capabilities,
            // The legacy hub lists `unresponsive` here, for an agent that did not accept an assignment; this hub sets
            // no flags.
            "flags": [],
            "connected_at": agent.map(|agent| agent.connected_at),
            "identity_conflict": self.identity_conflict(agent_id, now_ms),
        }))
    }

    /// Returns the latest conflict between two sidecars with this identity, or null if none is recent.
    fn identity_conflict(&self, agent_id: &str, now_ms: u64) -> Value {
        let conflict = self.rivals.recent_conflict(agent_id, now_ms);
        conflict.map_or(Value::Null, |past| json!({"addresses": past.addresses, "last_at": past.at}))
    }

    fn agent_json(&self, agent_id: &str, now_ms: u64) -> Value {
        let agent = self.agents.get(agent_id);
        let task = self.tasks.task_of(agent_id);
        json!({
            "agent_id": agent_id,
            "name": agent.map_or(agent_id, |agent| agent.name.as_str()),
            "status": agent.map_or("away", |agent| agent.status.as_str()),
            "capabilities": agent.map_or(&[][..], |agent| agent.capabilities.as_slice()),
            "connected_at": agent.map(|agent| agent.connected_at),
            "connected": agent.is_some_and(|agent| agent.conn.is_some()),
            "fsm_state": self.fsm_state(agent_id),
            "current_task_id": task.map(|task| task.id.as_str()),
            "cordoned": agent.is_some_and(|agent| agent.cordoned),
            "boot_id": agent.and_then(|agent| agent.run.boot_id.as_deref()),
            "about": agent.map(|agent| &agent.about),
            "resources": agent.map(|agent| &agent.resources),
            "identity_conflict": self.identity_conflict(agent_id, now_ms),
            "restart": self.restarts.open_for(agent_id).map(|open| json!({
                "command_id": open.command_id, "state": open.phase.name(), "commanded_at": open.commanded_at,
            })),
        })
    }

    /// Returns the agent's state in the terms of the legacy hub, or `restarting`, or `draining` (idle, and cordoned).
    fn fsm_state(&self, agent_id: &str) -> &'static str {
        let agent = self.agents.get(agent_id);
        if self.restarts.open_for(agent_id).is_some() || agent.is_some_and(|agent| agent.leaving) {
            return "restarting";
        }
        match (agent.and_then(|agent| agent.conn), self.tasks.task_of(agent_id).map(|task| &task.status)) {
            (None, _) => "offline",
            (Some(_), Some(Status::Assigned { accepted: true, .. })) => "working",
            (Some(_), Some(Status::Assigned { accepted: false, .. })) => "assigned",
            (Some(_), Some(Status::Queued | Status::Completed { .. } | Status::DeadLetter | Status::Cancelled))
            | (Some(_), None) => match agent.is_some_and(|agent| agent.cordoned) {
                true => "draining",
                false => "idle",
            },
        }
    }
}
