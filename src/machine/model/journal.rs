//! The journal: the data that must survive a crash, and its state on disk.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::machine::model::job::PersistedJob;
use crate::machine::model::late_session::LateSession;
use crate::machine::model::outbox::Verdict;
use crate::machine::model::parked_work::ParkedTask;
use crate::machine::model::restart_ledger::RestartLedger;
use crate::machine::model::time::Timestamp;

/// Everything that must survive a crash. The store writes it as a whole (`queue.json`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Journal {
    /// The task in hand or left behind.
    pub job: Option<PersistedJob>,
    /// Work that the hub reclaimed.
    pub parked: Vec<ParkedTask>,
    /// Sessions that may still start although their task was given up.
    pub late_sessions: Vec<LateSession>,
    /// Verdicts without an answer.
    pub outbox: Vec<Verdict>,
    /// Commanded restarts.
    pub restarts: RestartLedger,
    /// Whether an operator wants no new tasks to be taken; survives a restart.
    pub cordoned: bool,
    /// Whether the process is stopping, or has stopped, because somebody wanted it to.
    pub stopped: bool,
}

/// How a run ended, as the next one finds it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum PreviousEnd {
    /// It was stopped by a signal or by the supervisor.
    Stopped,
    /// It left for a restart.
    Restarted,
    /// It crashed or was killed, or there was none.
    #[default]
    Unknown,
}

impl Journal {
    /// Returns how the run that left this journal ended.
    pub const fn previous_end(&self) -> PreviousEnd {
        match (&self.restarts.open, self.stopped) {
            (Some(_), _) => PreviousEnd::Restarted,
            (None, true) => PreviousEnd::Stopped,
            (None, false) => PreviousEnd::Unknown,
        }
    }
}

/// The state of the journal write.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Disk {
    /// No write is in progress.
    Ready,
    /// A write is in progress; its outcome is the next event.
    Writing {
        /// The journal that is being written.
        journal: Box<Journal>,
        /// Whether the write before it failed.
        failing: bool,
    },
    /// The last write failed. It is tried again whether or not the journal changed; no task is taken before one
    /// succeeds.
    Failing {
        /// The time of the next attempt.
        retry_at: Timestamp,
    },
}
