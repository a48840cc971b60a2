//! The hub's clock: one time, in ms since the epoch, that goes with the machine's monotonic clock and is moved to the wall
//! clock when somebody sets that one. A move is an event for the state: whatever is measured in it is moved as far, so no
//! wait gets shorter or longer (see "Time in the hub" in docs/architecture.md).

#[cfg(test)]
use std::sync::Arc;
#[cfg(test)]
use std::sync::atomic::{AtomicU64, Ordering};

use crate::common::{steady_clock, wall_clock};
use crate::hub::state::clock_mark::ClockMark;

/// The hub's time and the wall clock that differ by less than this are not moved, in ms: a clock is steered a little all the
/// time.
const TOLERANCE_MS: i64 = 1_000;
/// A move of at least this is logged, in ms.
const LOGGED_MS: u64 = 5_000;
/// The latest time that the hub believes, in ms since the epoch: the end of the year 9999. A timeout can be added to it.
const LATEST_MS: u64 = 253_402_300_799_999;

/// How far the hub's time was moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockMove {
    /// The time before, in ms since the epoch.
    pub from_ms: u64,
    /// The time since then, in ms since the epoch.
    pub to_ms: u64,
}

impl ClockMove {
    /// Returns how far, in ms; negative if the clock was set back.
    pub fn ms(self) -> i64 {
        self.to_ms.cast_signed().saturating_sub(self.from_ms.cast_signed())
    }

    /// Tells of the move, if it is one to be told of.
    pub fn log(self) {
        if self.ms().unsigned_abs() >= LOGGED_MS {
            let (from, to) = (wall_clock::utc(self.from_ms), wall_clock::utc(self.to_ms));
            tracing::warn!(
                from,
                to,
                "the machine's clock was set, or the machine was suspended: no timeout is changed by it, `complete_by` and the \
                 expiry of tokens and invitations go by the new time"
            );
        }
    }
}

/// The hub's clock, as of the last move. A copy goes on as the original does until that is moved.
#[derive(Debug, Clone)]
pub struct Clock {
    /// What the monotonic clock lacks to the hub's time, in ms.
    ahead_ms: i64,
    machine: Machine,
}

/// Where a clock reads the two clocks that it follows.
#[derive(Debug, Clone)]
enum Machine {
    Real,
    #[cfg(test)]
    Simulated(Arc<SimulatedMachine>),
}

impl Machine {
    fn wall_ms(&self) -> u64 {
        let wall_ms = match self {
            Self::Real => wall_clock::now_ms(),
            #[cfg(test)]
            Self::Simulated(machine) => machine.wall_ms.load(Ordering::SeqCst),
        };
        wall_ms.min(LATEST_MS)
    }

    fn steady_ms(&self) -> u64 {
        match self {
            Self::Real => steady_clock::now_ms(),
            #[cfg(test)]
            Self::Simulated(machine) => machine.steady_ms.load(Ordering::SeqCst),
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::of(Machine::Real)
    }
}

impl Clock {
    fn of(machine: Machine) -> Self {
        let mut clock = Self { ahead_ms: 0, machine };
        clock.move_to_wall();
        clock
    }

    /// Returns the hub's time, in ms since the epoch.
    pub fn now_ms(&self) -> u64 {
        self.steady_ms().saturating_add_signed(self.ahead_ms)
    }

    /// Returns the machine's monotonic clock, in ms.
    pub fn steady_ms(&self) -> u64 {
        self.machine.steady_ms()
    }

    /// Moves the hub's time to the wall clock, if they are apart.
    pub fn follow(&mut self) -> Option<ClockMove> {
        let moved = ClockMove { from_ms: self.now_ms(), to_ms: self.machine.wall_ms() };
        (moved.ms().abs() >= TOLERANCE_MS).then(|| {
            self.move_to_wall();
            ClockMove { to_ms: self.now_ms(), ..moved }
        })
    }

    /// Returns both clocks at this moment, for a hub that starts later.
    pub fn mark(&self) -> ClockMark {
        ClockMark { at_ms: self.now_ms(), steady_ms: self.steady_ms(), boot: ClockMark::this_boot() }
    }

    fn move_to_wall(&mut self) {
        self.ahead_ms = self.machine.wall_ms().cast_signed().saturating_sub(self.steady_ms().cast_signed());
    }
}

/// A machine whose clocks a test sets.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct SimulatedMachine {
    pub(crate) wall_ms: AtomicU64,
    pub(crate) steady_ms: AtomicU64,
}

#[cfg(test)]
impl SimulatedMachine {
    /// Creates a machine at this time, up for an hour.
    pub(crate) fn at(wall_ms: u64) -> Arc<Self> {
        Arc::new(Self { wall_ms: AtomicU64::new(wall_ms), steady_ms: AtomicU64::new(3_600_000) })
    }

    /// Returns the clock of a hub on this machine.
    pub(crate) fn clock(self: &Arc<Self>) -> Clock {
        Clock::of(Machine::Simulated(self.clone()))
    }

    /// Lets time pass on both clocks.
    pub(crate) fn pass(&self, ms: u64) {
        self.wall_ms.fetch_add(ms, Ordering::SeqCst);
        self.steady_ms.fetch_add(ms, Ordering::SeqCst);
    }

    /// Sets the wall clock.
    pub(crate) fn set(&self, wall_ms: u64) {
        self.wall_ms.store(wall_ms, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOURS_MS: u64 = 3_600_000;
    const NOW: u64 = 1_795_506_418_903;

    #[test]
    fn a_clock_that_is_set_moves_the_hubs_time_and_a_copy_of_it_stays() {
        let machine = SimulatedMachine::at(NOW);
        let mut clock = machine.clock();
        machine.pass(70);
        assert_eq!((clock.now_ms(), clock.follow()), (NOW + 70, None));
        for (to, ms) in [(NOW + 8 * HOURS_MS, 8 * 3_600_000 - 70), (NOW, -8 * 3_600_000), (0, -NOW.cast_signed())] {
            let before = clock.clone();
            machine.set(to);
            let moved = clock.follow().unwrap();
            assert_eq!((moved.to_ms, moved.ms(), clock.now_ms()), (to, ms, to));
            assert_eq!((before.now_ms(), clock.follow()), (moved.from_ms, None));
        }
    }

    #[test]
    fn small_steps_are_taken_once_they_come_to_a_second() {
        let machine = SimulatedMachine::at(NOW);
        let mut clock = machine.clock();
        for ms in 1..1_000 {
            machine.set(NOW + ms);
            assert_eq!((clock.follow(), clock.now_ms()), (None, NOW));
        }
        machine.set(NOW + 1_000);
        assert_eq!(clock.follow().map(ClockMove::ms), Some(1_000));
        machine.set(NOW);
        assert_eq!(clock.follow().map(ClockMove::ms), Some(-1_000));
    }

    #[test]
    fn a_time_that_no_clock_shows_is_brought_into_what_can_be_reckoned_with() {
        let machine = SimulatedMachine::at(u64::MAX);
        let mut clock = machine.clock();
        assert_eq!(clock.now_ms(), LATEST_MS);
        machine.pass(0);
        machine.set(u64::MAX - 1);
        assert_eq!(clock.follow(), None);
        machine.set(0);
        assert_eq!(clock.follow().map(ClockMove::ms), Some(-LATEST_MS.cast_signed()));
        machine.steady_ms.fetch_add(5, Ordering::SeqCst);
        assert_eq!(clock.now_ms(), 5);
    }
}
