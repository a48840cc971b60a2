//! Puts a copy of a store into a data dir that no hub uses. The store that was there is kept under another name.

#[cfg(feature = "postgres")]
pub mod database;

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::common::fs::atomic_file::{folder_of, resolve, sync_folder, temporary_beside, utc_stamp};
use crate::common::fs::regular_file::{self, Unsuitable};
use crate::common::fs::same_file;
use crate::hub::state::backup::{BackupError, Contents, inspect};
use crate::hub::state::store::{DatabaseError, ELSEWHERE, Store, StoreError, elsewhere};

/// A store that was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// What it holds.
    pub contents: Contents,
    /// Where the store is that was there before.
    pub former: Option<PathBuf>,
}

/// The reason why nothing was restored. The data dir is then as it was.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The copy cannot be opened.
    #[error("cannot read {}: {error}; name a file that agentcom-hub backup wrote", .path.display())]
    Unreadable {
        /// The copy's path.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// The copy holds no store.
    #[error("{} holds no store that this hub can read ({why}); name a file that agentcom-hub backup wrote", .path.display())]
    NoStore {
        /// The copy's path.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A newer hub wrote the copy.
    #[error("{} was written by a newer hub (schema {found}): run that hub's restore", .path.display())]
    Newer {
        /// The copy's path.
        path: PathBuf,
        /// Its schema number.
        found: u64,
    },
    /// A hub uses the data dir.
    #[error("{} is in use by a hub: stop that hub, then try again", .0.display())]
    InUse(PathBuf),
    /// The copy is the store of the data dir.
    #[error("{} is the store of this data dir already: nothing is to be restored", .0.display())]
    IsTheStore(PathBuf),
    /// Something other than a file stands where the store should be.
    #[error("{}: {unfit}: move it away, or give another --data", .path.display())]
    NoFile {
        /// The path.
        path: PathBuf,
        /// What was found there.
        unfit: Unsuitable,
    },
    /// The store of the data dir is in a database.
    #[error(
        "the store of {} is in PostgreSQL ({place}): name the database with --store; to go back to a file, stop the hub and \
         remove {} first", .folder.display(), .folder.join(ELSEWHERE).display()
    )]
    Elsewhere {
        /// The data dir.
        folder: PathBuf,
        /// The database, without its password.
        place: String,
    },
    /// A hub leads by the database.
    #[error("{place} is in use: the hub of {node} leads; stop all hubs on it, then try again")]
    Led {
        /// The database, without its password.
        place: String,
        /// What the leader calls itself.
        node: String,
    },
    /// What was there before cannot be kept.
    #[error("what is in the database cannot be kept: {0}")]
    NotKept(Box<BackupError>),
    /// The database cannot be used.
    #[error("{0}")]
    Database(#[from] DatabaseError),
    /// The store or its folder cannot be written.
    #[error("cannot write {}: {error}; check the disk, its free space and the permissions", .path.display())]
    Write {
        /// The store or its folder.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
}

/// Makes a copy of `file` the store of the data dir. `file` stays as it is.
///
/// # Errors
/// [`RestoreError`].
pub fn restore(file: &Path, data_dir: &Path) -> Result<Restored, RestoreError> {
    if let Some(place) = elsewhere(data_dir) {
        return Err(RestoreError::Elsewhere { folder: data_dir.to_owned(), place });
    }
    let store = resolve(&Store::path_in(data_dir))
        .map_err(|failed| RestoreError::Write { path: failed.path, error: failed.source })?;
    let mut source =
        regular_file::open(file).map_err(|error| RestoreError::Unreadable { path: file.to_owned(), error })?;
    if same_file::is_at(&source, &store) {
        return Err(RestoreError::IsTheStore(file.to_owned()));
    }
    regular_file::check(&store).map_err(|unfit| RestoreError::NoFile { path: store.clone(), unfit })?;
    // Held to the end: a hub that starts meanwhile waits for it, and then opens the new store.
    let former = lock(&store)?;
    let folder = folder_of(&store).to_owned();
    let failed = |error| RestoreError::Write { path: folder.clone(), error };
    let mut new = temporary_beside(&store).map_err(failed)?;
    io::copy(&mut source, new.as_file_mut()).map_err(failed)?;
    // The copy of a running hub's file, made without `backup`, would be repaired here.
    let contents = inspect(new.path()).map_err(|error| of_the_copy(file, error))?;
    new.as_file().sync_all().map_err(failed)?;
    let former = match former {
        Some(_) => {
            let aside = keep_former(&store).map_err(failed)?;
            new.persist(&store).map_err(|error| failed(error.error))?;
            Some(aside)
        }
        None => {
            new.persist_noclobber(&store).map_err(|error| {
                if error.error.kind() == io::ErrorKind::AlreadyExists {
                    return RestoreError::InUse(store.clone());
                }
                failed(error.error)
            })?;
            None
        }
    };
    sync_folder(&folder).map_err(failed)?;
    Ok(Restored { contents, former })
}

/// Locks the store against a hub; `None` if there is none.
fn lock(store: &Path) -> Result<Option<File>, RestoreError> {
    let file = match File::open(store) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(RestoreError::Write { path: store.to_owned(), error }),
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(RestoreError::InUse(store.to_owned())),
        Err(TryLockError::Error(error)) => Err(RestoreError::Write { path: store.to_owned(), error }),
    }
}

/// Gives the store a second name that did not exist before, so that there is a store at every moment.
fn keep_former(store: &Path) -> io::Result<PathBuf> {
    let stamp = utc_stamp(std::time::SystemTime::now());
    let mut attempt = 1_u32;
    loop {
        let mut name = store.file_name().unwrap_or_default().to_owned();
        name.push(format!(".before-restore-{stamp}"));
        if attempt > 1 {
            name.push(format!("-{attempt}"));
        }
        let aside = store.with_file_name(name);
        match fs::hard_link(store, &aside) {
            Ok(()) => return Ok(aside),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Converts an error about the copy in the data dir to one about the file that was named.
fn of_the_copy(file: &Path, error: StoreError) -> RestoreError {
    let path = file.to_owned();
    match error {
        StoreError::Newer { found, .. } => RestoreError::Newer { path, found },
        StoreError::File { detail, .. } | StoreError::Damaged { detail, .. } => {
            RestoreError::NoStore { path, why: detail }
        }
        other @ (StoreError::Locked(_)
        | StoreError::NoFile { .. }
        | StoreError::Missing(_)
        | StoreError::Lost { .. }
        | StoreError::Empty(_)
        | StoreError::NotMade { .. }
        | StoreError::TakenAway { .. }
        | StoreError::Elsewhere { .. }
        | StoreError::Database(_)
        | StoreError::Record { .. }) => RestoreError::NoStore { path, why: other.to_string() },
    }
}
