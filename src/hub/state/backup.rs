//! Copies of the store: made from a read transaction while a hub commits, and from a store that no hub has open. A copy is
//! written beside its name, flushed, read again, and only then gets the name.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use redb::{
    Builder, Database, DatabaseError, Key, ReadOnlyDatabase, ReadTransaction, ReadableDatabase, ReadableTable as _,
    TableDefinition, TableHandle as _, Value, WriteTransaction,
};
use serde::{Deserialize, Serialize};

use crate::common::fs::atomic_file::{folder_of, remove_leftovers, resolve};
use crate::common::fs::regular_file::{self, Unsuitable};
use crate::hub::state::store::{
    CACHE_BYTES, META_NAME, SCHEMA, Store, StoreError, TableVisitor, catch_panic, schema_of, visit_tables,
};

/// What a store holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// The schema number.
    pub schema: u64,
    /// The number of records in each table.
    pub records: Vec<(String, u64)>,
    /// The size of the file, in bytes.
    pub bytes: u64,
}

/// The reason why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The store cannot be read, or cannot be copied whole.
    #[error("{0}")]
    Store(StoreError),
    /// A file has the copy's name.
    #[error("{} is there already and was left as it is: name another file with --out, or replace it with --force", .0.display())]
    Taken(PathBuf),
    /// The copy would take the place of the store.
    #[error("{} is the hub's own store: name another file with --out", .0.display())]
    IsTheStore(PathBuf),
    /// Something other than a file has the copy's name.
    #[error("{}: {unfit}: name another file with --out", .path.display())]
    NoFile {
        /// The path.
        path: PathBuf,
        /// What was found there.
        unfit: Unsuitable,
    },
    /// The copy cannot be written.
    #[error("cannot write {}: {why}; free some space on its disk, or name a file elsewhere with --out", .path.display())]
    Write {
        /// The path.
        path: PathBuf,
        /// The error of the system or of redb.
        why: String,
    },
    /// The copy was written, and reading it again showed something else; it was removed.
    #[error("the copy for {} holds {found}, the store {wanted}: check the disk, then try again", .path.display())]
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
    /// Copies the state as of the last commit to `out`, while others commit: a read transaction delays none of them.
    ///
    /// # Errors
    /// [`BackupError`]; `out` is then as it was.
    pub fn back_up(&self, out: &Path, replace: bool) -> Result<Contents, BackupError> {
        let read = self.db.begin_read().map_err(|e| BackupError::Store(StoreError::file(self.path(), &e)))?;
        copy(&read, self.path(), out, replace)
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
    copy(&read, &path, out, replace)
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
enum ReadStore {
    AsItIs(ReadOnlyDatabase, PathBuf),
    Repaired(Database, PathBuf),
}

impl ReadStore {
    fn begin_read(&self) -> Result<ReadTransaction, StoreError> {
        match self {
            Self::AsItIs(db, path) => db.begin_read().map_err(|e| StoreError::file(path, &e)),
            Self::Repaired(db, path) => db.begin_read().map_err(|e| StoreError::file(path, &e)),
        }
    }
}

fn open_to_read(path: &Path) -> Result<ReadStore, StoreError> {
    regular_file::check(path).map_err(|unfit| StoreError::NoFile { path: path.to_owned(), unfit })?;
    let failed = |error: DatabaseError| {
        if matches!(error, DatabaseError::DatabaseAlreadyOpen) {
            return StoreError::Locked(path.to_owned());
        }
        StoreError::file(path, &error)
    };
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

fn contents_of(read: &ReadTransaction, path: &Path) -> Result<Contents, StoreError> {
    catch_panic(path, || {
        let schema = schema_of(read, path)?;
        if schema > SCHEMA {
            return Err(StoreError::Newer { path: path.to_owned(), found: schema });
        }
        let mut count = Count { read, path, present: tables_in(read, path)?, records: Vec::new() };
        visit_tables(&mut count)?;
        let bytes = std::fs::metadata(path).map_err(|e| StoreError::file(path, &e))?.len();
        Ok(Contents { schema, records: count.records, bytes })
    })
}

/// Returns the names of all tables. A table that this program does not know could not be copied.
fn tables_in(read: &ReadTransaction, path: &Path) -> Result<Vec<String>, StoreError> {
    let tables = read.list_tables().map_err(|e| StoreError::file(path, &e))?;
    Ok(tables.map(|table| table.name().to_owned()).collect())
}

fn copy(read: &ReadTransaction, store: &Path, out: &Path, replace: bool) -> Result<Contents, BackupError> {
    let target = resolve(out).map_err(|e| BackupError::Write { path: out.to_owned(), why: e.source.to_string() })?;
    check_target(&target, store, replace)?;
    let failed = |why: String| BackupError::Write { path: target.clone(), why };
    let system = |error: io::Error| failed(error.to_string());
    remove_leftovers(&target).map_err(|e| system(e.source))?;
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let mut temporary = tempfile::Builder::new();
    // Of mode 0600, with the name of what `remove_leftovers` removes.
    let temporary =
        temporary.prefix(&format!(".{name}.")).suffix(".tmp").tempfile_in(folder_of(&target)).map_err(system)?;
    let wanted = contents_of(read, store).map_err(BackupError::Store)?;
    write_copy(read, store, temporary.path()).map_err(|error| match error {
        CopyError::Read(error) => BackupError::Store(error),
        CopyError::Write(why) => failed(why),
    })?;
    File::open(temporary.path()).and_then(|file| file.sync_all()).map_err(system)?;
    let found = inspect(temporary.path()).map_err(|e| failed(format!("it cannot be read again: {e}")))?;
    if (found.schema, &found.records) != (wanted.schema, &wanted.records) {
        let (found, wanted) = (format!("{:?}", found.records), format!("{:?}", wanted.records));
        return Err(BackupError::Differs { path: target, found, wanted });
    }
    let placed = if replace { temporary.persist(&target) } else { temporary.persist_noclobber(&target) };
    placed.map_err(|error| {
        if error.error.kind() == io::ErrorKind::AlreadyExists {
            return BackupError::Taken(target.clone());
        }
        system(error.error)
    })?;
    File::open(folder_of(&target)).and_then(|folder| folder.sync_all()).map_err(system)?;
    Ok(found)
}

fn check_target(target: &Path, store: &Path, replace: bool) -> Result<(), BackupError> {
    let Ok(found) = std::fs::symlink_metadata(target) else { return Ok(()) };
    regular_file::check(target).map_err(|unfit| BackupError::NoFile { path: target.to_owned(), unfit })?;
    if std::fs::metadata(store).is_ok_and(|own| (own.dev(), own.ino()) == (found.dev(), found.ino())) {
        return Err(BackupError::IsTheStore(target.to_owned()));
    }
    if replace { Ok(()) } else { Err(BackupError::Taken(target.to_owned())) }
}

/// The side on which a copy failed.
enum CopyError {
    Read(StoreError),
    Write(String),
}

fn write_copy(read: &ReadTransaction, store: &Path, new: &Path) -> Result<(), CopyError> {
    let write = |error: &dyn std::error::Error| CopyError::Write(error.to_string());
    let copied = catch_panic(store, || {
        Ok((|| {
            // The file is there and empty, which is what `create` takes.
            let db = Builder::new().set_cache_size(CACHE_BYTES).create(new).map_err(|e| write(&e))?;
            let transaction = db.begin_write().map_err(|e| write(&e))?;
            let present = tables_in(read, store).map_err(CopyError::Read)?;
            let mut known = Copy { read, store, write: &transaction, present, copied: Vec::new() };
            visit_tables(&mut known)?;
            if let Some(unknown) = known.present.iter().find(|name| !known.copied.contains(name)) {
                let detail = format!("it has a table {unknown}, which this hub does not know and cannot copy");
                return Err(CopyError::Read(StoreError::File { path: store.to_owned(), detail }));
            }
            transaction.commit().map_err(|e| write(&e))?;
            // Marks the file as closed.
            db.close().map_err(|e| write(&e))
        })())
    });
    copied.map_err(CopyError::Read)?
}

/// Copies each table.
struct Copy<'a> {
    read: &'a ReadTransaction,
    store: &'a Path,
    write: &'a WriteTransaction,
    present: Vec<String>,
    copied: Vec<String>,
}

impl TableVisitor for Copy<'_> {
    type Error = CopyError;

    fn visit<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'static, K, V>,
    ) -> Result<(), CopyError> {
        let read = |error: &dyn std::error::Error| CopyError::Read(StoreError::file(self.store, error));
        let write = |error: &dyn std::error::Error| CopyError::Write(error.to_string());
        // An older store may lack it.
        if !self.present.iter().any(|name| name == table.name()) {
            return Ok(());
        }
        let from = self.read.open_table(table).map_err(|e| read(&e))?;
        let mut to = self.write.open_table(table).map_err(|e| write(&e))?;
        for entry in from.iter().map_err(|e| read(&e))? {
            let (key, value) = entry.map_err(|e| read(&e))?;
            to.insert(key.value(), value.value()).map_err(|e| write(&e))?;
        }
        self.copied.push(table.name().to_owned());
        Ok(())
    }
}

/// Reads each record and counts it.
struct Count<'a> {
    read: &'a ReadTransaction,
    path: &'a Path,
    present: Vec<String>,
    records: Vec<(String, u64)>,
}

impl TableVisitor for Count<'_> {
    type Error = StoreError;

    fn visit<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'static, K, V>,
    ) -> Result<(), StoreError> {
        if table.name() == META_NAME || !self.present.iter().any(|name| name == table.name()) {
            return Ok(());
        }
        let failed = |error: &dyn std::error::Error| StoreError::file(self.path, error);
        let mut count = 0;
        for entry in self.read.open_table(table).map_err(|e| failed(&e))?.iter().map_err(|e| failed(&e))? {
            entry.map_err(|e| failed(&e))?;
            count += 1;
        }
        self.records.push((table.name().to_owned(), count));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
