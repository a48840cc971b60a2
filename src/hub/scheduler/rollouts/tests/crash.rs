//! A hub that is killed, and starts again from what was stored.

use super::bench::Bench;
use crate::hub::scheduler::amount::Amount;
use crate::hub::scheduler::rollouts::plan::Plan;
use crate::hub::scheduler::rollouts::rollout::Rollout;
use crate::hub::scheduler::rollouts::rollout::RolloutState;
use crate::hub::scheduler::rollouts::target::Target;

const THREE: [&str; 3] = ["a", "b", "c"];
/// The time for which rollouts rest after a start.
const REST_MS: u64 = 60_000;

#[test]
fn the_record_and_the_restart_are_stored_in_one_commit() {
    let mut bench = Bench::with(&THREE);
    let agents: Vec<String> = THREE.iter().map(|agent_id| (*agent_id).to_owned()).collect();
    bench.scheduler.start_rollout("r", super::bench::request(Plan::default()), &agents, bench.now).unwrap();
    let changes = bench.scheduler.take_changes();
    let restarts: Vec<&str> = changes.restarts.iter().map(|(id, _)| id.as_str()).collect();
    let targets: Vec<&str> = changes.targets.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!((restarts, targets), (vec!["r-0"], vec!["r/0", "r/1", "r/2"]));
    assert_eq!(changes.rollouts[0].0, "r");
}

#[test]
fn an_event_stores_the_targets_that_it_moved() {
    let mut bench = Bench::with(&THREE);
    bench.start(Plan::default(), &THREE);
    bench.scheduler.identified(
        99,
        &crate::protocol::Identify { agent_id: "a".into(), boot_id: Some("x".into()), ..Default::default() },
        "",
        bench.now,
    );
    let changes = bench.scheduler.take_changes();
    assert_eq!(changes.targets.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["r/0"]);
}

#[test]
fn absence_decides_nothing_for_a_while_after_a_start_and_nothing_leaves() {
    let mut bench = Bench::with(&THREE);
    bench.start(Plan { soak_ms: 1_000, ..Plan::default() }, &THREE);
    bench.restarts("a");
    bench.crash();
    bench.wait(REST_MS - 1);
    assert_eq!(
        (bench.targets(), bench.commanded().len()),
        (vec!["soaking".into(), "pending".into(), "pending".into()], 0)
    );
    THREE.iter().for_each(|agent_id| bench.join(agent_id));
    assert_eq!(bench.commanded().len(), 0);
    bench.wait(1);
    assert_eq!(
        (bench.targets(), bench.commanded()),
        (vec!["succeeded".into(), "restarting".into(), "pending".into()], vec!["b".into()])
    );
}

#[test]
fn who_is_not_back_by_then_is_away() {
    let mut bench = Bench::with(&THREE);
    let plan = Plan { max_failures: Amount::Number(1), soak_ms: 1_000, ..Plan::default() };
    bench.start(Plan { max_unavailable: Amount::Number(2), steps: vec![Amount::Number(1)], ..plan }, &THREE);
    bench.restarts("a");
    bench.crash();
    bench.join("c");
    bench.wait(REST_MS);
    assert_eq!(bench.targets(), ["failed(unhealthy)", "skipped(offline)", "restarting"]);
}

#[test]
fn a_return_while_the_rollout_rests_counts_once_it_goes_on() {
    let mut bench = Bench::with(&THREE);
    bench.start(Plan::default(), &THREE);
    bench.crash();
    bench.restarts("a");
    ["b", "c"].iter().for_each(|agent_id| bench.join(agent_id));
    assert_eq!(bench.target("a"), "restarting");
    bench.wait(REST_MS);
    assert_eq!(bench.target("a"), "soaking");
    bench.wait(10_000);
    assert_eq!(bench.targets(), ["succeeded", "restarting", "pending"]);
}

#[test]
fn two_returns_while_the_rollout_rests_are_a_crash() {
    let mut bench = Bench::with(&["a"]);
    bench.start(Plan::default(), &["a"]);
    bench.crash();
    bench.restarts("a");
    bench.restarts("a");
    bench.wait(REST_MS);
    assert_eq!(bench.target("a"), "failed(crashed)");
}

#[test]
fn a_rollout_that_is_started_after_the_start_does_not_rest() {
    let mut bench = Bench::with(&THREE);
    bench.crash();
    bench.join("a");
    bench.start(Plan::default(), &["a"]);
    assert_eq!(bench.commanded(), ["a"]);
}

#[test]
fn right_after_a_start_of_the_hub_who_is_away_is_waited_for_a_while() {
    let mut bench = Bench::with(&["a", "b", "c"]);
    bench.crash();
    bench.join("a");
    bench.start(Plan { max_unavailable: Amount::Number(3), ..Plan::default() }, &["a", "b", "c"]);
    assert_eq!(bench.targets(), ["restarting", "waiting(offline)", "waiting(offline)"]);
    bench.join("b");
    assert_eq!(bench.targets(), ["restarting", "restarting", "waiting(offline)"]);
    bench.wait(REST_MS);
    assert_eq!(bench.target("c"), "skipped(offline)");
}

#[test]
fn operators_may_act_while_it_rests() {
    let mut bench = Bench::with(&THREE);
    bench.start(Plan::default(), &THREE);
    bench.crash();
    bench.operate(|scheduler, now| scheduler.cancel_rollout("r", now)).unwrap();
    assert_eq!(bench.targets(), ["restarting", "cancelled", "cancelled"]);
    assert_eq!(bench.operate(|scheduler, now| scheduler.recall_rollout("r", now)), Ok(1));
    assert_eq!((bench.state(), bench.rollout().ended_at), (RolloutState::Cancelled, Some(bench.now)));
}

#[test]
fn a_record_that_cannot_be_read_takes_only_its_target_along() {
    let mut bench = Bench::with(&THREE);
    bench.start(Plan { soak_ms: 0, ..Plan::default() }, &THREE);
    bench.disk.targets.remove("r/1");
    bench.crash();
    THREE.iter().for_each(|agent_id| bench.join(agent_id));
    bench.restarts("a");
    bench.wait(REST_MS);
    bench.restarts("c");
    assert_eq!((bench.targets(), bench.state()), (vec!["succeeded".into(), "succeeded".into()], RolloutState::Partial));
}

#[test]
fn without_a_hub_nothing_is_decided() {
    let mut bench = Bench::with(&THREE);
    bench.start(Plan::default(), &THREE);
    let read = |table: &std::collections::BTreeMap<String, Vec<u8>>| -> Vec<serde_json::Value> {
        table.values().map(|bytes| serde_json::from_slice(bytes).unwrap()).collect()
    };
    let rollouts: Vec<Rollout> =
        read(&bench.disk.rollouts).into_iter().map(|it| serde_json::from_value(it).unwrap()).collect();
    let targets: Vec<Target> =
        read(&bench.disk.targets).into_iter().map(|it| serde_json::from_value(it).unwrap()).collect();
    let edited = crate::hub::scheduler::Scheduler::default().with_rollouts(rollouts, targets, None);
    bench.scheduler = edited;
    bench.wait(100_000_000);
    assert_eq!(bench.targets(), ["restarting", "pending", "pending"]);
}
