//! `history`: what the real sidecar kept of its runs, tasks and restarts, and what it costs where it cannot be kept.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::fs::{self, File};
use std::io::Write as _;

use crate::support::legacy_hub::{Status, Task};
use crate::support::process::Signal;
use crate::support::scene::{ALICE, Scene};
use crate::support::wait;
use serde_json::{Value, json};

fn history(scene: &Scene) -> Value {
    let (code, text) = scene.agent.operate(&["history", "--json"]);
    assert_eq!(code, 0, "{text}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

/// Every item as its kind and its state.
fn told(document: &Value) -> Vec<String> {
    let word = |item: &Value| {
        let state = ["end", "outcome"].iter().find_map(|key| item[key].as_str()).unwrap_or("-");
        format!("{} {state}", item["kind"].as_str().unwrap())
    };
    document["items"].as_array().unwrap().iter().map(word).collect()
}

/// Waits for the items, newest first: the last lines may be on their way to the disk.
fn wait_told(scene: &Scene, wanted: &[&str]) -> Value {
    let probe = || Some(history(scene)).filter(|document| told(document) == wanted);
    wait::until_or(&format!("{wanted:?}"), wait::BOUND, probe, || history(scene).to_string())
}

#[test]
fn a_life_is_told_newest_first() {
    let scene = Scene::new();
    let mut sidecar = scene.start();
    let done = scene.hub.submit("");
    scene.done_once(&done);
    scene.wait_quiet();
    assert_eq!(scene.agent.operate(&["restart", "--reason", "upgrade", "--wait"]).0, 0);
    let failed = scene.hub.submit_task(Task::new("fails", "fail").max_retries(1));
    scene.hub.wait_task(&failed, Status::DeadLetter);
    scene.wait_quiet();
    let seen = ["task failed", "run running", "restart back", "task completed", "run restart"];
    let document = wait_told(&scene, &seen);
    let items = &document["items"];
    assert_eq!(items[0]["task_id"], json!(failed));
    assert!(items[0]["why"].as_str().unwrap().contains("told to fail"), "{document}");
    assert!(items[3]["duration_ms"].is_u64() && items[3]["ended_at_ms"].is_u64(), "{document}");
    let restart = &items[2];
    assert_eq!(
        (&restart["reason"], &restart["by"], &restart["planned"]),
        (&json!("upgrade"), &json!("operator"), &json!(true))
    );
    assert_eq!(restart["gap_ms"], scene.agent.status()["restarts"][0]["gap_ms"]);
    let run = &items[4];
    assert_eq!((&run["in_place"], &run["exit_code"], &run["why"]), (&json!(true), &Value::Null, &json!("upgrade")));
    assert_eq!(items[1]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&document["running"], &document["skipped"]), (&json!(true), &json!(0)));
    // Killed, started again, stopped.
    sidecar.kill9();
    assert_eq!(told(&history(&scene))[1], "run lost");
    let mut next = scene.start();
    next.signal(Signal::TERM);
    next.wait_exit();
    let document = history(&scene);
    let begins = ["run stop", "restart back", "task failed", "run killed"];
    assert_eq!(told(&document)[..4], begins, "{document}");
    assert_eq!((&document["items"][0]["why"], &document["items"][0]["exit_code"]), (&json!("SIGTERM"), &json!(0)));
    assert_eq!((&document["items"][1]["planned"], &document["running"]), (&json!(false), &json!(false)));
    assert!(document["items"][1]["detail"].as_str().unwrap().contains("ended as killed: by a signal"), "{document}");
    let (code, table) = scene.agent.operate(&["history", "-n", "2"]);
    assert_eq!((code, table.lines().count()), (0, 3), "{table}");
    assert!(table.starts_with("WHEN (UTC)") && table.contains("SIGTERM, exit 0"), "{table}");
    assert!(table.contains("unplanned"), "{table}");
}

#[test]
fn a_task_across_a_restart_is_one_task() {
    let scene = Scene::new();
    let _sidecar = scene.start();
    let task = scene.hub.submit("run=hold");
    scene.agent.wait_run(&task, "started");
    wait_told(&scene, &["task -", "run running"]);
    assert_eq!(scene.agent.operate(&["restart", "--force", "--wait"]).0, 0);
    wait_told(&scene, &["run running", "restart back", "task -", "run restart"]);
    scene.agent.go("run", &task);
    scene.done_once(&task);
    wait_told(&scene, &["run running", "restart back", "task completed", "run restart"]);
}

#[test]
fn a_restart_is_told_by_who_refused_or_cancelled_it() {
    let scene = Scene::new();
    let _sidecar = scene.start();
    let task = scene.hub.submit("run=hold");
    scene.agent.wait_run(&task, "started");
    scene.hub.restart(ALICE, "from the hub");
    wait::until_true("the restart", || scene.agent.status()["phase"] == "RestartPending");
    assert_eq!(scene.agent.operate(&["cancel-restart"]).0, 0);
    let document = wait_told(&scene, &["restart cancelled", "task -", "run running"]);
    assert_eq!(document["items"][0]["reason"], "from the hub");
    scene.agent.go("run", &task);
    scene.done_once(&task);
}

#[test]
fn a_history_that_cannot_be_kept_costs_nothing_but_itself() {
    let scene = Scene::new();
    let file = scene.agent.path("queue.json.history");
    fs::create_dir(&file).unwrap();
    let mut sidecar = scene.start();
    let task = scene.hub.submit("");
    scene.done_once(&task);
    scene.agent.wait_log("the warning", |line| {
        (line["message"] == "the history cannot be written: lines of it are lost").then_some(())
    });
    let (code, text) = scene.agent.operate(&["history"]);
    assert!(code == 74 && text.contains("queue.json.history: ") && text.contains("a folder stands where"), "{text}");
    fs::remove_dir(&file).unwrap();
    // It is tried again a second after the last failure.
    wait::until_true("the history", || {
        assert_eq!((scene.agent.operate(&["drain"]).0, scene.agent.operate(&["resume"]).0), (0, 0));
        file.is_file()
    });
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.wait_exit().code(), Some(0));
    assert_eq!(told(&history(&scene)).last().unwrap(), "run stop");
}

#[test]
fn a_torn_line_costs_itself_alone() {
    let scene = Scene::new();
    let mut sidecar = scene.start();
    wait_told(&scene, &["run running"]);
    sidecar.kill9();
    let mut file = File::options().append(true).open(scene.agent.path("queue.json.history")).unwrap();
    file.write_all(b"{\"at_ms\":17,\"boot").unwrap();
    let _sidecar = scene.start();
    let document = wait_told(&scene, &["run running", "restart back", "run killed"]);
    assert_eq!(document["skipped"], 1);
    let (_, text) = scene.agent.operate(&["history"]);
    assert!(text.contains("cannot be read: 1 line of "), "{text}");
}

#[test]
fn there_is_nothing_before_the_first_run() {
    let scene = Scene::new();
    let (code, text) = scene.agent.operate(&["history"]);
    assert!(code == 0 && text.starts_with("alice: nothing is kept yet ("), "{text}");
    assert_eq!(history(&scene)["items"], json!([]));
}

#[test]
fn a_start_that_fails_hides_no_end_of_the_run_before_it() {
    let scene = Scene::new();
    let mut killed = scene.start();
    killed.kill9();
    let (journal, aside) = (scene.agent.path("queue.json"), scene.agent.path("aside"));
    let had_one = fs::rename(&journal, &aside).is_ok();
    fs::create_dir(&journal).unwrap();
    let (code, text) = scene.agent.operate(&["run"]);
    assert_eq!(code, 74, "{text}");
    fs::remove_dir(&journal).unwrap();
    if had_one {
        fs::rename(&aside, &journal).unwrap();
    }
    let _sidecar = scene.start();
    wait_told(&scene, &["run running", "restart back", "run crashed", "restart back", "run killed"]);
}
