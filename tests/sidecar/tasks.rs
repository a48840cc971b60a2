//! A task's way through the real sidecar, seen from a hub that knows none of our features.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::collections::BTreeSet;
use std::fs;

use crate::support::legacy_hub::{Options, Status, Task};
use crate::support::scene::{ALICE, Scene};
use crate::support::wait;
use serde_json::{Value, json};

/// The keys of a JSON object.
fn keys(object: &Value) -> BTreeSet<String> {
    object.as_object().unwrap().keys().cloned().collect()
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[test]
fn identify_is_the_node_sidecars_and_what_we_add() {
    let recorded = include_str!("../transcripts/task-through-wake.jsonl").lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["frame"].clone()
    });
    let theirs = recorded.into_iter().find(|frame| frame["type"] == "identify").unwrap();
    let scene = Scene::new();
    let _sidecar = scene.start();
    let ours = scene.hub.wait_said(ALICE, "identify", 1);
    let added: BTreeSet<_> = keys(&ours).difference(&keys(&theirs)).cloned().collect();
    assert_eq!(
        added,
        BTreeSet::from(["boot_id", "features", "previous_end", "silence_bound_ms", "version"].map(str::to_owned))
    );
    for (key, value) in theirs.as_object().unwrap() {
        assert_eq!(kind_of(&ours[key]), kind_of(value), "{key} in {ours}");
    }
    assert_eq!(keys(&ours["pm2_info"]), keys(&theirs["pm2_info"]));
    for (key, value) in [
        ("agent_id", json!(ALICE)),
        ("status", json!("idle")),
        ("client_type", json!("sidecar")),
        ("capabilities", json!(["code"])),
    ] {
        assert_eq!(ours[key], value, "{ours}");
    }
}

#[test]
fn a_task_is_accepted_woken_and_its_result_arrives() {
    let scene = Scene::new();
    let _sidecar = scene.start();
    let task = scene.hub.submit("do it");
    let done = scene.hub.wait_task(&task, Status::Completed);
    assert_eq!(done.result.unwrap()["output"], format!("done {task}"));
    scene.done_once(&task);
    let said: Vec<_> = scene.frames(1).into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(said.iter().filter(|kind| *kind == "task_accepted").count(), 1);
    assert_eq!(said.last().unwrap(), "task_complete");
    assert!(scene.frames(1).iter().all(|(_, frame)| frame["protocol_version"] == 1));
}

#[test]
fn a_finished_task_leaves_no_files_behind() {
    let scene = Scene::new();
    let _sidecar = scene.start();
    let task = scene.hub.submit("do it");
    scene.hub.wait_task(&task, Status::Completed);
    scene.wait_quiet();
    wait::until_true("the results folder to be empty", || {
        fs::read_dir(scene.agent.path("results")).unwrap().next().is_none()
    });
}

#[test]
fn a_failed_task_is_said_with_the_agents_reason() {
    let scene = Scene::new();
    let _sidecar = scene.start();
    let task = scene.hub.submit_task(Task::new("fails", "fail").max_retries(1));
    let dead = scene.hub.wait_task(&task, Status::DeadLetter);
    assert_eq!(dead.last_error.as_deref(), Some("told to fail"));
    assert_eq!(scene.times_said("task_complete"), 0);
}

#[test]
fn a_failed_task_that_is_retried_is_woken_again() {
    let scene = Scene::new();
    let _sidecar = scene.start();
    let task = scene.hub.submit_task(Task::new("fails", "fail").max_retries(2));
    scene.hub.wait_task(&task, Status::DeadLetter);
    let generations: Vec<_> =
        scene.agent.runs().into_iter().filter(|run| run.step == "finished").map(|run| run.generation).collect();
    assert_eq!(generations, [1, 3]);
}

#[test]
fn a_result_that_is_no_json_fails_the_task() {
    let scene = Scene::new();
    let _sidecar = scene.start();
    let task = scene.hub.submit_task(Task::new("garbage", "garbage").max_retries(1));
    let dead = scene.hub.wait_task(&task, Status::DeadLetter);
    let why = dead.last_error.as_deref().unwrap();
    let kept = scene.agent.path(&format!("results/rejected/{task}.json"));
    assert!(why.starts_with("result_parse_error: ") && why.contains(kept.to_str().unwrap()), "{dead:?}");
    assert!(kept.metadata().unwrap().len() > 0);
}

#[test]
fn a_failed_wake_is_tried_again() {
    let scene = Scene::new();
    let _sidecar = scene.start();
    let task = scene.hub.submit("failtimes=2");
    scene.done_once(&task);
    let wakes: Vec<_> = scene.hub.said(ALICE, "wake_result").into_iter().map(|(_, frame)| frame).collect();
    let told: Vec<_> = wakes.iter().map(|wake| (wake["attempt"].as_u64(), wake["status"].as_str())).collect();
    assert_eq!(told, [(Some(1), Some("failed")), (Some(2), Some("failed")), (Some(3), Some("success"))]);
    assert!(wakes[0]["error"].as_str().unwrap().contains("told to fail"), "{}", wakes[0]);
}

#[test]
fn a_wake_that_never_succeeds_fails_the_task() {
    let scene = Scene::new();
    let _sidecar = scene.start();
    let task = scene.hub.submit_task(Task::new("unwakeable", "exit=3").max_retries(1));
    let dead = scene.hub.wait_task(&task, Status::DeadLetter);
    let why = dead.last_error.unwrap();
    assert!(why.starts_with("wake_failed_after_4_attempts: "), "{why}");
    assert!(why.contains("told to exit 3"), "{why}");
    assert_eq!(scene.agent.count(&task, "woken"), 4);
}

#[test]
fn a_wake_that_takes_too_long_is_ended_and_tried_again() {
    let scene = Scene::new();
    scene.agent.configure("wake_timeout_ms", json!(300));
    scene.agent.configure("wake_retry_delays_ms", json!([20]));
    let _sidecar = scene.start();
    let task = scene.hub.submit_task(Task::new("slow", "wake=hold").max_retries(1));
    let dead = scene.hub.wait_task(&task, Status::DeadLetter);
    assert!(dead.last_error.unwrap().starts_with("wake_failed_after_2_attempts: "));
    assert_eq!(scene.hub.wait_said(ALICE, "wake_result", 2)["status"], "timeout");
}

#[test]
fn a_session_that_shows_itself_while_the_wake_command_runs_counts() {
    let scene = Scene::new();
    scene.agent.configure("confirmation_timeout_ms", json!(100));
    let _sidecar = scene.start();
    let task = scene.hub.submit("wake=hold early");
    scene.done_once(&task);
    assert_eq!(scene.times_said("wake_result"), 0, "the wake command still runs");
}

#[test]
fn a_result_that_was_there_before_the_task_counts() {
    let scene = Scene::new();
    fs::write(scene.agent.path("results/early.json"), r#"{"status":"success","output":"before"}"#).unwrap();
    let _sidecar = scene.start();
    let task = scene.hub.submit_task(Task::new("early", "wake=hold nostart"));
    let done = scene.hub.wait_task(&task, Status::Completed);
    assert_eq!(done.result.unwrap()["output"], "before");
}

#[test]
fn an_agent_that_does_not_show_itself_in_time_fails_the_task() {
    let scene = Scene::new();
    scene.agent.configure("confirmation_timeout_ms", json!(300));
    let _sidecar = scene.start();
    let task = scene.hub.submit_task(Task::new("silent", "nostart").max_retries(1));
    let dead = scene.hub.wait_task(&task, Status::DeadLetter);
    assert_eq!(dead.last_error.as_deref(), Some("confirmation_timeout"));
    let told = scene.hub.wait_said(ALICE, "wake_result", 2);
    assert_eq!((&told["status"], &told["error"]), (&json!("timeout"), &json!("confirmation_timeout")));
    assert_eq!(scene.agent.count(&task, "woken"), 1);
}

#[test]
fn a_running_task_gives_signs_of_life() {
    let scene = Scene::new();
    scene.agent.configure("progress_interval_ms", json!(200));
    let _sidecar = scene.start();
    let task = scene.hub.submit("run=hold");
    scene.hub.wait_said(ALICE, "task_progress", 4);
    let times: Vec<_> = scene.hub.said(ALICE, "task_progress").into_iter().map(|(at, _)| at).collect();
    assert!(times[3] - times[0] >= 500, "more often than asked for: {times:?}");
    scene.agent.go("run", &task);
    scene.done_once(&task);
}

#[test]
fn a_cancelled_task_is_let_go_of() {
    let scene = Scene::new();
    let _sidecar = scene.start();
    let task = scene.hub.submit("run=hold");
    scene.agent.wait_run(&task, "started");
    scene.hub.cancel(&task);
    let next = scene.hub.submit("next");
    scene.done_once(&next);
    let verdicts = scene.hub.said(ALICE, "task_complete");
    assert!(verdicts.iter().all(|(_, frame)| frame["task_id"] == *next), "{verdicts:?}");
    assert_eq!(scene.times_said("task_failed"), 0);
}

#[test]
fn a_second_task_is_neither_accepted_nor_woken_nor_answered_with_a_frame_unknown_there() {
    let scene = Scene::new();
    let _sidecar = scene.start();
    let task = scene.hub.submit("run=hold");
    scene.agent.wait_run(&task, "started");
    let second = scene.hub.push_untracked(ALICE, "second");
    scene.agent.wait_log("the refusal", |line| (line["notice"] == "assignment_refused").then_some(()));
    scene.agent.go("run", &task);
    scene.done_once(&task);
    assert_eq!(scene.agent.count(&second, "woken"), 0);
    assert_eq!((scene.times_said("task_accepted"), scene.times_said("task_rejected")), (1, 0));
}

#[test]
fn shell_text_in_a_description_stays_text() {
    let text = "$(touch pwned) `touch pwned`; touch pwned && \"touch pwned\" ' | touch pwned\n$TASK_ID ${HOME} \\ *";
    let scene = Scene::new();
    let wake = r#"printf %s "${TASK_DESCRIPTION}" > seen; echo ${TASK_DESCRIPTION} $TASK_JSON > /dev/null
        printf '{"status":"success"}' > results/"${TASK_ID}".json"#;
    scene.agent.configure("wake_command", json!(wake));
    let _sidecar = scene.start();
    let task = scene.hub.submit(text);
    scene.hub.wait_task(&task, Status::Completed);
    assert_eq!(fs::read_to_string(scene.agent.path("seen")).unwrap(), text);
    assert!(!scene.agent.path("pwned").exists());
}

#[test]
fn a_task_id_that_is_no_plain_name_is_refused() {
    let long = "x".repeat(129);
    let bad = ["../outside", "a/b", ".hidden", "x;touch pwned", "$(touch pwned)", "a b", "", &long];
    // An existing hub gives the agent nothing more until its acceptance timer has run out, and then only when something
    // else happens. (It hands out no such ids itself.)
    let scene = Scene::with(Options { acceptance_ms: 100, ..Options::default() });
    let _sidecar = scene.start();
    for id in bad {
        scene.hub.submit_task(Task::new(id, "do it").max_retries(1));
        scene.hub.wait_task(id, Status::DeadLetter);
        wait::until_true("the agent to be let go of", || scene.hub.is_idle(ALICE));
    }
    let good = scene.hub.submit("do it");
    scene.done_once(&good);
    assert_eq!(scene.agent.runs().iter().filter(|run| run.task != good).count(), 0);
    assert!(!scene.agent.path("pwned").exists() && !scene.agent.path("outside.json").exists());
}

#[test]
fn without_a_wake_command_the_agent_is_taken_to_find_its_task_by_itself() {
    let scene = Scene::new();
    scene.agent.configure("wake_command", Value::Null);
    let _sidecar = scene.start();
    let task = scene.hub.submit_task(Task::new("found", "do it").field("routing_decision", Value::Null));
    wait::until_true("the sign is given", || scene.agent.path(&format!("results/{task}.started")).exists());
    fs::write(scene.agent.path(&format!("results/{task}.json")), r#"{"status":"success"}"#).unwrap();
    scene.hub.wait_task(&task, Status::Completed);
}

#[test]
fn without_a_wake_command_a_task_for_an_executor_that_is_not_there_fails_at_once_and_says_why() {
    let scene = Scene::new();
    scene.agent.configure("wake_command", Value::Null);
    let _sidecar = scene.start();
    let task = scene.hub.submit_task(Task::new("nobody", "do it").max_retries(1));
    let dead = scene.hub.wait_task(&task, Status::DeadLetter);
    assert!(dead.last_error.as_deref().unwrap().starts_with("no_executor"), "{dead:?}");
}

#[test]
fn tasks_are_done_one_after_the_other() {
    let scene = Scene::new();
    let _sidecar = scene.start();
    let tasks: Vec<_> = (0..10).map(|number| scene.hub.submit(&format!("number {number}"))).collect();
    for task in &tasks {
        scene.done_once(task);
    }
    let steps: Vec<_> = scene.agent.runs().into_iter().map(|run| run.task).collect();
    let mut order = steps.clone();
    order.dedup();
    assert_eq!(order, tasks, "{steps:?}");
    scene.wait_quiet();
}

#[test]
fn what_a_wake_command_leaves_and_then_fails_counts_for_no_other_hand_out() {
    let scene = Scene::new();
    scene.agent.configure("wake_retry_delays_ms", json!([]));
    scene.agent.configure(
        "wake_command",
        json!("echo >> ran; r=results/$TASK_ID; echo '{\"status\":\"failed\"}' > $r.part; mv $r.part $r.json; exit 1"),
    );
    let _sidecar = scene.start();
    let task = scene.hub.submit_task(Task::new("fails", "do it").max_retries(4));
    scene.hub.wait_task(&task, Status::DeadLetter);
    scene.wait_quiet();
    let ran = std::fs::read_to_string(scene.agent.path("ran")).unwrap();
    assert_eq!(ran.lines().count(), 4, "{}", scene.agent.story());
    let left: Vec<_> =
        std::fs::read_dir(scene.agent.path("results")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["rejected"], "{}", scene.agent.story());
    // The four are alike.
    let kept = std::fs::read_dir(scene.agent.path("results/rejected")).unwrap().count();
    assert_eq!(kept, 1, "{}", scene.agent.story());
}
