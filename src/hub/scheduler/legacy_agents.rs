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
    pub(crate) fn is_original(&self, agent_id: &str) -> bool {
        self.agents.get(agent_id).is_some_and(|agent| agent.original)
    }

    /// Records the task that a disconnecting agent had accepted: the agent loses the task, and may still be working on
    /// it. Recorded for every kind of sidecar, since a legacy sidecar may take the agent's place.
    pub(crate) fn note_what_it_leaves_with(&mut self, agent_id: &str) {
        if self.tasks.had_accepted(agent_id)
            && let Some(held) = self.tasks.assignments.get(agent_id)
            && let Some(task) = self.tasks.get(&held.task_id)
        {
            let (task_id, generation) = (task.id.clone(), held.also.unwrap_or(task.generation));
            self.tasks.lost_assignments.leaves_with(agent_id, &task_id, generation);
        }
    }

    /// Makes a legacy agent that may have a task in hand unavailable until it has reported it, which it does right
    /// after `identified`.
    pub(crate) fn let_it_report_first(&mut self, agent_id: &str, now_ms: u64) {
        if !self.is_original(agent_id) {
            self.tasks.lost_assignments.left_with_nothing(agent_id);
        } else if self.tasks.lost_assignments.may_have(agent_id) {
            self.agents.set_unavailable(agent_id, now_ms + self.policy.report_ms);
        }
    }

    pub(crate) fn has_reported(&mut self, agent_id: &str) {
        if self.is_original(agent_id) && self.agents.get(agent_id).is_some_and(|agent| !agent.leaving) {
            self.agents.set_available(agent_id);
            self.touched.push(agent_id.to_owned());
        }
    }

    /// Returns whether a legacy agent's `busy` refers to the task that it was sent: it has accepted that task, now or
    /// before it last disconnected, and holds no other.
    pub(crate) fn is_busy_with_it(&mut self, agent_id: &str, task_id: &str, reason: &str, now_ms: u64) -> bool {
        if reason != "busy" || !self.is_original(agent_id) {
            return false;
        }
        let left_with = self.tasks.lost_assignments.left_with(agent_id, task_id);
        self.tasks.had_accepted(agent_id) || self.knows_it_under(agent_id, task_id, left_with, now_ms)
    }

    /// Returns whether the agent holds the task and had accepted it under this older generation before it last
    /// disconnected. If so, that generation counts from now on.
    pub(crate) fn knows_it_under(&mut self, agent_id: &str, task_id: &str, said: Option<u64>, now_ms: u64) -> bool {
        let holds = self.tasks.task_of(agent_id).is_some_and(|task| task.id == task_id);
        let Some(said) =
            said.filter(|said| holds && self.tasks.lost_assignments.left_with(agent_id, task_id) == Some(*said))
        else {
            return false;
        };
        self.tasks.accepted(agent_id, task_id, now_ms);
        self.tasks.assignments.goes_on_under(agent_id, said);
        true
    }

    /// Lets a legacy agent continue the task that it had accepted before it last disconnected, if the task was not
    /// assigned since. Returns whether it does.
    pub(crate) fn has_it_still(&mut self, agent_id: &str, task_id: &str, now_ms: u64) -> bool {
        let left_with = self.tasks.lost_assignments.left_with(agent_id, task_id);
        self.goes_on_under(agent_id, task_id, left_with, now_ms)
    }

    /// Gives the task back to a legacy agent whose verdict on it is late, if the task was not assigned since: the
    /// verdict then counts.
    pub(crate) fn take_late_verdict(&mut self, agent_id: &str, task_id: &str, generation: u64, now_ms: u64) {
        if self.tasks.lost_assignments.left_with(agent_id, task_id) == Some(generation) {
            self.goes_on_under(agent_id, task_id, Some(generation), now_ms);
        }
    }

    /// Asks a silent legacy agent whether it still works, by sending its assignment again: it answers `busy`, or
    /// starts again. An agent that carried the task over from its previous process is not asked: it would answer
    /// `busy` for ever because of a session that no process watches.
    pub(crate) fn ask_the_original(&mut self, agent_id: &str, now_ms: u64) -> bool {
        let may_ask = self.is_original(agent_id)
            && self.tasks.had_accepted(agent_id)
            && self.tasks.assignments.get(agent_id).is_some_and(|held| !held.carried)
            && self.restarts.open_for(agent_id).is_none();
        if may_ask {
            self.tasks.assignments.ask(agent_id, now_ms);
            self.say_assignment(agent_id);
        }
        may_ask
    }

    /// Handles a legacy agent's question about a task of its previous process. A task that had not been woken will not
    /// be woken any more, so it is reclaimed. A task that runs is the agent's again, also after a longer absence, if
    /// it was not assigned to another agent.
    pub(crate) fn settle_what_was_carried_over(
        &mut self,
        agent_id: &str,
        task_id: &str,
        last_status: Option<&str>,
        now_ms: u64,
    ) {
        if !self.is_original(agent_id) {
            return;
        }
        let holds = self.tasks.task_of(agent_id).is_some_and(|task| task.id == task_id);
        match last_status {
            Some("accepted" | "failed") if holds => {
                const WHY: &str = "not_woken_before_restart";
                if self.restarts.ended_with(agent_id, self.agents.get(agent_id).map(|agent| agent.connected_at)) {
                    self.tasks.take_back(agent_id, WHY, now_ms);
                } else {
                    self.tasks.lose(agent_id, WHY, None, now_ms);
                }
            }
            Some("working") => drop(self.give_back(agent_id, task_id, now_ms)),
            Some(_) | None => {}
        }
        if self.tasks.task_of(agent_id).is_some_and(|task| task.id == task_id) {
            self.tasks.assignments.carried_over(agent_id);
        }
    }

    /// Lets a legacy agent continue a task that was reclaimed meanwhile, if it was not assigned to another agent. Its
    /// verdict will name the generation that it knows, since the answer to a report cannot name another one.
    pub(crate) fn goes_on_under(&mut self, agent_id: &str, task_id: &str, said: Option<u64>, now_ms: u64) -> bool {
        let Some(said) = said.filter(|_| self.is_original(agent_id)) else { return false };
        let older = self.tasks.get(task_id).is_some_and(|task| said < task.generation);
        let goes_on = older && self.give_back(agent_id, task_id, now_ms);
        if goes_on {
            self.tasks.assignments.goes_on_under(agent_id, said);
        }
        goes_on
    }

    /// Assigns the task to the agent that already works on it, if the task is queued.
    fn give_back(&mut self, agent_id: &str, task_id: &str, now_ms: u64) -> bool {
        let Some((agent, _)) = self.agents.connected(agent_id) else { return false };
        let waits = self.tasks.get(task_id).filter(|task| task.status == Status::Queued);
        let able = waits.is_some_and(|task| can_do(agent_id, &agent.can_do, &task.submission));
        if !able || self.restarts.open_for(agent_id).is_some() || !self.tasks.assign(task_id, agent_id, now_ms) {
            return false;
        }
        self.idle_agents.leave(agent_id);
        self.tasks.accepted(agent_id, task_id, now_ms);
        true
    }
}
