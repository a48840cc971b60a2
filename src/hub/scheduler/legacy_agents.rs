//! Special cases for legacy sidecars (AgentCom's original Node sidecar), which cannot adopt work: every assignment to
//! one wakes its agent. Part of the scheduler, and pure. A sidecar that sends a `boot_id` gets none of this.
//!
//! Source: the legacy sidecar's public code and recorded conversations. It has one slot for a task and one for a task
//! of its previous process, which it asks about (`task_recovering`); it answers `busy` while the first slot is taken,
//! and sends nothing while its agent works.

use crate::hub::scheduler::Scheduler;
use crate::hub::scheduler::absence::PROCESS_REPLACED;
use crate::protocol::{HubFrame, StateAction};

impl Scheduler {
    /// Returns whether the agent is connected through a legacy sidecar.
    pub(crate) fn is_legacy(&self, agent_id: &str) -> bool {
        self.agents.get(agent_id).is_some_and(|agent| agent.legacy)
    }

    /// Asks a silent legacy agent whether it still works, by sending its assignment again: it answers `busy`, or
    /// starts again. An agent that carried the task over from its previous process is not asked: it would answer
    /// `busy` for ever because of a session that no process watches.
    pub(crate) fn ask_legacy_agent(&mut self, agent_id: &str, now_ms: u64) -> bool {
        let may_ask = self.is_legacy(agent_id)
            && self.tasks.has_accepted(agent_id)
            && self.tasks.assignments.get(agent_id).is_some_and(|held| held.carried_since.is_none())
            && self.restarts.open_for(agent_id).is_none();
        if may_ask {
            self.tasks.assignments.require_confirmation(agent_id, now_ms);
            self.send_assignment(agent_id);
        }
        may_ask
    }

    /// Handles a legacy agent's question about a task of its previous process: only a new process asks. A task that had
    /// not been woken will not be woken any more, so it is reclaimed. One that runs stays the agent's: the sidecar sees
    /// its result, for the stale timeout from the first such question on, however often it is restarted.
    pub(crate) fn handle_carried_over_task(
        &mut self,
        agent_id: &str,
        task_id: &str,
        last_status: Option<&str>,
        now_ms: u64,
    ) {
        let Some(held) = self.tasks.assignments.get(agent_id).filter(|held| *held.task_id == *task_id) else { return };
        let unclear = held.run_unclear;
        // Assigned or sent again since it identified: it takes that, and the generation of this answer.
        let is_sent = held.confirm_by.is_some() && held.resend_at.is_none();
        match last_status {
            Some("accepted" | "failed") if !is_sent => {
                const WHY: &str = "not_woken_before_restart";
                match unclear {
                    true => self.tasks.record_loss(agent_id, WHY, None, now_ms),
                    false => drop(self.tasks.reclaim(agent_id, WHY, now_ms)),
                }
            }
            Some(_) | None => {
                if unclear {
                    self.count_loss(agent_id, PROCESS_REPLACED, None, now_ms);
                }
                self.tasks.set_carried_over(agent_id, now_ms);
            }
        }
    }

    /// Lets a legacy agent continue work that it reports under an older generation than the one it was just assigned: it
    /// takes the generation of a `task_continue` for its verdict, and would wake a second session for the assignment.
    /// Returns whether it does.
    pub(crate) fn continue_older_work(&mut self, agent_id: &str, task_id: &str, now_ms: u64) -> bool {
        let generation = self.tasks.held_task(agent_id, task_id).map(|task| task.generation);
        let Some(generation) = generation.filter(|_| self.is_legacy(agent_id) && !self.tasks.has_accepted(agent_id))
        else {
            return false;
        };
        self.tasks.accepted(agent_id, task_id, now_ms);
        let task_id = task_id.to_owned();
        self.send(agent_id, &HubFrame::TaskContinue { task_id: task_id.clone(), generation: Some(generation) });
        self.send(agent_id, &HubFrame::StateReportAck { task_id, action: StateAction::Continue });
        true
    }
}
