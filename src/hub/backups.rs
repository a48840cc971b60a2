//! The backups of a running hub: one at a time, made on a thread of its own from a read transaction, so that the actor commits
//! on meanwhile. A copy has no name: it is gone when it was handed over, or its reader or the hub has ended.

use std::fs::File;
use std::io::{self, Seek as _};
use std::path::Path;
use std::sync::{Arc, Weak};

use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::hub::metrics::process::disk_free;
use crate::hub::state::backup::{BackupError, Checksum, Contents};
use crate::hub::state::store::Store;

/// What must stay free on the disk of the data dir beside a copy, in bytes: a hub that cannot commit ends.
const RESERVE_BYTES: u64 = 64 << 20;

/// The reason why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum NoBackup {
    /// Another one is being made, or handed over.
    #[error("another backup is being made or fetched: try again when it is done")]
    InProgress,
    /// The hub is stopping.
    #[error("the hub is stopping: try again in a moment")]
    Stopping,
    /// The disk has no room for a copy.
    #[error("the disk of the data dir has no room for a copy beside the store ({0}): free some space on it")]
    NoRoom(String),
    /// The store cannot be copied.
    #[error("the store cannot be copied: {0}")]
    Failed(BackupError),
    /// The thread that made it ended early.
    #[error("the backup ended early: {0}; this is a bug")]
    Died(String),
}

/// A backup that was made. No other one is made before it is dropped.
#[derive(Debug)]
pub struct Backup {
    /// What it holds.
    pub contents: Contents,
    /// Its size and digest.
    pub checksum: Checksum,
    /// Its bytes, from the first one on.
    pub file: tokio::fs::File,
    _turn: OwnedMutexGuard<()>,
}

/// Makes backups of one store.
#[derive(Clone)]
pub struct Backups {
    /// The actor's store: it is closed with the actor, unless a backup is being made.
    store: Weak<Store>,
    /// Where the copies are made.
    folder: Arc<Path>,
    turn: Arc<Mutex<()>>,
}

impl Backups {
    /// Creates it for this store; copies are made in this folder.
    pub fn new(store: &Arc<Store>, folder: &Path) -> Self {
        Self { store: Arc::downgrade(store), folder: folder.into(), turn: Arc::default() }
    }

    /// Copies the state as of the last commit.
    ///
    /// # Errors
    /// [`NoBackup`]; nothing is left over.
    pub async fn make(&self) -> Result<Backup, NoBackup> {
        let turn = Arc::clone(&self.turn).try_lock_owned().map_err(|_| NoBackup::InProgress)?;
        let store = self.store.upgrade().ok_or(NoBackup::Stopping)?;
        let folder = Arc::clone(&self.folder);
        let made = tokio::task::spawn_blocking(move || {
            let (contents, checksum, file) = copy(&store, &folder)?;
            Ok(Backup { contents, checksum, file: file.into(), _turn: turn })
        });
        made.await.unwrap_or_else(|error| Err(NoBackup::Died(error.to_string())))
    }
}

fn copy(store: &Store, folder: &Path) -> Result<(Contents, Checksum, File), NoBackup> {
    let failed = |error: io::Error| of_the_disk(BackupError::Write { path: folder.to_owned(), error });
    let store_bytes = store.bytes_found().map_err(failed)?;
    // The pages of a copy are filled less than those of a store may be.
    let needed = store_bytes.saturating_mul(2).saturating_add(RESERVE_BYTES);
    if let Some(free) = disk_free(folder).filter(|free| *free < needed) {
        return Err(NoBackup::NoRoom(format!("{free} bytes are free, {needed} are needed")));
    }
    // Without a name, of mode 0600.
    let mut file = tempfile::tempfile_in(folder).map_err(failed)?;
    let contents = store.copy_to(&file).map_err(of_the_disk)?;
    file.rewind().map_err(failed)?;
    let checksum = Checksum::of(&mut file).map_err(failed)?;
    file.rewind().map_err(failed)?;
    Ok((contents, checksum, file))
}

/// Tells a disk without room from everything else.
fn of_the_disk(error: BackupError) -> NoBackup {
    match error {
        BackupError::Write { error, .. }
            if matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
            ) =>
        {
            NoBackup::NoRoom(error.to_string())
        }
        error @ (BackupError::Store(_)
        | BackupError::Taken(_)
        | BackupError::IsAStore(_)
        | BackupError::NoFile { .. }
        | BackupError::Write { .. }
        | BackupError::BrokeOff { .. }
        | BackupError::Differs { .. }) => NoBackup::Failed(error),
    }
}
