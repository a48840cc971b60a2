//! The five states. Each holds exactly what it needs, so that a restart without a cause, a drain without a deadline or
//! a second job cannot be represented.

use crate::machine::model::job::{Job, PersistedJob};
use crate::machine::model::policy::RestartMethod;
use crate::machine::model::restart_ledger::RestartOrder;
use crate::machine::model::time::Timestamp;

/// The sidecar's lifecycle state.
#[derive(Debug, Clone, PartialEq, Eq, Hash, strum::EnumDiscriminants)]
#[strum_discriminants(
    name(Phase),
    derive(Hash, PartialOrd, Ord, strum::IntoStaticStr, strum::EnumIter, strum::Display)
)]
#[strum_discriminants(doc = "The names of the states, as used in logs, status, docs and tests.")]
pub enum State {
    /// There is no task.
    Idle,
    /// There is one task.
    Working {
        /// The task.
        job: Job,
    },
    /// There is one task, and a restart follows as soon as it ends.
    RestartPending {
        /// The task.
        job: Job,
        /// The first restart command.
        order: RestartOrder,
        /// The time at which the task is left behind; no repeat moves it.
        deadline: Timestamp,
    },
    /// No new work is taken: outstanding messages are sent, then the connection is closed.
    Draining {
        /// The reason for leaving.
        cause: Cause,
        /// The time at which the process ends, whatever has been sent.
        deadline: Timestamp,
        /// The step of the drain.
        step: DrainStep,
        /// The task that is left behind; the journal holds it.
        left_behind: Option<PersistedJob>,
    },
    /// The process is ending.
    Exiting {
        /// The reason for leaving.
        cause: Cause,
        /// The task that is left behind; the journal holds it.
        left_behind: Option<PersistedJob>,
    },
}

/// A step of the drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum DrainStep {
    /// Verdicts are being sent.
    Flushing,
    /// The goodbye is sent; the hub's close frame is awaited.
    Closing,
    /// There is nothing more to send; the answer about the next run is awaited.
    Checking,
}

/// The reason why the sidecar leaves.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Cause {
    /// A commanded restart.
    Restart {
        /// The first restart command.
        order: RestartOrder,
        /// Whether work is left under way.
        forced: bool,
        /// Whether a stop signal came during the restart; the next one ends the process at once.
        signalled: bool,
        /// What starts the next run.
        next_run: NextRun,
    },
    /// A stop signal or the supervisor's message.
    Stop {
        /// The signal.
        signal: StopSignal,
    },
}

/// What starts the next run after a process that leaves for a restart. It is checked again when the drain begins,
/// because the answer that the promise was based on may have changed while the task went on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NextRun {
    /// The answer is not known yet.
    Asked {
        /// The question's number.
        number: u32,
    },
    /// The answer is known.
    Found(Ending),
}

/// The way in which a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum Ending {
    /// Exit with code 0: the supervisor starts the next run, or the process was told to stop.
    Exit,
    /// The process replaces itself (`exec`, same pid) by the program at its path, because no supervisor would start it
    /// again.
    InPlace,
    /// The process replaces itself by the program that it runs, because the one at its path cannot start.
    InPlaceAsIs,
}

impl NextRun {
    /// Returns the ending for the answers about the supervisor and the next program. An old program is better than
    /// none.
    pub const fn of(restart_method: RestartMethod, cannot_start: bool) -> Self {
        Self::Found(match (cannot_start, restart_method) {
            (true, RestartMethod::Supervisor | RestartMethod::InPlace) => Ending::InPlaceAsIs,
            (false, RestartMethod::Supervisor) => Ending::Exit,
            (false, RestartMethod::InPlace) => Ending::InPlace,
        })
    }
}

impl Cause {
    /// Returns how the process ends. Without an answer in time it is assumed that no supervisor would start it again.
    pub const fn ending(&self) -> Ending {
        match self {
            Self::Restart { signalled: false, next_run: NextRun::Found(ending), .. } => *ending,
            Self::Restart { signalled: false, next_run: NextRun::Asked { .. }, .. } => Ending::InPlace,
            Self::Restart { signalled: true, .. } | Self::Stop { .. } => Ending::Exit,
        }
    }

    /// Returns whether the ending depends on an answer that is not known yet.
    pub const fn awaits_check(&self) -> bool {
        match self {
            Self::Restart { signalled: false, next_run: NextRun::Asked { .. }, .. } => true,
            Self::Restart { .. } | Self::Stop { .. } => false,
        }
    }
}

/// The source of a stop request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::Display, strum::EnumIter)]
pub enum StopSignal {
    /// SIGINT: pm2's stop, restart, reload and delete; Ctrl-C.
    #[strum(serialize = "SIGINT")]
    Interrupt,
    /// SIGTERM: systemd and operators.
    #[strum(serialize = "SIGTERM")]
    Terminate,
    /// pm2's `shutdown` message (`shutdown_with_message`).
    #[strum(serialize = "pm2 shutdown message")]
    SupervisorMessage,
}

impl State {
    /// Returns the state's name.
    pub fn phase(&self) -> Phase {
        Phase::from(self)
    }

    /// Returns the job in hand.
    pub fn job(&self) -> Option<&Job> {
        match self {
            Self::Working { job } | Self::RestartPending { job, .. } => Some(job),
            Self::Idle | Self::Draining { .. } | Self::Exiting { .. } => None,
        }
    }

    /// Returns the job in hand mutably.
    pub fn job_mut(&mut self) -> Option<&mut Job> {
        match self {
            Self::Working { job } | Self::RestartPending { job, .. } => Some(job),
            Self::Idle | Self::Draining { .. } | Self::Exiting { .. } => None,
        }
    }

    /// Returns the journalled part of the job, in hand or left behind.
    pub fn persisted(&self) -> Option<&PersistedJob> {
        match self {
            Self::Idle => None,
            Self::Working { job } | Self::RestartPending { job, .. } => Some(&job.persisted),
            Self::Draining { left_behind, .. } | Self::Exiting { left_behind, .. } => left_behind.as_ref(),
        }
    }

    /// Returns the status text for the work in hand.
    pub fn work_status(&self) -> &'static str {
        if self.job().is_some() { "working" } else { "idle" }
    }

    /// Returns whether the sidecar leaves without starting again by itself.
    pub fn stops_for_good(&self) -> bool {
        match self {
            Self::Draining { cause, .. } | Self::Exiting { cause, .. } => match cause {
                Cause::Stop { .. } | Cause::Restart { signalled: true, .. } => true,
                Cause::Restart { signalled: false, .. } => false,
            },
            Self::Idle | Self::Working { .. } | Self::RestartPending { .. } => false,
        }
    }

    /// Returns whether the sidecar ends because it was told to stop.
    pub fn is_stopped(&self) -> bool {
        match self {
            Self::Draining { cause, .. } | Self::Exiting { cause, .. } => match cause {
                Cause::Stop { .. } => true,
                Cause::Restart { .. } => false,
            },
            Self::Idle | Self::Working { .. } | Self::RestartPending { .. } => false,
        }
    }

    /// Returns whether the sidecar takes no more work because it is leaving.
    pub fn is_leaving(&self) -> bool {
        match self {
            Self::Idle | Self::Working { .. } => false,
            Self::RestartPending { .. } | Self::Draining { .. } | Self::Exiting { .. } => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{Policy, Task, TaskId};

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn order() -> RestartOrder {
        RestartOrder { reason: "r".into(), command_id: None, deadline_ms: None, force: false, by: None }
    }

    fn staying() -> [State; 2] {
        let task = Task { id: TaskId::new("t").unwrap(), generation: 1, payload: "{}".into() };
        [State::Idle, State::Working { job: Job::fresh(task, None, None, NOW, &Policy::default()) }]
    }

    fn pending() -> State {
        let [_, State::Working { job }] = staying() else { panic!() };
        State::RestartPending { job, order: order(), deadline: NOW }
    }

    fn leaving(cause: &Cause) -> [State; 2] {
        let (step, left_behind) = (DrainStep::Flushing, None);
        let draining = State::Draining { cause: cause.clone(), deadline: NOW, step, left_behind: None };
        [draining, State::Exiting { cause: cause.clone(), left_behind }]
    }

    #[test]
    fn a_stop_is_for_good_and_a_restart_is_not_unless_a_signal_joined_it() {
        let next_run = NextRun::Found(Ending::Exit);
        let restart = |signalled| Cause::Restart { order: order(), forced: false, signalled, next_run };
        let stop = Cause::Stop { signal: StopSignal::Terminate };
        assert!(leaving(&stop).iter().chain(&leaving(&restart(true))).all(State::stops_for_good));
        assert!(!leaving(&restart(false)).iter().chain(&staying()).chain([&pending()]).any(State::stops_for_good));
    }

    #[test]
    fn a_sidecar_leaves_from_the_command_on() {
        let stop = Cause::Stop { signal: StopSignal::Terminate };
        assert!(leaving(&stop).iter().chain([&pending()]).all(State::is_leaving));
        assert!(!staying().iter().any(State::is_leaving));
    }

    #[test]
    fn presence_shows_work_while_there_is_a_job() {
        let shown = [&staying()[0], &staying()[1], &pending()].map(State::work_status);
        assert_eq!(shown, ["idle", "working", "working"]);
    }
}
