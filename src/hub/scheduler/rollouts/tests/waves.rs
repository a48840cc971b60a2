//! How many go at once, and in which order.

use super::bench::Bench;
use crate::hub::scheduler::amount::Amount;
use crate::hub::scheduler::rollouts::plan::{OfflinePolicy, Plan};
use crate::hub::scheduler::rollouts::rollout::{HaltReason, RolloutState};

const FIVE: [&str; 5] = ["a", "b", "c", "d", "e"];

fn many() -> Plan {
    Plan { max_unavailable: Amount::Number(9), soak_ms: 1_000, ..Plan::default() }
}

fn each_returns(bench: &mut Bench, agents: &[String]) {
    agents.iter().for_each(|agent_id| bench.restarts(agent_id));
    bench.wait(1_000);
}

#[test]
fn no_more_than_may_be_unavailable_are_commanded() {
    for (max, first) in
        [(Amount::Number(2), 2), (Amount::Percent(79), 3), (Amount::Percent(1), 1), (Amount::Number(99), 5)]
    {
        let mut bench = Bench::with(&FIVE);
        bench.start(Plan { max_unavailable: max, ..many() }, &FIVE);
        assert_eq!(bench.commanded().len(), first, "{max:?}");
    }
}

#[test]
fn one_that_succeeded_and_is_away_again_holds_budget() {
    let mut bench = Bench::with(&["a", "b", "c"]);
    bench.start(Plan { soak_ms: 0, ..Plan::default() }, &["a", "b", "c"]);
    bench.restarts("a");
    bench.commanded();
    bench.leave("a");
    bench.restarts("b");
    assert_eq!(
        (bench.targets(), bench.commanded().len()),
        (vec!["succeeded".into(), "succeeded".into(), "pending".into()], 0)
    );
    bench.join("a");
    assert_eq!(bench.commanded(), ["c"]);
}

#[test]
fn a_canary_goes_alone_and_waits_for_promote() {
    let mut bench = Bench::with(&FIVE);
    bench.start(Plan { canary: Some(Amount::Number(2)), ..many() }, &FIVE);
    let canary = bench.commanded();
    assert_eq!((canary.as_slice(), bench.state()), (["a".to_owned(), "b".to_owned()].as_slice(), RolloutState::Canary));
    let early = bench.operate(|scheduler, now| scheduler.promote_rollout("r", now)).unwrap_err().to_string();
    assert_eq!(
        early,
        "rollout r is canary: only a rollout whose canary is through, and waits for that, can be promoted"
    );
    each_returns(&mut bench, &canary);
    assert!(bench.rollout().awaits_promote() && bench.commanded().is_empty());
    // It waits for as long as it takes.
    bench.wait(100_000_000);
    assert_eq!(bench.state(), RolloutState::Canary);
    bench.operate(|scheduler, now| scheduler.promote_rollout("r", now)).unwrap();
    assert_eq!((bench.commanded().len(), bench.state()), (3, RolloutState::Running));
}

#[test]
fn a_canary_promotes_itself_where_that_is_asked_for() {
    let mut bench = Bench::with(&FIVE);
    bench.start(Plan { canary: Some(Amount::Number(1)), auto_promote: true, ..many() }, &FIVE);
    let canary = bench.commanded();
    each_returns(&mut bench, &canary);
    assert_eq!((bench.commanded().len(), bench.state()), (4, RolloutState::Running));
}

#[test]
fn a_canary_of_all_ends_with_them() {
    let mut bench = Bench::with(&["a"]);
    bench.start(Plan { canary: Some(Amount::Number(7)), ..many() }, &["a"]);
    let canary = bench.commanded();
    each_returns(&mut bench, &canary);
    assert_eq!(bench.state(), RolloutState::Succeeded);
}

#[test]
fn the_next_ones_stand_in_for_those_that_are_skipped_or_waited_for() {
    for offline in [OfflinePolicy::Skip, OfflinePolicy::Wait] {
        let mut bench = Bench::with(&FIVE);
        bench.leave("a");
        bench.start(Plan { canary: Some(Amount::Number(2)), offline, ..many() }, &FIVE);
        assert_eq!(bench.commanded(), ["b", "c"]);
    }
}

#[test]
fn a_canary_that_only_waits_is_not_through() {
    let mut bench = Bench::with(&["a"]);
    bench.leave("a");
    let plan = Plan { canary: Some(Amount::Number(1)), auto_promote: true, offline: OfflinePolicy::Wait, ..many() };
    bench.start(plan, &["a"]);
    assert_eq!(bench.state(), RolloutState::Canary);
    bench.wait(1_800_000);
    assert_eq!(bench.state(), RolloutState::Halted { why: HaltReason::CanaryDeadline });
}

#[test]
fn steps_count_from_the_beginning() {
    let mut bench = Bench::with(&FIVE);
    let steps = vec![Amount::Number(1), Amount::Percent(60)];
    bench.start(Plan { steps, ..many() }, &FIVE);
    let mut waves = Vec::new();
    while bench.state() == RolloutState::Running {
        let wave = bench.commanded();
        each_returns(&mut bench, &wave);
        waves.push(wave.len());
    }
    assert_eq!((waves, bench.state()), (vec![1, 2, 2], RolloutState::Succeeded));
}

#[test]
fn a_step_that_the_canary_has_covered_is_passed() {
    let mut bench = Bench::with(&FIVE);
    let steps = vec![Amount::Number(1), Amount::Number(2)];
    bench.start(Plan { canary: Some(Amount::Number(2)), auto_promote: true, steps, ..many() }, &FIVE);
    let canary = bench.commanded();
    each_returns(&mut bench, &canary);
    assert_eq!((bench.commanded().len(), bench.rollout().wave), (3, 3));
}
