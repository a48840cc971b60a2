//! Tasks that need no wake: executors by routing target, commands whose end is the task's end, and the hub's own shell
//! lines; seen from a hub that knows none of our features.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::support::legacy_hub::{Status, Task};
use crate::support::process::{self, Signal};
use crate::support::scene::{ALICE, Scene};
use crate::support::wait;
use serde_json::{Value, json};

/// A stage whose tasks, which the hub routes to `sidecar`, are done by this shell line in mode `run`.
fn running(command: &str) -> Scene {
    with_executor(json!({"command": command, "mode": "run"}))
}

fn with_executor(executor: Value) -> Scene {
    let scene = Scene::new();
    scene.agent.configure("executors", json!({"sidecar": executor}));
    scene
}

/// Where the commands of these tests leave their marks.
fn mark(scene: &Scene, name: &str) -> PathBuf {
    scene.agent.path(name)
}

fn wait_mark(scene: &Scene, name: &str) -> String {
    let path = mark(scene, name);
    let text = || fs::read_to_string(&path).ok().filter(|text| text.ends_with('\n'));
    wait::until_or(&format!("the mark {name}"), wait::BOUND, text, || scene.agent.story())
}

/// A process id that a command has left.
fn wait_pid(scene: &Scene, name: &str) -> u32 {
    wait_mark(scene, name).trim().parse().unwrap()
}

fn wait_gone(pid: u32) {
    wait::until_true("the process to be gone", || !process::alive(pid));
}

/// One task; it may fail only once.
fn submit(scene: &Scene, description: &str) -> String {
    scene.hub.submit_task(Task::new("task-1", description).max_retries(1))
}

/// Holds a command until the test writes the file `go`, or is over.
const HOLD: &str = "while test -e config.json && ! test -e go; do sleep 0.05; done";

fn go(scene: &Scene) {
    fs::write(mark(scene, "go"), "").unwrap();
}

fn failed(scene: &Scene, task: &str) -> String {
    scene.hub.wait_task(task, Status::DeadLetter).last_error.unwrap()
}

fn completed(scene: &Scene, task: &str) -> Value {
    scene.hub.wait_task(task, Status::Completed).result.unwrap()
}

#[test]
fn a_command_that_exits_with_0_completes_the_task_with_its_output() {
    let scene = running("echo hello ${TASK_ID}; echo noise >&2");
    let _sidecar = scene.start();
    let task = submit(&scene, "run");
    let result = completed(&scene, &task);
    assert_eq!((&result["status"], &result["output"]), (&json!("success"), &json!(format!("hello {task}\n"))));
    assert_eq!(result["exit_code"], 0);
    assert!(result["execution_ms"].is_u64(), "{result}");
}

#[test]
fn a_json_object_that_the_command_prints_last_is_the_result() {
    let scene = running(r#"echo working; echo '{"tokens_in": 7, "output": "said"}'"#);
    let _sidecar = scene.start();
    let task = submit(&scene, "run");
    let result = completed(&scene, &task);
    assert_eq!(
        (&result["tokens_in"], &result["output"], &result["status"]),
        (&json!(7), &json!("said"), &json!("success"))
    );
}

#[test]
fn a_command_that_fails_fails_the_task_with_the_end_of_its_errors() {
    let scene = running("echo fine; echo 'it broke' >&2; exit 3");
    let _sidecar = scene.start();
    let task = submit(&scene, "run");
    assert_eq!(failed(&scene, &task), "command exited with code 3: it broke");
    assert_eq!(scene.times_said("task_complete"), 0);
}

#[test]
fn a_finished_run_leaves_no_files_behind() {
    let scene = running("echo hello");
    let _sidecar = scene.start();
    let task = submit(&scene, "run");
    completed(&scene, &task);
    scene.wait_quiet();
    wait::until_true("the folders to be empty", || {
        let left = |folder: &str| fs::read_dir(mark(&scene, folder)).unwrap().flatten().map(|e| e.file_name());
        left("results").chain(left("queue.wake")).all(|name| name == "runs.lock")
    });
}

#[test]
fn an_executor_gets_the_task_and_its_own_variables() {
    let scene = with_executor(json!({
        "command": "printf '%s|%s|%s' \"$TASK_DESCRIPTION\" \"$MODEL\" \"$TASK_ID\"", "mode": "run",
        "env": {"MODEL": "small", "TASK_ID": "never"},
    }));
    let _sidecar = scene.start();
    let task = submit(&scene, "it's \"quoted\" $HOME");
    assert_eq!(completed(&scene, &task)["output"], format!("it's \"quoted\" $HOME|small|{task}"));
}

#[test]
fn a_target_without_an_executor_goes_to_the_wake_command() {
    let scene = Scene::new();
    scene.agent.configure("executors", json!({"claude": {"command": "false", "mode": "run"}}));
    let _sidecar = scene.start();
    let task = scene.hub.submit("do it");
    scene.done_once(&task);
}

#[test]
fn an_executor_may_wake_instead() {
    let scene = Scene::new();
    let config: Value = serde_json::from_slice(&fs::read(scene.agent.config_file()).unwrap()).unwrap();
    scene.agent.configure("executors", json!({"sidecar": {"command": config["wake_command"]}}));
    scene.agent.configure("wake_command", json!("false"));
    let _sidecar = scene.start();
    let task = scene.hub.submit("do it");
    scene.done_once(&task);
}

#[test]
fn a_task_that_nobody_serves_fails_at_once_and_names_the_key() {
    let scene = Scene::new();
    scene.agent.configure("executors", json!({"claude": {"command": "true", "mode": "run"}}));
    scene.agent.configure("wake_command", Value::Null);
    let _sidecar = scene.start();
    let task = submit(&scene, "run");
    let why = failed(&scene, &task);
    assert!(why.starts_with("no_executor: ") && why.contains("`executors.sidecar`"), "{why}");
    assert_eq!(scene.hub.said(ALICE, "wake_result").len(), 1, "not tried again");
}

#[test]
fn a_run_outlives_a_killed_sidecar_and_the_next_one_finds_its_result() {
    let scene = running(&format!("echo begun >> begun; {HOLD}; echo finished"));
    let mut sidecar = scene.start();
    let task = submit(&scene, "run");
    wait_mark(&scene, "begun");
    sidecar.kill9();
    let _next = scene.start();
    go(&scene);
    assert_eq!(completed(&scene, &task)["output"], "finished\n");
    assert_eq!(wait_mark(&scene, "begun"), "begun\n", "run once");
}

#[test]
fn a_result_that_came_while_no_sidecar_was_there_is_found() {
    let scene = running(&format!("echo begun >> begun; {HOLD}; echo finished"));
    let mut sidecar = scene.start();
    let task = submit(&scene, "run");
    wait_mark(&scene, "begun");
    sidecar.kill9();
    go(&scene);
    wait::until_true("the result", || mark(&scene, &format!("results/{task}.json")).exists());
    let _next = scene.start();
    assert_eq!(completed(&scene, &task)["output"], "finished\n");
    assert_eq!(wait_mark(&scene, "begun"), "begun\n", "run once");
}

#[test]
fn a_commanded_restart_waits_for_a_run() {
    let scene = running(&format!("echo begun >> begun; {HOLD}; echo finished"));
    let mut sidecar = scene.start_supervised();
    let task = submit(&scene, "run");
    wait_mark(&scene, "begun");
    assert!(scene.hub.restart(ALICE, "news"));
    scene.agent.wait_log("the restart waits", |line| (line["phase"] == "RestartPending").then_some(()));
    assert!(sidecar.ended().is_none());
    go(&scene);
    completed(&scene, &task);
    assert_eq!(scene.goodbye(1), "news");
    assert!(sidecar.wait_exit().success());
}

#[test]
fn a_run_that_a_restart_did_not_wait_for_goes_on_and_is_finished_by_the_next_sidecar() {
    let scene = running(&format!("echo begun >> begun; {HOLD}; echo finished"));
    scene.agent.configure("restart_deadline_ms", json!(300));
    let mut sidecar = scene.start_supervised();
    let task = submit(&scene, "run");
    wait_mark(&scene, "begun");
    assert!(scene.hub.restart(ALICE, "news"));
    assert!(sidecar.wait_exit().success());
    let _next = scene.start_supervised();
    go(&scene);
    assert_eq!(completed(&scene, &task)["output"], "finished\n");
    assert_eq!(wait_mark(&scene, "begun"), "begun\n", "run once");
}

#[test]
fn a_run_whose_supervisor_is_killed_fails_and_its_command_is_ended() {
    let scene = running("echo $$ > pid; echo $PPID > supervisor; exec sleep 600");
    let _sidecar = scene.start();
    let task = submit(&scene, "run");
    let (command, supervisor) = (wait_pid(&scene, "pid"), wait_pid(&scene, "supervisor"));
    process::kill9(supervisor);
    let why = failed(&scene, &task);
    assert!(why.starts_with("run_lost: "), "{why}");
    wait_gone(command);
}

#[test]
fn a_command_that_ignores_sigterm_is_killed_when_its_time_is_over() {
    let scene = with_executor(json!({
        "command": "trap '' TERM; echo $$ > pid; while :; do sleep 0.1; done", "mode": "run", "timeout_ms": 500,
    }));
    let _sidecar = scene.start();
    let task = submit(&scene, "run");
    let pid = wait_pid(&scene, "pid");
    let why = failed(&scene, &task);
    assert!(why.starts_with("command timed out: ran longer than 500 ms"), "{why}");
    wait_gone(pid);
}

#[test]
fn a_command_that_obeys_sigterm_does_not_use_up_the_time_before_sigkill() {
    let scene = with_executor(json!({"command": "sleep 600", "mode": "run", "timeout_ms": 200}));
    let _sidecar = scene.start();
    let began = Instant::now();
    let why = failed(&scene, &submit(&scene, "run"));
    assert!(why.contains("ran longer than 200 ms"), "{why}");
    // SIGKILL comes 5 s after SIGTERM.
    assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
}

#[test]
fn a_cancelled_tasks_command_is_ended_with_all_its_children() {
    let scene = running("sleep 600 & echo $! > child; echo $$ > pid; wait");
    let _sidecar = scene.start();
    let task = submit(&scene, "run");
    let (pid, child) = (wait_pid(&scene, "pid"), wait_pid(&scene, "child"));
    scene.hub.cancel(&task);
    wait_gone(pid);
    wait_gone(child);
    scene.wait_quiet();
    assert!(!mark(&scene, &format!("results/{task}.json")).exists());
    assert_eq!(scene.times_said("task_failed") + scene.times_said("task_complete"), 0);
}

#[test]
fn a_daemon_that_holds_the_output_open_does_not_hold_the_task_up() {
    let scene = running("setsid sh -c 'echo $$ > daemon; exec sleep 600' & sleep 0.3; echo done");
    let _sidecar = scene.start();
    let task = submit(&scene, "run");
    assert_eq!(completed(&scene, &task)["output"], "done\n");
    let daemon = wait_pid(&scene, "daemon");
    assert!(process::alive(daemon), "it has a session of its own");
    process::kill9(daemon);
}

#[test]
fn what_a_command_leaves_in_its_group_is_ended() {
    let scene = running("sleep 600 & echo $! > child; echo done");
    let _sidecar = scene.start();
    let task = submit(&scene, "run");
    assert_eq!(completed(&scene, &task)["output"], "done\n");
    wait_gone(wait_pid(&scene, "child"));
}

#[test]
fn output_is_told_while_the_command_runs() {
    let scene = running(&format!("echo working; {HOLD}"));
    let _sidecar = scene.start();
    let task = submit(&scene, "run");
    let frame = scene.hub.wait("the output", |log| {
        let said = log.iter().filter_map(|entry| entry.said("task_progress"));
        said.filter(|frame| frame["execution_event"].is_object()).map(Clone::clone).next()
    });
    assert_eq!(frame["task_id"], task);
    let event = &frame["execution_event"];
    assert_eq!((&event["event_type"], &event["text"]), (&json!("stdout"), &json!("working\n")));
    assert!(event["timestamp"].is_u64() && event["tokens_so_far"].is_null() && event["model"].is_null(), "{frame}");
    go(&scene);
    completed(&scene, &task);
}

#[test]
fn a_flood_of_output_becomes_few_small_frames_and_a_bounded_result() {
    let scene = running("head -c 50000000 /dev/zero | tr '\\0' x; echo; echo the end");
    let _sidecar = scene.start();
    let task = submit(&scene, "run");
    let result = completed(&scene, &task);
    assert!(result["output"].as_str().unwrap().ends_with("x\nthe end\n"));
    assert!(result["output"].as_str().unwrap().len() <= 64 * 1024);
    let kept = result["output"].as_str().unwrap().len() as u64;
    assert_eq!(result["output_left_out_bytes"].as_u64().unwrap() + kept, 50_000_000 + 9);
    let progress = scene.hub.said(ALICE, "task_progress");
    let texts = progress.iter().filter_map(|(_, frame)| frame["execution_event"]["text"].as_str());
    assert!(texts.clone().all(|text| text.len() < 9 * 1024));
    let seconds = progress.last().map_or(0, |last| (last.0 - progress[0].0) / 1_000);
    assert!(texts.count() as u64 <= 2 + seconds, "{} frames in {seconds} s", progress.len());
}

#[test]
fn the_token_is_in_no_output_and_no_result() {
    let scene = running(&format!("cat config.json; cat config.json >&2; {HOLD}; exit 1"));
    let config = fs::read_to_string(scene.agent.config_file()).unwrap();
    let config: Value = serde_json::from_str(&config).unwrap();
    let token = config["token"].as_str().unwrap().to_owned();
    let _sidecar = scene.start();
    let task = submit(&scene, "run");
    scene.hub.wait_said(ALICE, "task_progress", 2);
    go(&scene);
    let why = failed(&scene, &task);
    assert!(why.contains("<redacted>") && !why.contains(&token), "{why}");
    let frames: Vec<_> = scene.frames(1).into_iter().filter(|(kind, _)| kind != "identify").collect();
    let told = |(kind, frame): &(String, Value)| kind == "task_progress" && frame.to_string().contains("<redacted>");
    assert!(frames.iter().any(told), "{frames:?}");
    assert!(frames.iter().all(|(_, frame)| !frame.to_string().contains(&token)), "{frames:?}");
}

fn shell_task(command: &str) -> Task {
    let mut task = Task::new("task-1", "echo the description").max_retries(1);
    task.fields = json!({"description": "echo the description", "metadata": {"shell_command": command}});
    task
}

#[test]
fn a_shell_command_of_the_hub_is_run_in_the_repository_where_that_is_on() {
    let scene = Scene::new();
    fs::create_dir(mark(&scene, "repo")).unwrap();
    scene.agent.configure("repo_dir", json!("./repo"));
    scene.agent.configure("shell_commands", json!({"enabled": true}));
    let _sidecar = scene.start();
    let task = scene.hub.submit_task(shell_task("echo \"in $(basename \"$PWD\")\""));
    assert_eq!(completed(&scene, &task)["output"], "in repo\n");
    assert!(scene.agent.runs().is_empty(), "nobody was woken");
}

#[test]
fn a_shell_command_of_the_hub_is_not_run_by_default_and_the_agent_is_woken() {
    let scene = Scene::new();
    let _sidecar = scene.start();
    let task = scene.hub.submit_task(shell_task("echo ran > ran"));
    scene.done_once(&task);
    assert!(!mark(&scene, "ran").exists());
    scene.agent.wait_log("why not", |line| line["message"].as_str()?.contains("shell_commands.enabled").then_some(()));
}

#[test]
fn a_supervisor_that_is_asked_to_end_says_how_the_task_ended() {
    let scene = running("echo $PPID > supervisor; exec sleep 600");
    let _sidecar = scene.start();
    let task = submit(&scene, "run");
    process::send(wait_pid(&scene, "supervisor"), Signal::TERM);
    let why = failed(&scene, &task);
    assert!(why.starts_with("command was ended by SIGTERM"), "{why}");
}

#[test]
fn the_machines_load_is_told_once_the_hub_knows_us() {
    let scene = Scene::new();
    scene.agent.configure("resource_report_interval_ms", json!(1_000));
    let _sidecar = scene.start();
    scene.hub.wait_said(ALICE, "resource_report", 2);
    let frames = scene.frames(1);
    assert_eq!(frames[0].0, "identify");
    let (_, report) = frames.iter().find(|(kind, _)| kind == "resource_report").unwrap();
    for figure in ["cpu_percent", "ram_used_bytes", "ram_total_bytes", "timestamp"] {
        assert!(report[figure].is_number(), "{report}");
    }
    // That the hub calls none of it invalid is the stage's to watch.
}

#[test]
fn a_message_in_a_room_is_read_by_nobody_and_disturbs_nothing() {
    let scene = Scene::new();
    let _sidecar = scene.start();
    scene.hub.say(ALICE, json!({"type": "room_message", "from": "bob", "text": "hello", "seq": 1}));
    let task = scene.hub.submit("do it");
    scene.done_once(&task);
    assert_eq!(scene.connections(), 1);
}

#[test]
fn a_task_that_comes_back_after_a_cancellation_waits_for_the_end_of_its_first_run() {
    let scene = running(
        "trap '' TERM; test -e first && kill -0 $(cat first) 2> /dev/null && echo > overlap; echo $$ > second; \
         test -e first && exit 0; mv second first; while test -e config.json; do sleep 0.1; done",
    );
    let _sidecar = scene.start();
    let task = submit(&scene, "run");
    let first = wait_pid(&scene, "first");
    scene.hub.cancel(&task);
    scene.wait_quiet();
    scene.hub.say(
        ALICE,
        json!({"type": "task_assign", "task_id": task, "generation": 3, "description": "run", "metadata": {},
            "routing_decision": {"target_type": "sidecar"}}),
    );
    let done = scene.hub.wait_said(ALICE, "task_complete", 1);
    assert_eq!(done["generation"], 3);
    assert!(!process::alive(first));
    assert!(!mark(&scene, "overlap").exists(), "both ran at once");
}
