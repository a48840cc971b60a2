//! The last task that each agent lost, to forgive the loss if it turns out that the run had not ended by itself.
//! Volatile and pure: the losses are counted in `tasks`.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

/// The last loss of each agent: the task, and the `boot_id` of the run that lost it.
#[derive(Debug, Clone, Default)]
pub struct LostAssignments(BTreeMap<String, (String, String)>);

impl LostAssignments {
    /// Records that this run of the agent lost the task.
    pub fn record(&mut self, agent_id: &str, task_id: &str, boot_id: &str) {
        self.0.insert(agent_id.to_owned(), (task_id.to_owned(), boot_id.to_owned()));
    }

    /// Forgets the loss of a returning agent, and returns the task if the loss is forgiven: it is the same run, or its
    /// run before was ended on purpose (`planned`).
    pub fn take_if_forgiven(&mut self, agent_id: &str, boot_id: &str, planned: bool) -> Option<String> {
        let (task_id, lost_by) = self.0.remove(agent_id)?;
        (planned || lost_by == boot_id).then_some(task_id)
    }

    /// Forgets the loss of this agent, if it has one.
    pub fn forget(&mut self, agent_id: &str) {
        self.0.remove(agent_id);
    }

    /// Feeds the state that decides the future to `hasher`.
    pub(crate) fn state_hash(&self, hasher: &mut impl Hasher) {
        self.0.hash(hasher);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost() -> LostAssignments {
        let mut lost = LostAssignments::default();
        lost.record("a", "t", "b1");
        lost
    }

    #[test]
    fn the_same_run_is_forgiven_once() {
        assert_eq!(lost().take_if_forgiven("a", "b2", false), None, "another run");
        let mut lost = lost();
        assert_eq!(lost.take_if_forgiven("x", "b1", false), None, "another agent");
        assert_eq!(lost.take_if_forgiven("a", "b1", false).as_deref(), Some("t"));
        assert_eq!(lost.take_if_forgiven("a", "b1", false), None);
    }

    #[test]
    fn a_run_that_was_ended_on_purpose_is_forgiven() {
        assert_eq!(lost().take_if_forgiven("a", "b2", true).as_deref(), Some("t"));
    }
}
