//! What the hub knows of one agent, connected or not: its record, as it is stored.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::hub::scheduler::agents::About;
use crate::hub::scheduler::inventory::close::LastClose;
use crate::hub::scheduler::inventory::hub_drain::HubDrain;
use crate::hub::scheduler::inventory::past_restart::PastRestart;
use crate::hub::scheduler::inventory::progress::TaskProgress;
use crate::hub::scheduler::restart::RunIdentity;
use crate::protocol::Labels;

/// Whether an agent is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Presence {
    /// It has identified on a connection that is open.
    Connected {
        /// Since then, in ms since the epoch.
        since: u64,
    },
    /// It has no connection. The record's last close says why.
    Away {
        /// Since then, in ms since the epoch.
        since: u64,
    },
}

impl Presence {
    /// Returns the time since which the agent is connected or away, in ms since the epoch.
    pub const fn since(self) -> u64 {
        match self {
            Self::Connected { since } | Self::Away { since } => since,
        }
    }

    /// Returns whether the agent is connected.
    pub const fn is_connected(self) -> bool {
        match self {
            Self::Connected { .. } => true,
            Self::Away { .. } => false,
        }
    }
}

/// How often an agent's process was replaced by another one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartCounts {
    /// The restarts that somebody wanted: commanded, announced, or a process that was stopped.
    pub planned: u64,
    /// The others: crashes, kills, power cuts.
    pub unplanned: u64,
    /// The time of the last planned one, in ms since the epoch.
    pub last_planned_at: Option<u64>,
    /// The time of the last unplanned one, in ms since the epoch.
    pub last_unplanned_at: Option<u64>,
}

impl RestartCounts {
    /// Counts one more.
    pub(super) fn count(&mut self, planned: bool, now_ms: u64) {
        let (count, last) = match planned {
            true => (&mut self.planned, &mut self.last_planned_at),
            false => (&mut self.unplanned, &mut self.last_unplanned_at),
        };
        *count = count.saturating_add(1);
        *last = Some(now_ms);
    }
}

/// A label that an operator gave an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorLabel {
    /// The value.
    pub value: String,
    /// The name of the operator.
    pub by: Arc<str>,
    /// The time, in ms since the epoch.
    pub at: u64,
}

/// Labels of an operator, by key.
pub type OperatorLabels = BTreeMap<String, OperatorLabel>;

/// What the hub knows of one agent that identified at least once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentRecord {
    /// The agent's name.
    pub agent_id: Arc<str>,
    /// The time of its first identify, in ms since the epoch.
    pub first_seen: u64,
    /// Whether it is connected, and since when.
    pub presence: Presence,
    /// The end of its last connection that has ended.
    pub last_close: Option<Arc<LastClose>>,
    /// The network address that it connected from last, for people.
    pub address: Arc<str>,
    /// Its description of itself: version, kind of client, supervisor.
    pub about: Arc<About>,
    /// The run of its process that identified last.
    pub run: RunIdentity,
    /// The names of its capabilities.
    pub capabilities: Arc<BTreeSet<String>>,
    /// The labels of its own configuration.
    #[serde(default)]
    pub labels: Arc<Labels>,
    /// The labels that operators gave it, which win over its own.
    #[serde(default)]
    pub operator_labels: Arc<OperatorLabels>,
    /// How often its process was replaced.
    #[serde(default)]
    pub restarts: RestartCounts,
    /// The latest of these restarts, newest first.
    #[serde(default)]
    pub past_restarts: Vec<PastRestart>,
    /// Whether an operator on its machine wants it to take no task.
    #[serde(default)]
    pub cordoned: bool,
    /// How it is drained from the hub.
    #[serde(default)]
    pub hub_drain: Option<Arc<HubDrain>>,
    /// What it reported last of a task.
    #[serde(default)]
    pub progress: Option<Arc<TaskProgress>>,
}

impl AgentRecord {
    /// Returns whether somebody wants it to take no task: an operator on its machine, or somebody at the hub.
    pub fn takes_no_task(&self) -> bool {
        self.cordoned || self.hub_drain.is_some()
    }

    /// Returns the value of a label: the operator's, else the agent's own.
    pub fn label(&self, key: &str) -> Option<&str> {
        let own = || self.labels.get(key).map(String::as_str);
        self.operator_labels.get(key).map(|label| label.value.as_str()).or_else(own)
    }

    /// Returns all labels; the operator's win.
    pub fn all_labels(&self) -> BTreeMap<&str, &str> {
        let own = self.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let operators = self.operator_labels.iter().map(|(key, label)| (key.as_str(), label.value.as_str()));
        own.chain(operators).collect()
    }
}
