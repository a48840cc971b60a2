//! The local socket of the real sidecar, and the operator's commands over it: what they show and do, who gets no word,
//! and that no caller, however many or mean, holds the sidecar up.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::support::legacy_hub::Status;
use crate::support::process::{self, Running, Signal};
use crate::support::scene::{ALICE, Scene};
use crate::support::{pm2, wait};
use serde_json::{Value, json};

/// A caller that has said something and not read yet.
fn caller(scene: &Scene, says: &[u8]) -> UnixStream {
    let mut stream = UnixStream::connect(scene.agent.socket()).unwrap();
    stream.set_read_timeout(Some(wait::BOUND)).unwrap();
    // One that is turned away in the middle of a long speech is an answer too.
    let _ = stream.write_all(says);
    stream
}

fn answer(mut stream: UnixStream) -> Value {
    let mut text = String::new();
    BufReader::new(&mut stream).read_line(&mut text).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text:?}"))
}

fn ask(scene: &Scene, request: &Value) -> Value {
    answer(caller(scene, format!("{request}\n").as_bytes()))
}

fn wait_phase(scene: &Scene, phase: &str) -> Value {
    let probe = || Some(scene.agent.status()).filter(|status| status["phase"] == phase);
    wait::until_or(&format!("the phase {phase}"), wait::BOUND, probe, || scene.agent.story())
}

#[test]
fn status_tells_where_it_stands_and_what_it_waits_for() {
    let scene = Scene::new();
    let sidecar = scene.start();
    // The hub's word may still be on its way.
    wait::until_true("the hub in the status", || scene.agent.status()["hub"]["link"] == "online");
    let status = scene.agent.status();
    assert_eq!(status["phase"], "Idle");
    assert_eq!(status["process"]["pid"], sidecar.pid());
    let task = scene.hub.submit("run=hold");
    scene.agent.wait_run(&task, "started");
    let running = |status: &Value| status["task"]["stage"] == "running" && status["task"]["task_id"] == task.as_str();
    wait::until_true("the task in the status", || running(&scene.agent.status()));
    let (code, text) = scene.agent.operate(&["status"]);
    assert_eq!(code, 0);
    assert!(text.starts_with("alice Working: has a task\n") && text.contains(&task), "{text}");
    scene.agent.go("run", &task);
    scene.done_once(&task);
}

#[test]
fn the_socket_is_its_users_alone_and_goes_with_the_process() {
    let scene = Scene::new();
    let mut sidecar = scene.start();
    let metadata = std::fs::symlink_metadata(scene.agent.socket()).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.wait_exit().code(), Some(0));
    assert!(!scene.agent.socket().exists());
    let names: Vec<_> =
        std::fs::read_dir(scene.agent.folder()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().contains("sock")), "{names:?}");
}

#[test]
fn what_a_killed_process_left_is_replaced() {
    let scene = Scene::new();
    let mut sidecar = scene.start();
    sidecar.kill9();
    assert!(scene.agent.socket().exists());
    assert_eq!(scene.agent.operate(&["resume"]).0, 69);
    let _next = scene.start();
    assert_eq!(scene.agent.status()["phase"], "Idle");
}

#[test]
fn a_socket_that_cannot_be_made_is_a_warning() {
    let scene = Scene::new();
    std::fs::write(scene.agent.socket(), "somebody's notes").unwrap();
    let _sidecar = scene.start();
    scene.agent.wait_log("the warning", |line| {
        let text = format!("{}{}", line["message"], line["error"]);
        (text.contains("no local socket") && text.contains("move it away")).then_some(())
    });
    let task = scene.hub.submit("");
    scene.done_once(&task);
    assert_eq!(std::fs::read_to_string(scene.agent.socket()).unwrap(), "somebody's notes");
}

#[test]
fn the_state_folder_may_be_deep() {
    let scene = Scene::new();
    let queue = scene.agent.path(&"d".repeat(90)).join("e".repeat(90)).join("queue.json");
    scene.agent.configure("queue_file", json!(queue));
    let _sidecar = scene.start();
    assert_eq!(scene.agent.status()["journal"]["file"], json!(queue));
}

#[test]
fn the_agent_inherits_nothing_of_it() {
    let scene = Scene::new();
    let sidecar = scene.start();
    let _watcher = caller(&scene, b"{\"op\":\"watch\"}\n");
    let task = scene.hub.submit("wake=hold");
    scene.agent.wait_run(&task, "woken");
    let children: Vec<_> = process::tree_of(sidecar.pid()).into_iter().filter(|pid| *pid != sidecar.pid()).collect();
    assert!(!children.is_empty());
    for pid in children {
        // A short-lived `sleep` of the script may be gone by now.
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let links: Vec<_> = descriptors.filter_map(|entry| std::fs::read_link(entry.path()).ok()).collect();
        assert!(!links.iter().any(|link| link.to_string_lossy().starts_with("socket:")), "{pid}: {links:?}");
    }
    scene.agent.go("wake", &task);
    scene.done_once(&task);
}

#[test]
fn rubbish_is_answered_and_changes_nothing() {
    let scene = Scene::new();
    let _sidecar = scene.start();
    let long = [vec![b'x'; 100_000], b"\n".to_vec()].concat();
    let deep = [vec![b'['; 10_000], b"\n".to_vec()].concat();
    let rubbish: [&[u8]; 9] = [
        b"\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"{\"op\":\"stop\"}\n",
        b"{\"op\":\"drain\",\"hard\":true}\n",
        b"{\"op\":\"restart\",\"force\":\"yes\"}\n",
        b"\xff\xfe\0\n",
        b"\"shutdown\"\n",
        &long,
        &deep,
    ];
    for bytes in rubbish {
        let said = answer(caller(&scene, bytes));
        assert!(said["error"].is_string(), "{said} to {:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(60)]));
    }
    let status = scene.agent.status();
    assert_eq!((&status["phase"], &status["draining"]), (&json!("Idle"), &json!(false)));
}

#[test]
fn two_hundred_callers_at_once_are_all_answered() {
    let scene = Scene::new();
    let _sidecar = scene.start();
    let callers: Vec<_> = (0..200).map(|_| caller(&scene, b"{\"op\":\"status\"}\n")).collect();
    for caller in callers {
        assert_eq!(answer(caller)["status"]["agent_id"], "alice");
    }
}

#[test]
fn the_silent_and_those_who_never_read_hold_nobody_up() {
    let scene = Scene::new();
    scene.agent.configure("ping_interval_ms", json!(100));
    let _sidecar = scene.start();
    let silent: Vec<_> = (0..100).map(|_| caller(&scene, b"{\"op\":")).collect();
    // None of them ever reads.
    let watchers: Vec<_> = (0..20).map(|_| caller(&scene, b"{\"op\":\"watch\"}\n")).collect();
    for _ in 0..3 {
        let task = scene.hub.submit("");
        scene.done_once(&task);
        assert_eq!(ask(&scene, &json!({"op": "status"}))["status"]["agent_id"], "alice");
    }
    // The silent are left in the end.
    for mut stream in silent {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    }
    drop(watchers);
}

#[test]
fn a_watcher_sees_changes_and_a_sign_of_life_without_any() {
    let scene = Scene::new();
    let _sidecar = scene.start();
    let stream = caller(&scene, b"{\"op\":\"watch\"}\n");
    let mut lines = BufReader::new(stream).lines().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    assert_eq!(lines.next().unwrap()["status"]["phase"], "Idle");
    // Nothing happens; a second line comes all the same.
    lines.next().unwrap();
    let task = scene.hub.submit("run=hold");
    assert!(lines.any(|line| line["status"]["phase"] == "Working"));
    scene.agent.go("run", &task);
    assert!(lines.any(|line| line["status"]["phase"] == "Idle"));
    scene.done_once(&task);
}

#[test]
fn too_many_watchers_are_refused_and_told() {
    let scene = Scene::new();
    let _sidecar = scene.start();
    let watchers: Vec<_> = (0..32)
        .map(|_| {
            let mut lines = BufReader::new(caller(&scene, b"{\"op\":\"watch\"}\n"));
            lines.read_line(&mut String::new()).unwrap();
            lines
        })
        .collect();
    assert!(ask(&scene, &json!({"op": "watch"}))["error"].is_string());
    let (code, text) = scene.agent.operate(&["status", "--watch"]);
    assert!(code == 77 && text.contains("32 watch already"), "{code}: {text}");
    drop(watchers);
    // Each is missed at its next line, a second later at most.
    wait::until_true("a place to watch", || ask(&scene, &json!({"op": "watch"}))["status"].is_object());
}

#[test]
fn a_hub_that_refuses_us_is_told_from_one_that_is_away() {
    let scene = Scene::new();
    scene.agent.configure("token", json!("not-the-token"));
    let mut sidecar = scene.agent.start();
    let said = |word: &str| {
        let probe = || Some(scene.agent.operate(&["status"]).1).filter(|text| text.contains(word));
        wait::until_or(&format!("the word {word:?}"), wait::BOUND, probe, || scene.agent.story())
    };
    let text = said("! the hub does not let us in (invalid_token)");
    assert!(text.contains("-> put this agent's own token into") && !text.contains("the hub is away"), "{text}");
    let status = scene.agent.status();
    assert_eq!(
        (&status["hub"]["refused"], &status["why"]),
        (&json!(true), &json!("the hub does not know it: invalid_token"))
    );
    sidecar.kill9();
    scene.agent.configure("hub_url", json!("ws://127.0.0.1:1/ws"));
    let _sidecar = scene.agent.start();
    let text = said("! the hub is away");
    assert!(text.contains("-> cannot connect to ws://127.0.0.1:1/ws: "), "{text}");
}

#[test]
fn a_token_that_the_hub_says_back_is_not_shown() {
    let scene = Scene::new();
    let _sidecar = scene.start();
    let config: Value = serde_json::from_slice(&std::fs::read(scene.agent.config_file()).unwrap()).unwrap();
    let token = config["token"].as_str().unwrap();
    let task = scene.hub.submit("run=hold");
    scene.agent.wait_run(&task, "started");
    scene.hub.restart(ALICE, &format!("because of {token}"));
    let pending = wait_phase(&scene, "RestartPending").to_string();
    let (_, page) = scene.agent.operate(&["status"]);
    for shown in [pending, page] {
        assert!(shown.contains("because of <redacted>") && !shown.contains(token), "{shown}");
    }
}

#[test]
fn a_restart_waits_for_the_task_and_says_the_gap() {
    let scene = Scene::new();
    let sidecar = scene.start();
    let boot = scene.agent.status()["process"]["boot_id"].clone();
    let task = scene.hub.submit("run=hold");
    scene.agent.wait_run(&task, "started");
    let command = scene.agent.operator(&["restart", "--reason", "new binary", "--wait"]);
    let mut restart = Running::start(command, scene.agent.folder(), "restart");
    let pending = wait_phase(&scene, "RestartPending");
    assert_eq!((&pending["leaving"]["reason"], &pending["leaving"]["by"]), (&json!("new binary"), &json!("operator")));
    assert_eq!(restart.ended(), None);
    scene.agent.go("run", &task);
    assert_eq!(restart.wait_exit().code(), Some(0), "{}", restart.output());
    let said = restart.stdout();
    assert!(said.starts_with(&format!("accepted: restarts once task {task} has ended\nback: process ")), "{said}");
    assert!(said.trim_end().ends_with("ms") || said.trim_end().ends_with(" s"), "{said}");
    // In place: the same process, and the socket is there again.
    let status = scene.agent.status();
    assert_ne!(status["process"]["boot_id"], boot);
    assert_eq!(status["process"]["pid"], sidecar.pid());
    assert_eq!(scene.goodbye(1), "new binary");
    scene.done_once(&task);
}

#[test]
fn a_restart_that_waits_can_be_taken_back() {
    let scene = Scene::new();
    let _sidecar = scene.start();
    let task = scene.hub.submit("run=hold");
    scene.agent.wait_run(&task, "started");
    let command = scene.agent.operator(&["restart", "--wait"]);
    let mut restart = Running::start(command, scene.agent.folder(), "restart");
    wait_phase(&scene, "RestartPending");
    assert_eq!(scene.agent.operate(&["cancel-restart"]), (0, "the restart is cancelled; the task goes on\n".into()));
    assert_eq!(restart.wait_exit().code(), Some(77), "{}", restart.output());
    assert_eq!(scene.agent.status()["phase"], "Working");
    let (code, text) = scene.agent.operate(&["cancel-restart"]);
    assert_eq!((code, text.contains("there is no restart to cancel")), (77, true), "{text}");
    scene.agent.go("run", &task);
    scene.done_once(&task);
    assert_eq!(scene.times_said("agent_restarting"), 0);
}

#[test]
fn a_forced_restart_leaves_the_task_to_its_session() {
    let scene = Scene::new();
    let _sidecar = scene.start();
    let task = scene.hub.submit("run=hold");
    scene.agent.wait_run(&task, "started");
    let (code, text) = scene.agent.operate(&["restart", "--force", "--wait"]);
    assert_eq!((code, text.starts_with("accepted: restarts now\nback: ")), (0, true), "{text}");
    let restarts = scene.agent.status()["restarts"].clone();
    assert_eq!((&restarts[0]["reason"], &restarts[0]["forced"]), (&json!("operator_requested"), &json!(true)));
    scene.agent.go("run", &task);
    scene.done_once(&task);
}

#[test]
fn drain_takes_no_more_tasks_until_resume() {
    let scene = Scene::new();
    let _sidecar = scene.start();
    let task = scene.hub.submit("run=hold");
    scene.agent.wait_run(&task, "started");
    let command = scene.agent.operator(&["drain", "--wait"]);
    let mut drain = Running::start(command, scene.agent.folder(), "drain");
    wait::until_true("the drain", || scene.agent.status()["draining"] == true);
    assert_eq!(drain.ended(), None);
    scene.agent.go("run", &task);
    assert_eq!(drain.wait_exit().code(), Some(0), "{}", drain.output());
    assert!(drain.stdout().ends_with("drained: no task is left, and no verdict\n"), "{}", drain.stdout());
    let next = scene.hub.submit("");
    let (_, text) = scene.agent.operate(&["status"]);
    assert!(text.contains("! draining") && text.contains("resume"), "{text}");
    assert_eq!(scene.agent.count(&next, "woken"), 0);
    assert_eq!(scene.agent.operate(&["resume"]), (0, "resumed: tasks are taken again\n".into()));
    scene.hub.wait_task(&next, Status::Completed);
}

/// A folder in the journal's place: no write of it succeeds, whoever the user is.
fn block_the_journal(scene: &Scene) {
    let journal = scene.agent.path("queue.json");
    // A write that is under way may put the file back.
    wait::until_true("a folder in the journal's place", || {
        let _ = std::fs::remove_file(&journal);
        std::fs::create_dir(&journal).is_ok()
    });
}

#[test]
fn a_drain_that_a_crash_would_forget_says_so() {
    let scene = Scene::new();
    let _sidecar = scene.start();
    block_the_journal(&scene);
    for (command, begins) in [("drain", "draining: "), ("drain", "it drains already; "), ("resume", "resumed: ")] {
        let (code, text) = scene.agent.operate(&[command]);
        assert_eq!((code, text.contains(begins)), (73, true), "{text}");
        assert!(text.contains("not on disk") && text.contains("a crash would forget it"), "{text}");
    }
    let (code, text) = scene.agent.operate(&["drain", "--wait"]);
    assert_eq!((code, text.contains("drained, but ") && text.contains("queue.json")), (73, true), "{text}");
    // In force all the same.
    assert_eq!(scene.agent.status()["draining"], true);
    std::fs::remove_dir(scene.agent.path("queue.json")).unwrap();
    wait::until_true("the journal", || scene.agent.status()["journal"]["writable"] == true);
    assert_eq!(scene.agent.operate(&["drain"]), (0, "it drains already\n".into()));
    assert_eq!(scene.agent.queue().unwrap()["cordoned"], true);
}

#[test]
fn a_restart_that_is_taken_back_while_the_journal_cannot_be_written_says_so() {
    let scene = Scene::new();
    let _sidecar = scene.start();
    let task = scene.hub.submit("run=hold");
    scene.agent.wait_run(&task, "started");
    assert_eq!(scene.agent.operate(&["restart"]).0, 0);
    wait_phase(&scene, "RestartPending");
    block_the_journal(&scene);
    let (code, text) = scene.agent.operate(&["cancel-restart"]);
    assert_eq!((code, text.contains("the restart is cancelled") && text.contains("not on disk")), (73, true), "{text}");
    std::fs::remove_dir(scene.agent.path("queue.json")).unwrap();
    scene.agent.go("run", &task);
    scene.done_once(&task);
}

#[test]
fn a_sidecar_that_does_not_run_is_told_from_its_journal() {
    let scene = Scene::new();
    let mut sidecar = scene.start();
    let task = scene.hub.submit("run=hold");
    scene.agent.wait_run(&task, "started");
    scene.agent.wait_log("running", |line| (line["stage"] == "running").then_some(()));
    sidecar.signal(Signal::TERM);
    sidecar.wait_exit();
    let (code, text) = scene.agent.operate(&["status"]);
    assert_eq!(code, 69);
    assert!(text.starts_with("alice: not running\n") && text.contains(&task) && text.contains("-> start it"), "{text}");
    let (code, text) = scene.agent.operate(&["status", "--json"]);
    let absent: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &absent["running"], &absent["journal"]["task"]["task_id"]), (69, &json!(false), &json!(task)));
    for command in [["restart"], ["drain"], ["resume"], ["cancel-restart"], ["reload"]] {
        assert_eq!(scene.agent.operate(&command).0, 69, "{command:?}");
    }
    scene.agent.go("run", &task);
    let _again = scene.start();
    scene.done_once(&task);
}

#[test]
fn watching_goes_on_across_a_restart() {
    let scene = Scene::new();
    let _sidecar = scene.start();
    let watching =
        Running::start(scene.agent.operator(&["status", "--watch", "--json"]), scene.agent.folder(), "watch");
    let boots = || {
        let lines = watching.stdout();
        let mut boots: Vec<_> = lines
            .lines()
            .filter_map(|line| Some(serde_json::from_str::<Value>(line).ok()?["process"]["boot_id"].to_string()))
            .collect();
        boots.dedup();
        boots.len()
    };
    wait::until_true("the first run", || boots() == 1);
    assert_eq!(scene.agent.operate(&["restart", "--wait"]).0, 0);
    wait::until_true("the next run", || boots() == 2);
}

#[test]
fn a_restart_under_pm2_is_waited_for() {
    let scene = Scene::new();
    let pm2 = pm2::Pm2::start();
    scene.agent.launch_under(&pm2);
    scene.wait_online(1);
    let before = pm2.wait_online("alice");
    let (code, text) = scene.agent.operate(&["restart", "--reason", "upgrade", "--wait"]);
    assert_eq!(code, 0, "{text}\n{}", pm2.story());
    let after = pm2.wait_restarts("alice", 1);
    assert_ne!(before, after);
    let first_lines = format!("accepted: restarts now, there is no task to finish\nback: process {after}; ");
    assert!(text.starts_with(&first_lines), "{text}");
    let supervisor = scene.agent.status()["supervisor"].clone();
    assert_eq!((&supervisor["kind"], &supervisor["restart_by"]), (&json!("pm2"), &json!("exit 0")));
}

#[test]
fn a_loop_that_stands_still_is_no_reason_to_wait_for_ever() {
    let scene = Scene::new();
    let sidecar = scene.start();
    sidecar.signal(Signal::STOP);
    let command = scene.agent.operator(&["status"]);
    let (status, text) = process::run(command, Duration::from_secs(60));
    sidecar.signal(Signal::CONT);
    assert_eq!(status.code(), Some(69), "{text}");
}
