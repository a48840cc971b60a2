//! What becomes of one target.

use super::bench::{Bench, VERSION};
use crate::hub::scheduler::amount::Amount;
use crate::hub::scheduler::rollouts::fold::MAX_TRIES;
use crate::hub::scheduler::rollouts::plan::{OfflinePolicy, Plan};
use crate::hub::scheduler::rollouts::rollout::RolloutState;
use crate::protocol::{Identify, SidecarFrame};

#[test]
fn one_after_the_other_restarts_soaks_and_succeeds() {
    let mut bench = Bench::with(&["a", "b"]);
    bench.start(Plan::default(), &["a", "b"]);
    assert_eq!(bench.commanded(), ["a"]);
    bench.restarts("a");
    assert_eq!((bench.target("a"), bench.commanded()), ("soaking".into(), vec![]));
    bench.wait(9_999);
    assert_eq!(bench.target("a"), "soaking");
    bench.wait(1);
    assert_eq!((bench.target("a"), bench.commanded()), ("succeeded".into(), vec!["b".into()]));
    bench.wait(7);
    bench.restarts("b");
    bench.wait(10_000);
    assert_eq!(bench.state(), RolloutState::Succeeded);
    assert_eq!(bench.rollout().ended_at, Some(bench.now));
}

#[test]
fn the_command_is_the_rollouts_and_names_its_author_and_reason() {
    let mut bench = Bench::with(&["a"]);
    bench.start(Plan { deadline_ms: Some(7), force: true, ..Plan::default() }, &["a"]);
    let restart = bench.scheduler.restarts().get("r-0").unwrap();
    assert_eq!(
        (restart.by.as_str(), restart.reason.as_str(), restart.deadline_ms, restart.force),
        ("ops", "update", Some(7), true)
    );
    assert_eq!(bench.rollout().targets[&0].command_id.as_deref(), Some("r-0"));
}

#[test]
fn without_a_soak_a_return_is_enough() {
    let mut bench = Bench::with(&["a"]);
    bench.start(Plan { soak_ms: 0, ..Plan::default() }, &["a"]);
    bench.restarts("a");
    assert_eq!(bench.state(), RolloutState::Succeeded);
    assert!(bench.rollout().targets[&0].gap_ms.is_some());
}

#[test]
fn one_that_is_not_connected_is_skipped_and_holds_nothing() {
    let mut bench = Bench::with(&["a", "b"]);
    bench.leave("a");
    bench.start(Plan::default(), &["a", "b"]);
    assert_eq!(
        (bench.targets(), bench.commanded()),
        (vec!["skipped(offline)".into(), "restarting".into()], vec!["b".into()])
    );
}

#[test]
fn one_that_has_never_identified_is_skipped() {
    let mut bench = Bench::with(&["a"]);
    bench.start(Plan { offline: OfflinePolicy::Wait, ..Plan::default() }, &["never", "a"]);
    assert_eq!(bench.targets(), ["skipped(offline)", "restarting"]);
    assert_eq!(bench.rollout().targets[&0].detail, "it has never identified");
}

#[test]
fn one_that_is_waited_for_is_restarted_once_it_is_there() {
    let mut bench = Bench::with(&["a", "b"]);
    bench.leave("a");
    bench.start(Plan { offline: OfflinePolicy::Wait, ..Plan::default() }, &["a", "b"]);
    assert_eq!(bench.targets(), ["waiting(offline)", "restarting"]);
    bench.join("a");
    assert_eq!(bench.targets(), ["pending", "restarting"]);
    bench.restarts("b");
    bench.wait(10_000);
    assert_eq!(bench.commanded(), ["b", "a"]);
}

#[test]
fn one_that_is_waited_for_and_comes_as_another_run_has_restarted_already() {
    let mut bench = Bench::with(&["a"]);
    bench.leave("a");
    bench.start(Plan { offline: OfflinePolicy::Wait, ..Plan::default() }, &["a"]);
    bench.restarts("a");
    assert_eq!((bench.target("a"), bench.state()), ("skipped(already_restarted)".into(), RolloutState::Succeeded));
}

#[test]
fn one_that_does_not_come_in_time_is_skipped() {
    let mut bench = Bench::with(&["a"]);
    bench.leave("a");
    bench.start(Plan { offline: OfflinePolicy::Wait, wait_for_ms: 5_000, ..Plan::default() }, &["a"]);
    bench.wait(4_999);
    assert_eq!(bench.target("a"), "waiting(offline)");
    bench.wait(1);
    assert_eq!((bench.target("a"), bench.state()), ("skipped(offline)".into(), RolloutState::Partial));
}

#[test]
fn one_that_is_cordoned_is_left_alone() {
    let mut bench = Bench::with(&["a"]);
    bench.says("a", SidecarFrame::Cordon { on: true });
    bench.start(Plan::default(), &["a"]);
    assert_eq!(bench.target("a"), "skipped(cordoned)");
}

#[test]
fn one_that_restarts_by_itself_before_its_turn_is_not_restarted_again() {
    let mut bench = Bench::with(&["a", "b"]);
    bench.start(Plan::default(), &["a", "b"]);
    bench.restarts("b");
    bench.restarts("a");
    bench.wait(10_000);
    assert_eq!((bench.target("b"), bench.commanded()), ("skipped(already_restarted)".into(), vec!["a".into()]));
    assert_eq!(bench.state(), RolloutState::Succeeded);
}

#[test]
fn one_that_restarts_by_itself_with_another_version_than_the_expected_one_has_its_turn() {
    let mut bench = Bench::with(&["a", "b"]);
    let plan = Plan { expect_version: Some("2.0.0".into()), soak_ms: 0, ..Plan::default() };
    bench.start(plan, &["a", "b"]);
    bench.restarts("b");
    let restarts_with_it = |bench: &mut Bench, agent_id: &str| {
        bench.leave(agent_id);
        bench.agents.entry(agent_id.to_owned()).or_default().1 += 1;
        bench.join_as(agent_id, Identify { version: Some("2.0.0".into()), ..Identify::default() });
    };
    restarts_with_it(&mut bench, "a");
    assert_eq!((bench.target("b"), bench.commanded()), ("restarting".into(), vec!["a".into(), "b".into()]));
    restarts_with_it(&mut bench, "b");
    assert_eq!(bench.state(), RolloutState::Succeeded);
}

#[test]
fn somebody_elses_restart_holds_budget_and_is_not_repeated() {
    let mut bench = Bench::with(&["a", "b", "c"]);
    bench.by_hand("a");
    bench.commanded();
    bench.start(Plan::default(), &["a", "b", "c"]);
    assert_eq!((bench.targets(), bench.commanded().len()), (vec!["pending".into(); 3], 0));
    bench.restarts("a");
    assert_eq!((bench.target("a"), bench.commanded()), ("skipped(already_restarted)".into(), vec!["b".into()]));
}

#[test]
fn one_that_is_occupied_does_not_hold_up_those_behind_it() {
    let mut bench = Bench::with(&["a", "b"]);
    bench.by_hand("a");
    bench.commanded();
    bench.start(Plan { max_unavailable: Amount::Number(2), ..Plan::default() }, &["a", "b"]);
    assert_eq!(bench.commanded(), ["b"]);
}

#[test]
fn a_removed_agent_ends_wherever_its_target_is() {
    for before in ["pending", "restarting", "soaking", "waiting(offline)"] {
        let mut bench = Bench::with(&["a", "b"]);
        if before == "waiting(offline)" {
            bench.leave("a");
        }
        let order = if before == "pending" { ["b", "a"] } else { ["a", "b"] };
        bench.start(Plan { offline: OfflinePolicy::Wait, ..Plan::default() }, &order);
        if before == "soaking" {
            bench.restarts("a");
        }
        assert_eq!(bench.target("a"), before);
        bench.leave("a");
        bench.operate(|scheduler, now| scheduler.owner_left("a", now));
        // A pending one is looked at in its turn.
        bench.restarts("b");
        bench.wait(10_000);
        assert_eq!(bench.target("a"), "skipped(removed)", "{before}");
    }
}

#[test]
fn a_refusal_is_a_failure_with_its_reason() {
    let mut bench = Bench::with(&["a"]);
    bench.start(Plan::default(), &["a"]);
    bench.refuses("a", "the disk is full", None);
    assert_eq!(
        (bench.target("a"), bench.rollout().targets[&0].detail.as_str()),
        ("failed(refused)".into(), "the disk is full")
    );
}

#[test]
fn a_refusal_for_restart_intensity_waits_and_is_tried_again_under_another_id() {
    for (detail, retry_after_ms, wait_ms) in [("x", Some(5_000), 5_000), ("restart intensity: already 5", None, 60_000)]
    {
        let mut bench = Bench::with(&["a"]);
        bench.start(Plan::default(), &["a"]);
        bench.refuses("a", detail, retry_after_ms);
        assert_eq!(bench.target("a"), "waiting(intensity)");
        bench.commanded();
        bench.wait(wait_ms - 1);
        assert_eq!(bench.commanded().len(), 0);
        bench.wait(1);
        assert_eq!((bench.target("a"), bench.commanded()), ("restarting".into(), vec!["a".into()]));
        assert_eq!(bench.rollout().targets[&0].command_id.as_deref(), Some("r-0-2"));
    }
}

#[test]
fn one_that_refuses_for_now_time_and_again_fails_in_the_end_and_may_be_tried_again() {
    let mut bench = Bench::with(&["a"]);
    bench.start(Plan::default(), &["a"]);
    for tries in 1..MAX_TRIES {
        bench.refuses("a", "not now", Some(0));
        assert_eq!(bench.target("a"), "restarting", "it may be tried again at once, {tries}");
    }
    bench.refuses("a", "not now", Some(0));
    assert_eq!((bench.target("a"), bench.state()), ("failed(refused)".into(), RolloutState::Partial));
    assert_eq!(bench.rollout().targets[&0].detail, "10 times: not now");
    bench.operate(|scheduler, now| scheduler.retry_failed("r", now)).unwrap();
    bench.refuses("a", "not now", Some(5_000));
    assert_eq!(bench.target("a"), "waiting(intensity)");
}

#[test]
fn one_that_is_not_back_in_time_has_failed_and_holds_budget_until_it_is() {
    let mut bench = Bench::with(&["a", "b"]);
    bench.start(Plan { max_failures: Amount::Number(1), ..Plan::default() }, &["a", "b"]);
    bench.leave("a");
    bench.commanded();
    bench.tick_at(bench.scheduler.restarts().get("r-0").unwrap().overdue_at);
    assert_eq!((bench.target("a"), bench.commanded().len()), ("failed(overdue)".into(), 0));
    bench.restarts("a");
    assert_eq!((bench.target("a"), bench.commanded()), ("failed(overdue)".into(), vec!["b".into()]));
}

#[test]
fn one_that_restarts_while_it_soaks_has_crashed() {
    let mut bench = Bench::with(&["a"]);
    bench.start(Plan::default(), &["a"]);
    bench.restarts("a");
    bench.restarts("a");
    assert_eq!(bench.target("a"), "failed(crashed)");
}

#[test]
fn one_whose_link_breaks_while_it_soaks_may_come_back() {
    let mut bench = Bench::with(&["a"]);
    bench.start(Plan::default(), &["a"]);
    bench.restarts("a");
    bench.leave("a");
    bench.wait(5_000);
    bench.join("a");
    bench.wait(5_000);
    assert_eq!(bench.target("a"), "succeeded");
}

#[test]
fn one_that_is_away_or_unwell_in_the_end_is_unhealthy() {
    for away in [true, false] {
        let mut bench = Bench::with(&["a"]);
        bench.start(Plan::default(), &["a"]);
        bench.restarts("a");
        match away {
            true => bench.leave("a"),
            false => bench.says("a", SidecarFrame::Status { status: crate::protocol::STATUS_UNWELL.into() }),
        }
        bench.wait(10_000);
        assert_eq!(bench.target("a"), "failed(unhealthy)", "{away}");
    }
}

#[test]
fn another_version_than_the_expected_one_is_a_failure() {
    for (expected, end) in [(VERSION, "soaking"), ("2.0.0", "failed(wrong_version)")] {
        let mut bench = Bench::with(&["a"]);
        bench.start(Plan { expect_version: Some(expected.into()), ..Plan::default() }, &["a"]);
        bench.restarts("a");
        assert_eq!(bench.target("a"), end);
    }
}

#[test]
fn one_that_names_no_version_is_restarted_only_where_none_is_expected() {
    let original =
        || Identify { boot_id: Some(String::new()), client_type: Some("sidecar".into()), ..Identify::default() };
    for (expected, end) in [(Some(VERSION.to_owned()), "skipped(unsupported)"), (None, "restarting")] {
        let mut bench = Bench::with(&[]);
        bench.join_as("a", original());
        bench.start(Plan { expect_version: expected, ..Plan::default() }, &["a"]);
        assert_eq!(bench.target("a"), end);
        // It says nothing of its run: that it was gone and is back is enough, and it is commanded once.
        bench.leave("a");
        bench.join_as("a", original());
        bench.wait(10_000);
        bench.wait(10_000);
        assert!(matches!(bench.target("a").as_str(), "succeeded" | "skipped(unsupported)"));
        assert!(bench.commanded().len() <= 1);
    }
}
