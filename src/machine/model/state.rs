//! The five states. Each holds exactly what it needs, so that a restart without a cause, a drain without a deadline or
//! a second job cannot be written down.

use crate::machine::model::job::{Job, PersistedJob};
use crate::machine::model::policy::RestartMethod;
use crate::machine::model::restart_ledger::RestartOrder;
use crate::machine::model::time::Timestamp;

/// Where the sidecar is in its life.
#[derive(Debug, Clone, PartialEq, Eq, Hash, strum::EnumDiscriminants)]
#[strum_discriminants(
    name(Phase),
    derive(Hash, PartialOrd, Ord, strum::IntoStaticStr, strum::EnumIter, strum::Display)
)]
#[strum_discriminants(doc = "The names of the states: the one source of them for logs, status, docs and tests.")]
pub enum State {
    /// No task.
    Idle,
    /// One task.
    Working {
        /// The task.
        job: Job,
    },
    /// One task, and a restart as soon as it ends.
    RestartPending {
        /// The task.
        job: Job,
        /// The first command.
        order: RestartOrder,
        /// When the task will be left behind; no repeat moves it.
        deadline: Timestamp,
    },
    /// No new work: what is still to be said is said, then the link is closed.
    Draining {
        /// Why.
        cause: Cause,
        /// When it ends, whatever has been said.
        deadline: Timestamp,
        /// How far the last words have come.
        step: DrainStep,
        /// The task that is left behind; the journal keeps it.
        left: Option<PersistedJob>,
    },
    /// The process ends.
    Exiting {
        /// Why.
        cause: Cause,
        /// The task that is left behind; the journal keeps it.
        left: Option<PersistedJob>,
    },
}

/// How far the last words have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum DrainStep {
    /// Verdicts are being delivered.
    Flushing,
    /// The goodbye is said; the peer's close frame is awaited.
    Closing,
    /// There is nothing more to say; what was asked of the next run is awaited.
    Checking,
}

/// Why the sidecar leaves.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Cause {
    /// A commanded restart.
    Restart {
        /// The first command.
        order: RestartOrder,
        /// Work is left under way.
        forced: bool,
        /// A stop signal came on top: the next one ends the process at once.
        signalled: bool,
        /// What follows this process.
        next_run: NextRun,
    },
    /// A stop signal, or the supervisor's message.
    Stop {
        /// Which.
        signal: StopSignal,
    },
}

/// What follows a process that leaves for a restart. It is asked anew when the sidecar begins to leave: what the restart was
/// promised by may have changed while the task went on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NextRun {
    /// Not known yet.
    Asked {
        /// Names the question.
        number: u32,
    },
    /// Known.
    Found(Ending),
}

/// How a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum Ending {
    /// Exit 0: the supervisor starts the next run, or the process was told to stop.
    Exit,
    /// The process replaces itself (`exec`, same pid) by the program at its path: nobody would start it again.
    InPlace,
    /// The process replaces itself by the very program that it runs: the one at its path cannot start.
    InPlaceAsIs,
}

impl NextRun {
    /// What the answer of the supervisor and of the next program means. An old program is better than none.
    pub const fn of(restart_method: RestartMethod, cannot_start: bool) -> Self {
        Self::Found(match (cannot_start, restart_method) {
            (true, RestartMethod::Supervisor | RestartMethod::InPlace) => Ending::InPlaceAsIs,
            (false, RestartMethod::Supervisor) => Ending::Exit,
            (false, RestartMethod::InPlace) => Ending::InPlace,
        })
    }
}

impl Cause {
    /// How the process is to end. What was not found out in time counts as "nobody brings it back".
    pub const fn ending(&self) -> Ending {
        match self {
            Self::Restart { signalled: false, next_run: NextRun::Found(ending), .. } => *ending,
            Self::Restart { signalled: false, next_run: NextRun::Asked { .. }, .. } => Ending::InPlace,
            Self::Restart { signalled: true, .. } | Self::Stop { .. } => Ending::Exit,
        }
    }

    /// Whether it matters what follows this process, and is not known yet.
    pub const fn awaits_check(&self) -> bool {
        match self {
            Self::Restart { signalled: false, next_run: NextRun::Asked { .. }, .. } => true,
            Self::Restart { .. } | Self::Stop { .. } => false,
        }
    }
}

/// What asked us to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::Display, strum::EnumIter)]
pub enum StopSignal {
    /// SIGINT: pm2's stop, restart, reload and delete; Ctrl-C.
    #[strum(serialize = "SIGINT")]
    Interrupt,
    /// SIGTERM: systemd and people.
    #[strum(serialize = "SIGTERM")]
    Terminate,
    /// pm2's `shutdown` message (`shutdown_with_message`).
    #[strum(serialize = "pm2 shutdown message")]
    SupervisorMessage,
}

impl State {
    /// The state's name.
    pub fn phase(&self) -> Phase {
        Phase::from(self)
    }

    /// The job in hand.
    pub fn job(&self) -> Option<&Job> {
        match self {
            Self::Working { job } | Self::RestartPending { job, .. } => Some(job),
            Self::Idle | Self::Draining { .. } | Self::Exiting { .. } => None,
        }
    }

    /// The same, to be changed.
    pub fn job_mut(&mut self) -> Option<&mut Job> {
        match self {
            Self::Working { job } | Self::RestartPending { job, .. } => Some(job),
            Self::Idle | Self::Draining { .. } | Self::Exiting { .. } => None,
        }
    }

    /// What the journal keeps of the job, in hand or left behind.
    pub fn persisted(&self) -> Option<&PersistedJob> {
        match self {
            Self::Idle => None,
            Self::Working { job } | Self::RestartPending { job, .. } => Some(&job.persisted),
            Self::Draining { left, .. } | Self::Exiting { left, .. } => left.as_ref(),
        }
    }

    /// What presence shows of the work in hand.
    pub fn work_status(&self) -> &'static str {
        if self.job().is_some() { "working" } else { "idle" }
    }

    /// Whether it leaves without meaning to come back by itself.
    pub fn stops_for_good(&self) -> bool {
        match self {
            Self::Draining { cause, .. } | Self::Exiting { cause, .. } => match cause {
                Cause::Stop { .. } | Cause::Restart { signalled: true, .. } => true,
                Cause::Restart { signalled: false, .. } => false,
            },
            Self::Idle | Self::Working { .. } | Self::RestartPending { .. } => false,
        }
    }

    /// Whether the sidecar is past the point of taking work.
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
        [State::Idle, State::Working { job: Job::fresh(task, None, NOW, &Policy::default()) }]
    }

    fn pending() -> State {
        let [_, State::Working { job }] = staying() else { panic!() };
        State::RestartPending { job, order: order(), deadline: NOW }
    }

    fn leaving(cause: &Cause) -> [State; 2] {
        let (step, left) = (DrainStep::Flushing, None);
        let draining = State::Draining { cause: cause.clone(), deadline: NOW, step, left: None };
        [draining, State::Exiting { cause: cause.clone(), left }]
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
