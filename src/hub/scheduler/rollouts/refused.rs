//! Why a rollout was not started, or what was asked of it not done. Nothing was changed then.

use crate::hub::scheduler::rollouts::plan::BadPlan;

/// The number of agents that a refusal names.
const MAX_NAMED: usize = 5;

/// Agents that are targets of another rollout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rollout {other} has not ended and has {} of the agents ({}{}): wait for its end, cancel it, or leave them out", .count, .agents.join(", "), if .agents.len() < *.count { ", ..." } else { "" })]
pub struct Shared {
    /// The other rollout.
    pub other: String,
    /// Some of the agents.
    pub agents: Vec<String>,
    /// The number of them.
    pub count: usize,
}

impl Shared {
    pub(super) fn new(other: &str, agents: &[&str]) -> Self {
        let named = agents.iter().take(MAX_NAMED).map(|agent_id| (*agent_id).to_owned());
        Self { other: other.to_owned(), agents: named.collect(), count: agents.len() }
    }
}

/// Why a rollout was not started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartRefused {
    /// The plan cannot be.
    #[error(transparent)]
    BadPlan(#[from] BadPlan),
    /// The selector means no agent.
    #[error("the selector means no agent: see who is there with GET /api/v1/agents")]
    Empty,
    /// More agents than can be numbered.
    #[error("{0} agents are too many for one rollout: select fewer")]
    TooMany(usize),
    /// There is a rollout of this id.
    #[error("there is a rollout {0} already: give this one another id")]
    Known(String),
    /// Two rollouts that have not ended cannot share an agent.
    #[error(transparent)]
    Shared(#[from] Shared),
}

/// Why what was asked of a rollout was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no such rollout.
    #[error("there is no rollout {0}: see which there are with GET /api/v1/rollouts")]
    Unknown(String),
    /// It is in no state for that.
    #[error("rollout {id} is {state}: {needs}")]
    State {
        /// The rollout.
        id: String,
        /// Its state.
        state: String,
        /// What it must be.
        needs: &'static str,
    },
    /// Its agents are targets of another rollout meanwhile.
    #[error(transparent)]
    Shared(#[from] Shared),
}
