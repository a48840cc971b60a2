//! What is to be done: orders, carried out in the order of the list, each awaited before the next.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;

use crate::machine::model::journal::Journal;
use crate::machine::model::news::News;
use crate::machine::model::reply::{Answer, Ticket};
use crate::machine::model::restart_ledger::OpenRestart;
use crate::machine::model::state::{Cause, Ending};
use crate::machine::model::task::{Outcome, Task, TaskId};

/// Something to be done.
#[derive(Debug, Clone, PartialEq, Eq, Hash, strum::EnumDiscriminants)]
#[strum_discriminants(name(EffectName), derive(Hash, strum::IntoStaticStr, strum::EnumIter, strum::Display))]
#[strum_discriminants(doc = "The names of the effects.")]
pub enum Effect {
    /// Write the journal, whole and durably. The next event is `Persisted` or `PersistFailed`; whatever depends on the
    /// write is ordered only after the former.
    Persist(Box<Journal>),
    /// Say this to the hub.
    Send(ToHub),
    /// Run the wake command; answers with `WakeFinished`.
    Wake {
        /// For this task, in this generation.
        task: Task,
        /// Counted from 1.
        attempt: u8,
    },
    /// Connect to the hub; answers with `HubOpened` or `HubClosed`.
    Dial,
    /// Close the connection by handshake; answers with `HubClosed`.
    CloseLink(CloseCode),
    /// Remove the task's files from the results folder, and what was laid out for its wake.
    CleanUp {
        /// Which task.
        task_id: TaskId,
    },
    /// Remove what was laid out for the task's wake, and nothing from the results folder: nobody came, and who comes late
    /// needs what he leaves there.
    WithdrawWake {
        /// Which task.
        task_id: TaskId,
    },
    /// Remove the task's `.started` alone: whoever wrote it is not at work on the task any more, or nobody knows of him.
    DropSign {
        /// Which task.
        task_id: TaskId,
    },
    /// Find out who would start the next run, and whether its program can start; answers with `NextRunChecked`, or not at
    /// all. An order with a higher number takes the place of one before it.
    CheckNextRun {
        /// Names the question.
        number: u32,
        /// The restart has begun: only another program than the one that runs is tried out, since a configuration that broke
        /// meanwhile keeps every program from starting.
        leaving: bool,
    },
    /// Let the result hook look at a result; answers with `ResultReviewed`. A job has one at a time: the highest number.
    RunResultHook {
        /// Names the question.
        number: u32,
        /// The task.
        task: Task,
        /// The result.
        outcome: Outcome,
    },
    /// Look into the results folder now, report what is there, and answer with `ResultsLookedFor`.
    LookForResults {
        /// Names the question.
        number: u32,
    },
    /// Pass on the news that were offered last; they are news, not an obligation.
    PassOn(News),
    /// Answer an operator.
    Reply {
        /// Who asked.
        to: Ticket,
        /// What became of it.
        answer: Answer,
        /// A crash would forget it: the journal cannot be written.
        not_on_disk: bool,
    },
    /// Tell the operator.
    Notify(Notice),
    /// End the process. The last effect ever.
    Exit {
        /// Why.
        cause: Cause,
        /// How.
        ending: Ending,
    },
    /// Write a result that the hub will not take where an operator finds it, durably; answers with
    /// `RefusedResultWritten`. Writing it again changes nothing.
    KeepRefused {
        /// Which task.
        task_id: TaskId,
        /// For which hand-out.
        generation: u64,
        /// A JSON object.
        result: Arc<str>,
    },
}

/// A WebSocket close code with its reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum CloseCode {
    /// 1012: we come back.
    Restarting,
    /// 1001: we may not.
    Stopping,
    /// 1001: we take no tasks, and this hub knows no other way to hear of it.
    Cordoned,
    /// 1000: the link is of no use.
    Unusable,
}

impl CloseCode {
    /// The code on the wire (RFC 6455 and its registry).
    pub const fn code(self) -> u16 {
        match self {
            Self::Restarting => 1012,
            Self::Stopping | Self::Cordoned => 1001,
            Self::Unusable => 1000,
        }
    }

    /// The reason on the wire.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Restarting => "restarting",
            Self::Stopping => "stopping",
            Self::Cordoned => "draining",
            Self::Unusable => "reconnecting",
        }
    }
}

/// What is worth an operator's eye beyond the log of events and effects.
#[derive(Debug, Clone, PartialEq, Eq, Hash, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Notice {
    /// The hub does not know this token or agent.
    IdentifyRefused {
        /// The hub's word.
        error: String,
    },
    /// An assignment was not taken.
    AssignmentRefused {
        /// Which task.
        task_id: String,
        /// Why.
        why: RejectReason,
    },
    /// The hub knows us on a new connection.
    Connected {
        /// The restart that this run returned from, the first time a hub is told of it.
        returned: Option<ReturnedFrom>,
    },
    /// A task was taken.
    TaskTaken {
        /// Which.
        task_id: TaskId,
    },
    /// A verdict on a task was reached.
    VerdictReached {
        /// Which task.
        task_id: TaskId,
        /// Whether it was completed, and not failed.
        completed: bool,
    },
    /// A commanded restart was accepted.
    RestartAccepted {
        /// The command's reason.
        reason: String,
        /// Names the command, where the hub does that.
        command_id: Option<String>,
        /// Who asked, where known.
        by: Option<String>,
    },
    /// The program at this process's path cannot start: the restart goes on with the one that runs.
    GoesOnAsItIs {
        /// Why it cannot.
        why: String,
    },
    /// A commanded restart was refused.
    RestartRefused {
        /// The command's reason.
        reason: String,
        /// Why.
        detail: String,
    },
    /// The journal cannot be written.
    JournalFailing,
    /// It can again.
    JournalRecovered,
    /// A verdict was not taken.
    VerdictRefused {
        /// Which task.
        task_id: TaskId,
        /// Whether its result is kept in case the task comes back.
        kept: bool,
    },
    /// A restart was taken back before it happened.
    RestartCancelled {
        /// The command's reason.
        reason: String,
    },
    /// An operator wants no new task to be taken, or tasks to be taken again.
    Cordoned {
        /// Whether none are taken.
        on: bool,
    },
    /// The hub took a task back that is under way; the work is kept in case it comes back.
    TaskTakenBack {
        /// Which task.
        task_id: TaskId,
    },
    /// A verdict was refused in words that are no answer, and is said again.
    VerdictRefusedInOtherWords {
        /// Which task.
        task_id: TaskId,
        /// How often so far.
        times: u8,
        /// The hub's words.
        error: String,
    },
    /// A verdict is given up.
    VerdictGivenUp {
        /// Which task.
        task_id: TaskId,
        /// What the hub said last.
        error: String,
        /// Where its result lies now; none for a `task_failed`.
        kept: Option<String>,
    },
}

/// Why an assignment is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum RejectReason {
    /// There is a job, or the journal cannot take one.
    Busy,
    /// No new work before the restart.
    Restarting,
    /// No new work before the operator says `resume`; `busy` to a hub without the feature `cordon`.
    Draining,
    /// The task id is no plain name.
    Invalid,
}

/// What the sidecar can say. The adapter makes frames of it and adds what never changes (agent id, token, version).
#[derive(Debug, Clone, PartialEq, Eq, Hash, strum::EnumDiscriminants)]
#[strum_discriminants(name(ToHubName), derive(Hash, strum::IntoStaticStr, strum::EnumIter, strum::Display))]
#[strum_discriminants(strum(serialize_all = "snake_case"), doc = "The names of what the sidecar says.")]
pub enum ToHub {
    /// The first words on a connection.
    Identify {
        /// What presence shows.
        status: String,
        /// The restart that this run returned from.
        restarted: Option<ReturnedFrom>,
    },
    /// Heartbeat.
    Ping,
    /// What presence shows.
    Status {
        /// The text.
        status: String,
    },
    /// The task is ours.
    TaskAccepted {
        /// Which task.
        task_id: TaskId,
    },
    /// The task is not taken.
    TaskRejected {
        /// The id as it came.
        task_id: String,
        /// Its generation.
        generation: u64,
        /// Why.
        reason: RejectReason,
    },
    /// The task lives.
    TaskProgress {
        /// Which task.
        task_id: TaskId,
    },
    /// The task is done.
    TaskComplete {
        /// Which task.
        task_id: TaskId,
        /// For which hand-out.
        generation: u64,
        /// A JSON object.
        result: Arc<str>,
    },
    /// The task failed.
    TaskFailed {
        /// Which task; raw, since a task id that is no plain name fails too.
        task_id: String,
        /// For which hand-out.
        generation: u64,
        /// Why.
        reason: String,
    },
    /// Is this task still ours?
    TaskRecovering {
        /// The task.
        task: Task,
        /// How far it had come.
        last_status: &'static str,
    },
    /// We have this task; is it still ours?
    StateReport {
        /// Which task.
        task_id: TaskId,
        /// Its generation.
        generation: u64,
        /// How far it has come.
        status: &'static str,
        /// When the hub assigned it.
        assigned_at: Option<u64>,
    },
    /// How a wake went.
    WakeResult {
        /// Which task.
        task_id: TaskId,
        /// Which attempt; absent when the confirmation, not the command, timed out.
        attempt: Option<u8>,
        /// How.
        report: WakeReport,
    },
    /// What became of a restart command (only to a hub that knows it).
    RestartAck {
        /// The command.
        command_id: String,
        /// What became of it.
        answer: RestartAnswer,
    },
    /// Whether tasks are taken at all (only to a hub that knows it).
    Cordon {
        /// None are taken.
        on: bool,
    },
    /// The last words before a restart.
    AgentRestarting {
        /// The restart.
        restart: OpenRestart,
        /// The task that is left under way.
        task_id: Option<TaskId>,
        /// Whether the hub knows the long form.
        long_form: bool,
    },
}

/// The restart that this run returned from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ReturnedFrom {
    /// The restart.
    pub restart: OpenRestart,
    /// From the drain's begin to now, ms.
    pub gap_ms: u64,
}

/// How a wake went, for the hub.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum WakeReport {
    /// The command exited 0.
    Success,
    /// It did not.
    Failed {
        /// For people.
        error: String,
    },
    /// The command, or the agent's confirmation, took too long.
    TimedOut {
        /// Which.
        error: String,
    },
}

/// What became of a restart command.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RestartAnswer {
    /// It will happen.
    Accepted {
        /// The latest a running task is left behind, ms from now.
        deadline_ms: u64,
    },
    /// It is under way or done.
    Duplicate,
    /// It will not happen.
    Refused {
        /// Why.
        detail: String,
    },
}
