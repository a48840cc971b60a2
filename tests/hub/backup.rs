//! Backups: of a hub that works, over HTTP; where none runs, by `agentcom-hub backup`; and `restore`, with what they refuse.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Instant;

use serde_json::{Value, json};

use crate::backups::{ask, fetch};
use crate::disks::Disk;
use crate::support::{Hub, PATIENCE, folder, hub_command, token};

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

/// Submits tasks until a backup is larger than what the kernel takes for a peer that reads nothing.
async fn fill(hub: &Hub) {
    let large = json!({"description": "d", "metadata": {"padding": "x".repeat(500_000)}});
    for _ in 0..40 {
        hub.submit(large.clone()).await;
    }
}

/// The files without a name that the hub has open in its data folder.
fn nameless_files(hub: &Hub, dir: &tempfile::TempDir) -> Vec<String> {
    let open = std::fs::read_dir(format!("/proc/{}/fd", hub.pid())).unwrap();
    let targets = open.filter_map(|file| std::fs::read_link(file.unwrap().path()).ok());
    let nameless = targets.filter(|it| it.starts_with(dir.path()) && it.to_string_lossy().ends_with(" (deleted)"));
    nameless.map(|it| it.to_string_lossy().into_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_hub_that_works_is_restored_whole() {
    let (dir, other) = (folder(), folder());
    let hub = Hub::start(&dir, &[]);
    let agent = hub.register("a").await;
    let task_id = hub.submit(json!({"description": "before"})).await;
    let (_, invited) = hub.admin("POST", "/api/v1/invitations", json!({})).await;
    let out = other.path().join("copy.redb");
    // While others submit, so that commits go on beside it.
    let submitting = async {
        for _ in 0..50 {
            hub.submit(json!({"description": "meanwhile"})).await;
        }
    };
    let (address, admin, out_path) = (hub.address.clone(), hub.admin.clone(), out.clone());
    let making = tokio::task::spawn_blocking(move || fetch(address, &admin, &out_path));
    let ((), held) = tokio::join!(submitting, making);
    let held = held.unwrap();
    let count = |table: &str| held.records.iter().find(|(name, _)| name == table).unwrap().1;
    assert_eq!((held.schema, count("tokens"), count("invitations")), (3, 2, 1), "{held:?}");
    let tasks = count("tasks");
    assert!((1..=51).contains(&tasks) && count("audit") >= 3, "{held:?}");
    assert_eq!(names(other.path()), ["copy.redb"], "nothing is left over");
    let mode = PermissionsExt::mode(&std::fs::metadata(&out).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    // Who has got everything is in the audit.
    let (_, audit) = hub.admin("GET", "/api/v1/audit?action=backup_made", Value::Null).await;
    let entry = &audit["items"][0];
    assert_eq!((&entry["who"], &entry["target"], &audit["items"][1]), (&json!("ops"), &json!("store"), &Value::Null));
    assert!(
        entry["new"].as_str().unwrap().starts_with(&format!("schema 3, {} bytes, SHA-256 ", held.bytes)),
        "{entry}"
    );
    hub.kill_9();

    let fresh = folder();
    let (code, text) = said(&restore(fresh.path(), &out));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains(&format!("{tasks} tasks")) && text.contains("start the hub"), "{text}");
    let hub = Hub::start(&fresh, &[]);
    assert_eq!(hub.task(&task_id).await["description"], "before");
    let (_, listed) = hub.request("GET", "/api/tasks", Some(&agent), Value::Null).await;
    assert_eq!(listed["count"], json!(tasks), "a's token is valid too");
    let (_, invitations) = hub.admin("GET", "/api/v1/invitations", Value::Null).await;
    assert_eq!(invitations["items"][0]["id"], invited["id"], "{invitations}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_backup_at_a_time_is_handed_over_and_it_ends_with_its_reader_or_its_token() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    fill(&hub).await;
    let first = ask(&hub.address, "GET", &hub.admin);
    assert_eq!(first.status, 200);
    assert!(first.told().bytes > 15_000_000, "{:?}", first.told());
    assert_eq!(first.header("content-type"), Some("application/octet-stream"));
    let name = first.header("content-disposition").unwrap();
    assert!(name.starts_with("attachment; filename=\"agentcom-hub-2") && name.ends_with(".redb\""), "{name}");
    let mut second = ask(&hub.address, "GET", &hub.admin);
    assert_eq!((second.status, second.header("retry-after")), (503, Some("10")));
    let mut problem = String::new();
    second.body.read_to_string(&mut problem).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&problem).unwrap()["code"], "backup_in_progress");
    // Nobody would get the copy.
    assert_eq!(ask(&hub.address, "HEAD", &hub.admin).status, 405);

    drop(first);
    let other = token(dir.path(), "other", true);
    let begun = Instant::now();
    let mut third = loop {
        let third = ask(&hub.address, "GET", &other);
        if third.status == 200 {
            break third;
        }
        assert!(begun.elapsed() < PATIENCE, "never another");
    };
    assert_eq!(hub.admin("DELETE", "/api/admin/tokens/other", Value::Null).await.0, 200);
    let mut rest = Vec::new();
    let _broken_off = third.body.read_to_end(&mut rest);
    assert!((rest.len() as u64) < third.told().bytes, "{}", rest.len());
    drop(third);
    let begun = Instant::now();
    while !nameless_files(&hub, &dir).is_empty() {
        assert!(begun.elapsed() < PATIENCE, "a copy stays on the disk: {:?}", nameless_files(&hub, &dir));
    }
    assert_eq!(names(dir.path()), ["hub.redb", "hub.redb.made", "hub.sock"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_room_is_507_and_costs_the_hub_nothing() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    fill(&hub).await;
    let limit = |bytes: &str| {
        let pid = hub.pid().to_string();
        let set = Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={bytes}")]).status();
        assert!(set.unwrap().success());
    };
    limit("1000000:unlimited");
    let mut refused = ask(&hub.address, "GET", &hub.admin);
    limit("unlimited:unlimited");
    let mut problem = String::new();
    refused.body.read_to_string(&mut problem).unwrap();
    assert_eq!(refused.status, 507, "{problem}");
    let problem: Value = serde_json::from_str(&problem).unwrap();
    assert!(problem["code"] == "disk_full" && problem["detail"].as_str().unwrap().contains("free some"), "{problem}");
    assert_eq!(
        (nameless_files(&hub, &dir), names(dir.path())),
        (Vec::new(), ["hub.redb", "hub.redb.made", "hub.sock"].map(str::to_owned).to_vec())
    );
    let (_, audit) = hub.admin("GET", "/api/v1/audit?action=backup_made", Value::Null).await;
    assert_eq!(audit["items"], json!([]), "none was made");
    hub.submit(json!({"description": "d"})).await;
    fetch(&hub.address, &hub.admin, &dir.path().join("copy"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_would_not_leave_enough_room_is_not_begun() {
    let disk = Disk::of("16m");
    let dir = tempfile::tempdir_in(disk.path()).unwrap();
    let hub = Hub::start(&dir, &[]);
    let mut refused = ask(&hub.address, "GET", &hub.admin);
    let mut problem = String::new();
    refused.body.read_to_string(&mut problem).unwrap();
    assert!(refused.status == 507 && problem.contains(" bytes are free, "), "{problem}");
    hub.submit(json!({"description": "d"})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_where_no_hub_runs_is_the_same_and_the_former_store_is_kept() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    hub.submit(json!({"description": "before"})).await;
    let out = dir.path().join("copy");
    fetch(&hub.address, &hub.admin, &out);
    let running = said(&restore(dir.path(), &out));
    assert!(running.0 == Some(75) && running.1.contains("in use by a hub"), "{running:?}");
    hub.submit(json!({"description": "after"})).await;
    hub.kill_9();
    let stopped = dir.path().join("stopped");
    let (code, text) = said(&backup(dir.path(), &stopped, &[]));
    let records = "2 tasks, 0 restarts, 0 rollouts, 0 rollout_targets, 0 agents, 1 tokens, 0 invitations, 0 settings, 1 answers, 0 healing, 2 audit; schema 3";
    assert!(code == Some(0) && text.contains(&format!("holds {records}")), "{text}");
    let (code, text) = said(&backup(dir.path(), &dir.path().join("again"), &["--json"]));
    let held: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &held["records"]["tasks"], &held["schema"]), (Some(0), &json!(2), &json!(3)), "{held}");

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

#[tokio::test(flavor = "multi_thread")]
async fn the_command_saves_what_a_running_hub_hands_over_from_anywhere() {
    let (dir, other) = (folder(), folder());
    let hub = Hub::start(&dir, &[]);
    fill(&hub).await;
    let out = other.path().join("copy");
    let (code, text) = said(&backup(dir.path(), &out, &[]));
    assert!(code == Some(0) && text.contains("holds 40 tasks"), "{text}");
    let remote = |token: &str, more: &[&str]| {
        let file = other.path().join("token");
        std::fs::write(&file, token).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
        let mut command = hub_command();
        command.args(["backup", "--hub", &format!("http://{}", hub.address), "--token-file"]).arg(file);
        said(&command.arg("--out").arg(&out).args(more).output().unwrap())
    };
    let (code, text) = remote(&hub.admin, &["--force", "--json"]);
    let held: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!((code, &held["records"]["tasks"]), (Some(0), &json!(40)), "{text}");
    let (code, text) = remote(&hub.register("a").await, &["--force"]);
    assert!(code == Some(77) && text.contains("admin"), "{code:?} {text}");
    assert_eq!(names(other.path()), ["copy", "token"], "nothing is left over");
}

#[tokio::test]
async fn what_cannot_be_done_is_told_and_changes_nothing() {
    let dir = folder();
    let mut hub = Hub::start(&dir, &[]);
    let out = dir.path().join("copy");
    std::fs::write(&out, "mine").unwrap();
    let refused = |output: &Output, code: i32, words: &str| {
        let (found, text) = said(output);
        assert!(found == Some(code) && text.contains(words), "wanted {code} {words:?}: {found:?} {text}");
    };
    let store = dir.path().join("hub.redb");
    // By a hub that runs, and where none does.
    for stop in [false, true] {
        if stop {
            hub.signal("KILL");
        }
        refused(&backup(dir.path(), &out, &[]), 78, "--force");
        refused(&backup(dir.path(), &store, &["--force"]), 78, "the store of a hub");
        assert_eq!(std::fs::read_to_string(&out).unwrap(), "mine");
    }
    refused(&backup(dir.path(), dir.path(), &["--force"]), 78, "a folder");
    refused(&backup(dir.path(), &dir.path().join("no/folder"), &[]), 74, "--out");
    refused(&backup(&dir.path().join("nowhere"), &out, &[]), 78, "--data");
    refused(&backup(dir.path(), Path::new("-"), &[]), 2, "--out");
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
    refused(&restore(dir.path(), &store), 78, "already");
    // A token made from here on is not in the backup.
    token(dir.path(), "later", false);
    assert_eq!(said(&restore(dir.path(), &out)).0, Some(0));
    let list = hub_command().args(["token", "list", "--data"]).arg(dir.path()).output().unwrap();
    assert!(!String::from_utf8(list.stdout).unwrap().contains("later"));
}
