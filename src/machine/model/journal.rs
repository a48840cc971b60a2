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

    /// Moves every time `ms` later, or earlier if that is negative: as far as the clock was set since.
    #[must_use]
    pub fn moved_by(mut self, ms: i64) -> Self {
        // Every field is named: a new one must be placed.
        let Self { job, parked, late_sessions: _, outbox: _, restarts, cordoned: _, stopped: _ } = &mut self;
        job.iter_mut().for_each(|job| job.move_by(ms));
        for item in parked {
            match item {
                ParkedTask::UnderWay(persisted) => persisted.move_by(ms),
                ParkedTask::Finished { .. } => {}
            }
        }
        let RestartLedger { recent, open, returned, seen: _, cancelled: _ } = restarts;
        recent.iter_mut().for_each(|at| *at = at.moved_by(ms));
        let returned = returned.iter_mut().map(|returned| &mut returned.restart);
        for restart in open.iter_mut().chain(returned) {
            restart.leaving_at = restart.leaving_at.map(|at| at.moved_by(ms));
        }
        self
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::model::job::Stage;
    use crate::machine::model::restart_ledger::{OpenRestart, Returned};
    use crate::machine::model::task::{Task, TaskId};
    use crate::machine::model::time_limit::TimeLimit;

    #[test]
    fn a_clock_that_was_set_moves_every_time_and_nothing_else() {
        let at = Timestamp::from_millis;
        let job = |until| PersistedJob {
            task: Task { id: TaskId::new("t").unwrap(), generation: 1, payload: "{}".into() },
            stage: Stage::AwaitingConfirmation { until: at(until) },
            woken: Some(1),
            machine_boot: "m".into(),
            assigned_at: Some(7),
            limit: Some(TimeLimit::new(9, at(until))),
        };
        let restart =
            |left| OpenRestart { command_id: None, reason: "r".into(), forced: false, leaving_at: Some(at(left)) };
        let journal = |by: u64| Journal {
            job: Some(job(50 + by)),
            parked: alloc::vec![ParkedTask::UnderWay(job(60 + by))],
            restarts: RestartLedger {
                recent: alloc::vec![at(10 + by), at(20 + by)],
                open: Some(restart(30 + by)),
                returned: Some(Returned { restart: restart(5 + by) }),
                ..RestartLedger::default()
            },
            ..Journal::default()
        };
        assert_eq!(journal(0).moved_by(100), journal(100));
        assert_eq!(journal(100).moved_by(-100), journal(0));
    }
}
