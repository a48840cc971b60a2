//! Computes the machine's next deadline and its purpose. No timer is ever cancelled: the deadline is computed from the
//! state each time.

use crate::machine::model::connection::{Connection, Heartbeat};
use crate::machine::model::cordon::Cordon;
use crate::machine::model::job::{Ownership, Pending, Stage};
use crate::machine::model::journal::Disk;
use crate::machine::model::machine::Machine;
use crate::machine::model::outbox::{Delivery, PendingVerdict};
use crate::machine::model::state::{DrainStep, State};
use crate::machine::model::time::Timestamp;

/// The purpose of a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::Display, strum::EnumIter)]
#[strum(serialize_all = "snake_case")]
pub enum Wait {
    /// The next dial.
    Reconnect,
    /// The time limit for establishing the connection.
    Connect,
    /// The time limit for the hub's `identified`.
    Identified,
    /// The next ping.
    Ping,
    /// The time limit for the pong; after it the connection counts as dead.
    Pong,
    /// The end of the hub's rate limit.
    RateLimit,
    /// The next wake after a failed one.
    WakeRetry,
    /// The time limit for the agent's confirmation.
    Confirmation,
    /// The time limit for finding a result from before a reboot.
    Interrupted,
    /// The warning at half of the task's time limit.
    TaskWarning,
    /// The task's time limit; after it the task fails.
    TaskTimeout,
    /// The time limit for the last look into the results folder.
    LastLook,
    /// The time limit for the result hook; after it the result counts as it was found.
    ResultHook,
    /// The next `task_progress`.
    Progress,
    /// The next repeat of a message without an answer.
    Answer,
    /// The next journal write after a failed one.
    JournalRetry,
    /// The time limit for the restart check; after it the restart is refused.
    NextRunCheck,
    /// The restart deadline; after it the task is left behind.
    RestartDeadline,
    /// The time limit for outstanding answers during the drain; after it the goodbye is sent.
    FlushDeadline,
    /// The time limit for a legacy hub's next assignment after an acknowledged verdict; after it the connection may be
    /// closed.
    NextAssignment,
    /// The time limit for the drain; after it the process ends.
    DrainDeadline,
    /// The next repeat of a refused verdict, or the next attempt to write its result to the results folder.
    Refused,
}

type Due = Option<(Timestamp, Wait)>;

impl Machine {
    /// Returns the earliest time at which [`crate::machine::Event::DeadlineReached`] is due, and its purpose.
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
        let until = self.connection.online().and_then(|online| online.next_assignment_until);
        let next_assignment = until.map(|at| (at, Wait::NextAssignment));
        match &self.state {
            State::Idle if self.cordon == Cordon::On => next_assignment,
            State::Idle | State::Working { .. } | State::Exiting { .. } => None,
            State::RestartPending { deadline, .. } => Some((*deadline, Wait::RestartDeadline)),
            State::Draining { deadline, step: DrainStep::Flushing, .. } => {
                let flush = (policy.flush_deadline(*deadline), Wait::FlushDeadline);
                next_assignment.into_iter().chain([flush]).min_by_key(|(at, _)| *at)
            }
            State::Draining { deadline, step: DrainStep::Closing | DrainStep::Checking, .. } => {
                Some((*deadline, Wait::DrainDeadline))
            }
        }
    }

    fn connection_due(&self) -> Due {
        let wanted = self.wants_connection();
        // Behind a cordon an unwanted connection is still served until it is closed; a drain has its own deadline.
        if !wanted && !matches!(self.state, State::Idle) {
            return None;
        }
        match &self.connection {
            Connection::Down { retry_at, .. } => wanted.then_some((*retry_at, Wait::Reconnect)),
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
        let can_send = self.connection.can_send();
        let repeat_due = |saying: &Pending| match saying {
            Pending::Sent { again_at } if can_send => Some((*again_at, Wait::Answer)),
            Pending::Sent { .. } | Pending::Unsent | Pending::Answered => None,
        };
        let (accept, report) = match &job.ownership {
            Ownership::Recovering { ask } => return repeat_due(ask),
            Ownership::Ours { accept, report: None } => (repeat_due(accept), None),
            Ownership::Ours { report: Some(report), .. } => (None, can_send.then_some((report.again_at, Wait::Answer))),
        };
        let stage = match job.persisted.stage {
            Stage::RetryingWake { at, .. } => Some((at, Wait::WakeRetry)),
            Stage::AwaitingConfirmation { until } => Some((until, Wait::Confirmation)),
            Stage::Interrupted { until } => Some((until, Wait::Interrupted)),
            Stage::Accepted | Stage::Waking { .. } | Stage::Running => None,
        };
        let progress = can_send.then_some((job.progress_at, Wait::Progress));
        let limit = job
            .running_limit()
            .map(|limit| (limit.next(), if limit.warned { Wait::TaskTimeout } else { Wait::TaskWarning }));
        let stage = [stage, limit].into_iter().flatten().min_by_key(|(at, _)| *at);
        let stage = job.last_look.map(|look| (look.until, Wait::LastLook)).or(stage);
        let review = job.review.as_ref().map(|review| (review.deadline, Wait::ResultHook));
        [accept, report, stage, review, progress].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    fn outbox_due(&self) -> Due {
        let can_send = self.connection.can_send();
        let head = self.outbox.head()?;
        let answer = match head.sent {
            Pending::Sent { again_at } if can_send => Some((again_at, Wait::Answer)),
            Pending::Sent { .. } | Pending::Unsent | Pending::Answered => None,
        };
        let refused_due = |pending: &PendingVerdict| match pending.delivery {
            Delivery::Resting { until } if can_send => Some((until, Wait::Refused)),
            Delivery::GivenUp { write_at: Some(at), .. } if self.disk == Disk::Ready => Some((at, Wait::Refused)),
            Delivery::Open | Delivery::Refused | Delivery::Resting { .. } | Delivery::GivenUp { .. } => None,
        };
        self.outbox.pending().filter_map(refused_due).chain(answer).min_by_key(|(at, _)| *at)
    }
}
