//! What each agent holds, and until when the hub waits for it. Volatile and pure: it knows nothing of the tasks beyond
//! their ids, and after a restart of the hub every holder starts anew.

use std::collections::HashMap;

use serde_json::Value;

use crate::hub::scheduler::policy::Policy;
use crate::hub::scheduler::task::Task;

/// Why a task is taken back from a holder that showed no life for too long.
pub const STALE: &str = "stale";

/// What is due at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// When the holder showed no life for too long, or the task should be done by now: take the task back from it.
    TakeBack {
        /// The holder.
        agent_id: String,
        /// `not_accepted`, [`STALE`] or `overdue`.
        why: &'static str,
    },
    /// When a returned holder did not mention a task it never accepted: say the same assignment again.
    SayAgain {
        /// The holder.
        agent_id: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ActiveAssignment {
    pub(crate) task_id: String,
    /// When the assignment is taken back unless the agent confirms it; none once it has.
    pub(crate) confirm_by: Option<u64>,
    /// When the assignment is said again unless the agent mentions it.
    pub(crate) say_again_at: Option<u64>,
    /// The last sign of life.
    pub(crate) alive_at: u64,
    /// The task's `complete_by`, if it was handed out before that: once late, a task is not taken back for it again.
    pub(crate) overdue_at: Option<u64>,
    /// The holder is away on a restart that we commanded: its end is the restart ledger's business.
    pub(crate) away: bool,
    /// The holder, an original sidecar, took it over from the process before it: nothing wakes or times that work any more.
    pub(crate) carried: bool,
    /// The older generation that the holder, an original sidecar, goes on under: it cannot be told of another.
    pub(crate) also: Option<u64>,
}

/// All holders. Times are ms since the epoch.
#[derive(Debug, Clone, Default)]
pub struct Assignments {
    policy: Policy,
    held: HashMap<String, ActiveAssignment>,
}

impl Assignments {
    /// Nobody holds anything.
    pub fn new(policy: Policy) -> Self {
        Self { policy, held: HashMap::new() }
    }

    /// The task that the agent holds.
    pub fn task_of(&self, agent_id: &str) -> Option<&str> {
        self.held.get(agent_id).map(|held| held.task_id.as_str())
    }

    /// Everything that is known of what the agent holds.
    pub(crate) fn get(&self, agent_id: &str) -> Option<&ActiveAssignment> {
        self.held.get(agent_id)
    }

    /// Hands it to the agent, which has to confirm it.
    pub fn hand(&mut self, agent_id: &str, task: &Task, now_ms: u64) {
        let complete_by = task.submission.extra.get("complete_by").and_then(Value::as_u64);
        let held = ActiveAssignment {
            task_id: task.id.clone(),
            confirm_by: Some(now_ms + self.policy.accept_timeout_ms),
            say_again_at: None,
            alive_at: now_ms,
            overdue_at: complete_by.filter(|at| *at > now_ms),
            away: false,
            carried: false,
            also: None,
        };
        self.held.insert(agent_id.to_owned(), held);
    }

    /// The agent holds nothing any more.
    pub fn release(&mut self, agent_id: &str) {
        self.held.remove(agent_id);
    }

    /// A sign of life, which confirms too. `false` where the agent does not hold this task.
    pub fn alive(&mut self, agent_id: &str, task_id: &str, now_ms: u64) -> bool {
        let Some(held) = self.held.get_mut(agent_id).filter(|held| held.task_id == task_id) else { return false };
        held.confirm_by = None;
        held.say_again_at = None;
        held.alive_at = now_ms;
        held.away = false;
        true
    }

    /// The agent left on a restart that we commanded.
    pub fn left(&mut self, agent_id: &str) {
        if let Some(held) = self.held.get_mut(agent_id) {
            held.away = true;
        }
    }

    /// The agent must answer for its task anew, as after a hand-out.
    pub fn ask(&mut self, agent_id: &str, now_ms: u64) {
        if let Some(held) = self.held.get_mut(agent_id) {
            held.confirm_by = Some(now_ms + self.policy.accept_timeout_ms);
            held.alive_at = now_ms;
        }
    }

    /// The agent took its task over from the process before it.
    pub fn carried_over(&mut self, agent_id: &str) {
        if let Some(held) = self.held.get_mut(agent_id) {
            held.carried = true;
        }
    }

    /// A verdict under this older generation counts too.
    pub fn goes_on_under(&mut self, agent_id: &str, generation: u64) {
        if let Some(held) = self.held.get_mut(agent_id) {
            held.also = Some(generation);
        }
    }

    /// The agent is connected again: it has to confirm anew, and may never have heard what it had not accepted.
    pub fn returned(&mut self, agent_id: &str, say_again: bool, now_ms: u64) {
        if let Some(held) = self.held.get_mut(agent_id) {
            held.confirm_by = Some(now_ms + self.policy.accept_timeout_ms);
            held.say_again_at = say_again.then_some(now_ms + self.policy.reconcile_ms);
            held.alive_at = now_ms;
            held.away = false;
        }
    }

    /// What is due by now. A saying is due once; a taking back until it is done.
    pub fn due(&mut self, now_ms: u64) -> Vec<Due> {
        let stale_ms = self.policy.stale_timeout_ms;
        let is_over = |at: u64| at <= now_ms;
        let mut due = Vec::new();
        for (agent_id, held) in self.held.iter_mut().filter(|(_, held)| !held.away) {
            let why = if held.confirm_by.is_some_and(is_over) {
                "not_accepted"
            } else if is_over(held.alive_at + stale_ms) {
                STALE
            } else if held.overdue_at.is_some_and(is_over) {
                "overdue"
            } else {
                if held.say_again_at.take_if(|at| is_over(*at)).is_some() {
                    due.push(Due::SayAgain { agent_id: agent_id.clone() });
                }
                continue;
            };
            due.push(Due::TakeBack { agent_id: agent_id.clone(), why });
        }
        due
    }

    /// When `due` will next have something to say.
    pub fn deadline(&self) -> Option<u64> {
        let stale_ms = self.policy.stale_timeout_ms;
        let waits = |held: &ActiveAssignment| {
            let stale = Some(held.alive_at + stale_ms);
            [held.confirm_by, held.say_again_at, held.overdue_at, stale].into_iter().flatten().min()
        };
        self.held.values().filter(|held| !held.away).filter_map(waits).min()
    }
}
