//! Other ways to be started than by our `ecosystem.config.js`: settings under which an exit would be the end, pm2's own
//! defaults, no name, several agents. The agent is never stranded. Judged by `pm2 jlist` and by the hub's API.
#![cfg(target_os = "linux")]

use std::fs;

use serde_json::{Value, json};

use crate::support::ground::{ALICE, Ground, HUB_APP};
use crate::support::sidecar::{Agent, SIDECAR};
use crate::support::{process, wait};

/// A ground whose sidecar runs under these settings on top of the usual ones; null removes one.
fn with(settings: Value) -> Ground {
    let ground = Ground::new();
    ground.agent.configure("restart_intensity", json!({"max": 100, "window_ms": 60_000}));
    let mut app = ground.agent.app();
    for (key, value) in settings.as_object().expect("an object") {
        if value.is_null() {
            app.as_object_mut().expect("an object").remove(key);
        } else {
            app[key] = value.clone();
        }
    }
    ground.launch_as(app);
    ground
}

/// A commanded restart that keeps the process and pm2's count, and is a return for the hub.
fn comes_back_in_place(ground: &Ground) {
    let before = ground.listed();
    let command = ground.command(json!({"reason": "in place"}));
    let ledger = ground.wait_back(&command);
    assert_ne!(ledger["boot_before"], ledger["boot_after"]);
    assert_eq!(ground.listed(), before, "same process, as far as pm2 knows");
    ground.wait_idle();
    ground.assert_works();
}

#[test]
fn autorestart_off_comes_back_in_place() {
    let ground = with(json!({"autorestart": false}));
    comes_back_in_place(&ground);
    comes_back_in_place(&ground);
}

#[test]
fn zero_as_the_stop_code_comes_back_in_place() {
    comes_back_in_place(&with(json!({"stop_exit_codes": [0], "exp_backoff_restart_delay": null})));
}

#[test]
fn zero_among_several_stop_codes_comes_back_in_place_at_once() {
    // A list does not show in the environment, and the command comes before pm2 would be asked anyway.
    comes_back_in_place(&with(json!({"stop_exit_codes": [5, 0], "exp_backoff_restart_delay": null})));
}

#[test]
fn a_task_survives_a_restart_in_place() {
    let ground = with(json!({"autorestart": false}));
    let task = ground.start_task("start=0 run=hold");
    let before = ground.listed();
    let command = ground.command(json!({"reason": "in place", "deadline_ms": 300}));
    assert_eq!(ground.wait_back(&command)["forced"], true);
    ground.finish(&task);
    ground.assert_ran_once(&task);
    assert_eq!(ground.listed(), before);
}

/// What the run before had started is this run's child, and its to wait for.
#[test]
fn a_wake_that_outlasts_a_restart_in_place_leaves_no_zombie() {
    let ground = with(json!({"autorestart": false}));
    let task = ground.hub.submit("wake=hold start=0 run=0");
    ground.agent.wait_run(&task, "woken");
    let command = ground.command(json!({"reason": "in place", "force": true}));
    ground.wait_back(&command);
    let pid = ground.listed().pid;
    let children = || process::tree_of(pid).into_iter().filter(|child| *child != pid).collect::<Vec<_>>();
    assert!(!children().is_empty(), "the wake still runs");
    ground.agent.go("wake", &task);
    ground.hub.wait_task(&task, "completed");
    wait::until_or("no child", wait::BOUND, || children().is_empty().then_some(()), || format!("{:?}", children()));
}

#[test]
fn a_stop_after_a_restart_in_place_still_reaches_it() {
    let ground = with(json!({"autorestart": false}));
    comes_back_in_place(&ground);
    let pid = ground.listed().pid;
    ground.pm2.command(&["stop", ALICE]);
    assert!(!process::alive(pid));
    assert!(ground.exits().iter().all(|exit| exit.contains("code [0]")), "{:?}", ground.exits());
    assert_eq!(ground.listed().status, "stopped");
}

#[test]
fn quick_restarts_never_look_like_a_crash_loop() {
    // pm2's own figures: sixteen exits sooner than a second after their start, and it gives up.
    let ground = with(json!({"exp_backoff_restart_delay": null, "max_restarts": null}));
    let before = ground.listed();
    for n in 1..=18 {
        let command = ground.command(json!({"reason": format!("quick {n}")}));
        ground.wait_back(&command);
        assert_ne!(ground.pm2.status_of(ALICE), "errored", "after {n}");
    }
    let after = ground.listed();
    assert_eq!(after.status, "online");
    assert!(after.restarts > before.restarts, "most are pm2's: {after:?}");
    ground.assert_works();
}

#[test]
fn the_exit_that_would_be_one_too_many_is_not_taken() {
    // Four exits sooner than ten seconds after their start, within forty seconds.
    let ground = with(json!({"exp_backoff_restart_delay": null, "max_restarts": 4, "min_uptime": 10_000}));
    let before = ground.listed();
    for n in 1..=3 {
        let command = ground.command(json!({"reason": format!("pm2's {n}")}));
        ground.wait_back(&command);
    }
    ground.assert_restarted(&before, 3);
    comes_back_in_place(&ground);
}

/// With `wait_ready`, pm2 7.0.4 starts anew what it deletes before it was ready, and forgets that copy: nobody would answer
/// its exit.
#[test]
fn a_copy_that_pm2_does_not_list_comes_back_in_place() {
    let ground = Ground::new();
    ground.pm2.command(&["stop", HUB_APP]);
    let mut app = ground.agent.app();
    (app["wait_ready"], app["listen_timeout"]) = (json!(true), json!(60_000));
    let deleted = std::thread::scope(|scope| {
        scope.spawn(|| ground.pm2.launch(app));
        ground.pm2.wait_status(ALICE, "launching");
        let pid = wait::until("its process", || ground.pm2.pid_of(ALICE));
        ground.agent.wait_log("it to serve", |line| (line["message"] == "the sidecar starts").then_some(()));
        ground.pm2.command(&["delete", ALICE]);
        pid
    });
    let forgotten = wait::until("the copy that pm2 forgot", || ground.copies().into_iter().find(|pid| *pid != deleted));
    assert_eq!(ground.pm2.app(ALICE), None);
    ground.pm2.command(&["start", HUB_APP]);
    wait::until_true("the hub to answer", || ground.hub_answers());
    ground.wait_idle();
    let command = ground.command(json!({"reason": "forgotten"}));
    ground.wait_back(&command);
    assert_eq!(ground.copies(), [forgotten], "in place");
    ground.assert_works();
    let why = |line: &Value| line["why"].as_str()?.contains("pm2 does not list this process").then_some(());
    ground.agent.wait_log("why", why);
}

#[test]
fn started_by_hand_with_pm2s_defaults() {
    let ground = Ground::new();
    let config = ground.agent.config_file();
    let config = config.to_str().expect("a readable path");
    ground.pm2.command(&["start", SIDECAR, "--name", ALICE, "--", "run", "--config", config]);
    ground.wait_idle();
    let before = ground.listed();
    // Nobody set PM2_PROCESS_NAME: the name is the one that pm2 exports.
    let start = |line: &Value| (line["message"] == "the sidecar starts").then(|| line["pm2_name"].clone());
    assert_eq!(ground.agent.wait_log("its start", start), ALICE);
    let task = ground.start_task("start=0 run=hold");
    let command = ground.command(json!({"reason": "by hand"}));
    ground.hub.wait_restart(&command, ALICE, "accepted");
    ground.finish(&task);
    ground.wait_back(&command);
    ground.assert_restarted(&before, 1);
    ground.assert_ran_once(&task);
}

#[test]
fn an_app_that_was_given_another_name_is_told_by_it() {
    let ground = Ground::launched();
    ground.pm2.command(&["restart", ALICE, "--name", "carol"]);
    ground.pm2.wait_online("carol");
    let named = || ground.agent.status()["supervisor"]["name"] == "carol";
    wait::until_true("the local socket", || ground.agent.operate(&["status"]).1.contains("supervisor"));
    wait::until_true("pm2's name in the status", named);
}

#[test]
fn two_agents_of_one_name_in_pm2_are_told_apart() {
    let ground = Ground::launched();
    let token = ground.hub.register("bob");
    let bob = Agent::new("bob", &ground.hub.url(), &token);
    let config = bob.config_file();
    let config = config.to_str().expect("a readable path");
    ground.pm2.command(&["start", SIDECAR, "-f", "--name", ALICE, "--", "run", "--config", config]);
    ground.hub.wait_agent("bob", |agent| agent["fsm_state"] == "idle");
    let pids = || ground.pm2.apps().iter().filter(|app| app["name"] == ALICE).map(|app| app["pid"].clone()).collect();
    let before: Vec<Value> = pids();
    assert_eq!(before.len(), 2, "{before:?}");
    let (status, answer) = ground.hub.restart("bob", json!({"reason": "bob only"}));
    assert_eq!(status, 200);
    ground.hub.wait_restart(answer["command_id"].as_str().expect("an id"), "bob", "back");
    let after: Vec<Value> = pids();
    assert_eq!(before[0], after[0], "alice stays");
    assert_ne!(before[1], after[1], "bob is another process");
}

#[test]
fn a_second_instance_of_one_agent_never_serves() {
    let ground = with(json!({"instances": 2}));
    let error = || fs::read_to_string(ground.agent.path("alice.err.log")).unwrap_or_default();
    wait::until_true("the second copy to say who serves", || error().contains("another copy serves this agent"));
    ground.assert_works();
    let log = ground.agent.log_lines();
    let starts = log.iter().filter(|line| line["message"] == "the sidecar starts").count();
    assert_eq!(starts, 1, "the second copy leaves before it touches the log");
}

#[test]
fn what_it_starts_inherits_nothing_of_pm2s() {
    let ground = Ground::new();
    let folder = ground.agent.folder().display().to_string();
    let look = "env > env.$1; ls -l /proc/self/fd > fd.$1";
    fs::write(ground.agent.path("look.sh"), format!("cd '{folder}'\n{look}\n")).expect("a script");
    let wake = format!(
        "sh '{folder}/look.sh' wake; cd '{folder}'; setsid sh '{folder}/look.sh' session; \
         : > results/${{TASK_ID}}.started; echo '{{\"status\":\"success\"}}' > results/${{TASK_ID}}.json"
    );
    ground.agent.configure("wake_command", json!(wake));
    ground.launch();
    ground.assert_works();
    let pid = ground.listed().pid;
    let channel = fs::read_link(format!("/proc/{pid}/fd/3")).expect("pm2's channel").display().to_string();
    assert!(channel.starts_with("socket:["), "{channel}");
    for who in ["wake", "session"] {
        let read = |what: &str| fs::read_to_string(ground.agent.path(&format!("{what}.{who}"))).expect("it looked");
        let (env, fds) = (read("env"), read("fd"));
        let variables: Vec<&str> = env.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
        for pm2s in ["pm_id", "name", "NODE_CHANNEL_FD", "PM2_PROCESS_NAME", "unique_id", "autorestart", "pm_uptime"] {
            assert!(!variables.contains(&pm2s), "{who} has {pm2s}");
        }
        assert!(variables.contains(&"TASK_ID") && variables.contains(&"PATH"), "{variables:?}");
        assert!(!fds.contains(&channel), "{who} has pm2's channel open:\n{fds}");
        let sockets = fds.lines().filter(|line| line.contains("socket:[")).count();
        assert_eq!(sockets, 0, "{who} has a socket of ours open:\n{fds}");
    }
}
