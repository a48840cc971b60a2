//! The restart check: restart commands wait for it until it is known whether the next run can start.

use alloc::vec::Vec;

use crate::machine::model::reply::Ticket;
use crate::machine::model::restart_ledger::RestartOrder;
use crate::machine::model::time::Timestamp;

/// The most commands that wait for one check; a further one is refused.
pub const PENDING_RESTARTS_CAP: usize = 8;

/// An open restart check. It exists only in `Idle` and `Working` and is not in the journal: after a crash its commands
/// were never accepted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RestartCheck {
    /// The question's number, so that an answer to an earlier one changes nothing.
    pub number: u32,
    /// The time limit for the answer, after which the commands are refused; no event moves it.
    pub deadline: Timestamp,
    /// The command that opened the check.
    pub first: PendingRestart,
    /// The commands that came since, in order.
    pub joined: Vec<PendingRestart>,
}

/// A restart command that waits for the check.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PendingRestart {
    /// The command; a repeat of it may have added `force`.
    pub order: RestartOrder,
    /// The time at which the command came; the restart deadline counts from here.
    pub asked_at: Timestamp,
    /// The ticket of the operator to answer, if an operator sent the command.
    pub to: Option<Ticket>,
}

impl RestartCheck {
    /// Returns the commands in order, the first one first.
    pub fn commands(&self) -> impl Iterator<Item = &PendingRestart> {
        core::iter::once(&self.first).chain(&self.joined)
    }

    /// Returns the waiting command with the id of `order`, if there is one.
    pub(in crate::machine) fn same_command(&mut self, order: &RestartOrder) -> Option<&mut PendingRestart> {
        let id = order.command_id.as_deref()?;
        let mut commands = core::iter::once(&mut self.first).chain(&mut self.joined);
        commands.find(|ask| ask.order.command_id.as_deref() == Some(id))
    }
}
