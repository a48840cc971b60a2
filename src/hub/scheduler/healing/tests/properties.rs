//! What holds for healing whatever happens: random agents, tasks, drops, operators, jumps of time, reloads and crashes of the
//! hub before and after each commit.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::hub::scheduler::Scheduler;
use crate::hub::scheduler::drains::DrainRequest;
use crate::hub::scheduler::healing::rules::{Remedy, Rule, RuleSet};
use crate::hub::scheduler::healing::tests::{Stored, rules};
use crate::hub::scheduler::healing::{HealingNews, LOOK_MS};
use crate::hub::scheduler::inventory::Flush;
use crate::hub::scheduler::inventory::close::Closing;
use crate::hub::scheduler::policy::Policy;
use crate::hub::scheduler::restart::RestartRequest;
use crate::hub::scheduler::task::Priority;
use crate::hub::scheduler::tests::rig::{accepted, progress, submission};
use crate::protocol::{FEATURE_TASK_REASSIGN, Identify, RestartAck, RestartAckOutcome, Restarting, SidecarFrame};

const AGENTS: u8 = 5;

#[derive(Debug, Clone)]
enum Op {
    Join {
        agent: u8,
        new_run: bool,
        old: bool,
    },
    Drop {
        agent: u8,
    },
    Submit,
    Accept {
        agent: u8,
    },
    Progress {
        agent: u8,
    },
    Refuse {
        agent: u8,
    },
    Goodbye {
        agent: u8,
    },
    Command {
        agent: u8,
    },
    Drain {
        agent: u8,
    },
    Resume {
        agent: u8,
    },
    OwnerLeaves {
        agent: u8,
    },
    Wait {
        ms: u32,
    },
    /// The time of the next look comes.
    Look(Crash),
    Reload {
        file: u8,
    },
}

/// Whether, and when, the hub is killed at a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Crash {
    No,
    BeforeCommit,
    AfterCommit,
}

fn op() -> impl Strategy<Value = Op> {
    let agent = 0..AGENTS;
    let crash = prop_oneof![6 => Just(Crash::No), 1 => Just(Crash::BeforeCommit), 1 => Just(Crash::AfterCommit)];
    prop_oneof![
        8 => (agent.clone(), any::<bool>(), prop::bool::weighted(0.6)).prop_map(|(agent, new_run, old)| Op::Join { agent, new_run, old }),
        1 => agent.clone().prop_map(|agent| Op::Drop { agent }),
        2 => Just(Op::Submit),
        2 => agent.clone().prop_map(|agent| Op::Accept { agent }),
        1 => agent.clone().prop_map(|agent| Op::Progress { agent }),
        2 => agent.clone().prop_map(|agent| Op::Refuse { agent }),
        1 => agent.clone().prop_map(|agent| Op::Goodbye { agent }),
        1 => agent.clone().prop_map(|agent| Op::Command { agent }),
        1 => agent.clone().prop_map(|agent| Op::Drain { agent }),
        2 => agent.clone().prop_map(|agent| Op::Resume { agent }),
        1 => agent.prop_map(|agent| Op::OwnerLeaves { agent }),
        2 => (0..120_000u32).prop_map(|ms| Op::Wait { ms }),
        14 => crash.prop_map(Op::Look),
        1 => (0..3u8).prop_map(|file| Op::Reload { file }),
    ]
}

/// The files that the operator changes between.
fn file(number: u8) -> RuleSet {
    let budget = json!({"times": 2, "within_ms": 400_000});
    let old = |act: bool, more: &Value| {
        let mut rule = json!({"name": "old", "selector": {"ids": ["agent-0", "agent-1", "agent-2", "agent-3"]}, "when": {"version_not": "2"},
            "for_ms": 0, "action": "restart", "act": act, "cooldown_ms": 30_000, "max_per_agent": budget, "blast_radius": "50%"});
        more.as_object().unwrap().iter().for_each(|(key, value)| rule[key] = value.clone());
        rule
    };
    let stuck = |act: bool| {
        json!({"name": "stuck", "when": {"task_silent_ms": 20_000}, "for_ms": 5_000, "action": "drain", "act": act,
        "cooldown_ms": 60_000, "max_per_agent": budget, "blast_radius": "100%"})
    };
    rules(&match number {
        0 => json!({"max_unavailable": 2, "rules": [old(true, &json!({})), stuck(true)]}),
        1 => {
            json!({"max_unavailable": 1, "rules": [stuck(true), old(false, &json!({})), old(true, &json!({"name": "older"}))]})
        }
        _ => json!({"max_unavailable": "40%", "rules": [old(true, &json!({"for_ms": 10_000})), stuck(false)]}),
    })
}

struct World {
    scheduler: Scheduler,
    now: u64,
    stored: Stored,
    file: RuleSet,
    next: u64,
    runs: [u32; AGENTS as usize],
    conns: BTreeMap<u8, u64>,
    /// When each rule acted on each agent, as the audit has it.
    acted: BTreeMap<(String, String), Vec<u64>>,
    acts: usize,
}

fn name(agent: u8) -> String {
    format!("agent-{agent}")
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            scheduler: Scheduler::load(Vec::new(), Vec::new(), Policy::default(), 0),
            now: 0,
            stored: Stored::default(),
            file: file(0),
            next: 0,
            runs: [0; AGENTS as usize],
            conns: BTreeMap::new(),
            acted: BTreeMap::new(),
            acts: 0,
        };
        world.reload();
        world
    }

    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn reload(&mut self) {
        self.scheduler.set_healing(self.file.clone(), "rules.json", self.now);
    }

    fn hear(&mut self, agent: u8, frame: SidecarFrame) {
        if let Some(conn) = self.conns.get(&agent) {
            self.scheduler.frame_received(*conn, frame, self.now);
        }
    }

    fn held(&self, agent: u8) -> String {
        self.scheduler.tasks().task_of(&name(agent)).map_or_else(|| "none".to_owned(), |task| task.id.clone())
    }

    fn apply(&mut self, op: &Op) {
        self.now += 1;
        match *op {
            Op::Join { agent, new_run, old } => self.join(agent, new_run, old),
            Op::Drop { agent } => {
                if let Some(conn) = self.conns.remove(&agent) {
                    self.scheduler.disconnected(conn, self.now);
                }
            }
            Op::Submit => {
                let id = format!("t{}", self.fresh());
                self.scheduler.submit(id, submission(Priority::Normal), self.now);
            }
            Op::Accept { agent } => self.hear(agent, accepted(&self.held(agent))),
            Op::Progress { agent } => self.hear(agent, progress(&self.held(agent))),
            Op::Refuse { agent } => {
                let open = self.scheduler.restarts().open_for(&name(agent)).map(|open| open.command_id.clone());
                let Some(command_id) = open else { return };
                let (outcome, detail) = (RestartAckOutcome::Refused, None);
                self.hear(
                    agent,
                    SidecarFrame::RestartAck(RestartAck {
                        command_id,
                        outcome,
                        detail,
                        deadline_ms: None,
                        retry_after_ms: None,
                    }),
                );
            }
            Op::Goodbye { agent } => self.hear(agent, SidecarFrame::AgentRestarting(Restarting::default())),
            Op::Command { agent } => {
                let request = RestartRequest { reason: "r".into(), deadline_ms: None, force: false, by: "ops".into() };
                let id = format!("c{}", self.fresh());
                self.scheduler.command_restart(id, &name(agent), request, self.now);
            }
            Op::Drain { agent } => {
                let request = DrainRequest { by: "ops".into(), reason: None, until: None, deadline: None };
                self.scheduler.drain(&name(agent), request, self.now);
            }
            Op::Resume { agent } => drop(self.scheduler.resume(&name(agent), self.now)),
            Op::OwnerLeaves { agent } => {
                if let Some(conn) = self.conns.remove(&agent) {
                    self.scheduler.expel(conn, &Closing::revoked(), self.now);
                }
                self.scheduler.owner_left(&name(agent), self.now);
                self.acted.retain(|(_, agent_id), _| *agent_id != name(agent));
            }
            Op::Wait { ms } => self.now += u64::from(ms),
            Op::Look(crash) => self.look(crash),
            Op::Reload { file: number } => {
                self.file = file(number);
                self.reload();
            }
        }
    }

    fn join(&mut self, agent: u8, new_run: bool, old: bool) {
        self.runs[usize::from(agent)] += u32::from(new_run);
        let run = self.runs[usize::from(agent)];
        let (boot_id, version) = (Some(format!("boot-{run}")), Some(if old { "1" } else { "2" }.to_owned()));
        let features = vec![FEATURE_TASK_REASSIGN.to_owned()];
        let identify = Identify { agent_id: name(agent), boot_id, version, features, ..Identify::default() };
        let conn = self.fresh();
        self.scheduler.identified(conn, &identify, "10.0.0.1:1", self.now);
        if self.scheduler.agents.connected(&name(agent)).is_some_and(|(_, current)| current == conn) {
            self.conns.insert(agent, conn);
        }
    }

    fn look(&mut self, crash: Crash) {
        self.now += LOOK_MS;
        let before = self.scheduler.clone();
        self.scheduler.tick(self.now);
        assert!(self.scheduler.deadline().is_none_or(|next| next > self.now), "it spins at {}", self.now);
        let news = self.scheduler.take_healing_news();
        if crash != Crash::BeforeCommit {
            self.commit();
            self.check_acts(&before, &news);
        }
        if crash != Crash::No {
            self.scheduler = self.stored.start(self.now);
            self.conns.clear();
            self.reload();
        }
    }

    fn commit(&mut self) {
        self.scheduler.flush_inventory(Flush::Part, self.now);
        self.stored.commit(&mut self.scheduler);
    }

    /// Every act of a look was allowed by what was so before it.
    fn check_acts(&mut self, before: &Scheduler, news: &[HealingNews]) {
        // What the tick did before the rules looked: restarts that took too long.
        let mut before = before.clone();
        before.healing = Default::default();
        before.tick(self.now);
        let mut unavailable: BTreeSet<String> = before.restarts().fenced().map(str::to_owned).collect();
        let records = before.inventory().all();
        let by_rule = records.values().filter(|record| {
            record.presence.is_connected()
                && record.hub_drain.as_ref().is_some_and(|drain| drain.by.starts_with("rule:"))
        });
        unavailable.extend(by_rule.map(|record| record.agent_id.as_ref().to_owned()));
        let most = self.file.max_unavailable.at_least_one_of(u32::try_from(before.connected_count()).unwrap());
        let mut taken = BTreeSet::new();
        for news in news {
            let HealingNews::Acted { rule, agent_id, command_id, .. } = news else { continue };
            let said = format!("{} acts on {agent_id} at {}", rule.name, self.now);
            assert!(rule.act && self.file.rules.iter().any(|known| *known == **rule), "{said}");
            assert!(before.is_connected(agent_id) && before.restarts().open_for(agent_id).is_none(), "{said}");
            assert!(taken.insert(agent_id.clone()), "{said} as another rule did");
            let is_counted = unavailable.contains(&**agent_id);
            assert!(is_counted || unavailable.len() < usize::try_from(most).unwrap(), "{said}, beside {unavailable:?}");
            unavailable.insert(agent_id.as_ref().to_owned());
            self.check_blast_radius(&before, rule);
            self.check_times(rule, agent_id);
            match (rule.action, command_id) {
                (Remedy::Restart, Some(command_id)) => {
                    let restart = &self.stored.restarts[&**command_id];
                    assert_eq!(
                        (restart.by.clone(), restart.agent_id.as_str()),
                        (format!("rule:{}", rule.name), &**agent_id)
                    );
                }
                (Remedy::Drain, None) => assert!(self.stored.agents[&**agent_id].hub_drain.is_some(), "{said}"),
                other => panic!("{said}: {other:?}"),
            }
            let times = &self.stored.healing[&format!("{}/{agent_id}", rule.name)].acted_at;
            assert_eq!(times.last(), Some(&self.now), "{said}, and the store does not have it");
            self.acts += 1;
        }
    }

    fn check_times(&mut self, rule: &Rule, agent_id: &str) {
        let times = self.acted.entry((rule.name.clone(), agent_id.to_owned())).or_default();
        let cool = times.last().is_none_or(|last| last + rule.cooldown_ms <= self.now);
        assert!(cool, "{} acts on {agent_id} within its cooldown: {times:?}, {}", rule.name, self.now);
        let counted = times.iter().filter(|at| **at + rule.max_per_agent.within_ms > self.now).count();
        assert!(counted < usize::try_from(rule.max_per_agent.times).unwrap(), "{} on {agent_id}: {times:?}", rule.name);
        times.push(self.now);
    }

    /// Of the rules that look at versions, as told by the records alone.
    fn check_blast_radius(&self, before: &Scheduler, rule: &Rule) {
        if rule.name == "stuck" {
            return;
        }
        let ids = rule.selector.ids().unwrap();
        let here = || {
            before
                .inventory()
                .all()
                .values()
                .filter(|record| record.presence.is_connected() && ids.contains(&*record.agent_id))
        };
        let matching = here().filter(|record| record.about.version.as_deref() == Some("1")).count();
        assert!(matching <= 1 || matching * 2 <= here().count(), "{} acts, and {matching} match", rule.name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_rule_does_what_it_may_and_no_more(ops in proptest::collection::vec(op(), 1..150)) {
        let mut world = World::new();
        for op in &ops {
            world.apply(op);
            world.commit();
            world.scheduler.take_outgoing();
        }
    }
}

/// A long life has acts of both kinds: the properties are not empty.
#[test]
fn a_long_life_has_acts() {
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let ops = proptest::collection::vec(op(), 3_000).new_tree(&mut runner).unwrap().current();
    let mut world = World::new();
    for op in &ops {
        world.apply(op);
        world.commit();
        world.scheduler.take_outgoing();
    }
    assert!(world.acts > 20, "{}", world.acts);
}
