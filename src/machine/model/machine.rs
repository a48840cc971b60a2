//! The machine: the whole state of a sidecar as one value.

use alloc::vec::Vec;

use crate::machine::model::connection::Connection;
use crate::machine::model::cordon::Cordon;
use crate::machine::model::job::{Ownership, Stage};
use crate::machine::model::journal::{Disk, Journal, PreviousEnd};
use crate::machine::model::late_session::LateSessions;
use crate::machine::model::outbox::Outbox;
use crate::machine::model::parked_work::ParkedWork;
use crate::machine::model::reply::PendingReply;
use crate::machine::model::restart_check::RestartCheck;
use crate::machine::model::restart_ledger::RestartLedger;
use crate::machine::model::state::{Cause, DrainStep, State};
use crate::machine::model::task::{Task, TaskId};

/// The sidecar's state. Alternatives are enums ([`State`], [`Connection`], [`Disk`]); what coexists are the fields
/// here.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Machine {
    /// The lifecycle state, with the task in hand.
    pub state: State,
    /// The connection to the hub.
    pub connection: Connection,
    /// Verdicts without an answer.
    pub outbox: Outbox,
    /// Work that the hub reclaimed, in case the task is assigned again.
    pub parked: ParkedWork,
    /// Sessions that may still start although their task was given up.
    pub late_sessions: LateSessions,
    /// Commanded restarts.
    pub restarts: RestartLedger,
    /// The journal write.
    pub disk: Disk,
    /// The journal on disk.
    pub durable: Journal,
    /// An assignment that came while a question about the task in hand was open, or during a restart check; taken or
    /// refused once the answer has arrived.
    pub deferred: Option<Assignment>,
    /// The open restart check with the commands that wait for it.
    pub check: Option<RestartCheck>,
    /// Answers to operators that wait for the disk.
    pub replies: Vec<PendingReply>,
    /// The number of questions that this process has asked; the last one has this number.
    pub questions: u32,
    /// Whether new tasks are taken.
    pub cordon: Cordon,
    /// How the run before this one ended, until a hub has heard it.
    pub previous_end: PreviousEnd,
}

/// An assignment of a task.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Assignment {
    /// The task.
    pub task: Task,
    /// The time at which the hub assigned it, in ms since the epoch.
    pub assigned_at: Option<u64>,
    /// The time limit that the task asks for, in ms.
    pub timeout_ms: Option<u64>,
}

impl Machine {
    /// Returns what must survive a crash; equal to the journal on disk while no write is in progress.
    pub fn journal(&self) -> Journal {
        Journal {
            job: self.state.persisted().cloned(),
            parked: self.parked.items().to_vec(),
            late_sessions: self.late_sessions.items().to_vec(),
            outbox: self.outbox.to_journal(),
            restarts: self.restarts.clone(),
            cordoned: self.cordon.is_on(),
            stopped: self.state.is_stopped(),
        }
    }

    /// Returns whether the disk holds all that a drain must not leave without. That the process stops is no such thing: a
    /// disk that is full delays no stop.
    pub(in crate::machine) fn is_on_disk(&self) -> bool {
        Journal { stopped: self.durable.stopped, ..self.journal() } == self.durable
    }

    /// Returns the status text that the hub's presence shows.
    pub fn presence(&self) -> &'static str {
        match self.cordon {
            Cordon::Off => self.state.work_status(),
            Cordon::On | Cordon::Away => "draining: takes no new task",
        }
    }

    /// Returns whether a connection to the hub is wanted in the present state.
    pub(in crate::machine) fn wants_connection(&self) -> bool {
        match &self.state {
            State::Idle => self.cordon != Cordon::Away,
            State::Working { .. } | State::RestartPending { .. } => true,
            State::Draining { cause: Cause::Restart { .. }, step: DrainStep::Flushing, .. } => true,
            State::Draining { .. } | State::Exiting { .. } => false,
        }
    }

    /// Returns the task whose files in the results folder are awaited. The files of a recovering task are not read
    /// until the hub has answered; they remain.
    pub fn watching(&self) -> Option<&TaskId> {
        let job = self.state.job()?;
        match (&job.ownership, &job.persisted.stage) {
            (Ownership::Recovering { .. }, _) | (Ownership::Ours { .. }, Stage::Accepted) => None,
            (Ownership::Ours { .. }, _) => Some(&job.task().id),
        }
    }
}
