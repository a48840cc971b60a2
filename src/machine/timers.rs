//! "When do you next want to be woken, and why?" Nothing is ever cancelled: the answer is read off the state each time.

use crate::machine::model::connection::{Connection, Heartbeat};
use crate::machine::model::cordon::Cordon;
use crate::machine::model::job::{Ownership, Pending, Stage};
use crate::machine::model::journal::Disk;
use crate::machine::model::machine::Machine;
use crate::machine::model::outbox::{Delivery, PendingVerdict};
use crate::machine::model::state::{Cause, DrainStep, State};
use crate::machine::model::time::Timestamp;

/// What a deadline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::Display, strum::EnumIter)]
#[strum(serialize_all = "snake_case")]
pub enum Wait {
    /// When to dial the hub.
    Reconnect,
    /// When to give up a connection that does not come to stand.
    Connect,
    /// When to give up a hub that does not say who we are.
    Identified,
    /// When to ping.
    Ping,
    /// When to call the link dead for want of a pong.
    Pong,
    /// When the hub will listen again.
    RateLimit,
    /// When to wake the agent again after a failed wake.
    WakeRetry,
    /// When to stop waiting for the agent to show itself.
    Confirmation,
    /// When to stop looking for a result from before a reboot.
    Interrupted,
    /// When to give up on a last look into the results folder.
    LastLook,
    /// When to let a result count that the hook has not answered for.
    ResultHook,
    /// When to give the next sign of life of a task.
    Progress,
    /// When to say again what has not been answered.
    Answer,
    /// When to write the journal again after a failure.
    JournalRetry,
    /// When to refuse a restart for want of knowing whether the next run would start.
    NextRunCheck,
    /// When to leave a task behind for a restart.
    RestartDeadline,
    /// When to say the last words whatever is unanswered.
    FlushDeadline,
    /// When to go whatever has been said.
    DrainDeadline,
    /// When to say again what was refused, or to try again to put its result aside.
    Refused,
}

type Due = Option<(Timestamp, Wait)>;

impl Machine {
    /// The earliest moment at which [`crate::machine::Event::DeadlineReached`] is wanted, and what for.
    pub fn deadline(&self, policy: &crate::machine::Policy) -> Option<(Timestamp, Wait)> {
        if let State::Exiting { .. } = self.state {
            return None;
        }
        let check = self.check.as_ref().map(|check| (check.deadline, Wait::NextRunCheck));
        let parts: [Due; 6] = [
            check,
            self.state_deadline(policy),
            self.connection_due(),
            self.disk_due(),
            self.job_due(),
            self.outbox_due(),
        ];
        parts.into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    fn state_deadline(&self, policy: &crate::machine::Policy) -> Due {
        match &self.state {
            State::Idle | State::Working { .. } | State::Exiting { .. } => None,
            State::RestartPending { deadline, .. } => Some((*deadline, Wait::RestartDeadline)),
            State::Draining { deadline, step: DrainStep::Flushing, .. } => {
                Some((deadline.minus(policy.close_budget_ms), Wait::FlushDeadline))
            }
            State::Draining { deadline, step: DrainStep::Closing | DrainStep::Checking, .. } => {
                Some((*deadline, Wait::DrainDeadline))
            }
        }
    }

    fn connection_due(&self) -> Due {
        let dials = match &self.state {
            State::Idle => self.cordon != Cordon::Away,
            State::Working { .. } | State::RestartPending { .. } => true,
            State::Draining { cause: Cause::Restart { .. }, step: DrainStep::Flushing, .. } => true,
            State::Draining { .. } | State::Exiting { .. } => return None,
        };
        match &self.connection {
            Connection::Down { retry_at, .. } => dials.then_some((*retry_at, Wait::Reconnect)),
            Connection::Dialing { give_up_at, .. } => Some((*give_up_at, Wait::Connect)),
            Connection::Identifying { give_up_at, .. } => Some((*give_up_at, Wait::Identified)),
            Connection::Closing { .. } => None,
            Connection::Online(online) => {
                let heartbeat = match online.heartbeat {
                    Heartbeat::Due { at } => (at, Wait::Ping),
                    Heartbeat::Sent { answer_by, .. } => (answer_by, Wait::Pong),
                };
                let limited = online.limited_until.map(|at| (at, Wait::RateLimit));
                limited.into_iter().chain([heartbeat]).min_by_key(|(at, _)| *at)
            }
        }
    }

    fn disk_due(&self) -> Due {
        match self.disk {
            Disk::Failing { retry_at } => Some((retry_at, Wait::JournalRetry)),
            Disk::Ready | Disk::Writing { .. } => None,
        }
    }

    fn job_due(&self) -> Due {
        let job = self.state.job()?;
        let can_say = self.connection.can_say();
        let said_again = |saying: &Pending| match saying {
            Pending::Said { again_at } if can_say => Some((*again_at, Wait::Answer)),
            Pending::Said { .. } | Pending::Unsaid | Pending::Answered => None,
        };
        let (accept, report) = match &job.ownership {
            Ownership::Recovering { ask } => return said_again(ask),
            Ownership::Ours { accept, report: None } => (said_again(accept), None),
            Ownership::Ours { report: Some(report), .. } => (None, can_say.then_some((report.again_at, Wait::Answer))),
        };
        let stage = match job.persisted.stage {
            Stage::RetryingWake { at, .. } => Some((at, Wait::WakeRetry)),
            Stage::AwaitingConfirmation { until } => Some((until, Wait::Confirmation)),
            Stage::Interrupted { until } => Some((until, Wait::Interrupted)),
            Stage::Accepted | Stage::Waking { .. } | Stage::Running => None,
        };
        let progress = can_say.then_some((job.progress_at, Wait::Progress));
        let stage = job.last_look.map(|look| (look.until, Wait::LastLook)).or(stage);
        let review = job.review.as_ref().map(|review| (review.deadline, Wait::ResultHook));
        [accept, report, stage, review, progress].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    fn outbox_due(&self) -> Due {
        let can_say = self.connection.can_say();
        let head = self.outbox.head()?;
        let answer = match head.said {
            Pending::Said { again_at } if can_say => Some((again_at, Wait::Answer)),
            Pending::Said { .. } | Pending::Unsaid | Pending::Answered => None,
        };
        let rests_until = |pending: &PendingVerdict| match pending.delivery {
            Delivery::Resting { until } if can_say => Some((until, Wait::Refused)),
            Delivery::GivenUp { write_at: Some(at), .. } if self.disk == Disk::Ready => Some((at, Wait::Refused)),
            Delivery::Open | Delivery::Refused | Delivery::Resting { .. } | Delivery::GivenUp { .. } => None,
        };
        self.outbox.pending().filter_map(rests_until).chain(answer).min_by_key(|(at, _)| *at)
    }
}
