//! The five states. Each holds exactly what it needs, so that a restart without a cause, a drain without a deadline or
//! a second job cannot be written down.

use super::job::{Carried, Job};
use super::restarts::RestartOrder;
use super::time::Timestamp;

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
        left: Option<Carried>,
    },
    /// The process ends.
    Exiting {
        /// Why.
        cause: Cause,
        /// The task that is left behind; the journal keeps it.
        left: Option<Carried>,
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
    },
    /// A stop signal, or the supervisor's message.
    Stop {
        /// Which.
        signal: StopSignal,
    },
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
    pub fn carried(&self) -> Option<&Carried> {
        match self {
            Self::Idle => None,
            Self::Working { job } | Self::RestartPending { job, .. } => Some(&job.carried),
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
