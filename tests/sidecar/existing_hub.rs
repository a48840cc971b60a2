//! What an existing hub keeps of an agent apart from its tasks, and what the sidecar does so that the two do not part: a
//! hub that takes an idle agent for busy hands it nothing more.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use crate::support::legacy_hub::{Status, Task, Verdicts, now_ms};
use crate::support::scene::{ALICE, Scene};
use serde_json::json;

#[test]
fn after_a_task_that_the_queue_does_not_know_the_next_one_comes() {
    let scene = Scene::new();
    let _sidecar = scene.start();
    for round in 1..=2 {
        let pushed = scene.hub.push_untracked(ALICE, "pushed");
        scene.hub.wait("its refused verdict", |log| {
            let refused = log.iter().filter_map(|entry| entry.heard("error"));
            (refused.filter(|frame| frame["error"] == "task_complete_failed: not_found").count() >= round).then_some(())
        });
        assert_eq!(scene.agent.count(&pushed, "finished"), 1);
        let task = scene.hub.submit("from the queue");
        scene.done_once(&task);
    }
    assert_eq!(scene.connections(), 1);
}

#[test]
fn work_that_was_taken_back_unheard_counts_when_it_is_done() {
    let scene = Scene::new();
    let _sidecar = scene.start();
    let task = scene.hub.submit_task(Task::new("overdue", "run=hold").complete_by(now_ms() + 1_000));
    scene.agent.wait_run(&task, "started");
    scene.hub.wait_task(&task, Status::Queued);
    scene.agent.go("run", &task);
    scene.done_once(&task);
    assert_eq!(scene.connections(), 1, "hanging up would take the task from whoever has it");
}

#[test]
fn a_crash_of_the_hub_leaves_the_task_where_it_is_and_the_next_one_comes() {
    let scene = Scene::new();
    let _sidecar = scene.start();
    let task = scene.hub.submit("run=hold");
    scene.agent.wait_run(&task, "started");
    scene.hub.crash();
    scene.wait_online(2);
    scene.agent.go("run", &task);
    scene.done_once(&task);
    assert_eq!(scene.hub.task(&task).unwrap().generation, 1);
    let next = scene.hub.submit("next");
    scene.done_once(&next);
}

#[test]
fn a_verdict_that_a_crash_of_the_hub_swallowed_is_said_again_and_the_next_task_comes() {
    let scene = Scene::new();
    let _sidecar = scene.start();
    scene.hub.set(|options| options.verdicts = Verdicts::LoseVerdict);
    let task = scene.hub.submit("do it");
    scene.hub.wait_said(ALICE, "task_complete", 1);
    scene.hub.set(|options| options.verdicts = Verdicts::Answer);
    scene.hub.crash();
    scene.done_once(&task);
    let next = scene.hub.submit("next");
    scene.done_once(&next);
}

#[test]
fn a_report_that_the_hub_would_stumble_over_stays_in_the_result() {
    let scene = Scene::new();
    let wake =
        r#"printf '{"status":"success","verification_report":{"summary":"all well"}}' > results/"${TASK_ID}".json"#;
    scene.agent.configure("wake_command", json!(wake));
    let _sidecar = scene.start();
    let task = scene.hub.submit("do it");
    let done = scene.hub.wait_task(&task, Status::Completed);
    assert_eq!(done.result.unwrap()["verification_report"]["summary"], "all well");
    scene.wait_quiet();
    assert_eq!(scene.connections(), 1);
}
