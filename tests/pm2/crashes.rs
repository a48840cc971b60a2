//! Deaths under a real pm2: of the sidecar, of the hub, of pm2 itself, at the worst moments. Judged by `pm2 jlist` and by
//! the hub's API.
#![cfg(target_os = "linux")]

use std::fs;

use serde_json::json;

use crate::support::ground::{ALICE, Ground, HUB_APP};
use crate::support::process::{self, Signal};
use crate::support::wait;

#[test]
fn killed_in_the_middle_of_a_task_the_sidecar_takes_it_up_again() {
    let ground = Ground::launched();
    let before = ground.listed();
    let task = ground.start_task("start=0 run=hold");
    process::kill9(before.pid);
    ground.pm2.wait_restarts(ALICE, before.restarts + 1);
    ground.hub.wait_agent(ALICE, |agent| agent["fsm_state"] == "working");
    ground.finish(&task);
    ground.assert_restarted(&before, 1);
    ground.assert_ran_once(&task);
    ground.wait_idle();
}

#[test]
fn a_result_that_came_while_the_sidecar_was_dead_is_delivered() {
    let ground = Ground::launched();
    let before = ground.listed();
    let task = ground.start_task("start=0 run=hold");
    ground.pm2.command(&["stop", ALICE]);
    ground.agent.go("run", &task);
    ground.agent.wait_run(&task, "finished");
    wait::until_true("the result", || ground.agent.path(&format!("results/{task}.json")).exists());
    ground.pm2.command(&["start", ALICE]);
    ground.hub.wait_task(&task, "completed");
    ground.assert_ran_once(&task);
    assert_ne!(ground.listed().pid, before.pid);
    ground.wait_idle();
}

#[test]
fn a_hub_that_is_killed_in_the_middle_of_a_task_loses_nothing() {
    let ground = Ground::launched();
    let (before, hub) = (ground.listed(), ground.listed_as(HUB_APP));
    let task = ground.start_task("start=0 run=hold");
    process::kill9(hub.pid);
    ground.pm2.wait_restarts(HUB_APP, hub.restarts + 1);
    wait::until_true("the hub to answer again", || ground.hub_answers());
    ground.finish(&task);
    ground.assert_ran_once(&task);
    assert_eq!(ground.listed(), before, "the sidecar stays as it is");
    ground.wait_idle();
}

#[test]
fn a_hub_that_is_killed_between_command_and_return_knows_how_it_ended() {
    let ground = Ground::launched();
    let (before, hub) = (ground.listed(), ground.listed_as(HUB_APP));
    let task = ground.start_task("start=0 run=hold");
    let command = ground.command(json!({"reason": "the hub dies first"}));
    ground.hub.wait_restart(&command, ALICE, "accepted");
    process::kill9(hub.pid);
    ground.pm2.wait_restarts(HUB_APP, hub.restarts + 1);
    wait::until_true("the hub to answer again", || ground.hub_answers());
    ground.hub.wait_agent(ALICE, |agent| agent["connected"] == true);
    ground.finish(&task);
    ground.wait_back(&command);
    ground.assert_restarted(&before, 1);
    ground.assert_ran_once(&task);
    assert_eq!(ground.hub.restarts(ALICE).len(), 1);
}

#[test]
fn while_pm2_reads_nothing_the_sidecar_works_on() {
    /// pm2's pipe takes about 94 KiB.
    const MORE_THAN_THE_PIPE: u64 = 250 * 1024;
    let ground = Ground::new();
    ground.agent.configure("log_level", json!("trace"));
    ground.agent.configure("ping_interval_ms", json!(100));
    ground.launch();
    let before = ground.listed();
    let logged = || fs::metadata(ground.agent.path("sidecar.log")).map_or(0, |file| file.len());
    let (daemon, logged_before) = (ground.daemon(), logged());
    process::send(daemon, Signal::STOP);
    let mut tasks = 0;
    while logged() - logged_before < MORE_THAN_THE_PIPE {
        ground.assert_works();
        tasks += 1;
        assert!(tasks < 1_000, "the log does not grow");
    }
    process::send(daemon, Signal::CONT);
    ground.wait_idle();
    ground.assert_works();
    assert_eq!(ground.listed(), before, "neither ended nor was it restarted");
}

#[test]
fn after_pm2_kill_and_resurrect_one_copy_serves_and_has_its_task() {
    let ground = Ground::launched();
    let task = ground.start_task("start=0 run=hold");
    let before = ground.listed();
    ground.pm2.command(&["save"]);
    ground.pm2.command(&["kill"]);
    assert!(!process::alive(before.pid));
    ground.pm2.command(&["resurrect"]);
    ground.pm2.wait_online(ALICE);
    wait::until_true("the hub to answer again", || ground.hub_answers());
    ground.hub.wait_agent(ALICE, |agent| agent["fsm_state"] == "working");
    ground.finish(&task);
    ground.assert_ran_once(&task);
    assert_eq!(ground.copies(), [ground.listed().pid]);
}

#[test]
fn a_sidecar_that_outlives_pm2_keeps_serving_and_the_second_copy_waits() {
    let ground = Ground::launched();
    let before = ground.listed();
    ground.pm2.command(&["save"]);
    process::kill9(ground.daemon());
    ground.assert_works();
    ground.pm2.command(&["resurrect"]);
    let refused = || fs::read_to_string(ground.agent.path("alice.err.log")).unwrap_or_default();
    wait::until_true("the second copy to say who serves", || {
        refused().contains(&format!("process {}", before.pid)) && refused().contains("another copy serves this agent")
    });
    // It is nobody's child now: pm2 would not see it exit, so it comes back in place.
    let command = ground.command(json!({"reason": "orphaned"}));
    ground.wait_back(&command);
    assert!(process::alive(before.pid));
    ground.assert_works();
    // The first one gone, the second one is let in.
    process::kill9(before.pid);
    wait::until_true("the second copy to serve", || {
        let about = ground.hub.agent(ALICE);
        about.is_some_and(|agent| agent["fsm_state"] == "idle") && ground.pm2.status_of(ALICE) == "online"
    });
    ground.assert_works();
    assert_eq!(ground.copies(), [ground.listed().pid]);
}
