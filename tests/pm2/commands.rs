//! What an operator types at pm2 in the middle of a task: `restart`, `stop`, `reload`, `delete`. Each time the sidecar
//! leaves by itself well inside `kill_timeout`, keeps its journal, and has its task again afterwards. Judged by pm2's own
//! list and log and by the hub's API.
#![cfg(target_os = "linux")]

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::ground::{ALICE, Ground, Listed};
use crate::support::process;

/// `kill_timeout` in `ecosystem.config.js`; an app of its own kind here has pm2's default.
const KILL_TIMEOUT: Duration = Duration::from_millis(8_000);

/// A task under way, and the sidecar as pm2 lists it.
fn working() -> (Ground, String, Listed) {
    let ground = Ground::launched();
    let task = ground.start_task("start=0 run=hold");
    let before = ground.listed();
    (ground, task, before)
}

/// Runs the command and asserts that the process it ends has exited by itself: code 0, no SIGKILL, in good time. (The
/// time includes pm2's own command line, so the bound says little on a busy machine; the code and signal say the rest.)
fn leaves_by_itself(ground: &Ground, before: &Listed, command: &[&str]) {
    let start = Instant::now();
    ground.pm2.command(command);
    assert!(start.elapsed() < KILL_TIMEOUT, "{command:?} took {:?}", start.elapsed());
    assert!(!process::alive(before.pid));
    let exits = ground.exits();
    assert!(exits.len() == 1 && exits[0].contains("exited with code [0] via signal [SIGINT]"), "{exits:?}");
}

fn journal_keeps(ground: &Ground, task: &str) {
    let queue = ground.agent.queue().expect("queue.json");
    assert!(queue.to_string().contains(task), "{queue}");
}

fn goes_on(ground: &Ground, task: &str) {
    ground.pm2.wait_online(ALICE);
    ground.hub.wait_agent(ALICE, |agent| agent["fsm_state"] == "working");
    ground.finish(task);
    ground.assert_ran_once(task);
    ground.wait_idle();
}

#[test]
fn pm2_restart() {
    let (ground, task, before) = working();
    leaves_by_itself(&ground, &before, &["restart", ALICE]);
    goes_on(&ground, &task);
    ground.assert_restarted(&before, 1);
}

#[test]
fn pm2_reload() {
    let (ground, task, before) = working();
    leaves_by_itself(&ground, &before, &["reload", ALICE]);
    goes_on(&ground, &task);
    ground.assert_restarted(&before, 1);
}

#[test]
fn pm2_stop_and_start() {
    let (ground, task, before) = working();
    leaves_by_itself(&ground, &before, &["stop", ALICE]);
    assert_eq!(ground.listed().status, "stopped");
    journal_keeps(&ground, &task);
    ground.pm2.command(&["start", ALICE]);
    goes_on(&ground, &task);
    assert_eq!(ground.listed().status, "online");
}

#[test]
fn pm2_delete_and_a_new_start() {
    let (ground, task, before) = working();
    leaves_by_itself(&ground, &before, &["delete", ALICE]);
    assert_eq!(ground.pm2.app(ALICE), None);
    journal_keeps(&ground, &task);
    ground.agent.launch_under(&ground.pm2);
    goes_on(&ground, &task);
}

#[test]
fn pm2_stop_while_a_commanded_restart_waits_stops() {
    let (ground, task, before) = working();
    let command = ground.command(json!({"reason": "overtaken"}));
    ground.hub.wait_restart(&command, ALICE, "accepted");
    leaves_by_itself(&ground, &before, &["stop", ALICE]);
    assert_eq!(ground.listed().status, "stopped");
    // The next start is the return that the command waits for.
    ground.pm2.command(&["start", ALICE]);
    ground.wait_back(&command);
    goes_on(&ground, &task);
}

#[test]
fn a_stop_by_message() {
    let ground = Ground::new();
    let mut app = ground.agent.app();
    app["shutdown_with_message"] = json!(true);
    ground.launch_as(app);
    let task = ground.start_task("start=0 run=hold");
    let before = ground.listed();
    leaves_by_itself(&ground, &before, &["restart", ALICE]);
    let stopped = |line: &serde_json::Value| (line["event"] == "StopRequested").then_some(());
    ground.agent.wait_log("a stop", stopped);
    goes_on(&ground, &task);
    ground.assert_restarted(&before, 1);
}

#[test]
fn a_stop_with_a_hub_that_is_gone_still_fits() {
    let ground = Ground::new();
    // pm2's default kill_timeout: 1600 ms.
    let mut app = ground.agent.app();
    app.as_object_mut().expect("an object").remove("kill_timeout");
    ground.launch_as(app);
    let task = ground.start_task("start=0 run=hold");
    let before = ground.listed();
    // A hub that no longer answers, and does not close either.
    let hub = ground.pm2.pid_of("agentcom-hub").expect("the hub's pid");
    process::send(hub, process::Signal::STOP);
    leaves_by_itself(&ground, &before, &["stop", ALICE]);
    process::send(hub, process::Signal::CONT);
    journal_keeps(&ground, &task);
    ground.pm2.command(&["start", ALICE]);
    goes_on(&ground, &task);
}
