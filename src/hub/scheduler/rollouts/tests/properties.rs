//! What holds for a rollout in any fleet, whatever happens: agents that die, return, refuse and are restarted by hand,
//! operators who change their minds, and a hub that is killed between any two steps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::bench::{Bench, Step};
use crate::hub::scheduler::amount::Amount;
use crate::hub::scheduler::restart::{Restart, RestartPhase};
use crate::hub::scheduler::rollouts::plan::{OfflinePolicy, Plan};
use crate::hub::scheduler::rollouts::rollout::Rollout;
use crate::hub::scheduler::rollouts::target::{Counts, Target, TargetState};
use crate::protocol::{Identify, STATUS_UNWELL, SidecarFrame};

const AGENTS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
/// In none of the rollouts.
const OTHER: &str = "z";

#[derive(Debug, Clone)]
enum Op {
    Join(usize),
    JoinAsOriginal(usize),
    Leave(usize),
    Restart(usize),
    ByHand(usize),
    Refuse {
        agent: usize,
        for_now: bool,
    },
    Delivered(usize),
    Cordon {
        agent: usize,
        on: bool,
    },
    Unwell(usize),
    NewOwner(usize),
    Wait(u64),
    /// The clock is set by so many ms.
    ClockSet(i64),
    /// To the next time at which anything is due.
    Due,
    Pause,
    Resume,
    Promote,
    Cancel,
    Recall,
    Retry,
    Crash,
    /// The hub is killed before it could store what has time.
    CrashEarly(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let agent = 0..AGENTS.len();
    prop_oneof![
        4 => agent.clone().prop_map(Op::Join),
        1 => agent.clone().prop_map(Op::JoinAsOriginal),
        2 => agent.clone().prop_map(Op::Leave),
        8 => agent.clone().prop_map(Op::Restart),
        1 => agent.clone().prop_map(Op::ByHand),
        2 => (agent.clone(), any::<bool>()).prop_map(|(agent, for_now)| Op::Refuse { agent, for_now }),
        1 => agent.clone().prop_map(Op::Delivered),
        1 => (agent.clone(), any::<bool>()).prop_map(|(agent, on)| Op::Cordon { agent, on }),
        1 => agent.clone().prop_map(Op::Unwell),
        1 => agent.clone().prop_map(Op::NewOwner),
        3 => (0..20_000_u64).prop_map(Op::Wait),
        1 => (0..2_000_000_u64).prop_map(Op::Wait),
        2 => (-40_000_000_i64..40_000_000).prop_map(Op::ClockSet),
        4 => Just(Op::Due),
        1 => Just(Op::Pause),
        2 => Just(Op::Resume),
        2 => Just(Op::Promote),
        1 => Just(Op::Cancel),
        1 => Just(Op::Recall),
        1 => Just(Op::Retry),
        2 => Just(Op::Crash),
        1 => agent.prop_map(Op::CrashEarly),
    ]
}

fn amount() -> impl Strategy<Value = Amount> {
    prop_oneof![(1..4_u32).prop_map(Amount::Number), (1..=100_u8).prop_map(Amount::Percent)]
}

fn plan() -> impl Strategy<Value = Plan> {
    let waves = (proptest::option::of(amount()), any::<bool>(), proptest::option::of(amount()));
    let bounds = (amount(), 0..3_u32, prop_oneof![Just(0), Just(5_000_u64)]);
    (waves, bounds, any::<bool>(), any::<bool>()).prop_map(
        |((canary, auto, step), (max, failures, soak_ms), waits, expects)| Plan {
            max_unavailable: max,
            canary,
            auto_promote: auto && canary.is_some(),
            steps: step.into_iter().collect(),
            soak_ms,
            max_failures: Amount::Number(failures),
            offline: if waits { OfflinePolicy::Wait } else { OfflinePolicy::Skip },
            wait_for_ms: 50_000,
            expect_version: expects.then(|| super::bench::VERSION.to_owned()),
            ..Plan::default()
        },
    )
}

/// What was seen of a rollout so far.
struct Watch {
    bench: Bench,
    /// The commands of each agent, in their order.
    commanded: BTreeMap<String, Vec<String>>,
    /// The agents whose targets an operator has let try again since their last command.
    retried: BTreeSet<String>,
    /// The agents that were selected.
    frozen: BTreeSet<String>,
}

impl Watch {
    fn new(plan: Plan) -> Self {
        let mut bench = Bench::with(&AGENTS);
        bench.join(OTHER);
        bench.start_watched(plan, &AGENTS);
        let frozen = AGENTS.iter().map(|agent_id| (*agent_id).to_owned()).collect();
        Self { bench, commanded: BTreeMap::new(), retried: BTreeSet::new(), frozen }
    }

    fn apply(&mut self, op: &Op) {
        let bench = &mut self.bench;
        bench.now += 1;
        match *op {
            Op::Join(agent) => bench.join(AGENTS[agent]),
            Op::JoinAsOriginal(agent) => {
                let silent = Identify {
                    boot_id: Some(String::new()),
                    client_type: Some("sidecar".into()),
                    ..Identify::default()
                };
                bench.join_as(AGENTS[agent], silent);
            }
            Op::Leave(agent) => bench.leave(AGENTS[agent]),
            Op::Restart(agent) => bench.restarts(AGENTS[agent]),
            Op::ByHand(agent) => bench.by_hand(AGENTS[agent]),
            Op::Refuse { agent, for_now } => bench.refuses(AGENTS[agent], "no", for_now.then_some(30_000)),
            Op::Delivered(agent) => {
                let open = bench.scheduler.restarts().open_for(AGENTS[agent]).map(|open| open.command_id.clone());
                if let Some(command_id) = open {
                    bench.scheduler.delivered(&command_id, bench.now);
                    bench.store();
                }
            }
            Op::Cordon { agent, on } => bench.says(AGENTS[agent], SidecarFrame::Cordon { on }),
            Op::Unwell(agent) => bench.says(AGENTS[agent], SidecarFrame::Status { status: STATUS_UNWELL.into() }),
            Op::NewOwner(agent) => {
                bench.leave(AGENTS[agent]);
                bench.operate(|scheduler, now| {
                    scheduler.owner_left(AGENTS[agent], now);
                    scheduler.owner_came(AGENTS[agent]);
                });
                bench.agents.entry(AGENTS[agent].to_owned()).or_default().1 += 1;
            }
            Op::Wait(ms) => bench.wait(ms),
            Op::ClockSet(ms) => bench.clock_is_set(ms),
            Op::Due => {
                let due = bench.scheduler.deadline().unwrap_or(bench.now);
                bench.tick_at(due.max(bench.now));
            }
            Op::Pause => drop(bench.operate(|scheduler, now| scheduler.pause_rollout("r", now))),
            Op::Resume => drop(bench.operate(|scheduler, now| scheduler.resume_rollout("r", now))),
            Op::Promote => drop(bench.operate(|scheduler, now| scheduler.promote_rollout("r", now))),
            Op::Cancel => drop(bench.operate(|scheduler, now| scheduler.cancel_rollout("r", now))),
            Op::Recall => drop(bench.operate(|scheduler, now| scheduler.recall_rollout("r", now))),
            Op::Retry => self.retry(),
            Op::Crash => self.crash(),
            Op::CrashEarly(agent) => {
                let conn = 1_000_000 + bench.now;
                let boot_id = Some(format!("early-{conn}"));
                let identify = Identify { agent_id: AGENTS[agent].into(), boot_id, ..Identify::default() };
                bench.scheduler.identified(conn, &identify, "10.0.0.1:1", bench.now);
                bench.commit();
                bench.agents.entry(AGENTS[agent].to_owned()).or_default().1 += 1;
                self.crash();
            }
        }
    }

    fn retry(&mut self) {
        let failed = |target: &&Arc<Target>| matches!(target.state, TargetState::Failed { .. });
        let before = self.bench.rollout().targets.clone();
        if self.bench.operate(|scheduler, now| scheduler.retry_failed("r", now)).is_ok() {
            // One that came back late goes on with the command that it has.
            let is_anew = |target: &&Arc<Target>| self.bench.rollout().targets[&target.number].attempt > target.attempt;
            let anew = before.values().filter(failed).filter(is_anew).map(|target| target.agent_id.to_string());
            self.retried.extend(anew);
        }
    }

    /// Starts the hub again, twice: a load changes nothing.
    fn crash(&mut self) {
        let before = self.bench.rollout().clone();
        self.bench.crash();
        assert_eq!(*self.bench.rollout(), before, "a rollout is not stored as it was");
        let changes = self.bench.scheduler.take_changes();
        assert!(changes.rollouts.is_empty() && changes.targets.is_empty(), "a load changed something");
    }

    /// Checks what happened in one step.
    fn check(&mut self) {
        for step in std::mem::take(self.bench.steps.as_mut().unwrap()) {
            self.check_step(step);
        }
        self.check_records(&self.bench.rollout().clone());
    }

    fn check_step(&mut self, Step { rollout, new, unavailable }: Step) {
        for (agent_id, command_id) in &new {
            assert!(self.frozen.contains(agent_id), "{agent_id} is no target");
            let known = self.commanded.entry(agent_id.clone()).or_default();
            // One that was refused for now is tried again, and one that never reached its agent; any other only for an
            // operator.
            let may = known.last().is_none_or(|last| {
                let may_again = |it: &Restart| match it.retry_at {
                    Some(_) => it.phase == RestartPhase::Refused,
                    None => it.phase == RestartPhase::Withdrawn,
                };
                let last = self.bench.scheduler.restarts().get(last);
                self.retried.contains(agent_id) || last.is_none_or(may_again)
            });
            assert!(may, "{agent_id} was commanded twice: {known:?}, {command_id}");
            known.push(command_id.clone());
            self.retried.remove(agent_id);
        }
        if !new.is_empty() {
            let max = rollout.plan.max_unavailable.at_least_one_of(rollout.size) as usize;
            assert!(unavailable <= max, "{new:?} were commanded: {unavailable} of at most {max} are unavailable");
            assert!(rollout.state.is_going(), "{new:?} were commanded in {:?}", rollout.state);
            assert!(rollout.counts.commanded() <= rollout.cap(), "a wave has too many");
        }
    }

    /// What is stored, counted and awaited is as it has to be.
    fn check_records(&self, rollout: &Rollout) {
        let Bench { scheduler, disk, .. } = &self.bench;
        let header: Rollout = serde_json::from_slice(&disk.rollouts["r"]).unwrap();
        let bare = Rollout { targets: Default::default(), counts: Counts::default(), ..rollout.clone() };
        assert_eq!(header, bare, "the rollout is not stored as it is");
        let mut counts = Counts::default();
        for target in rollout.targets.values() {
            let stored: Target = serde_json::from_slice(&disk.targets[&Target::key("r", target.number)]).unwrap();
            assert_eq!(stored, **target, "a target is not stored as it is");
            counts.add(&target.state);
            if target.state == TargetState::Restarting {
                let command_id = target.command_id.as_deref().unwrap();
                let command = scheduler.restarts().get(command_id);
                let is_open = command.is_some_and(|command| command.phase.is_open());
                assert!(
                    is_open || scheduler.rollouts.is_resting("r"),
                    "{command_id} has ended, and its target has not"
                );
            }
        }
        assert_eq!(counts, rollout.counts);
        assert_eq!(rollout.ended_at.is_some(), counts.open() == 0, "it has ended: {counts:?}");
        let waits_for_nobody = rollout.state.is_going() && !rollout.awaits_promote();
        assert!(!waits_for_nobody || scheduler.deadline().is_some(), "nothing is due, and nobody is asked");
        scheduler.rollouts.check_index("r", |target| {
            let away = target.command_id.is_some() && !scheduler.is_connected(&target.agent_id);
            let on_restart = scheduler.restarts().open_for(&target.agent_id).is_some();
            let soaks = matches!(target.state, TargetState::Soaking { .. });
            let is_known = scheduler.inventory().get(&target.agent_id).is_some();
            (on_restart, is_known && (on_restart || soaks || away))
        });
    }

    /// All agents do what they are told, and operators want the rollout to go on: then each target ends.
    fn goes_well(&mut self) {
        for _ in 0..200 {
            if self.bench.rollout().ended_at.is_some() {
                return;
            }
            for agent_id in AGENTS {
                let on_restart = self.bench.scheduler.restarts().open_for(agent_id).is_some();
                match on_restart || !self.bench.scheduler.is_connected(agent_id) {
                    true => self.apply(&Op::Restart(AGENTS.iter().position(|it| *it == agent_id).unwrap())),
                    false => continue,
                }
                self.check();
            }
            for op in [Op::Due, Op::Promote, Op::Resume] {
                self.apply(&op);
                self.check();
            }
        }
        panic!("it does not end: {:?}, {:?}", self.bench.state(), self.bench.targets());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn a_rollout_keeps_its_bounds_and_each_target_ends(plan in plan(), ops in proptest::collection::vec(op(), 1..80)) {
        prop_assume!(plan.check().is_ok());
        let mut watch = Watch::new(plan);
        watch.check();
        for op in &ops {
            watch.apply(op);
            watch.check();
            prop_assert!(!matches!(op, Op::Pause | Op::Cancel) || !watch.bench.state().is_going());
        }
        watch.goes_well();
    }
}
