//! Hooks around a task: what they are told, what their answers change, and that none of them loses a task.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use crate::support::legacy_hub::{Status, Task};
use crate::support::process;
use crate::support::scene::{ALICE, Scene};
use crate::support::wait;
use serde_json::{Value, json};

/// A stage where tasks are done by this shell line in mode `run`, between these hooks, which run in the agent's folder.
fn scene(command: &str, hooks: Value) -> Scene {
    let scene = Scene::new();
    scene.agent.configure("repo_dir", Value::Null);
    scene.agent.configure("executors", json!({"sidecar": {"command": command, "mode": "run"}}));
    scene.agent.configure("hooks", hooks);
    scene
}

fn submit(scene: &Scene) -> String {
    scene.hub.submit_task(Task::new("task-1", "do it").max_retries(1))
}

fn completed(scene: &Scene, task: &str) -> Value {
    scene.hub.wait_task(task, Status::Completed).result.unwrap()
}

fn failed(scene: &Scene, task: &str) -> String {
    scene.hub.wait_task(task, Status::DeadLetter).last_error.unwrap()
}

fn read(scene: &Scene, name: &str) -> Value {
    let path = scene.agent.path(name);
    let probe = || serde_json::from_slice(&fs::read(&path).ok()?).ok();
    wait::until_or(&format!("the file {name}"), wait::BOUND, probe, || scene.agent.story())
}

#[test]
fn a_hook_is_told_of_the_task_before_it_is_begun() {
    let scene = scene("true", json!({"on_task_start": "cat > told.tmp; mv told.tmp told"}));
    let _sidecar = scene.start();
    let task = submit(&scene);
    completed(&scene, &task);
    let told = read(&scene, "told");
    assert_eq!((&told["hook"], &told["task_id"]), (&json!("on_task_start"), &json!(task)));
    assert_eq!((&told["generation"], &told["attempt"]), (&json!(1), &json!(1)));
    assert_eq!(told["task"]["description"], "do it");
}

#[test]
fn a_hook_may_add_variables_and_fields() {
    let answer = r#"echo '{"env": {"BRANCH": "b-1"}, "task": {"branch": "b-2"}}'"#;
    let scene = scene("echo \"$BRANCH\"; echo \"$TASK_JSON\" > task", json!({"on_task_start": answer}));
    let _sidecar = scene.start();
    let task = submit(&scene);
    assert_eq!(completed(&scene, &task)["output"], "b-1\n");
    assert_eq!(read(&scene, "task")["branch"], "b-2");
}

#[test]
fn hooks_count_from_a_reload_on_and_so_does_the_folder_they_run_in() {
    let scene = scene("true", json!({"on_task_start": "echo > before"}));
    let _sidecar = scene.start();
    fs::create_dir(scene.agent.path("repo")).unwrap();
    scene.agent.configure("repo_dir", json!("repo"));
    scene.agent.configure("hooks", json!({"on_task_start": "echo > after"}));
    assert_eq!(scene.agent.operate(&["reload"]), (0, "reloaded: repo_dir, hooks\n".into()));
    let task = submit(&scene);
    completed(&scene, &task);
    let there = ["before", "after", "repo/before", "repo/after"].map(|name| scene.agent.path(name).exists());
    assert_eq!(there, [false, false, false, true]);
}

#[test]
fn a_hook_may_refuse_a_task() {
    let scene = scene("echo > ran", json!({"on_task_start": r#"echo '{"refuse": "the tree is dirty"}'"#}));
    let _sidecar = scene.start();
    let task = submit(&scene);
    assert_eq!(failed(&scene, &task), "refused by on_task_start: the tree is dirty");
    assert!(!scene.agent.path("ran").exists());
}

#[test]
fn a_hook_that_fails_before_the_start_is_told_and_the_task_goes_on() {
    let scene = scene("echo \"$TASK_JSON\" > task", json!({"on_task_start": "echo 'no git here' >&2; exit 9"}));
    let _sidecar = scene.start();
    let task = submit(&scene);
    completed(&scene, &task);
    assert_eq!(read(&scene, "task")["hook_warning"], "on_task_start: it exited with code 9: no git here");
    scene.agent.wait_log("the failure", |line| (line["hook"] == "on_task_start").then_some(()));
}

#[test]
fn a_hook_that_hangs_is_ended_and_the_task_goes_on() {
    let hooks = json!({"on_task_start": "echo $$ > pid; sleep 600; true", "timeout_ms": 300});
    let scene = scene("echo ran", hooks);
    let _sidecar = scene.start();
    let task = submit(&scene);
    assert_eq!(completed(&scene, &task)["output"], "ran\n");
    let pid = fs::read_to_string(scene.agent.path("pid")).unwrap().trim().parse().unwrap();
    wait::until_true("the hook to be gone", || !process::alive(pid));
}

#[test]
fn a_hook_may_amend_the_result() {
    let hook = r#"cat > told.tmp; mv told.tmp told; echo '{"result": {"pr_url": "there"}}'"#;
    let scene = scene("echo done", json!({"on_task_result": hook}));
    let _sidecar = scene.start();
    let task = submit(&scene);
    let result = completed(&scene, &task);
    assert_eq!((&result["pr_url"], &result["output"]), (&json!("there"), &json!("done\n")));
    let told = read(&scene, "told");
    assert_eq!((&told["hook"], &told["result"]["output"]), (&json!("on_task_result"), &json!("done\n")));
    assert_eq!(told["task"]["description"], "do it");
}

#[test]
fn a_hook_may_turn_a_success_into_a_failure() {
    let hook = r#"echo '{"result": {"status": "failed", "reason": "the tests fail"}}'"#;
    let scene = scene("echo done", json!({"on_task_result": hook}));
    let _sidecar = scene.start();
    let task = submit(&scene);
    assert_eq!(failed(&scene, &task), "the tests fail");
}

#[test]
fn a_hook_is_told_of_a_failure_too() {
    let scene = scene("exit 3", json!({"on_task_result": "cat > told.tmp; mv told.tmp told"}));
    let _sidecar = scene.start();
    let task = submit(&scene);
    assert_eq!(failed(&scene, &task), "command exited with code 3");
    let told = read(&scene, "told");
    assert_eq!(told["result"], json!({"status": "failed", "reason": "command exited with code 3"}));
}

#[test]
fn a_hook_that_prints_nonsense_is_run_again_twice_and_then_the_task_fails_and_its_result_is_kept() {
    for nonsense in ["echo nonsense", "echo []", r#"echo '{"result": 7}'"#, "yes | head -c 3000000"] {
        let scene = scene("echo done", json!({"on_task_result": format!("echo >> looks; {nonsense}")}));
        let _sidecar = scene.start();
        let task = submit(&scene);
        let reason = failed(&scene, &task);
        let kept = scene.agent.path(&format!("results/rejected/{task}.json"));
        assert!(reason.starts_with("result_hook_failed: on_task_result was run 3 times: "), "{reason}");
        assert!(reason.contains(kept.to_str().unwrap()), "{reason}");
        assert_eq!(fs::read_to_string(scene.agent.path("looks")).unwrap().lines().count(), 3);
        let result: Value = serde_json::from_slice(&fs::read(kept).unwrap()).unwrap();
        assert_eq!(result["output"], "done\n");
        scene.agent.wait_log("the failure", |line| (line["hook"] == "on_task_result").then_some(()));
    }
}

#[test]
fn a_hook_that_prints_nonsense_once_is_believed_the_second_time() {
    let hook = r#"if test -e looked; then echo '{"result": {"reviewed": true}}'; else echo > looked; echo what; fi"#;
    let scene = scene("echo done", json!({"on_task_result": hook}));
    let _sidecar = scene.start();
    let task = submit(&scene);
    assert_eq!(completed(&scene, &task)["reviewed"], true);
    assert!(!scene.agent.path("results/rejected").exists());
}

#[test]
fn a_hook_that_prints_nonsense_before_the_start_is_a_wake_that_failed() {
    for (nonsense, why) in [("echo what", "no JSON object"), (r#"echo '{"env": 7}'"#, "\"env\": 7, which is no object")]
    {
        let scene = scene("echo > ran", json!({"on_task_start": format!("echo >> tries; {nonsense}")}));
        scene.agent.configure("wake_retry_delays_ms", json!([20, 20]));
        let _sidecar = scene.start();
        let task = submit(&scene);
        let reason = failed(&scene, &task);
        assert!(
            reason.starts_with("wake_failed_after_3_attempts: on_task_start: ") && reason.contains(why),
            "{reason}"
        );
        assert_eq!(fs::read_to_string(scene.agent.path("tries")).unwrap().lines().count(), 3);
        assert!(!scene.agent.path("ran").exists());
    }
}

#[test]
fn a_hook_that_prints_nonsense_before_the_start_once_is_asked_again() {
    let hook = "if test -e asked; then echo '{}'; else echo > asked; echo what; fi";
    let scene = scene("echo done", json!({"on_task_start": hook}));
    scene.agent.configure("wake_retry_delays_ms", json!([20]));
    let _sidecar = scene.start();
    let task = submit(&scene);
    assert_eq!(completed(&scene, &task)["output"], "done\n");
}

#[test]
fn a_hook_that_prints_without_end_is_ended_and_neither_it_nor_what_it_leaves_behind_fills_the_disk() {
    // Its daemon holds stderr, and prints for as long as the test looks.
    let hook = "setsid sh -c 'echo $$ > daemon; exec yes >&2' & while ! test -s daemon; do sleep 0.01; done; exec yes";
    let scene = scene("echo done", json!({"on_task_start": hook}));
    scene.agent.configure("wake_retry_delays_ms", json!([]));
    let _sidecar = scene.start();
    let task = submit(&scene);
    let reason = failed(&scene, &task);
    assert!(reason.contains("on_task_start: its answer has more than 2097152 bytes"), "{reason}");
    let pid: u32 = fs::read_to_string(scene.agent.path("daemon")).unwrap().trim().parse().unwrap();
    let written = || {
        let figures = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
        figures.lines().find_map(|line| line.strip_prefix("wchar: ")?.parse::<u64>().ok()).unwrap_or(0)
    };
    let size = || {
        let files = fs::read_dir(scene.agent.path("queue.wake")).unwrap().flatten();
        files.filter_map(|file| file.metadata().ok()).map(|found| found.blocks() * 512).sum::<u64>()
    };
    let mut most = 0;
    wait::until_true("it to have printed much", || {
        most = most.max(size());
        written() > 2 << 30
    });
    process::kill9(pid);
    assert!(most < 1 << 30, "{most} bytes were there");
    wait::until_true("its files to be gone", || size() == 0);
}

#[test]
fn an_agent_that_was_woken_is_reviewed_even_when_it_never_showed_itself() {
    // The result alone is there, and the hook takes longer than the wait for the sign.
    let scene = Scene::new();
    scene.agent.configure("wake_command", json!("echo '{\"status\": \"success\"}' > results/${TASK_ID}.json"));
    scene.agent.configure("confirmation_timeout_ms", json!(200));
    scene.agent.configure("hooks", json!({"on_task_result": "sleep 1; echo '{\"result\": {\"reviewed\": true}}'"}));
    let _sidecar = scene.start();
    let task = submit(&scene);
    assert_eq!(completed(&scene, &task)["reviewed"], true);
}

#[test]
fn a_sidecar_killed_while_a_hook_looks_lets_it_look_again() {
    let hook = "echo looked >> looks; while test -e config.json && ! test -e go; do sleep 0.05; done; \
                echo '{\"result\": {\"reviewed\": true}}'";
    let scene = scene("echo done", json!({"on_task_result": hook}));
    let mut sidecar = scene.start();
    let task = submit(&scene);
    let looks = || fs::read_to_string(scene.agent.path("looks")).unwrap_or_default().lines().count();
    wait::until_true("the first look", || looks() == 1);
    sidecar.kill9();
    let _next = scene.start();
    wait::until_true("the second look", || looks() == 2);
    fs::write(scene.agent.path("go"), "").unwrap();
    let result = completed(&scene, &task);
    assert_eq!((&result["output"], &result["reviewed"]), (&json!("done\n"), &json!(true)));
}

#[test]
fn a_cancelled_task_ends_the_hook_that_looks_at_its_result() {
    let scene = scene("echo done", json!({"on_task_result": "echo $$ > pid; sleep 600; true"}));
    let _sidecar = scene.start();
    let task = submit(&scene);
    let path = scene.agent.path("pid");
    let probe = || fs::read_to_string(&path).ok()?.trim().parse::<u32>().ok();
    let pid = wait::until_or("the hook", wait::BOUND, probe, || scene.agent.story());
    scene.hub.cancel(&task);
    wait::until_true("the hook to be gone", || !process::alive(pid));
    scene.wait_quiet();
}

#[test]
fn a_message_in_a_room_runs_its_hook_one_after_the_other_and_changes_nothing_else() {
    let hook = "cat > message; printf '%s: %s\\n' \"$MESSAGE_FROM\" \"$MESSAGE_TEXT\" >> messages; echo no JSON";
    let scene = scene("echo hello", json!({"on_message": hook}));
    let _sidecar = scene.start();
    for (seq, text) in [(1, "it's \"quoted\" $HOME"), (2, "bye")] {
        let frame = json!({"type": "room_message", "from": "bob", "text": text, "seq": seq, "message_type": "chat"});
        scene.hub.say(ALICE, frame);
    }
    let path = scene.agent.path("messages");
    let both = || fs::read_to_string(&path).ok().filter(|text| text.lines().count() == 2);
    let said = wait::until_or("both messages", wait::BOUND, both, || scene.agent.story());
    assert_eq!(said, "bob: it's \"quoted\" $HOME\nbob: bye\n");
    let last = read(&scene, "message");
    assert_eq!((&last["hook"], &last["message"]["text"]), (&json!("on_message"), &json!("bye")), "{last}");
    let task = submit(&scene);
    assert_eq!(completed(&scene, &task)["output"], "hello\n");
    assert_eq!(scene.connections(), 1);
}
