//! The queued tasks, grouped by what they require of an agent: an agent's first task is found without looking at those
//! that it cannot do. Only the order is kept here; the tasks themselves belong to `tasks`.

use std::collections::{BTreeMap, BTreeSet};

use crate::hub::scheduler::task::{Priority, Submission, Task};

/// The position of a task in the queue: its lane, then the order of submission.
pub type Turn = (Priority, u64);

/// What a task requires of the agent that takes it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Requirement {
    /// The agent is this one.
    Agent(String),
    /// The agent has all of these capabilities.
    Capabilities(BTreeSet<String>),
}

impl Requirement {
    fn of(submission: &Submission) -> Self {
        match submission.assign_to() {
            Some(agent_id) => Self::Agent(agent_id.to_owned()),
            None => Self::Capabilities(submission.needed_capabilities.iter().cloned().collect()),
        }
    }

    /// An agent that is named by the task can do it, whatever its capabilities, as at the legacy hub.
    fn is_met_by(&self, agent_id: &str, capabilities: &BTreeSet<String>) -> bool {
        match self {
            Self::Agent(wanted) => wanted == agent_id,
            Self::Capabilities(wanted) => wanted.is_subset(capabilities),
        }
    }
}

/// All queued tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskQueue {
    by_requirement: BTreeMap<Requirement, BTreeMap<Turn, String>>,
}

impl TaskQueue {
    /// Adds the task.
    pub fn insert(&mut self, task: &Task) {
        self.by_requirement.entry(Requirement::of(&task.submission)).or_default().insert(turn(task), task.id.clone());
    }

    /// Removes the task, if it is queued.
    pub fn remove(&mut self, task: &Task) {
        let requirement = Requirement::of(&task.submission);
        if let Some(waiting) = self.by_requirement.get_mut(&requirement) {
            waiting.remove(&turn(task));
            if waiting.is_empty() {
                self.by_requirement.remove(&requirement);
            }
        }
    }

    /// Returns the first task that this agent can do.
    pub fn first_for(&self, agent_id: &str, capabilities: &BTreeSet<String>) -> Option<&str> {
        let firsts = self
            .by_requirement
            .iter()
            .filter(|(requirement, _)| requirement.is_met_by(agent_id, capabilities))
            .filter_map(|(_, waiting)| waiting.iter().next());
        firsts.min_by_key(|(turn, _)| **turn).map(|(_, task_id)| task_id.as_str())
    }
}

/// Returns whether the agent can do the task.
pub fn can_do(agent_id: &str, capabilities: &BTreeSet<String>, submission: &Submission) -> bool {
    Requirement::of(submission).is_met_by(agent_id, capabilities)
}

/// Returns the task's position in the queue.
pub fn turn(task: &Task) -> Turn {
    (task.submission.priority, task.seq)
}
