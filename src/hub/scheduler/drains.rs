//! Drains from the hub: pure. A drained agent gets no new task; what it holds goes on, and nothing is taken from it. A
//! drain is part of the agent's record, so it outlives connections, the agent's restarts and the hub's.

use std::collections::{BTreeSet, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::hub::scheduler::Scheduler;
use crate::hub::scheduler::inventory::hub_drain::HubDrain;

/// How an agent is to be drained. Times are in ms since the epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrainRequest {
    /// The name of who wants it.
    pub by: String,
    /// The reason, as text for people.
    pub reason: Option<String>,
    /// The time at which it ends by itself.
    pub until: Option<u64>,
    /// The time by which the agent should hold no task.
    pub deadline: Option<u64>,
}

impl DrainRequest {
    /// Returns whether it would change nothing of this drain.
    pub fn is_as(&self, drain: &HubDrain) -> bool {
        let asked = (self.reason.as_deref(), self.until, self.deadline);
        asked == (drain.reason.as_deref(), drain.until, drain.deadline)
    }
}

/// What became of a wish about a drain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drained {
    /// The drain before.
    pub old: Option<Arc<HubDrain>>,
    /// The drain from now on.
    pub new: Option<Arc<HubDrain>>,
}

impl Drained {
    /// Returns whether anything changed.
    pub fn is_change(&self) -> bool {
        self.old != self.new
    }
}

/// What is told of a drain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrainNews {
    /// The agent.
    pub agent_id: Arc<str>,
    /// Its drain; `None` if it ended.
    pub drain: Option<Arc<HubDrain>>,
    /// Whether the agent holds a task.
    pub holds_task: bool,
    /// Whether it holds one after the drain's deadline.
    pub overdue: bool,
}

/// What follows from the drains of all records.
#[derive(Debug, Clone, Default)]
pub struct Drains {
    /// The drained agents by the time at which something is due.
    due: BTreeSet<(u64, Arc<str>)>,
    /// The drained agents that held a task when they were looked at last.
    busy: HashSet<Arc<str>>,
    news: Vec<DrainNews>,
}

impl Drains {
    /// Returns when something is next due, in ms since the epoch.
    pub fn deadline(&self) -> Option<u64> {
        self.due.first().map(|(at, _)| *at)
    }

    fn forget(&mut self, agent_id: &str, drain: &HubDrain) {
        if let Some(at) = drain.due_at() {
            self.due.remove(&(at, agent_id.into()));
        }
        self.busy.remove(agent_id);
    }
}

impl Scheduler {
    /// Drains an agent, or changes how it is drained. Who repeats what holds already changes nothing. Returns `None` for
    /// an agent that has never identified.
    pub fn drain(&mut self, agent_id: &str, request: DrainRequest, now_ms: u64) -> Option<Drained> {
        let old = self.inventory.get(agent_id)?.hub_drain.clone();
        if let Some(old) = old.as_ref().filter(|old| request.is_as(old)) {
            return Some(Drained { old: Some(old.clone()), new: Some(old.clone()) });
        }
        let DrainRequest { by, reason, until, deadline } = request;
        let since = old.as_ref().map_or(now_ms, |old| old.since);
        let new =
            HubDrain { by: by.into(), reason: reason.map(Into::into), since, until, deadline, deadline_seen: false };
        let drained = Drained { old, new: Some(Arc::new(new)) };
        self.set_drain(agent_id, drained.new.clone());
        self.tell_drain(agent_id, now_ms);
        self.dispatch(now_ms);
        Some(drained)
    }

    /// Ends the drain of an agent from the hub: it may take tasks again, unless an operator on its machine wants it to take
    /// none. Returns `None` for an agent that has never identified.
    pub fn resume(&mut self, agent_id: &str, now_ms: u64) -> Option<Drained> {
        let old = self.inventory.get(agent_id)?.hub_drain.clone();
        if old.is_some() {
            self.set_drain(agent_id, None);
            self.tell_drain(agent_id, now_ms);
            self.dispatch(now_ms);
        }
        Some(Drained { old, new: None })
    }

    /// Returns whether a drain would change anything; `None` for an agent that has never identified.
    pub fn would_drain(&self, agent_id: &str, request: &DrainRequest) -> Option<bool> {
        Some(self.inventory.get(agent_id)?.hub_drain.as_ref().is_none_or(|old| !request.is_as(old)))
    }

    /// Returns whether the end of its drain would change anything; `None` for an agent that has never identified.
    pub fn would_resume(&self, agent_id: &str) -> Option<bool> {
        Some(self.inventory.get(agent_id)?.hub_drain.is_some())
    }

    /// Returns what is to be told of drains since the last call.
    pub fn take_drain_news(&mut self) -> Vec<DrainNews> {
        std::mem::take(&mut self.drains.news)
    }

    /// Sets up what follows from the records' drains, after they were restored.
    pub(super) fn load_drains(&mut self) {
        self.drains = Drains::default();
        let drained = self.inventory.all().iter().filter_map(|(id, record)| Some((id, record.hub_drain.as_ref()?)));
        for (agent_id, drain) in drained {
            self.drains.due.extend(drain.due_at().map(|at| (at, agent_id.clone())));
            if self.tasks.task_of(agent_id).is_some() {
                self.drains.busy.insert(agent_id.clone());
            }
        }
    }

    /// Forgets the drain of an agent whose record is forgotten.
    pub(super) fn forget_drain(&mut self, agent_id: &str) {
        if let Some(drain) = self.inventory.get(agent_id).and_then(|record| record.hub_drain.as_ref()) {
            self.drains.forget(agent_id, drain);
        }
    }

    /// Ends the drains whose time is over, and tells of agents that hold a task after the deadline of theirs.
    pub(super) fn tick_drains(&mut self, now_ms: u64) {
        while let Some((_, agent_id)) = self.drains.due.first().filter(|(at, _)| *at <= now_ms).cloned() {
            self.drains.due.pop_first();
            let drain = self.inventory.get(&agent_id).and_then(|record| record.hub_drain.clone());
            let Some(drain) = drain else { continue };
            let has_ended = drain.until.is_some_and(|until| until <= now_ms);
            let seen = || Arc::new(HubDrain { deadline_seen: true, ..(*drain).clone() });
            self.set_drain(&agent_id, (!has_ended).then(seen));
            if has_ended || self.drains.busy.contains(&agent_id) {
                self.tell_drain(&agent_id, now_ms);
            }
        }
    }

    /// Tells that a drained agent holds no task any more, if it did before.
    pub(super) fn note_drained(&mut self, agent_id: &str, now_ms: u64) {
        if self.drains.busy.contains(agent_id) && self.tasks.task_of(agent_id).is_none() {
            self.drains.busy.remove(agent_id);
            self.tell_drain(agent_id, now_ms);
        }
    }

    fn set_drain(&mut self, agent_id: &str, drain: Option<Arc<HubDrain>>) {
        let Some(record) = self.inventory.get(agent_id) else { return };
        let (agent_id, before) = (record.agent_id.clone(), record.hub_drain.clone());
        if let Some(before) = before {
            self.drains.forget(&agent_id, &before);
        }
        if let Some(drain) = &drain {
            self.drains.due.extend(drain.due_at().map(|at| (at, agent_id.clone())));
            if self.tasks.task_of(&agent_id).is_some() {
                self.drains.busy.insert(agent_id.clone());
            }
        }
        self.agents.drain(&agent_id, drain.is_some());
        self.inventory.set_drain(&agent_id, drain);
        self.touched.push(agent_id.as_ref().to_owned());
    }

    fn tell_drain(&mut self, agent_id: &str, now_ms: u64) {
        let Some(record) = self.inventory.get(agent_id) else { return };
        let (drain, holds_task) = (record.hub_drain.clone(), self.tasks.task_of(agent_id).is_some());
        let overdue = holds_task && drain.as_ref().is_some_and(|drain| drain.is_past_deadline(now_ms));
        let agent_id = record.agent_id.clone();
        self.drains.news.push(DrainNews { agent_id, drain, holds_task, overdue });
    }

    /// Feeds what decides the future of drains to `hasher`, with every time counted by `from_now`.
    pub(super) fn hash_drains(&self, from_now: impl Fn(u64) -> u64, hasher: &mut impl Hasher) {
        for (agent_id, record) in self.inventory.all() {
            if let Some(drain) = &record.hub_drain {
                (agent_id, drain.until.map(&from_now), drain.due_at().map(&from_now)).hash(hasher);
            }
        }
    }

    /// Returns whether the index by time has each drained agent once, at its time, and the busy ones are those.
    #[cfg(test)]
    pub(crate) fn drains_are_right(&self) -> bool {
        let drained = || self.inventory.all().values().filter_map(|record| Some((record, record.hub_drain.as_ref()?)));
        let due = drained().filter_map(|(record, drain)| Some((drain.due_at()?, record.agent_id.clone())));
        let busy = drained().filter(|(record, _)| self.tasks.task_of(&record.agent_id).is_some());
        self.drains.due == due.collect()
            && self.drains.busy == busy.map(|(record, _)| record.agent_id.clone()).collect()
    }
}
