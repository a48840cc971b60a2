//! `agentcom-hub backup` and `restore`: beside a hub that works, where none runs, and what they refuse.

use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::support::{Hub, folder, hub_command, token};

fn run(dir: &Path, command: &[&str], file: &Path) -> Output {
    let mut run = hub_command();
    run.args(command).arg(file).arg("--data").arg(dir).output().unwrap()
}

fn backup(dir: &Path, out: &Path, flags: &[&str]) -> Output {
    run(dir, &[&["backup"], flags, &["--out"]].concat(), out)
}

fn restore(dir: &Path, file: &Path) -> Output {
    run(dir, &["restore"], file)
}

/// The exit code, and what was printed on stdout and stderr.
fn said(output: &Output) -> (Option<i32>, String) {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_beside_a_hub_that_works_is_restored_whole() {
    let (dir, other) = (folder(), folder());
    let hub = Hub::start(&dir, &[]);
    let agent = hub.register("a").await;
    let task_id = hub.submit(json!({"description": "before"})).await;
    let out = other.path().join("copy.redb");
    // While others submit, so that commits go on beside it.
    let submitting = async {
        for _ in 0..50 {
            hub.submit(json!({"description": "meanwhile"})).await;
        }
    };
    let (dir_path, out_path) = (dir.path().to_owned(), out.clone());
    let making = tokio::task::spawn_blocking(move || backup(&dir_path, &out_path, &["--json"]));
    let ((), made) = tokio::join!(submitting, making);
    let (code, text) = said(&made.unwrap());
    assert_eq!(code, Some(0), "{text}");
    let held: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&held["records"]["tokens"], &held["schema"]), (&json!(2), &json!(2)), "{held}");
    let tasks = held["records"]["tasks"].as_u64().unwrap();
    assert!((1..=51).contains(&tasks), "{held}");
    assert_eq!(names(other.path()), ["copy.redb"], "nothing is left over");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&out).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    hub.kill_9();

    let fresh = folder();
    let (code, text) = said(&restore(fresh.path(), &out));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains(&format!("{tasks} tasks")) && text.contains("start the hub"), "{text}");
    let hub = Hub::start(&fresh, &[]);
    assert_eq!(hub.task(&task_id).await["description"], "before");
    let (_, listed) = hub.request("GET", "/api/tasks", Some(&agent), Value::Null).await;
    assert_eq!(listed["count"], json!(tasks), "a's token is valid too");
}

#[tokio::test]
async fn a_backup_where_no_hub_runs_is_the_same_and_the_former_store_is_kept() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    hub.submit(json!({"description": "before"})).await;
    let out = dir.path().join("copy");
    assert_eq!(said(&backup(dir.path(), &out, &[])).0, Some(0));
    let running = said(&restore(dir.path(), &out));
    assert!(running.0 == Some(75) && running.1.contains("in use by a hub"), "{running:?}");
    hub.submit(json!({"description": "after"})).await;
    hub.kill_9();
    let stopped = dir.path().join("stopped");
    let (code, text) = said(&backup(dir.path(), &stopped, &[]));
    assert!(code == Some(0) && text.contains("holds 2 tasks, 0 restarts, 1 tokens, 0 settings; schema 2"), "{text}");

    let (code, text) = said(&restore(dir.path(), &out));
    assert_eq!(code, Some(0), "{text}");
    let former = names(dir.path()).into_iter().find(|name| name.starts_with("hub.redb.before-restore-")).unwrap();
    assert!(text.contains(&former), "{text}");
    let hub = Hub::start(&dir, &[]);
    assert_eq!(hub.admin("GET", "/api/tasks", Value::Null).await.1["count"], 1);
    hub.kill_9();
    // And back again.
    assert_eq!(said(&restore(dir.path(), &dir.path().join(former))).0, Some(0));
    let hub = Hub::start(&dir, &[]);
    assert_eq!(hub.admin("GET", "/api/tasks", Value::Null).await.1["count"], 2);
}

#[tokio::test]
async fn what_cannot_be_done_is_told_and_changes_nothing() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let out = dir.path().join("copy");
    std::fs::write(&out, "mine").unwrap();
    let refused = |output: &Output, code: i32, words: &str| {
        let (found, text) = said(output);
        assert!(found == Some(code) && text.contains(words), "wanted {code} {words:?}: {found:?} {text}");
    };
    for running in [true, false] {
        refused(&backup(dir.path(), &out, &[]), 78, "--force");
        assert_eq!(std::fs::read_to_string(&out).unwrap(), "mine");
        let store = dir.path().join("hub.redb");
        refused(&backup(dir.path(), &store, &["--force"]), 78, "the hub's own store");
        refused(&backup(dir.path(), dir.path(), &["--force"]), 78, "a folder");
        refused(&backup(dir.path(), &dir.path().join("no/folder"), &[]), 74, "--out");
        refused(&backup(&dir.path().join("nowhere"), &out, &[]), 78, "--data");
        refused(&backup(dir.path(), Path::new("-"), &[]), 2, "--out");
        if running {
            hub.admin("GET", "/api/tasks", Value::Null).await;
        }
    }
    assert_eq!(said(&backup(dir.path(), &out, &["--force"])).0, Some(0));
    let fresh = folder();
    refused(&restore(fresh.path(), &dir.path().join("absent")), 78, "agentcom-hub backup");
    refused(&restore(fresh.path(), dir.path()), 78, "agentcom-hub backup");
    let (text, half) = (dir.path().join("text"), dir.path().join("half"));
    std::fs::write(&text, "no store").unwrap();
    let whole = std::fs::read(&out).unwrap();
    std::fs::write(&half, &whole[..whole.len() / 3]).unwrap();
    refused(&restore(fresh.path(), &text), 65, "holds no store");
    refused(&restore(fresh.path(), &half), 65, "holds no store");
    assert!(names(fresh.path()).is_empty(), "{:?}", names(fresh.path()));
    hub.kill_9();
    refused(&restore(dir.path(), &dir.path().join("hub.redb")), 78, "already");
    // A token made from here on is not in the backup.
    token(dir.path(), "later", false);
    assert_eq!(said(&restore(dir.path(), &out)).0, Some(0));
    let list = hub_command().args(["token", "list", "--data"]).arg(dir.path()).output().unwrap();
    assert!(!String::from_utf8(list.stdout).unwrap().contains("later"));
}
