//! What others remove under a running sidecar (a redeploy, `git clean`, a cleaner of old files): it makes it anew, and a
//! second copy is refused at every moment.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::support::process::{Running, Signal};
use crate::support::scene::{ALICE, Scene};
use crate::support::wait;
use serde_json::{Value, json};

/// How long the sidecar may take to notice, with room for two noisy cores.
const NOTICED: Duration = Duration::from_secs(5);

fn lock(scene: &Scene) -> PathBuf {
    scene.agent.path("queue.json.lock")
}

fn warned(scene: &Scene, text: &str) -> Value {
    scene.agent.wait_log(text, |line| {
        line["message"].as_str().is_some_and(|message| message.contains(text)).then(|| line.clone())
    })
}

/// Starts a second copy and asserts that it is refused.
fn second_is_refused(scene: &Scene, first: &mut Running) {
    let mut second = scene.agent.start();
    assert_eq!(second.wait_exit().code(), Some(75), "{}", second.output());
    assert_eq!(first.ended(), None);
}

/// Gives it a task that goes on until it is told, and waits until the journal says so: no write is under way.
fn has_a_running_task(scene: &Scene) -> String {
    let task = scene.hub.submit("run=hold");
    scene.agent.wait_run(&task, "started");
    let written = |line: &Value| (line["event"] == "Persisted" && line["stage"] == "running").then_some(());
    scene.agent.wait_log("the journal to say that it runs", written);
    task
}

fn serves(scene: &Scene) {
    let task = scene.hub.submit("after it");
    scene.done_once(&task);
    assert_eq!(scene.connections(), 1, "{}", scene.hub.story());
}

#[test]
fn the_lock_and_the_socket_come_back_and_a_second_copy_stays_out() {
    let scene = Scene::new();
    let mut sidecar = scene.start();
    fs::remove_file(scene.agent.socket()).unwrap();
    fs::remove_file(lock(&scene)).unwrap();
    // At once: before it can have noticed.
    second_is_refused(&scene, &mut sidecar);
    let both = || (lock(&scene).exists() && scene.agent.socket().exists()).then_some(());
    wait::until_or("the lock and the socket", NOTICED, both, || scene.agent.story());
    warned(&scene, "the lock file was removed");
    warned(&scene, "the local socket was removed");
    assert_eq!(scene.agent.status()["process"]["pid"], sidecar.pid());
    second_is_refused(&scene, &mut sidecar);
    serves(&scene);
}

#[test]
fn a_copy_that_is_stopped_cannot_make_the_lock_anew_and_keeps_the_others_out() {
    let scene = Scene::new();
    let mut sidecar = scene.start();
    sidecar.signal(Signal::STOP);
    fs::remove_file(lock(&scene)).unwrap();
    second_is_refused(&scene, &mut sidecar);
    fs::remove_file(scene.agent.socket()).unwrap();
    let (_, said) = scene.agent.operate(&["status"]);
    assert!(said.contains("holds its state folder"), "{said}");
    sidecar.signal(Signal::CONT);
    serves(&scene);
}

#[test]
fn another_agent_in_the_same_folder_is_no_second_copy() {
    let scene = Scene::new();
    let _sidecar = scene.start();
    fs::remove_file(lock(&scene)).unwrap();
    let text = fs::read_to_string(scene.agent.config_file()).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    config["queue_file"] = json!("./other.json");
    config["agent_id"] = json!("other");
    config["token"] = json!(scene.hub.register("other"));
    fs::write(scene.agent.config_file(), config.to_string()).unwrap();
    let mut other = scene.agent.start();
    scene.wait_online(2);
    assert_eq!(other.ended(), None);
}

#[test]
fn the_journal_comes_back_with_the_task_in_it() {
    let scene = Scene::new();
    let mut sidecar = scene.start();
    let task = has_a_running_task(&scene);
    fs::remove_file(scene.agent.path("queue.json")).unwrap();
    let back = || scene.agent.queue().filter(|queue| queue["active"]["task_id"] == *task);
    wait::until_or("the journal", NOTICED, back, || scene.agent.story());
    sidecar.kill9();
    let _again = scene.start();
    scene.agent.go("run", &task);
    scene.done_once(&task);
}

#[test]
fn a_journal_that_others_put_in_its_place_is_replaced() {
    let scene = Scene::new();
    let mut sidecar = scene.start();
    let task = has_a_running_task(&scene);
    // As a restored backup, or a checkout.
    fs::write(scene.agent.path("old"), "{}").unwrap();
    fs::rename(scene.agent.path("old"), scene.agent.path("queue.json")).unwrap();
    let back = || scene.agent.queue().filter(|queue| queue["active"]["task_id"] == *task);
    wait::until_or("the journal", NOTICED, back, || scene.agent.story());
    warned(&scene, "the journal was removed or replaced by others");
    sidecar.kill9();
    let _again = scene.start();
    scene.agent.go("run", &task);
    scene.done_once(&task);
}

#[test]
fn a_folder_that_is_moved_away_is_said_and_made_anew() {
    let scene = Scene::new();
    scene.agent.configure("queue_file", json!("./state/queue.json"));
    let mut sidecar = scene.start();
    let (state, moved) = (scene.agent.path("state"), scene.agent.path("moved"));
    fs::rename(&state, &moved).unwrap();
    let socket = || state.join("queue.json.sock").exists().then_some(());
    wait::until_or("the socket in a new folder", NOTICED, socket, || scene.agent.story());
    let line = warned(&scene, "the state folder was moved away");
    assert_eq!(line["moved_to"], moved.to_str().unwrap());
    let (_, said) = scene.agent.operate(&["status"]);
    assert!(said.contains("was moved to") && said.contains(moved.to_str().unwrap()), "{said}");
    second_is_refused(&scene, &mut sidecar);
    serves(&scene);
    assert!(state.join("queue.json").exists());
}

#[test]
fn a_folder_that_is_another_copys_by_now_is_not_written() {
    let scene = Scene::new();
    scene.agent.configure("queue_file", json!("./state/queue.json"));
    let sidecar = scene.start();
    let state = scene.agent.path("state");
    sidecar.signal(Signal::STOP);
    fs::rename(&state, scene.agent.path("moved")).unwrap();
    let _other = agentcom::sidecar::journal::state_lock::StateLock::acquire(
        &state.join("queue.json"),
        Some("another copy"),
        Duration::ZERO,
    )
    .unwrap();
    sidecar.signal(Signal::CONT);
    let line = warned(&scene, "the state folder is not ours any more");
    assert!(line["error"].as_str().unwrap().contains("another copy"), "{line}");
    scene.hub.submit("not for this one");
    scene.hub.wait("a word of it", |log| {
        let unwell = |frame: &Value| frame["status"].as_str().is_some_and(|status| status.contains("journal"));
        log.iter().find_map(|entry| entry.said("status").filter(|frame| unwell(frame)).map(|_| ()))
    });
    assert_eq!(scene.times_said("task_accepted"), 0);
    assert!(!state.join("queue.json").exists());
}

#[test]
fn a_link_in_the_journals_place_takes_lock_and_socket_along() {
    let scene = Scene::new();
    let mut sidecar = scene.start();
    let task = has_a_running_task(&scene);
    let (queue, disk) = (scene.agent.path("queue.json"), scene.agent.path("other-disk"));
    fs::create_dir(&disk).unwrap();
    let target = disk.join("queue.json");
    // What a link leads to is locked where it is; the link itself is put there in one step.
    fs::copy(&queue, &target).unwrap();
    std::os::unix::fs::symlink(&target, disk.join("link")).unwrap();
    fs::rename(disk.join("link"), &queue).unwrap();
    warned(&scene, "the journal's path leads to another file by now");
    let socket = || disk.join("queue.json.sock").exists().then_some(());
    wait::until_or("the socket there", NOTICED, socket, || scene.agent.story());
    assert_eq!(scene.agent.status()["process"]["pid"], sidecar.pid());
    second_is_refused(&scene, &mut sidecar);
    scene.agent.go("run", &task);
    scene.done_once(&task);
    assert!(fs::symlink_metadata(&queue).unwrap().is_symlink());
    serves(&scene);
}

#[test]
fn what_is_no_file_in_the_journals_place_is_not_replaced() {
    let scene = Scene::new();
    let _sidecar = scene.start();
    let (queue, pipe) = (scene.agent.path("queue.json"), scene.agent.path("pipe"));
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    fs::rename(&pipe, &queue).unwrap();
    let (code, said) = scene.agent.operate(&["drain"]);
    assert_eq!(code, 73, "{said}");
    let line = warned(&scene, "the journal was not written");
    assert!(line["error"].as_str().unwrap().contains("a named pipe stands where the file should be"), "{line}");
    assert!(!fs::metadata(&queue).unwrap().is_file());
    fs::remove_file(&queue).unwrap();
    wait::until_true("the journal's return", || scene.agent.operate(&["resume"]).0 == 0);
    let task = scene.hub.submit("after it");
    scene.done_once(&task);
}

#[test]
fn a_second_copy_stays_out_while_the_first_replaces_itself() {
    let scene = Scene::new();
    scene.agent.configure("restart_intensity", json!({"max": 1_000, "window_ms": 60_000}));
    let mut sidecar = scene.start();
    let mut copies: Vec<Running> = (0..4).map(|_| scene.agent.start()).collect();
    // As many as there is time for while they wait for the lock.
    let mut restarts = 0;
    while copies.iter_mut().any(|copy| copy.ended().is_none()) {
        restarts += 1;
        assert!(scene.hub.restart(ALICE, "again"));
        scene.wait_online(1 + restarts);
    }
    for copy in &mut copies {
        assert_eq!(copy.wait_exit().code(), Some(75), "{}", copy.output());
    }
    assert_eq!(sidecar.ended(), None);
    assert!(restarts > 1);
    // No session keeps the mark of the run that has woken it.
    let task = scene.hub.submit("run=hold");
    scene.agent.wait_run(&task, "started");
    sidecar.kill9();
    let _next = scene.start();
    scene.agent.go("run", &task);
    scene.done_once(&task);
}

#[test]
fn a_folder_whose_sockets_path_is_too_long_for_an_address_will_do() {
    let scene = Scene::new();
    let deep = format!("./{}/{}/queue.json", "d".repeat(120), "e".repeat(120));
    scene.agent.configure("queue_file", json!(deep));
    let sidecar = scene.start();
    wait::until_true("the socket", || scene.agent.operate(&["status"]).0 == 0);
    assert_eq!(scene.agent.status()["process"]["pid"], sidecar.pid());
    let (code, said) = scene.agent.operate(&["drain"]);
    assert_eq!(code, 0, "{said}");
}
