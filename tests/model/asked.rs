//! What the sidecar has asked and the rest of its machine has not answered: the supervisor and the next program, the
//! results folder, the result hook. Which question an answer is to decides everything, and its number nothing: the one
//! that the machine waits for is [`OPEN`], and any other [`STALE`].

use agentcom::machine::{Cause, Machine, NextRun, State};

/// The number of every question that the machine waits for.
pub const OPEN: u32 = 2;
/// The number of one that it does not wait for any more.
pub const STALE: u32 = 1;

/// Of each kind, whether an answer is on its way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Asked {
    pub check: bool,
    /// The answer to a check that is over.
    pub stale_check: bool,
    pub look: bool,
    pub review: bool,
}

/// The numbers, as the machine counts them.
#[derive(Debug, Clone, Copy)]
pub struct Numbers {
    pub check: Option<u32>,
    pub look: Option<u32>,
    pub review: Option<u32>,
}

impl Numbers {
    pub fn of(machine: &Machine) -> Self {
        let last = match &machine.state {
            State::Draining { cause: Cause::Restart { next_run: NextRun::Asked { number }, .. }, .. } => Some(*number),
            State::Draining { .. }
            | State::Idle
            | State::Working { .. }
            | State::RestartPending { .. }
            | State::Exiting { .. } => None,
        };
        let job = machine.state.job();
        Self {
            check: machine.check.as_ref().map(|check| check.number).or(last),
            look: job.and_then(|job| job.last_look).map(|look| look.number),
            review: job.and_then(|job| job.review.as_ref()).map(|review| review.number),
        }
    }
}

impl Asked {
    /// The machine has moved: what it does not wait for any more is over. `keeps`: an answer to a check may come late.
    pub fn moved(&mut self, open: Numbers, keeps: bool) {
        let still = |number: Option<u32>| number == Some(OPEN);
        if self.check && !still(open.check) {
            (self.check, self.stale_check) = (false, keeps);
        }
        self.look &= still(open.look);
        self.review &= still(open.review);
    }
}
