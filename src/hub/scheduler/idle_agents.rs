//! The line of idle agents, longest idle first. It only keeps the order; who belongs in it is the desk's business.

use std::collections::{BTreeSet, HashMap};

/// Agents that could take a task and found none they can do.
#[derive(Debug, Clone, Default)]
pub struct IdleAgents {
    order: BTreeSet<(u64, String)>,
    place: HashMap<String, u64>,
    next: u64,
}

impl IdleAgents {
    /// Joins at the end, or keeps its place.
    pub fn join(&mut self, agent_id: &str) {
        if self.place.contains_key(agent_id) {
            return;
        }
        self.place.insert(agent_id.to_owned(), self.next);
        self.order.insert((self.next, agent_id.to_owned()));
        self.next += 1;
    }

    /// Leaves, if it was there.
    pub fn leave(&mut self, agent_id: &str) {
        if let Some(place) = self.place.remove(agent_id) {
            self.order.remove(&(place, agent_id.to_owned()));
        }
    }

    /// The agents in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.order.iter().map(|(_, agent_id)| agent_id.as_str())
    }
}
