//! Healing rules: what a file may say, what each rule finds and does, and what holds whatever happens.

mod acts;
mod properties;
mod rules;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::hub::scheduler::Scheduler;
use crate::hub::scheduler::healing::record::HealingRecord;
use crate::hub::scheduler::healing::rules::RuleSet;
use crate::hub::scheduler::healing::{HealingNews, LOOK_MS};
use crate::hub::scheduler::inventory::record::AgentRecord;
use crate::hub::scheduler::policy::Policy;
use crate::hub::scheduler::restart::Restart;
use crate::hub::scheduler::task::Task;
use crate::hub::scheduler::tests::rig::Rig;

/// What a store would hold by now.
#[derive(Default)]
struct Stored {
    tasks: BTreeMap<String, Task>,
    restarts: BTreeMap<String, Restart>,
    agents: BTreeMap<String, AgentRecord>,
    healing: BTreeMap<String, HealingRecord>,
    moment: u64,
}

impl Stored {
    fn put<T: Clone>(table: &mut BTreeMap<String, T>, changes: Vec<(String, Option<&T>)>) {
        for (key, record) in changes {
            match record {
                Some(record) => table.insert(key, record.clone()),
                None => table.remove(&key),
            };
        }
    }

    /// Stores what is to be stored.
    fn commit(&mut self, scheduler: &mut Scheduler) {
        let changes = scheduler.take_changes();
        self.moment = changes.moment.unwrap_or(self.moment);
        Self::put(&mut self.tasks, changes.tasks);
        Self::put(&mut self.restarts, changes.restarts);
        Self::put(&mut self.agents, changes.agents);
        Self::put(&mut self.healing, changes.healing);
    }

    /// A hub that was killed starts again.
    fn start(&self, now_ms: u64) -> Scheduler {
        let (tasks, restarts) = (self.tasks.values().cloned().collect(), self.restarts.values().cloned().collect());
        Scheduler::load(tasks, restarts, Policy::default(), now_ms)
            .with_agents(self.agents.values().cloned().collect(), self.moment)
            .with_healing(self.healing.values().cloned().collect(), now_ms)
    }
}

/// Reads rules as a file has them.
fn rules(file: &Value) -> RuleSet {
    RuleSet::parse(&file.to_string()).unwrap()
}

/// One rule of this name that restarts at once, with these fields besides.
fn restarting(name: &str, when: &Value, more: &Value) -> Value {
    let mut rule = json!({"name": name, "when": when, "action": "restart", "act": true, "for_ms": 0});
    for (key, value) in more.as_object().unwrap() {
        rule[key] = value.clone();
    }
    rule
}

impl Rig {
    fn obey(&mut self, file: &Value) {
        self.scheduler.set_healing(rules(file), "rules.json", self.now);
    }

    /// Lets the rules look at the fleet at this time, and returns what they did.
    fn look_at(&mut self, now: u64) -> Vec<String> {
        self.now = now;
        self.scheduler.tick(now);
        let told = |news: HealingNews| match news {
            HealingNews::Acted { rule, agent_id, .. } => format!("{} {} {agent_id}", rule.name, rule.action.name()),
            HealingNews::Told { rule, agent_id, .. } => format!("{} tells of {agent_id}", rule.name),
            HealingNews::TooManyMatch { rule, matching, most } => format!("{} off: {matching} of {most}", rule.name),
            HealingNews::FewEnoughMatch { rule } => format!("{} on", rule.name),
        };
        self.scheduler.take_healing_news().into_iter().map(told).collect()
    }

    /// The same after so many looks from now on.
    fn look(&mut self, looks: u64) -> Vec<String> {
        (0..looks).flat_map(|_| self.look_at(self.now + LOOK_MS)).collect()
    }

    fn healing(&self) -> Value {
        serde_json::to_value(&**self.scheduler.healing_status()).unwrap()
    }
}
