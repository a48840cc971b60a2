//! The last task that each agent lost, to tell a broken connection from a process that ended. Volatile and pure: the
//! losses are counted in `tasks`.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use crate::protocol::Identify;

/// The largest difference between two reports of when a process began, in ms: pm2 is asked, and the answer takes time.
const SAME_START_MS: u64 = 2_000;

/// One run of an agent's process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentRun {
    boot_id: Option<String>,
    /// The start time according to pm2, for a process that sends no `boot_id`, in ms since the epoch.
    began_at: Option<u64>,
}

impl AgentRun {
    /// Returns the run that sent an identify.
    pub fn of(identify: &Identify, now_ms: u64) -> Self {
        let uptime = identify.pm2_info.as_ref().and_then(|info| info.uptime_ms);
        let began_at = uptime.filter(|_| identify.boot_id.is_none()).map(|uptime| now_ms.saturating_sub(uptime));
        Self { boot_id: identify.boot_id.clone(), began_at }
    }

    /// Returns whether both are the same run; `None` if that cannot be told.
    fn same_as(&self, other: &Self) -> Option<bool> {
        match (&self.boot_id, &other.boot_id) {
            (Some(one), Some(other)) => Some(one == other),
            (Some(_), None) | (None, Some(_)) => Some(false),
            (None, None) => {
                let both = self.began_at.zip(other.began_at);
                both.map(|(one, other)| one.abs_diff(other) <= SAME_START_MS)
            }
        }
    }
}

/// The last loss of each agent that is away, or that is back without proof of whether it is the same process.
#[derive(Debug, Clone, Default)]
pub struct LostAssignments {
    by_agent: BTreeMap<String, (String, AgentRun)>,
    /// The task and generation that each agent had accepted when it disconnected: a legacy sidecar that connects again
    /// may still be working on it.
    accepted: BTreeMap<String, (String, u64)>,
}

impl LostAssignments {
    /// Records that the agent lost the task.
    pub fn record(&mut self, agent_id: &str, task_id: &str, run: AgentRun) {
        self.by_agent.insert(agent_id.to_owned(), (task_id.to_owned(), run));
    }

    /// Returns the task that a returning agent had lost, if it is the same run. If that cannot be told, the loss is
    /// kept until the agent's frames about the task decide it.
    pub fn take_if_same_run(&mut self, agent_id: &str, run: &AgentRun) -> Option<String> {
        let (_, before) = self.by_agent.get(agent_id)?;
        let same = before.same_as(run)?;
        let (task_id, _) = self.by_agent.remove(agent_id)?;
        same.then_some(task_id)
    }

    /// Removes the agent's loss of this task and returns whether there was one: the agent reports the task as only the
    /// process that accepted it can.
    pub fn take_if_task(&mut self, agent_id: &str, task_id: &str) -> bool {
        let lost = self.by_agent.get(agent_id).is_some_and(|(lost, _)| lost == task_id);
        lost && self.by_agent.remove(agent_id).is_some()
    }

    /// Forgets everything about the agent's previous process.
    pub fn forget_process(&mut self, agent_id: &str) {
        self.by_agent.remove(agent_id);
        self.clear_accepted(agent_id);
    }

    /// Forgets what the agent had accepted: it has nothing in hand from before it disconnected, or reports it by
    /// itself.
    pub fn clear_accepted(&mut self, agent_id: &str) {
        self.accepted.remove(agent_id);
    }

    /// Records what the agent had accepted when it disconnected.
    pub fn set_accepted(&mut self, agent_id: &str, task_id: &str, generation: u64) {
        self.accepted.insert(agent_id.to_owned(), (task_id.to_owned(), generation));
    }

    /// Returns the generation of the task that the agent had accepted when it last disconnected.
    pub fn accepted_generation(&self, agent_id: &str, task_id: &str) -> Option<u64> {
        self.accepted.get(agent_id).filter(|(left, _)| left == task_id).map(|(_, generation)| *generation)
    }

    /// Returns whether the agent may have a task in hand from before it disconnected.
    pub fn has_accepted(&self, agent_id: &str) -> bool {
        self.accepted.contains_key(agent_id)
    }

    /// Feeds the state that decides the future of agents with a `boot_id` to `hasher`.
    pub(crate) fn state_hash(&self, hasher: &mut impl Hasher) {
        for (agent_id, (task_id, run)) in &self.by_agent {
            (agent_id, task_id, &run.boot_id, run.began_at).hash(hasher);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::hash::DefaultHasher;

    use super::*;

    fn run(boot_id: &str) -> AgentRun {
        AgentRun { boot_id: Some(boot_id.into()), began_at: None }
    }

    #[test]
    fn only_the_task_that_was_lost_is_in_hand_still() {
        let mut lost = LostAssignments::default();
        lost.record("a", "t", run("b"));
        assert!(!lost.take_if_task("a", "u"));
        assert!(lost.take_if_task("a", "t"));
        assert!(!lost.take_if_task("a", "t"), "once");
    }

    #[test]
    fn whose_loss_of_what_it_was_decides_the_future() {
        let state_hash = |agent_id: &str, task_id: &str, boot_id: &str| {
            let mut lost = LostAssignments::default();
            lost.record(agent_id, task_id, run(boot_id));
            let mut hasher = DefaultHasher::new();
            lost.state_hash(&mut hasher);
            hasher.finish()
        };
        let one = state_hash("a", "t", "b");
        assert_eq!(one, state_hash("a", "t", "b"));
        for other in [state_hash("x", "t", "b"), state_hash("a", "x", "b"), state_hash("a", "t", "x")] {
            assert_ne!(one, other);
        }
    }
}
