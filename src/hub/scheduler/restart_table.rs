//! All commanded restarts by id and by agent. A copy shares them with the original and costs nothing, so that readers get
//! one for each state of the hub.

use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::{HashMap, OrdMap};

use crate::hub::scheduler::restart::Restart;

/// The ids of an agent's commands, in the order in which they were given.
type InOrder = BTreeSet<(u64, Arc<str>)>;

/// All commanded restarts.
#[derive(Debug, Clone, Default)]
pub struct RestartTable {
    by_id: HashMap<Arc<str>, Arc<Restart>>,
    /// All ids, in the order in which the commands were given.
    in_order: OrdMap<u64, Arc<str>>,
    by_agent: HashMap<Arc<str>, Arc<InOrder>>,
    /// Each fenced agent's open command.
    open: OrdMap<Arc<str>, Arc<str>>,
}

impl RestartTable {
    /// Returns one command.
    pub fn get(&self, command_id: &str) -> Option<&Restart> {
        self.by_id.get(command_id).map(Arc::as_ref)
    }

    /// Returns the agent's commands, newest first.
    pub fn of_agent(&self, agent_id: &str) -> impl Iterator<Item = &Restart> {
        let ids = self.by_agent.get(agent_id).into_iter().flat_map(|ids| ids.iter().rev());
        ids.filter_map(|(_, id)| self.get(id))
    }

    /// Returns the agent's open command: while there is one, the agent is fenced.
    pub fn open_for(&self, agent_id: &str) -> Option<&Restart> {
        self.get(self.open.get(agent_id)?)
    }

    /// Returns the fenced agents after this one, by id.
    pub fn fenced_after<'a>(&'a self, after: Option<&'a str>) -> impl Iterator<Item = &'a str> {
        use std::ops::Bound::{Excluded, Unbounded};
        self.open.range::<_, str>((after.map_or(Unbounded, Excluded), Unbounded)).map(|(agent_id, _)| &**agent_id)
    }

    /// Returns the commands before this one, newest first; all of them for `None`.
    pub fn before(&self, seq: Option<u64>) -> impl Iterator<Item = &Restart> {
        self.in_order.range(..seq.unwrap_or(u64::MAX)).rev().filter_map(|(_, id)| self.get(id))
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &Restart> {
        self.by_id.values().map(Arc::as_ref)
    }

    pub(crate) fn get_mut(&mut self, command_id: &str) -> Option<&mut Restart> {
        self.by_id.get_mut(command_id).map(Arc::make_mut)
    }

    /// Returns the id of the agent's open command.
    pub(crate) fn open_id(&self, agent_id: &str) -> Option<Arc<str>> {
        self.open.get(agent_id).cloned()
    }

    /// Adds a command; the agent is fenced if it is open.
    pub(crate) fn insert(&mut self, restart: Restart) {
        let (id, agent_id): (Arc<str>, Arc<str>) =
            (restart.command_id.as_str().into(), restart.agent_id.as_str().into());
        if restart.phase.is_open() {
            self.open.insert(agent_id.clone(), id.clone());
        }
        self.in_order.insert(restart.seq, id.clone());
        Arc::make_mut(self.by_agent.entry(agent_id).or_default()).insert((restart.seq, id.clone()));
        self.by_id.insert(id, Arc::new(restart));
    }

    /// Ends the agent's fence.
    pub(crate) fn unfence(&mut self, agent_id: &str) {
        self.open.remove(agent_id);
    }

    /// Returns the id of the oldest of the agent's commands, if there are more than `keep`.
    pub(crate) fn excess_of(&self, agent_id: &str, keep: usize) -> Option<Arc<str>> {
        let ids = self.by_agent.get(agent_id).filter(|ids| ids.len() > keep)?;
        ids.first().map(|(_, oldest)| oldest.clone())
    }

    /// Removes one command, which ends the agent's fence if it is open.
    pub(crate) fn remove(&mut self, command_id: &str) -> Option<Arc<Restart>> {
        let (id, restart) = self.by_id.remove_with_key(command_id)?;
        self.in_order.remove(&restart.seq);
        let agent_id = restart.agent_id.as_str();
        if let Some(ids) = self.by_agent.get_mut(agent_id) {
            let left = Arc::make_mut(ids);
            left.remove(&(restart.seq, id));
            if left.is_empty() {
                self.by_agent.remove(agent_id);
            }
        }
        if restart.phase.is_open() {
            self.open.remove(agent_id);
        }
        Some(restart)
    }
}
