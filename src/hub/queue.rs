//! The tasks that wait, by what they want of whoever takes them: an agent finds its first one without a look at those it
//! cannot do. It keeps only the order; the tasks are the queue's owner's.

use std::collections::{BTreeMap, BTreeSet};

use super::task::{Priority, Submission, Task};

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
}

/// All that wait.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Queue {
    by_wants: BTreeMap<Wants, BTreeMap<Turn, String>>,
}

impl Queue {
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
        let fits = |wants: &Wants| match wants {
            Wants::Agent(wanted) => wanted == agent_id,
            Wants::Capabilities(wanted) => wanted.is_subset(capabilities),
        };
        let firsts =
            self.by_wants.iter().filter(|(wants, _)| fits(wants)).filter_map(|(_, waiting)| waiting.iter().next());
        firsts.min_by_key(|(turn, _)| **turn).map(|(_, task_id)| task_id.as_str())
    }
}

/// Whether the agent can do the task. Who is named for it can, whatever it says of itself, as at the original hub.
pub fn can_do(agent_id: &str, capabilities: &BTreeSet<String>, submission: &Submission) -> bool {
    match submission.assign_to() {
        Some(wanted) => wanted == agent_id,
        None => submission.needed_capabilities.iter().all(|needed| capabilities.contains(needed)),
    }
}

/// The task's turn.
pub fn turn(task: &Task) -> Turn {
    (task.submission.priority, task.seq)
}
