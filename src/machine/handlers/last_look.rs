//! The last look: before a wait for the agent's files ends, the results folder is read once more, because a file that
//! is there counts whether or not it was noticed. What the look finds is reported before the end of the look.

use crate::machine::model::effect::Effect;
use crate::machine::model::job::{Job, Stage};
use crate::machine::model::last_look::LastLook;
use crate::machine::model::time::Timestamp;
use crate::machine::step::Step;

/// A wait that has ended without its file.
#[derive(Debug, Clone, Copy)]
pub(in crate::machine) enum WaitOver {
    /// The agent was woken and has not confirmed the start.
    Unconfirmed,
    /// The machine was rebooted, and there is no result from before the reboot.
    Interrupted,
    /// The delay after a failed wake is over.
    RetryDue {
        /// The number of the failed attempt.
        attempt: u8,
    },
}

impl Job {
    /// Returns the wait of the job's stage if it is over by `now`.
    fn wait_over(&self, now: Timestamp) -> Option<WaitOver> {
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
