//! Which agent broke off which task, to tell a link that broke from a process that ended. Volatile and pure: it counts
//! nothing; the queue does.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use crate::protocol::Identify;

/// Two accounts of when a process began may differ so much, ms: pm2 is asked, and the answer travels.
const SAME_START_MS: u64 = 2_000;

/// One life of an agent's process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentRun {
    boot_id: Option<String>,
    /// By pm2's account, where the process does not name its runs. ms since the epoch.
    began_at: Option<u64>,
}

impl AgentRun {
    /// The life that an identify speaks for.
    pub fn of(identify: &Identify, now_ms: u64) -> Self {
        let uptime = identify.pm2_info.as_ref().and_then(|info| info.uptime_ms);
        let began_at = uptime.filter(|_| identify.boot_id.is_none()).map(|uptime| now_ms.saturating_sub(uptime));
        Self { boot_id: identify.boot_id.clone(), began_at }
    }

    /// Whether both are the same, where that can be told.
    fn is(&self, other: &Self) -> Option<bool> {
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

/// The last loss of each agent that is away, or here again without a word on whether it is the same process.
#[derive(Debug, Clone, Default)]
pub struct LostAssignments {
    by_agent: BTreeMap<String, (String, AgentRun)>,
    /// The hand-out that the agent had accepted when it went: where an original sidecar comes back, it may be at work on it.
    left_with: BTreeMap<String, (String, u64)>,
}

impl LostAssignments {
    /// The agent broke the task off.
    pub fn note(&mut self, agent_id: &str, task_id: &str, life: AgentRun) {
        self.by_agent.insert(agent_id.to_owned(), (task_id.to_owned(), life));
    }

    /// The agent is here again: the task that it broke off, if it lives the same life. Where nothing tells, what it says
    /// of the task will.
    pub fn returned(&mut self, agent_id: &str, life: &AgentRun) -> Option<String> {
        let (_, before) = self.by_agent.get(agent_id)?;
        let same = before.is(life)?;
        let (task_id, _) = self.by_agent.remove(agent_id)?;
        same.then_some(task_id)
    }

    /// The agent has the task in hand, as only the process has that took it. Whether it had lost it.
    pub fn has_it_still(&mut self, agent_id: &str, task_id: &str) -> bool {
        let lost = self.by_agent.get(agent_id).is_some_and(|(lost, _)| lost == task_id);
        lost && self.by_agent.remove(agent_id).is_some()
    }

    /// The agent is another process than before.
    pub fn began_anew(&mut self, agent_id: &str) {
        self.by_agent.remove(agent_id);
        self.left_with_nothing(agent_id);
    }

    /// The agent has nothing in hand from before it went, or says so in its own way.
    pub fn left_with_nothing(&mut self, agent_id: &str) {
        self.left_with.remove(agent_id);
    }

    /// The agent went away, and had accepted this.
    pub fn leaves_with(&mut self, agent_id: &str, task_id: &str, generation: u64) {
        self.left_with.insert(agent_id.to_owned(), (task_id.to_owned(), generation));
    }

    /// The generation of the task under which the agent had accepted it when it last went.
    pub fn left_with(&self, agent_id: &str, task_id: &str) -> Option<u64> {
        self.left_with.get(agent_id).filter(|(left, _)| left == task_id).map(|(_, generation)| *generation)
    }

    /// Whether the agent may have something in hand from before it went.
    pub fn may_have(&self, agent_id: &str) -> bool {
        self.left_with.contains_key(agent_id)
    }

    /// Feeds what decides the future of agents that name their runs to `hasher`.
    pub(crate) fn state_hash(&self, hasher: &mut impl Hasher) {
        for (agent_id, (task_id, life)) in &self.by_agent {
            (agent_id, task_id, &life.boot_id, life.began_at).hash(hasher);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::hash::DefaultHasher;

    use super::*;

    fn life(boot_id: &str) -> AgentRun {
        AgentRun { boot_id: Some(boot_id.into()), began_at: None }
    }

    #[test]
    fn only_the_task_that_was_lost_is_in_hand_still() {
        let mut lost = LostAssignments::default();
        lost.note("a", "t", life("b"));
        assert!(!lost.has_it_still("a", "u"));
        assert!(lost.has_it_still("a", "t"));
        assert!(!lost.has_it_still("a", "t"), "once");
    }

    #[test]
    fn whose_loss_of_what_it_was_decides_the_future() {
        let state_hash = |agent_id: &str, task_id: &str, boot_id: &str| {
            let mut lost = LostAssignments::default();
            lost.note(agent_id, task_id, life(boot_id));
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
