//! The data folder and the store in it: removed, moved, replaced or spoilt, before a hub starts and under one that runs. It is
//! noticed and said, nothing is answered that is not kept, and no hub begins with an empty store where one was.

use std::fs;
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::disks::Disk;
use crate::support::{Hub, PATIENCE, Peer, folder, hub_command, run};
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long a hub without anything to do may take to notice, with room for two noisy cores.
const NOTICED: Duration = Duration::from_secs(5);

/// What puts something in the place of a store.
type Spoil<'a> = &'a dyn Fn(&Path);

fn said(output: &Output) -> (Option<i32>, String) {
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code(), text)
}

/// Runs the command, which must end, on the folder.
fn ended(data: &Path, args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new("timeout");
    command.arg(PATIENCE.as_secs().to_string()).arg(hub_command().get_program()).args(args);
    said(&command.arg("--data").arg(data).output().unwrap())
}

/// What a start says that is refused.
fn refused(data: &Path) -> (Option<i32>, String) {
    ended(data, &["serve", "--listen", "127.0.0.1:0"])
}

fn store(data: &Path) -> PathBuf {
    data.join("hub.redb")
}

/// A hub with one task, on a folder that may be taken away.
async fn hub_with_task() -> (TempDir, Hub, String) {
    let data = folder();
    let hub = Hub::start(&data, &[]);
    let task = hub.submit(json!({"description": "kept"})).await;
    (data, hub, task)
}

/// Waits until the hub has noticed, and returns how it ended and what it said last.
fn noticed(hub: &mut Hub) -> Option<i32> {
    let begun = Instant::now();
    let code = hub.wait();
    assert!(begun.elapsed() < NOTICED, "it took {:?}", begun.elapsed());
    code
}

/// What the folder holds of a store.
fn names(data: &Path) -> Vec<String> {
    let names = fs::read_dir(data).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.starts_with("hub.redb")).collect();
    names.sort();
    names
}

/// The copy that a hub left of a store that was removed.
fn copy_in(data: &Path) -> PathBuf {
    let names = fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path());
    let is_copy = |path: &PathBuf| path.to_str().unwrap().contains("hub.redb.rescued-");
    names.into_iter().find(is_copy).expect("a copy")
}

/// Restores the copy that the refusal names, and asserts that the task is there again.
async fn comes_back(data: &TempDir, task: &str) {
    let (code, text) = refused(data.path());
    let copy = copy_in(data.path());
    assert!(code == Some(78) && text.contains(copy.to_str().unwrap()), "{code:?} {text}");
    let (code, text) = ended(data.path(), &["restore", copy.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{text}");
    let hub = Hub::start(data, &[]);
    assert_eq!(hub.task(task).await["description"], "kept");
}

#[tokio::test]
async fn a_removed_store_ends_the_hub_and_nothing_it_answered_is_lost() {
    let (data, mut hub, task) = hub_with_task().await;
    fs::remove_file(store(data.path())).unwrap();
    assert_eq!(noticed(&mut hub), Some(74));
    comes_back(&data, &task).await;
}

#[tokio::test]
async fn a_removed_folder_is_not_the_beginning_of_an_empty_hub() {
    let (data, mut hub, task) = hub_with_task().await;
    fs::remove_dir_all(data.path()).unwrap();
    assert_eq!(noticed(&mut hub), Some(74));
    let (code, text) = ended(data.path(), &["token", "a"]);
    assert!(code == Some(78) && text.contains("is gone"), "{code:?} {text}");
    comes_back(&data, &task).await;
}

#[tokio::test]
async fn a_moved_folder_goes_on_where_it_is_and_its_former_place_is_refused() {
    let outer = folder();
    let data = tempfile::Builder::new().tempdir_in(outer.path()).unwrap();
    let mut hub = Hub::start(&data, &[]);
    let task = hub.submit(json!({"description": "kept"})).await;
    let moved = outer.path().join("moved");
    fs::rename(data.path(), &moved).unwrap();
    assert_eq!(noticed(&mut hub), Some(74));
    let (code, text) = refused(data.path());
    assert!(code == Some(78) && text.contains("hub.redb.made"), "{code:?} {text}");
    let word = fs::read_to_string(data.path().join("hub.redb.made")).unwrap();
    assert!(word.contains(store(&moved).to_str().unwrap()), "{word}");
    // The place is free again, as the word says.
    fs::remove_dir_all(data.path()).unwrap();
    fs::rename(&moved, data.path()).unwrap();
    let hub = Hub::start(&data, &[]);
    assert_eq!(hub.task(&task).await["description"], "kept");
}

#[tokio::test]
async fn another_file_in_its_place_is_noticed_and_the_next_start_takes_it() {
    let (data, mut hub, task) = hub_with_task().await;
    let other = folder();
    assert_eq!(ended(other.path(), &["token", "a", "--init"]).0, Some(0));
    fs::rename(store(other.path()), store(data.path())).unwrap();
    assert_eq!(noticed(&mut hub), Some(74));
    let hub = Hub::start(&data, &[]);
    assert_eq!(hub.admin("GET", &format!("/api/tasks/{task}"), Value::Null).await.0, 404);
    hub.kill_9();
    // What the removed one held is there as well.
    let copy = copy_in(data.path());
    assert_eq!(ended(data.path(), &["restore", copy.to_str().unwrap()]).0, Some(0));
    assert_eq!(Hub::start(&data, &[]).task(&task).await["description"], "kept");
}

#[tokio::test]
async fn a_store_that_is_emptied_under_the_hub_is_noticed_and_not_written_again() {
    let (data, mut hub, _) = hub_with_task().await;
    fs::File::options().write(true).open(store(data.path())).unwrap().set_len(0).unwrap();
    assert_eq!(noticed(&mut hub), Some(74));
    assert_eq!(fs::metadata(store(data.path())).unwrap().len(), 0);
    let (code, text) = refused(data.path());
    assert!(code == Some(78) && text.contains("empty file") && text.contains("restore"), "{code:?} {text}");
}

#[tokio::test]
async fn an_older_copy_of_the_same_size_that_is_written_over_the_store_is_noticed() {
    let (data, mut hub, first) = hub_with_task().await;
    let older = fs::read(store(data.path())).unwrap();
    let second = hub.submit(json!({"description": "not in the copy"})).await;
    let over = fs::File::options().write(true).open(store(data.path())).unwrap();
    assert_eq!(over.metadata().unwrap().len(), older.len() as u64, "only what it holds tells them apart");
    over.write_all_at(&older, 0).unwrap();
    assert_eq!(noticed(&mut hub), Some(74));
    // The hub wrote nothing more into it.
    let hub = Hub::start(&data, &[]);
    assert_eq!(hub.task(&first).await["description"], "kept");
    assert_eq!(hub.admin("GET", &format!("/api/tasks/{second}"), Value::Null).await.0, 404);
}

#[tokio::test]
async fn a_link_that_leads_elsewhere_by_now_is_noticed() {
    let outer = folder();
    let (real, other) = (outer.path().join("real"), outer.path().join("other"));
    fs::create_dir(&other).unwrap();
    let data = folder();
    fs::remove_dir(data.path()).unwrap();
    fs::create_dir(&real).unwrap();
    symlink(&real, data.path()).unwrap();
    let mut hub = Hub::start(&data, &[]);
    fs::remove_file(data.path()).unwrap();
    symlink(&other, data.path()).unwrap();
    assert_eq!(noticed(&mut hub), Some(74));
    let (code, text) = refused(data.path());
    assert!(code == Some(78) && text.contains("is gone"), "{code:?} {text}");
    fs::remove_file(data.path()).unwrap();
    fs::create_dir(data.path()).unwrap();
}

#[tokio::test]
async fn no_act_is_answered_as_done_from_the_moment_the_store_is_gone() {
    for round in 0..4 {
        let (data, hub, _) = hub_with_task().await;
        let agent = hub.register("a").await;
        let mut peer = Peer::join(&hub, "a", &agent, run("boot-1")).await;
        let held = peer.expect("task_assign").await;
        let task_id = held["task_id"].as_str().unwrap();
        fs::remove_file(store(data.path())).unwrap();
        // At once: before it can have looked by itself.
        let answered = match round {
            0 => hub.admin("POST", "/api/tasks", json!({"description": "late"})).await.0,
            1 => hub.request("POST", "/api/onboard/register", None, json!({"agent_id": "b"})).await.0,
            2 => hub.admin("POST", "/api/admin/agents/a/restart", json!({})).await.0,
            _ => {
                let generation = &held["generation"];
                peer.say(json!({"type": "task_complete", "task_id": task_id, "generation": generation, "result": {}}))
                    .await;
                // Nothing but the end, and one after which the sidecar comes back with its verdict.
                peer.expect_close(1001).await;
                503
            }
        };
        assert!(answered >= 500, "{round}: {answered}");
        let mut hub = hub;
        assert_eq!(noticed(&mut hub), Some(74));
    }
}

#[test]
fn what_stands_in_the_stores_place_at_the_start_is_said() {
    let whole = folder();
    assert_eq!(ended(whole.path(), &["token", "a", "--init"]).0, Some(0));
    let bytes = fs::read(store(whole.path())).unwrap();
    let half = bytes[..bytes.len() / 2].to_vec();
    let spoil: [(&str, Spoil<'_>, &str); 6] = [
        ("empty", &|path| fs::write(path, "").unwrap(), "empty file"),
        ("cut", &|path| fs::write(path, &half).unwrap(), "damaged"),
        ("cut short", &|path| fs::write(path, &bytes[..100]).unwrap(), "damaged"),
        ("garbage", &|path| fs::write(path, vec![b'x'; 20_000]).unwrap(), "damaged"),
        ("folder", &|path| fs::create_dir(path).unwrap(), "a folder stands"),
        ("dangling", &|path| symlink("nowhere/hub.redb", path).unwrap(), "is gone"),
    ];
    for (name, spoil, words) in spoil {
        let dir = folder();
        spoil(&store(dir.path()));
        for (code, text) in [refused(dir.path()), ended(dir.path(), &["agents"]), ended(dir.path(), &["token", "a"])] {
            assert!(code == Some(78) && text.contains(words), "{name}: {code:?} {text}");
        }
        if name != "folder" && name != "dangling" {
            let backup = store(whole.path());
            let (code, text) = ended(dir.path(), &["restore", backup.to_str().unwrap()]);
            assert_eq!(code, Some(0), "{name}: {text}");
            assert_eq!(ended(dir.path(), &["token", "list"]).0, Some(0), "{name}");
        }
    }
}

#[test]
fn a_disk_without_room_or_to_read_only_makes_no_store_and_leaves_nothing() {
    let disk = Disk::new();
    disk.fill();
    let (code, text) = refused(disk.path());
    assert!(code == Some(74) && text.contains("no store can be made"), "{code:?} {text}");
    assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 1, "more than the ballast");
    let remounted = Command::new("mount").args(["-o", "remount,ro"]).arg(disk.path()).status().unwrap();
    assert!(remounted.success());
    let (code, text) = refused(disk.path());
    assert!(code == Some(78) && text.contains("Read-only"), "{code:?} {text}");
}

#[test]
fn a_lost_store_is_told_from_a_first_start() {
    let dir = folder();
    // What is not the hub's says nothing.
    fs::write(dir.path().join("admin-token"), "t").unwrap();
    let hub = Hub::start(&dir, &[]);
    hub.kill_9();
    fs::remove_file(store(dir.path())).unwrap();
    for args in [&["serve", "--listen", "127.0.0.1:0"][..], &["token", "a"], &["backup", "--out", "/dev/null"]] {
        let (code, text) = ended(dir.path(), args);
        assert!(code == Some(78) && text.contains("is gone") && text.contains("restore"), "{args:?} {code:?} {text}");
    }
    // Who asks for it begins anew; and again, with what is there.
    for name in ["a", "b"] {
        let (code, text) = ended(dir.path(), &["token", name, "--init"]);
        assert_eq!(code, Some(0), "{text}");
    }
    assert_eq!(ended(dir.path(), &["token", "list"]).1.lines().count(), 2);
    assert_eq!(ended(dir.path(), &["serve", "--no-init", "--listen", "nowhere:0"]).0, Some(78));
}

#[test]
fn a_store_of_version_0_1_0_has_no_mark_and_gets_one() {
    let dir = folder();
    assert_eq!(ended(dir.path(), &["token", "a", "--init"]).0, Some(0));
    let mark = dir.path().join("hub.redb.made");
    fs::remove_file(&mark).unwrap();
    assert_eq!(ended(dir.path(), &["token", "list"]).1.lines().count(), 1);
    assert!(mark.exists());
}

#[test]
fn init_is_for_a_folder() {
    let output = hub_command().args(["token", "a", "--init", "--hub", "http://127.0.0.1:1"]).output().unwrap();
    let (code, text) = said(&output);
    assert!(code == Some(2) && text.contains("--data"), "{code:?} {text}");
}

#[test]
fn a_kill_at_any_moment_of_the_first_start_leaves_nothing_to_do() {
    for round in 0..40_u64 {
        let dir = folder();
        let mut first =
            hub_command().args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(dir.path()).spawn().unwrap();
        let at = Instant::now() + Duration::from_micros(round * 500);
        while Instant::now() < at {
            std::hint::spin_loop();
        }
        first.kill().unwrap();
        first.wait().unwrap();
        // Whole or not there, and then nothing says that one was.
        let left = names(dir.path());
        assert!(left.is_empty() || left[0] == "hub.redb", "{round}: {left:?}");
        let (code, text) = ended(dir.path(), &["token", "a", "--init"]);
        assert_eq!(code, Some(0), "{round}: {text}");
        assert_eq!(names(dir.path()), ["hub.redb", "hub.redb.made"], "{round}");
        let hidden = fs::read_dir(dir.path())
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|it| it == "tmp"));
        assert_eq!(hidden.count(), 0, "{round}");
    }
}
