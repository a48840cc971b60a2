//! The whole of a sidecar, as a value.

use alloc::vec::Vec;

use crate::machine::model::connection::Connection;
use crate::machine::model::cordon::Cordon;
use crate::machine::model::job::{Ownership, Stage};
use crate::machine::model::journal::{Disk, Journal};
use crate::machine::model::late_session::LateSessions;
use crate::machine::model::outbox::Outbox;
use crate::machine::model::parked_work::ParkedWork;
use crate::machine::model::reply::PendingReply;
use crate::machine::model::restart_check::RestartCheck;
use crate::machine::model::restart_ledger::RestartLedger;
use crate::machine::model::state::State;
use crate::machine::model::task::{Task, TaskId};

/// The sidecar: what excludes is a sum ([`State`], [`Connection`], [`Disk`]), what coexists is this product.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Machine {
    /// Where it is in its life, with the task in hand.
    pub state: State,
    /// The connection to the hub.
    pub connection: Connection,
    /// Verdicts without an answer.
    pub outbox: Outbox,
    /// Work that the hub took back, in case it comes again.
    pub parked: ParkedWork,
    /// Sessions that may yet show themselves though their task was given up.
    pub late_sessions: LateSessions,
    /// Commanded restarts.
    pub restarts: RestartLedger,
    /// The journal being written.
    pub disk: Disk,
    /// The journal on disk.
    pub durable: Journal,
    /// An assignment that came while the hub was being asked about the task in hand, or during a check; taken or refused
    /// when the answer is there.
    pub deferred: Option<DeferredAssignment>,
    /// Restart commands that wait until it is known that the next run would start.
    pub check: Option<RestartCheck>,
    /// Answers to operators that wait for the disk.
    pub replies: Vec<PendingReply>,
    /// How many questions this process has asked, each named by its number.
    pub questions: u32,
    /// Whether new tasks are taken at all.
    pub cordon: Cordon,
}

/// An assignment that waits for the answer to a question.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DeferredAssignment {
    /// The task.
    pub task: Task,
    /// When the hub assigned it.
    pub assigned_at: Option<u64>,
}

impl Machine {
    /// What must survive a crash; when nothing is being written, equal to what is on disk.
    pub fn journal(&self) -> Journal {
        Journal {
            job: self.state.persisted().cloned(),
            parked: self.parked.items().to_vec(),
            late_sessions: self.late_sessions.items().to_vec(),
            outbox: self.outbox.to_journal(),
            restarts: self.restarts.clone(),
            cordoned: self.cordon.is_on(),
        }
    }

    /// What presence shows of work.
    pub fn presence(&self) -> &'static str {
        match self.cordon {
            Cordon::Off => self.state.work_status(),
            Cordon::On | Cordon::Away => "draining: takes no new task",
        }
    }

    /// The task whose files in the results folder are awaited. A recovering task's are left alone until the hub has
    /// said whose it is: they keep.
    pub fn watching(&self) -> Option<&TaskId> {
        let job = self.state.job()?;
        match (&job.ownership, &job.persisted.stage) {
            (Ownership::Recovering { .. }, _) | (Ownership::Ours { .. }, Stage::Accepted) => None,
            (Ownership::Ours { .. }, _) => Some(&job.task().id),
        }
    }
}
