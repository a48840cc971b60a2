//! The queue of idle agents, longest idle first. It keeps only the order; the scheduler decides which agents are idle.

use std::collections::{BTreeSet, HashMap};

/// Agents that could take a task and found none that they can do.
#[derive(Debug, Clone, Default)]
pub struct IdleAgents {
    order: BTreeSet<(u64, String)>,
    place: HashMap<String, u64>,
    next: u64,
}

impl IdleAgents {
    /// Adds the agent at the end; an agent that is present keeps its position.
    pub fn join(&mut self, agent_id: &str) {
        if self.place.contains_key(agent_id) {
            return;
        }
        self.place.insert(agent_id.to_owned(), self.next);
        self.order.insert((self.next, agent_id.to_owned()));
        self.next += 1;
    }

    /// Removes the agent, if it is present.
    pub fn leave(&mut self, agent_id: &str) {
        if let Some(place) = self.place.remove(agent_id) {
            self.order.remove(&(place, agent_id.to_owned()));
        }
    }

    /// Returns the agents in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.order.iter().map(|(_, agent_id)| agent_id.as_str())
    }
}
