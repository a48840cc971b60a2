//! Healing: rules that look for agents that are not well, and restart or drain them where the rule says so. Pure: no clock,
//! no file and no storage; the caller passes the rules and the time, and stores what is dirty.
//!
//! Every [`LOOK_MS`] each rule looks at the fleet. In each look:
//!
//! 1. The agents that match are found; one that matched before goes on matching since then.
//! 2. A rule that more agents match than its blast radius allows does nothing until fewer do.
//! 3. Of each agent that has matched for long enough it is told once, or, where the rule acts, it is acted on: unless the
//!    agent is away, on a restart or in the hands of a rollout, the rule's cooldown or budget forbids it, or too many agents are unavailable.
//!
//! What a rule did is recorded in the commit of the act. Since when an agent matches is not: after a start of the hub that
//! begins anew.

mod condition;
mod look;
pub mod record;
pub mod rules;
pub mod shown;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::common::wall_clock::move_time;
use crate::hub::scheduler::Scheduler;
use crate::hub::scheduler::amount::Amount;
use crate::hub::scheduler::drains::DrainRequest;
use crate::hub::scheduler::healing::condition::Fleet;
use crate::hub::scheduler::healing::record::HealingRecord;
use crate::hub::scheduler::healing::rules::{Rule, RuleSet};
use crate::hub::scheduler::healing::shown::{FileError, HealingStatus};
use crate::hub::scheduler::restart::RestartRequest;

/// The time between two looks at the fleet, in ms.
pub const LOOK_MS: u64 = 5_000;
/// What the author of an act of a rule begins with.
pub const AUTHOR_PREFIX: &str = "rule:";

/// A rule's name and an agent's.
type Pair = (Arc<str>, Arc<str>);

/// An agent that a rule matches.
#[derive(Debug, Clone)]
struct Match {
    /// The time of the first look that found it, in ms since the epoch.
    since: u64,
    /// The reason, in words.
    why: String,
    /// Whether it was told of this match.
    is_told: bool,
    /// Why the rule does not act on it, as of the last look.
    held_back: Option<HeldBack>,
}

/// The reason why an acting rule leaves an agent that matches alone. The names are those of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum HeldBack {
    /// It does not match for long enough yet.
    For,
    /// Too many match.
    BlastRadius,
    /// It is away.
    Away,
    /// It is on a commanded restart.
    OnRestart,
    /// It is back from the restart of a rollout, and has to stay.
    InRollout,
    /// It is drained from the hub already.
    Drained,
    /// The rule acted on it a short time ago.
    Cooldown,
    /// The rule has acted on it often enough.
    MaxPerAgent,
    /// Too many agents are on a restart, or drained by a rule.
    MaxUnavailable,
}

/// What a rule did, or would have done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealingNews {
    /// It acted on an agent.
    Acted {
        /// The rule.
        rule: Arc<Rule>,
        /// The agent.
        agent_id: Arc<str>,
        /// The reason, in words.
        why: String,
        /// The restart's id; `None` of a drain.
        command_id: Option<Arc<str>>,
    },
    /// It tells of an agent and does nothing.
    Told {
        /// The rule.
        rule: Arc<Rule>,
        /// The agent.
        agent_id: Arc<str>,
        /// The reason, in words.
        why: String,
    },
    /// So many agents match that it does nothing.
    TooManyMatch {
        /// The rule.
        rule: Arc<Rule>,
        /// How many match.
        matching: usize,
        /// How many may.
        most: u32,
    },
    /// Few enough agents match again.
    FewEnoughMatch {
        /// The rule.
        rule: Arc<Rule>,
    },
}

/// An act that a look came to.
struct Order {
    rule: Arc<Rule>,
    agent_id: Arc<str>,
    why: String,
    /// The id of the restart, if it is one.
    command_id: Option<Arc<str>>,
}

/// The rules, and what they found and did.
#[derive(Debug, Clone)]
pub struct Healing {
    max_unavailable: Amount,
    rules: Vec<Arc<Rule>>,
    file: Option<Arc<str>>,
    loaded_at: Option<u64>,
    last_error: Option<FileError>,
    matching: BTreeMap<Pair, Match>,
    /// The rules that do nothing because too many agents match.
    off: BTreeSet<Arc<str>>,
    records: BTreeMap<Pair, HealingRecord>,
    dirty: BTreeSet<Pair>,
    looked_at: Option<u64>,
    next_look_at: Option<u64>,
    news: Vec<HealingNews>,
    status: Arc<HealingStatus>,
}

impl Default for Healing {
    fn default() -> Self {
        Self {
            max_unavailable: RuleSet::default().max_unavailable,
            rules: Vec::new(),
            file: None,
            loaded_at: None,
            last_error: None,
            matching: BTreeMap::new(),
            off: BTreeSet::new(),
            records: BTreeMap::new(),
            dirty: BTreeSet::new(),
            looked_at: None,
            next_look_at: None,
            news: Vec::new(),
            status: Arc::default(),
        }
    }
}

impl Healing {
    /// Restores what rules did from what was stored, without rules.
    fn load(stored: Vec<HealingRecord>, now_ms: u64) -> Self {
        let records = stored.into_iter().map(|record| record.not_after(now_ms));
        let records = records.map(|record| ((record.rule.clone(), record.agent_id.clone()), record)).collect();
        Self { records, ..Self::default() }
    }

    /// Returns one record.
    pub(super) fn record(&self, pair: &Pair) -> Option<&HealingRecord> {
        self.records.get(pair)
    }

    /// Returns the records to store (or, if `record` returns none, to delete) since the last call.
    pub(super) fn take_dirty(&mut self) -> BTreeSet<Pair> {
        std::mem::take(&mut self.dirty)
    }

    /// Returns the time of the next look, in ms since the epoch; `None` without rules.
    pub(super) fn deadline(&self) -> Option<u64> {
        self.next_look_at
    }

    /// Puts these rules in force. A rule that is as before goes on as it is.
    fn set_rules(&mut self, rules: RuleSet, now_ms: u64) {
        let before = std::mem::take(&mut self.rules);
        let kept = |rule: &Rule| before.iter().find(|old| ***old == *rule).cloned();
        self.rules = rules.rules.into_iter().map(|rule| kept(&rule).unwrap_or_else(|| Arc::new(rule))).collect();
        self.max_unavailable = rules.max_unavailable;
        let same: BTreeSet<&str> =
            self.rules.iter().filter(|rule| before.contains(rule)).map(|rule| rule.name.as_str()).collect();
        self.matching.retain(|(rule, _), _| same.contains(&**rule));
        self.off.retain(|rule| same.contains(&**rule));
        self.next_look_at = (!self.rules.is_empty()).then_some(now_ms);
    }

    /// Moves what is measured `ms` later, or earlier if that is negative, because the clock was set.
    pub(super) fn move_by(&mut self, ms: i64) {
        self.matching.values_mut().for_each(|found| move_time(&mut found.since, ms));
        self.records.values_mut().for_each(|record| record.move_by(ms));
        self.dirty.extend(self.records.keys().cloned());
        self.next_look_at.iter_mut().for_each(|at| move_time(at, ms));
        self.show();
    }

    /// Forgets an agent whose record is forgotten.
    fn forget(&mut self, agent_id: &str) {
        self.matching.retain(|(_, other), _| **other != *agent_id);
        let gone: Vec<Pair> = self.records.keys().filter(|(_, other)| **other == *agent_id).cloned().collect();
        for pair in gone {
            self.records.remove(&pair);
            self.dirty.insert(pair);
        }
    }

    fn record_mut(&mut self, rule: &str, agent_id: &Arc<str>) -> &mut HealingRecord {
        let pair: Pair = (rule.into(), agent_id.clone());
        self.dirty.insert(pair.clone());
        self.records.entry(pair).or_insert_with_key(|(rule, agent_id)| HealingRecord::new(rule, agent_id))
    }

    /// Feeds what decides the future to `hasher`, with every time counted by `from_now` or `since`.
    pub(super) fn state_hash(
        &self,
        from_now: impl Fn(u64) -> u64,
        since: impl Fn(u64) -> u64,
        hasher: &mut impl Hasher,
    ) {
        for (pair, found) in &self.matching {
            (pair, since(found.since), found.is_told).hash(hasher);
        }
        for (pair, record) in &self.records {
            (pair, record.acted_at.iter().map(|at| since(*at)).collect::<Vec<_>>()).hash(hasher);
            record.told_at.map(&since).hash(hasher);
        }
        (&self.off, self.next_look_at.map(from_now)).hash(hasher);
    }
}

impl Scheduler {
    /// Restores what rules did from what was stored.
    #[must_use]
    pub fn with_healing(mut self, stored: Vec<HealingRecord>, now_ms: u64) -> Self {
        self.healing = Healing::load(stored, now_ms);
        self
    }

    /// Puts the rules of this file in force.
    pub fn set_healing(&mut self, rules: RuleSet, file: &str, now_ms: u64) {
        self.healing.set_rules(rules, now_ms);
        self.healing.file = Some(file.into());
        self.healing.loaded_at = Some(now_ms);
        self.healing.last_error = None;
        self.healing.show();
    }

    /// Records that the file of the rules cannot be used: those that are in force stay.
    pub fn healing_failed(&mut self, file: &str, why: &str, now_ms: u64) {
        self.healing.file = Some(file.into());
        self.healing.last_error = Some(FileError { at: now_ms, detail: why.to_owned() });
        self.healing.show();
    }

    /// Returns the rules and what they found, as of the last look.
    pub fn healing_status(&self) -> &Arc<HealingStatus> {
        &self.healing.status
    }

    /// Returns what rules did since the last call.
    pub fn take_healing_news(&mut self) -> Vec<HealingNews> {
        std::mem::take(&mut self.healing.news)
    }

    /// Lets the rules look at the fleet, if it is time, and carries out what they come to.
    pub(super) fn heal(&mut self, now_ms: u64) {
        if self.healing.next_look_at.is_none_or(|at| at > now_ms) {
            return;
        }
        let view = self.view();
        let orders = self.healing.look(Fleet { view: &view, now_ms });
        for order in orders {
            self.carry_out(order, now_ms);
        }
        self.healing.show();
    }

    fn carry_out(&mut self, order: Order, now_ms: u64) {
        let Order { rule, agent_id, why, command_id } = order;
        let (by, reason) = (format!("{AUTHOR_PREFIX}{}", rule.name), why.clone());
        let is_done = match &command_id {
            Some(command_id) => {
                let request = RestartRequest { reason, deadline_ms: None, force: false, by };
                self.command_restart(command_id.as_ref().to_owned(), &agent_id, request, now_ms).is_some()
            }
            None => {
                let request = DrainRequest { by, reason: Some(reason), until: None, deadline: None };
                self.drain(&agent_id, request, now_ms).is_some()
            }
        };
        if is_done {
            self.healing.record_mut(&rule.name, &agent_id).act(&rule, command_id.as_deref(), now_ms);
            self.healing.news.push(HealingNews::Acted { rule, agent_id, why, command_id });
        }
    }

    /// Forgets what rules did to an agent whose record is forgotten.
    pub(super) fn forget_healing(&mut self, agent_id: &str) {
        self.healing.forget(agent_id);
    }
}
