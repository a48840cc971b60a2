//! What operators do with a rollout.

use super::bench::{Bench, VERSION, request};
use crate::hub::scheduler::amount::Amount;
use crate::hub::scheduler::restart::RestartPhase;
use crate::hub::scheduler::rollouts::plan::{OfflinePolicy, Plan};
use crate::hub::scheduler::rollouts::refused::StartRefused;
use crate::hub::scheduler::rollouts::rollout::{HaltReason, RolloutState};
use crate::protocol::SidecarFrame;

const FOUR: [&str; 4] = ["a", "b", "c", "d"];

fn owned(agents: &[&str]) -> Vec<String> {
    agents.iter().map(|agent_id| (*agent_id).to_owned()).collect()
}

#[test]
fn nothing_leaves_after_a_pause_and_the_rest_after_the_resume() {
    let mut bench = Bench::with(&FOUR);
    bench.start(Plan { soak_ms: 0, ..Plan::default() }, &FOUR);
    bench.operate(|scheduler, now| scheduler.pause_rollout("r", now)).unwrap();
    bench.commanded();
    bench.restarts("a");
    bench.wait(100_000_000);
    assert_eq!(
        (bench.targets(), bench.state()),
        (owned(&["succeeded", "pending", "pending", "pending"]), RolloutState::Paused)
    );
    assert_eq!(bench.commanded().len(), 0);
    bench.operate(|scheduler, now| scheduler.resume_rollout("r", now)).unwrap();
    // The time in which it was paused does not count.
    bench.wait(1);
    assert_eq!((bench.commanded(), bench.state()), (owned(&["b"]), RolloutState::Running));
}

#[test]
fn a_resume_forgives_the_failures_before_it() {
    let mut bench = Bench::with(&FOUR);
    bench.start(Plan::default(), &FOUR);
    bench.refuses("a", "no", None);
    assert_eq!(bench.state(), RolloutState::Halted { why: HaltReason::MaxFailures });
    bench.operate(|scheduler, now| scheduler.resume_rollout("r", now)).unwrap();
    assert_eq!((bench.target("b"), bench.state()), ("restarting".into(), RolloutState::Running));
    bench.refuses("b", "no", None);
    assert_eq!(bench.state(), RolloutState::Halted { why: HaltReason::MaxFailures });
}

#[test]
fn a_cancelled_one_leaves_what_has_not_begun_and_ends_with_the_rest() {
    let mut bench = Bench::with(&FOUR);
    bench.leave("b");
    let plan = Plan { max_unavailable: Amount::Number(2), offline: OfflinePolicy::Wait, soak_ms: 0, ..Plan::default() };
    bench.start(plan, &FOUR);
    assert_eq!(bench.targets(), ["restarting", "waiting(offline)", "restarting", "pending"]);
    bench.operate(|scheduler, now| scheduler.cancel_rollout("r", now)).unwrap();
    assert_eq!(bench.targets(), ["restarting", "cancelled", "restarting", "cancelled"]);
    assert_eq!(bench.rollout().ended_at, None);
    bench.refuses("a", "restart intensity", Some(5_000));
    assert_eq!(bench.target("a"), "cancelled");
    bench.restarts("c");
    assert_eq!((bench.target("c"), bench.state()), ("succeeded".into(), RolloutState::Cancelled));
    assert_eq!(bench.rollout().ended_at, Some(bench.now));
}

#[test]
fn a_recall_withdraws_what_has_not_reached_its_agent() {
    let mut bench = Bench::with(&FOUR);
    bench.start(Plan { max_unavailable: Amount::Number(2), ..Plan::default() }, &FOUR);
    let running = bench.operate(|scheduler, now| scheduler.recall_rollout("r", now)).unwrap_err().to_string();
    assert!(running.starts_with("rollout r is running: only one that was paused"), "{running}");
    bench.scheduler.delivered("r-0", bench.now);
    bench.operate(|scheduler, now| scheduler.pause_rollout("r", now)).unwrap();
    assert_eq!(bench.operate(|scheduler, now| scheduler.recall_rollout("r", now)), Ok(1));
    assert_eq!((bench.phase("r-0"), bench.phase("r-1")), (RestartPhase::Delivered, RestartPhase::Withdrawn));
    assert_eq!(bench.targets(), ["restarting", "pending", "pending", "pending"]);
    assert!(bench.scheduler.restarts().open_for("b").is_none() && bench.scheduler.restarts.index_is_right());
}

#[test]
fn an_agent_whose_command_was_withdrawn_does_not_hear_of_it_when_it_returns() {
    let mut bench = Bench::with(&["a"]);
    bench.start(Plan::default(), &["a"]);
    bench.leave("a");
    bench.commanded();
    bench.operate(|scheduler, now| scheduler.cancel_rollout("r", now)).unwrap();
    bench.operate(|scheduler, now| scheduler.recall_rollout("r", now)).unwrap();
    assert_eq!((bench.state(), bench.rollout().ended_at), (RolloutState::Cancelled, Some(bench.now)));
    bench.join("a");
    assert_eq!(bench.commanded().len(), 0);
}

#[test]
fn a_target_whose_command_was_withdrawn_has_its_turn_again_once_the_rollout_goes_on() {
    let mut bench = Bench::with(&["a", "b"]);
    bench.start(Plan::default(), &["a", "b"]);
    bench.leave("a");
    bench.commanded();
    bench.operate(|scheduler, now| scheduler.pause_rollout("r", now)).unwrap();
    bench.operate(|scheduler, now| scheduler.recall_rollout("r", now)).unwrap();
    bench.operate(|scheduler, now| scheduler.resume_rollout("r", now)).unwrap();
    // It is away, and holds no budget.
    let skipped = "skipped(offline)".to_owned();
    assert_eq!((bench.targets(), bench.commanded()), (vec![skipped, "restarting".into()], vec!["b".into()]));
    let mut bench = Bench::with(&["a"]);
    bench.start(Plan::default(), &["a"]);
    bench.commanded();
    bench.operate(|scheduler, now| scheduler.pause_rollout("r", now)).unwrap();
    bench.operate(|scheduler, now| scheduler.recall_rollout("r", now)).unwrap();
    assert_eq!((bench.targets(), bench.commanded()), (vec!["pending".into()], vec![]));
    bench.operate(|scheduler, now| scheduler.resume_rollout("r", now)).unwrap();
    assert_eq!((bench.targets(), bench.commanded()), (vec!["restarting".into()], vec!["a".into()]));
    assert_eq!(bench.rollout().targets[&0].command_id.as_deref(), Some("r-0-2"));
}

#[test]
fn failed_targets_are_tried_again_once_whatever_run_they_have_now() {
    let mut bench = Bench::with(&["a", "b"]);
    bench.start(Plan { soak_ms: 0, max_failures: Amount::Number(1), ..Plan::default() }, &["a", "b"]);
    bench.refuses("a", "no", None);
    bench.restarts("a");
    bench.restarts("b");
    assert_eq!(bench.state(), RolloutState::Partial);
    assert_eq!(bench.operate(|scheduler, now| scheduler.retry_failed("r", now)), Ok(1));
    assert_eq!((bench.state(), bench.target("a")), (RolloutState::Running, "restarting".into()));
    assert_eq!(bench.rollout().targets[&0].command_id.as_deref(), Some("r-0-2"));
    bench.restarts("a");
    assert_eq!(bench.state(), RolloutState::Succeeded);
    let none = bench.operate(|scheduler, now| scheduler.retry_failed("r", now)).unwrap_err().to_string();
    assert_eq!(none, "rollout r is succeeded: only one with failed targets that was not cancelled can try them again");
}

/// It is called overdue, and comes back after that as another run.
fn comes_late(bench: &mut Bench, plan: Plan) {
    bench.start(plan, &["a"]);
    bench.leave("a");
    bench.tick_at(bench.scheduler.restarts().get("r-0").unwrap().overdue_at);
    bench.restarts("a");
    assert_eq!((bench.target("a"), bench.commanded()), ("failed(overdue)".into(), vec!["a".into()]));
}

#[test]
fn one_that_came_back_late_has_restarted_and_only_has_to_stay() {
    for expect_version in [None, Some(VERSION.to_owned())] {
        let mut bench = Bench::with(&["a"]);
        comes_late(&mut bench, Plan { expect_version, ..Plan::default() });
        bench.operate(|scheduler, now| scheduler.retry_failed("r", now)).unwrap();
        assert_eq!((bench.target("a"), bench.commanded()), ("soaking".into(), vec![]));
        bench.wait(10_000);
        assert_eq!((bench.target("a"), bench.state()), ("succeeded".into(), RolloutState::Succeeded));
    }
}

#[test]
fn one_that_came_back_late_as_what_it_was_or_did_not_stay_is_restarted_anew() {
    for (expected, stayed) in [("other", true), (VERSION, false)] {
        let mut bench = Bench::with(&["a"]);
        comes_late(&mut bench, Plan { expect_version: Some(expected.into()), ..Plan::default() });
        if !stayed {
            bench.restarts("a");
        }
        bench.operate(|scheduler, now| scheduler.retry_failed("r", now)).unwrap();
        assert_eq!((bench.target("a"), bench.commanded()), ("restarting".into(), vec!["a".into()]));
    }
}

#[test]
fn a_retry_of_a_halted_one_waits_for_the_resume() {
    let mut bench = Bench::with(&["a", "b"]);
    bench.start(Plan::default(), &["a", "b"]);
    bench.refuses("a", "no", None);
    bench.operate(|scheduler, now| scheduler.retry_failed("r", now)).unwrap();
    assert_eq!(
        (bench.target("a"), bench.state()),
        ("pending".into(), RolloutState::Halted { why: HaltReason::MaxFailures })
    );
    bench.operate(|scheduler, now| scheduler.resume_rollout("r", now)).unwrap();
    assert_eq!(bench.targets(), ["restarting", "pending"]);
}

#[test]
fn each_act_says_in_which_state_it_is_refused() {
    let mut bench = Bench::with(&["a"]);
    bench.start(Plan { soak_ms: 0, ..Plan::default() }, &["a"]);
    let resumed = bench.operate(|scheduler, now| scheduler.resume_rollout("r", now)).unwrap_err().to_string();
    assert_eq!(resumed, "rollout r is running: only one that was paused or has halted can be resumed");
    bench.restarts("a");
    let acts = [
        bench.operate(|scheduler, now| scheduler.pause_rollout("r", now)),
        bench.operate(|scheduler, now| scheduler.cancel_rollout("r", now)),
        bench.operate(|scheduler, now| scheduler.promote_rollout("r", now)),
        bench.operate(|scheduler, now| scheduler.recall_rollout("r", now)).map(drop),
    ];
    for refused in acts {
        let text = refused.unwrap_err().to_string();
        assert!(text.starts_with("rollout r is succeeded: "), "{text}");
    }
    let unknown = bench.operate(|scheduler, now| scheduler.pause_rollout("q", now)).unwrap_err().to_string();
    assert_eq!(unknown, "there is no rollout q: see which there are with GET /api/v1/rollouts");
}

#[test]
fn two_that_have_not_ended_share_no_agent() {
    let mut bench = Bench::with(&FOUR);
    bench.start(Plan { soak_ms: 0, ..Plan::default() }, &["a", "b"]);
    let shared = bench.try_start("s", Plan::default(), &FOUR).unwrap_err();
    let expected =
        "rollout r has not ended and has 2 of the agents (a, b): wait for its end, cancel it, or leave them out";
    assert_eq!(shared.to_string(), expected);
    bench.try_start("s", Plan::default(), &["c", "d"]).unwrap();
    bench.refuses("a", "no", None);
    bench.operate(|scheduler, now| scheduler.cancel_rollout("r", now)).unwrap();
    bench.try_start("t", Plan::default(), &["a", "b"]).unwrap();
}

#[test]
fn a_retry_of_an_ended_one_whose_agents_have_another_is_refused() {
    let mut bench = Bench::with(&["a"]);
    bench.start(Plan::default(), &["a"]);
    bench.refuses("a", "no", None);
    assert_eq!(bench.state(), RolloutState::Partial);
    bench.try_start("s", Plan::default(), &["a"]).unwrap();
    let refused = bench.operate(|scheduler, now| scheduler.retry_failed("r", now)).unwrap_err().to_string();
    assert!(refused.starts_with("rollout s has not ended and has 1 of the agents (a)"), "{refused}");
    assert_eq!(bench.state(), RolloutState::Partial);
}

#[test]
fn a_start_without_agents_or_under_a_known_id_or_with_a_bad_plan_is_refused() {
    let mut bench = Bench::with(&["a", "b"]);
    assert_eq!(bench.try_start("r", Plan::default(), &[]), Err(StartRefused::Empty));
    let bad = Plan { max_unavailable: Amount::Number(0), ..Plan::default() };
    assert!(
        matches!(bench.try_start("r", bad, &["a"]), Err(StartRefused::BadPlan(bad)) if bad.field == "max_unavailable")
    );
    bench.start(Plan::default(), &["a"]);
    assert_eq!(bench.try_start("r", Plan::default(), &["b"]), Err(StartRefused::Known("r".into())));
}

#[test]
fn a_dry_run_names_who_would_go_when_and_who_would_not_and_changes_nothing() {
    let mut bench = Bench::with(&["a", "b", "c", "d", "e"]);
    bench.leave("a");
    bench.says("b", SidecarFrame::Cordon { on: true });
    let plan = Plan { canary: Some(Amount::Number(1)), ..Plan::default() };
    let agents = owned(&["a", "b", "c", "d", "e", "never"]);
    let dry = bench.scheduler.dry_run(request(plan.clone()), &agents, bench.now).unwrap();
    assert_eq!(dry.waves, [owned(&["c"]), owned(&["d", "e"])]);
    assert_eq!(dry.skipped["offline"], owned(&["a", "never"]));
    assert_eq!(dry.skipped["cordoned"], owned(&["b"]));
    let waits =
        bench.scheduler.dry_run(request(Plan { offline: OfflinePolicy::Wait, ..plan }), &agents, bench.now).unwrap();
    assert_eq!(waits.waiting, owned(&["a"]));
    assert!(bench.scheduler.rollouts().before(None).next().is_none() && bench.scheduler.take_changes().is_empty());
}
