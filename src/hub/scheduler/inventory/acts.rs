//! What the scheduler does to the inventory, and what it lets others read of it.

use std::collections::BTreeMap;

use crate::hub::scheduler::Scheduler;
use crate::hub::scheduler::inventory::record::AgentRecord;
use crate::hub::scheduler::inventory::{Flush, Inventory, LabelChange, LabelsRefused};
use crate::hub::scheduler::view::fsm_state;

impl Scheduler {
    /// Restores what was known of the agents. Those that were connected are away since `moment`, the last time at which the
    /// hub before is known to have run.
    #[must_use]
    pub fn with_agents(mut self, records: Vec<AgentRecord>, moment: u64) -> Self {
        self.inventory = Inventory::load(records, moment);
        self.load_drains();
        self
    }

    /// Sets or (`None`) removes labels of an agent in an operator's name, all of them or none. Returns what changed.
    ///
    /// # Errors
    /// [`LabelsRefused`].
    pub fn set_labels(
        &mut self,
        agent_id: &str,
        labels: &BTreeMap<String, Option<String>>,
        by: &str,
        now_ms: u64,
    ) -> Result<Vec<LabelChange>, LabelsRefused> {
        self.inventory.set_labels(agent_id, labels, by, now_ms)
    }

    /// Lets the next changes have a part of what agents did by coming, going and reporting, which is stored when there is
    /// time, or all of it for a hub that stops. Returns whether there is anything to store.
    pub fn flush_inventory(&mut self, part: Flush, now_ms: u64) -> bool {
        self.inventory.flush(part, self.agents.connected_count() > 0, now_ms)
    }

    /// Returns what is known of all agents.
    pub fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    /// Records when the agent's state, as the legacy hub shows it, changed.
    pub(in crate::hub::scheduler) fn note_state(&mut self, agent_id: &str, now_ms: u64) {
        let Some(agent) = self.agents.get(agent_id) else { return };
        let task = self.tasks.task_of(agent_id).map(|task| &task.status);
        let state = fsm_state(Some(agent), self.restarts.open_for(agent_id).is_some(), task);
        if agent.state.0 != state
            && let Some(agent) = self.agents.get_mut(agent_id)
        {
            agent.state = (state, now_ms);
        }
    }
}
