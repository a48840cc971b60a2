//! The operator's commands in the hands of a script: with `--json` one object on stdout whatever comes of it, the exit code
//! in it, and `--timeout`, which ends a wait and takes nothing back.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use crate::support::process::{Running, Signal};
use crate::support::scene::Scene;
use crate::support::sidecar::Agent;
use crate::support::wait;
use serde_json::{Value, json};

/// Runs a command with `--json` and returns its exit code and the one object that it printed. Nothing is on stderr.
fn asked(agent: &Agent, args: &[&str]) -> (i32, Value) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Running::start(agent.operator(&[args, &["--json"]].concat()), folder.path(), "command");
    let code = command.wait_exit().code().unwrap();
    let (stdout, all) = (command.stdout(), command.output());
    assert_eq!(stdout.lines().count(), 1, "{args:?}: {all}");
    assert!(all.ends_with("stderr:\n"), "{args:?}: {all}");
    let object: Value = serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {all}"));
    (code, object)
}

/// The same for commands whose object says what came of them.
fn told(agent: &Agent, args: &[&str]) -> (i32, Value) {
    let (code, object) = asked(agent, args);
    assert_eq!((&object["exit_code"], &object["ok"]), (&json!(code), &json!(code == 0)), "{args:?}: {object}");
    assert!(object["message"].is_string() && object["outcome"].is_string(), "{args:?}: {object}");
    (code, object)
}

/// What came of it: its exit code and that code's name.
fn outcome(agent: &Agent, args: &[&str]) -> (i32, String) {
    let (code, object) = told(agent, args);
    (code, object["outcome"].as_str().unwrap().to_owned())
}

fn is(code: i32, name: &str) -> (i32, String) {
    (code, name.to_owned())
}

#[test]
fn each_command_answers_with_one_object() {
    let scene = Scene::new();
    let _sidecar = scene.start();
    let agent = &scene.agent;
    for args in [&["drain"][..], &["drain", "--wait"], &["resume"], &["reload"], &["restart", "--wait"]] {
        assert_eq!(outcome(agent, args), is(0, "done"), "{args:?}");
    }
    assert_eq!(outcome(agent, &["cancel-restart"]), is(77, "refused"));
    assert_eq!(asked(agent, &["status"]).1["phase"], "Idle");
    assert!(asked(agent, &["history"]).1["items"].is_array());
}

#[test]
fn without_a_sidecar_or_a_configuration_there_is_an_object_too() {
    let scene = Scene::new();
    let agent = &scene.agent;
    for args in [&["restart", "--wait"][..], &["drain"], &["resume"], &["reload"], &["cancel-restart"]] {
        assert_eq!(outcome(agent, args), is(69, "unavailable"), "{args:?}");
    }
    assert_eq!(asked(agent, &["status"]).1["running"], false);
    agent.configure("hub_url", json!("nowhere"));
    for args in [&["status"][..], &["restart"], &["drain"], &["resume"], &["history"], &["logs"]] {
        let (code, object) = told(agent, args);
        assert_eq!((code, &object["outcome"]), (78, &json!("config")), "{args:?}");
        assert!(object["message"].as_str().unwrap().contains("`hub_url`"), "{object}");
    }
}

#[test]
fn a_restart_that_is_waited_for_names_the_next_run() {
    let scene = Scene::new();
    let _sidecar = scene.start();
    let before = scene.agent.status();
    let (code, object) = told(&scene.agent, &["restart", "--wait", "--timeout", "5m"]);
    let after = scene.agent.status();
    assert_eq!((code, &object["boot_id"]), (0, &after["process"]["boot_id"]), "{object}");
    assert_ne!(before["process"]["boot_id"], after["process"]["boot_id"]);
    assert_eq!((&object["pid"], &object["gap_ms"]), (&after["process"]["pid"], &after["restarts"][0]["gap_ms"]));
    assert_eq!(object["answer"], "accepted: restarts now, there is no task to finish");
}

#[test]
fn a_restart_that_takes_too_long_is_not_taken_back() {
    let scene = Scene::new();
    let _sidecar = scene.start();
    let task = scene.hub.submit("run=hold");
    scene.agent.wait_run(&task, "started");
    let (code, object) = told(&scene.agent, &["restart", "--wait", "--timeout", "1s"]);
    assert_eq!((code, &object["outcome"], &object["task_id"]), (124, &json!("timed_out"), &json!(task)), "{object}");
    let message = object["message"].as_str().unwrap();
    assert!(message.starts_with("timed out after 1.0 s: the restart still waits for task "), "{message}");
    assert!(message.contains("nothing was taken back: `cancel-restart` does that"), "{message}");
    // For people the same is on stderr, with the same code, and the answer before it on stdout.
    let (code, text) = scene.agent.operate(&["restart", "--wait", "--timeout", "1s"]);
    assert!(code == 124 && text.starts_with("a restart is under way already"), "{text}");
    assert!(
        text.contains(&format!("agentcom-sidecar: timed out after 1.0 s: the restart still waits for task {task}")),
        "{text}"
    );
    assert_eq!(scene.agent.status()["phase"], "RestartPending");
    scene.agent.go("run", &task);
    scene.done_once(&task);
    scene.wait_online(2);
}

#[test]
fn a_drain_that_takes_too_long_goes_on() {
    let scene = Scene::new();
    let _sidecar = scene.start();
    let task = scene.hub.submit("run=hold");
    scene.agent.wait_run(&task, "started");
    let (code, object) = told(&scene.agent, &["drain", "--wait", "--timeout", "1s"]);
    assert_eq!((code, &object["outcome"], &object["task_id"]), (124, &json!("timed_out"), &json!(task)), "{object}");
    let message = object["message"].as_str().unwrap();
    assert!(message.contains(&format!("task {task} is still running")) && message.contains("`resume`"), "{message}");
    assert_eq!(scene.agent.status()["draining"], true);
    scene.agent.go("run", &task);
    let (code, object) = told(&scene.agent, &["drain", "--wait", "--timeout", "1m"]);
    assert_eq!((code, &object["phase"]), (0, &json!("Idle")), "{object}");
    scene.done_once(&task);
}

#[test]
fn a_sidecar_that_does_not_answer_is_waited_for_as_long_as_is_said() {
    let scene = Scene::new();
    let sidecar = scene.start();
    sidecar.signal(Signal::STOP);
    for args in [&["status"][..], &["restart", "--wait"], &["drain", "--wait"]] {
        let args = [args, &["--timeout", "1s"]].concat();
        let (code, object) = told(&scene.agent, &args);
        assert_eq!((code, &object["outcome"]), (124, &json!("timed_out")), "{args:?}: {object}");
        assert!(object["message"].as_str().unwrap().contains("answer"), "{object}");
    }
    sidecar.signal(Signal::CONT);
    // What was asked in vain may be done later: the drain was.
    wait::until_true("the drain", || scene.agent.status()["draining"] == true);
}

#[test]
fn a_wrong_command_line_is_2_and_says_what_is_expected() {
    let scene = Scene::new();
    for (args, said) in [
        (&["restart", "--timeout", "1m"][..], "--wait"),
        (&["drain", "--wait", "--timeout", "60"], "expected a number with s, m, h, d or w"),
        (&["status", "--watch", "--timeout", "1m"], "cannot be used with"),
        (&["history", "-n", "0"], "0 is not in"),
        (&["logs", "-n", "some"], "expected a number, or all"),
        (&["logs", "--level", "loud"], "expected one of debug"),
        (&["logs", "--since", "yesterday"], "expected how long ago"),
    ] {
        let (code, text) = scene.agent.operate(args);
        assert!(code == 2 && text.contains(said), "{args:?}: {code}: {text}");
    }
}
