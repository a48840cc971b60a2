//! The real sidecar as a process: its exit codes, its signals, one copy per state folder.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::fs;
use std::time::{Duration, Instant};

use crate::support::legacy_hub::{OnReturn, Options, What};
use crate::support::process::{Running, Signal, alive};
use crate::support::scene::{ALICE, Scene};
use crate::support::wait;
use serde_json::{Value, json};

/// pm2's default: whoever lives longer after its SIGINT is killed.
const KILL_TIMEOUT: Duration = Duration::from_millis(1_600);

/// Asks it to stop and asserts that it does, in time.
fn stops(sidecar: &mut Running, signal: Signal) {
    let asked = Instant::now();
    sidecar.signal(signal);
    assert_eq!(sidecar.wait_exit().code(), Some(0));
    let took = asked.elapsed();
    assert!(took < KILL_TIMEOUT, "pm2 would have killed it after {KILL_TIMEOUT:?}; it took {took:?}");
}

/// The journal has the task, and the next run finishes it without waking anybody again.
fn is_kept(scene: &Scene, task: &str, holds: &[&str]) {
    assert_eq!(scene.agent.queue().unwrap()["active"]["task_id"], *task);
    let _sidecar = scene.start();
    for point in holds {
        scene.agent.go(point, task);
    }
    scene.done_once(task);
    assert_eq!(scene.agent.count(task, "woken"), 1);
}

/// The close code that the sidecar said on that connection.
fn close_code(scene: &Scene, connection: u64) -> Option<u16> {
    scene.hub.wait("the end of the connection", |log| {
        log.iter().filter(|entry| entry.connection == connection).find_map(|entry| match &entry.what {
            What::SidecarClosed(why) => Some(why.as_ref().map(|(code, _)| *code)),
            What::Ended => Some(None),
            What::Opened | What::Sidecar(_) | What::Garbage(_) | What::Hub { .. } => None,
            What::Raw(_) | What::HubClosed(..) | What::HubDropped => None,
        })
    })
}

#[test]
fn idle_it_stops_with_a_close_frame_and_without_a_restarts_goodbye() {
    for signal in [Signal::TERM, Signal::INT] {
        let scene = Scene::new();
        let mut sidecar = scene.start();
        stops(&mut sidecar, signal);
        assert_eq!(close_code(&scene, 1), Some(1001));
        assert_eq!(scene.times_said("agent_restarting"), 0);
    }
}

#[test]
fn under_pm2_it_stops_the_same_way() {
    let scene = Scene::new();
    let mut sidecar = scene.start_supervised();
    stops(&mut sidecar, Signal::INT);
    assert_eq!(close_code(&scene, 1), Some(1001));
}

#[test]
fn while_waking_it_stops_and_the_task_is_kept() {
    let scene = Scene::new();
    let mut sidecar = scene.start();
    let task = scene.hub.submit("wake=hold");
    scene.agent.wait_run(&task, "woken");
    stops(&mut sidecar, Signal::TERM);
    is_kept(&scene, &task, &["wake"]);
}

#[test]
fn while_awaiting_the_confirmation_it_stops_and_the_task_is_kept() {
    let scene = Scene::new();
    let mut sidecar = scene.start();
    let task = scene.hub.submit("start=hold");
    scene.agent.wait_log("awaiting", |line| (line["stage"] == "awaiting_confirmation").then_some(()));
    stops(&mut sidecar, Signal::INT);
    is_kept(&scene, &task, &["start"]);
}

#[test]
fn while_running_it_stops_and_the_task_is_kept() {
    let scene = Scene::new();
    let mut sidecar = scene.start();
    let task = scene.hub.submit("run=hold");
    scene.agent.wait_run(&task, "started");
    stops(&mut sidecar, Signal::TERM);
    is_kept(&scene, &task, &["run"]);
}

#[test]
fn while_asking_after_a_task_it_stops_and_the_task_is_kept() {
    let scene = Scene::with(Options { on_return: OnReturn::AfterContinue, hold_ms: 600_000, ..Options::default() });
    let mut sidecar = scene.start();
    let task = scene.hub.submit("run=hold");
    scene.agent.wait_run(&task, "started");
    sidecar.kill9();
    scene.hub.set(|options| options.answer_questions = false);
    let mut sidecar = scene.start();
    scene.hub.wait_said(ALICE, "task_recovering", 1);
    stops(&mut sidecar, Signal::TERM);
    scene.hub.set(|options| options.answer_questions = true);
    is_kept(&scene, &task, &["run"]);
}

#[test]
fn while_a_restart_waits_for_the_task_it_stops_and_the_task_is_kept() {
    let scene = Scene::new();
    let mut sidecar = scene.start();
    let task = scene.hub.submit("run=hold");
    scene.agent.wait_run(&task, "started");
    assert!(scene.hub.restart(ALICE, "upgrade"));
    scene.agent.wait_log("RestartPending", |line| (line["phase"] == "RestartPending").then_some(()));
    stops(&mut sidecar, Signal::TERM);
    is_kept(&scene, &task, &["run"]);
}

#[test]
fn with_the_hub_away_it_stops_and_the_task_is_kept() {
    let scene = Scene::new();
    let mut sidecar = scene.start();
    let task = scene.hub.submit("run=hold");
    scene.agent.wait_run(&task, "started");
    scene.hub.refuse_connections(true);
    scene.agent.wait_log("the link to be down", |line| (line["link"] == "down").then_some(()));
    stops(&mut sidecar, Signal::INT);
    scene.hub.refuse_connections(false);
    is_kept(&scene, &task, &["run"]);
}

#[test]
fn with_a_hub_that_reads_nothing_it_stops_in_time() {
    let scene = Scene::new();
    let mut sidecar = scene.start();
    let task = scene.hub.submit("run=hold");
    scene.agent.wait_run(&task, "started");
    scene.hub.freeze(ALICE);
    stops(&mut sidecar, Signal::TERM);
    assert_eq!(scene.agent.queue().unwrap()["active"]["task_id"], *task);
    scene.agent.go("run", &task);
}

#[test]
fn with_a_peer_that_never_finishes_the_handshake_it_stops_in_time() {
    let scene = Scene::new();
    // It is listening, and nobody ever accepts.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    scene.agent.configure("hub_url", json!(format!("ws://{}/ws", silent.local_addr().unwrap())));
    let mut sidecar = scene.agent.start();
    let (_stream, _) = silent.accept().unwrap();
    stops(&mut sidecar, Signal::TERM);
}

#[test]
fn the_session_of_the_agent_outlives_the_stop() {
    let scene = Scene::new();
    let mut sidecar = scene.start();
    let task = scene.hub.submit("run=hold");
    scene.agent.wait_run(&task, "started");
    stops(&mut sidecar, Signal::INT);
    scene.agent.go("run", &task);
    scene.agent.wait_run(&task, "finished");
}

#[test]
fn a_second_signal_does_not_wait_for_the_goodbye() {
    let scene = Scene::new();
    // A supervisor with so much patience that the first signal alone would wait for the hub's close frame for long.
    let home = scene.agent.path("pm2-home");
    let variables = [("pm_id", "0"), ("kill_timeout", "60000"), ("PM2_HOME", home.to_str().unwrap())];
    scene.agent.configure("drain_deadline_ms", json!(60_000));
    let mut sidecar = scene.agent.start_with(&variables);
    // The sidecar's own word: the hub's may still be on its way, and there is no goodbye before it.
    scene.agent.wait_log("the hub's welcome", |line| (line["link"] == "online").then_some(()));
    scene.hub.freeze(ALICE);
    sidecar.signal(Signal::INT);
    scene.agent.wait_log("the goodbye", |line| (line["phase"] == "Draining").then_some(()));
    sidecar.signal(Signal::INT);
    assert_eq!(sidecar.wait_exit().code(), Some(0));
    let ended_by = scene.agent.wait_log("the end", |line| (line["phase"] == "Exiting").then(|| line["event"].clone()));
    assert_eq!(ended_by, "StopRequested");
}

#[test]
fn a_second_copy_names_the_first_and_leaves() {
    let scene = Scene::new();
    let mut first = scene.start();
    let mut second = scene.agent.start();
    assert_eq!(second.wait_exit().code(), Some(75));
    let said = second.output();
    assert!(said.contains(&format!("process {}", first.pid())), "{said}");
    assert!(said.contains("another copy serves this agent"), "{said}");
    assert_eq!(first.ended(), None);
    let task = scene.hub.submit("do it");
    scene.done_once(&task);
    assert_eq!(scene.connections(), 1, "the second copy never dialled");
}

#[test]
fn a_copy_after_a_kill_is_not_kept_out() {
    let scene = Scene::new();
    let mut first = scene.start();
    // A wake command of the first still runs: it must not hold the lock.
    let task = scene.hub.submit("wake=hold");
    scene.agent.wait_run(&task, "woken");
    first.kill9();
    let mut second = scene.start();
    assert_eq!(second.ended(), None);
    scene.agent.go("wake", &task);
    scene.done_once(&task);
}

/// Runs it with this text as its configuration; its exit code and what it said.
fn with_config(text: &str) -> (Option<i32>, String) {
    let scene = Scene::new();
    fs::write(scene.agent.config_file(), text).unwrap();
    let mut sidecar = scene.agent.start();
    let status = sidecar.wait_exit();
    (status.code(), sidecar.output())
}

#[test]
fn a_wrong_value_is_named_with_file_line_and_key() {
    let text = "{\n  \"agent_id\": \"a\",\n  \"token\": \"very-secret\",\n  \"hub_url\": \"ws://h/ws\",\n  \"restart_deadline_ms\": \"soon\"\n}";
    let (code, said) = with_config(text);
    assert_eq!(code, Some(78), "{said}");
    for part in ["config.json:5:", "`restart_deadline_ms`", "soon", "100", "86400000"] {
        assert!(said.contains(part), "{part} is missing in: {said}");
    }
    assert!(!said.contains("very-secret"), "{said}");
}

#[test]
fn a_missing_key_is_named() {
    let (code, said) = with_config("{\"agent_id\": \"a\", \"hub_url\": \"ws://h/ws\"}");
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("`token`") && said.contains("config.json"), "{said}");
}

#[test]
fn text_that_is_no_json_is_named_with_its_line() {
    let (code, said) = with_config("{\n  \"agent_id\": \"a\",,\n}");
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("config.json:2:"), "{said}");
}

#[test]
fn a_missing_file_is_named() {
    let scene = Scene::new();
    fs::remove_file(scene.agent.config_file()).unwrap();
    let mut sidecar = scene.agent.start();
    assert_eq!(sidecar.wait_exit().code(), Some(78));
    let said = sidecar.output();
    assert!(said.contains(scene.agent.config_file().to_str().unwrap()) && said.contains("--config"), "{said}");
}

#[test]
fn a_state_folder_that_is_no_folder_is_named() {
    let scene = Scene::new();
    fs::write(scene.agent.path("state"), "").unwrap();
    scene.agent.configure("queue_file", json!("./state/queue.json"));
    let mut sidecar = scene.agent.start();
    assert_eq!(sidecar.wait_exit().code(), Some(74));
    assert!(sidecar.output().contains("queue.json"), "{}", sidecar.output());
}

#[test]
fn the_token_is_nowhere_but_in_the_identify() {
    let scene = Scene::new();
    scene.agent.configure("log_level", json!("trace"));
    let config: Value = serde_json::from_slice(&fs::read(scene.agent.config_file()).unwrap()).unwrap();
    let token = config["token"].as_str().unwrap().to_owned();
    let mut sidecar = scene.start();
    scene.hub.say(ALICE, json!({"type": "error", "error": format!("no such token: {token}")}));
    let task = scene.hub.submit(&format!("the token is {token}"));
    scene.done_once(&task);
    stops(&mut sidecar, Signal::TERM);
    let logged = fs::read_to_string(scene.agent.path("sidecar.log")).unwrap() + &sidecar.output();
    assert!(logged.contains("no such token"), "the log has the hub's words");
    assert!(!logged.contains(&token), "{logged}");
}

#[test]
fn an_agent_is_not_woken_with_what_the_supervisor_left_in_the_environment() {
    let scene = Scene::new();
    scene
        .agent
        .configure("wake_command", json!("env > seen; printf '{\"status\":\"success\"}' > results/$TASK_ID.json"));
    scene.agent.configure("token", Value::Null);
    let token = scene.hub.register(ALICE);
    let home = scene.agent.path("pm2-home");
    let variables = [("pm_id", "7"), ("PM2_HOME", home.to_str().unwrap()), ("AGENTCOM_TOKEN", token.as_str())];
    let _sidecar = scene.agent.start_with(&variables);
    scene.wait_online(1);
    let task = scene.hub.submit("do it");
    scene.hub.wait_task(&task, crate::support::legacy_hub::Status::Completed);
    let seen = fs::read_to_string(scene.agent.path("seen")).unwrap();
    for variable in ["pm_id=", "AGENTCOM_TOKEN=", token.as_str()] {
        assert!(!seen.contains(variable), "{variable} in {seen}");
    }
}

#[test]
fn replacing_itself_leaves_one_process_and_no_zombie() {
    let scene = Scene::new();
    let sidecar = scene.start();
    for times in 1..=3 {
        assert!(scene.hub.restart(ALICE, "upgrade"));
        scene.wait_online(times + 1);
    }
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", sidecar.pid())).unwrap_or_default();
    assert_eq!(children.trim(), "", "left over from the runs before");
    assert!(alive(sidecar.pid()));
    wait::until_true("the journal to be quiet", || {
        scene.agent.queue().is_some_and(|q| q["restarts"]["open"].is_null())
    });
}
