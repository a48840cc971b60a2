//! The real sidecar and a link that fails in every way: down, half-open, deaf, rude, talking nonsense.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::time::Duration;

use crate::support::legacy_hub::{OnReturn, Options, Status, Verdicts, What};
use crate::support::process::Running;
use crate::support::scene::{ALICE, Scene};
use crate::support::wait;
use serde_json::json;

/// A task in the hands of a sidecar whose agent waits to be told to finish.
fn with_a_running_task(scene: &Scene) -> (Running, String) {
    let sidecar = scene.start();
    let task = scene.hub.submit("run=hold");
    scene.agent.wait_run(&task, "started");
    scene.agent.wait_log("running", |line| (line["stage"] == "running").then_some(()));
    (sidecar, task)
}

/// When, by the hub's clock, the `count`-th connection was opened.
fn opened_at(scene: &Scene, count: usize) -> u64 {
    scene.hub.wait("another connection", |log| {
        log.iter().filter(|entry| entry.what == What::Opened).nth(count - 1).map(|entry| entry.at_ms)
    })
}

#[test]
fn a_result_that_comes_while_the_link_is_down_is_delivered() {
    let scene = Scene::new();
    let (_sidecar, task) = with_a_running_task(&scene);
    scene.hub.refuse_connections(true);
    scene.agent.go("run", &task);
    scene.agent.wait_log("the result", |line| (line["event"] == "ResultFound").then_some(()));
    scene.hub.refuse_connections(false);
    scene.done_once(&task);
    scene.wait_quiet();
}

#[test]
fn after_a_blip_work_under_way_is_adopted_when_the_assignment_comes_first() {
    let scene = Scene::with(Options { on_return: OnReturn::AtOnce, ..Options::default() });
    let (_sidecar, task) = with_a_running_task(&scene);
    scene.hub.drop_tcp(ALICE);
    scene.hub.wait_said(ALICE, "task_accepted", 2);
    scene.agent.go("run", &task);
    scene.done_once(&task);
    assert_eq!(scene.hub.task(&task).unwrap().generation, 3);
}

#[test]
fn after_a_blip_work_under_way_is_adopted_when_the_abort_comes_first() {
    let scene = Scene::with(Options { on_return: OnReturn::AfterContinue, hold_ms: 600_000, ..Options::default() });
    let (_sidecar, task) = with_a_running_task(&scene);
    scene.hub.drop_tcp(ALICE);
    scene.hub.wait("the abort", |log| {
        log.iter().find_map(|entry| entry.heard("state_report_ack").filter(|ack| ack["action"] == "abort").cloned())
    });
    scene.hub.wait_said(ALICE, "task_accepted", 2);
    scene.agent.go("run", &task);
    scene.done_once(&task);
    assert_eq!(scene.hub.task(&task).unwrap().generation, 3);
}

#[test]
fn work_that_ends_between_the_abort_and_the_assignment_counts() {
    let scene = Scene::with(Options { on_return: OnReturn::AfterContinue, hold_ms: 2_000, ..Options::default() });
    let (_sidecar, task) = with_a_running_task(&scene);
    // The abort comes at once, the task itself not before the two seconds are over.
    scene.hub.set(|options| options.answer_questions = false);
    scene.hub.drop_tcp(ALICE);
    scene.hub.wait_said(ALICE, "state_report", 1);
    scene.hub.say(ALICE, json!({"type": "state_report_ack", "task_id": task, "action": "abort"}));
    scene.agent.wait_log("taken back", |line| (line["notice"] == "task_taken_back").then_some(()));
    scene.agent.go("run", &task);
    scene.agent.wait_run(&task, "finished");
    scene.done_once(&task);
    scene.wait_quiet();
}

#[test]
fn ten_blips_in_one_task_are_one_run() {
    let scene = Scene::new();
    let (_sidecar, task) = with_a_running_task(&scene);
    for times in 1..=10 {
        scene.hub.drop_tcp(ALICE);
        scene.wait_online(times + 1);
    }
    scene.agent.go("run", &task);
    scene.done_once(&task);
    assert_eq!(scene.agent.count(&task, "woken"), 1);
}

#[test]
fn another_task_that_comes_before_the_abort_is_taken_when_the_abort_comes() {
    let scene = Scene::new();
    let (_sidecar, task) = with_a_running_task(&scene);
    scene.hub.refuse_connections(true);
    scene.hub.cancel(&task);
    scene.hub.refuse_connections(false);
    let next = scene.hub.submit("next");
    scene.done_once(&next);
    assert_eq!(scene.times_said("task_complete"), 1);
}

#[test]
fn a_stale_verdict_is_kept_and_delivered_when_the_task_comes_back() {
    // The link is half-open: the verdict goes nowhere, and the hub takes the task back under a new generation.
    let scene = Scene::with(Options { silence_ms: Some(1_000), ..Options::default() });
    scene.agent.configure("ping_interval_ms", json!(300));
    let (_sidecar, task) = with_a_running_task(&scene);
    scene.hub.freeze(ALICE);
    scene.agent.go("run", &task);
    scene.done_once(&task);
    assert_eq!(scene.hub.task(&task).unwrap().generation, 3);
    scene.wait_quiet();
}

#[test]
fn a_hub_that_has_not_noticed_the_end_of_the_old_connection_gets_the_verdict_on_the_new_one() {
    let scene = Scene::new();
    let (_sidecar, task) = with_a_running_task(&scene);
    scene.hub.cut_unnoticed(ALICE);
    scene.wait_online(2);
    scene.agent.go("run", &task);
    scene.done_once(&task);
    assert_eq!(scene.hub.task(&task).unwrap().generation, 1);
}

#[test]
fn a_verdict_without_an_answer_is_said_again_on_the_same_connection() {
    let scene = Scene::with(Options { verdicts: Verdicts::LoseVerdict, ..Options::default() });
    scene.agent.configure("answer_timeout_ms", json!(300));
    let (_sidecar, task) = with_a_running_task(&scene);
    scene.agent.go("run", &task);
    scene.hub.wait_said(ALICE, "task_complete", 3);
    scene.hub.set(|options| options.verdicts = Verdicts::Answer);
    scene.done_once(&task);
    scene.wait_quiet();
    assert_eq!(scene.connections(), 1);
}

#[test]
fn an_answer_that_was_lost_ends_with_the_repeat() {
    let scene = Scene::with(Options { verdicts: Verdicts::LoseAnswer, ..Options::default() });
    scene.agent.configure("answer_timeout_ms", json!(300));
    let (_sidecar, task) = with_a_running_task(&scene);
    scene.agent.go("run", &task);
    scene.hub.wait_task(&task, Status::Completed);
    scene.hub.set(|options| options.verdicts = Verdicts::Answer);
    // "invalid_state" is the answer then.
    scene.wait_quiet();
    let next = scene.hub.submit("next");
    scene.done_once(&next);
}

#[test]
fn a_verdict_that_was_dropped_for_its_rate_is_said_again_when_the_hub_listens() {
    let scene = Scene::with(Options { verdicts: Verdicts::LoseVerdict, ..Options::default() });
    scene.agent.configure("answer_timeout_ms", json!(3_600_000));
    let (_sidecar, task) = with_a_running_task(&scene);
    scene.agent.go("run", &task);
    scene.hub.wait_said(ALICE, "task_complete", 1);
    scene.hub.set(|options| options.verdicts = Verdicts::Answer);
    scene.hub.say(ALICE, json!({"type": "rate_limited", "retry_after_ms": 1_000, "tier": "normal"}));
    scene.done_once(&task);
    let limited = scene.hub.log().iter().find(|entry| entry.heard("rate_limited").is_some()).unwrap().at_ms;
    let again = scene.hub.said(ALICE, "task_complete")[1].0;
    assert!(again >= limited + 1_000, "said again after {} ms", again - limited);
}

#[test]
fn a_cooldown_is_respected() {
    let scene = Scene::new();
    let _sidecar = scene.start();
    scene.hub.close(ALICE, 1008, "cooldown active: retry in 2s");
    let closed = scene.hub.log().iter().find(|entry| matches!(entry.what, What::HubClosed(..))).unwrap().at_ms;
    let again = opened_at(&scene, 2);
    assert!(again >= closed + 2_000, "dialled after {} ms", again - closed);
    scene.wait_online(2);
}

#[test]
fn a_token_that_the_hub_does_not_know_is_not_tried_again_at_once() {
    let scene = Scene::new();
    scene.agent.configure("token", json!("wrong-token"));
    scene.agent.configure("reconnect_max_ms", json!(1_000));
    let _sidecar = scene.agent.start();
    let (first, second) = (opened_at(&scene, 1), opened_at(&scene, 2));
    assert!(second >= first + 500, "tried again after {} ms", second - first);
    let advice = scene.agent.wait_log("advice", |line| {
        line["message"].as_str().map(str::to_owned).filter(|text| text.contains("check agent_id and token"))
    });
    assert!(!scene.agent.story().contains("\"wrong-token\""), "{advice}: the token is in the log");
}

#[test]
fn nonsense_is_survived_on_the_same_connection() {
    let scene = Scene::new();
    let _sidecar = scene.start();
    let nonsense = [
        "",
        "not json",
        "[1,2]",
        "{}",
        "null",
        "{\"type\":5}",
        "{\"type\":\"task_assign\"}",
        "\u{0}\u{feff}",
        "{\"type\":\"nobody knows\"}",
        "{\"type\":\"task_assign\",\"task_id\":\"t\",\"generation\":\"one\"}",
        "{\"type\":\"task_assign\",\"task_id\":7,\"generation\":1}",
        "{\"type\":\"task_ack\",\"task_id\":\"never heard of\",\"status\":\"complete\"}",
        "{\"type\":\"task_cancelled\",\"task_id\":\"../x\"}",
        "{\"type\":\"task_continue\",\"task_id\":\"t\",\"generation\":-1}",
        "{\"type\":\"restart_sidecar\",\"reason\":{}}",
        "{\"type\":\"error\",\"error\":{\"a\":1}}",
        "{\"type\":\"rate_limited\"}",
        "{\"type\":\"identified\"}",
    ];
    for text in nonsense {
        scene.hub.say_raw(ALICE, text);
    }
    scene.hub.say_raw(ALICE, &"[".repeat(100_000));
    scene.hub.say_binary(ALICE, &[0, 159, 146, 150]);
    let task = scene.hub.submit("after the nonsense");
    scene.done_once(&task);
    assert_eq!(scene.connections(), 1);
}

#[test]
fn a_frame_that_is_too_long_costs_the_connection_and_no_more() {
    let scene = Scene::new();
    scene.agent.configure("max_frame_bytes", json!(65_536));
    let (_sidecar, task) = with_a_running_task(&scene);
    scene.hub.say_raw(ALICE, &"x".repeat(100_000));
    scene.wait_online(2);
    let too_big = |entry: &crate::support::legacy_hub::Entry| match &entry.what {
        What::SidecarClosed(Some((code, _))) => Some(*code),
        What::SidecarClosed(None) | What::Opened | What::Sidecar(_) | What::Garbage(_) | What::Hub { .. } => None,
        What::Raw(_) | What::Ended | What::HubClosed(..) | What::HubDropped => None,
    };
    assert_eq!(scene.hub.log().iter().find_map(too_big), Some(1009));
    scene.agent.go("run", &task);
    scene.done_once(&task);
}

#[test]
fn a_hub_that_is_away_is_not_hammered_and_found_again() {
    let scene = Scene::new();
    scene.agent.configure("reconnect_min_ms", json!(1_000));
    scene.agent.configure("reconnect_max_ms", json!(1_000));
    scene.hub.refuse_connections(true);
    let _sidecar = scene.agent.start();
    let dials = || {
        let ended = |line: &&serde_json::Value| line["message"] == "the connection to the hub ended";
        scene.agent.log_lines().iter().filter(ended).count()
    };
    wait::until_true("a first dial", || dials() > 0);
    // Half a second apart in the mean: a dozen would be very many.
    wait::never("hammering", Duration::from_secs(2), || dials() > 15);
    scene.hub.refuse_connections(false);
    scene.wait_online(1);
}

#[test]
fn a_port_that_nobody_serves_is_tried_until_somebody_does() {
    let scene = Scene::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    scene.agent.configure("hub_url", json!(format!("ws://{free}/ws")));
    let mut sidecar = scene.agent.start();
    let refused = |line: &serde_json::Value| line["error"].as_str().map(str::to_owned);
    let why = scene.agent.wait_log("why it could not connect", refused);
    assert!(why.contains(&free.to_string()), "{why}");
    let tries = || scene.agent.log_lines().iter().filter(|line| line["event"] == "HubClosed").count();
    wait::until_true("five tries", || tries() >= 5);
    assert_eq!(sidecar.ended(), None);
}

#[test]
fn a_hub_that_does_not_answer_pings_is_left_and_dialled_again() {
    let scene = Scene::new();
    scene.agent.configure("ping_interval_ms", json!(200));
    scene.agent.configure("pong_timeout_ms", json!(300));
    let _sidecar = scene.start();
    scene.hub.wait_said(ALICE, "ping", 3);
    assert_eq!(scene.connections(), 1, "answered pings keep the connection");
    scene.hub.freeze(ALICE);
    scene.wait_online(2);
}

#[test]
fn a_connection_that_an_existing_hub_has_forgotten_is_left_for_a_new_one() {
    // It takes the old connection for the current one until that was silent for too long, and with it drops the agent.
    let scene = Scene::with(Options { silence_ms: Some(1_500), ..Options::default() });
    scene.agent.configure("ping_interval_ms", json!(300));
    let _sidecar = scene.start();
    scene.hub.cut_unnoticed(ALICE);
    scene.wait_online(3);
    let task = scene.hub.submit("next");
    scene.done_once(&task);
    scene.wait_quiet();
}

#[test]
fn a_hub_that_never_says_identified_is_left_and_dialled_again() {
    let scene = Scene::new();
    scene.agent.configure("agent_id", json!("nobody"));
    scene.agent.configure("identify_timeout_ms", json!(300));
    // A peer that opens the socket and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    scene.agent.configure("hub_url", json!(format!("ws://{}/ws", silent.local_addr().unwrap())));
    let accepted = std::thread::spawn(move || {
        let mut held = Vec::new();
        for _ in 0..3 {
            let (stream, _) = silent.accept().unwrap();
            held.push(tokio_tungstenite::tungstenite::accept(stream));
        }
        held.len()
    });
    let _sidecar = scene.agent.start();
    wait::until_true("three dials", || accepted.is_finished());
    assert_eq!(accepted.join().unwrap(), 3);
}
