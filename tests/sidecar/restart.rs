//! The commanded restart of the real sidecar, at a hub that knows none of our features: in every phase of a task, repeated,
//! overdue, too often.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::time::Duration;

use crate::support::legacy_hub::{OnReturn, Options, Status, Verdicts};
use crate::support::process::{Running, Signal};
use crate::support::scene::{ALICE, Scene};
use crate::support::wait;
use serde_json::{Value, json};

/// The boot that each `identify` named.
fn boots(scene: &Scene) -> Vec<String> {
    let identifies = scene.hub.said(ALICE, "identify").into_iter();
    identifies.map(|(_, frame)| frame["boot_id"].as_str().unwrap().to_owned()).collect()
}

/// Waits for the stage in the log.
fn wait_stage(scene: &Scene, stage: &str) {
    scene.agent.wait_log(stage, |line| (line["stage"] == stage).then_some(()));
}

/// The sidecar has taken the command in and not left: it waits for the task.
fn wait_pending(scene: &Scene) {
    scene.agent.wait_log("RestartPending", |line| (line["phase"] == "RestartPending").then_some(()));
}

/// Restarts in that phase, lets the task go on, and asserts a restart after the task's end that lost nothing. Under no
/// supervisor: the process replaces itself.
fn restart_while(scene: &Scene, sidecar: &mut Running, task: &str, holds: &[&str]) {
    let pid = sidecar.pid();
    assert!(scene.hub.restart(ALICE, "upgrade"));
    wait_pending(scene);
    for point in holds {
        assert_eq!(scene.times_said("agent_restarting"), 0);
        scene.agent.go(point, task);
    }
    assert_eq!(scene.goodbye(1), "upgrade");
    scene.done_once(task);
    scene.wait_online(2);
    assert_eq!((sidecar.pid(), sidecar.ended()), (pid, None), "the process replaces itself in place");
    let boots = boots(scene);
    assert!(boots.len() == 2 && boots[0] != boots[1], "{boots:?}");
    assert_eq!(scene.times_said("agent_restarting"), 1);
    scene.wait_quiet();
}

#[test]
fn idle_under_a_supervisor_it_says_goodbye_and_exits_with_0() {
    let scene = Scene::new();
    let mut sidecar = scene.start_supervised();
    assert!(scene.hub.restart(ALICE, "upgrade"));
    assert_eq!(scene.goodbye(1), "upgrade");
    assert_eq!(sidecar.wait_exit().code(), Some(0));
    // The handshake was complete: the hub's close frame was awaited.
    scene.agent.wait_log("a clean close", |line| (line["clean"] == true).then_some(()));
}

#[test]
fn idle_without_a_supervisor_it_replaces_itself() {
    let scene = Scene::new();
    let mut sidecar = scene.start();
    let pid = sidecar.pid();
    assert!(scene.hub.restart(ALICE, "upgrade"));
    assert_eq!(scene.goodbye(1), "upgrade");
    scene.wait_online(2);
    assert_eq!((sidecar.pid(), sidecar.ended()), (pid, None));
    let boots = boots(&scene);
    assert_ne!(boots[0], boots[1]);
    let task = scene.hub.submit("after the restart");
    scene.done_once(&task);
}

#[test]
fn a_hub_sees_the_restart_in_the_status() {
    let scene = Scene::new();
    let mut sidecar = scene.start_supervised();
    assert!(scene.hub.restart(ALICE, "upgrade"));
    sidecar.wait_exit();
    let shown = scene.hub.log().iter().find_map(|entry| entry.said("status").cloned()).unwrap();
    assert_eq!(shown["status"], "restarting: upgrade");
    let sidecar = scene.start_supervised();
    assert_eq!(scene.hub.status(ALICE).as_deref(), Some("idle"));
    drop(sidecar);
}

#[test]
fn a_command_right_behind_the_assignment_waits_for_the_task() {
    let scene = Scene::new();
    let mut sidecar = scene.start();
    let task = scene.hub.submit("do it");
    restart_while(&scene, &mut sidecar, &task, &[]);
}

#[test]
fn while_waking_it_waits_for_the_task() {
    let scene = Scene::new();
    let mut sidecar = scene.start();
    let task = scene.hub.submit("wake=hold");
    scene.agent.wait_run(&task, "woken");
    restart_while(&scene, &mut sidecar, &task, &["wake"]);
}

#[test]
fn between_two_wakes_it_waits_for_the_task() {
    let scene = Scene::new();
    scene.agent.configure("wake_retry_delays_ms", json!([1_500]));
    let mut sidecar = scene.start();
    let task = scene.hub.submit("failtimes=1");
    wait_stage(&scene, "retrying_wake");
    restart_while(&scene, &mut sidecar, &task, &[]);
}

#[test]
fn while_awaiting_the_confirmation_it_waits_for_the_task() {
    let scene = Scene::new();
    let mut sidecar = scene.start();
    let task = scene.hub.submit("start=hold");
    wait_stage(&scene, "awaiting_confirmation");
    restart_while(&scene, &mut sidecar, &task, &["start"]);
}

#[test]
fn while_running_it_waits_for_the_task() {
    let scene = Scene::new();
    let mut sidecar = scene.start();
    let task = scene.hub.submit("run=hold");
    wait_stage(&scene, "running");
    restart_while(&scene, &mut sidecar, &task, &["run"]);
}

#[test]
fn while_asking_after_a_task_it_waits_for_the_task() {
    let scene = Scene::with(Options { on_return: OnReturn::AfterContinue, hold_ms: 600_000, ..Options::default() });
    scene.agent.configure("answer_timeout_ms", json!(300));
    let mut sidecar = scene.start();
    let task = scene.hub.submit("run=hold");
    wait_stage(&scene, "running");
    sidecar.kill9();
    scene.hub.set(|options| options.answer_questions = false);
    let mut sidecar = scene.start();
    scene.hub.wait_said(ALICE, "task_recovering", 1);
    let pid = sidecar.pid();
    assert!(scene.hub.restart(ALICE, "upgrade"));
    wait_pending(&scene);
    scene.agent.go("run", &task);
    assert_eq!(scene.times_said("agent_restarting"), 0);
    scene.hub.set(|options| options.answer_questions = true);
    assert_eq!(scene.goodbye(2), "upgrade");
    scene.done_once(&task);
    scene.wait_online(3);
    assert_eq!((sidecar.pid(), sidecar.ended()), (pid, None));
}

#[test]
fn a_task_that_fails_ends_the_wait_too() {
    let scene = Scene::new();
    let _sidecar = scene.start();
    let task = scene.hub.submit("run=hold fail");
    scene.agent.wait_run(&task, "started");
    assert!(scene.hub.restart(ALICE, "upgrade"));
    wait_pending(&scene);
    scene.agent.go("run", &task);
    assert_eq!(scene.goodbye(1), "upgrade");
    assert_eq!(scene.hub.task(&task).unwrap().last_error.as_deref(), Some("told to fail"));
}

#[test]
fn a_cancelled_task_ends_the_wait_too() {
    let scene = Scene::new();
    let _sidecar = scene.start();
    let task = scene.hub.submit("run=hold");
    scene.agent.wait_run(&task, "started");
    assert!(scene.hub.restart(ALICE, "upgrade"));
    wait_pending(&scene);
    scene.hub.cancel(&task);
    assert_eq!(scene.goodbye(1), "upgrade");
    scene.wait_online(2);
    assert_eq!(scene.times_said("task_complete") + scene.times_said("task_failed"), 0);
}

#[test]
fn twenty_repeats_are_one_restart_with_the_first_reason() {
    let scene = Scene::new();
    let _sidecar = scene.start();
    let task = scene.hub.submit("run=hold");
    scene.agent.wait_run(&task, "started");
    for number in 0..20 {
        assert!(scene.hub.restart(ALICE, &format!("reason {number}")));
    }
    wait_pending(&scene);
    scene.agent.go("run", &task);
    assert_eq!(scene.goodbye(1), "reason 0");
    scene.wait_online(2);
    let next = scene.hub.submit("after the restart");
    scene.done_once(&next);
    assert_eq!((scene.times_said("agent_restarting"), scene.connections()), (1, 2));
}

#[test]
fn twenty_commands_to_an_idle_sidecar_are_one_restart() {
    let scene = Scene::new();
    let _sidecar = scene.start();
    for number in 0..20 {
        // It may be gone before the last one.
        scene.hub.restart(ALICE, &format!("reason {number}"));
    }
    assert_eq!(scene.goodbye(1), "reason 0");
}

#[test]
fn at_the_deadline_the_task_is_left_behind_and_taken_up_again() {
    let scene = Scene::new();
    scene.agent.configure("restart_deadline_ms", json!(300));
    let mut sidecar = scene.start_supervised();
    let task = scene.hub.submit("run=hold");
    scene.agent.wait_run(&task, "started");
    assert!(scene.hub.restart(ALICE, "upgrade"));
    assert_eq!(scene.goodbye(1), "upgrade");
    assert_eq!(sidecar.wait_exit().code(), Some(0));
    assert_eq!(scene.agent.queue().unwrap()["active"]["task_id"], *task);
    let _sidecar = scene.start_supervised();
    scene.agent.go("run", &task);
    scene.done_once(&task);
    assert_eq!(scene.agent.count(&task, "woken"), 1);
}

#[test]
fn a_repeat_does_not_move_the_deadline() {
    let scene = Scene::new();
    scene.agent.configure("restart_deadline_ms", json!(1_000));
    let _sidecar = scene.start();
    let task = scene.hub.submit("run=hold");
    scene.agent.wait_run(&task, "started");
    // For as long as it does not leave: again and again, more often than the deadline is long.
    wait::until_true("the sidecar to leave", || {
        scene.hub.restart(ALICE, "upgrade");
        scene.times_said("agent_restarting") > 0
    });
    assert_eq!(scene.goodbye(1), "upgrade");
}

#[test]
fn a_hub_that_commands_it_on_every_return_is_refused_after_three_and_the_agent_works_on() {
    let scene = Scene::new();
    let mut sidecar = scene.start();
    for times in 1..=3 {
        assert!(scene.hub.restart(ALICE, "loop"));
        scene.wait_online(times + 1);
    }
    assert!(scene.hub.restart(ALICE, "loop"));
    let refusal = |entry: &crate::support::legacy_hub::Entry| {
        let frame = entry.said("status")?;
        frame["status"].as_str().filter(|status| status.contains("restart refused")).map(str::to_owned)
    };
    scene.hub.wait("the refusal", |log| log.iter().find_map(refusal));
    let task = scene.hub.submit("do it");
    scene.done_once(&task);
    assert_eq!((scene.times_said("agent_restarting"), scene.connections()), (3, 4));
    // The count survives the process.
    sidecar.kill9();
    let _sidecar = scene.start();
    assert!(scene.hub.restart(ALICE, "loop"));
    let task = scene.hub.submit("do it");
    scene.done_once(&task);
    assert_eq!((scene.times_said("agent_restarting"), scene.connections()), (3, 5));
}

#[test]
fn nothing_is_taken_once_the_restart_is_commanded() {
    let scene = Scene::new();
    let _sidecar = scene.start();
    let task = scene.hub.submit("run=hold");
    scene.agent.wait_run(&task, "started");
    assert!(scene.hub.restart(ALICE, "upgrade"));
    wait_pending(&scene);
    let pushed: Vec<_> = (0..5).map(|_| scene.hub.push_untracked(ALICE, "pushed")).collect();
    scene.agent.go("run", &task);
    scene.goodbye(1);
    scene.wait_online(2);
    scene.wait_quiet();
    let accepted: Vec<Value> = scene.hub.said(ALICE, "task_accepted").into_iter().map(|(_, frame)| frame).collect();
    for id in &pushed {
        assert_eq!(scene.agent.count(id, "woken"), 0);
        assert!(accepted.iter().all(|frame| frame["task_id"] != **id), "{accepted:?}");
    }
}

#[test]
fn an_assignment_in_the_exit_window_is_not_taken_and_comes_again() {
    let scene = Scene::new();
    let mut sidecar = scene.start_supervised();
    assert!(scene.hub.restart(ALICE, "upgrade"));
    let task = scene.hub.submit("in the window");
    scene.goodbye(1);
    sidecar.wait_exit();
    assert!(scene.frames(1).iter().all(|(kind, _)| kind != "task_accepted"));
    assert_eq!(scene.agent.count(&task, "woken"), 0);
    let _sidecar = scene.start_supervised();
    scene.done_once(&task);
}

/// The acceptance timer of this hub is longer than the test waits for anything.
#[test]
fn the_next_task_is_not_assigned_to_the_connection_that_closes() {
    let scene = Scene::with(Options { next_task_ms: 50, ..Options::default() });
    let mut sidecar = scene.start();
    let (task, next) = (scene.hub.submit("run=hold"), scene.hub.submit("next"));
    scene.agent.wait_run(&task, "started");
    restart_while(&scene, &mut sidecar, &task, &["run"]);
    scene.done_once(&next);
    let generations: Vec<_> = scene.hub.task(&next).unwrap().history.iter().map(|(_, what, _)| *what).collect();
    assert_eq!(generations, ["submitted", "assigned", "taken back", "assigned", "completed"]);
}

#[test]
fn a_stop_signal_waits_for_the_next_assignment_too() {
    let scene = Scene::with(Options { next_task_ms: 50, ..Options::default() });
    let mut sidecar = scene.start_supervised();
    let (task, next) = (scene.hub.submit("first"), scene.hub.submit("next"));
    scene.hub.wait_task(&task, Status::Completed);
    sidecar.signal(Signal::INT);
    assert_eq!(sidecar.wait_exit().code(), Some(0));
    let _sidecar = scene.start_supervised();
    scene.hub.wait_task(&next, Status::Completed);
}

#[test]
fn a_verdict_without_an_answer_does_not_hold_it_up_for_ever_and_is_said_again() {
    let scene = Scene::with(Options { verdicts: Verdicts::LoseVerdict, ..Options::default() });
    scene.agent.configure("drain_deadline_ms", json!(1_000));
    let mut sidecar = scene.start_supervised();
    let task = scene.hub.submit("run=hold");
    scene.agent.wait_run(&task, "started");
    assert!(scene.hub.restart(ALICE, "upgrade"));
    wait_pending(&scene);
    scene.agent.go("run", &task);
    assert_eq!(sidecar.wait_exit().code(), Some(0));
    assert_eq!(scene.times_said("agent_restarting"), 1);
    assert_ne!(scene.hub.task(&task).unwrap().status, Status::Completed);
    scene.hub.set(|options| options.verdicts = Verdicts::Answer);
    let _sidecar = scene.start_supervised();
    scene.done_once(&task);
    scene.wait_quiet();
}

#[test]
fn a_link_that_breaks_meanwhile_does_not_make_it_forget() {
    let scene = Scene::new();
    let _sidecar = scene.start();
    let task = scene.hub.submit("run=hold");
    scene.agent.wait_run(&task, "started");
    assert!(scene.hub.restart(ALICE, "upgrade"));
    wait_pending(&scene);
    scene.hub.drop_tcp(ALICE);
    scene.wait_online(2);
    scene.agent.go("run", &task);
    assert_eq!(scene.goodbye(2), "upgrade");
    scene.done_once(&task);
    scene.wait_online(3);
}

#[test]
fn a_hub_that_is_away_at_the_deadline_does_not_hold_it_up() {
    let scene = Scene::new();
    scene.agent.configure("restart_deadline_ms", json!(300));
    scene.agent.configure("drain_deadline_ms", json!(500));
    let mut sidecar = scene.start_supervised();
    let task = scene.hub.submit("run=hold");
    scene.agent.wait_run(&task, "started");
    assert!(scene.hub.restart(ALICE, "upgrade"));
    wait_pending(&scene);
    scene.hub.refuse_connections(true);
    assert_eq!(sidecar.wait_exit().code(), Some(0));
    scene.hub.refuse_connections(false);
    let _sidecar = scene.start_supervised();
    scene.agent.go("run", &task);
    scene.done_once(&task);
}

#[test]
fn the_return_names_the_restart_and_what_it_cost() {
    let scene = Scene::new();
    let _sidecar = scene.start();
    assert!(scene.hub.restart(ALICE, "upgrade"));
    let back = scene.hub.wait_said(ALICE, "identify", 2);
    let restarted = &back["restarted"];
    assert_eq!((&restarted["reason"], &restarted["forced"]), (&json!("upgrade"), &json!(false)));
    let gap = Duration::from_millis(restarted["gap_ms"].as_u64().unwrap());
    assert!(gap < wait::BOUND, "{gap:?}");
    assert!(scene.hub.wait_said(ALICE, "identify", 1)["restarted"].is_null());
}
