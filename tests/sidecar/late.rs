//! Signs in the results folder that are older than the assignment they seem to speak for: a session that starts after its
//! task was given up is adopted, and one that is dead is not waited for.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::fs;

use crate::support::legacy_hub::{OnReturn, Options, Status, Task, Verdicts};
use crate::support::scene::{ALICE, Scene};
use crate::support::wait;
use serde_json::{Value, json};

fn sign(scene: &Scene, task: &str) {
    fs::write(scene.agent.path("results").join(format!("{task}.started")), "").unwrap();
}

/// What the sidecar of another boot of the machine would have left.
fn rebooted(scene: &Scene) {
    fn change(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    if key == "machine_boot" { *value = json!("another boot") } else { change(value) }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(change),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut queue = scene.agent.queue().unwrap();
    let before = queue.clone();
    change(&mut queue);
    assert_ne!(queue, before, "no boot is noted");
    fs::write(scene.agent.path("queue.json"), queue.to_string()).unwrap();
}

/// Nobody came for its task in time, and the sidecar is dead: the hub took the verdict, or never heard it.
fn given_up(scene: &Scene, verdicts: Verdicts) -> String {
    scene.agent.configure("confirmation_timeout_ms", json!(300));
    scene.hub.set(|options| options.verdicts = verdicts);
    let mut sidecar = scene.start();
    let task = scene.hub.submit("start=hold");
    scene.hub.wait_said(ALICE, "task_failed", 1);
    let outbox = || scene.agent.queue().map(|queue| queue["outbox"].as_array().unwrap().len());
    let left = usize::from(verdicts == Verdicts::LoseVerdict);
    wait::until_true("the verdict to be where it belongs", || outbox() == Some(left));
    sidecar.kill9();
    scene.hub.set(|options| options.verdicts = Verdicts::Answer);
    task
}

#[test]
fn a_session_that_comes_late_is_adopted_when_its_task_comes_again() {
    for verdicts in [Verdicts::Answer, Verdicts::LoseVerdict] {
        let scene = Scene::new();
        let task = given_up(&scene, verdicts);
        scene.agent.go("start", &task);
        scene.agent.wait_run(&task, "started");
        let _sidecar = scene.start();
        scene.done_once(&task);
        assert_eq!(scene.agent.count(&task, "woken"), 1, "{verdicts:?}\n{}", scene.agent.story());
        scene.wait_quiet();
    }
}

#[test]
fn a_late_session_that_a_reboot_has_ended_is_not_waited_for() {
    let scene = Scene::new();
    scene.agent.configure("confirmation_timeout_ms", json!(300));
    scene.agent.configure("wake_command", json!("true"));
    let mut sidecar = scene.start();
    let task = scene.hub.submit_task(Task::new("nobody-comes", "do it").max_retries(2));
    scene.hub.wait_said(ALICE, "task_failed", 1);
    sidecar.kill9();
    rebooted(&scene);
    sign(&scene, &task);
    let _sidecar = scene.start();
    let dead = scene.hub.wait_task(&task, Status::DeadLetter);
    assert_eq!(dead.last_error.as_deref(), Some("confirmation_timeout"));
}

#[test]
fn a_sign_that_nobody_remembers_is_not_waited_on() {
    let scene = Scene::new();
    scene.agent.configure("confirmation_timeout_ms", json!(300));
    scene.agent.configure("wake_command", json!("true"));
    let task = scene.hub.submit_task(Task::new("nobody-comes", "do it").max_retries(1));
    sign(&scene, &task);
    let _sidecar = scene.start();
    let dead = scene.hub.wait_task(&task, Status::DeadLetter);
    assert_eq!(dead.last_error.as_deref(), Some("confirmation_timeout"));
}

#[test]
fn a_sign_from_before_a_reboot_between_two_tries_to_wake_is_not_waited_on() {
    for on_return in [OnReturn::AtOnce, OnReturn::AfterContinue] {
        let scene = Scene::with(Options { on_return, hold_ms: 600_000, ..Options::default() });
        scene.agent.configure("wake_retry_delays_ms", json!([3_600_000]));
        let mut sidecar = scene.start();
        let task = scene.hub.submit("failtimes=1");
        let stage =
            || scene.agent.queue().filter(|queue| queue["active"]["sidecar"]["stage"]["name"] == "retrying_wake");
        wait::until_or("the wake to have failed", wait::BOUND, stage, || scene.agent.story());
        sidecar.kill9();
        rebooted(&scene);
        sign(&scene, &task);
        scene.agent.configure("wake_retry_delays_ms", json!([20]));
        let _sidecar = scene.start();
        scene.done_once(&task);
        assert_eq!(scene.agent.count(&task, "woken"), 2, "{}", scene.agent.story());
    }
}
