//! What an operator is answered.

use alloc::string::String;

use crate::machine::model::task::TaskId;

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
