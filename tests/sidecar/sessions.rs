//! `agentcom-sidecar session` as the wake command, and sessions that name their process: killed in each phase, cancelled,
//! and left alone.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::support::legacy_hub::{Status, Task, now_ms};
use crate::support::process::{self, Running};
use crate::support::scene::{ALICE, Scene};
use crate::support::sidecar::SIDECAR;
use crate::support::wait;
use serde_json::{Value, json};

/// The longest time from the death of a session to the hub's knowledge of it, ms.
const SEEN_WITHIN_MS: u64 = 2_000;

/// What a wake command does after its program has claimed the task and was killed.
const CLAIM: &str = r#"request() { sed 's/.*"'"$1"'":"\{0,1\}\([^",}]*\).*/\1/' "$TASK_SESSION_FILE"; }
printf '{"pid":999999,"generation":%s,"machine_boot":"%s","claimed_at_ms":1,"command":null}' \
  "$(request generation)" "$(request machine_boot)" > "$(request scratch_dir)/$TASK_ID.run""#;

/// A stage whose wake command is this shell script; `session` is the program's command there.
fn waking(script: &str) -> Scene {
    let scene = Scene::new();
    let script = format!("session() {{ '{SIDECAR}' session -- \"$@\"; }}\n{script}\n");
    fs::write(scene.agent.path("wake.sh"), script).unwrap();
    scene.agent.configure("wake_command", json!("sh ./wake.sh"));
    scene
}

/// A stage whose first session is killed in some phase and leaves the file `killed`; the second is done.
fn killed_first(how: &str) -> Scene {
    waking(&format!(
        "if ! test -e killed; then\n  date +%s%3N > killed.part; mv killed.part killed\n  {how}\nfi\n\
         echo woken >> woken\nsession sh -c 'echo done >> done; echo hello'"
    ))
}

fn mark(scene: &Scene, name: &str) -> String {
    let path = scene.agent.path(name);
    let text = || fs::read_to_string(&path).ok().filter(|text| text.ends_with('\n'));
    wait::until_or(&format!("the mark {name}"), wait::BOUND, text, || scene.agent.story())
}

fn pid(scene: &Scene, name: &str) -> u32 {
    mark(scene, name).trim().parse().unwrap()
}

/// Asserts that the task failed once, within 2 s after its session was killed at `killed_ms`, and was then done once.
fn failed_and_done_once(scene: &Scene, task: &str, killed_ms: u64, why: &str) {
    let done = scene.hub.wait_task(task, Status::Completed);
    assert_eq!(done.result.unwrap()["output"], "hello\n");
    let failures = scene.hub.said(ALICE, "task_failed");
    let [(at_ms, failure)] = failures.as_slice() else { panic!("{failures:?}\n{}", scene.agent.story()) };
    assert!(failure["reason"].as_str().unwrap().starts_with(why), "{failure}");
    assert!(at_ms.saturating_sub(killed_ms) < SEEN_WITHIN_MS, "seen after {} ms", at_ms - killed_ms);
    assert_eq!(mark(scene, "done"), "done\n", "done once");
    assert_eq!(scene.times_said("task_complete"), 1);
}

fn killed_ms(scene: &Scene) -> u64 {
    mark(scene, "killed").trim().parse().unwrap()
}

#[test]
fn one_line_wakes_confirms_and_answers() {
    let scene = Scene::new();
    let line = format!("'{SIDECAR}' session -- printf '%s|%s' \"$TASK_ID\" \"$TASK_DESCRIPTION\"");
    scene.agent.configure("wake_command", json!(line));
    let _sidecar = scene.start();
    let task = scene.hub.submit("it's \"quoted\" $HOME");
    let result = scene.hub.wait_task(&task, Status::Completed).result.unwrap();
    assert_eq!((&result["output"], &result["exit_code"]), (&json!(format!("{task}|it's \"quoted\" $HOME")), &json!(0)));
    scene.wait_quiet();
    wait::until_true("the folders to be empty", || {
        let left = |folder: &str| fs::read_dir(scene.agent.path(folder)).unwrap().flatten().map(|e| e.file_name());
        left("results").chain(left("queue.wake")).all(|name| name == "runs.lock")
    });
}

#[test]
fn the_json_that_a_session_prints_is_its_result_and_its_failure_the_tasks() {
    let scene =
        waking(r#"session sh -c 'echo working; echo "{\"status\":\"success\",\"tokens\":7}"; exit $(cat code)'"#);
    fs::write(scene.agent.path("code"), "0").unwrap();
    let _sidecar = scene.start();
    let task = scene.hub.submit("do it");
    assert_eq!(scene.hub.wait_task(&task, Status::Completed).result.unwrap()["tokens"], 7);
    fs::write(scene.agent.path("code"), "3").unwrap();
    let task = scene.hub.submit_task(Task::new("task-2", "do it").max_retries(1));
    let why = scene.hub.wait_task(&task, Status::DeadLetter).last_error.unwrap();
    assert!(why.starts_with("command exited with code 3: working"), "{why}");
}

#[test]
fn a_result_that_the_session_writes_itself_counts() {
    let scene = waking(
        r#"session sh -c 'echo "{\"status\":\"success\",\"own\":1}" > part; mv part results/$TASK_ID.json; echo noise'"#,
    );
    let _sidecar = scene.start();
    let task = scene.hub.submit("do it");
    assert_eq!(scene.hub.wait_task(&task, Status::Completed).result.unwrap()["own"], 1);
}

#[test]
fn a_session_is_ended_when_its_task_is_cancelled_and_its_output_is_passed_on() {
    let scene = waking("session sh -c 'sleep 600 & echo $! > child; echo $$ > pid; echo working; wait'");
    let _sidecar = scene.start();
    let task = scene.hub.submit("do it");
    let (command, child) = (pid(&scene, "pid"), pid(&scene, "child"));
    scene.hub.wait("the output", |log| {
        log.iter()
            .filter_map(|entry| entry.said("task_progress"))
            .find(|f| f["execution_event"]["text"] == "working\n")
            .cloned()
    });
    scene.hub.cancel(&task);
    wait::until_true("the session to be ended", || !process::alive(command) && !process::alive(child));
    scene.wait_quiet();
    assert_eq!(scene.times_said("task_failed") + scene.times_said("task_complete"), 0);
}

#[test]
fn a_session_takes_the_token_out_of_its_output() {
    let scene = waking("session cat config.json");
    let config: Value = serde_json::from_slice(&fs::read(scene.agent.config_file()).unwrap()).unwrap();
    let _sidecar = scene.start();
    let task = scene.hub.submit("do it");
    let result = scene.hub.wait_task(&task, Status::Completed).result.unwrap().to_string();
    assert!(result.contains("<redacted>") && !result.contains(config["token"].as_str().unwrap()), "{result}");
}

#[test]
fn killed_before_the_session_begins_the_wake_is_tried_again() {
    let scene = killed_first("kill -9 $$");
    let _sidecar = scene.start();
    let task = scene.hub.submit("do it");
    assert_eq!(scene.hub.wait_task(&task, Status::Completed).result.unwrap()["output"], "hello\n");
    assert_eq!((mark(&scene, "done").as_str(), scene.times_said("task_failed")), ("done\n", 0));
}

#[test]
fn killed_after_its_claim_or_its_sign_it_is_seen_and_done_once() {
    for sign in ["", "; : > results/$TASK_ID.started"] {
        let scene = killed_first(&format!("{CLAIM}{sign}; exit 1"));
        let _sidecar = scene.start();
        let task = scene.hub.submit("do it");
        failed_and_done_once(&scene, &task, killed_ms(&scene), "run_lost: ");
    }
}

#[test]
fn killed_while_its_command_runs_it_is_seen_and_done_once() {
    for (whom, why) in [("supervisor", "run_lost: "), ("pid", "command was killed by signal 9")] {
        let scene = killed_first("session sh -c 'echo $PPID > supervisor; echo $$ > pid; exec sleep 600'; exit");
        let _sidecar = scene.start();
        let task = scene.hub.submit("do it");
        let (command, victim) = (pid(&scene, "pid"), pid(&scene, whom));
        let killed_ms = now_ms();
        process::kill9(victim);
        failed_and_done_once(&scene, &task, killed_ms, why);
        wait::until_true("the command to be gone", || !process::alive(command));
    }
}

#[test]
fn killed_between_its_commands_end_and_the_result_it_is_seen_and_done_once() {
    let scene = killed_first("session sh -c 'kill -9 $PPID'; exit");
    let _sidecar = scene.start();
    let task = scene.hub.submit("do it");
    failed_and_done_once(&scene, &task, killed_ms(&scene), "run_lost: ");
}

#[test]
fn killed_while_no_sidecar_was_there_the_next_one_sees_it() {
    let scene = killed_first("session sh -c 'echo $PPID > supervisor; echo $$ > pid; exec sleep 600'; exit");
    let mut sidecar = scene.start();
    let task = scene.hub.submit("do it");
    let supervisor = pid(&scene, "supervisor");
    wait::until_true("the journal to know the session", || {
        scene.agent.queue().is_some_and(|queue| queue["active"]["status"] == "working")
    });
    sidecar.kill9();
    process::kill9(supervisor);
    let _next = scene.start();
    failed_and_done_once(&scene, &task, now_ms(), "run_lost: ");
}

#[test]
fn without_the_variables_of_a_wake_no_session_is_started() {
    let scene = Scene::new();
    let mut command = Command::new(SIDECAR);
    command.args(["session", "--", "true"]).env_remove("TASK_SESSION_FILE").current_dir(scene.agent.folder());
    let (status, said) = process::run(command, wait::BOUND);
    assert_eq!(status.code(), Some(69), "{said}");
    assert!(said.contains("TASK_SESSION_FILE is not set"), "{said}");
}

/// A stage whose first session, of its own, names its process; the second is done.
fn named_first() -> Scene {
    killed_first(
        "setsid sh -c 'printf \"{\\\"pid\\\":%s}\" $$ > results/$TASK_ID.started; echo $$ > pid; exec sleep 600' \
         < /dev/null > /dev/null 2>&1 & exit",
    )
}

#[test]
fn a_session_that_names_its_process_is_seen_to_die_and_done_once() {
    let scene = named_first();
    let _sidecar = scene.start();
    let task = scene.hub.submit("do it");
    let session = pid(&scene, "pid");
    wait::until_true("it to be seen", || scene.agent.path(&format!("queue.wake/{task}.seen")).exists());
    let killed_ms = now_ms();
    process::kill9(session);
    failed_and_done_once(&scene, &task, killed_ms, &format!("session_died: process {session}, "));
}

#[test]
fn one_that_dies_while_no_sidecar_is_there_is_known_by_what_the_last_one_saw() {
    let scene = named_first();
    let mut sidecar = scene.start();
    let task = scene.hub.submit("do it");
    let session = pid(&scene, "pid");
    wait::until_true("it to be seen", || scene.agent.path(&format!("queue.wake/{task}.seen")).exists());
    sidecar.kill9();
    process::kill9(session);
    let _next = scene.start();
    failed_and_done_once(&scene, &task, now_ms(), "session_died: ");
}

#[test]
fn one_that_was_never_seen_alive_is_waited_for() {
    let scene = waking("printf '{\"pid\":999999}' > results/$TASK_ID.started");
    let _sidecar = scene.start();
    let task = scene.hub.submit("do it");
    scene.agent.wait_log("it runs", |line| (line["stage"] == "running").then_some(()));
    wait::never("it fails", Duration::from_millis(1_500), || scene.times_said("task_failed") > 0);
    let folder = scene.agent.path("results");
    fs::write(folder.join("part"), r#"{"status":"success"}"#).unwrap();
    fs::rename(folder.join("part"), folder.join(format!("{task}.json"))).unwrap();
    scene.hub.wait_task(&task, Status::Completed);
}

#[test]
fn a_session_that_hangs_is_warned_of_and_ended_at_its_time_and_done_once() {
    let scene = killed_first("session sh -c 'echo $$ > pid; exec sleep 600'; exit");
    scene.agent.configure("task_timeout_ms", json!(800));
    let _sidecar = scene.start();
    let task = scene.hub.submit("do it");
    let session = pid(&scene, "pid");
    let done = scene.hub.wait_task(&task, Status::Completed);
    assert_eq!(done.result.unwrap()["output"], "hello\n");
    let why = scene.hub.said(ALICE, "task_failed");
    assert_eq!((why.len(), &why[0].1["reason"]), (1, &json!("task_timeout: no result came within 800 ms")));
    scene.agent.wait_log("the warning", |line| (line["notice"] == "half_of_timeout").then_some(()));
    wait::until_true("the session to be ended", || !process::alive(session));
    assert_eq!(mark(&scene, "done"), "done\n", "done once");
}

#[test]
fn a_task_may_ask_for_its_own_limit_and_a_session_of_ones_own_is_late_after_it() {
    let scene = waking("echo woken >> woken; : > results/$TASK_ID.started");
    let _sidecar = scene.start();
    let task = scene.hub.submit_task(Task::new("task-1", "do it").field("metadata", json!({"timeout_ms": 500})));
    scene.hub.wait_said(ALICE, "task_failed", 1);
    let again = || scene.hub.task(&task).filter(|task| task.generation > 1 && task.status == Status::Assigned);
    wait::until_or("it to be assigned again", wait::BOUND, again, || scene.hub.story());
    let folder = scene.agent.path("results");
    fs::write(folder.join("part"), r#"{"status":"success","late":1}"#).unwrap();
    fs::rename(folder.join("part"), folder.join(format!("{task}.json"))).unwrap();
    assert_eq!(scene.hub.wait_task(&task, Status::Completed).result.unwrap()["late"], 1);
    assert_eq!(mark(&scene, "woken"), "woken\n", "woken once");
}

#[test]
fn how_long_a_session_is_silent_is_told() {
    let scene = waking("session sh -c 'echo working; while test -e config.json && ! test -e go; do sleep 0.05; done'");
    scene.agent.configure("task_timeout_ms", json!(600_000));
    let _sidecar = scene.start();
    let task = scene.hub.submit("do it");
    scene.hub.wait("the output", |log| {
        log.iter().filter_map(|entry| entry.said("task_progress")).find(|f| f["execution_event"].is_object()).cloned()
    });
    let silent = || scene.agent.status()["task"]["silent_ms"].as_u64();
    wait::until_true("some silence", || silent().is_some_and(|ms| ms >= 1_000));
    let told = scene.agent.status()["task"].clone();
    assert!(told["age_ms"].as_u64() > told["silent_ms"].as_u64() && told["timeout_ms"] == 600_000, "{told}");
    let (_, text) = scene.agent.operate(&["status"]);
    assert!(text.contains("silent for ") && text.contains(" of its "), "{text}");
    let (_, text) = scene.agent.operate(&["check"]);
    assert!(text.contains(&format!("{task} is running for ")), "{text}");
    fs::write(scene.agent.path("go"), "").unwrap();
    scene.hub.wait_task(&task, Status::Completed);
}

/// A command that runs this one as process 1 of a container; `None` where this machine allows none.
fn as_process_1(inner: &Command) -> Option<Command> {
    let contained = |more: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(more).args(["--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
        command
    };
    let kinds: [&[&str]; 2] = [&[], &["--user", "--map-root-user"]];
    let works = |more: &&&[&str]| {
        let mut probe = contained(more);
        probe.arg("true");
        process::run(probe, wait::BOUND).0.success()
    };
    let mut command = contained(kinds.iter().find(works)?);
    command.arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.current_dir(inner.get_current_dir()?);
    Some(command)
}

#[test]
fn as_process_1_it_waits_for_the_orphans_that_sessions_leave() {
    let scene = waking("session sh -c '(sleep 0.2 &) ; echo hello'");
    let mut inner = scene.agent.operator(&["run"]);
    for inherited in ["pm_id", "name", "PM2_HOME", "PM2_PROCESS_NAME", "NODE_CHANNEL_FD"] {
        inner.env_remove(inherited);
    }
    inner.current_dir(scene.agent.folder());
    // A machine that lets nobody make a container cannot show it.
    let Some(command) = as_process_1(&inner) else { return };
    let outer = Running::start(command, scene.agent.folder(), "sidecar");
    scene.wait_online(1);
    let task = scene.hub.submit("do it");
    assert_eq!(scene.hub.wait_task(&task, Status::Completed).result.unwrap()["output"], "hello\n");
    // `unshare` and the sidecar: its supervisor's zombie is gone.
    wait::until_true("no zombie to be left", || process::tree_of(outer.pid()).len() == 2);
}
