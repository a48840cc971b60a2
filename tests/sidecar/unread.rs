//! Results that were not taken, at the real sidecar: told to the hub by name, kept, and shown.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::fs;

use crate::support::legacy_hub::{Status, Task, Verdicts};
use crate::support::scene::Scene;
use crate::support::wait;
use serde_json::{Value, json};

fn scene(wake_command: &str) -> Scene {
    let scene = Scene::new();
    scene.agent.configure("wake_command", json!(wake_command));
    scene.agent.configure("wake_retry_delays_ms", json!([]));
    scene
}

fn failed(scene: &Scene) -> (String, String) {
    let task = scene.hub.submit_task(Task::new("task-1", "do it").max_retries(1));
    let reason = scene.hub.wait_task(&task, Status::DeadLetter).last_error.unwrap();
    (task, reason)
}

/// Waits until the status counts this many results, and returns that part of it.
fn shown(scene: &Scene, count: u64) -> Value {
    let probe = || Some(scene.agent.status()["rejected"].clone()).filter(|part| part["count"] == count);
    wait::until_or("the results to be counted", wait::BOUND, probe, || scene.agent.story())
}

#[test]
fn a_result_that_is_none_is_named_to_the_hub_kept_and_shown() {
    let scene = scene("printf '{\"status\": ' > results/${TASK_ID}.json");
    let _sidecar = scene.start();
    let (task, reason) = failed(&scene);
    let kept = scene.agent.path(&format!("results/rejected/{task}.json"));
    assert!(reason.starts_with("result_parse_error: ") && reason.contains(kept.to_str().unwrap()), "{reason}");
    wait::until_true("its own name to be free", || !scene.agent.path(&format!("results/{task}.json")).exists());
    assert_eq!(fs::read_to_string(&kept).unwrap(), "{\"status\": ");
    let part = shown(&scene, 1);
    assert_eq!(part, json!({"count": 1, "bytes": 11, "newest": kept}));
    let (code, page) = scene.agent.operate(&["status"]);
    assert!(code == 0 && page.contains("1 result not taken") && page.contains(kept.to_str().unwrap()), "{page}");
}

#[test]
fn a_result_that_was_not_decided_when_its_task_failed_is_kept() {
    let scene = scene("printf '{\"status\": ' > results/${TASK_ID}.json; exit 3");
    let _sidecar = scene.start();
    let (task, reason) = failed(&scene);
    assert!(reason.starts_with("wake_failed_after_1_attempt: "), "{reason}");
    let part = shown(&scene, 1);
    assert!(part["newest"].as_str().unwrap().ends_with(&format!("rejected/{task}.json")), "{part}");
}

#[test]
fn what_was_kept_by_a_run_before_is_shown_and_of_too_many_the_oldest_go() {
    let scene = scene("true");
    let folder = scene.agent.path("results/rejected");
    fs::create_dir_all(&folder).unwrap();
    for number in 0..203 {
        fs::write(folder.join(format!("t-{number:03}.json")), "{}").unwrap();
    }
    let _sidecar = scene.start();
    assert_eq!(shown(&scene, 200)["bytes"], 400);
    let left = |number: u32| folder.join(format!("t-{number:03}.json")).exists();
    assert_eq!([0, 1, 2, 3, 202].map(left), [false, false, false, true, true]);
    scene.agent.wait_log("the oldest to be named", |line| {
        line["file"].as_str().filter(|file| file.ends_with("t-002.json")).map(|_| ())
    });
}

/// Kills a sidecar while the hub does not answer its verdict; then the session writes `second`, which the next sidecar
/// finds. Returns the task.
fn killed_before_the_answer(scene: &Scene, second: &str) -> String {
    scene.hub.set(|options| options.verdicts = Verdicts::LoseVerdict);
    let mut sidecar = scene.start();
    let task = scene.hub.submit("do it");
    let path = scene.agent.path(&format!("results/{task}.json"));
    wait::until_true("the verdict to be in the journal and its file removed", || {
        let waits = scene.agent.queue().is_some_and(|queue| queue["outbox"][0]["task_id"] == task.as_str());
        waits && !path.exists()
    });
    sidecar.kill9();
    fs::write(&path, second).unwrap();
    let _sidecar = scene.start();
    wait::until_true("the file to be taken away", || !path.exists());
    task
}

const FIRST: &str = r#"{"status":"success","output":"first","n":1.50}"#;

#[test]
fn after_a_kill_another_result_than_the_verdicts_is_kept() {
    let scene = scene(&format!("printf '%s' '{FIRST}' > results/${{TASK_ID}}.json"));
    let second = r#"{"status":"success","output":"second"}"#;
    let task = killed_before_the_answer(&scene, second);
    let kept = scene.agent.path(&format!("results/rejected/{task}.json"));
    wait::until_true("it to be kept", || fs::read_to_string(&kept).is_ok_and(|text| text == second));
    // Also where no sidecar runs.
    let (_, page) = scene.agent.operate(&["status"]);
    assert!(page.contains("not running") && page.contains(kept.to_str().unwrap()), "{page}");
}

#[test]
fn after_a_kill_the_result_that_the_verdict_is_made_of_goes() {
    let scene = scene(&format!("printf '%s' '{FIRST}' > results/${{TASK_ID}}.json"));
    let task = killed_before_the_answer(&scene, FIRST);
    assert!(!scene.agent.path(&format!("results/rejected/{task}.json")).exists());
}

#[test]
fn what_lies_in_the_results_folder_and_is_no_tasks_of_ours_is_left_alone() {
    let scene = scene("true");
    let names = ["config.json", "package.json", "gone.json", "gone.started"];
    let two_days_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(2 * 86_400);
    fs::create_dir_all(scene.agent.path("results/rejected")).unwrap();
    for name in names {
        let path = scene.agent.path("results").join(name);
        fs::write(&path, "{}").unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(two_days_ago).unwrap();
    }
    fs::write(scene.agent.path("results/rejected/old.json"), "{}").unwrap();
    let _sidecar = scene.start();
    shown(&scene, 1);
    assert!(names.iter().all(|name| scene.agent.path("results").join(name).exists()));
}
