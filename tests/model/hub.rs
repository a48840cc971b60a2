//! The other end, of either kind, behind one set of questions. It decides nothing itself.

use std::hash::Hasher;

use agentcom::hub::scheduler::agents::ConnId;
use agentcom::machine::{FromHub, TaskId, ToHub};

use super::hub_legacy::LegacyHub;
use super::hub_ours::OurHub;
use super::violation::Violation;

/// What a step of the hub leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Out {
    /// A frame on a connection.
    Outgoing(ConnId, FromHub),
    /// The hub ends a connection, which another one supersedes.
    Close(ConnId),
    /// A verdict of this assignment was counted.
    Counted(String, u64),
}

// There is one at a time, behind an `Arc`.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone)]
pub enum Hub {
    Ours(OurHub),
    Legacy(LegacyHub),
}

pub type Outs = Result<Vec<Out>, Violation>;

/// The name of the n-th command.
pub fn command_id(number: u8) -> String {
    format!("c{number}")
}

impl Hub {
    /// What decides its future, connections by their rank.
    pub fn state_hash(&self, rank: impl Fn(ConnId) -> usize, hasher: &mut impl Hasher) {
        match self {
            Self::Ours(hub) => hub.state_hash(rank, hasher),
            Self::Legacy(hub) => hub.state_hash(rank, hasher),
        }
    }

    pub fn passes(&mut self, ms: u64) {
        match self {
            Self::Ours(hub) => hub.passes(ms),
            Self::Legacy(hub) => hub.passes(ms),
        }
    }

    pub fn due_in(&self) -> Option<u64> {
        match self {
            Self::Ours(hub) => hub.due_in(),
            Self::Legacy(hub) => hub.due_in(),
        }
    }

    pub fn tick(&mut self) -> Outs {
        let mut outs = Vec::new();
        match self {
            Self::Ours(hub) => hub.tick(&mut outs)?,
            Self::Legacy(hub) => hub.tick(),
        }
        Ok(outs)
    }

    pub fn submit(&mut self, id: &TaskId) -> Outs {
        let mut outs = Vec::new();
        match self {
            Self::Ours(hub) => hub.submit(id, &mut outs)?,
            Self::Legacy(hub) => hub.submit(id),
        }
        Ok(outs)
    }

    pub fn cancel(&mut self, id: &TaskId) -> Outs {
        let mut outs = Vec::new();
        match self {
            Self::Ours(hub) => hub.cancel(id, &mut outs)?,
            Self::Legacy(hub) => hub.cancel(id, &mut outs),
        }
        Ok(outs)
    }

    pub fn can_command(&self) -> bool {
        match self {
            Self::Ours(hub) => hub.can_command(),
            Self::Legacy(hub) => hub.can_command(),
        }
    }

    pub fn command(&mut self, number: u8, force: bool) -> Outs {
        let mut outs = Vec::new();
        match self {
            Self::Ours(hub) => hub.command(number, force, &mut outs)?,
            Self::Legacy(hub) => hub.command(force, &mut outs),
        }
        Ok(outs)
    }

    pub fn can_schedule(&self) -> bool {
        match self {
            // The shipped hub hands out in the same step that makes it possible.
            Self::Ours(_) => false,
            Self::Legacy(hub) => hub.can_schedule(),
        }
    }

    pub fn schedule(&mut self) {
        match self {
            Self::Ours(_) => {}
            Self::Legacy(hub) => hub.schedule(),
        }
    }

    pub fn can_push(&self) -> bool {
        match self {
            Self::Ours(_) => false,
            Self::Legacy(hub) => hub.can_push(),
        }
    }

    pub fn push(&mut self) -> Outs {
        let mut outs = Vec::new();
        match self {
            Self::Ours(_) => {}
            Self::Legacy(hub) => hub.push(&mut outs),
        }
        Ok(outs)
    }

    pub fn gone(&mut self, conn: ConnId) -> Outs {
        let mut outs = Vec::new();
        match self {
            Self::Ours(hub) => hub.gone(conn, &mut outs)?,
            Self::Legacy(hub) => hub.gone(conn, &mut outs),
        }
        Ok(outs)
    }

    pub fn hears(&mut self, conn: ConnId, run: u8, said: &ToHub) -> Outs {
        let mut outs = Vec::new();
        match self {
            Self::Ours(hub) => hub.hears(conn, run, said, &mut outs)?,
            Self::Legacy(hub) => hub.hears(conn, said, &mut outs),
        }
        Ok(outs)
    }

    pub fn crashes(&mut self) {
        match self {
            Self::Ours(hub) => hub.crashes(),
            Self::Legacy(hub) => hub.crashes(),
        }
    }

    /// Whether somebody holds the task.
    pub fn is_held(&self, id: &TaskId) -> bool {
        match self {
            Self::Ours(hub) => hub.is_held(id),
            Self::Legacy(hub) => hub.is_held(id),
        }
    }

    /// Whether the task has ended, its generation, and whether it is accepted for that.
    pub fn task(&self, id: &TaskId) -> Option<(bool, u64, bool)> {
        match self {
            Self::Ours(hub) => hub.task(id),
            Self::Legacy(hub) => hub.task(id),
        }
    }

    pub fn restart_is_open(&self) -> bool {
        match self {
            Self::Ours(hub) => hub.restart_is_open(),
            Self::Legacy(hub) => hub.restart_is_open(),
        }
    }

    /// Whether words without a meaning to this hub are worth carrying.
    pub fn listens_to(&self, said: &ToHub) -> bool {
        match (self, said) {
            (_, ToHub::Ping | ToHub::TaskProgress { .. } | ToHub::WakeResult { .. }) => false,
            (Self::Ours(_), ToHub::Status { .. }) => false,
            (
                Self::Legacy(_),
                ToHub::AgentRestarting { .. }
                | ToHub::TaskRejected { .. }
                | ToHub::RestartAck { .. }
                | ToHub::ParkedReport { .. }
                | ToHub::Cordon { .. },
            ) => false,
            (Self::Legacy(_), ToHub::Status { status }) => status.starts_with("restarting"),
            (
                Self::Ours(_) | Self::Legacy(_),
                ToHub::Identify { .. }
                | ToHub::TaskAccepted { .. }
                | ToHub::TaskRejected { .. }
                | ToHub::TaskComplete { .. }
                | ToHub::TaskFailed { .. }
                | ToHub::TaskRecovering { .. }
                | ToHub::StateReport { .. }
                | ToHub::ParkedReport { .. }
                | ToHub::RestartAck { .. }
                | ToHub::Cordon { .. }
                | ToHub::AgentRestarting { .. },
            ) => true,
        }
    }
}
