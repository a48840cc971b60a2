//! Appends to the history in the background, so that a disk that is full, slow or hung costs lines of it and nothing else.
//! It decides nothing about what is kept.

use std::path::Path;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::common::fs::rotating_file::RotatingFile;
use crate::common::logging::Redactor;
use crate::common::wall_clock::now_ms;
use crate::machine::Timestamp;
use crate::sidecar::clock::Clock;
use crate::sidecar::history::{Entry, HistoryEvent, LIMITS, path_of};
use crate::sidecar::oom_counter::OomCounter;
use crate::sidecar::supervisor::pm2::machine_uptime_ms;

/// The most lines that wait for the disk.
const MAX_QUEUED: usize = 256;
/// How long the end of a run waits for its last lines.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(150);
/// How many bytes of lines the run's first line is said again after: the next run reads the end of the file only.
const REPEAT_AFTER: usize = 1 << 13;
/// How often the kernel's count of processes that it killed for memory is read.
const OOM_INTERVAL: Duration = Duration::from_secs(10);

/// The history of a running sidecar.
#[derive(Debug)]
pub(crate) struct HistoryWriter {
    boot_id: String,
    redactor: Redactor,
    writer: Option<Writer>,
    /// The number of lines since the last one that found room in the queue.
    dropped: u64,
    /// The run's first line.
    start: Option<HistoryEvent>,
    /// The number of bytes since it was said.
    since_start: usize,
}

#[derive(Debug)]
struct Writer {
    queue: mpsc::Sender<Vec<u8>>,
    task: JoinHandle<()>,
}

impl HistoryWriter {
    /// Returns a history that keeps nothing, for a sidecar that is on no machine.
    pub(crate) fn none() -> Self {
        Self::new(String::new(), Redactor::default(), None)
    }

    /// Opens the history beside the journal `queue_file`. Must be called inside the runtime, holding the state folder's
    /// lock. The redactor removes the token from texts of the agent's, the hub's and operators.
    pub(crate) fn open(queue_file: &Path, boot_id: String, clock: Clock, redactor: Redactor) -> Self {
        let writer = match path_of(queue_file) {
            Ok(path) => {
                let (queue, lines) = mpsc::channel(MAX_QUEUED);
                let file = RotatingFile::new(path, LIMITS);
                let task = tokio::spawn(write_all(file, lines, OomWatch::start(&boot_id, clock)));
                Some(Writer { queue, task })
            }
            Err(error) => {
                tracing::warn!(%error, "the history's place cannot be found: nothing is kept of what this run does");
                None
            }
        };
        Self::new(boot_id, redactor, writer)
    }

    fn new(boot_id: String, redactor: Redactor, writer: Option<Writer>) -> Self {
        Self { boot_id, redactor, writer, dropped: 0, start: None, since_start: 0 }
    }

    /// Appends a line, and the run's first line again where that is too far from the file's end. Never waits.
    pub(crate) fn add(&mut self, what: HistoryEvent, now: Timestamp) {
        if matches!(what, HistoryEvent::RunStarted { .. }) {
            self.start = Some(what.clone());
            self.since_start = 0;
        }
        self.append(what, now);
        if self.since_start > REPEAT_AFTER
            && let Some(start) = self.start.clone()
        {
            self.since_start = 0;
            self.append(with_oom_kills_now(start), now);
        }
    }

    fn append(&mut self, what: HistoryEvent, now: Timestamp) {
        let Some(writer) = &self.writer else { return };
        let line = self.redactor.clean(line_of(now.as_millis(), &self.boot_id, what));
        self.since_start += line.len();
        match writer.queue.try_send(line.into_bytes()) {
            Ok(()) => self.dropped = 0,
            Err(_) => {
                self.dropped += 1;
                if self.dropped == 1 {
                    tracing::warn!("the history's disk does not keep up: lines of it are lost");
                }
            }
        }
    }

    /// Writes the last lines, within [`FLUSH_TIMEOUT`].
    pub(crate) async fn finish(&mut self) {
        let Some(Writer { queue, task }) = self.writer.take() else { return };
        drop(queue);
        if tokio::time::timeout(FLUSH_TIMEOUT, task).await.is_err() {
            tracing::warn!("the history's disk did not take its last lines in time");
        }
    }
}

/// Appends a line at once, beside a writer or without one. Errors are ignored: it is written where something went wrong
/// that is reported otherwise.
pub(crate) fn append_now(queue_file: &Path, boot_id: &str, what: HistoryEvent) {
    if let Ok(path) = path_of(queue_file) {
        let _ = RotatingFile::new(path, LIMITS).append(line_of(now_ms(), boot_id, what).as_bytes());
    }
}

/// Returns a run's first line as it is now: the kernel may have killed processes beside it since.
fn with_oom_kills_now(mut start: HistoryEvent) -> HistoryEvent {
    if let HistoryEvent::RunStarted { oom_kills, .. } = &mut start {
        let now = OomCounter::of_this_process().and_then(|counter| counter.read());
        *oom_kills = now.or(*oom_kills);
    }
    start
}

fn line_of(at_ms: u64, boot_id: &str, what: HistoryEvent) -> String {
    let entry = Entry { at_ms, uptime_ms: machine_uptime_ms(), boot_id: boot_id.to_owned(), what };
    // Texts and numbers only, which always serialize.
    serde_json::to_string(&entry).unwrap_or_default() + "\n"
}

/// Watches the kernel's count of processes of this cgroup that it killed for memory: one that died beside the sidecar must
/// not be taken for it when the sidecar ends.
struct OomWatch {
    boot_id: String,
    clock: Clock,
    counter: Option<OomCounter>,
    known: Option<u64>,
}

impl OomWatch {
    fn start(boot_id: &str, clock: Clock) -> Self {
        let counter = OomCounter::of_this_process();
        let known = counter.as_ref().and_then(OomCounter::read);
        Self { boot_id: boot_id.to_owned(), clock, counter, known }
    }

    /// Returns a line if the count has risen.
    fn look(&mut self) -> Option<Vec<u8>> {
        let count = self.counter.as_ref()?.read()?;
        let has_risen = self.known.replace(count).is_some_and(|known| count > known);
        if !has_risen {
            return None;
        }
        tracing::warn!(count, "the kernel killed a process beside this one for memory, perhaps the agent's session");
        // By the run's clock, as every line: by that the next run finds whether the machine's was set.
        let at_ms = self.clock.now().as_millis();
        Some(line_of(at_ms, &self.boot_id, HistoryEvent::KilledForMemory { count }).into_bytes())
    }
}

/// Writes what comes, on a thread for blocking work, until the queue is closed.
async fn write_all(mut file: RotatingFile, mut queue: mpsc::Receiver<Vec<u8>>, mut oom: OomWatch) {
    let mut lines = Vec::new();
    let mut failing = false;
    let mut looks = interval(OOM_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            received = queue.recv_many(&mut lines, MAX_QUEUED) => if received == 0 { return },
            _ = looks.tick() => match oom.look() {
                Some(line) => lines.push(line),
                None => continue,
            },
        }
        let batch = std::mem::take(&mut lines);
        let write = move || {
            let failed = batch.iter().filter_map(|line| file.append(line).err()).last();
            (file, failed)
        };
        let failed;
        (file, failed) = match tokio::task::spawn_blocking(write).await {
            Ok(written) => written,
            Err(error) => {
                tracing::warn!(%error, "the history's writer died: nothing more is kept of what this run does");
                return;
            }
        };
        match &failed {
            // Once per series of failures.
            Some(error) if !failing => tracing::warn!(error, "the history cannot be written: lines of it are lost"),
            None if failing => tracing::info!("the history can be written again"),
            Some(_) | None => {}
        }
        failing = failed.is_some();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::secret::Secret;
    use crate::sidecar::history::reader::{read, read_last};

    const NOW: Timestamp = Timestamp::from_millis(1_000);

    fn refused(detail: &str) -> HistoryEvent {
        HistoryEvent::RestartRefused { reason: "r".into(), detail: detail.into() }
    }

    #[tokio::test]
    async fn what_is_added_is_read_back_without_the_token() {
        let folder = tempfile::tempdir().unwrap();
        let queue = folder.path().join("queue.json");
        let mut history =
            HistoryWriter::open(&queue, "b".into(), Clock::start(|| 1_000), Redactor::new(&[Secret::new("hush-hush")]));
        history.add(refused("because of hush-hush"), NOW);
        history.add(HistoryEvent::Draining { on: true }, NOW.plus(5));
        history.finish().await;
        let mut entries = read(&queue).unwrap().entries;
        entries.iter_mut().for_each(|entry| entry.uptime_ms = None);
        let entry = |at_ms, what| Entry { at_ms, uptime_ms: None, boot_id: "b".into(), what };
        let wanted =
            [entry(1_000, refused("because of <redacted>")), entry(1_005, HistoryEvent::Draining { on: true })];
        assert_eq!(entries, wanted);
    }

    #[tokio::test]
    async fn the_end_of_the_file_says_which_run_it_is_of_however_long_that_is() {
        let folder = tempfile::tempdir().unwrap();
        let queue = folder.path().join("queue.json");
        let mut history = HistoryWriter::open(&queue, "b".into(), Clock::start(|| 1_000), Redactor::default());
        let machine_boot = Some("m".to_owned());
        let started = HistoryEvent::RunStarted {
            version: "1".into(),
            pid: 7,
            machine_boot: machine_boot.clone(),
            oom_kills: None,
        };
        history.add(started, NOW);
        for count in 0..200 {
            history.add(refused(&"r".repeat(500)), NOW);
            // As fast as the disk takes them.
            while count % 100 == 0 && history.writer.as_ref().is_some_and(|writer| writer.queue.capacity() < MAX_QUEUED)
            {
                tokio::task::yield_now().await;
            }
        }
        history.finish().await;
        let entries = read_last(&queue).unwrap();
        assert!(entries.len() < 200, "only the end is read");
        let is_known = |entry: &Entry| matches!(&entry.what, HistoryEvent::RunStarted { pid: 7, machine_boot: of, .. } if *of == machine_boot);
        assert!(entries.iter().any(is_known));
    }

    #[tokio::test]
    async fn a_history_that_cannot_be_written_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let queue = folder.path().join("queue.json");
        std::fs::create_dir(path_of(&queue).unwrap()).unwrap();
        let mut history = HistoryWriter::open(&queue, "b".into(), Clock::start(|| 1_000), Redactor::default());
        (0..2 * MAX_QUEUED).for_each(|_| history.add(HistoryEvent::Draining { on: true }, NOW));
        history.finish().await;
        assert!(read(&queue).is_err());
    }
}
