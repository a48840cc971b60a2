//! The results watcher on real files, written the way sessions write them and the way they should not.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use agentcom::machine::ResultFile;
use agentcom::sidecar::agent::results::outcome::ResultContent;
use agentcom::sidecar::agent::results::{ResultsConfig, ResultsEvent, ResultsWatcher};
use tokio::sync::mpsc;
use tokio::time::timeout;

pub(crate) const BOUND: Duration = Duration::from_secs(30);

/// A timer that never fires within a test: what is seen was noticed.
pub(crate) const NEVER_MS: u64 = 3_600_000;

pub(crate) struct Fixture {
    root: tempfile::TempDir,
    pub(crate) watcher: ResultsWatcher,
    events: mpsc::Receiver<ResultsEvent>,
}

pub(crate) fn fixture(scan_ms: u64, adjust: impl FnOnce(&mut ResultsConfig)) -> Fixture {
    let root = tempfile::tempdir().unwrap();
    let mut config = ResultsConfig::new(root.path().join("deep/results"), scan_ms);
    config.settle_ms = 300;
    adjust(&mut config);
    let (tx, events) = mpsc::channel(16);
    Fixture { watcher: ResultsWatcher::new(config, tx), events, root }
}

impl Fixture {
    pub(crate) fn dir(&self) -> PathBuf {
        self.root.path().join("deep/results")
    }

    pub(crate) fn watch(&self, tasks: &[&str]) {
        self.watcher.watch(tasks.iter().map(|t| (*t).to_owned()).collect());
    }

    /// Cleans up after a task on which no verdict is known.
    pub(crate) fn clean_up(&self, task: &str, result: ResultFile) -> Vec<(PathBuf, std::io::Error)> {
        self.watcher.clean_up(task, result, &|_| false)
    }

    /// Watches and waits until the folder is there.
    pub(crate) async fn watch_made(&self, tasks: &[&str]) {
        self.watch(tasks);
        eventually("the folder is made", || self.dir().is_dir()).await;
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.dir()).unwrap();
        fs::write(self.dir().join(name), text).unwrap();
    }

    pub(crate) async fn next(&mut self) -> ResultsEvent {
        timeout(BOUND, self.events.recv()).await.expect("no event in time").expect("the watcher ended")
    }

    pub(crate) async fn unreadable(&mut self, task: &str) -> String {
        let event = self.next().await;
        let ResultsEvent::Result { task_id, content: ResultContent::Unreadable { error } } = event else {
            panic!("expected an unreadable result, got {event:?}")
        };
        assert_eq!(task_id, task);
        error
    }

    /// What was there when this was called and had not been reported.
    pub(crate) async fn by_now(&mut self) -> Vec<ResultsEvent> {
        self.watcher.look(u32::MAX);
        let mut found = Vec::new();
        loop {
            let event = self.next().await;
            if event == (ResultsEvent::Looked { number: u32::MAX }) {
                return found;
            }
            found.push(event);
        }
    }

    pub(crate) async fn nothing_by_now(&mut self) {
        assert_eq!(self.by_now().await, []);
    }

    /// That a later file is reported first shows that the earlier ones were not reported (again).
    pub(crate) async fn nothing_but(&mut self, task: &str) {
        self.write(&format!("{task}.started"), "");
        assert_eq!(self.next().await, started(task));
    }
}

pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + BOUND;
    while !condition() {
        assert!(Instant::now() < end, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn started(task: &str) -> ResultsEvent {
    ResultsEvent::Started { task_id: task.into() }
}

pub(crate) fn success(task: &str, result: &str) -> ResultsEvent {
    let result = serde_json::from_str(result).unwrap();
    ResultsEvent::Result { task_id: task.into(), content: ResultContent::Success { result } }
}

pub(crate) fn done(task: &str) -> ResultsEvent {
    success(task, DONE)
}

pub(crate) const DONE: &str = r#"{"status":"success"}"#;

#[tokio::test]
async fn files_that_arrive_are_noticed_without_the_timer() {
    let mut f = fixture(NEVER_MS, |_| {});
    f.write("other.started", "");
    f.watch(&["t1", "other"]);
    // The first look is over, and the watch stands before it.
    assert_eq!(f.next().await, started("other"));
    f.write("t1.started", "");
    assert_eq!(f.next().await, started("t1"));
    f.write("t1.json", r#"{"status":"success","output":"ok"}"#);
    assert_eq!(f.next().await, success("t1", r#"{"status":"success","output":"ok"}"#));
}

#[tokio::test]
async fn files_already_there_are_found() {
    let mut f = fixture(NEVER_MS, |_| {});
    f.write("t1.started", "");
    f.write("t1.json", DONE);
    f.watch(&["t1"]);
    assert_eq!(f.next().await, started("t1"));
    assert_eq!(f.next().await, done("t1"));
}

#[tokio::test]
async fn files_of_other_tasks_are_none_of_our_business() {
    let mut f = fixture(50, |_| {});
    f.write("stranger.started", "");
    f.write("stranger.json", DONE);
    f.watch(&["t1"]);
    f.nothing_but("t1").await;
}

#[tokio::test]
async fn two_tasks_at_once_are_both_reported() {
    let mut f = fixture(NEVER_MS, |_| {});
    f.watch_made(&["a", "b"]).await;
    f.write("a.json", DONE);
    f.write("b.json", DONE);
    let mut both = [f.next().await, f.next().await];
    both.sort_by_key(|e| format!("{e:?}"));
    assert_eq!(both, [done("a"), done("b")]);
}

#[tokio::test]
async fn a_slow_writer_is_waited_for() {
    let mut f = fixture(50, |c| c.settle_ms = 10_000);
    f.watch_made(&["t1"]).await;
    let mut file = fs::File::create(f.dir().join("t1.json")).unwrap();
    for piece in [r#"{"status":"#, r#""success","#, r#""output":"a, b"#, r#" and c"}"#] {
        // Every piece is seen on disk before the next one comes.
        f.nothing_by_now().await;
        file.write_all(piece.as_bytes()).unwrap();
        file.sync_all().unwrap();
    }
    drop(file);
    assert_eq!(f.next().await, success("t1", r#"{"status":"success","output":"a, b and c"}"#));
}

#[tokio::test]
async fn a_renamed_file_is_seen() {
    let mut f = fixture(NEVER_MS, |_| {});
    f.watch_made(&["t1"]).await;
    f.write("t1.json.tmp", DONE);
    fs::rename(f.dir().join("t1.json.tmp"), f.dir().join("t1.json")).unwrap();
    assert_eq!(f.next().await, done("t1"));
}

#[tokio::test]
async fn nonsense_is_reported_once_it_has_settled() {
    let mut f = fixture(50, |_| {});
    f.write("t1.json", r#"{"status": succ"#);
    let start = Instant::now();
    f.watch(&["t1"]);
    let error = f.unreadable("t1").await;
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert!(error.contains("t1.json") && error.contains("not JSON"), "{error}");
}

#[tokio::test]
async fn json_that_is_no_object_is_unreadable() {
    let mut f = fixture(50, |_| {});
    f.write("t1.json", "[1,2]");
    f.watch(&["t1"]);
    assert!(f.unreadable("t1").await.contains("not an object"));
}

#[tokio::test]
async fn an_empty_file_is_unreadable() {
    let mut f = fixture(50, |_| {});
    f.write("t1.json", "\n");
    f.watch(&["t1"]);
    assert!(f.unreadable("t1").await.contains("is empty"));
}

#[tokio::test]
async fn a_byte_order_mark_does_not_hurt() {
    let mut f = fixture(50, |_| {});
    f.write("t1.json", &format!("\u{feff}{DONE}"));
    f.watch(&["t1"]);
    assert_eq!(f.next().await, done("t1"));
}

#[tokio::test]
async fn a_result_beyond_the_limit_is_unreadable() {
    let mut f = fixture(50, |c| c.max_bytes = 100);
    f.write("t1.json", &format!(r#"{{"status":"success","output":"{}"}}"#, "x".repeat(200)));
    f.watch(&["t1"]);
    let error = f.unreadable("t1").await;
    assert!(error.contains("more than the 100"), "{error}");
}

#[tokio::test]
async fn a_folder_named_like_a_result_is_unreadable() {
    let mut f = fixture(50, |_| {});
    fs::create_dir_all(f.dir().join("t1.json")).unwrap();
    f.watch(&["t1"]);
    assert!(f.unreadable("t1").await.contains("a folder stands where the file should be"));
}

#[tokio::test]
async fn pipes_named_like_results_hang_nothing() {
    let mut f = fixture(50, |_| {});
    fs::create_dir_all(f.dir()).unwrap();
    for name in ["t1.json", "t1.started"] {
        let made = std::process::Command::new("mkfifo").arg(f.dir().join(name)).status().unwrap();
        assert!(made.success());
    }
    f.watch(&["t1"]);
    assert!(f.unreadable("t1").await.contains("a named pipe stands where the file should be"));
}

#[tokio::test]
async fn a_link_to_a_result_counts_and_a_dangling_one_does_not() {
    let mut f = fixture(50, |_| {});
    f.write("real", DONE);
    std::os::unix::fs::symlink("nowhere", f.dir().join("t1.json")).unwrap();
    std::os::unix::fs::symlink("real", f.dir().join("t2.json")).unwrap();
    f.watch(&["t1", "t2"]);
    assert_eq!(f.next().await, done("t2"));
    f.nothing_but("t1").await;
}

#[tokio::test]
async fn a_folder_that_was_removed_is_made_again_and_watched_without_the_timer() {
    let mut f = fixture(NEVER_MS, |_| {});
    f.write("t0.started", "");
    f.watch(&["t0", "t1", "t2"]);
    assert_eq!(f.next().await, started("t0"));
    fs::remove_dir_all(f.dir()).unwrap();
    eventually("the folder is made again", || f.dir().is_dir()).await;
    // The first may be found by the look that follows the making, the second only by a notice.
    f.nothing_but("t1").await;
    f.nothing_but("t2").await;
}

#[tokio::test]
async fn a_folder_replaced_by_a_session_is_noticed_by_the_timer() {
    let mut f = fixture(100, |_| {});
    f.watch_made(&["t1"]).await;
    fs::rename(f.dir(), f.root.path().join("old")).unwrap();
    f.write("t1.json", DONE);
    assert_eq!(f.next().await, done("t1"));
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_tried_again() {
    let mut f = fixture(100, |_| {});
    fs::write(f.root.path().join("deep"), "a file in the way").unwrap();
    f.watch(&["t1"]);
    f.nothing_by_now().await;
    fs::remove_file(f.root.path().join("deep")).unwrap();
    eventually("the folder is made", || f.dir().is_dir()).await;
    f.nothing_but("t1").await;
}

#[tokio::test]
async fn a_look_reports_what_nobody_noticed_before_it_is_answered() {
    let root = tempfile::tempdir().unwrap();
    // A channel with room for one: whatever is found waits for it to be taken.
    let (tx, mut events) = mpsc::channel(1);
    tx.send(started("filler")).await.unwrap();
    let watcher = ResultsWatcher::new(ResultsConfig::new(root.path(), NEVER_MS), tx);
    watcher.watch(vec!["t1".into()]);
    fs::write(root.path().join("t1.started"), "").unwrap();
    fs::write(root.path().join("t1.json"), DONE).unwrap();
    watcher.look(7);
    let mut next = async || timeout(BOUND, events.recv()).await.unwrap().unwrap();
    let looked = ResultsEvent::Looked { number: 7 };
    assert_eq!(
        [next().await, next().await, next().await, next().await],
        [started("filler"), started("t1"), done("t1"), looked]
    );
    watcher.look(8);
    assert_eq!(next().await, ResultsEvent::Looked { number: 8 }, "what was reported is not reported again");
}

#[tokio::test]
async fn a_look_is_answered_while_nothing_is_watched() {
    let mut f = fixture(NEVER_MS, |_| {});
    f.watcher.look(1);
    assert_eq!(f.next().await, ResultsEvent::Looked { number: 1 });
}

#[tokio::test]
async fn between_patrols_and_looks_each_finding_comes_exactly_once() {
    let mut f = fixture(20, |_| {});
    let tasks: Vec<String> = (0..50).map(|n| format!("t{n}")).collect();
    f.watcher.watch(tasks.clone());
    let mut seen = Vec::new();
    for task in &tasks {
        f.write(&format!("{task}.json"), DONE);
        f.watcher.look(0);
        while let Ok(event) = f.events.try_recv() {
            seen.push(event);
        }
    }
    while seen.iter().filter(|event| **event != ResultsEvent::Looked { number: 0 }).count() < tasks.len() {
        seen.push(f.next().await);
    }
    seen.extend(f.by_now().await);
    seen.retain(|event| *event != ResultsEvent::Looked { number: 0 });
    seen.sort_by_key(|e| format!("{e:?}"));
    let mut expected: Vec<_> = tasks.iter().map(|t| done(t)).collect();
    expected.sort_by_key(|e| format!("{e:?}"));
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_task_that_stays_watched_is_not_reported_again() {
    let mut f = fixture(50, |_| {});
    f.write("t1.started", "");
    f.watch(&["t1"]);
    assert_eq!(f.next().await, started("t1"));
    f.watch(&["t1", "t2"]);
    f.nothing_but("t2").await;
}

#[tokio::test]
async fn a_task_that_comes_back_begins_anew() {
    let mut f = fixture(50, |_| {});
    f.write("t1.started", "");
    f.watch(&["t1"]);
    assert_eq!(f.next().await, started("t1"));
    f.watch(&[]);
    f.watch(&["t1"]);
    assert_eq!(f.next().await, started("t1"));
}

#[tokio::test]
async fn a_started_that_was_cleaned_up_counts_anew_when_it_comes_again() {
    let mut f = fixture(50, |_| {});
    f.write("t1.started", "");
    f.watch(&["t1"]);
    assert_eq!(f.next().await, started("t1"));
    assert!(f.clean_up("t1", ResultFile::Read).is_empty());
    assert!(!f.dir().join("t1.started").exists());
    f.nothing_but("t1").await;
}

#[tokio::test]
async fn cleaning_up_removes_both_files_and_only_those() {
    let mut f = fixture(NEVER_MS, |_| {});
    for name in ["t1.started", "t1.json", "t2.json"] {
        f.write(name, DONE);
    }
    f.watch(&["t1"]);
    assert_eq!(f.by_now().await, [started("t1"), done("t1")]);
    assert!(f.clean_up("t1", ResultFile::Read).is_empty());
    let left: Vec<_> = fs::read_dir(f.dir()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["t2.json"]);
}

#[tokio::test]
async fn a_sign_is_dropped_alone_and_a_later_one_is_new() {
    let mut f = fixture(NEVER_MS, |_| {});
    f.write("t1.started", "");
    f.write("t1.json", "{}");
    assert!(f.watcher.remove_started("t1").unwrap());
    assert!(!f.watcher.remove_started("t1").unwrap(), "nothing is left of it");
    let left: Vec<_> = fs::read_dir(f.dir()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["t1.json"]);
    f.watch(&["t2"]);
    f.write("t2.started", "");
    assert_eq!(f.next().await, started("t2"));
    assert!(f.watcher.remove_started("t2").unwrap());
    f.write("t2.started", "");
    assert_eq!(f.next().await, started("t2"));
}

#[tokio::test]
async fn what_cannot_be_removed_is_named() {
    let f = fixture(NEVER_MS, |_| {});
    fs::create_dir_all(f.dir().join("t1.json")).unwrap();
    let left = f.clean_up("t1", ResultFile::Read);
    assert_eq!(left.iter().map(|(path, _)| path.as_path()).collect::<Vec<&Path>>(), [f.dir().join("t1.json")]);
}

#[tokio::test]
async fn a_name_that_leaves_the_folder_is_refused() {
    let mut f = fixture(50, |_| {});
    fs::create_dir_all(f.dir()).unwrap();
    fs::write(f.root.path().join("deep/secret.json"), DONE).unwrap();
    f.watch(&["../secret", "t1"]);
    f.nothing_but("t1").await;
    assert_eq!(f.clean_up("../secret", ResultFile::Read).len(), 2);
    assert!(f.root.path().join("deep/secret.json").exists());
}
