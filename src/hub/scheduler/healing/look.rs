//! One look of the rules at the fleet: what they find, and what they come to. Pure; the scheduler carries it out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::hub::scheduler::amount::Amount;
use crate::hub::scheduler::healing::condition::Fleet;
use crate::hub::scheduler::healing::record::HealingRecord;
use crate::hub::scheduler::healing::rules::{Remedy, Rule};
use crate::hub::scheduler::healing::{AUTHOR_PREFIX, Healing, HealingNews, HeldBack, LOOK_MS, Match, Order, Pair};

/// How much may be done in one look.
struct Scope {
    /// The agents that are on a restart, not proven after one by a rollout, or drained by a rule.
    unavailable: BTreeSet<Arc<str>>,
    /// How many may be.
    most: usize,
    /// Those of them that a rollout deals with.
    in_rollout: BTreeSet<Arc<str>>,
    /// The agents that something is done to in this look.
    taken: BTreeSet<Arc<str>>,
}

impl Healing {
    /// Lets every rule look at the fleet, and returns what is to be done.
    pub(super) fn look(&mut self, fleet: Fleet<'_>) -> Vec<Order> {
        self.looked_at = Some(fleet.now_ms);
        self.next_look_at = (!self.rules.is_empty()).then(|| fleet.now_ms.saturating_add(LOOK_MS));
        let connected = u32::try_from(fleet.view.connected_count()).unwrap_or(u32::MAX);
        let most = usize::try_from(self.max_unavailable.at_least_one_of(connected)).unwrap_or(usize::MAX);
        let in_rollout: BTreeSet<Arc<str>> = fleet.view.rollouts().agents_in_flight().cloned().collect();
        let mut unavailable = fleet.unavailable();
        unavailable.extend(in_rollout.iter().cloned());
        let mut scope = Scope { unavailable, in_rollout, most, taken: BTreeSet::new() };
        let mut orders = Vec::new();
        for rule in self.rules.clone() {
            // 1. Who matches, and since when.
            let count = self.find(&rule, fleet);
            // 2. Too many of them are no single agent's trouble.
            if self.is_off(&rule, count, fleet) {
                continue;
            }
            // 3. One by one, the longest first.
            for agent_id in self.longest_first(&rule) {
                if let Some(order) = self.consider(&rule, &agent_id, fleet, &mut scope) {
                    orders.push(order);
                }
            }
        }
        self.drop_old_records(fleet.now_ms);
        orders
    }

    /// Records which agents match the rule, and returns how many.
    fn find(&mut self, rule: &Arc<Rule>, fleet: Fleet<'_>) -> usize {
        let found = fleet.matching(rule);
        self.matching.retain(|(name, agent_id), _| **name != *rule.name || found.contains_key(agent_id));
        let count = found.len();
        let name: Arc<str> = rule.name.as_str().into();
        for (agent_id, why) in found {
            let new = Match { since: fleet.now_ms, why: String::new(), is_told: false, held_back: None };
            self.matching.entry((name.clone(), agent_id)).or_insert(new).why = why;
        }
        count
    }

    /// Returns whether more agents match the rule than its blast radius allows, and tells where that has changed.
    fn is_off(&mut self, rule: &Arc<Rule>, matching: usize, fleet: Fleet<'_>) -> bool {
        let most = match rule.blast_radius {
            Amount::Number(number) => number,
            // One always may.
            Amount::Percent(_) if matching <= 1 => 1,
            // Of many agents no more are counted than needed.
            share @ Amount::Percent(_) => {
                let enough = share.total_for(u32::try_from(matching).unwrap_or(u32::MAX));
                share.at_least_one_of(fleet.connected(&rule.selector, enough))
            }
        };
        let is_off = matching > usize::try_from(most).unwrap_or(usize::MAX);
        let name: Arc<str> = rule.name.as_str().into();
        if is_off && self.off.insert(name.clone()) {
            self.news.push(HealingNews::TooManyMatch { rule: rule.clone(), matching, most });
        }
        if !is_off && self.off.remove(&name) {
            self.news.push(HealingNews::FewEnoughMatch { rule: rule.clone() });
        }
        if is_off {
            let of_rule = self.matching.iter_mut().filter(|((other, _), _)| *other == name);
            of_rule.for_each(|(_, found)| found.held_back = Some(HeldBack::BlastRadius));
        }
        is_off
    }

    fn longest_first(&self, rule: &Rule) -> Vec<Arc<str>> {
        let of_rule = self.matching.iter().filter(|((name, _), _)| **name == *rule.name);
        let mut agents: Vec<(u64, Arc<str>)> =
            of_rule.map(|((_, agent_id), found)| (found.since, agent_id.clone())).collect();
        agents.sort();
        agents.into_iter().map(|(_, agent_id)| agent_id).collect()
    }

    /// Decides what is done to one agent that matches; tells of it where the rule does not act.
    fn consider(
        &mut self,
        rule: &Arc<Rule>,
        agent_id: &Arc<str>,
        fleet: Fleet<'_>,
        scope: &mut Scope,
    ) -> Option<Order> {
        let pair: Pair = (rule.name.as_str().into(), agent_id.clone());
        let found = self.matching.get(&pair)?.clone();
        let held_back = match fleet.now_ms.saturating_sub(found.since) < rule.for_ms {
            true => Some(HeldBack::For),
            false if rule.act => self.held_back(rule, &pair, fleet, scope),
            false => None,
        };
        if let Some(found) = self.matching.get_mut(&pair) {
            found.held_back = held_back;
        }
        if held_back.is_some() {
            return None;
        }
        if !rule.act {
            self.tell(rule, &pair, &found, fleet.now_ms);
            return None;
        }
        scope.unavailable.insert(agent_id.clone());
        scope.taken.insert(agent_id.clone());
        let number = scope.taken.len();
        let command_id = match rule.action {
            Remedy::Restart => Some(format!("rule-{}-{}-{number}", rule.name, fleet.now_ms).into()),
            Remedy::Drain | Remedy::Notify => None,
        };
        Some(Order { rule: rule.clone(), agent_id: agent_id.clone(), why: found.why, command_id })
    }

    /// Returns why an acting rule leaves the agent alone now, if it does.
    fn held_back(&self, rule: &Rule, pair: &Pair, fleet: Fleet<'_>, scope: &Scope) -> Option<HeldBack> {
        let (_, agent_id) = pair;
        let record = self.records.get(pair);
        let counts_already = scope.unavailable.contains(agent_id);
        let reasons = [
            (!fleet.is_connected(agent_id), HeldBack::Away),
            (fleet.is_on_restart(agent_id) || scope.taken.contains(agent_id), HeldBack::OnRestart),
            (scope.in_rollout.contains(agent_id), HeldBack::InRollout),
            (rule.action == Remedy::Drain && fleet.is_drained(agent_id), HeldBack::Drained),
            (record.is_some_and(|record| record.cools_down(rule, fleet.now_ms)), HeldBack::Cooldown),
            (record.is_some_and(|record| record.is_spent(rule.max_per_agent, fleet.now_ms)), HeldBack::MaxPerAgent),
            (!counts_already && scope.unavailable.len() >= scope.most, HeldBack::MaxUnavailable),
        ];
        reasons.into_iter().find_map(|(is_so, why)| is_so.then_some(why))
    }

    /// Tells once of an agent that has matched for long enough, and not again within the cooldown.
    fn tell(&mut self, rule: &Arc<Rule>, pair: &Pair, found: &Match, now_ms: u64) {
        if found.is_told {
            return;
        }
        if let Some(found) = self.matching.get_mut(pair) {
            found.is_told = true;
        }
        if self.records.get(pair).is_some_and(|record| record.was_told(rule, now_ms)) {
            return;
        }
        self.record_mut(&rule.name, &pair.1).told_at = Some(now_ms);
        self.news.push(HealingNews::Told { rule: rule.clone(), agent_id: pair.1.clone(), why: found.why.clone() });
    }

    /// Drops the records of which nothing counts any more.
    fn drop_old_records(&mut self, now_ms: u64) {
        let rules: BTreeMap<&str, &Rule> = self.rules.iter().map(|rule| (rule.name.as_str(), &**rule)).collect();
        let is_old = |(name, _): &Pair, record: &HealingRecord| {
            let rule: Option<&Rule> = rules.get(&**name).copied();
            record.counts_until(rule) <= now_ms
        };
        let old: Vec<Pair> =
            self.records.iter().filter(|(pair, record)| is_old(pair, record)).map(|(pair, _)| pair.clone()).collect();
        for pair in old {
            self.records.remove(&pair);
            self.dirty.insert(pair);
        }
    }
}

impl Fleet<'_> {
    /// Returns the agents that are on a commanded restart, or connected and drained by a rule.
    fn unavailable(self) -> BTreeSet<Arc<str>> {
        let on_restart = self.view.restarts.fenced_after(None).map(Into::into);
        let drained = self.view.records.iter().filter(|(_, record)| {
            let by_rule = record.hub_drain.as_ref().is_some_and(|drain| drain.by.starts_with(AUTHOR_PREFIX));
            by_rule && record.presence.is_connected()
        });
        on_restart.chain(drained.map(|(agent_id, _)| agent_id.clone())).collect()
    }

    fn is_connected(self, agent_id: &str) -> bool {
        self.view.record(agent_id).is_some_and(|record| record.presence.is_connected())
    }

    fn is_on_restart(self, agent_id: &str) -> bool {
        self.view.restarts.open_for(agent_id).is_some()
    }

    fn is_drained(self, agent_id: &str) -> bool {
        self.view.record(agent_id).is_some_and(|record| record.hub_drain.is_some())
    }
}
