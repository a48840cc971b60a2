//! What the real sidecar asks before it promises a restart, and once more before it goes: whether pm2 would start it again.
//! The double of pm2 answers, or does not; what arrives meanwhile is heard.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::legacy_hub::Status;
use crate::support::pm2_double::Manner;
use crate::support::process::Running;
use crate::support::scene::{ALICE, Scene};
use crate::support::wait;

/// What the sidecar waits for an answer, at the most.
const CHECK: Duration = Duration::from_secs(6);

/// A sidecar that pm2's double answers for, and that pm2's own program is out of reach of.
fn scene(manner: Manner) -> (Scene, Running) {
    let scene = Scene::new();
    scene.agent.pm2_double().turn(manner);
    let sidecar = scene.start_supervised();
    (scene, sidecar)
}

/// Waits until pm2's double was asked so often.
fn wait_asked(scene: &Scene, times: usize) {
    wait::until_true("pm2 to be asked", || scene.agent.pm2_double().asked() >= times);
}

/// The statuses that say that a restart was refused.
fn refusals(scene: &Scene) -> Vec<String> {
    let said = scene.hub.said(ALICE, "status").into_iter();
    let texts = said.filter_map(|(_, frame)| frame["status"].as_str().map(str::to_owned));
    texts.filter(|text| text.contains("restart refused")).collect()
}

/// A commanded restart after which the same process serves, as another run.
fn comes_back_in_place(scene: &Scene, sidecar: &mut Running) {
    let (pid, before) = (sidecar.pid(), scene.hub.said(ALICE, "identify").len());
    assert!(scene.hub.restart(ALICE, "upgrade"));
    scene.wait_online(before + 1);
    assert_eq!((sidecar.pid(), sidecar.ended()), (pid, None), "in place");
    let identifies = scene.hub.said(ALICE, "identify");
    assert_ne!(identifies[before - 1].1["boot_id"], identifies[before].1["boot_id"]);
}

#[test]
fn a_hundred_frames_are_heard_while_pm2_says_nothing() {
    let (scene, mut sidecar) = scene(Manner::SaysNothing);
    assert!(scene.hub.restart(ALICE, "the first"));
    wait_asked(&scene, 1);
    for n in 0..100 {
        scene.hub.say(ALICE, json!({"type": "restart_sidecar", "reason": format!("number {n}")}));
    }
    // One that opened the check and seven that joined it wait; every other is answered, so every one was heard.
    wait::until_true("93 refusals", || refusals(&scene).len() >= 93);
    let task = scene.hub.submit("what is assigned meanwhile");
    scene.hub.wait("the assignment", |log| log.iter().find_map(|entry| entry.heard("task_assign").cloned()));
    assert_eq!(scene.times_said("task_accepted"), 0, "nothing is taken before it is known");
    wait::until_true("the end of the check", || refusals(&scene).len() == 101);
    assert!(refusals(&scene)[..93].iter().all(|text| text.contains("8 restart commands wait already")));
    assert!(refusals(&scene)[93..].iter().all(|text| text.contains("not found out within 6000 ms")));
    scene.done_once(&task);
    assert_eq!((sidecar.ended(), scene.times_said("agent_restarting")), (None, 0));
}

#[test]
fn a_restart_is_cancelled_while_pm2_says_nothing() {
    let (scene, mut sidecar) = scene(Manner::SaysNothing);
    assert!(scene.hub.restart(ALICE, "not this one"));
    wait_asked(&scene, 1);
    assert_eq!(scene.agent.operate(&["cancel-restart"]), (0, "the restart is cancelled\n".into()));
    scene.agent.pm2_double().turn(Manner::Lists);
    let task = scene.hub.submit("work goes on");
    scene.done_once(&task);
    assert_eq!(sidecar.ended(), None);
    assert!(scene.hub.restart(ALICE, "this one"));
    assert_eq!(sidecar.wait_exit().code(), Some(0));
    assert_eq!(scene.goodbye(1), "this one");
}

#[test]
fn a_stop_does_not_wait_for_pm2() {
    let (scene, mut sidecar) = scene(Manner::SaysNothing);
    assert!(scene.hub.restart(ALICE, "upgrade"));
    wait_asked(&scene, 1);
    let began = Instant::now();
    sidecar.signal(crate::support::process::Signal::INT);
    assert_eq!(sidecar.wait_exit().code(), Some(0));
    assert!(began.elapsed() < CHECK / 2);
    assert_eq!(scene.times_said("agent_restarting"), 0);
}

#[test]
fn a_crash_during_the_check_leaves_a_command_that_was_never_accepted() {
    let (scene, mut sidecar) = scene(Manner::SaysNothing);
    assert!(scene.hub.restart(ALICE, "upgrade"));
    wait_asked(&scene, 1);
    sidecar.kill9();
    scene.agent.pm2_double().turn(Manner::Lists);
    let mut sidecar = scene.start_supervised();
    let task = scene.hub.submit("after the crash");
    scene.done_once(&task);
    let first = |frames: Vec<(String, Value)>| frames.into_iter().next().unwrap().1;
    assert_eq!(first(scene.frames(2))["restarted"], Value::Null);
    assert_eq!(sidecar.ended(), None);
}

#[test]
fn pm2s_variables_in_a_home_without_a_pm2_are_no_promise() {
    let scene = Scene::new();
    let home = scene.agent.path("empty-home");
    std::fs::create_dir(&home).unwrap();
    let variables = [("pm_id", "0"), ("name", ALICE), ("PM2_HOME", home.to_str().unwrap())];
    let mut sidecar = scene.agent.start_with(&variables);
    scene.wait_online(1);
    comes_back_in_place(&scene, &mut sidecar);
    assert_eq!(std::fs::read_dir(&home).unwrap().count(), 0, "no pm2 was started there");
}

#[test]
fn a_pm2_that_lists_another_process_is_not_relied_on() {
    let (scene, mut sidecar) = scene(Manner::ListsAnother);
    comes_back_in_place(&scene, &mut sidecar);
    let unlisted = |line: &Value| line["why"].as_str()?.contains("pm2 does not list this process").then_some(());
    scene.agent.wait_log("why", unlisted);
}

#[test]
fn a_pm2_that_makes_no_sense_is_not_relied_on() {
    let scene = Scene::new();
    let double = scene.agent.pm2_double();
    double.turn(Manner::TalksRubbish);
    let home = double.home().to_str().unwrap();
    // Without pm2's program, which would be asked next.
    let variables = [("pm_id", "0"), ("name", ALICE), ("PM2_HOME", home), ("PATH", "/usr/bin:/bin"), ("_", "")];
    let mut sidecar = scene.agent.start_with(&variables);
    scene.wait_online(1);
    comes_back_in_place(&scene, &mut sidecar);
}

/// Hours may pass between the promise and the end of the task.
#[test]
fn what_follows_is_asked_again_when_the_task_has_ended() {
    let (scene, mut sidecar) = scene(Manner::Lists);
    let pid = sidecar.pid();
    let task = scene.hub.submit("run=hold");
    scene.agent.wait_run(&task, "started");
    assert!(scene.hub.restart(ALICE, "upgrade"));
    scene.agent.wait_log("RestartPending", |line| (line["phase"] == "RestartPending").then_some(()));
    scene.agent.pm2_double().turn(Manner::ListsAnother);
    scene.agent.go("run", &task);
    scene.wait_online(2);
    assert_eq!((sidecar.pid(), sidecar.ended()), (pid, None), "in place");
    assert_eq!(scene.hub.task(&task).unwrap().status, Status::Completed);
    scene.done_once(&task);
}

#[test]
fn a_pm2_that_has_fallen_silent_when_the_task_has_ended_is_not_relied_on() {
    let (scene, mut sidecar) = scene(Manner::Lists);
    let pid = sidecar.pid();
    let task = scene.hub.submit("run=hold");
    scene.agent.wait_run(&task, "started");
    assert!(scene.hub.restart(ALICE, "upgrade"));
    scene.agent.wait_log("RestartPending", |line| (line["phase"] == "RestartPending").then_some(()));
    scene.agent.pm2_double().turn(Manner::SaysNothing);
    scene.agent.go("run", &task);
    // The final messages do not wait for the answer.
    assert_eq!(scene.goodbye(1), "upgrade");
    scene.agent.wait_log("the wait", |line| (line["effects"].as_str()?.contains("CheckNextRun")).then_some(()));
    scene.wait_online(2);
    assert_eq!((sidecar.pid(), sidecar.ended()), (pid, None), "in place, at the drain deadline");
    scene.done_once(&task);
}
