//! What must survive a crash, and what is known to have reached the disk.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::machine::model::job::PersistedJob;
use crate::machine::model::late_session::LateSession;
use crate::machine::model::outbox::Verdict;
use crate::machine::model::parked_work::ParkedTask;
use crate::machine::model::restart_ledger::RestartLedger;
use crate::machine::model::time::Timestamp;

/// Everything that must survive. The store writes it whole (`queue.json`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Journal {
    /// The task in hand or left behind.
    pub job: Option<PersistedJob>,
    /// Work that the hub took back.
    pub parked: Vec<ParkedTask>,
    /// Sessions that may yet show themselves though their task was given up.
    pub late_sessions: Vec<LateSession>,
    /// Verdicts without an answer.
    pub outbox: Vec<Verdict>,
    /// Commanded restarts.
    pub restarts: RestartLedger,
    /// An operator wants no new task to be taken: that outlives a restart.
    pub cordoned: bool,
}

/// How the machine's journal stands to the one on disk.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Disk {
    /// No write is under way.
    Ready,
    /// A write is under way; its outcome is the next event.
    Writing {
        /// What is being written.
        journal: Box<Journal>,
        /// The write before it failed.
        failing: bool,
    },
    /// The last write failed. It is tried again whether or not anything changed: no task is taken before one succeeds.
    Failing {
        /// When to try again.
        retry_at: Timestamp,
    },
}
