//! Answers to operator commands.

use alloc::string::String;

use crate::machine::model::task::TaskId;

/// The most answers that wait for the disk; a further one is sent at once, marked as not on disk.
pub const REPLIES_CAP: usize = 16;

/// The number of an operator's request, by which its answer is returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// The answer to an operator's request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Answer {
    /// The restart is accepted.
    RestartAccepted {
        /// The task that the restart waits for.
        after: Option<TaskId>,
        /// Whether the command has `force`, so that the restart waits for no task.
        forced: bool,
    },
    /// A restart is pending already; this request changes nothing.
    RestartRepeated,
    /// The restart is refused.
    RestartRefused {
        /// The reason.
        detail: String,
    },
    /// Another operator cancelled the restart.
    Cancelled,
    /// The sidecar is leaving already.
    Leaving,
    /// The restart is cancelled.
    RestartCancelled {
        /// The task in hand, which continues.
        after: Option<TaskId>,
    },
    /// No restart was pending.
    NoRestartToCancel,
    /// The restart has begun and cannot be cancelled.
    TooLate,
    /// No new task is taken from now on.
    Drains {
        /// The task in hand, which is finished first.
        after: Option<TaskId>,
    },
    /// No new task was taken before either.
    DrainsAlready,
    /// Tasks are taken again from now on.
    Resumed,
    /// Tasks were taken before too.
    TakesTasks,
}

/// An answer that is sent once the disk holds what it grants.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PendingReply {
    /// The request's ticket.
    pub to: Ticket,
    /// The answer.
    pub answer: Answer,
}
