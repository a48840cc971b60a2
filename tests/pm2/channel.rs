//! What pm2 shows of the sidecar and asks of it over its channel: `wait_ready`, figures, `pm2 trigger`. Judged by pm2's own
//! list, its command line, and by whether its daemon lives: one bad line would be the end of it.
#![cfg(target_os = "linux")]

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::ground::{ALICE, Ground};
use crate::support::pm2::Pm2;
use crate::support::sidecar::Agent;
use crate::support::wait;

/// `pm2 trigger`: what the sidecar answered.
fn trigger(ground: &Ground, words: &[&str]) -> Value {
    let args: Vec<&str> = ["trigger", ALICE].iter().chain(words).copied().collect();
    answer(&ground.pm2.printed(&args))
}

/// The answer in `[alice:1:default]={...}`.
fn answer(printed: &str) -> Value {
    let json = printed.lines().find_map(|line| line.split_once("]=").map(|(_, json)| json));
    json.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_else(|| panic!("no answer in:\n{printed}"))
}

fn figure(pm2: &Pm2, name: &str) -> Value {
    pm2.app(ALICE).map_or(Value::Null, |app| app["pm2_env"]["axm_monitor"][name]["value"].clone())
}

fn wait_figure(ground: &Ground, name: &str, value: Value) {
    let seen = || figure(&ground.pm2, name).to_string();
    let probe = || (figure(&ground.pm2, name) == value).then_some(());
    wait::until_or(&format!("{name} to be {value}"), wait::BOUND, probe, seen);
}

/// The rows of the table on top of `pm2 show`.
fn table(pm2: &Pm2) -> Vec<(String, String)> {
    let app = pm2.app(ALICE).unwrap_or_default();
    let rows: Option<Vec<(String, String)>> =
        serde_json::from_value(app["pm2_env"]["axm_options"]["human_info"].clone()).ok();
    rows.unwrap_or_default()
}

#[test]
fn pm2_shows_the_state_the_task_and_the_hub() {
    let ground = Ground::launched();
    wait_figure(&ground, "Hub", json!("online"));
    wait_figure(&ground, "State", json!("Idle"));
    wait_figure(&ground, "Takes tasks", json!("yes"));
    let task = ground.start_task("start=0 run=hold");
    wait_figure(&ground, "State", json!("Working"));
    wait_figure(&ground, "Task", json!(format!("{task} (running)")));
    ground.finish(&task);
    wait_figure(&ground, "Task", json!("-"));
    let restart = ground.command(json!({"reason": "to be shown"}));
    ground.wait_back(&restart);
    wait_figure(&ground, "Last restart", json!("to be shown"));
    wait_figure(&ground, "Restarts by pm2", json!(1));
    wait::until_true("a gap in ms", || figure(&ground.pm2, "Last gap").is_u64());
    let rows = table(&ground.pm2);
    assert!(rows.contains(&("Agent".into(), ALICE.into())), "{rows:?}");
}

#[test]
fn figures_are_said_again_after_a_restart_in_place() {
    let ground = Ground::new();
    let mut app = ground.agent.app();
    app["autorestart"] = json!(false);
    ground.launch_as(app);
    let daemon = ground.daemon();
    for reason in ["one", "two"] {
        let before = ground.listed();
        let restart = ground.command(json!({"reason": reason}));
        ground.wait_back(&restart);
        wait_figure(&ground, "Last restart", json!(reason));
        assert_eq!(ground.listed(), before);
    }
    assert_eq!(trigger(&ground, &["drain"])["ok"], true, "and it is heard");
    assert_eq!(ground.daemon(), daemon);
}

#[test]
fn what_was_stopped_does_not_show_as_running() {
    let ground = Ground::launched();
    wait::until_true("a table", || !table(&ground.pm2).is_empty());
    ground.pm2.command(&["stop", ALICE]);
    let rows = table(&ground.pm2);
    assert_eq!(
        rows.last().map(|(name, text)| format!("{name}: {text}")),
        Some("State: has ended: stops: SIGINT".into())
    );
    assert_eq!(ground.pm2.app(ALICE).expect("in the list")["pm2_env"]["axm_monitor"], json!({}));
}

#[test]
fn a_trigger_drains_and_resumes() {
    let ground = Ground::launched();
    assert_eq!(
        trigger(&ground, &["drain"]),
        json!({"ok": true, "message": "draining: no task is taken before `resume`"})
    );
    wait_figure(&ground, "Takes tasks", json!("no: draining"));
    let task = ground.hub.submit("start=0 run=0");
    assert_eq!(trigger(&ground, &["drain"])["message"], "it drains already");
    assert_eq!(ground.agent.count(&task, "woken"), 0);
    assert_eq!(trigger(&ground, &["resume"])["message"], "resumed: tasks are taken again");
    ground.hub.wait_task(&task, "completed");
}

#[test]
fn a_trigger_restarts_after_the_task_and_takes_that_back() {
    let ground = Ground::launched();
    let task = ground.start_task("start=0 run=hold");
    let before = ground.listed();
    let accepted = format!("accepted: restarts once task {task} has ended");
    assert_eq!(trigger(&ground, &["restart", "upgrade to 2"])["message"], accepted);
    wait_figure(&ground, "Why", json!("restarts once its task has ended: upgrade to 2"));
    assert_eq!(trigger(&ground, &["cancel-restart"])["message"], "the restart is cancelled; the task goes on");
    assert_eq!(trigger(&ground, &["cancel-restart"])["ok"], false);
    assert_eq!(trigger(&ground, &["restart", "again"])["message"], accepted);
    ground.finish(&task);
    ground.pm2.wait_restarts(ALICE, before.restarts + 1);
    wait_figure(&ground, "Last restart", json!("again"));
    ground.assert_ran_once(&task);
}

#[test]
fn a_trigger_restarts_at_once_with_force() {
    let ground = Ground::launched();
    let task = ground.start_task("start=0 run=hold");
    let before = ground.listed();
    assert_eq!(trigger(&ground, &["restart", "force"])["message"], "accepted: restarts now");
    ground.pm2.wait_restarts(ALICE, before.restarts + 1);
    ground.finish(&task);
    ground.assert_ran_once(&task);
}

#[test]
fn a_trigger_shows_the_status() {
    let ground = Ground::launched();
    let status = trigger(&ground, &["status"]);
    assert_eq!((&status["agent_id"], &status["phase"]), (&json!(ALICE), &json!("Idle")));
    assert_eq!(status["supervisor"]["kind"], "pm2");
    let token = fs::read_to_string(ground.agent.config_file()).expect("config.json");
    let token: Value = serde_json::from_str(&token).expect("JSON");
    assert!(!status.to_string().contains(token["token"].as_str().expect("a token")), "{status}");
}

/// Odd opts, control characters, and more than one line can hold: each is answered, or not understood; pm2 lives.
#[test]
fn odd_triggers_are_answered_and_end_nothing() {
    let ground = Ground::launched();
    let daemon = ground.daemon();
    let long = "x".repeat(100_000);
    let odd = ["{\"reason\": 7}", "{\"reason\":\"a\\nnull\\n\",\"force\":1}", "[1]\nnull\n", &long];
    for opts in ["{\"reason\": 7}", "{\"forced\": true}"] {
        let answer = trigger(&ground, &["restart", opts]);
        assert!(answer["message"].as_str().is_some_and(|text| text.contains("restart takes a reason")), "{answer}");
    }
    assert_eq!(trigger(&ground, &["drain", &long])["message"], "the message was too long to be read");
    for opts in odd {
        trigger(&ground, &["resume", opts]);
    }
    assert_eq!(ground.daemon(), daemon);
    ground.assert_works();
}

/// Which answer pm2's command line then prints, and whether it ends, is a matter of luck: it takes the first answer of the
/// app for its own, whoever asked, and one that comes too early makes it wait for ever.
#[test]
fn two_triggers_at_once_are_both_heard() {
    let ground = Ground::launched();
    let _drain = ground.pm2.printing(&["trigger", ALICE, "drain"], "trigger-drain");
    let _restart = ground.pm2.printing(&["trigger", ALICE, "restart", "{\"reason\": 7}"], "trigger-restart");
    let heard = |action| ground.agent.log_lines().iter().any(|line| line["action"] == action);
    wait::until_true("both to be heard", || heard("drain") && heard("restart"));
    wait_figure(&ground, "Takes tasks", json!("no: draining"));
    assert_eq!(trigger(&ground, &["resume"])["ok"], true);
    ground.assert_works();
}

/// Nothing that a hub, an agent or an operator can write takes pm2 down.
#[test]
fn pm2_survives_whatever_the_texts_are() {
    let ground = Ground::launched();
    let daemon = ground.daemon();
    let reasons =
        ["a\nnull\nb", "\u{0}\u{1b}[2J", "{\"type\":\"error\",\"data\":{}}", "\u{2028}\u{feff}\"\\", "{bold}{/}"];
    ground.agent.configure("restart_intensity", json!({"max": 100, "window_ms": 60_000}));
    for (n, reason) in (1..).zip(reasons) {
        if n == 1 {
            // The config is read at the start.
            ground.pm2.command(&["restart", ALICE]);
            ground.wait_idle();
        }
        let restart = ground.command(json!({"reason": reason}));
        ground.wait_back(&restart);
        let status = trigger(&ground, &["status"]);
        assert_eq!(status["restarts"][0]["command_id"], json!(restart), "{status}");
    }
    let task = ground.start_task("start=0 run=hold");
    wait_figure(&ground, "State", json!("Working"));
    ground.finish(&task);
    assert_eq!(ground.daemon(), daemon);
    assert_eq!(ground.pm2.status_of(ALICE), "online");
}

#[test]
fn wait_ready_waits_for_the_hub() {
    let ground = Ground::new();
    let mut app = ground.agent.app();
    app["wait_ready"] = json!(true);
    app["listen_timeout"] = json!(60_000);
    // Returns once pm2 calls it online.
    ground.pm2.launch(app);
    assert_eq!(ground.hub.agent(ALICE).expect("the hub knows it")["fsm_state"], "idle");
    wait_figure(&ground, "Hub", json!("online"));
    ground.agent.wait_log("ready", |line| (line["how"] == "yes, the hub knew it").then_some(()));
}

#[test]
fn wait_ready_does_not_wait_for_a_hub_that_is_away() {
    let pm2 = Pm2::start();
    // Nobody listens at the discard port.
    let agent = Agent::new(ALICE, "ws://127.0.0.1:9/ws", "token");
    let mut app = agent.app();
    app["wait_ready"] = json!(true);
    app["listen_timeout"] = json!(1_500);
    let ready = std::thread::scope(|scope| {
        let launch = scope.spawn(|| pm2.launch(app));
        agent.wait_log("ready", |line| (line["how"] == "yes, before the hub knew it").then_some(()));
        launch.join().expect("launched");
        pm2.status_of(ALICE)
    });
    assert_eq!(ready, "online");
    // pm2 shows what it was told last.
    let shown = ("Ready".to_owned(), "yes, before the hub knew it".to_owned());
    wait::until("the table", || table(&pm2).into_iter().find(|row| *row == shown));
}

/// A Node program below us looks for a channel to its parent; with ours it could end pm2 by one word.
#[test]
fn a_node_child_cannot_speak_for_us() {
    let ground = Ground::new();
    let folder = ground.agent.folder().display().to_string();
    let script = "
        const fs = require('fs');
        const told = { send: typeof process.send, connected: process.connected };
        try { fs.writeSync(3, 'null\\n'); told.fd3 = 'written'; } catch (error) { told.fd3 = error.code; }
        if (process.send) process.send(null);
        fs.writeFileSync('node.json.part', JSON.stringify(told));
        fs.renameSync('node.json.part', 'node.json');";
    fs::write(ground.agent.path("child.js"), script).expect("a script");
    ground.agent.configure("wake_command", json!(format!("cd '{folder}' && node child.js")));
    ground.launch();
    let daemon = ground.daemon();
    ground.hub.submit("start=0 run=0");
    let told = wait::until("the child to tell", || fs::read_to_string(ground.agent.path("node.json")).ok());
    let told: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(told["send"], "undefined", "{told}");
    assert_ne!(told["fd3"], "written", "{told}");
    wait::never("pm2 dies of it", Duration::from_millis(500), || ground.daemon() != daemon);
    assert_eq!(ground.pm2.status_of(ALICE), "online");
}

#[test]
fn it_notices_that_pm2_has_died() {
    let ground = Ground::launched();
    crate::support::process::kill9(ground.daemon());
    ground.agent.wait_log("the end of pm2", |line| {
        line["message"].as_str().is_some_and(|text| text.contains("the pm2 daemon is gone")).then_some(())
    });
    let before = ground.copies();
    let restart = ground.command(json!({"reason": "an orphan's"}));
    ground.wait_back(&restart);
    assert_eq!(ground.copies(), before, "in place");
    let why = |line: &Value| (line["why"] == "pm2 has died since it started this process").then_some(());
    ground.agent.wait_log("why", why);
}
