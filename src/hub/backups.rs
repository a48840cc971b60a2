//! The backups that a running hub makes when it is asked to over the admin socket: one at a time, on a thread of its own,
//! from a read transaction, so that the actor commits on meanwhile.

use std::path::PathBuf;
use std::sync::{Arc, Weak};

use tokio::sync::Mutex;

use crate::hub::state::backup::{BackupError, Contents};
use crate::hub::state::store::{Store, StoreError};

/// The reason why there is no backup: the exit code, and the text for people.
pub type Failure = (u8, String);

/// Makes backups of one store.
#[derive(Clone)]
pub struct Backups {
    /// The actor's store: it is closed with the actor, unless a backup is being made.
    store: Weak<Store>,
    turn: Arc<Mutex<()>>,
}

impl Backups {
    /// Creates it for this store.
    pub fn new(store: &Arc<Store>) -> Self {
        Self { store: Arc::downgrade(store), turn: Arc::default() }
    }

    /// Copies the state as of the last commit to `out`; a file that is there is replaced only with `force`.
    ///
    /// # Errors
    /// [`Failure`] if there is no copy, or another is being made.
    pub async fn make(&self, out: PathBuf, force: bool) -> Result<Contents, Failure> {
        let Ok(turn) = Arc::clone(&self.turn).try_lock_owned() else {
            return Err((75, "another backup is being made: try again when it is done".to_owned()));
        };
        let Some(store) = self.store.upgrade() else {
            return Err((75, "the hub is stopping: try again in a moment".to_owned()));
        };
        let path = out.display().to_string();
        let made = tokio::task::spawn_blocking(move || {
            let made = store.back_up(&out, force);
            drop(turn);
            made
        });
        match made.await {
            Ok(Ok(contents)) => {
                tracing::info!(file = path, bytes = contents.bytes, "a backup is made");
                Ok(contents)
            }
            Ok(Err(error)) => {
                tracing::warn!(file = path, %error, "no backup is made");
                Err((exit_code(&error), error.to_string()))
            }
            Err(error) => Err((70, format!("the backup ended early: {error}; this is a bug"))),
        }
    }
}

/// Returns the exit code for a backup that failed.
pub const fn exit_code(error: &BackupError) -> u8 {
    match error {
        BackupError::Store(StoreError::Locked(_)) => 75,
        BackupError::Store(
            StoreError::Newer { .. } | StoreError::NoFile { .. } | StoreError::Record { .. } | StoreError::File { .. },
        )
        | BackupError::Taken(_)
        | BackupError::IsTheStore(_)
        | BackupError::NoFile { .. } => 78,
        BackupError::Write { .. } | BackupError::Differs { .. } => 74,
    }
}
