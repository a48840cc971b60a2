//! What has happened: past facts, as the adapters report them.

use alloc::string::String;

use crate::machine::model::connection::{Features, Jitter};
use crate::machine::model::news::News;
use crate::machine::model::policy::RestartMethod;
use crate::machine::model::reply::Ticket;
use crate::machine::model::restart_ledger::RestartOrder;
use crate::machine::model::state::StopSignal;
use crate::machine::model::task::{Outcome, Task, TaskId};

/// Something that has happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash, strum::EnumDiscriminants)]
#[strum_discriminants(name(EventName), derive(Hash, strum::IntoStaticStr, strum::EnumIter, strum::Display))]
#[strum_discriminants(doc = "The names of the events.")]
pub enum Event {
    /// The time that [`crate::machine::Machine::deadline`] named has come.
    DeadlineReached,
    /// The dialled connection stands.
    HubOpened,
    /// The connection is gone, or could not be made. Exactly once a dial.
    HubClosed {
        /// The hub named a time before which it will not have us.
        retry_after_ms: Option<u64>,
        /// A draw for the reconnect.
        jitter: Jitter,
        /// For people: the hub ended it because of what it had read.
        refusal: Option<String>,
    },
    /// The hub said something.
    HubSaid(FromHub),
    /// The wake command ended.
    WakeFinished {
        /// Which task.
        task_id: TaskId,
        /// The hand-out it was ordered for.
        generation: u64,
        /// The attempt it was ordered as.
        attempt: u8,
        /// How.
        outcome: WakeOutcome,
    },
    /// The agent has shown that it works on the task.
    Confirmed {
        /// Which task.
        task_id: TaskId,
    },
    /// The agent's result is there.
    ResultFound {
        /// Which task.
        task_id: TaskId,
        /// What it says.
        outcome: Outcome,
    },
    /// The result hook has looked at a result.
    ResultReviewed {
        /// The question that is answered.
        number: u32,
        /// What counts.
        outcome: Outcome,
    },
    /// The results folder was looked at. Whatever was found there was reported BEFORE this.
    ResultsLookedFor {
        /// The question that is answered.
        number: u32,
    },
    /// Somebody wants the process to end.
    StopRequested {
        /// How it was said.
        signal: StopSignal,
    },
    /// A restart was asked for on this machine, by an operator or the library's user.
    RestartRequested {
        /// The command.
        order: RestartOrder,
        /// Who is to be answered, if anybody waits for it.
        to: Option<Ticket>,
    },
    /// An operator on this machine takes a restart back that has not begun.
    RestartCancelRequested {
        /// Who is to be answered.
        to: Option<Ticket>,
    },
    /// An operator on this machine wants no new task to be taken, or (`on: false`) tasks to be taken again.
    CordonRequested {
        /// Whether to take none.
        on: bool,
        /// Who is to be answered.
        to: Option<Ticket>,
    },
    /// It was found out what would follow this process.
    NextRunChecked {
        /// The question that is answered.
        number: u32,
        /// Who would start the next run.
        restart_method: RestartMethod,
        /// Why the program that would be started cannot, where it cannot: for people, with what to do.
        cannot_start: Option<String>,
    },
    /// There is something that could be told to the hub.
    NewsOffered(News),
    /// The journal that was ordered to be written is on disk.
    Persisted,
    /// It is not.
    PersistFailed,
    /// The answer to [`crate::machine::Effect::KeepRefused`].
    RefusedResultWritten {
        /// Which task.
        task_id: TaskId,
        /// The hand-out.
        generation: u64,
        /// For people: where the result lies now; none where it could not be written.
        path: Option<String>,
    },
}

/// How a wake command ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum WakeOutcome {
    /// Exit code 0.
    Succeeded,
    /// It did not start, exited otherwise, or died of a signal.
    Failed {
        /// For people: what happened, with the end of what it wrote; at most 2,000 characters in all.
        error: String,
    },
    /// It ran too long and was ended.
    TimedOut {
        /// The limit, ms.
        after_ms: u64,
    },
    /// Nothing was started, and another try would end the same way.
    Refused {
        /// For people: why.
        reason: String,
    },
}

/// What a hub can say that matters here. The adapter has read the frame; task ids in answers stay raw text, since an
/// answer about a task that we cannot hold matches nothing anyway.
#[derive(Debug, Clone, PartialEq, Eq, Hash, strum::EnumDiscriminants)]
#[strum_discriminants(name(FromHubName), derive(Hash, strum::IntoStaticStr, strum::EnumIter, strum::Display))]
#[strum_discriminants(strum(serialize_all = "snake_case"), doc = "The names of what the hub says.")]
pub enum FromHub {
    /// We are known.
    Identified {
        /// What this hub can do.
        features: Features,
    },
    /// We are not.
    IdentifyRefused {
        /// The hub's word for why.
        error: String,
    },
    /// A task is handed out to us.
    Assigned {
        /// The task.
        task: Task,
        /// When, by the hub's clock (ms since the epoch).
        assigned_at: Option<u64>,
    },
    /// A task whose id is no plain name is handed out to us.
    AssignedInvalid {
        /// The id as it came.
        task_id: String,
        /// Its generation.
        generation: u64,
        /// What is wrong with it.
        why: String,
    },
    /// `task_accepted` was taken.
    AcceptAcknowledged {
        /// Which task.
        task_id: String,
    },
    /// A verdict was taken.
    VerdictAcknowledged {
        /// Which task.
        task_id: String,
    },
    /// A verdict was answered with an error, which names no task.
    VerdictRefused {
        /// Whether it was a `task_complete` (else a `task_failed`).
        complete: bool,
        /// What follows.
        why: VerdictRefusal,
    },
    /// The recovering task is still ours.
    TaskContinue {
        /// Which task.
        task_id: String,
        /// Its generation by now, where the hub says it.
        generation: Option<u64>,
    },
    /// The recovering task is not ours any more.
    TaskReassigned {
        /// Which task.
        task_id: String,
    },
    /// The task is not wanted any more.
    TaskCancelled {
        /// Which task.
        task_id: String,
    },
    /// The answer to `state_report`.
    ReportAnswered {
        /// Which task.
        task_id: String,
        /// The task is still ours.
        go_on: bool,
    },
    /// The hub does not know `state_report`: it has no view of its own of whose the task is.
    ReportNotUnderstood,
    /// Finish and restart.
    RestartCommanded(RestartOrder),
    /// Something of ours was dropped for its rate.
    RateLimited {
        /// When to try again, ms from now.
        retry_after_ms: u64,
    },
    /// We left: the hub has forgotten this connection, and what it has for us goes nowhere.
    Forgotten,
    /// A pong, or anything else without a meaning here: a sign of life.
    SignOfLife,
    /// An error that is no answer to anything that we say: it is about the verdict in flight, if there is one.
    RefusedInOtherWords {
        /// Whether it is about a `task_complete` (else a `task_failed`), where the hub says that.
        complete: Option<bool>,
        /// The hub's words.
        error: String,
    },
}

/// Why a hub would not take a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VerdictRefusal {
    /// The task was handed out anew since (`stale_generation`), or is in no state to be ended (`invalid_state`):
    /// the work may still count when the same task comes back.
    NotNow,
    /// The hub does not know the task (`not_found`).
    Never,
}
