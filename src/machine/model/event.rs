//! Events: facts that the caller reports to the machine.

use alloc::string::String;

use crate::machine::model::connection::{Features, Jitter};
use crate::machine::model::news::News;
use crate::machine::model::policy::RestartMethod;
use crate::machine::model::reply::Ticket;
use crate::machine::model::restart_ledger::RestartOrder;
use crate::machine::model::state::StopSignal;
use crate::machine::model::task::{Outcome, Task, TaskId};

/// An event.
#[derive(Debug, Clone, PartialEq, Eq, Hash, strum::EnumDiscriminants)]
#[strum_discriminants(name(EventName), derive(Hash, strum::IntoStaticStr, strum::EnumIter, strum::Display))]
#[strum_discriminants(doc = "The names of the events.")]
pub enum Event {
    /// The deadline of [`crate::machine::Machine::deadline`] has been reached.
    DeadlineReached,
    /// The dialled connection is established.
    HubOpened,
    /// The connection is closed or could not be established. Exactly once for each dial.
    HubClosed {
        /// The time in ms before which the hub accepts no new connection, if it named one.
        retry_after_ms: Option<u64>,
        /// The random fraction for the reconnect.
        jitter: Jitter,
        /// The reason, for operators, if the hub closed it because of a message that it had read.
        refusal: Option<String>,
    },
    /// The hub sent a message.
    HubSaid(FromHub),
    /// The wake command ended.
    WakeFinished {
        /// The task's id.
        task_id: TaskId,
        /// The generation that it was ordered for.
        generation: u64,
        /// The number of the attempt that it was ordered as.
        attempt: u8,
        /// The command's outcome.
        outcome: WakeOutcome,
    },
    /// The agent has confirmed that it works on the task.
    Confirmed {
        /// The task's id.
        task_id: TaskId,
    },
    /// The agent's result was found.
    ResultFound {
        /// The task's id.
        task_id: TaskId,
        /// The result's outcome.
        outcome: Outcome,
    },
    /// The result hook has reviewed a result.
    ResultReviewed {
        /// The question's number.
        number: u32,
        /// The outcome that counts.
        outcome: Outcome,
    },
    /// The results folder was read. Every file found there was reported BEFORE this event.
    ResultsLookedFor {
        /// The question's number.
        number: u32,
    },
    /// A stop of the process was requested.
    StopRequested {
        /// The source of the request.
        signal: StopSignal,
    },
    /// A restart was requested on this machine, by an operator or by the program that uses the library.
    RestartRequested {
        /// The command.
        order: RestartOrder,
        /// The ticket for the answer, if a client waits for one.
        to: Option<Ticket>,
    },
    /// An operator on this machine cancels a restart that has not begun.
    RestartCancelRequested {
        /// The ticket for the answer.
        to: Option<Ticket>,
    },
    /// An operator on this machine wants no new tasks to be taken, or (`on: false`) tasks to be taken again.
    CordonRequested {
        /// Whether new tasks are refused.
        on: bool,
        /// The ticket for the answer.
        to: Option<Ticket>,
    },
    /// The check of the next run has an answer.
    NextRunChecked {
        /// The question's number.
        number: u32,
        /// The restart method for the next run.
        restart_method: RestartMethod,
        /// The reason why the next program cannot start, if it cannot: for operators, with a remedy.
        cannot_start: Option<String>,
    },
    /// The caller has news that may be passed on to the hub.
    NewsOffered(News),
    /// The ordered journal write succeeded.
    Persisted,
    /// The ordered journal write failed.
    PersistFailed,
    /// The answer to [`crate::machine::Effect::KeepRefused`].
    RefusedResultWritten {
        /// The task's id.
        task_id: TaskId,
        /// The verdict's generation.
        generation: u64,
        /// The path of the written result, for operators; `None` if it could not be written.
        path: Option<String>,
    },
}

/// The outcome of a wake command.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum WakeOutcome {
    /// It exited with code 0.
    Succeeded,
    /// It did not start, exited with another code, or was killed by a signal.
    Failed {
        /// A description for operators, with the end of the command's output; at most 2,000 characters in all.
        error: String,
    },
    /// It exceeded its time limit and was ended.
    TimedOut {
        /// The limit in ms.
        after_ms: u64,
    },
    /// Nothing was started, and another attempt would end in the same way.
    Refused {
        /// The reason, for operators.
        reason: String,
    },
}

/// A message from the hub. The caller has parsed the frame. Task ids in answers stay raw text: an answer with an
/// invalid id matches no task.
#[derive(Debug, Clone, PartialEq, Eq, Hash, strum::EnumDiscriminants)]
#[strum_discriminants(name(FromHubName), derive(Hash, strum::IntoStaticStr, strum::EnumIter, strum::Display))]
#[strum_discriminants(strum(serialize_all = "snake_case"), doc = "The names of the hub's messages.")]
pub enum FromHub {
    /// The hub knows this agent.
    Identified {
        /// The hub's features.
        features: Features,
    },
    /// The hub does not know this agent or refuses its token.
    IdentifyRefused {
        /// The hub's reason.
        error: String,
    },
    /// A task is assigned to this agent.
    Assigned {
        /// The task.
        task: Task,
        /// The time of the assignment by the hub's clock, in ms since the epoch.
        assigned_at: Option<u64>,
        /// The time limit that the task asks for, in ms.
        timeout_ms: Option<u64>,
    },
    /// A task with an invalid id is assigned to this agent.
    AssignedInvalid {
        /// The id as the hub sent it.
        task_id: String,
        /// The task's generation.
        generation: u64,
        /// The reason why the id is invalid.
        why: String,
    },
    /// The answer to `task_accepted`.
    AcceptAcknowledged {
        /// The task's id.
        task_id: String,
    },
    /// The hub has taken a verdict.
    VerdictAcknowledged {
        /// The task's id.
        task_id: String,
    },
    /// The hub answered a verdict with a known error.
    VerdictRefused {
        /// Whether the verdict was a `task_complete`, and not a `task_failed`.
        complete: bool,
        /// The kind of refusal.
        why: VerdictRefusal,
        /// The verdict, if the hub names it.
        of: Option<VerdictName>,
    },
    /// The recovering task is still assigned to this agent.
    TaskContinue {
        /// The task's id.
        task_id: String,
        /// The task's present generation, if the hub sends it.
        generation: Option<u64>,
    },
    /// The task is not assigned to this agent any more.
    TaskReassigned {
        /// The task's id.
        task_id: String,
        /// The last generation that this is about. Without one it answers the question about a recovering task.
        generation: Option<u64>,
    },
    /// The task is cancelled.
    TaskCancelled {
        /// The task's id.
        task_id: String,
    },
    /// The answer to `state_report`.
    ReportAnswered {
        /// The task's id.
        task_id: String,
        /// Whether the task is still assigned to this agent.
        go_on: bool,
    },
    /// The hub does not know `state_report` and does not tell whether the task is still assigned to this agent.
    ReportNotUnderstood,
    /// A restart command: finish the task and restart.
    RestartCommanded(RestartOrder),
    /// The hub dropped a message because of its rate limit.
    RateLimited {
        /// The time until the next attempt, in ms.
        retry_after_ms: u64,
    },
    /// The hub has forgotten this connection: its tasks and commands do not arrive here any more.
    Forgotten,
    /// A pong, or any other message without a meaning here: a sign of life.
    SignOfLife,
    /// An error that is not a known answer to any message: it concerns the verdict in flight, if there is one.
    RefusedInOtherWords {
        /// Whether it concerns a `task_complete`, and not a `task_failed`, if the hub tells.
        complete: Option<bool>,
        /// The hub's error text.
        error: String,
        /// The verdict, if the hub names it.
        of: Option<VerdictName>,
    },
}

/// The assignment that a verdict is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VerdictName {
    /// The task's id.
    pub task_id: String,
    /// The assignment's generation.
    pub generation: u64,
}

/// The kind of a verdict's refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VerdictRefusal {
    /// The task has been assigned again since (`stale_generation`), or its state does not permit a verdict
    /// (`invalid_state`): the work may still count when the same task is assigned again.
    NotNow,
    /// The hub does not know the task (`not_found`).
    Never,
}
