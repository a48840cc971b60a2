//! Why a store cannot be opened, or not be used any more: what, where, and what to do.

use std::io;
use std::path::{Path, PathBuf};

use redb::StorageError;

use crate::common::fs::regular_file::Unsuitable;
use crate::hub::state::store::database_error::DatabaseError;
use crate::hub::state::store::file::StoreLoss;
use crate::hub::state::store::tables::SCHEMA;

/// What the names of the copies begin with that a hub leaves of a store that was removed.
pub(super) const RESCUED: &str = "hub.redb.rescued-";

/// The name of the file that says that the store of its folder is in a database, and which. A hub that runs holds its lock.
pub(in crate::hub::state) const ELSEWHERE: &str = "hub.postgres";

/// The reason why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the file open.
    #[error("{0} is in use by another hub: stop it, or give this one another --data")]
    Locked(PathBuf),
    /// The file was written by a newer hub.
    #[error("{path} has schema {found}, this hub knows {}: run the newer hub that wrote it", SCHEMA)]
    Newer {
        /// The file's path.
        path: PathBuf,
        /// The file's schema number.
        found: u64,
    },
    /// Something other than a regular file has the store's path.
    #[error("{path}: {unfit}: move it away, or give another --data")]
    NoFile {
        /// The path.
        path: PathBuf,
        /// What was found there.
        unfit: Unsuitable,
    },
    /// The data folder holds no store, and none is made.
    #[error(
        "there is no store in {}: name the hub's folder with --data, or make one with agentcom-hub token NAME --init",
        .0.display()
    )]
    Missing(PathBuf),
    /// The data folder held a store, which is not there any more.
    #[error(
        "the store of {folder} is gone: there is {trace} and no hub.redb. Put it back, or restore a backup (agentcom-hub \
         restore FILE{}); agentcom-hub token NAME --init begins with an empty one", restorable(.folder, .trace)
    )]
    Lost {
        /// The folder.
        folder: PathBuf,
        /// The name of a file in it that says so.
        trace: PathBuf,
    },
    /// The store is a file without a byte.
    #[error(
        "{0} is an empty file: what it held is gone. Restore a backup (agentcom-hub restore FILE); or remove it, and begin \
         with an empty store (agentcom-hub token NAME --init)"
    )]
    Empty(PathBuf),
    /// The file is no store, or is damaged.
    #[error(
        "{path}: it is damaged, or no store ({detail}). Restore a backup (agentcom-hub restore FILE), which keeps this file \
         under another name"
    )]
    Damaged {
        /// The file's path.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// No store could be made.
    #[error("no store can be made at {path}: {error}; check the disk, its free space and the permissions")]
    NotMade {
        /// The store's path.
        path: PathBuf,
        /// The error of the system, or what redb says in place of one.
        error: io::Error,
    },
    /// The file was taken away from under this process.
    #[error("{path} {how}")]
    TakenAway {
        /// The path that it had.
        path: PathBuf,
        /// What was done to it.
        how: StoreLoss,
    },
    /// The data folder is that of a node whose store is in a database.
    #[error(
        "the store of {folder} is in PostgreSQL ({place}), and no hub answers there: start it (agentcom-hub serve --store), \
         or ask another node with --hub. To go back to a file, remove {} first", .folder.join(ELSEWHERE).display()
    )]
    Elsewhere {
        /// The folder.
        folder: PathBuf,
        /// The database, without its password.
        place: String,
    },
    /// A database cannot be used, or not any more.
    #[error("{0}")]
    Database(#[from] DatabaseError),
    /// A record could not be written as JSON.
    #[error("record {key} cannot be written as JSON ({detail}): this is a bug")]
    Record {
        /// The record, as `table/key`.
        key: String,
        /// The error of serde.
        detail: String,
    },
    /// The file could not be read or written.
    #[error("{path}: {detail}: check the disk, its free space and the permissions")]
    File {
        /// The file's path.
        path: PathBuf,
        /// The error of redb.
        detail: String,
    },
}

impl StoreError {
    /// Returns whether the disk failed, rather than what is on it.
    pub fn is_the_disks(&self) -> bool {
        match self {
            Self::NotMade { error, .. } => {
                !matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
            }
            Self::TakenAway { .. } => true,
            Self::Locked(_)
            | Self::Newer { .. }
            | Self::NoFile { .. }
            | Self::Missing(_)
            | Self::Lost { .. }
            | Self::Empty(_)
            | Self::Damaged { .. }
            | Self::Elsewhere { .. }
            | Self::Database(_)
            | Self::Record { .. }
            | Self::File { .. } => false,
        }
    }

    /// Creates the error of a file that redb or the system could not read or write.
    pub(in crate::hub::state) fn file(path: &Path, error: &dyn std::error::Error) -> Self {
        Self::File { path: path.to_owned(), detail: error.to_string() }
    }
}

/// Returns the error of a file that could not be opened as a store.
pub(in crate::hub::state) fn open_error(path: &Path, error: redb::DatabaseError) -> StoreError {
    let (path, detail) = (path.to_owned(), error.to_string());
    if matches!(error, redb::DatabaseError::DatabaseAlreadyOpen) {
        return StoreError::Locked(path);
    }
    if let redb::DatabaseError::Storage(StorageError::Io(error)) = &error
        && !matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
    {
        return StoreError::File { path, detail };
    }
    StoreError::Damaged { path, detail }
}

/// Returns the words about a copy of a lost store that is there.
fn restorable(folder: &Path, trace: &Path) -> String {
    match trace.to_str().is_some_and(|name| name.starts_with(RESCUED)) {
        true => format!("; {} is a copy of it", folder.join(trace).display()),
        false => String::new(),
    }
}
