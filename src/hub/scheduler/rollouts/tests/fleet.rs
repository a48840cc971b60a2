//! A fleet of ten thousand, on a clock that jumps: what a rollout costs, and that it ends.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Instant;

use super::bench::Bench;
use crate::hub::scheduler::amount::Amount;
use crate::hub::scheduler::rollouts::plan::Plan;
use crate::hub::scheduler::rollouts::rollout::RolloutState;
use crate::protocol::SidecarFrame;

const AGENTS: usize = 10_000;

/// What an agent does with its command, by its number.
fn fate(number: usize) -> &'static str {
    match number % 100 {
        7 => "refuses",
        8 => "refuses for now",
        9 => "does not come back",
        _ => "comes back",
    }
}

#[test]
#[allow(clippy::print_stdout)]
fn a_rollout_over_ten_thousand_agents_ends_and_restarts_each_at_most_once() {
    let names: Vec<String> = (0..AGENTS).map(|number| format!("agent-{number:05}")).collect();
    let numbers: BTreeMap<&str, usize> = names.iter().map(String::as_str).zip(0..).collect();
    let mut bench = Bench::with(&[]);
    names.iter().for_each(|agent_id| bench.join(agent_id));
    (0..AGENTS).filter(|number| number % 50 == 3).for_each(|number| bench.leave(&names[number]));
    (0..AGENTS)
        .filter(|number| number % 50 == 4)
        .for_each(|number| bench.says(&names[number], SidecarFrame::Cordon { on: true }));
    let began = Instant::now();
    let plan = Plan {
        max_unavailable: Amount::Percent(5),
        canary: Some(Amount::Number(5)),
        auto_promote: true,
        steps: vec![Amount::Percent(1), Amount::Percent(10)],
        soak_ms: 30_000,
        max_failures: Amount::Percent(3),
        ..Plan::default()
    };
    let agents: Vec<&str> = names.iter().map(String::as_str).collect();
    bench.start(plan, &agents);
    let (mut due, mut commands, mut steps) = (BinaryHeap::new(), BTreeMap::<String, u32>::new(), 0_u64);
    while bench.rollout().ended_at.is_none() {
        for agent_id in bench.commanded() {
            let number = numbers[agent_id.as_str()];
            let tries = commands.entry(agent_id).or_default();
            *tries += 1;
            assert!(*tries == 1 || (*tries == 2 && fate(number) == "refuses for now"), "{number} is commanded again");
            due.push(Reverse((bench.now + 1_000 + (number as u64 * 7_919) % 20_000, number)));
        }
        let next_due = due.peek().map(|Reverse((at, _))| *at);
        let deadline = bench.scheduler.deadline().expect("nothing is due, and it has not ended");
        // Readers have a copy of each state.
        let seen = bench.scheduler.view();
        match next_due.filter(|at| *at <= deadline) {
            Some(at) => {
                let Some(Reverse((_, number))) = due.pop() else { unreachable!() };
                bench.now = at.max(bench.now);
                let agent_id = &names[number];
                match fate(number) {
                    "refuses" => bench.refuses(agent_id, "no", None),
                    "refuses for now" if commands[agent_id] == 1 => bench.refuses(agent_id, "not now", Some(60_000)),
                    "does not come back" => bench.leave(agent_id),
                    _ => bench.restarts(agent_id),
                }
            }
            None => bench.tick_at(deadline.max(bench.now)),
        }
        assert_eq!(bench.state(), bench.scheduler.view().rollouts().get("r").unwrap().state);
        drop(seen);
        steps += 1;
        assert!(bench.state().is_going() || bench.rollout().ended_at.is_some(), "{:?}", bench.state());
    }
    let (counts, seconds) = (bench.rollout().counts, began.elapsed().as_secs_f64());
    assert_eq!((bench.state(), counts.open()), (RolloutState::Partial, 0));
    assert_eq!((counts.failed, counts.skipped), (200, 400));
    println!("{AGENTS} agents: {steps} steps in {seconds:.1} s ({:.0} a second): {counts:?}", steps as f64 / seconds);
}
