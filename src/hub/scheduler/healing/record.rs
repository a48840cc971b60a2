//! What one rule did to one agent, as it is stored: a crash of the hub forgets neither a cooldown nor a budget.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::hub::scheduler::healing::rules::{Budget, MAX_MS, Rule};

/// What one rule did to one agent. Times are in ms since the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealingRecord {
    /// The rule's name.
    pub rule: Arc<str>,
    /// The agent.
    pub agent_id: Arc<str>,
    /// The times of its actions that still count, oldest first.
    pub acted_at: Vec<u64>,
    /// The id of the last restart that it commanded.
    #[serde(default)]
    pub command_id: Option<Arc<str>>,
    /// The last time at which it told of the agent without acting.
    #[serde(default)]
    pub told_at: Option<u64>,
}

impl HealingRecord {
    /// Creates the record of a rule that did nothing yet.
    pub(super) fn new(rule: &Arc<str>, agent_id: &Arc<str>) -> Self {
        Self { rule: rule.clone(), agent_id: agent_id.clone(), acted_at: Vec::new(), command_id: None, told_at: None }
    }

    /// Returns the key under which the record is stored. A rule's name has no `/`.
    pub fn key(rule: &str, agent_id: &str) -> String {
        format!("{rule}/{agent_id}")
    }

    /// Returns the record without times after `now_ms`, which a clock that was set back has left.
    pub(super) fn not_after(mut self, now_ms: u64) -> Self {
        self.acted_at.iter_mut().for_each(|at| *at = (*at).min(now_ms));
        self.told_at = self.told_at.map(|at| at.min(now_ms));
        self
    }

    /// Returns whether the last action is less than the rule's cooldown ago.
    pub(super) fn cools_down(&self, rule: &Rule, now_ms: u64) -> bool {
        self.acted_at.last().is_some_and(|at| now_ms < at.saturating_add(rule.cooldown_ms))
    }

    /// Returns whether the rule told of the agent less than its cooldown ago.
    pub(super) fn was_told(&self, rule: &Rule, now_ms: u64) -> bool {
        self.told_at.is_some_and(|at| now_ms < at.saturating_add(rule.cooldown_ms))
    }

    /// Returns whether the rule's budget for the agent is spent.
    pub(super) fn is_spent(&self, Budget { times, within_ms }: Budget, now_ms: u64) -> bool {
        let counts = |at: &&u64| now_ms < at.saturating_add(within_ms);
        self.acted_at.iter().filter(counts).count() >= usize::try_from(times).unwrap_or(usize::MAX)
    }

    /// Records an action, and drops those that count no more.
    pub(super) fn act(&mut self, rule: &Rule, command_id: Option<&str>, now_ms: u64) {
        let most = usize::try_from(rule.max_per_agent.times).unwrap_or(usize::MAX);
        self.acted_at.push(now_ms);
        self.acted_at.drain(..self.acted_at.len().saturating_sub(most));
        self.command_id = command_id.map(Into::into);
    }

    /// Returns the agent, the time and the restart's id of the last action, if there was one.
    pub(super) fn last_action(&self) -> Option<(Arc<str>, u64, Option<Arc<str>>)> {
        Some((self.agent_id.clone(), *self.acted_at.last()?, self.command_id.clone()))
    }

    /// Returns the time from which on nothing in the record counts, for a rule that is in force or (`None`) is not.
    pub(super) fn counts_until(&self, rule: Option<&Rule>) -> u64 {
        let keeps_ms = rule.map_or(MAX_MS, |rule| rule.cooldown_ms.max(rule.max_per_agent.within_ms));
        self.acted_at.last().copied().max(self.told_at).map_or(0, |at| at.saturating_add(keeps_ms))
    }
}
