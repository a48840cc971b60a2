//! What operators on this machine are answered. The machine says it; the shell only knows who holds which ticket.

use alloc::string::String;
use alloc::vec::Vec;

use super::effect::Effect;
use super::journal::Disk;
use super::task::TaskId;
use super::transition::Step;

/// At most this many answers wait for the disk; a further one is given at once, as not on disk.
pub const REPLIES_CAP: usize = 16;

/// Names an operator's request, so that its answer finds the one who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// What became of an operator's request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Answer {
    /// The restart will happen.
    RestartAccepted {
        /// The task that it waits for.
        after: Option<TaskId>,
        /// It waits for none because it was asked not to.
        forced: bool,
    },
    /// One is pending already; this request changes nothing.
    RestartRepeated,
    /// The restart will not happen.
    RestartRefused {
        /// Why.
        detail: String,
    },
    /// The request was cancelled by another operator.
    Cancelled,
    /// The sidecar is leaving already.
    Leaving,
    /// No restart is pending any more.
    RestartCancelled {
        /// The task that goes on.
        after: Option<TaskId>,
    },
    /// None was pending.
    NoRestartToCancel,
    /// It has begun.
    TooLate,
    /// No new task is taken.
    Drains {
        /// The task that is finished first.
        after: Option<TaskId>,
    },
    /// None was taken before either.
    DrainsAlready,
    /// Tasks are taken again.
    Resumed,
    /// They were taken before too.
    TakesTasks,
}

/// An answer to be given once the disk holds what it grants.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PendingReply {
    /// To whom.
    pub to: Ticket,
    /// What.
    pub answer: Answer,
}

impl Step<'_> {
    /// Answers now: nothing that the answer grants must outlive a crash.
    pub(super) fn reply(&mut self, to: Option<Ticket>, answer: Answer) {
        if let Some(to) = to {
            self.order(Effect::Reply { to, answer, not_on_disk: false });
        }
    }

    /// Answers once the journal holds what the answer grants, or is known not to.
    pub(super) fn reply_once_on_disk(&mut self, to: Option<Ticket>, answer: Answer) {
        let Some(to) = to else { return };
        if self.machine.replies.len() < REPLIES_CAP {
            self.machine.replies.push(PendingReply { to, answer });
        } else {
            self.order(Effect::Reply { to, answer, not_on_disk: true });
        }
    }

    /// AFTER the journal was looked at: what is being written may be what the answers wait for.
    pub(super) fn settle_replies(&mut self) {
        let not_on_disk = match self.machine.disk {
            Disk::Writing { .. } => return,
            Disk::Ready => false,
            Disk::Failing { .. } => true,
        };
        self.give_replies(not_on_disk);
    }

    /// Gives every waiting answer.
    pub(super) fn give_replies(&mut self, not_on_disk: bool) {
        let replies: Vec<PendingReply> = core::mem::take(&mut self.machine.replies);
        self.effects.extend(replies.into_iter().map(|PendingReply { to, answer }| Effect::Reply {
            to,
            answer,
            not_on_disk,
        }));
    }
}
