//! What the desk grants an original Node sidecar, which cannot adopt work: every hand-out to it is woken. Part of the desk:
//! pure. It grants nothing to a sidecar that names its runs.
//!
//! Source: the original's public code and recorded conversations. It has one place for a task and one for a task of the
//! process before it, which it asks about (`task_recovering`); it answers `busy` while the first is taken, and says
//! nothing while its agent works.

use crate::hub::scheduler::Scheduler;
use crate::hub::scheduler::queue::can_do;
use crate::hub::scheduler::task::Status;

impl Scheduler {
    pub(crate) fn is_original(&self, agent_id: &str) -> bool {
        self.agents.get(agent_id).is_some_and(|agent| agent.original)
    }

    /// Whoever goes loses its task, and may be at work on it all the same. Of ours too: an original sidecar may come in its
    /// place.
    pub(crate) fn note_what_it_leaves_with(&mut self, agent_id: &str) {
        if self.tasks.had_accepted(agent_id)
            && let Some(held) = self.tasks.assignments.get(agent_id)
            && let Some(task) = self.tasks.get(&held.task_id)
        {
            let (task_id, generation) = (task.id.clone(), held.also.unwrap_or(task.generation));
            self.tasks.lost_assignments.leaves_with(agent_id, &task_id, generation);
        }
    }

    /// It speaks of the task that it has in hand right after `identified`. Until then it gets no other.
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

    /// Whether its `busy` is about the very task that it is asked about: it has accepted it, now or when it last went, and
    /// holds no other.
    pub(crate) fn is_busy_with_it(&mut self, agent_id: &str, task_id: &str, reason: &str, now_ms: u64) -> bool {
        if reason != "busy" || !self.is_original(agent_id) {
            return false;
        }
        let left_with = self.tasks.lost_assignments.left_with(agent_id, task_id);
        self.tasks.had_accepted(agent_id) || self.knows_it_under(agent_id, task_id, left_with, now_ms)
    }

    /// Whether it holds the task, and knows it under that older generation: it had accepted that before it last went.
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

    /// It speaks of what it had accepted before it last went. Where nobody was given that since, it goes on.
    pub(crate) fn has_it_still(&mut self, agent_id: &str, task_id: &str, now_ms: u64) -> bool {
        let left_with = self.tasks.lost_assignments.left_with(agent_id, task_id);
        self.goes_on_under(agent_id, task_id, left_with, now_ms)
    }

    /// A verdict on what it had accepted before it last went, and nobody was given since, is as good as any.
    pub(crate) fn take_late_verdict(&mut self, agent_id: &str, task_id: &str, generation: u64, now_ms: u64) {
        if self.tasks.lost_assignments.left_with(agent_id, task_id) == Some(generation) {
            self.goes_on_under(agent_id, task_id, Some(generation), now_ms);
        }
    }

    /// Asks a silent one whether it still works, by saying its assignment again: it is busy, or begins anew. Not one that
    /// carried the task over from the process before it: it would be busy for ever with a session that nobody watches.
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

    /// It asks about a task of the process before it. What had not been woken nobody will wake: that is handed out anew.
    /// What runs is its own again, also after a longer absence, as long as nobody else was given it.
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

    /// It has a task in hand that was taken back meanwhile. Where nobody else was given it, it goes on; its verdict names
    /// the generation that it knows, since the answer to a report can name no other.
    pub(crate) fn goes_on_under(&mut self, agent_id: &str, task_id: &str, said: Option<u64>, now_ms: u64) -> bool {
        let Some(said) = said.filter(|_| self.is_original(agent_id)) else { return false };
        let older = self.tasks.get(task_id).is_some_and(|task| said < task.generation);
        let goes_on = older && self.give_back(agent_id, task_id, now_ms);
        if goes_on {
            self.tasks.assignments.goes_on_under(agent_id, said);
        }
        goes_on
    }

    /// Hands it the task that it works on already, if that waits for somebody.
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
