//! Effects: the machine's orders. The caller carries them out in the order of the list, each awaited before the next.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;

use crate::machine::model::journal::{Journal, PreviousEnd};
use crate::machine::model::news::News;
use crate::machine::model::notice::{Notice, RejectReason, ReturnedFrom};
use crate::machine::model::reply::{Answer, Ticket};
use crate::machine::model::restart_ledger::OpenRestart;
use crate::machine::model::state::{Cause, Ending};
use crate::machine::model::task::{Outcome, Task, TaskId};

/// An effect.
#[derive(Debug, Clone, PartialEq, Eq, Hash, strum::EnumDiscriminants)]
#[strum_discriminants(name(EffectName), derive(Hash, strum::IntoStaticStr, strum::EnumIter, strum::Display))]
#[strum_discriminants(doc = "The names of the effects.")]
pub enum Effect {
    /// Write the whole journal durably. The next event is `Persisted` or `PersistFailed`; effects that depend on the
    /// write are ordered only after the former.
    Persist(Box<Journal>),
    /// Send this message to the hub.
    Send(ToHub),
    /// Run the wake command; answered by `WakeFinished`.
    Wake {
        /// The task, in its present generation.
        task: Task,
        /// The number of the attempt, counted from 1.
        attempt: u8,
    },
    /// Connect to the hub; answered by `HubOpened` or `HubClosed`.
    Dial,
    /// Close the connection by the closing handshake; answered by `HubClosed`.
    CloseLink(CloseCode),
    /// Remove the task's files from the results folder, and the files for its wake.
    CleanUp {
        /// The task's id.
        task_id: TaskId,
        /// What becomes of a result that lies there.
        result: ResultFile,
    },
    /// Remove the files for the task's wake, and nothing from the results folder: a late session may still write there.
    WithdrawWake {
        /// The task's id.
        task_id: TaskId,
    },
    /// Remove only the task's `.started` file: its session is not at work on the task any more, or is not known.
    DropSign {
        /// The task's id.
        task_id: TaskId,
    },
    /// Check the restart method for the next run and whether its program can start; answered by `NextRunChecked`, or
    /// not at all. An order with a higher number replaces an earlier one.
    CheckNextRun {
        /// The question's number.
        number: u32,
        /// Whether the restart has begun. Then the program is tried only if it differs from the running one, because a
        /// config that broke meanwhile keeps every program from starting.
        leaving: bool,
    },
    /// Run the result hook on a result; answered by `ResultReviewed`. A job has one review at a time, the one with the
    /// highest number.
    RunResultHook {
        /// The question's number.
        number: u32,
        /// The task.
        task: Task,
        /// The result.
        outcome: Outcome,
    },
    /// Read the results folder now and report the files there; answered by `ResultsLookedFor`.
    LookForResults {
        /// The question's number.
        number: u32,
    },
    /// Pass on the news that was offered last; it may be lost.
    PassOn(News),
    /// Answer an operator's request.
    Reply {
        /// The request's ticket.
        to: Ticket,
        /// The answer.
        answer: Answer,
        /// Whether a crash would lose the granted change because the journal cannot be written.
        not_on_disk: bool,
    },
    /// Log a notice for the operator.
    Notify(Notice),
    /// End the process. It is the machine's last effect.
    Exit {
        /// The reason.
        cause: Cause,
        /// The way to end.
        ending: Ending,
    },
    /// Write a refused result durably to a place where an operator finds it; answered by `RefusedResultWritten`.
    /// Writing it again changes nothing.
    KeepRefused {
        /// The task's id.
        task_id: TaskId,
        /// The assignment's generation.
        generation: u64,
        /// The result, a JSON object.
        result: Arc<str>,
    },
}

/// What is known of a result file that lies in the results folder when its task's files are removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResultFile {
    /// The task's verdict is made of it, and on disk: it is removed, unless it has changed since.
    Read,
    /// It was not read: it is kept aside.
    Unread,
    /// Its task is cancelled: it is removed.
    OfCancelledTask,
}

/// A WebSocket close code with its reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum CloseCode {
    /// 1012: the sidecar restarts.
    Restarting,
    /// 1001: the sidecar stops.
    Stopping,
    /// 1001: the sidecar takes no tasks, and this hub knows no message for that.
    Cordoned,
    /// 1000: the connection is of no use.
    Unusable,
}

impl CloseCode {
    /// Returns the code on the wire (RFC 6455 and its registry).
    pub const fn code(self) -> u16 {
        match self {
            Self::Restarting => 1012,
            Self::Stopping | Self::Cordoned => 1001,
            Self::Unusable => 1000,
        }
    }

    /// Returns the reason on the wire.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Restarting => "restarting",
            Self::Stopping => "stopping",
            Self::Cordoned => "draining",
            Self::Unusable => "reconnecting",
        }
    }
}

/// A message to the hub. The caller builds the frame and adds the fields that never change (agent id, token, version).
#[derive(Debug, Clone, PartialEq, Eq, Hash, strum::EnumDiscriminants)]
#[strum_discriminants(name(ToHubName), derive(Hash, strum::IntoStaticStr, strum::EnumIter, strum::Display))]
#[strum_discriminants(strum(serialize_all = "snake_case"), doc = "The names of the sidecar's messages.")]
pub enum ToHub {
    /// The first message on a connection.
    Identify {
        /// The status text for the hub's presence.
        status: String,
        /// The restart that this run returned from.
        restarted: Option<ReturnedFrom>,
        /// How the run before this one ended.
        previous_end: PreviousEnd,
    },
    /// The heartbeat.
    Ping,
    /// The status for the hub's presence.
    Status {
        /// The status text.
        status: String,
    },
    /// The task is accepted.
    TaskAccepted {
        /// The task's id.
        task_id: TaskId,
        /// The assignment's generation, for a hub that reads it.
        generation: Option<u64>,
    },
    /// The task is refused.
    TaskRejected {
        /// The id as the hub sent it.
        task_id: String,
        /// The task's generation.
        generation: u64,
        /// The reason.
        reason: RejectReason,
    },
    /// The task is in progress.
    TaskProgress {
        /// The task's id.
        task_id: TaskId,
    },
    /// The task is completed.
    TaskComplete {
        /// The task's id.
        task_id: TaskId,
        /// The assignment's generation.
        generation: u64,
        /// The result, a JSON object.
        result: Arc<str>,
    },
    /// The task failed.
    TaskFailed {
        /// The task's id as raw text, since a task with an invalid id fails too.
        task_id: String,
        /// The assignment's generation.
        generation: u64,
        /// The reason.
        reason: String,
    },
    /// Asks whether the task from an earlier process is still assigned to this agent.
    TaskRecovering {
        /// The task.
        task: Task,
        /// The wire name of its stage.
        last_status: &'static str,
    },
    /// Reports parked work, in case the hub has ended the task or assigned it again.
    ParkedReport {
        /// The task's id.
        task_id: TaskId,
    },
    /// Reports the task in hand and asks whether it is still assigned to this agent.
    StateReport {
        /// The task's id.
        task_id: TaskId,
        /// The task's generation.
        generation: u64,
        /// The wire name of its stage.
        status: &'static str,
        /// The time at which the hub assigned it, in ms since the epoch.
        assigned_at: Option<u64>,
    },
    /// The outcome of a wake.
    WakeResult {
        /// The task's id.
        task_id: TaskId,
        /// The number of the attempt; absent if the confirmation, and not the command, timed out.
        attempt: Option<u8>,
        /// The outcome.
        report: WakeReport,
    },
    /// The answer to a restart command (only to a hub that knows it).
    RestartAck {
        /// The command's id.
        command_id: String,
        /// The answer.
        answer: RestartAnswer,
    },
    /// Whether new tasks are taken (only to a hub that knows it).
    Cordon {
        /// Whether no new tasks are taken.
        on: bool,
    },
    /// The goodbye before a restart.
    AgentRestarting {
        /// The restart.
        restart: OpenRestart,
        /// The task that is left under way.
        task_id: Option<TaskId>,
        /// Whether the hub knows the long form.
        long_form: bool,
    },
}

/// The outcome of a wake, for the hub.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum WakeReport {
    /// The command exited 0.
    Success,
    /// The command failed.
    Failed {
        /// A description for operators.
        error: String,
    },
    /// The command or the agent's confirmation timed out.
    TimedOut {
        /// The description of which one timed out.
        error: String,
    },
}

/// The answer to a restart command.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RestartAnswer {
    /// The restart is accepted.
    Accepted {
        /// The time in ms until a running task is left behind.
        deadline_ms: u64,
    },
    /// The command was carried out or is in progress.
    Duplicate,
    /// The restart is refused.
    Refused {
        /// The reason.
        detail: String,
        /// The time in ms after which it would be accepted, if it is refused only for now.
        retry_after_ms: Option<u64>,
    },
}
