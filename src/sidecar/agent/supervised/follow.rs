//! Follows the run of the current task: passes its output on in batches, and has its end reported when its supervisor
//! cannot. It starts nothing.

use std::io::{self, Read, Seek, SeekFrom};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::common::fs::regular_file;
use crate::common::wall_clock::now_ms;
use crate::sidecar::agent::supervised::claim_record::{self, ClaimState, claim_state, progress_path};
use crate::sidecar::agent::supervised::lost::{RunsConfig, report_own_session, write_lost_run_result};
use crate::sidecar::agent::supervised::output::{FILE_BYTES, OutputLine, cut_to_end};

/// How often the progress of a run is read.
const READ_EVERY: Duration = Duration::from_millis(250);

/// How often to check for a run when there is none.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// The time between two batches of one stream: with both streams, 40 frames a minute, where a hub accepts 60 for an
/// agent's tasks.
const BATCH_EVERY: Duration = Duration::from_secs(3);

/// The most text in one batch, bytes.
const BATCH_BYTES: usize = 8 * 1024;

/// The task that is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// The task's id.
    pub task_id: String,
    /// The generation of the assignment for which work was started, if any. A claim of another generation says nothing
    /// about this work.
    pub begun_for: Option<u64>,
}

/// A batch of a run's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputBatch {
    /// The task's id.
    pub task_id: String,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// The newest output, preceded by a note if some was left out.
    pub text: String,
}

/// Follows one task at a time, in the background, until dropped.
#[derive(Debug)]
pub struct Runs {
    config: RunsConfig,
    watched: watch::Sender<Option<Watched>>,
    task: JoinHandle<()>,
}

impl Runs {
    /// Creates a follower of no task yet. Output goes to `output`, and is dropped while that is full.
    pub fn new(config: RunsConfig, output: mpsc::Sender<OutputBatch>) -> Self {
        claim_record::end_unwanted_runs(&config.scratch_dir);
        let (watched, watching) = watch::channel(None);
        let task = tokio::spawn(follow_all(config.clone(), watching, output));
        Self { config, watched, task }
    }

    /// Follows this task from now on, or none.
    pub fn watch(&self, task: Option<Watched>) {
        self.watched.send_if_modified(|watched| {
            let changed = *watched != task;
            *watched = task;
            changed
        });
    }

    /// Ends the task's run, if there is one, and removes its files. Returns whether there was one.
    pub fn clean_up(&self, task_id: &str) -> bool {
        claim_record::end_run(&self.config.scratch_dir, task_id)
    }
}

impl Drop for Runs {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow_all(
    config: RunsConfig,
    mut watching: watch::Receiver<Option<Watched>>,
    output: mpsc::Sender<OutputBatch>,
) {
    let since_ms = now_ms();
    loop {
        let task = watching.borrow_and_update().clone();
        let Some(task) = task else {
            if watching.changed().await.is_err() {
                return;
            }
            continue;
        };
        tokio::select! {
            () = follow(&config, &task, since_ms, &output) => {}
            changed = watching.changed() => if changed.is_err() { return },
        }
    }
}

/// Follows one task. It never returns: the caller decides when to follow another one.
async fn follow(config: &RunsConfig, task: &Watched, since_ms: u64, output: &mpsc::Sender<OutputBatch>) {
    let mut reader = Reader::default();
    let mut batches = [Batch::new("stdout"), Batch::new("stderr")];
    loop {
        let outcome = {
            let (config, task) = (config.clone(), task.clone());
            tokio::task::spawn_blocking(move || read_progress(&config, &task, reader, since_ms)).await
        };
        let found;
        (reader, found) = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                tracing::error!(%error, "looking at a run failed; it will be tried again");
                (Reader::default(), None)
            }
        };
        let Some(lines) = found else {
            sleep(CHECK_EVERY).await;
            continue;
        };
        for line in lines {
            batches.iter_mut().filter(|batch| batch.stream == line.stream).for_each(|batch| batch.add(&line));
        }
        for batch in &mut batches {
            batch.send_if_due(&task.task_id, output);
        }
        sleep(READ_EVERY).await;
    }
}

/// Returns the new lines of progress, or nothing if there is no run.
fn read_progress(
    config: &RunsConfig,
    task: &Watched,
    mut reader: Reader,
    since_ms: u64,
) -> (Reader, Option<Vec<OutputLine>>) {
    let task_id = task.task_id.as_str();
    match claim_state(&config.scratch_dir, task_id) {
        Ok(ClaimState::Running(record)) => {
            if let Some(record) = &record {
                reader.seen = Some((record.pid, record.claimed_at_ms));
            }
            // Output that an earlier sidecar has read is not reported again.
            let is_new = record.is_none_or(|record| record.claimed_at_ms >= since_ms);
            let lines = reader.read(&progress_path(&config.scratch_dir, task_id), is_new);
            (reader, Some(lines))
        }
        Ok(ClaimState::Over(record)) => {
            let lines = reader.read(&progress_path(&config.scratch_dir, task_id), record.claimed_at_ms >= since_ms);
            // A late session's wake was for an earlier generation: it is known by having been seen at work.
            let seen = reader.seen == Some((record.pid, record.claimed_at_ms));
            if seen || task.begun_for == Some(record.generation) {
                write_lost_run_result(config, task_id, &record);
            }
            (reader, Some(lines))
        }
        Ok(ClaimState::Absent | ClaimState::Unreadable) => {
            if task.begun_for.is_some() {
                report_own_session(config, task_id);
            }
            (reader, None)
        }
        Err(error) => {
            tracing::warn!(task_id, %error, "cannot look at a task's run");
            (reader, None)
        }
    }
}

/// How far a run was followed.
#[derive(Debug, Default)]
struct Reader {
    /// The supervisor that was seen alive, by its pid and the time of its claim.
    seen: Option<(u32, u64)>,
    /// The position up to which the progress file has been read.
    position: Option<u64>,
    unparsed: Vec<u8>,
}

impl Reader {
    /// Returns the new lines.
    fn read(&mut self, path: &std::path::Path, from_the_start: bool) -> Vec<OutputLine> {
        self.read_bytes(path, from_the_start).unwrap_or_default();
        let whole = self.unparsed.iter().rposition(|byte| *byte == b'\n').map_or(0, |position| position + 1);
        let lines: Vec<u8> = self.unparsed.drain(..whole).collect();
        // A line that began before the file was truncated does not parse, and is skipped.
        lines.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
    }

    fn read_bytes(&mut self, path: &std::path::Path, from_the_start: bool) -> io::Result<()> {
        let mut file = regular_file::open(path)?;
        let length = file.metadata()?.len();
        let position = self.position.unwrap_or(if from_the_start { 0 } else { length });
        // The file was truncated.
        let position = if position > length { 0 } else { position };
        // A supervisor never writes more than this.
        let position = position.max(length.saturating_sub(FILE_BYTES));
        file.seek(SeekFrom::Start(position))?;
        let read = file.take(length - position).read_to_end(&mut self.unparsed)?;
        self.position = Some(position + read as u64);
        Ok(())
    }
}

/// The output of one stream that waits to be sent.
struct Batch {
    stream: &'static str,
    text: String,
    left_out: u64,
    sent: Option<Instant>,
}

impl Batch {
    fn new(stream: &'static str) -> Self {
        Self { stream, text: String::new(), left_out: 0, sent: None }
    }

    fn add(&mut self, line: &OutputLine) {
        if line.left_out > 0 {
            // Text before a gap is old.
            self.left_out += self.text.len() as u64 + line.left_out;
            self.text.clear();
        }
        self.text.push_str(&line.text);
        self.left_out += cut_to_end(&mut self.text, BATCH_BYTES);
    }

    fn send_if_due(&mut self, task_id: &str, output: &mpsc::Sender<OutputBatch>) {
        if self.text.is_empty() || self.sent.is_some_and(|sent| sent.elapsed() < BATCH_EVERY) {
            return;
        }
        let note = if self.left_out > 0 { format!("[{} bytes left out]\n", self.left_out) } else { String::new() };
        let text = note + &std::mem::take(&mut self.text);
        self.left_out = 0;
        self.sent = Some(Instant::now());
        // A full channel means that the event loop has more important work.
        let _ = output.try_send(OutputBatch { task_id: task_id.to_owned(), stream: self.stream.to_owned(), text });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(text: &str, left_out: u64) -> OutputLine {
        OutputLine { stream: "stdout".into(), text: text.into(), left_out }
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_is_bounded_in_size_and_rate() {
        let (sender, mut output) = mpsc::channel(8);
        let mut batch = Batch::new("stdout");
        batch.add(&line("first", 0));
        batch.send_if_due("t", &sender);
        batch.add(&line(&"x".repeat(3 * BATCH_BYTES), 7));
        batch.send_if_due("t", &sender);
        assert_eq!(output.try_recv().unwrap().text, "first");
        assert!(output.try_recv().is_err(), "not yet");
        tokio::time::advance(BATCH_EVERY).await;
        batch.send_if_due("t", &sender);
        let text = output.try_recv().unwrap().text;
        assert!(text.starts_with(&format!("[{} bytes left out]\n", 2 * BATCH_BYTES + 7)), "{}", &text[..40]);
        assert!(text.len() < BATCH_BYTES + 40);
    }

    #[test]
    fn only_new_whole_lines_are_read_and_a_shorter_file_is_read_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.progress");
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        let one = serde_json::to_string(&line("one", 0)).unwrap();
        let two = serde_json::to_string(&line("two", 0)).unwrap();
        let mut reader = Reader::default();
        write(&format!("{one}\n{}", &two[..10]));
        assert_eq!(reader.read(&path, true), [line("one", 0)]);
        write(&format!("{one}\n{two}\n"));
        assert_eq!(reader.read(&path, true), [line("two", 0)]);
        write(&format!("{one}\n"));
        assert_eq!(reader.read(&path, true), [line("one", 0)]);
    }

    #[test]
    fn what_an_earlier_sidecar_saw_is_not_told_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.progress");
        std::fs::write(&path, serde_json::to_string(&line("old", 0)).unwrap() + "\n").unwrap();
        let mut reader = Reader::default();
        assert_eq!(reader.read(&path, false), []);
    }

    /// Reads a claim of generation 1 whose supervisor is gone; returns the result file, if one is written.
    fn after_a_look(machine_boot: &str, begun_for: Option<u64>) -> Option<serde_json::Value> {
        let folder = tempfile::tempdir().unwrap();
        let record = json!({"pid": 1, "generation": 1, "machine_boot": "b", "claimed_at_ms": 1, "command": null});
        std::fs::write(folder.path().join("t.run"), record.to_string()).unwrap();
        let config = RunsConfig {
            scratch_dir: folder.path().to_owned(),
            results_dir: folder.path().to_owned(),
            machine_boot: machine_boot.to_owned(),
        };
        let task = Watched { task_id: "t".into(), begun_for };
        read_progress(&config, &task, Reader::default(), 0);
        let text = std::fs::read(folder.path().join("t.json")).ok()?;
        Some(serde_json::from_slice(&text).unwrap())
    }

    #[test]
    fn a_supervisor_that_is_gone_without_a_result_is_told() {
        let result = after_a_look("b", Some(1)).unwrap();
        assert_eq!(result["status"], "failed");
        assert!(result["reason"].as_str().unwrap().starts_with("run_lost: "), "{result}");
    }

    #[test]
    fn a_claim_of_another_hand_out_or_from_before_a_reboot_says_nothing() {
        assert_eq!(after_a_look("b", Some(3)), None);
        assert_eq!(after_a_look("b", None), None);
        assert_eq!(after_a_look("after the reboot", Some(1)), None);
    }
}
