//! The view of a sidecar that does not answer: the holder of its state folder, and the content of its journal. Reads
//! only: nothing is written, moved aside or started.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::common::fs::regular_file;
use crate::machine::{PersistedJob, StageName};
use crate::sidecar::admin::status::{RejectedPart, VerdictPart};
use crate::sidecar::agent::results::kept::Folders;
use crate::sidecar::journal::state_lock::{Holder, StateLock};
use crate::sidecar::journal::{self, Boot, Found};
use crate::sidecar::supervisor::pm2::{machine_boot_id, machine_booted_at_ms};

/// The document that `status` prints of a sidecar that does not answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfflineView {
    /// Always false, which tells it from the document of a running sidecar.
    pub running: bool,
    /// The process that holds the state folder, if any.
    pub holder: Option<Holder>,
    /// The journal's content; `None` if there is no journal yet.
    pub journal: Option<StoredWork>,
    /// Why the journal, or a part of it, cannot be read.
    pub journal_error: Option<String>,
    /// The results that were not taken.
    pub rejected: RejectedPart,
}

/// The work that a journal keeps for the next run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredWork {
    /// The current task.
    pub task: Option<StoredTask>,
    /// The verdicts that the hub has not acknowledged.
    pub outbox: Vec<VerdictPart>,
    /// The ids of tasks that the hub reclaimed and whose work is parked.
    #[serde(rename = "shelf")]
    pub parked: Vec<String>,
    /// Whether an operator has ordered that no new task is accepted.
    pub draining: bool,
}

/// `StoredWork.task`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredTask {
    /// The task's id.
    pub task_id: String,
    /// The assignment's generation.
    pub generation: u64,
    /// The stage that the task had reached.
    pub stage: String,
}

impl OfflineView {
    /// Reads the state folder and the folders of results that were not taken; a journal has at most `max_bytes`.
    pub fn look(folders: &Folders, max_bytes: u64) -> Self {
        let queue_file = &folders.queue_file;
        let (journal, journal_error) = read_journal(queue_file, max_bytes).unwrap_or_else(|why| (None, Some(why)));
        // The holder of a lock that cannot be inspected is unknown.
        let holder = StateLock::holder(queue_file).ok().flatten();
        Self { running: false, holder, journal, journal_error, rejected: RejectedPart::of(&folders.look()) }
    }
}

/// Reads the journal. Returns its content, and which parts of it cannot be read.
fn read_journal(queue_file: &Path, max_bytes: u64) -> Result<(Option<StoredWork>, Option<String>), String> {
    let bytes = match regular_file::read(queue_file, max_bytes) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((None, None)),
        Err(error) => return Err(format!("cannot read {}: {error}", queue_file.display())),
    };
    let boot_id = machine_boot_id().unwrap_or_default();
    let found = journal::from_bytes(&bytes, Boot { id: &boot_id, since_ms: machine_booted_at_ms() });
    match found {
        Ok(Found::Journal { journal, other: _, unread, replaced: _ }) => {
            let stored = StoredWork {
                task: journal.job.as_ref().map(task),
                outbox: journal.outbox.iter().map(VerdictPart::of).collect(),
                parked: journal.parked.iter().map(|item| item.task_id().to_string()).collect(),
                draining: journal.cordoned,
            };
            let error = || format!("{} makes no sense: {}", queue_file.display(), unread.join("; "));
            Ok((Some(stored), (!unread.is_empty()).then(error)))
        }
        Ok(Found::Newer { schema }) => Err(format!("{}: schema {schema} is a newer sidecar's", queue_file.display())),
        Err(error) => Err(format!("{} makes no sense: {error}", queue_file.display())),
    }
}

fn task(persisted: &PersistedJob) -> StoredTask {
    StoredTask {
        task_id: persisted.task.id.to_string(),
        generation: persisted.task.generation,
        stage: StageName::from(&persisted.stage).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(queue: &Path) -> OfflineView {
        let folders = Folders { results: queue.with_file_name("results"), queue_file: queue.to_owned() };
        OfflineView::look(&folders, 1_000)
    }

    #[test]
    fn it_tells_what_is_kept_and_touches_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let queue = folder.path().join("queue.json");
        let text = r#"{"schema":1,"active":{"task_id":"t1","generation":2},"outbox":[{"task_id":"t0","generation":1,
            "verdict":"failed","reason":"r"}],"cordoned":true}"#;
        std::fs::write(&queue, text).unwrap();
        let absent = look(&queue);
        let kept = absent.journal.unwrap();
        assert_eq!((kept.task.unwrap().task_id.as_str(), kept.outbox[0].verdict.as_str()), ("t1", "failed"));
        assert_eq!((kept.draining, absent.holder), (true, None));
        assert_eq!(std::fs::read_to_string(&queue).unwrap(), text);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_holder_that_does_not_answer_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let queue = folder.path().join("queue.json");
        let lock = StateLock::acquire(&queue, Some("one"), std::time::Duration::ZERO).unwrap();
        let holder = look(&queue).holder.unwrap();
        assert_eq!((holder.name.as_deref(), holder.pid), (Some("one"), Some(std::process::id())));
        drop(lock);
        let nothing = RejectedPart { count: 0, bytes: 0, newest: None };
        assert_eq!(
            look(&queue),
            OfflineView { running: false, holder: None, journal: None, journal_error: None, rejected: nothing }
        );
    }

    #[test]
    fn a_journal_of_rubbish_is_said_and_left() {
        let folder = tempfile::tempdir().unwrap();
        let queue = folder.path().join("queue.json");
        std::fs::write(&queue, "rubbish").unwrap();
        let why = look(&queue).journal_error.unwrap();
        assert!(why.contains("makes no sense"), "{why}");
        assert_eq!(std::fs::read_to_string(&queue).unwrap(), "rubbish");
    }

    #[test]
    fn the_results_that_were_not_taken_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let kept = folder.path().join("results/rejected/t1.json");
        std::fs::create_dir_all(kept.parent().unwrap()).unwrap();
        std::fs::write(&kept, "{}").unwrap();
        let rejected = look(&folder.path().join("queue.json")).rejected;
        assert_eq!(rejected, RejectedPart { count: 1, bytes: 2, newest: Some(kept.display().to_string()) });
    }
}
