//! Results that are not taken, or not yet: those that may not be read, are replaced while they are looked at, or come when
//! nobody waits for them. None of them is lost.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::fs::{self, Permissions};
use std::future::Future;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use agentcom::machine::ResultFile;
use agentcom::sidecar::agent::results::ResultsEvent;
use agentcom::sidecar::agent::results::outcome::ResultContent;
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use crate::results::{DONE, Fixture, NEVER_MS, done, fixture};

/// Runs a test on a thread (and threads that it starts) that obeys the permissions of files, also where the tests run as
/// root.
fn under_permissions(test: impl Future<Output = ()> + Send + 'static) {
    let thread = std::thread::spawn(move || {
        let mut mine = capabilities(None).unwrap();
        mine.effective -= CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
        set_capabilities(None, mine).unwrap();
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
    });
    thread.join().unwrap();
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A result in the folder that nobody may read.
fn locked(f: &Fixture, task: &str) -> PathBuf {
    f.write(&format!("{task}.part"), DONE);
    let part = f.dir().join(format!("{task}.part"));
    chmod(&part, 0);
    let path = f.dir().join(format!("{task}.json"));
    fs::rename(part, &path).unwrap();
    path
}

fn kept(f: &Fixture) -> Vec<String> {
    let Ok(entries) = fs::read_dir(f.dir().join("rejected")) else { return Vec::new() };
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_result_that_becomes_readable_in_time_is_taken_at_once_and_without_the_timer() {
    under_permissions(async {
        let mut f = fixture(NEVER_MS, |_| {});
        f.watch_made(&["t1"]).await;
        let path = locked(&f, "t1");
        f.nothing_by_now().await;
        chmod(&path, 0o600);
        assert_eq!(f.next().await, done("t1"));
        assert!(f.clean_up("t1", ResultFile::Read).is_empty());
        assert!(!path.exists() && kept(&f).is_empty());
    });
}

#[test]
fn a_result_that_stays_locked_is_unreadable_after_its_time_and_is_kept() {
    under_permissions(async {
        let mut f = fixture(50, |c| c.permission_ms = 600);
        f.watch_made(&["t1"]).await;
        let path = locked(&f, "t1");
        let error = f.unreadable("t1").await;
        assert!(error.contains("rejected/t1.json") && error.contains("Permission denied"), "{error}");
        assert!(f.clean_up("t1", ResultFile::Read).is_empty());
        assert!(!path.exists());
        let there = f.dir().join("rejected/t1.json");
        chmod(&there, 0o600);
        assert_eq!(fs::read_to_string(there).unwrap(), DONE);
    });
}

#[test]
fn the_time_for_what_is_locked_is_longer_than_that_for_what_is_no_result() {
    under_permissions(async {
        let mut f = fixture(20, |c| (c.settle_ms, c.permission_ms) = (100, 3_600_000));
        f.watch_made(&["t1", "t2"]).await;
        locked(&f, "t1");
        f.write("t2.json", "[");
        f.unreadable("t2").await;
        f.nothing_by_now().await;
    });
}

#[test]
fn a_result_that_becomes_readable_after_it_was_judged_is_still_there() {
    under_permissions(async {
        let mut f = fixture(20, |c| c.permission_ms = 100);
        f.watch_made(&["t1"]).await;
        locked(&f, "t1");
        f.unreadable("t1").await;
        // The session gives up on the first one and puts another in its place.
        f.write("t1.part", r#"{"status":"success","n":2}"#);
        fs::rename(f.dir().join("t1.part"), f.dir().join("t1.json")).unwrap();
        assert!(f.clean_up("t1", ResultFile::Read).is_empty());
        assert_eq!(kept(&f).len(), 2, "{:?}", kept(&f));
    });
}

#[tokio::test]
async fn a_result_that_is_replaced_again_and_again_while_it_is_looked_at_is_taken_whole() {
    let mut f = fixture(1, |c| c.settle_ms = 0);
    f.watch_made(&["t1"]).await;
    let dir = f.dir();
    let writer = tokio::task::spawn_blocking(move || {
        for _ in 0..500 {
            fs::remove_file(dir.join("t1.json")).ok();
            fs::write(dir.join("t1.part"), DONE).unwrap();
            fs::rename(dir.join("t1.part"), dir.join("t1.json")).unwrap();
        }
    });
    assert_eq!(f.next().await, done("t1"));
    writer.await.unwrap();
}

#[tokio::test]
async fn a_result_that_was_written_to_since_it_was_read_is_kept() {
    let mut f = fixture(NEVER_MS, |_| {});
    f.watch_made(&["t1"]).await;
    f.write("t1.json", DONE);
    assert_eq!(f.next().await, done("t1"));
    f.write("t1.json", r#"{"status":"success","output":"more"}"#);
    assert!(f.clean_up("t1", ResultFile::Read).is_empty());
    assert_eq!(kept(&f), ["t1.json"]);
    assert!(!f.dir().join("t1.json").exists());
}

#[tokio::test]
async fn a_result_that_nobody_read_is_kept_unless_its_task_was_cancelled() {
    let f = fixture(NEVER_MS, |_| {});
    for (task, result) in [("unread", ResultFile::Unread), ("cancelled", ResultFile::OfCancelledTask)] {
        f.write(&format!("{task}.json"), DONE);
        f.write(&format!("{task}.started"), "");
        assert!(f.clean_up(task, result).is_empty());
        assert!(!f.dir().join(format!("{task}.json")).exists());
        assert!(!f.dir().join(format!("{task}.started")).exists());
    }
    assert_eq!(kept(&f), ["unread.json"]);
}

#[tokio::test]
async fn after_a_crash_only_what_the_verdict_is_made_of_goes() {
    let f = fixture(NEVER_MS, |_| {});
    let verdict = ResultContent::Success { result: serde_json::from_str(DONE).unwrap() };
    let other = r#"{"status":"success","output":"another"}"#;
    for (task, content) in [("read", DONE), ("half", r#"{"status":"#), ("empty", ""), ("other", other)] {
        f.write(&format!("{task}.json"), content);
        assert!(f.watcher.clean_up(task, ResultFile::Read, &|found| found == verdict).is_empty());
        assert!(!f.dir().join(format!("{task}.json")).exists());
    }
    assert_eq!(kept(&f), ["empty.json", "half.json", "other.json"]);
}

#[tokio::test]
async fn what_a_killed_process_had_taken_and_put_nowhere_is_found() {
    let f = fixture(NEVER_MS, |_| {});
    f.write(".t1.json.taken", r#"{"n":1}"#);
    f.write("t1.json", r#"{"n":2}"#);
    assert!(f.clean_up("t1", ResultFile::Read).is_empty());
    assert_eq!(kept(&f), ["t1.2.json", "t1.json"]);
    assert_eq!(fs::read_dir(f.dir()).unwrap().count(), 1);
}

#[tokio::test]
async fn where_the_folder_is_unusable_another_takes_it() {
    let mut f = fixture(20, |c| (c.settle_ms, c.fallback) = (50, Some(c.dir.with_file_name("queue.rejected"))));
    f.watch_made(&["t1"]).await;
    f.write("rejected", "in the way");
    f.write("t1.json", "[");
    let there = f.dir().with_file_name("queue.rejected").join("t1.json");
    let error = f.unreadable("t1").await;
    assert!(error.contains(there.to_str().unwrap()), "{error}");
    assert!(f.clean_up("t1", ResultFile::Read).is_empty());
    assert_eq!((fs::read_to_string(there).unwrap().as_str(), f.dir().join("t1.json").exists()), ("[", false));
}

#[tokio::test]
async fn a_result_that_was_judged_and_stays_is_not_judged_again_for_its_task() {
    let mut f = fixture(20, |c| c.settle_ms = 50);
    f.watch_made(&["t1"]).await;
    f.write("rejected", "in the way");
    f.write("t1.json", "[");
    f.unreadable("t1").await;
    f.watch(&[]);
    assert_eq!(f.clean_up("t1", ResultFile::Read).len(), 1);
    f.watch(&["t1"]);
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    f.nothing_by_now().await;
    // The next session's own.
    f.write("t1.json", DONE);
    assert_eq!(f.next().await, done("t1"));
    assert!(f.clean_up("t1", ResultFile::Read).is_empty());
    assert!(!f.dir().join("t1.json").exists());
}

#[tokio::test]
async fn what_is_written_to_an_empty_result_after_it_was_judged_is_kept() {
    let mut f = fixture(20, |c| c.settle_ms = 50);
    f.watch_made(&["t1"]).await;
    let mut session = fs::File::create(f.dir().join("t1.json")).unwrap();
    let error = f.unreadable("t1").await;
    assert!(error.contains("is empty") && error.contains("rejected/t1.json"), "{error}");
    assert!(f.clean_up("t1", ResultFile::Read).is_empty());
    std::io::Write::write_all(&mut session, DONE.as_bytes()).unwrap();
    assert_eq!(fs::read_to_string(f.dir().join("rejected/t1.json")).unwrap(), DONE);
}

#[tokio::test]
async fn a_result_that_can_be_kept_nowhere_stays_where_it_is() {
    let mut f = fixture(20, |c| c.settle_ms = 50);
    f.watch_made(&["t1"]).await;
    f.write("rejected", "in the way");
    f.write("t1.json", "[");
    f.unreadable("t1").await;
    let left = f.clean_up("t1", ResultFile::Read);
    assert_eq!(left.len(), 1);
    assert_eq!(fs::read_to_string(f.dir().join("t1.json")).unwrap(), "[");
    fs::remove_file(f.dir().join("rejected")).unwrap();
    f.clean_up("t1", ResultFile::Unread);
    assert_eq!(kept(&f), ["t1.json"]);
}

#[tokio::test]
async fn a_result_that_is_too_large_or_too_deep_is_kept_and_named() {
    let deep = format!("{{\"d\":{}{}}}", "[".repeat(80), "]".repeat(80));
    for content in [deep, format!("{{\"output\":\"{}\"}}", "x".repeat(300))] {
        let mut f = fixture(20, |c| (c.max_bytes, c.settle_ms) = (250, 50));
        f.watch_made(&["t1"]).await;
        f.write("t1.json", &content);
        let told = match f.next().await {
            ResultsEvent::Result { content: ResultContent::Failure { reason }, .. } => reason,
            ResultsEvent::Result { content: ResultContent::Unreadable { error }, .. } => error,
            other @ (ResultsEvent::Result { content: ResultContent::Success { .. }, .. }
            | ResultsEvent::Started { .. }
            | ResultsEvent::Looked { .. }) => panic!("no hub would take it: {other:?}"),
        };
        assert!(told.contains("rejected/t1.json"), "{told}");
        assert!(f.clean_up("t1", ResultFile::Read).is_empty());
        assert_eq!(fs::read_to_string(f.dir().join("rejected/t1.json")).unwrap(), content);
    }
}
