//! The machine's invariants in code, defined once: the daemon's debug build, the property tests and every model check
//! use them.
//!
//! [`check_step`] checks one transition by itself; [`History`] checks it against everything that happened before,
//! across crashes. Neither changes a machine.

mod durability;
mod history;
mod lifecycle;
mod property;
mod refusals;
mod restarts;
mod results;

use alloc::string::String;

pub use history::History;
pub use lifecycle::edge_allowed;
pub use property::{Property, Violation};

use super::{Effect, Event, Machine, Policy, Timestamp};

/// A record of one transition.
#[derive(Debug, Clone, Copy)]
pub struct StepRecord<'a> {
    /// The machine before.
    pub before: &'a Machine,
    /// The event.
    pub event: &'a Event,
    /// The time of the event.
    pub now: Timestamp,
    /// The policy in force.
    pub policy: &'a Policy,
    /// The machine after.
    pub after: &'a Machine,
    /// The ordered effects.
    pub effects: &'a [Effect],
}

fn violated(property: Property, detail: String) -> Result<(), Violation> {
    Err(Violation { property, detail })
}

/// Checks one transition by itself.
///
/// # Errors
/// The first property that does not hold.
pub fn check_step(step: &StepRecord<'_>) -> Result<(), Violation> {
    lifecycle::edges(step)?;
    lifecycle::nothing_started_while_leaving(step)?;
    durability::durable_first(step)?;
    durability::ownership(step)?;
    lifecycle::repeats(step)?;
    lifecycle::goodbye_order(step)?;
    lifecycle::work_left(step)?;
    lifecycle::deadlines(step)?;
    restarts::comes_back(step)?;
    restarts::answered(step)?;
    restarts::open_questions(step)?;
    lifecycle::no_new_work_behind_a_cordon(step)?;
    refusals::refusal_blocks_nothing(step)?;
    results::unread_is_kept(step)
}

#[cfg(test)]
mod tests;
