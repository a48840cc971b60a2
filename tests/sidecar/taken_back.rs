//! Our hub takes a task from a sidecar that works on it: the sidecar hears of it and is free for the next.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::hub::Hub;
use crate::support::process::Running;
use crate::support::sidecar::Agent;
use crate::support::wait;
use serde_json::json;

fn join(hub: &Hub, id: &str) -> (Agent, Running) {
    let agent = Agent::new(id, &hub.url(), &hub.register(id));
    agent.configure("reconnect_min_ms", json!(20));
    agent.configure("reconnect_max_ms", json!(200));
    let running = agent.start_supervised();
    hub.wait_agent(id, |agent| agent["fsm_state"] == "idle");
    (agent, running)
}

fn in_ms(ms: u64) -> u64 {
    ms + u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

#[test]
fn a_task_that_is_overdue_is_let_go_by_the_one_that_works_on_it() {
    let hub = Hub::start();
    let (alice, _alice) = join(&hub, "alice");
    let late = hub.submit_with(json!({"description": "run=hold", "complete_by": in_ms(2_000)}));
    alice.wait_run(&late, "started");
    let (bob, _bob) = join(&hub, "bob");
    bob.wait_run(&late, "started");
    alice.wait_log("Idle", |line| (line["from"] == "Working" && line["phase"] == "Idle").then_some(()));
    assert_eq!(alice.status()["phase"], "Idle");
    let next = hub.submit_with(json!({"description": "next", "assign_to": "alice"}));
    hub.wait_task(&next, "completed");
    bob.go("run", &late);
    assert_eq!(hub.wait_task(&late, "completed")["assigned_to"], "bob");
    assert_eq!(hub.agent("alice").unwrap()["fsm_state"], "idle");
}

#[test]
fn a_task_that_is_overdue_stays_with_its_agent_where_nobody_else_is_idle() {
    let hub = Hub::start();
    let (alice, _alice) = join(&hub, "alice");
    let late = hub.submit_with(json!({"description": "run=hold", "complete_by": in_ms(2_000)}));
    alice.wait_run(&late, "started");
    wait::until_true("the next assignment", || hub.task(&late)["generation"] == 3);
    alice.go("run", &late);
    let done = hub.wait_task(&late, "completed");
    assert_eq!((&done["generation"], alice.count(&late, "woken")), (&json!(3), 1), "{done}");
}

#[test]
fn a_task_that_is_cancelled_after_it_was_taken_back_leaves_nothing() {
    let hub = Hub::start();
    let (alice, _alice) = join(&hub, "alice");
    let late = hub.submit_with(json!({"description": "run=hold", "complete_by": in_ms(2_000)}));
    alice.wait_run(&late, "started");
    // It takes nothing more, so the task waits for somebody else.
    assert_eq!(alice.operate(&["drain"]).0, 0);
    hub.wait_task(&late, "queued");
    let shelf = || alice.queue().map(|queue| queue["shelf"].as_array().unwrap().len());
    wait::until_true("the work to be kept", || shelf() == Some(1));
    let (status, answer) = hub.post(&format!("/api/tasks/{late}/cancel"), &json!({}));
    assert_eq!((status, &answer["previous_status"]), (200, &json!("queued")), "{answer}");
    wait::until_true("it to be dropped", || shelf() == Some(0));
    assert!(std::fs::read_dir(alice.path("results")).unwrap().next().is_none());
    assert_eq!(alice.status()["phase"], "Idle");
}
