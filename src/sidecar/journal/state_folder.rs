//! Looks after what others may remove under a running sidecar (a redeploy, `git clean`, a cleaner of old files): the lock,
//! the folder and the journal. What is missing is made anew, and said.

use std::fs::{self, File, Metadata};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use crate::common::fs::same_file;
use crate::sidecar::journal::state_lock::{LockError, Renewed, StateLock};

/// How often it is looked at what is there.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What an operator has to know of the state folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FolderTrouble {
    /// It was moved away, and made anew at its place.
    MovedTo(PathBuf),
    /// It is not this sidecar's any more, for this reason: nothing is written.
    Lost(String),
}

/// Tells a journal that this sidecar wrote from one that others put in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Content {
    file: (u64, u64),
    bytes: u64,
}

impl Content {
    fn of(found: &Metadata) -> Self {
        Self { file: same_file::identity(found), bytes: found.len() }
    }
}

/// The state folder of a running sidecar.
#[derive(Debug)]
pub(crate) struct StateFolder {
    lock: Arc<StateLock>,
    queue_file: PathBuf,
    /// What the journal was when it was last read or written; `None` if it was not there.
    written: Mutex<Option<Content>>,
    trouble: watch::Sender<Option<FolderTrouble>>,
}

impl StateFolder {
    /// Creates it for the journal `queue_file`, whose lock this process holds and which it has just read.
    pub(crate) fn new(lock: Arc<StateLock>, queue_file: &Path) -> Self {
        let written = Mutex::new(fs::metadata(queue_file).ok().as_ref().map(Content::of));
        Self { lock, queue_file: queue_file.to_owned(), written, trouble: watch::channel(None).0 }
    }

    /// Notes that the journal has just been written as this file.
    pub(crate) fn note_written(&self, file: &File) {
        *self.written() = file.metadata().ok().as_ref().map(Content::of);
    }

    /// Returns whether others have removed the journal, or put another file in its place, since it was last written. Of
    /// what is no file the next write tells.
    pub(crate) fn is_changed_by_others(&self) -> bool {
        match fs::metadata(&self.queue_file) {
            Ok(found) => found.is_file() && *self.written() != Some(Content::of(&found)),
            Err(_) => self.written().is_some(),
        }
    }

    fn written(&self) -> MutexGuard<'_, Option<Content>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what an operator has to know, as it changes.
    pub(crate) fn trouble(&self) -> watch::Receiver<Option<FolderTrouble>> {
        self.trouble.subscribe()
    }

    /// Makes the lock anew where others have removed it. Blocks on the disk.
    ///
    /// # Errors
    /// The folder is not this sidecar's any more: the caller must not write there.
    pub(crate) fn keep(&self) -> Result<(), LockError> {
        let folder = self.queue_file.parent().unwrap_or(Path::new(".")).display();
        match self.lock.renew() {
            Ok(Renewed::Intact) => {}
            Ok(Renewed::File { path }) => {
                tracing::warn!(file = %path.display(), "the lock file was removed by others: made anew");
            }
            Ok(Renewed::Elsewhere { path }) => tracing::warn!(
                lock = %path.display(),
                "the journal's path leads to another file by now: locked and written there, with what this sidecar knows"
            ),
            Ok(Renewed::Folder { moved_to: None }) => {
                tracing::error!(%folder, "the state folder was removed by others: made anew, with what this sidecar knows");
            }
            Ok(Renewed::Folder { moved_to: Some(to) }) => {
                tracing::error!(
                    %folder, moved_to = %to.display(),
                    "the state folder was moved away: made anew, with what this sidecar knows; start no sidecar from the moved one, it is out of date"
                );
                self.trouble.send_replace(Some(FolderTrouble::MovedTo(to)));
                return Ok(());
            }
            Err(error) => {
                if !self.is_lost() {
                    match &error {
                        LockError::Held { .. } => {
                            tracing::error!(%folder, %error, "the state folder is not ours any more: nothing is written, no task is taken");
                        }
                        LockError::Unusable(_) => {
                            tracing::error!(%folder, %error, "the lock cannot be made anew: nothing is written, no task is taken until it can");
                        }
                    }
                }
                self.trouble.send_replace(Some(FolderTrouble::Lost(error.to_string())));
                return Err(error);
            }
        }
        if self.is_lost() {
            tracing::info!(%folder, "the state folder is ours again");
            self.trouble.send_replace(None);
        }
        Ok(())
    }

    fn is_lost(&self) -> bool {
        matches!(&*self.trouble.borrow(), Some(FolderTrouble::Lost(_)))
    }

    /// Looks after the folder until the runtime ends. Reports to `journal_changed`, at each look, that the journal is not the
    /// one that was written.
    pub(crate) async fn watch(self: Arc<Self>, journal_changed: mpsc::Sender<()>) {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let folder = Arc::clone(&self);
            let look = move || folder.keep().is_ok() && folder.is_changed_by_others();
            // A look that panicked says nothing.
            if let Ok(true) = tokio::task::spawn_blocking(look).await {
                // Full if the last report is not taken yet.
                let _ = journal_changed.try_send(());
            }
        }
    }
}
