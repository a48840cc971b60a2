//! The real sidecar killed, its journal broken, foreign or on a full disk: what was promised is kept.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::fs;

use crate::support::disk::Disk;
use crate::support::legacy_hub::{OnReturn, Options, Status, Task, Verdicts};
use crate::support::scene::{ALICE, Scene};
use crate::support::wait;
use serde_json::{Value, json};

/// Kills it mid-task, starts it again and lets the session finish: one run, whatever the hub says first.
fn killed_mid_task(options: Options) -> Scene {
    let scene = Scene::with(options);
    let mut sidecar = scene.start();
    let task = scene.hub.submit("run=hold");
    scene.agent.wait_log("running", |line| (line["stage"] == "running").then_some(()));
    sidecar.kill9();
    let _sidecar = scene.start();
    scene.hub.wait_said(ALICE, "task_accepted", 2);
    scene.agent.go("run", &task);
    scene.done_once(&task);
    assert_eq!(scene.agent.count(&task, "woken"), 1);
    assert_eq!(scene.hub.wait_said(ALICE, "task_recovering", 1)["task_id"], *task);
    scene.wait_quiet();
    assert_eq!(scene.times_said("task_accepted"), 2, "once in each run, whatever the hub says it by");
    scene
}

#[test]
fn work_is_adopted_when_the_assignment_comes_before_the_answer() {
    killed_mid_task(Options { on_return: OnReturn::AtOnce, ..Options::default() });
}

#[test]
fn work_is_adopted_when_the_assignment_comes_after_task_continue() {
    killed_mid_task(Options { on_return: OnReturn::AfterContinue, hold_ms: 600_000, ..Options::default() });
}

#[test]
fn work_is_adopted_when_the_task_comes_back_after_task_reassign() {
    killed_mid_task(Options { on_return: OnReturn::AfterReassign, hold_ms: 600_000, ..Options::default() });
}

#[test]
fn a_result_that_came_while_it_was_dead_is_delivered() {
    for on_return in [OnReturn::AtOnce, OnReturn::AfterContinue, OnReturn::AfterReassign] {
        let scene = Scene::with(Options { on_return, hold_ms: 600_000, ..Options::default() });
        let mut sidecar = scene.start();
        let task = scene.hub.submit("run=hold");
        scene.agent.wait_run(&task, "started");
        sidecar.kill9();
        scene.agent.go("run", &task);
        scene.agent.wait_run(&task, "finished");
        let _sidecar = scene.start();
        scene.done_once(&task);
        assert_eq!(scene.agent.count(&task, "woken"), 1, "{on_return:?}");
        scene.wait_quiet();
    }
}

#[test]
fn a_wake_whose_end_it_did_not_see_is_not_repeated() {
    let scene = Scene::new();
    let mut sidecar = scene.start();
    let task = scene.hub.submit("wake=hold");
    scene.agent.wait_run(&task, "woken");
    sidecar.kill9();
    let _sidecar = scene.start();
    scene.hub.wait_said(ALICE, "task_accepted", 2);
    scene.agent.go("wake", &task);
    scene.done_once(&task);
    assert_eq!(scene.agent.count(&task, "woken"), 1);
}

#[test]
fn a_wake_whose_end_it_did_not_see_and_that_led_to_nothing_is_repeated_under_the_new_generation() {
    let scene = Scene::new();
    scene.agent.configure("confirmation_timeout_ms", json!(500));
    // The first wake leads to no session, every later one to the usual one.
    let config: Value = serde_json::from_slice(&fs::read(scene.agent.config_file()).unwrap()).unwrap();
    let usual = config["wake_command"].as_str().unwrap();
    let wake = format!("if [ -e first ]; then {usual}; else : > first; while [ -e first ]; do sleep 0.02; done; fi");
    scene.agent.configure("wake_command", json!(wake));
    let mut sidecar = scene.start();
    let task = scene.hub.submit("do it");
    wait::until_true("the first wake", || scene.agent.path("first").exists());
    sidecar.kill9();
    let _sidecar = scene.start();
    scene.done_once(&task);
    assert_eq!(scene.agent.wait_run(&task, "woken").generation, 3);
    fs::remove_file(scene.agent.path("first")).unwrap();
}

#[test]
fn killed_again_and_again_one_task_is_one_run() {
    let scene = Scene::new();
    let mut sidecar = scene.start();
    let task = scene.hub.submit("run=hold");
    scene.agent.wait_run(&task, "started");
    for _ in 0..8 {
        sidecar.kill9();
        sidecar = scene.start();
    }
    scene.agent.go("run", &task);
    scene.done_once(&task);
    assert_eq!(scene.agent.count(&task, "woken"), 1);
}

#[test]
fn a_verdict_that_was_not_answered_before_the_kill_is_said_again() {
    let scene = Scene::with(Options { verdicts: Verdicts::LoseVerdict, ..Options::default() });
    let mut sidecar = scene.start();
    let task = scene.hub.submit("do it");
    scene.hub.wait_said(ALICE, "task_complete", 1);
    sidecar.kill9();
    scene.hub.set(|options| options.verdicts = Verdicts::Answer);
    let _sidecar = scene.start();
    scene.done_once(&task);
    scene.wait_quiet();
}

#[test]
fn a_verdict_whose_answer_was_lost_with_the_process_is_not_counted_twice() {
    let scene = Scene::with(Options { verdicts: Verdicts::LoseAnswer, ..Options::default() });
    let mut sidecar = scene.start();
    let task = scene.hub.submit("do it");
    scene.hub.wait_task(&task, Status::Completed);
    sidecar.kill9();
    scene.hub.set(|options| options.verdicts = Verdicts::Answer);
    let _sidecar = scene.start();
    scene.wait_quiet();
    let completed = |task: &Task| task.history.iter().filter(|(_, what, _)| *what == "completed").count();
    assert_eq!(completed(&scene.hub.task(&task).unwrap()), 1);
}

#[test]
fn a_task_that_was_cancelled_meanwhile_is_let_go_of() {
    let scene = Scene::new();
    let mut sidecar = scene.start();
    let task = scene.hub.submit("run=hold");
    scene.agent.wait_run(&task, "started");
    sidecar.kill9();
    scene.hub.cancel(&task);
    let next = scene.hub.submit("next");
    let _sidecar = scene.start();
    scene.done_once(&next);
    let verdicts = scene.hub.said(ALICE, "task_complete");
    assert!(verdicts.iter().all(|(_, frame)| frame["task_id"] == *next), "{verdicts:?}");
}

#[test]
fn a_journal_that_makes_no_sense_is_moved_aside_and_kept() {
    let scene = Scene::new();
    let text = "{\"active\": {\"task_id\": \"half a";
    fs::write(scene.agent.path("queue.json"), text).unwrap();
    let _sidecar = scene.start();
    let names = fs::read_dir(scene.agent.folder()).unwrap().map(|entry| entry.unwrap().file_name());
    let aside: Vec<_> =
        names.map(|name| name.into_string().unwrap()).filter(|name| name.starts_with("queue.json.corrupt-")).collect();
    assert_eq!(aside.len(), 1, "{aside:?}");
    assert_eq!(fs::read_to_string(scene.agent.path(&aside[0])).unwrap(), text);
    let said = scene.agent.wait_log("that it was moved", |line| line["moved_to"].as_str().map(str::to_owned));
    assert!(said.ends_with(&aside[0]), "{said}");
    let task = scene.hub.submit("do it");
    scene.done_once(&task);
}

/// What the Node sidecar leaves of a task: its own fields, flat.
fn left_by_node(task: &str, status: &str) -> Value {
    json!({
        "active": {
            "task_id": task, "description": "run=hold", "metadata": {}, "status": status, "assigned_at": now_ms(),
            "generation": 1, "wake_attempts": 1, "repo": null, "branch": null, "file_hints": [],
            "success_criteria": [], "verification_steps": [], "complexity": null, "skip_verification": false,
            "verification_timeout_ms": null, "routing_decision": null, "max_verification_retries": 0,
        },
        "recovering": null,
    })
}

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

#[test]
fn a_task_that_the_node_sidecar_had_under_way_is_taken_over() {
    for status in ["working", "waking_confirmation"] {
        let scene = Scene::new();
        let task = scene.hub.submit_task(Task::new("left-by-node", "run=hold"));
        fs::write(scene.agent.path("queue.json"), left_by_node(&task, status).to_string()).unwrap();
        let _sidecar = scene.start();
        scene.hub.wait_said(ALICE, "task_accepted", 1);
        // The session that the Node sidecar had woken finishes.
        fs::write(scene.agent.path("results/left-by-node.json"), r#"{"status":"success","output":"node's"}"#).unwrap();
        let done = scene.hub.wait_task(&task, Status::Completed);
        assert_eq!(done.result.unwrap()["output"], "node's", "{status}");
        assert_eq!(scene.agent.count(&task, "woken"), 0, "{status}");
        scene.wait_quiet();
    }
}

#[test]
fn a_task_that_the_node_sidecar_had_only_accepted_is_woken() {
    let scene = Scene::new();
    let task = scene.hub.submit_task(Task::new("left-by-node", "do it"));
    fs::write(scene.agent.path("queue.json"), left_by_node(&task, "accepted").to_string()).unwrap();
    let _sidecar = scene.start();
    scene.done_once(&task);
    assert_eq!(scene.agent.count(&task, "woken"), 1);
}

#[test]
fn a_task_that_the_node_sidecar_did_inside_its_own_process_died_with_it_and_is_done_anew() {
    let scene = Scene::new();
    let task = scene.hub.submit_task(Task::new("left-by-node", "do it"));
    let mut left = left_by_node(&task, "working");
    left["active"]["wake_attempts"] = json!(0);
    left["active"]["routing_decision"] = json!({"target_type": "ollama", "selected_model": "m"});
    fs::write(scene.agent.path("queue.json"), left.to_string()).unwrap();
    let _sidecar = scene.start();
    scene.done_once(&task);
    assert_eq!(scene.agent.count(&task, "woken"), 1);
}

#[test]
fn fields_of_others_in_the_journal_stay() {
    let scene = Scene::new();
    fs::write(scene.agent.path("queue.json"), r#"{"active":null,"recovering":null,"note":{"by":"somebody"}}"#).unwrap();
    let _sidecar = scene.start();
    let task = scene.hub.submit("do it");
    scene.done_once(&task);
    scene.wait_quiet();
    assert_eq!(scene.agent.queue().unwrap()["note"]["by"], "somebody");
}

/// A scene whose journal stands on a disk of its own.
fn on_a_small_disk(options: Options) -> (Scene, Disk) {
    let disk = Disk::new();
    let scene = Scene::with(options);
    scene.agent.configure("queue_file", json!(disk.path().join("queue.json")));
    (scene, disk)
}

#[test]
fn on_a_full_disk_a_task_is_not_taken_and_done_once_there_is_room() {
    let (scene, disk) = on_a_small_disk(Options { acceptance_ms: 500, ..Options::default() });
    let _sidecar = scene.start();
    disk.fill();
    let task = scene.hub.submit("do it");
    scene
        .agent
        .wait_log("that the journal cannot be written", |line| (line["notice"] == "journal_failing").then_some(()));
    scene.agent.wait_log("the refusal", |line| (line["notice"] == "assignment_refused").then_some(()));
    assert_eq!((scene.times_said("task_accepted"), scene.agent.count(&task, "woken")), (0, 0));
    disk.free();
    scene.done_once(&task);
    scene.agent.wait_log("that it can again", |line| (line["notice"] == "journal_recovered").then_some(()));
    assert_eq!(scene.connections(), 1);
}

#[test]
fn on_a_full_disk_a_verdict_waits_in_memory_until_there_is_room() {
    let (scene, disk) = on_a_small_disk(Options::default());
    let _sidecar = scene.start();
    let task = scene.hub.submit("run=hold");
    scene.agent.wait_log("running", |line| (line["stage"] == "running").then_some(()));
    wait::until_true("the journal to say so", || {
        fs::read_to_string(disk.path().join("queue.json")).is_ok_and(|text| text.contains("running"))
    });
    disk.fill();
    scene.agent.go("run", &task);
    scene
        .agent
        .wait_log("that the journal cannot be written", |line| (line["notice"] == "journal_failing").then_some(()));
    assert_eq!(scene.times_said("task_complete"), 0, "a verdict is said after the journal holds it");
    disk.free();
    scene.done_once(&task);
}

#[test]
fn a_restart_from_a_full_disk_still_loses_nothing() {
    let (scene, disk) = on_a_small_disk(Options::default());
    scene.agent.configure("drain_deadline_ms", json!(1_000));
    let mut sidecar = scene.start_supervised();
    let task = scene.hub.submit("run=hold");
    scene.agent.wait_log("running", |line| (line["stage"] == "running").then_some(()));
    disk.fill();
    assert!(scene.hub.restart(ALICE, "upgrade"));
    scene.agent.go("run", &task);
    assert_eq!(sidecar.wait_exit().code(), Some(0));
    disk.free();
    let _sidecar = scene.start_supervised();
    // The verdict was never on disk: the files in the results folder are what it is made of again.
    scene.done_once(&task);
}
