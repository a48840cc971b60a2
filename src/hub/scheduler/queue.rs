//! The queued tasks, grouped by what they require of an agent: an agent's first task is found without looking at those
//! that it cannot do. Only the order is kept here; the tasks themselves belong to `tasks`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::hub::scheduler::task::{Priority, Submission, Task};

/// The position of a task in the queue: its lane, then the order of submission.
pub type Turn = (Priority, u64);

/// What a task requires of the agent that takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requirement {
    /// The agent is this one. It can do the task whatever its capabilities, as at the legacy hub.
    Agent(String),
    /// The agent has all of these capabilities.
    Capabilities(BTreeSet<String>),
}

impl Requirement {
    /// Returns the requirement of a task.
    pub fn of(submission: &Submission) -> Self {
        match submission.assign_to() {
            Some(agent_id) => Self::Agent(agent_id.to_owned()),
            None => Self::Capabilities(submission.needed_capabilities.iter().cloned().collect()),
        }
    }
}

/// All queued tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskQueue {
    by_agent: HashMap<String, BTreeMap<Turn, String>>,
    by_capabilities: BTreeMap<BTreeSet<String>, BTreeMap<Turn, String>>,
}

impl TaskQueue {
    /// Adds the task.
    pub fn insert(&mut self, task: &Task) {
        let waiting = match Requirement::of(&task.submission) {
            Requirement::Agent(agent_id) => self.by_agent.entry(agent_id).or_default(),
            Requirement::Capabilities(needed) => self.by_capabilities.entry(needed).or_default(),
        };
        waiting.insert(turn(task), task.id.clone());
    }

    /// Removes the task, if it is queued.
    pub fn remove(&mut self, task: &Task) {
        match Requirement::of(&task.submission) {
            Requirement::Agent(agent_id) => {
                if let Some(waiting) = self.by_agent.get_mut(&agent_id) {
                    waiting.remove(&turn(task));
                    if waiting.is_empty() {
                        self.by_agent.remove(&agent_id);
                    }
                }
            }
            Requirement::Capabilities(needed) => {
                if let Some(waiting) = self.by_capabilities.get_mut(&needed) {
                    waiting.remove(&turn(task));
                    if waiting.is_empty() {
                        self.by_capabilities.remove(&needed);
                    }
                }
            }
        }
    }

    /// Returns the tasks that only this agent may do, in order.
    pub fn addressed_to(&self, agent_id: &str) -> impl Iterator<Item = &str> {
        self.by_agent.get(agent_id).into_iter().flat_map(BTreeMap::values).map(String::as_str)
    }

    /// Returns the first task that this agent can do.
    pub fn first_for(&self, agent_id: &str, capabilities: &BTreeSet<String>) -> Option<&str> {
        let by_capabilities = self
            .by_capabilities
            .iter()
            .filter(|(needed, _)| needed.is_subset(capabilities))
            .map(|(_, waiting)| waiting);
        let firsts = self.by_agent.get(agent_id).into_iter().chain(by_capabilities);
        let first = firsts.filter_map(|waiting| waiting.first_key_value()).min_by_key(|(turn, _)| **turn);
        first.map(|(_, task_id)| task_id.as_str())
    }
}

/// Returns the task's position in the queue.
pub fn turn(task: &Task) -> Turn {
    (task.submission.priority, task.seq)
}
