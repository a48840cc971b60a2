//! Notices: what the machine logs for operators.

use alloc::string::String;

use crate::machine::model::restart_ledger::OpenRestart;
use crate::machine::model::task::TaskId;

/// A notice for operators beyond the log of events and effects.
#[derive(Debug, Clone, PartialEq, Eq, Hash, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Notice {
    /// The hub refused this token or agent.
    IdentifyRefused {
        /// The hub's error.
        error: String,
    },
    /// An assignment was refused.
    AssignmentRefused {
        /// The task's id.
        task_id: String,
        /// The reason.
        why: RejectReason,
    },
    /// The hub has sent `identified` on a new connection.
    Connected {
        /// The restart that this run returned from, if it was not reported to a hub before.
        returned: Option<ReturnedFrom>,
    },
    /// A task was taken.
    TaskTaken {
        /// The task's id.
        task_id: TaskId,
    },
    /// Half of a task's time limit is over.
    HalfOfTimeout {
        /// The task's id.
        task_id: TaskId,
        /// The limit in ms.
        limit_ms: u64,
    },
    /// A verdict on a task was reached.
    VerdictReached {
        /// The task's id.
        task_id: TaskId,
        /// Whether the task is completed, and not failed.
        completed: bool,
    },
    /// A commanded restart was accepted.
    RestartAccepted {
        /// The command's reason.
        reason: String,
        /// The command's id, if the hub sends one.
        command_id: Option<String>,
        /// The operator who sent the command, if known.
        by: Option<String>,
    },
    /// The program at this process's path cannot start: the restart uses the running one.
    GoesOnAsItIs {
        /// The reason why it cannot start.
        why: String,
    },
    /// A commanded restart was refused.
    RestartRefused {
        /// The command's reason.
        reason: String,
        /// The reason.
        detail: String,
    },
    /// The journal cannot be written.
    JournalFailing,
    /// The journal can be written again.
    JournalRecovered,
    /// The hub refused a verdict.
    VerdictRefused {
        /// The task's id.
        task_id: TaskId,
        /// Whether its result is parked in case the task is assigned again.
        kept: bool,
    },
    /// A restart was cancelled before it began.
    RestartCancelled {
        /// The command's reason.
        reason: String,
    },
    /// An operator set or removed the cordon.
    Cordoned {
        /// Whether no new tasks are taken.
        on: bool,
    },
    /// The hub reclaimed a task that is under way; the work is parked in case the task is assigned again.
    TaskTakenBack {
        /// The task's id.
        task_id: TaskId,
    },
    /// A verdict was refused with an unknown error, and is sent again.
    VerdictRefusedInOtherWords {
        /// The task's id.
        task_id: TaskId,
        /// The number of refusals so far.
        times: u8,
        /// The hub's error text.
        error: String,
    },
    /// A verdict is given up.
    VerdictGivenUp {
        /// The task's id.
        task_id: TaskId,
        /// The hub's last error text.
        error: String,
        /// The path of its written result; `None` for a `task_failed`.
        kept: Option<String>,
    },
}

/// The reason for refusing an assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum RejectReason {
    /// There is a job already, or the journal cannot be written.
    Busy,
    /// No new work is taken before the restart.
    Restarting,
    /// No new work is taken before the operator's `resume`; sent as `busy` to a hub without the feature `cordon`.
    Draining,
    /// The task id is invalid.
    Invalid,
}

/// The restart that this run returned from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ReturnedFrom {
    /// The restart.
    pub restart: OpenRestart,
    /// The time in ms since the drain began.
    pub gap_ms: u64,
}
