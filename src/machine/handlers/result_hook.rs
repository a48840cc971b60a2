//! The result hook: an operator's command that reviews a result before it counts. Until the verdict is in the journal
//! the result stays in its file, so a review may be dropped at any point: the file is found and reviewed again.

use crate::machine::model::effect::Effect;
use crate::machine::model::job::Stage;
use crate::machine::model::review::Review;
use crate::machine::model::task::{Outcome, TaskId};
use crate::machine::step::Step;

impl Step<'_> {
    /// Handles the agent's result: starts the review, or reaches the verdict if there is no hook.
    pub(in crate::machine) fn result_found(&mut self, task_id: &TaskId, outcome: Outcome) {
        let (now, policy) = (self.now, self.policy);
        let ours = self.machine.state.job().is_some_and(|job| job.task().id == *task_id && !job.is_recovering());
        if !ours {
            return;
        }
        let Some(limit_ms) = policy.result_hook_ms else { return self.finish(outcome) };
        let number = self.next_question();
        let Some(job) = self.machine.state.job_mut() else { return };
        if job.persisted.stage != Stage::Accepted {
            // The agent is no longer waited for; if a reboot ended it, it had left its result before.
            job.persisted.woken.get_or_insert(job.persisted.task.generation);
            job.persisted.stage = Stage::Running;
        }
        job.review = Some(Review { number, outcome: outcome.clone(), deadline: now.plus(limit_ms) });
        let task = job.task().clone();
        self.order(Effect::RunResultHook { number, task, outcome });
    }

    /// Handles the hook's answer.
    pub(in crate::machine) fn result_reviewed(&mut self, number: u32, outcome: Outcome) {
        let review = self.machine.state.job().and_then(|job| job.review.as_ref());
        if review.is_some_and(|review| review.number == number) {
            self.finish(outcome);
        }
    }

    /// Reaches the verdict with the unreviewed result if the hook has not answered in time.
    pub(in crate::machine) fn review_deadline(&mut self) {
        let review = self.machine.state.job().and_then(|job| job.review.as_ref());
        if let Some(outcome) = review.filter(|review| review.deadline <= self.now).map(|review| review.outcome.clone())
        {
            self.finish(outcome);
        }
    }
}
