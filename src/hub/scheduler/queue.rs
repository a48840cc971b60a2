//! The tasks that wait, by what they want of whoever takes them: an agent finds its first one without a look at those it
//! cannot do. It keeps only the order; the tasks are the queue's owner's.

use std::collections::{BTreeMap, BTreeSet};

use crate::hub::scheduler::task::{Priority, Submission, Task};

/// Where a task waits: its lane, then the order of submission.
pub type Turn = (Priority, u64);

/// What a task wants of whoever takes it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Wants {
    /// That it is this agent.
    Agent(String),
    /// That it has all of these capabilities.
    Capabilities(BTreeSet<String>),
}

impl Wants {
    fn of(submission: &Submission) -> Self {
        match submission.assign_to() {
            Some(agent_id) => Self::Agent(agent_id.to_owned()),
            None => Self::Capabilities(submission.needed_capabilities.iter().cloned().collect()),
        }
    }

    /// Who is named for it can do it, whatever it says of itself, as at the original hub.
    fn fits(&self, agent_id: &str, capabilities: &BTreeSet<String>) -> bool {
        match self {
            Self::Agent(wanted) => wanted == agent_id,
            Self::Capabilities(wanted) => wanted.is_subset(capabilities),
        }
    }
}

/// All that wait.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskQueue {
    by_wants: BTreeMap<Wants, BTreeMap<Turn, String>>,
}

impl TaskQueue {
    /// The task waits.
    pub fn insert(&mut self, task: &Task) {
        self.by_wants.entry(Wants::of(&task.submission)).or_default().insert(turn(task), task.id.clone());
    }

    /// The task waits no more, if it did.
    pub fn remove(&mut self, task: &Task) {
        let wants = Wants::of(&task.submission);
        if let Some(waiting) = self.by_wants.get_mut(&wants) {
            waiting.remove(&turn(task));
            if waiting.is_empty() {
                self.by_wants.remove(&wants);
            }
        }
    }

    /// The first task that this agent can do.
    pub fn first_for(&self, agent_id: &str, capabilities: &BTreeSet<String>) -> Option<&str> {
        let firsts = self
            .by_wants
            .iter()
            .filter(|(wants, _)| wants.fits(agent_id, capabilities))
            .filter_map(|(_, waiting)| waiting.iter().next());
        firsts.min_by_key(|(turn, _)| **turn).map(|(_, task_id)| task_id.as_str())
    }
}

/// Whether the agent can do the task.
pub fn can_do(agent_id: &str, capabilities: &BTreeSet<String>, submission: &Submission) -> bool {
    Wants::of(submission).fits(agent_id, capabilities)
}

/// The task's turn.
pub fn turn(task: &Task) -> Turn {
    (task.submission.priority, task.seq)
}
