//! The assignment that each agent holds, and until when the hub waits for it. Volatile and pure: it knows only the ids
//! of the tasks, and after a restart of the hub every holder has the full time again.

use std::collections::HashMap;

use serde_json::Value;

use crate::hub::scheduler::policy::Policy;
use crate::hub::scheduler::task::Task;

/// The reason for reclaiming a task from a holder that showed no sign of life for too long.
pub const STALE: &str = "stale";

/// An action that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// Reclaim the task: the holder showed no sign of life for too long, or the task should be done by now.
    Reclaim {
        /// The holder.
        agent_id: String,
        /// `not_accepted`, [`STALE`] or `overdue`.
        why: &'static str,
    },
    /// Send the same assignment again: a holder that returned did not mention a task that it had never accepted.
    Resend {
        /// The holder.
        agent_id: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ActiveAssignment {
    pub(crate) task_id: String,
    /// The time when the assignment is reclaimed unless the agent confirms it; `None` once it has.
    pub(crate) confirm_by: Option<u64>,
    /// The time when the assignment is sent again unless the agent mentions it.
    pub(crate) resend_at: Option<u64>,
    /// The time of the last sign of life.
    pub(crate) last_alive_at: u64,
    /// The task's `complete_by`, if it was assigned before that time: a task that is late already is not reclaimed for
    /// it again.
    pub(crate) overdue_at: Option<u64>,
    /// Whether the holder is away on a restart that the hub commanded: the restart ledger decides when that ends.
    pub(crate) away: bool,
    /// Whether the holder, a legacy sidecar, took the task over from its previous process: it neither wakes nor times
    /// that work any more.
    pub(crate) carried_over: bool,
    /// The older generation under which the holder, a legacy sidecar, continues the task: the hub cannot send it
    /// another one.
    pub(crate) older_generation: Option<u64>,
}

/// All holders. Times are in ms since the epoch.
#[derive(Debug, Clone, Default)]
pub struct Assignments {
    policy: Policy,
    held: HashMap<String, ActiveAssignment>,
}

impl Assignments {
    /// Creates the state in which no agent holds a task.
    pub fn new(policy: Policy) -> Self {
        Self { policy, held: HashMap::new() }
    }

    /// Returns the id of the task that the agent holds.
    pub fn task_of(&self, agent_id: &str) -> Option<&str> {
        self.held.get(agent_id).map(|held| held.task_id.as_str())
    }

    /// Returns the assignment that the agent holds.
    pub(crate) fn get(&self, agent_id: &str) -> Option<&ActiveAssignment> {
        self.held.get(agent_id)
    }

    /// Assigns the task to the agent, which has to confirm it.
    pub fn assign(&mut self, agent_id: &str, task: &Task, now_ms: u64) {
        let complete_by = task.submission.extra.get("complete_by").and_then(Value::as_u64);
        let held = ActiveAssignment {
            task_id: task.id.clone(),
            confirm_by: Some(now_ms + self.policy.accept_timeout_ms),
            resend_at: None,
            last_alive_at: now_ms,
            overdue_at: complete_by.filter(|at| *at > now_ms),
            away: false,
            carried_over: false,
            older_generation: None,
        };
        self.held.insert(agent_id.to_owned(), held);
    }

    /// Removes the agent's assignment.
    pub fn release(&mut self, agent_id: &str) {
        self.held.remove(agent_id);
    }

    /// Records a sign of life, which also confirms the assignment. Returns `false` if the agent does not hold this
    /// task.
    pub fn record_sign_of_life(&mut self, agent_id: &str, task_id: &str, now_ms: u64) -> bool {
        let Some(held) = self.held.get_mut(agent_id).filter(|held| held.task_id == task_id) else { return false };
        held.confirm_by = None;
        held.resend_at = None;
        held.last_alive_at = now_ms;
        held.away = false;
        true
    }

    /// Records that the agent left on a restart that the hub commanded.
    pub fn holder_left(&mut self, agent_id: &str) {
        if let Some(held) = self.held.get_mut(agent_id) {
            held.away = true;
        }
    }

    /// Requires the agent to confirm its task again, as after a new assignment.
    pub fn require_confirmation(&mut self, agent_id: &str, now_ms: u64) {
        if let Some(held) = self.held.get_mut(agent_id) {
            held.confirm_by = Some(now_ms + self.policy.accept_timeout_ms);
            held.last_alive_at = now_ms;
        }
    }

    /// Records that the agent took its task over from its previous process.
    pub fn set_carried_over(&mut self, agent_id: &str) {
        if let Some(held) = self.held.get_mut(agent_id) {
            held.carried_over = true;
        }
    }

    /// Accepts a verdict under this older generation too.
    pub fn accept_older_generation(&mut self, agent_id: &str, generation: u64) {
        if let Some(held) = self.held.get_mut(agent_id) {
            held.older_generation = Some(generation);
        }
    }

    /// Records that the agent is connected again: it has to confirm its task again, and may never have received one
    /// that it had not accepted.
    pub fn holder_returned(&mut self, agent_id: &str, resend: bool, now_ms: u64) {
        if let Some(held) = self.held.get_mut(agent_id) {
            held.confirm_by = Some(now_ms + self.policy.accept_timeout_ms);
            held.resend_at = resend.then_some(now_ms + self.policy.reconcile_ms);
            held.last_alive_at = now_ms;
            held.away = false;
        }
    }

    /// Returns what is due by now. Sending again is due once; a reclaim is due until it is done.
    pub fn due(&mut self, now_ms: u64) -> Vec<Due> {
        let stale_ms = self.policy.stale_timeout_ms;
        let is_over = |at: u64| at <= now_ms;
        let mut due = Vec::new();
        for (agent_id, held) in self.held.iter_mut().filter(|(_, held)| !held.away) {
            let why = if held.confirm_by.is_some_and(is_over) {
                "not_accepted"
            } else if is_over(held.last_alive_at + stale_ms) {
                STALE
            } else if held.overdue_at.is_some_and(is_over) {
                "overdue"
            } else {
                if held.resend_at.take_if(|at| is_over(*at)).is_some() {
                    due.push(Due::Resend { agent_id: agent_id.clone() });
                }
                continue;
            };
            due.push(Due::Reclaim { agent_id: agent_id.clone(), why });
        }
        due
    }

    /// Returns when `due` will next have a result.
    pub fn deadline(&self) -> Option<u64> {
        let stale_ms = self.policy.stale_timeout_ms;
        let waits = |held: &ActiveAssignment| {
            let stale = Some(held.last_alive_at + stale_ms);
            [held.confirm_by, held.resend_at, held.overdue_at, stale].into_iter().flatten().min()
        };
        self.held.values().filter(|held| !held.away).filter_map(waits).min()
    }
}
