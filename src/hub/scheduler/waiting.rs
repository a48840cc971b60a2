//! What a queued task waits for. Which it is, `waits` finds out.

use serde::Serialize;

use crate::hub::scheduler::inventory::status::AgentStatus;

/// What a queued task waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum WaitingFor {
    /// For the one agent that may do it.
    Agent {
        /// The agent's name.
        agent_id: String,
        /// How that agent does; null if nothing is known of it.
        status: Option<AgentStatus>,
        /// What it does, in the terms of the legacy hub, where it is connected.
        fsm_state: Option<&'static str>,
    },
    /// For an agent with capabilities that no connected agent has together.
    Capabilities {
        /// All that it needs.
        needed: Vec<String>,
        /// Those of them that no connected agent has.
        missing: Vec<String>,
    },
    /// For one of the connected agents that could do it: all of them are drained.
    DrainingAgents {
        /// How many there are.
        agents: usize,
    },
    /// For one of the connected agents that could do it: none is idle.
    IdleAgent {
        /// How many there are.
        agents: usize,
    },
    /// For any agent: none is connected.
    AnyAgent,
}
