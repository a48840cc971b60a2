//! Restart commands that wait until it is known whether the next run would start.

use alloc::vec::Vec;

use crate::machine::model::reply::Ticket;
use crate::machine::model::restart_ledger::RestartOrder;
use crate::machine::model::time::Timestamp;

/// At most this many commands wait for one answer; a further one is refused.
pub const PENDING_RESTARTS_CAP: usize = 8;

/// An open check of the next run. It exists only in `Idle` and `Working`, and no journal holds it: a crash leaves a command
/// that was never accepted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RestartCheck {
    /// Names the question, so that an answer to an earlier one changes nothing.
    pub number: u32,
    /// When to refuse for want of an answer; nothing moves it.
    pub deadline: Timestamp,
    /// The command that opened it.
    pub first: PendingRestart,
    /// Commands that came since, in their order.
    pub joined: Vec<PendingRestart>,
}

/// A restart command that waits for the answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PendingRestart {
    /// The command; a repeat of it may have added `force`.
    pub order: RestartOrder,
    /// When it came: the deadline of its task counts from here.
    pub asked_at: Timestamp,
    /// Which operator is to be told, if one asked.
    pub to: Option<Ticket>,
}

impl RestartCheck {
    /// The commands, the first one first.
    pub fn commands(&self) -> impl Iterator<Item = &PendingRestart> {
        core::iter::once(&self.first).chain(&self.joined)
    }

    pub(in crate::machine) fn same_command(&mut self, order: &RestartOrder) -> Option<&mut PendingRestart> {
        let id = order.command_id.as_deref()?;
        let mut commands = core::iter::once(&mut self.first).chain(&mut self.joined);
        commands.find(|ask| ask.order.command_id.as_deref() == Some(id))
    }
}
