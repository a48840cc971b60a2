//! The wake of the agent: the command's outcome and the agent's confirmation.

use alloc::format;

use crate::machine::model::effect::{Effect, ResultFile, ToHub, WakeReport};
use crate::machine::model::event::WakeOutcome;
use crate::machine::model::job::Stage;
use crate::machine::model::parked_work::ParkedTask;
use crate::machine::model::task::{Outcome, TaskId};
use crate::machine::step::Step;

impl Step<'_> {
    /// Handles the end of a wake command, for the job in hand or for parked work.
    pub(in crate::machine) fn wake_finished(
        &mut self,
        task_id: &TaskId,
        generation: u64,
        attempt: u8,
        outcome: WakeOutcome,
    ) {
        let now = self.now;
        let confirm_by = now.plus(self.policy.confirmation_timeout_ms);
        if let Some(job) = self.machine.state.job_mut()
            && job.persisted.task.id == *task_id
            && job.persisted.woken == Some(generation)
        {
            let awaited = job.persisted.stage == (Stage::Waking { attempt });
            if awaited {
                job.wake_ordered = false;
                job.persisted.stage = match outcome {
                    WakeOutcome::Succeeded => Stage::AwaitingConfirmation { until: confirm_by },
                    WakeOutcome::Failed { .. } | WakeOutcome::TimedOut { .. } | WakeOutcome::Refused { .. } => {
                        // The wake is known to have failed: another one starts no second session.
                        job.persisted.woken = None;
                        Stage::RetryingWake { at: now, attempt }
                    }
                };
            }
            // A `wake_result` is news only; while the task's ownership is in question it would answer nothing.
            if !job.is_in_question() {
                self.report_wake(task_id.clone(), attempt, &outcome);
            }
            if awaited {
                self.plan_next_wake(attempt, &outcome);
            }
            return;
        }
        let succeeded = matches!(outcome, WakeOutcome::Succeeded);
        let mut failed = false;
        for item in self.machine.parked.items_mut() {
            if let ParkedTask::UnderWay(persisted) = item
                && persisted.task.id == *task_id
                && persisted.woken == Some(generation)
                && persisted.stage == (Stage::Waking { attempt })
            {
                persisted.stage = Stage::AwaitingConfirmation { until: confirm_by };
                failed = !succeeded;
            }
        }
        if failed {
            // The wake failed, so no session is at work, and what was laid out for it is not needed any more.
            self.machine.parked.take(task_id);
            self.order(Effect::CleanUp { task_id: task_id.clone(), result: ResultFile::Unread });
        }
    }

    /// Reports a wake's outcome to the hub.
    fn report_wake(&mut self, task_id: TaskId, attempt: u8, outcome: &WakeOutcome) {
        let report = match outcome {
            WakeOutcome::Succeeded => WakeReport::Success,
            WakeOutcome::Failed { error } => WakeReport::Failed { error: error.clone() },
            WakeOutcome::Refused { reason } => WakeReport::Failed { error: reason.clone() },
            WakeOutcome::TimedOut { after_ms } => {
                WakeReport::TimedOut { error: format!("the wake command was stopped after {after_ms} ms") }
            }
        };
        self.say_if_online(ToHub::WakeResult { task_id, attempt: Some(attempt), report });
    }

    /// Schedules the next attempt after a failed wake, or fails the task if no attempt is left.
    fn plan_next_wake(&mut self, attempt: u8, outcome: &WakeOutcome) {
        let why = match outcome {
            WakeOutcome::Succeeded => return,
            WakeOutcome::Refused { reason } => {
                self.finish_without_result(Outcome::Failed { reason: reason.clone() });
                return;
            }
            WakeOutcome::Failed { error } => error.clone(),
            WakeOutcome::TimedOut { after_ms } => format!("stopped after {after_ms} ms"),
        };
        let Some(job) = self.machine.state.job_mut() else { return };
        if let (Some(delay), Some(_)) = (self.policy.wake_retry_delay_ms(attempt), attempt.checked_add(1)) {
            job.persisted.stage = Stage::RetryingWake { at: self.now.plus(delay), attempt };
            return;
        }
        let plural = if attempt == 1 { "" } else { "s" };
        self.finish_without_result(Outcome::Failed {
            reason: format!("wake_failed_after_{attempt}_attempt{plural}: {why}"),
        });
    }

    /// Handles the agent's confirmation that it works on the task.
    pub(in crate::machine) fn confirmed(&mut self, task_id: &TaskId) {
        let Some(job) = self.machine.state.job_mut().filter(|job| job.task().id == *task_id) else { return };
        if job.is_recovering() {
            return;
        }
        match job.persisted.stage {
            Stage::Waking { .. } | Stage::RetryingWake { .. } | Stage::AwaitingConfirmation { .. } => {
                // A confirmation after a failed wake means that the wake had started the agent after all.
                job.persisted.woken.get_or_insert(job.persisted.task.generation);
                job.persisted.stage = Stage::Running;
            }
            // Not woken yet, confirmed before, or a sign from before the reboot.
            Stage::Accepted | Stage::Running | Stage::Interrupted { .. } => {}
        }
    }
}
