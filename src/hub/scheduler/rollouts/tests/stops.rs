//! What stops a rollout by itself, and how it ends.

use super::bench::Bench;
use crate::hub::scheduler::amount::Amount;
use crate::hub::scheduler::rollouts::plan::{OfflinePolicy, Plan};
use crate::hub::scheduler::rollouts::rollout::{HaltReason, RolloutState};

const THREE: [&str; 3] = ["a", "b", "c"];

fn halted(why: HaltReason) -> RolloutState {
    RolloutState::Halted { why }
}

#[test]
fn more_failures_than_it_bears_halt_it_and_nothing_more_is_commanded() {
    let mut bench = Bench::with(&THREE);
    bench.start(Plan { max_failures: Amount::Number(1), ..Plan::default() }, &THREE);
    bench.refuses("a", "no", None);
    assert_eq!(bench.state(), RolloutState::Running);
    bench.refuses("b", "no", None);
    assert_eq!((bench.state(), bench.commanded()), (halted(HaltReason::MaxFailures), vec!["a".into(), "b".into()]));
}

#[test]
fn any_failure_of_the_canary_halts_it() {
    let mut bench = Bench::with(&THREE);
    let plan = Plan { canary: Some(Amount::Number(2)), max_failures: Amount::Percent(100), ..Plan::default() };
    bench.start(plan, &THREE);
    bench.refuses("a", "no", None);
    assert_eq!(bench.state(), halted(HaltReason::CanaryFailed));
}

#[test]
fn what_is_under_way_when_it_halts_is_followed_to_its_end() {
    let mut bench = Bench::with(&THREE);
    bench.start(Plan { max_unavailable: Amount::Number(2), ..Plan::default() }, &THREE);
    bench.refuses("a", "no", None);
    bench.restarts("b");
    bench.wait(10_000);
    assert_eq!(bench.targets(), ["failed(refused)", "succeeded", "pending"]);
}

#[test]
fn a_canary_that_takes_too_long_halts_it() {
    let mut bench = Bench::with(&THREE);
    let plan = Plan { canary: Some(Amount::Number(1)), canary_deadline_ms: 20_000, ..Plan::default() };
    bench.start(plan, &THREE);
    bench.wait(19_999);
    assert_eq!(bench.state(), RolloutState::Canary);
    bench.wait(1);
    assert_eq!(bench.state(), halted(HaltReason::CanaryDeadline));
}

#[test]
fn no_progress_for_too_long_halts_it_and_each_move_is_progress() {
    let mut bench = Bench::with(&THREE);
    bench.start(Plan { progress_deadline_ms: Some(20_000), ..Plan::default() }, &THREE);
    bench.wait(15_000);
    bench.restarts("a");
    bench.wait(10_000);
    bench.wait(19_999);
    assert_eq!(bench.state(), RolloutState::Running);
    bench.wait(1);
    assert_eq!(bench.state(), halted(HaltReason::ProgressDeadline));
}

#[test]
fn nothing_has_to_move_while_all_that_is_left_is_waited_for() {
    let mut bench = Bench::with(&["a"]);
    bench.leave("a");
    let plan = Plan { progress_deadline_ms: Some(20_000), offline: OfflinePolicy::Wait, ..Plan::default() };
    bench.start(plan, &["a"]);
    bench.wait(60_000);
    assert_eq!(bench.state(), RolloutState::Running);
}

#[test]
fn a_failure_that_holds_all_budget_for_ever_ends_in_a_halt() {
    let mut bench = Bench::with(&THREE);
    bench.start(Plan { max_failures: Amount::Number(3), ..Plan::default() }, &THREE);
    bench.leave("a");
    bench.wait(200_000);
    bench.wait(600_000);
    assert_eq!(bench.target("a"), "failed(overdue)");
    bench.wait(200_000);
    assert_eq!(bench.state(), halted(HaltReason::ProgressDeadline));
}

#[test]
fn it_ends_well_only_if_each_target_restarted() {
    for (skipped, end) in [(false, RolloutState::Succeeded), (true, RolloutState::Partial)] {
        let mut bench = Bench::with(&["a", "b"]);
        if skipped {
            bench.leave("b");
        }
        bench.start(Plan { soak_ms: 0, ..Plan::default() }, &["a", "b"]);
        bench.restarts("a");
        bench.restarts("b");
        assert_eq!(bench.state(), end);
    }
}

#[test]
fn a_halted_one_ends_once_nothing_of_it_is_left() {
    let mut bench = Bench::with(&["a", "b"]);
    bench.start(Plan { max_unavailable: Amount::Number(2), ..Plan::default() }, &["a", "b"]);
    bench.refuses("a", "no", None);
    assert_eq!(bench.state(), halted(HaltReason::MaxFailures));
    bench.refuses("b", "no", None);
    assert_eq!((bench.state(), bench.rollout().ended_at), (RolloutState::Partial, Some(bench.now)));
}

#[test]
fn of_those_that_have_ended_a_hundred_are_kept() {
    let mut bench = Bench::with(&["a"]);
    for number in 0..105 {
        bench.try_start(&format!("r{number}"), Plan { soak_ms: 0, ..Plan::default() }, &["a"]).unwrap();
        bench.restarts("a");
    }
    let newest_first: Vec<&str> = bench.scheduler.rollouts().before(None).map(|rollout| &*rollout.id).collect();
    assert_eq!((newest_first.len(), newest_first[0], newest_first[99]), (100, "r104", "r5"));
    assert_eq!((bench.disk.rollouts.len(), bench.disk.targets.len()), (100, 100));
}
