use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Mutex;

use super::*;

const BOUND: Duration = Duration::from_secs(20);

/// Runs `f` with a log whose stdout is `out`, then flushes.
fn logged(config: LogConfig, out: Box<dyn Write + Send>, f: impl FnOnce()) {
    let (subscriber, _level, guard) = subscriber(config, Style::Json, out);
    tracing::subscriber::with_default(subscriber, f);
    drop(guard);
}

/// What came out of stdout.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    fn out(&self) -> Box<dyn Write + Send> {
        Box::new(self.clone())
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    fn lines(&self) -> Vec<serde_json::Value> {
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn wait_for(what: &str, mut seen: impl FnMut() -> bool) {
    let give_up = Instant::now() + BOUND;
    while !seen() {
        assert!(Instant::now() < give_up, "waited {BOUND:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn lines_in(path: &Path) -> usize {
    fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

#[test]
fn an_event_is_one_json_line_with_its_fields() {
    let out = Captured::default();
    logged(LogConfig::default(), out.out(), || tracing::info!(phase = "Idle", event = "HubOpened", "hello"));
    let lines = out.lines();
    assert_eq!(lines.len(), 1);
    assert_eq!(
        (&lines[0]["message"], &lines[0]["phase"], &lines[0]["level"]),
        (&"hello".into(), &"Idle".into(), &"INFO".into())
    );
    assert!(lines[0]["timestamp"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn the_level_decides_and_other_crates_only_warn() {
    let out = Captured::default();
    logged(LogConfig { level: LogLevel::Debug, ..LogConfig::default() }, out.out(), || {
        tracing::trace!("no");
        tracing::debug!("yes");
        tracing::info!(target: "tungstenite", "no");
        tracing::warn!(target: "tungstenite", "yes");
        tracing::debug!(target: "agentcom_sidecar", "yes");
    });
    assert_eq!(out.lines().iter().map(|line| line["message"].as_str().unwrap()).collect::<Vec<_>>(), ["yes"; 3]);
}

#[test]
fn secrets_are_blotted_out_however_they_are_escaped() {
    let out = Captured::default();
    let secrets = vec![Secret::new("tok\"en-1"), Secret::new("plain-secret")];
    logged(LogConfig { secrets, ..LogConfig::default() }, out.out(), || {
        tracing::info!(frame = r#"{"token":"tok\"en-1"}"#, raw = "tok\"en-1", debug = ?"tok\"en-1", "plain-secret");
    });
    let text = out.text();
    assert!(!text.contains("en-1") && !text.contains("plain-secret"), "{text}");
    assert!(text.contains(crate::common::secret::REDACTED));
    assert_eq!(out.lines().len(), 1);
}

#[test]
fn a_reader_that_sleeps_costs_lines_not_time_and_the_count_is_told() {
    let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let (subscriber, _level, guard) = subscriber(LogConfig::default(), Style::Json, Box::new(ours));
    let begun = Instant::now();
    const MANY: u64 = 20_000;
    tracing::subscriber::with_default(subscriber, || {
        (0..MANY).for_each(|number| tracing::info!(number, filler = "x".repeat(200), "line"));
    });
    assert!(begun.elapsed() < BOUND);
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        theirs.read_to_string(&mut text).unwrap();
        text
    });
    let queue = Arc::clone(&guard.queues[0]);
    drop(guard);
    queue.wait_until_done(Instant::now() + BOUND);
    let text = reader.join().unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let dropped: u64 = lines.iter().filter_map(|line| line["dropped"].as_u64()).sum();
    let kept = lines.iter().filter(|line| line["message"] == "line").count() as u64;
    assert!(dropped > 0);
    assert_eq!(kept + dropped, MANY);
}

#[test]
fn a_reader_that_never_reads_does_not_hold_up_the_end() {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let begun = Instant::now();
    logged(LogConfig::default(), Box::new(ours), || {
        (0..5_000).for_each(|number| tracing::info!(number, filler = "x".repeat(200), "line"));
    });
    assert!(begun.elapsed() < BOUND);
    drop(theirs);
}

#[test]
fn a_reader_that_is_gone_ends_stdout_and_not_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sidecar.log");
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    drop(theirs);
    logged(LogConfig { file: Some(path.clone()), ..LogConfig::default() }, Box::new(ours), || {
        (0..100).for_each(|number| tracing::info!(number, "line"));
    });
    wait_for("the file", || lines_in(&path) == 100);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_costs_the_file_and_stdout_says_so() {
    let out = Captured::default();
    let config = LogConfig { file: Some("/dev/full".into()), ..LogConfig::default() };
    let (subscriber, _level, guard) = subscriber(config, Style::Json, out.out());
    tracing::subscriber::with_default(subscriber, || {
        (0..50).for_each(|number| tracing::info!(number, "line"));
    });
    wait_for("the complaint", || out.text().contains("the log file cannot be written"));
    drop(guard);
    let lines = out.lines();
    assert_eq!(lines.iter().filter(|line| line["message"] == "line").count(), 50);
    assert_eq!(lines.len(), 51);
}

#[test]
fn a_file_that_comes_back_says_what_it_missed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in-the-way/sidecar.log");
    fs::write(folder.path().join("in-the-way"), "").unwrap();
    let out = Captured::default();
    let config = LogConfig { file: Some(path.clone()), ..LogConfig::default() };
    let (subscriber, _level, _guard) = subscriber(config, Style::Json, out.out());
    tracing::subscriber::with_default(subscriber, || {
        tracing::info!("lost");
        wait_for("the complaint", || out.text().contains("the log file cannot be written"));
        fs::remove_file(folder.path().join("in-the-way")).unwrap();
        wait_for("the file", || {
            tracing::info!("again");
            lines_in(&path) > 1
        });
    });
    let first = fs::read_to_string(&path).unwrap().lines().next().unwrap().to_owned();
    assert!(serde_json::from_str::<serde_json::Value>(&first).unwrap()["dropped"].as_u64().unwrap() >= 1);
}

/// Runs `f` with a log for people.
fn told(colour: bool, f: impl FnOnce()) -> String {
    let out = Captured::default();
    let config = LogConfig { secrets: vec![Secret::new("tok-secret")], ..LogConfig::default() };
    let (subscriber, _level, guard) = subscriber(config, Style::Text { colour }, out.out());
    tracing::subscriber::with_default(subscriber, f);
    drop(guard);
    out.text()
}

/// Without the time at its beginning.
fn after_the_time(line: &str) -> &str {
    let (time, rest) = line.split_once(' ').unwrap();
    assert!(time.len() == 13 && time.ends_with('Z') && time.as_bytes()[2] == b':', "{line}");
    rest
}

#[test]
fn a_person_reads_time_level_message_and_fields() {
    let text = told(false, || tracing::warn!(task = "t1", why = "too late", count = 3, "the hub is away"));
    assert_eq!(after_the_time(&text), "WARN  the hub is away  task=t1 why=\"too late\" count=3\n");
}

#[test]
fn colours_are_only_there_when_asked_for() {
    assert!(told(true, || tracing::error!("bad")).contains("\u{1b}[31mERROR\u{1b}[0m"));
    assert!(!told(false, || tracing::error!("bad")).contains('\u{1b}'));
}

#[test]
fn what_others_wrote_can_neither_steer_the_terminal_nor_forge_a_line() {
    let text =
        told(false, || tracing::info!(reason = "x\u{1b}[2J\n12:00:00.000Z ERROR all is lost", "tok-secret\rsaid"));
    assert_eq!(text.lines().count(), 1);
    assert!(!text.contains('\u{1b}') && !text.contains('\r') && !text.contains("tok-secret"), "{text:?}");
}

#[test]
fn the_file_stays_json_beside_text_on_stdout() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sidecar.log");
    let out = Captured::default();
    let config = LogConfig { file: Some(path.clone()), ..LogConfig::default() };
    let (subscriber, _level, guard) = subscriber(config, Style::Text { colour: false }, out.out());
    tracing::subscriber::with_default(subscriber, || tracing::info!("hello"));
    drop(guard);
    wait_for("the file", || lines_in(&path) == 1);
    let line: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(line["message"], "hello");
    assert_eq!(after_the_time(&out.text()), "INFO  hello\n");
}

#[test]
fn the_level_can_change_while_it_runs() {
    let out = Captured::default();
    let (subscriber, level, guard) = subscriber(LogConfig::default(), Style::Json, out.out());
    tracing::subscriber::with_default(subscriber, || {
        tracing::debug!("no");
        level.reload(targets(LogLevel::Debug)).unwrap();
        tracing::debug!("yes");
        level.reload(targets(LogLevel::Error)).unwrap();
        tracing::warn!("no");
    });
    drop(guard);
    assert_eq!(out.lines().iter().map(|line| line["message"].as_str().unwrap()).collect::<Vec<_>>(), ["yes"]);
}
