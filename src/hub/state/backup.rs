//! Copies of the store: made from a read transaction while a hub commits, and from a store that no hub has open; and copies
//! that come from elsewhere. Each is written beside its name, flushed, read again, and only then gets the name.

mod checksum;
#[cfg(feature = "postgres")]
pub mod database;
mod tables;

use std::fs::{File, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use redb::{Builder, Database, DatabaseError, ReadOnlyDatabase, ReadTransaction, ReadableDatabase};
use tempfile::NamedTempFile;

use crate::common::fs::atomic_file::{folder_of, remove_leftovers, resolve, sync_folder, temporary_beside};
use crate::common::fs::regular_file::{self, Unsuitable};
use crate::common::fs::same_file;
pub use crate::hub::state::backup::checksum::Checksum;
use crate::hub::state::backup::checksum::{Side, copy_summed};
pub use crate::hub::state::backup::tables::Contents;
use crate::hub::state::backup::tables::{CopyError, contents_of, write_copy};
use crate::hub::state::store::{CACHE_BYTES, FileStore, Store, StoreError, catch_panic, open_error};
use crate::hub::state::tokens::hex;

/// The reason why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The store cannot be read, or cannot be copied whole.
    #[error("{0}")]
    Store(StoreError),
    /// A file has the copy's name.
    #[error("{} is there already and was left as it is: name another file with --out, or replace it with --force", .0.display())]
    Taken(PathBuf),
    /// The copy would take the place of a store that is in use.
    #[error("{} is the store of a hub: name another file with --out", .0.display())]
    IsAStore(PathBuf),
    /// Something other than a file has the copy's name.
    #[error("{}: {unfit}: name another file with --out", .path.display())]
    NoFile {
        /// The path.
        path: PathBuf,
        /// What was found there.
        unfit: Unsuitable,
    },
    /// The copy cannot be written.
    #[error("cannot write {}: {error}; free some space on its disk, or name a file elsewhere with --out", .path.display())]
    Write {
        /// The path.
        path: PathBuf,
        /// The error of the system, or what redb says in place of one.
        error: io::Error,
    },
    /// The copy comes from elsewhere, and did not come to its end.
    #[error("the backup for {} broke off ({error}): ask for it again", .path.display())]
    BrokeOff {
        /// The path.
        path: PathBuf,
        /// The error of the source.
        error: io::Error,
    },
    /// The copy was written, and reading it again showed something else; it was removed.
    #[error("the copy for {} has {found} in place of {wanted}: check the disk and the way to it, then try again", .path.display())]
    Differs {
        /// The path.
        path: PathBuf,
        /// What the copy holds.
        found: String,
        /// What it should hold.
        wanted: String,
    },
}

impl Store {
    /// Copies the state as of the last commit to `file`, which is empty, while others commit: a read transaction delays none
    /// of them. The copy is a redb file, whatever the store is. Returns what it holds.
    ///
    /// # Errors
    /// [`BackupError`]; `file` is then of no use.
    pub fn copy_to(&self, file: &File) -> Result<Contents, BackupError> {
        match self {
            Self::File(store) => store.copy_to(file),
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => database::copy_to(store.database(), file),
        }
    }
}

impl FileStore {
    /// Does what [`Store::copy_to`] does.
    pub(super) fn copy_to(&self, file: &File) -> Result<Contents, BackupError> {
        let read = self.db.begin_read().map_err(|e| BackupError::Store(StoreError::file(self.path(), &e)))?;
        write_copy(&read, self.path(), file).map_err(|error| error.at(self.path()))
    }
}

/// Copies the store of a data dir that no hub uses to `out`. The store itself stays byte for byte as it is, with one
/// exception: one that was not closed properly is repaired.
///
/// # Errors
/// [`BackupError`], among them [`StoreError::Locked`] if a hub uses the store; `out` is then as it was.
pub fn back_up_stopped(data_dir: &Path, out: &Path, replace: bool) -> Result<Contents, BackupError> {
    let path = Store::path_in(data_dir);
    let store = open_to_read(&path).map_err(BackupError::Store)?;
    let read = store.begin_read().map_err(BackupError::Store)?;
    if File::open(&path).is_ok_and(|own| same_file::is_at(&own, out)) {
        return Err(BackupError::IsAStore(out.to_owned()));
    }
    place(out, replace, |copy, target| {
        let wanted = write_copy(&read, &path, copy.as_file()).map_err(|error| error.at(target))?;
        let found = look_again(copy, target)?;
        if (found.schema, &found.records) != (wanted.schema, &wanted.records) {
            let (found, wanted) = (format!("{:?}", found.records), format!("{:?}", wanted.records));
            return Err(BackupError::Differs { path: target.to_owned(), found, wanted });
        }
        Ok(found)
    })
}

/// Writes a copy that a running hub made to `out`, once all of it is there: it has the size and the digest that the hub
/// told, and is a store that can be read to its end.
///
/// # Errors
/// [`BackupError`]; `out` is then as it was.
pub fn receive(content: &mut impl Read, told: Checksum, out: &Path, replace: bool) -> Result<Contents, BackupError> {
    place(out, replace, |copy, target| {
        let received = copy_summed(content, &mut copy.as_file()).map_err(|failed| match failed {
            Side::From(error) => BackupError::BrokeOff { path: target.to_owned(), error },
            Side::To(error) => BackupError::Write { path: target.to_owned(), error },
        })?;
        if received != told {
            let words = |sum: Checksum| format!("{} bytes with the SHA-256 {}", sum.bytes, hex(&sum.sha256));
            let (found, wanted) = (words(received), words(told));
            return Err(BackupError::Differs { path: target.to_owned(), found, wanted });
        }
        look_again(copy, target)
    })
}

/// Returns what the store in a file holds, and reads all of it.
///
/// # Errors
/// [`StoreError`] if it is no store, is damaged, in use, or a newer hub's.
pub fn inspect(path: &Path) -> Result<Contents, StoreError> {
    let store = open_to_read(path)?;
    contents_of(&store.begin_read()?, path)
}

/// A store that is open for reading only.
pub(in crate::hub::state) enum ReadStore {
    AsItIs(ReadOnlyDatabase, PathBuf),
    Repaired(Database, PathBuf),
}

impl ReadStore {
    pub(in crate::hub::state) fn begin_read(&self) -> Result<ReadTransaction, StoreError> {
        match self {
            Self::AsItIs(db, path) => db.begin_read().map_err(|e| StoreError::file(path, &e)),
            Self::Repaired(db, path) => db.begin_read().map_err(|e| StoreError::file(path, &e)),
        }
    }
}

pub(in crate::hub::state) fn open_to_read(path: &Path) -> Result<ReadStore, StoreError> {
    regular_file::check(path).map_err(|unfit| StoreError::NoFile { path: path.to_owned(), unfit })?;
    let failed = |error: DatabaseError| open_error(path, error);
    catch_panic(path, || {
        let mut builder = Builder::new();
        builder.set_cache_size(CACHE_BYTES);
        match builder.open_read_only(path) {
            Ok(db) => Ok(ReadStore::AsItIs(db, path.to_owned())),
            // It was not closed: a hub was killed.
            Err(DatabaseError::RepairAborted) => {
                builder.open(path).map(|db| ReadStore::Repaired(db, path.to_owned())).map_err(failed)
            }
            Err(error) => Err(failed(error)),
        }
    })
}

/// Lets `write` make a copy under another name beside `out`, which it gets if all goes well.
fn place(
    out: &Path,
    replace: bool,
    write: impl FnOnce(&NamedTempFile, &Path) -> Result<Contents, BackupError>,
) -> Result<Contents, BackupError> {
    let target = resolve(out).map_err(|failed| BackupError::Write { path: out.to_owned(), error: failed.source })?;
    check_target(&target, replace)?;
    let failed = |error: io::Error| BackupError::Write { path: target.clone(), error };
    remove_leftovers(&target).map_err(|error| failed(error.source))?;
    let temporary = temporary_beside(&target).map_err(failed)?;
    let contents = write(&temporary, &target)?;
    temporary.as_file().sync_all().map_err(failed)?;
    let placed = if replace { temporary.persist(&target) } else { temporary.persist_noclobber(&target) };
    placed.map_err(|error| {
        if error.error.kind() == io::ErrorKind::AlreadyExists {
            return BackupError::Taken(target.clone());
        }
        failed(error.error)
    })?;
    sync_folder(folder_of(&target)).map_err(failed)?;
    Ok(contents)
}

/// Reads a copy to its end, as it is on its disk.
fn look_again(copy: &NamedTempFile, target: &Path) -> Result<Contents, BackupError> {
    let unreadable = |error: &dyn std::error::Error| BackupError::Differs {
        path: target.to_owned(),
        found: format!("something that is no store that can be read ({error})"),
        wanted: "one".to_owned(),
    };
    copy.as_file().sync_all().map_err(|error| BackupError::Write { path: target.to_owned(), error })?;
    inspect(copy.path()).map_err(|error| unreadable(&error))
}

fn check_target(target: &Path, replace: bool) -> Result<(), BackupError> {
    if std::fs::symlink_metadata(target).is_err() {
        return Ok(());
    }
    regular_file::check(target).map_err(|unfit| BackupError::NoFile { path: target.to_owned(), unfit })?;
    // A hub holds the lock of its store. A file that cannot be opened is replaced, or not, like any other.
    if File::open(target).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock))) {
        return Err(BackupError::IsAStore(target.to_owned()));
    }
    if replace { Ok(()) } else { Err(BackupError::Taken(target.to_owned())) }
}

impl CopyError {
    /// Returns the error of a copy to this path.
    fn at(self, path: &Path) -> BackupError {
        match self {
            Self::Read(error) => BackupError::Store(error),
            Self::Write(redb::Error::Io(error)) => BackupError::Write { path: path.to_owned(), error },
            Self::Write(error) => BackupError::Write { path: path.to_owned(), error: io::Error::other(error) },
        }
    }
}

#[cfg(test)]
mod tests;
