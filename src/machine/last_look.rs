//! The last look: before a wait for the agent's files is called over, the results folder is looked at once more, since what
//! is there counts, noticed or not. Whatever the look finds is reported before the look itself.

use super::effect::Effect;
use super::job::{Job, Stage};
use super::time::Timestamp;
use super::transition::Step;

/// A look into the results folder that has not been answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LastLook {
    /// Names the question.
    pub number: u32,
    /// When a folder that does not answer is no longer waited for.
    pub until: Timestamp,
}

impl Job {
    /// Whether the time has come that a wait for the agent's files ends, or that the agent is woken again.
    fn wait_is_over(&self, now: Timestamp) -> bool {
        !self.is_recovering()
            && match self.carried.stage {
                Stage::AwaitingConfirmation { until: at } | Stage::Interrupted { until: at } => at <= now,
                Stage::RetryingWake { at, .. } => at <= now,
                Stage::Accepted | Stage::Waking { .. } | Stage::Running => false,
            }
    }
}

impl Step<'_> {
    /// What a job's stage waits for has not come in time: looks once more, or gives up after a look without an answer.
    pub(super) fn job_deadline(&mut self) {
        let (now, limit_ms) = (self.now, self.policy.last_look_ms);
        let Some(job) = self.machine.state.job().filter(|job| job.wait_is_over(now)) else { return };
        match job.last_look {
            Some(look) if look.until > now => {}
            Some(_) => self.give_up_waiting(),
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
    pub(super) fn results_looked_for(&mut self, number: u32) {
        let now = self.now;
        let Some(job) = self.machine.state.job_mut() else { return };
        let Some(_) = job.last_look.take_if(|look| look.number == number) else { return };
        if job.wait_is_over(now) {
            self.give_up_waiting();
        }
    }

    /// A look whose reason is gone is not waited for.
    pub(super) fn drop_idle_look(&mut self) {
        let now = self.now;
        if let Some(job) = self.machine.state.job_mut()
            && !job.wait_is_over(now)
        {
            job.last_look = None;
        }
    }
}
