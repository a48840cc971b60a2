//! The real sidecar at a hub that will not have a result, and takes everything else.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::fs;
use std::path::PathBuf;

use crate::support::legacy_hub::{Options, Refusal, Verdicts};
use crate::support::scene::{ALICE, Scene};
use crate::support::wait;
use serde_json::json;

fn scene(refusal: Refusal) -> Scene {
    let scene = Scene::with(Options { verdicts: Verdicts::RefuseResults(refusal), ..Options::default() });
    scene.agent.configure("answer_timeout_ms", json!(300));
    scene
}

/// Waits for the refused result in the folder for such, and answers where it lies.
fn kept(scene: &Scene, task: &str) -> PathBuf {
    let path = scene.agent.path(&format!("results/rejected/{task}.json"));
    wait::until_or("the result", wait::BOUND, || path.is_file().then_some(()), || scene.agent.story());
    path
}

/// How often the result was said before the failure was.
fn ends_as_failed(scene: &Scene, task: &str) -> usize {
    let path = kept(scene, task);
    scene.hub.wait_said(ALICE, "task_failed", 1);
    let failed = scene.hub.said(ALICE, "task_failed")[0].1.clone();
    let reason = failed["reason"].as_str().unwrap();
    assert!(reason.starts_with("result_refused: ") && reason.contains(path.to_str().unwrap()), "{reason}");
    assert_eq!((&failed["task_id"], failed["generation"].is_u64()), (&json!(task), true));
    let result: serde_json::Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(result["status"], "success", "{result}");
    let said = scene.hub.said(ALICE, "task_complete");
    let same = |frame: &serde_json::Value| frame["task_id"] == task && frame["generation"] == failed["generation"];
    said.iter().filter(|(_, frame)| same(frame)).count()
}

#[test]
fn a_result_that_is_refused_in_whatever_words_fails_and_the_next_task_completes() {
    for refusal in [Refusal::Error("invalid_json"), Refusal::Error("task_complete_failed: the_cat_sat_on_it")] {
        let scene = scene(refusal);
        let _sidecar = scene.start();
        let task = scene.hub.submit("unwanted");
        // A hub gives an agent no second task before the first has ended.
        let next = scene.hub.submit("next");
        assert_eq!(ends_as_failed(&scene, &task), 5, "{}", scene.hub.story());
        scene.done_once(&next);
    }
}

#[test]
fn a_result_for_which_the_hub_ends_the_connection_each_time_fails() {
    let scene = scene(Refusal::Close(1009));
    let _sidecar = scene.start();
    let task = scene.hub.submit("unwanted");
    ends_as_failed(&scene, &task);
    // Each time the hub had taken the task back, and handed it out anew.
    let said = scene.hub.said(ALICE, "task_complete").iter().filter(|(_, frame)| frame["task_id"] == *task).count();
    assert!(said <= 6, "said {said} times");
    assert_eq!(scene.agent.count(&task, "started"), 1);
    scene.hub.set(|options| options.verdicts = Verdicts::Answer);
    scene.wait_quiet();
}

#[test]
fn the_refusals_before_a_crash_count() {
    let scene = scene(Refusal::Error("no"));
    let mut said = 0;
    let task = scene.hub.submit("unwanted");
    for _ in 0..4 {
        let mut sidecar = scene.start();
        said += 1;
        scene.hub.wait_said(ALICE, "task_complete", said);
        let refusals = || (scene.agent.queue()?["outbox"][0]["refusals"] == said).then_some(());
        wait::until_or("the count", wait::BOUND, refusals, || scene.agent.story());
        sidecar.kill9();
    }
    let _sidecar = scene.start();
    assert_eq!(ends_as_failed(&scene, &task), 5, "{}", scene.hub.story());
}

/// Puts a file where a folder would be made.
fn obstruct(scene: &Scene, folder: &str) -> PathBuf {
    let path = scene.agent.path(folder);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, "").unwrap();
    path
}

#[test]
fn a_result_that_the_folder_for_such_does_not_take_is_put_beside_the_journal_and_the_next_task_completes() {
    let scene = scene(Refusal::Error("no"));
    let _sidecar = scene.start();
    obstruct(&scene, "results/rejected");
    let task = scene.hub.submit("unwanted");
    let next = scene.hub.submit("next");
    scene.hub.wait_said(ALICE, "task_failed", 1);
    let path = scene.agent.path(&format!("queue.rejected/{task}.json"));
    let failed = scene.hub.said(ALICE, "task_failed")[0].1.clone();
    assert!(failed["reason"].as_str().unwrap().contains(path.to_str().unwrap()), "{failed}");
    assert!(path.is_file());
    scene.done_once(&next);
}

#[test]
fn a_result_that_can_be_put_nowhere_stays_until_it_can() {
    let scene = scene(Refusal::Error("no"));
    let _sidecar = scene.start();
    let in_the_way = obstruct(&scene, "results/rejected");
    obstruct(&scene, "queue.rejected");
    let task = scene.hub.submit("unwanted");
    scene.agent.wait_log("the trouble", |line| {
        line["message"].as_str()?.starts_with("a refused result cannot be put aside").then_some(())
    });
    assert_eq!(scene.agent.queue().unwrap()["outbox"][0]["verdict"], "completed");
    fs::remove_file(&in_the_way).unwrap();
    assert_eq!(ends_as_failed(&scene, &task), 5, "{}", scene.hub.story());
}

#[test]
fn a_connection_that_breaks_with_the_result_each_time_is_no_refusal() {
    let scene = scene(Refusal::Drop);
    let _sidecar = scene.start();
    let task = scene.hub.submit("unwanted");
    // More often than a hub may refuse it.
    scene.hub.wait_said(ALICE, "task_complete", 7);
    scene.hub.set(|options| options.verdicts = Verdicts::Answer);
    scene.done_once(&task);
    scene.wait_quiet();
    assert_eq!(scene.times_said("task_failed"), 0);
    let next = scene.hub.submit("next");
    scene.done_once(&next);
}
