//! Finds out what a queued task waits for: pure.

use crate::hub::scheduler::queue::Requirement;
use crate::hub::scheduler::task::{Status, Task};
use crate::hub::scheduler::view::View;
use crate::hub::scheduler::waiting::WaitingFor;

impl View {
    /// Returns what the task waits for, if it is queued.
    pub fn waiting_for(&self, task: &Task, now_ms: u64) -> Option<WaitingFor> {
        match task.status {
            Status::Queued => {}
            Status::Assigned { .. } | Status::Completed { .. } | Status::DeadLetter | Status::Cancelled => return None,
        }
        let needed = match Requirement::of(&task.submission) {
            Requirement::Agent(agent_id) => {
                let standing = self.standing(&agent_id, now_ms);
                let is_here = self.agents.get(agent_id.as_str()).is_some_and(|agent| agent.conn.is_some());
                let fsm_state = is_here.then(|| self.fsm_state(&agent_id));
                let status = standing.map(|standing| standing.status);
                return Some(WaitingFor::Agent { agent_id, status, fsm_state });
            }
            Requirement::Capabilities(needed) => needed,
        };
        let able = self.crowds.with(&needed);
        Some(match able.connected {
            0 if needed.is_empty() => WaitingFor::AnyAgent,
            0 => {
                let missing = self.crowds.missing(&needed).into_iter().map(str::to_owned).collect();
                WaitingFor::Capabilities { needed: needed.into_iter().collect(), missing }
            }
            agents if agents == able.cordoned => WaitingFor::DrainingAgents { agents },
            agents => WaitingFor::IdleAgent { agents },
        })
    }
}
