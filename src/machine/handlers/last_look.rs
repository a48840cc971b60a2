//! The last look: before a wait for the agent's files ends, the results folder is read once more, because a file that
//! is there counts whether or not it was noticed. What the look finds is reported before the end of the look.

use crate::machine::model::effect::Effect;
use crate::machine::model::job::{Job, Stage};
use crate::machine::model::last_look::LastLook;
use crate::machine::model::notice::Notice;
use crate::machine::model::time::Timestamp;
use crate::machine::step::Step;

/// A wait that has ended without its file.
#[derive(Debug, Clone, Copy)]
pub(in crate::machine) enum WaitOver {
    /// The agent was woken and has not confirmed the start.
    Unconfirmed,
    /// The machine was rebooted, and there is no result from before the reboot.
    Interrupted,
    /// The task's time is over.
    TaskTimeout {
        /// The limit in ms.
        limit_ms: u64,
        /// Whether a session may be at work on the task.
        in_session: bool,
    },
    /// The delay after a failed wake is over.
    RetryDue {
        /// The number of the failed attempt.
        attempt: u8,
    },
}

impl Job {
    /// Returns the wait of the job's stage, or for its result, if it is over by `now`.
    fn wait_over(&self, now: Timestamp) -> Option<WaitOver> {
        if let Some(limit) = self.running_limit().filter(|limit| limit.until <= now) {
            let in_session = match self.persisted.stage {
                Stage::Waking { .. } | Stage::AwaitingConfirmation { .. } | Stage::Running => true,
                // None was started, or none is known to have begun; a reboot has ended it.
                Stage::Accepted | Stage::RetryingWake { .. } | Stage::Interrupted { .. } => false,
            };
            return Some(WaitOver::TaskTimeout { limit_ms: limit.limit_ms, in_session });
        }
        let (at, over) = match self.persisted.stage {
            Stage::AwaitingConfirmation { until } => (until, WaitOver::Unconfirmed),
            Stage::Interrupted { until } => (until, WaitOver::Interrupted),
            Stage::RetryingWake { at, attempt } => (at, WaitOver::RetryDue { attempt }),
            Stage::Accepted | Stage::Waking { .. } | Stage::Running => return None,
        };
        (at <= now && !self.is_recovering()).then_some(over)
    }
}

impl Step<'_> {
    /// Handles the deadline of the job's stage: orders a last look, or gives up if a last look was not answered in
    /// time.
    pub(in crate::machine) fn job_deadline(&mut self) {
        let (now, limit_ms) = (self.now, self.policy.last_look_ms);
        self.warn_of_timeout();
        let Some(job) = self.machine.state.job() else { return };
        let Some(over) = job.wait_over(now) else { return };
        match job.last_look {
            Some(look) if look.until > now => {}
            Some(_) => self.give_up_waiting(over),
            None => {
                let number = self.next_question();
                if let Some(job) = self.machine.state.job_mut() {
                    job.last_look = Some(LastLook { number, until: now.plus(limit_ms) });
                }
                self.order(Effect::LookForResults { number });
            }
        }
    }

    /// Tells the operator once that half of the task's time is over.
    fn warn_of_timeout(&mut self) {
        let now = self.now;
        let Some(job) = self.machine.state.job_mut() else { return };
        if job.running_limit().is_none_or(|limit| limit.warned || limit.next() > now) {
            return;
        }
        let Some(limit) = &mut job.persisted.limit else { return };
        limit.warned = true;
        let limit_ms = limit.limit_ms;
        let task_id = job.task().id.clone();
        self.order(Effect::Notify(Notice::HalfOfTimeout { task_id, limit_ms }));
    }

    /// Handles the end of a last look: every file in the folder has been reported.
    pub(in crate::machine) fn results_looked_for(&mut self, number: u32) {
        let now = self.now;
        let Some(job) = self.machine.state.job_mut() else { return };
        let Some(_) = job.last_look.take_if(|look| look.number == number) else { return };
        if let Some(over) = job.wait_over(now) {
            self.give_up_waiting(over);
        }
    }

    /// Drops a last look whose wait has ended for another reason.
    pub(in crate::machine) fn drop_obsolete_look(&mut self) {
        let now = self.now;
        if let Some(job) = self.machine.state.job_mut()
            && job.wait_over(now).is_none()
        {
            job.last_look = None;
        }
    }
}
