//! Every agent that ever identified: connected, or since when it is away and why. Pure: no clock and no storage; the
//! caller passes the time and stores what is `dirty`.
//!
//! What an operator does to a record is stored with the act. What an agent does by coming, going and reporting is stored
//! later and in parts: a mass join costs no commit, and a crash of the hub forgets the last few seconds of it.

mod acts;
pub mod close;
pub mod entry;
pub mod hub_drain;
pub mod past_restart;
pub mod progress;
pub mod record;
pub mod status;
pub mod statuses;

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;

use imbl::OrdMap;
use serde::Serialize;

use crate::common::wall_clock::move_time;
use crate::hub::scheduler::agents::{Agent, SILENCE_BOUND_MS};
use crate::hub::scheduler::inventory::close::{CloseCause, Closing, LastClose};
use crate::hub::scheduler::inventory::hub_drain::HubDrain;
use crate::hub::scheduler::inventory::past_restart::{PastRestart, Reported};
use crate::hub::scheduler::inventory::progress::TaskProgress;
use crate::hub::scheduler::inventory::record::{AgentRecord, OperatorLabel, Presence, RestartCounts};
use crate::protocol::{BadLabel, JsonText, Labels, MAX_LABELS, check_label_key, check_label_value};

/// The largest number of records that one flush stores.
const MAX_FLUSHED: usize = 512;
/// The time between two flushes of what agents reported of their tasks, in ms.
const PROGRESS_FLUSH_MS: u64 = 30_000;
/// The time after which the hub stores that it still runs, in ms, while an agent is connected.
const MOMENT_MS: u64 = 30_000;

/// All records, by name. A copy shares them with the original and costs nothing.
pub type AgentRecords = OrdMap<Arc<str>, Arc<AgentRecord>>;

/// How an agent came.
#[derive(Debug, Clone, Copy, Default)]
pub struct Arrival<'a> {
    /// The labels of its configuration.
    pub labels: Option<&'a Labels>,
    /// Whether the end of the run before was announced, commanded or wanted by somebody.
    pub planned: bool,
    /// Whether the run before is known to be alive: then none has ended.
    pub beside_rival: bool,
    /// What the run says of the one before.
    pub reported: Reported<'a>,
    /// How the connection ended whose place this one took.
    pub superseded: Option<&'a Closing>,
}

/// How much is stored of what agents did by coming, going and reporting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flush {
    /// A part, as long as the hub runs.
    Part,
    /// All of it: the hub stops.
    Last,
}

/// The change of one label by an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct LabelChange {
    /// The label's key.
    pub key: String,
    /// The operator's value before.
    pub old: Option<String>,
    /// The operator's value from now on.
    pub new: Option<String>,
}

/// The reason why labels were not set. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelsRefused {
    /// No agent of that name has ever identified.
    #[error("no agent of that name has ever identified: label it once it has")]
    UnknownAgent,
    /// A label is not allowed.
    #[error("label {key:?}: {why}")]
    BadLabel {
        /// The label's key.
        key: String,
        /// What is wrong with it.
        why: BadLabel,
    },
}

/// Names in the order in which they came, each once.
#[derive(Debug, Clone, Default)]
struct Line {
    order: VecDeque<Arc<str>>,
    members: HashSet<Arc<str>>,
}

impl Line {
    fn join(&mut self, agent_id: &Arc<str>) {
        if self.members.insert(agent_id.clone()) {
            self.order.push_back(agent_id.clone());
        }
    }

    fn take(&mut self, most: usize) -> impl Iterator<Item = Arc<str>> {
        let Self { order, members } = self;
        order.drain(..most.min(order.len())).inspect(|agent_id| {
            members.remove(agent_id);
        })
    }
}

/// All agents that ever identified and have a token.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    all: AgentRecords,
    /// Records to store with the next commit.
    dirty: BTreeSet<Arc<str>>,
    /// Records to store when there is time.
    lazy: Line,
    /// Records of which only the task's progress is to be stored.
    progressed: Line,
    progress_flushed_at: u64,
    /// The time up to which what is stored is complete, in ms since the epoch.
    moment: u64,
    moment_is_dirty: bool,
}

impl Inventory {
    /// Restores the records from what was stored. Agents that were connected are away since
    /// `moment`, the last time at which the hub before is known to have run.
    pub fn load(stored: Vec<AgentRecord>, moment: u64) -> Self {
        let all = stored.into_iter().map(|record| (record.agent_id.clone(), Arc::new(record))).collect();
        let mut inventory = Self { all, moment, ..Self::default() };
        let connected = inventory.all.values().filter(|record| record.presence.is_connected());
        let connected: Vec<Arc<str>> = connected.map(|record| record.agent_id.clone()).collect();
        for agent_id in connected {
            inventory.edit(&agent_id, |record| {
                let since = record.presence.since().max(moment);
                record.presence = Presence::Away { since };
                record.last_close = Some(Arc::new(LastClose::hub_restarted(since)));
            });
            inventory.lazy.join(&agent_id);
        }
        inventory
    }

    /// Returns all records, by name.
    pub fn all(&self) -> &AgentRecords {
        &self.all
    }

    /// Returns one record.
    pub fn get(&self, agent_id: &str) -> Option<&AgentRecord> {
        self.all.get(agent_id).map(Arc::as_ref)
    }

    /// Records that the agent identified.
    pub fn identified(&mut self, agent_id: &str, agent: &Agent, arrival: Arrival<'_>, now_ms: u64) {
        let known = self.get(agent_id).map_or(SILENCE_BOUND_MS, |record| record.about.silence_bound_ms());
        let planned = arrival.planned;
        if let Some(record) = self.all.get_mut(agent_id) {
            Arc::make_mut(record).returned(agent, arrival, now_ms);
        } else {
            let record = AgentRecord::new(agent_id, agent, arrival, now_ms);
            self.all.insert(record.agent_id.clone(), Arc::new(record));
        }
        // A hub that starts after a crash must know both: for how long to wait for the agent, and that its next run is no
        // crash, for which a rollout would give it up.
        if planned || agent.about.silence_bound_ms() > known {
            self.dirty.insert(agent_id.into());
        }
        self.changed(agent_id);
    }

    /// Records that the agent's connection ended. One that was `restarting` left for that.
    pub fn closed(&mut self, agent_id: &str, closing: &Closing, restarting: Option<CloseCause>, now_ms: u64) {
        self.edit(agent_id, |record| {
            record.presence = Presence::Away { since: now_ms };
            record.last_close = Some(Arc::new(closing.record(restarting, now_ms)));
        });
        self.changed(agent_id);
    }

    /// Records whether an operator on the agent's machine wants it to take no task.
    pub fn cordon(&mut self, agent_id: &str, on: bool) {
        if self.get(agent_id).is_some_and(|record| record.cordoned != on) {
            self.edit(agent_id, |record| record.cordoned = on);
            self.changed(agent_id);
        }
    }

    /// Records how the agent is drained from the hub, with the next commit.
    pub fn set_drain(&mut self, agent_id: &str, drain: Option<Arc<HubDrain>>) {
        self.edit(agent_id, |record| record.hub_drain = drain);
        self.dirty.insert(agent_id.into());
    }

    /// Records what the agent reports of the task that it holds.
    pub fn progressed(
        &mut self,
        agent_id: &str,
        task_id: &str,
        progress: Option<i64>,
        event: Option<&JsonText>,
        now_ms: u64,
    ) {
        self.edit(agent_id, |record| {
            let known = record.progress.take().filter(|known| *known.task_id == *task_id);
            let mut known = known.unwrap_or_else(|| Arc::new(TaskProgress::new(task_id)));
            Arc::make_mut(&mut known).add(progress, event, now_ms);
            record.progress = Some(known);
        });
        if let Some(record) = self.all.get(agent_id) {
            self.progressed.join(&record.agent_id);
        }
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
        let record = self.get(agent_id).ok_or(LabelsRefused::UnknownAgent)?;
        let mut merged = (*record.operator_labels).clone();
        let mut changes = Vec::new();
        let by: Arc<str> = by.into();
        for (key, new) in labels {
            let refused = |why| LabelsRefused::BadLabel { key: key.clone(), why };
            check_label_key(key).map_err(refused)?;
            let old = match new {
                Some(value) => {
                    check_label_value(value).map_err(refused)?;
                    if merged.get(key).is_some_and(|label| label.value == *value) {
                        continue;
                    }
                    merged.insert(key.clone(), OperatorLabel { value: value.clone(), by: by.clone(), at: now_ms })
                }
                None => merged.remove(key),
            };
            if merged.len() > MAX_LABELS {
                return Err(refused(BadLabel::TooMany));
            }
            if old.is_some() || new.is_some() {
                changes.push(LabelChange { key: key.clone(), old: old.map(|label| label.value), new: new.clone() });
            }
        }
        if !changes.is_empty() {
            self.edit(agent_id, |record| record.operator_labels = Arc::new(merged));
            self.dirty.insert(agent_id.into());
        }
        Ok(changes)
    }

    /// Forgets the agent: its name has no owner any more.
    pub fn forget(&mut self, agent_id: &str) {
        if let Some((agent_id, _)) = self.all.remove_with_key(agent_id) {
            self.dirty.insert(agent_id);
        }
    }

    /// Returns the names of the records to store (or, if `get` returns none, to delete) since the last call.
    pub fn take_dirty(&mut self) -> BTreeSet<Arc<str>> {
        std::mem::take(&mut self.dirty)
    }

    /// Returns the time up to which what is stored is complete, if it is to be stored with the next commit.
    pub fn take_moment(&mut self) -> Option<u64> {
        std::mem::take(&mut self.moment_is_dirty).then_some(self.moment)
    }

    /// Lets the next commit store the record, if it was to be stored later.
    pub fn store_next(&mut self, agent_id: &str) {
        if let Some(agent_id) = self.lazy.members.get(agent_id) {
            self.dirty.insert(agent_id.clone());
        }
    }

    /// Lets the next commit store a part of what is left to store. Returns whether there is anything.
    pub fn flush(&mut self, part: Flush, any_connected: bool, now_ms: u64) -> bool {
        let (most, is_last) = match part {
            Flush::Part => (MAX_FLUSHED, false),
            Flush::Last => (usize::MAX, true),
        };
        let mut due: Vec<Arc<str>> = self.lazy.take(most).collect();
        if due.len() < most && (is_last || now_ms >= self.progress_flushed_at + PROGRESS_FLUSH_MS) {
            due.extend(self.progressed.take(most - due.len()));
            if self.progressed.order.is_empty() {
                self.progress_flushed_at = now_ms;
            }
        }
        self.dirty.extend(due.into_iter().filter(|agent_id| self.all.contains_key(agent_id)));
        // Later than what is stored it must not be: agents that were connected are away since then after a crash.
        let is_complete = self.lazy.order.is_empty();
        let is_due = any_connected && (is_last || now_ms >= self.moment + MOMENT_MS);
        if is_complete && (is_due || !self.dirty.is_empty()) {
            (self.moment, self.moment_is_dirty) = (now_ms, true);
        }
        self.moment_is_dirty || !self.dirty.is_empty()
    }

    /// Moves what is measured `ms` later, or earlier if that is negative, because the clock was set. All of it is stored with
    /// the next commit, so that no two records go by different clocks.
    pub(in crate::hub::scheduler) fn move_by(&mut self, ms: i64) {
        let agent_ids: Vec<Arc<str>> = self.all.keys().cloned().collect();
        for agent_id in agent_ids {
            self.edit(&agent_id, |record| record.move_by(ms));
            self.dirty.insert(agent_id);
        }
        move_time(&mut self.progress_flushed_at, ms);
        move_time(&mut self.moment, ms);
        self.moment_is_dirty = true;
    }

    fn changed(&mut self, agent_id: &str) {
        if let Some(record) = self.all.get(agent_id) {
            self.lazy.join(&record.agent_id);
        }
    }

    fn edit(&mut self, agent_id: &str, change: impl FnOnce(&mut AgentRecord)) {
        if let Some(record) = self.all.get_mut(agent_id) {
            change(Arc::make_mut(record));
        }
    }
}

impl AgentRecord {
    /// Creates the record of an agent that identifies for the first time.
    fn new(agent_id: &str, agent: &Agent, arrival: Arrival<'_>, now_ms: u64) -> Self {
        Self {
            agent_id: agent_id.into(),
            first_seen: now_ms,
            presence: Presence::Connected { since: now_ms },
            last_close: None,
            address: agent.address.clone(),
            about: agent.about.clone(),
            run: agent.run.clone(),
            capabilities: agent.capability_names.clone(),
            labels: arrival.labels.cloned().unwrap_or_default().into(),
            operator_labels: Arc::default(),
            restarts: RestartCounts::default(),
            past_restarts: Vec::new(),
            cordoned: false,
            hub_drain: None,
            progress: None,
        }
    }

    /// Returns the restart that ends with this identify.
    fn past_restart(&self, agent: &Agent, arrival: Arrival<'_>, planned: bool, now_ms: u64) -> PastRestart {
        let close = self.last_close.as_ref().filter(|_| !self.presence.is_connected());
        let short = |text: Option<&String>| text.map(|text| text.as_str().into());
        let past = PastRestart {
            at: now_ms,
            planned,
            why: close.map_or(CloseCause::Superseded, |close| close.why),
            away_ms: close.map(|close| now_ms.saturating_sub(close.at)),
            end: None,
            reason: None,
            command_id: None,
            boot_before: short(self.run.boot_id.as_ref()),
            boot_after: short(agent.run.boot_id.as_ref()),
            version: short(agent.about.version.as_ref()),
        };
        past.reported(arrival.reported, close.map_or("", |close| &close.reason))
    }

    /// Records that the agent identified again.
    fn returned(&mut self, agent: &Agent, arrival: Arrival<'_>, now_ms: u64) {
        let left_for_it = self.last_close.as_ref().is_some_and(|close| close.why.is_restart());
        let left_for_it = left_for_it && !self.presence.is_connected();
        let is_other = agent.run.replaces(&self.run).unwrap_or(left_for_it);
        if is_other && !arrival.beside_rival {
            let planned = arrival.planned || left_for_it;
            self.restarts.count(planned, now_ms);
            let past = self.past_restart(agent, arrival, planned, now_ms);
            past_restart::add(&mut self.past_restarts, past);
        }
        if let Some(closing) = arrival.superseded {
            self.last_close = Some(Arc::new(closing.record(None, now_ms)));
        }
        self.presence = Presence::Connected { since: now_ms };
        self.address = agent.address.clone();
        self.about = agent.about.clone();
        self.run = agent.run.clone();
        self.capabilities = agent.capability_names.clone();
        let labels = arrival.labels.cloned().unwrap_or_default();
        if *self.labels != labels {
            self.labels = labels.into();
        }
        self.cordoned = false;
    }
}
