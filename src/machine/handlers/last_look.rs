//! The last look: before a wait for the agent's files is called over, the results folder is looked at once more, since what
//! is there counts, noticed or not. Whatever the look finds is reported before the look itself.

use crate::machine::model::effect::Effect;
use crate::machine::model::job::{Job, Stage};
use crate::machine::model::last_look::LastLook;
use crate::machine::model::time::Timestamp;
use crate::machine::step::Step;

/// What was waited for, and has not come in time.
#[derive(Debug, Clone, Copy)]
pub(in crate::machine) enum WaitOver {
    /// The agent was woken, and did not begin.
    NobodyCame,
    /// The machine was rebooted, and no result lies there from before.
    Interrupted,
    /// A wake had failed, so often, and is tried again.
    Rested {
        /// Which attempt failed.
        attempt: u8,
    },
}

impl Job {
    /// Which wait is over by `now`.
    fn wait_over(&self, now: Timestamp) -> Option<WaitOver> {
        let (at, over) = match self.persisted.stage {
            Stage::AwaitingConfirmation { until } => (until, WaitOver::NobodyCame),
            Stage::Interrupted { until } => (until, WaitOver::Interrupted),
            Stage::RetryingWake { at, attempt } => (at, WaitOver::Rested { attempt }),
            Stage::Accepted | Stage::Waking { .. } | Stage::Running => return None,
        };
        (at <= now && !self.is_recovering()).then_some(over)
    }
}

impl Step<'_> {
    /// What a job's stage waits for has not come in time: looks once more, or gives up after a look without an answer.
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

    /// The folder was looked at, and everything in it reported.
    pub(in crate::machine) fn results_looked_for(&mut self, number: u32) {
        let now = self.now;
        let Some(job) = self.machine.state.job_mut() else { return };
        let Some(_) = job.last_look.take_if(|look| look.number == number) else { return };
        if let Some(over) = job.wait_over(now) {
            self.give_up_waiting(over);
        }
    }

    /// A look whose reason is gone is not waited for.
    pub(in crate::machine) fn drop_idle_look(&mut self) {
        let now = self.now;
        if let Some(job) = self.machine.state.job_mut()
            && job.wait_over(now).is_none()
        {
            job.last_look = None;
        }
    }
}
