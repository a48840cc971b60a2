//! Special cases for legacy sidecars (AgentCom's original Node sidecar), which cannot adopt work: every assignment to
//! one wakes its agent. Part of the scheduler, and pure. A sidecar that sends a `boot_id` gets none of this.
//!
//! Source: the legacy sidecar's public code and recorded conversations. It has one slot for a task and one for a task
//! of its previous process, which it asks about (`task_recovering`); it answers `busy` while the first slot is taken,
//! and sends nothing while its agent works.

use crate::hub::scheduler::Scheduler;
use crate::hub::scheduler::queue::can_do;
use crate::hub::scheduler::task::Status;

impl Scheduler {
    /// Returns whether the agent is connected through a legacy sidecar.
    pub(crate) fn is_legacy(&self, agent_id: &str) -> bool {
        self.agents.get(agent_id).is_some_and(|agent| agent.legacy)
    }

    /// Records the task that a disconnecting agent had accepted: the agent loses the task, and may still be working on
    /// it. Recorded for every kind of sidecar, since a legacy sidecar may take the agent's place.
    pub(crate) fn record_accepted_task(&mut self, agent_id: &str) {
        if self.tasks.has_accepted(agent_id)
            && let Some(held) = self.tasks.assignments.get(agent_id)
            && let Some(task) = self.tasks.get(&held.task_id)
        {
            let (task_id, generation) = (task.id.clone(), held.older_generation.unwrap_or(task.generation));
            self.tasks.lost_assignments.set_accepted(agent_id, &task_id, generation);
        }
    }

    /// Makes a legacy agent that may have a task in hand unavailable until it has reported it, which it does right
    /// after `identified`.
    pub(crate) fn await_report(&mut self, agent_id: &str, now_ms: u64) {
        if !self.is_legacy(agent_id) {
            self.tasks.lost_assignments.clear_accepted(agent_id);
        } else if self.tasks.lost_assignments.has_accepted(agent_id) {
            self.agents.set_unavailable(agent_id, now_ms + self.policy.report_ms);
        }
    }

    /// Makes a legacy agent available once it has reported the task that it has in hand.
    pub(crate) fn report_received(&mut self, agent_id: &str) {
        if self.is_legacy(agent_id) && self.agents.get(agent_id).is_some_and(|agent| !agent.leaving) {
            self.agents.set_available(agent_id);
            self.touched.push(agent_id.to_owned());
        }
    }

    /// Returns whether a legacy agent's `busy` refers to the task that it was sent: it has accepted that task, now or
    /// before it last disconnected, and holds no other.
    pub(crate) fn is_busy_with_task(&mut self, agent_id: &str, task_id: &str, reason: &str, now_ms: u64) -> bool {
        if reason != "busy" || !self.is_legacy(agent_id) {
            return false;
        }
        let generation = self.tasks.lost_assignments.accepted_generation(agent_id, task_id);
        self.tasks.has_accepted(agent_id) || self.accept_older_generation(agent_id, task_id, generation, now_ms)
    }

    /// Returns whether the agent holds the task and had accepted it under this older generation before it last
    /// disconnected. If so, that generation counts from now on.
    pub(crate) fn accept_older_generation(
        &mut self,
        agent_id: &str,
        task_id: &str,
        reported: Option<u64>,
        now_ms: u64,
    ) -> bool {
        let accepted = self.tasks.lost_assignments.accepted_generation(agent_id, task_id);
        let Some(reported) = reported.filter(|reported| accepted == Some(*reported)) else { return false };
        if self.tasks.held_task(agent_id, task_id).is_none() {
            return false;
        }
        self.tasks.accepted(agent_id, task_id, now_ms);
        self.tasks.assignments.accept_older_generation(agent_id, reported);
        true
    }

    /// Lets a legacy agent continue the task that it had accepted before it last disconnected, if the task was not
    /// assigned since. Returns whether it does.
    pub(crate) fn resume_accepted_task(&mut self, agent_id: &str, task_id: &str, now_ms: u64) -> bool {
        let generation = self.tasks.lost_assignments.accepted_generation(agent_id, task_id);
        self.resume_older_generation(agent_id, task_id, generation, now_ms)
    }

    /// Gives the task back to a legacy agent whose verdict on it is late, if the task was not assigned since: the
    /// verdict then counts.
    pub(crate) fn resume_for_late_verdict(&mut self, agent_id: &str, task_id: &str, generation: u64, now_ms: u64) {
        if self.tasks.lost_assignments.accepted_generation(agent_id, task_id) == Some(generation) {
            self.resume_older_generation(agent_id, task_id, Some(generation), now_ms);
        }
    }

    /// Asks a silent legacy agent whether it still works, by sending its assignment again: it answers `busy`, or
    /// starts again. An agent that carried the task over from its previous process is not asked: it would answer
    /// `busy` for ever because of a session that no process watches.
    pub(crate) fn ask_legacy_agent(&mut self, agent_id: &str, now_ms: u64) -> bool {
        let may_ask = self.is_legacy(agent_id)
            && self.tasks.has_accepted(agent_id)
            && self.tasks.assignments.get(agent_id).is_some_and(|held| !held.carried_over)
            && self.restarts.open_for(agent_id).is_none();
        if may_ask {
            self.tasks.assignments.require_confirmation(agent_id, now_ms);
            self.send_assignment(agent_id);
        }
        may_ask
    }

    /// Handles a legacy agent's question about a task of its previous process. A task that had not been woken will not
    /// be woken any more, so it is reclaimed. A task that runs is the agent's again, also after a longer absence, if
    /// it was not assigned to another agent.
    pub(crate) fn handle_carried_over_task(
        &mut self,
        agent_id: &str,
        task_id: &str,
        last_status: Option<&str>,
        now_ms: u64,
    ) {
        if !self.is_legacy(agent_id) {
            return;
        }
        let holds = self.tasks.held_task(agent_id, task_id).is_some();
        match last_status {
            Some("accepted" | "failed") if holds => {
                const WHY: &str = "not_woken_before_restart";
                if self.restarts.was_return_at(agent_id, self.agents.get(agent_id).map(|agent| agent.connected_at)) {
                    self.tasks.reclaim(agent_id, WHY, now_ms);
                } else {
                    self.tasks.record_loss(agent_id, WHY, None, now_ms);
                }
            }
            Some("working") => drop(self.assign_back(agent_id, task_id, now_ms)),
            Some(_) | None => {}
        }
        if self.tasks.held_task(agent_id, task_id).is_some() {
            self.tasks.assignments.set_carried_over(agent_id);
        }
    }

    /// Lets a legacy agent continue a task that was reclaimed meanwhile, if it was not assigned to another agent. Its
    /// verdict will name the generation that it knows, since the answer to a report cannot name another one.
    pub(crate) fn resume_older_generation(
        &mut self,
        agent_id: &str,
        task_id: &str,
        reported: Option<u64>,
        now_ms: u64,
    ) -> bool {
        let Some(reported) = reported.filter(|_| self.is_legacy(agent_id)) else { return false };
        let older = self.tasks.get(task_id).is_some_and(|task| reported < task.generation);
        let resumed = older && self.assign_back(agent_id, task_id, now_ms);
        if resumed {
            self.tasks.assignments.accept_older_generation(agent_id, reported);
        }
        resumed
    }

    /// Assigns the task to the agent that already works on it, if the task is queued.
    fn assign_back(&mut self, agent_id: &str, task_id: &str, now_ms: u64) -> bool {
        let Some((agent, _)) = self.agents.connected(agent_id) else { return false };
        let queued = self.tasks.get(task_id).filter(|task| task.status == Status::Queued);
        let able = queued.is_some_and(|task| can_do(agent_id, &agent.capability_names, &task.submission));
        if !able || self.restarts.open_for(agent_id).is_some() || !self.tasks.assign(task_id, agent_id, now_ms) {
            return false;
        }
        self.idle_agents.leave(agent_id);
        self.tasks.accepted(agent_id, task_id, now_ms);
        true
    }
}
