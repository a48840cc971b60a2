//! Commanded restarts under a real pm2: hub and sidecar by the real `ecosystem.config.js`, judged by `pm2 jlist` and by
//! the hub's API.
#![cfg(target_os = "linux")]

use serde_json::json;

use crate::support::ground::{ALICE, Ground};

#[test]
fn an_idle_sidecar_comes_back_as_a_new_process() {
    let ground = Ground::launched();
    let before = ground.listed();
    let command = ground.command(json!({"reason": "idle"}));
    let ledger = ground.wait_back(&command);
    ground.assert_restarted(&before, 1);
    assert_ne!(ledger["boot_before"], ledger["boot_after"]);
    assert_eq!(ledger["forced"], false);
    ground.wait_idle();
    ground.assert_works();
}

#[test]
fn a_working_sidecar_finishes_first() {
    let ground = Ground::launched();
    let before = ground.listed();
    let task = ground.start_task("start=0 run=hold");
    let command = ground.command(json!({"reason": "while working"}));
    ground.hub.wait_restart(&command, ALICE, "accepted");
    ground.hub.wait_agent(ALICE, |agent| agent["fsm_state"] == "restarting");
    assert_eq!(ground.listed(), before);
    ground.finish(&task);
    let ledger = ground.wait_back(&command);
    assert_eq!(ledger["forced"], false);
    ground.assert_restarted(&before, 1);
    ground.assert_ran_once(&task);
    assert_eq!(ground.hub.task(&task)["generation"], 1);
    ground.wait_idle();
}

#[test]
fn a_task_that_was_submitted_meanwhile_waits_for_the_next_run() {
    let ground = Ground::launched();
    let task = ground.start_task("start=0 run=hold");
    let command = ground.command(json!({"reason": "fenced"}));
    let next = ground.hub.submit_with(json!({"description": "start=0 run=0", "assign_to": ALICE}));
    ground.hub.wait_restart(&command, ALICE, "accepted");
    assert_eq!(ground.agent.count(&next, "woken"), 0);
    ground.finish(&task);
    ground.hub.wait_task(&next, "completed");
    assert_eq!(ground.wait_back(&command)["state"], "back");
    ground.assert_ran_once(&next);
    assert_eq!(ground.hub.task(&next)["generation"], 1, "handed out once, after the return");
}

#[test]
fn at_the_deadline_the_task_is_left_running_and_recovered() {
    let ground = Ground::launched();
    let before = ground.listed();
    let task = ground.start_task("start=0 run=hold");
    let command = ground.command(json!({"reason": "deadline", "deadline_ms": 300}));
    let ledger = ground.wait_back(&command);
    assert_eq!(ledger["forced"], true);
    ground.assert_restarted(&before, 1);
    ground.finish(&task);
    ground.assert_ran_once(&task);
    ground.wait_idle();
}

#[test]
fn a_wake_that_the_deadline_cut_short_is_not_repeated() {
    let ground = Ground::launched();
    let before = ground.listed();
    // The session starts while the wake command still runs, and shows itself.
    let task = ground.hub.submit("early wake=hold start=0 run=hold");
    ground.agent.wait_run(&task, "started");
    let command = ground.command(json!({"reason": "deadline in the wake", "deadline_ms": 300}));
    assert_eq!(ground.wait_back(&command)["forced"], true);
    ground.assert_restarted(&before, 1);
    ground.finish(&task);
    ground.assert_ran_once(&task);
}

#[test]
fn force_does_not_wait() {
    let ground = Ground::launched();
    let before = ground.listed();
    let task = ground.start_task("start=0 run=hold");
    let command = ground.command(json!({"reason": "patience"}));
    ground.hub.wait_restart(&command, ALICE, "accepted");
    assert_eq!(ground.command(json!({"reason": "no patience", "force": true})), command);
    let ledger = ground.wait_back(&command);
    assert_eq!((&ledger["forced"], &ledger["reason"]), (&json!(true), &json!("patience")));
    ground.assert_restarted(&before, 1);
    ground.finish(&task);
    ground.assert_ran_once(&task);
}

#[test]
fn twenty_repeats_are_one_restart() {
    let ground = Ground::launched();
    let before = ground.listed();
    let task = ground.start_task("start=0 run=hold");
    let first = ground.command(json!({"reason": "the first"}));
    for n in 1..20 {
        assert_eq!(ground.command(json!({"reason": format!("repeat {n}")})), first);
    }
    ground.finish(&task);
    let ledger = ground.wait_back(&first);
    ground.assert_restarted(&before, 1);
    assert_eq!(ledger["reason"], "the first");
    assert_eq!(ground.hub.restarts(ALICE).len(), 1);
    let steps = ledger["steps"].as_array().expect("steps");
    assert_eq!(steps.iter().filter(|step| step["step"] == "draining").count(), 1, "{ledger}");
}

#[test]
fn twenty_restarts_in_a_row_all_come_back() {
    let ground = Ground::new();
    ground.agent.configure("restart_intensity", json!({"max": 100, "window_ms": 60_000}));
    ground.launch();
    let before = ground.listed();
    for n in 1..=20 {
        let command = ground.command(json!({"reason": format!("number {n}")}));
        ground.wait_back(&command);
    }
    ground.assert_restarted(&before, 20);
    assert!(ground.hub.restarts(ALICE).iter().all(|restart| restart["state"] == "back"));
    ground.assert_works();
}

#[test]
fn a_restart_loop_is_refused_and_the_agent_keeps_working() {
    let ground = Ground::launched();
    let before = ground.listed();
    for n in 1..=3 {
        let command = ground.command(json!({"reason": format!("allowed {n}")}));
        ground.wait_back(&command);
    }
    let third = ground.listed();
    // A fourth within a minute: each of the three was another process, and the journal remembers.
    let refused = ground.command(json!({"reason": "one too many"}));
    let ledger = ground.hub.wait_restart(&refused, ALICE, "refused");
    assert!(ledger["steps"].to_string().contains("restart intensity"), "{ledger}");
    assert_eq!(ground.listed(), third);
    assert_eq!(third.restarts, before.restarts + 3);
    ground.wait_idle();
    ground.assert_works();
}
