//! The store in a file: one redb file in the data folder, which one hub has open.

mod audit_table;
mod making;
mod own_file;
mod place;

use std::os::unix::fs::PermissionsExt as _;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::backends::FileBackend;
use redb::{
    Builder, Database, Key, ReadOnlyDatabase, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable,
    TableDefinition, TableError, TableHandle as _, Value, WriteTransaction,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::common::fs::atomic_file::remove_leftovers;
use crate::hub::scheduler::Changes;
use crate::hub::state::clock_mark::ClockMark;
use crate::hub::state::store::audit_bounds::AuditBounds;
use crate::hub::state::store::error::{StoreError, open_error};
pub(in crate::hub::state::store) use crate::hub::state::store::file::audit_table::FileAudit;
use crate::hub::state::store::file::audit_table::NotWritten;
pub use crate::hub::state::store::file::making::{
    SOCKET, WithoutStore, elsewhere, make_private_dir, take_for_database,
};
use crate::hub::state::store::file::own_file::OwnFile;
use crate::hub::state::store::file::place::Place;
pub(in crate::hub::state::store) use crate::hub::state::store::file::place::StoreLoss;
use crate::hub::state::store::records::{StateChanges, Stored, UnreadRecord, decode, encode, read_token};
use crate::hub::state::store::tables::SCHEMA;
use crate::hub::state::store::tables::{
    AGENTS, ANSWERS, CLOCKS, HEALING, INVITATIONS, META, MOMENT, RESTARTS, ROLLOUTS, RecordTable, SCHEMA_KEY, SETTINGS,
    TARGETS, TASKS, TOKENS, TableVisitor, visit_tables,
};

/// Creates each table that is missing.
struct Create<'a>(&'a WriteTransaction);

impl TableVisitor for Create<'_> {
    type Error = TableError;

    fn visit<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'static, K, V>,
    ) -> Result<(), TableError> {
        self.0.open_table(table).map(drop)
    }
}

/// The size of redb's page cache, in bytes. All records live in memory anyway; redb's default is 1 GiB.
pub(in crate::hub::state) const CACHE_BYTES: usize = 8 << 20;

/// The open store.
pub struct FileStore {
    pub(in crate::hub::state) db: Arc<Database>,
    path: PathBuf,
    place: Arc<Place>,
}

impl FileStore {
    /// Returns the path of the store's file.
    pub fn path_in(data_dir: &Path) -> PathBuf {
        data_dir.join("hub.redb")
    }

    /// Returns the path of this store's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the size of the file after the last commit.
    pub fn bytes(&self) -> u64 {
        self.place.bytes()
    }

    /// Opens `hub.redb` in the folder; `absent` says what is done where there is none.
    ///
    /// # Errors
    /// Returns [`StoreError::Locked`] while another process has the file open, or the other errors as described there.
    pub fn open(data_dir: &Path, absent: WithoutStore) -> Result<Self, StoreError> {
        making::ensure(data_dir, absent)?;
        let path = Self::path_in(data_dir);
        if let Some(found) = look_at_schema(&path).filter(|found| *found > SCHEMA) {
            return Err(StoreError::Newer { path, found });
        }
        let file = making::open_file(&path)?;
        let place = Arc::new(Place::of(&file).map_err(|error| StoreError::file(&path, &error))?);
        let opened = catch_panic(&path, || {
            let file = FileBackend::new(file).map_err(|error| open_error(&path, error))?;
            let backend = OwnFile { file, place: place.clone() };
            let builder = Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(backend);
            builder.map_err(|error| open_error(&path, error))
        });
        // The data folder may have existed before, and be open to other users.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
            .map_err(|error| StoreError::file(&path, &error))?;
        let store = Self { db: Arc::new(opened?), path, place };
        catch_panic(&store.path, || store.prepare())?;
        store.check()?;
        making::mark(data_dir);
        // Those of a process that was killed while it made a store.
        if let Err(error) = remove_leftovers(&store.path) {
            tracing::warn!(error = %error.source, "what a killed hub left beside the store cannot be removed");
        }
        Ok(store)
    }

    /// Checks that the folder holds a store, or is that of a node whose store is in a database.
    ///
    /// # Errors
    /// [`StoreError`] if there is none that could be opened.
    pub fn must_be_in(data_dir: &Path) -> Result<(), StoreError> {
        match elsewhere(data_dir) {
            Some(_) => Ok(()),
            None => making::ensure(data_dir, WithoutStore::Refuse),
        }
    }

    /// Checks that the file is where it was, as the last commit left it: what was stored is found again.
    ///
    /// # Errors
    /// [`StoreError::TakenAway`].
    pub fn check(&self) -> Result<(), StoreError> {
        self.place.check(&self.path).map_err(|how| self.taken(how))
    }

    fn taken(&self, how: StoreLoss) -> StoreError {
        if how == StoreLoss::Written {
            // Closing it would write once more into what is somebody else's now.
            std::mem::forget(Arc::clone(&self.db));
        }
        StoreError::TakenAway { path: self.path.clone(), how }
    }

    /// Returns a reader of the audit. The file stays open until it is dropped, too.
    pub(in crate::hub::state::store) fn audit(&self) -> FileAudit {
        FileAudit { db: self.db.clone(), path: self.path.clone() }
    }

    /// Reads everything but the audit. A record that cannot be read does not keep others from being read.
    ///
    /// # Errors
    /// Returns [`StoreError::File`] if the file itself cannot be read.
    pub fn load(&self) -> Result<Stored, StoreError> {
        catch_panic(&self.path, || self.load_tables())
    }

    fn load_tables(&self) -> Result<Stored, StoreError> {
        let read = self.db.begin_read().map_err(|e| self.file_error(&e))?;
        let mut stored = Stored::default();
        stored.tasks = self.load_records(&read, TASKS, &mut stored.unread)?;
        stored.restarts = self.load_records(&read, RESTARTS, &mut stored.unread)?;
        stored.rollouts = self.load_records(&read, ROLLOUTS, &mut stored.unread)?;
        stored.targets = self.load_records(&read, TARGETS, &mut stored.unread)?;
        stored.answers = self.load_records(&read, ANSWERS, &mut stored.unread)?;
        stored.invitations = self.load_records(&read, INVITATIONS, &mut stored.unread)?;
        stored.healing = self.load_records(&read, HEALING, &mut stored.unread)?;
        stored.agents = self.load_records(&read, AGENTS, &mut stored.unread)?;
        let meta = read.open_table(META).map_err(|e| self.file_error(&e))?;
        stored.moment = meta.get(MOMENT).map_err(|e| self.file_error(&e))?.map_or(0, |moment| moment.value());
        stored.clock = self.read_clock(&meta)?;
        let table = read.open_table(TOKENS).map_err(|e| self.file_error(&e))?;
        for entry in table.iter().map_err(|e| self.file_error(&e))? {
            let (key, value) = entry.map_err(|e| self.file_error(&e))?;
            stored.tokens.extend(read_token(key.value(), value.value(), &mut stored.unread));
        }
        let table = read.open_table(SETTINGS).map_err(|e| self.file_error(&e))?;
        for entry in table.iter().map_err(|e| self.file_error(&e))? {
            let (key, value) = entry.map_err(|e| self.file_error(&e))?;
            stored.settings.push((key.value().to_owned(), value.value().to_owned()));
        }
        Ok(stored)
    }

    /// Reads the records of one table; those that cannot be decoded are added to `unread`.
    fn load_records<T: DeserializeOwned>(
        &self,
        read: &ReadTransaction,
        definition: RecordTable,
        unread: &mut Vec<UnreadRecord>,
    ) -> Result<Vec<T>, StoreError> {
        let table = read.open_table(definition).map_err(|e| self.file_error(&e))?;
        let mut records = Vec::new();
        for entry in table.iter().map_err(|e| self.file_error(&e))? {
            let (key, value) = entry.map_err(|e| self.file_error(&e))?;
            records.extend(decode(definition.name(), key.value(), value.value(), unread));
        }
        Ok(records)
    }

    /// Writes a batch atomically: all of it is on disk when this returns, or none of it.
    ///
    /// Returns whether there was anything to write.
    ///
    /// # Errors
    /// Returns [`StoreError`]; memory and disk differ then, and the caller must not continue. [`StoreError::TakenAway`] also
    /// where there is nothing to write: what was stored before is not where it was either.
    pub fn commit(&self, changes: &Changes<'_>, aside: &StateChanges) -> Result<bool, StoreError> {
        self.check()?;
        if changes.is_empty() && aside.is_empty() {
            return Ok(false);
        }
        catch_panic(&self.path, || self.write(changes, aside)).map_err(|error| {
            // That is why, whatever redb says of it.
            if self.place.is_spoilt() { self.taken(StoreLoss::Written) } else { error }
        })?;
        self.check()?;
        Ok(true)
    }

    fn write(&self, changes: &Changes<'_>, aside: &StateChanges) -> Result<(), StoreError> {
        let StateChanges { tokens, invitations, settings, answers, audit, clock, speaks: _ } = aside;
        let write = self.db.begin_write().map_err(|e| self.file_error(&e))?;
        {
            self.write_records(&write, TASKS, &changes.tasks)?;
            self.write_records(&write, RESTARTS, &changes.restarts)?;
            self.write_records(&write, ROLLOUTS, &changes.rollouts)?;
            self.write_records(&write, TARGETS, &changes.targets)?;
            let answers: Vec<_> = answers.iter().map(|(key, answer)| (key.clone(), answer.as_deref())).collect();
            self.write_records(&write, ANSWERS, &answers)?;
            let invitations: Vec<_> = invitations.iter().map(|(id, one)| (id.clone(), one.as_ref())).collect();
            self.write_records(&write, INVITATIONS, &invitations)?;
            audit_table::append(&write, audit, AuditBounds::default()).map_err(|why| match why {
                NotWritten::File(detail) => StoreError::File { path: self.path.clone(), detail },
                NotWritten::Record(error) => error,
            })?;
            self.write_records(&write, HEALING, &changes.healing)?;
            self.write_records(&write, AGENTS, &changes.agents)?;
            if let Some(moment) = changes.moment {
                let mut meta = write.open_table(META).map_err(|e| self.file_error(&e))?;
                meta.insert(MOMENT, moment).map_err(|e| self.file_error(&e))?;
            }
            self.write_clock(&write, *clock)?;
            let mut table = write.open_table(TOKENS).map_err(|e| self.file_error(&e))?;
            for (hash, principal) in tokens {
                match principal {
                    Some(principal) => {
                        let record = encode("tokens", &principal.name, principal)?;
                        table.insert(hash.as_slice(), record.as_slice()).map(drop)
                    }
                    None => table.remove(hash.as_slice()).map(drop),
                }
                .map_err(|e| self.file_error(&e))?;
            }
            let mut table = write.open_table(SETTINGS).map_err(|e| self.file_error(&e))?;
            for (name, value) in settings {
                table.insert(name.as_str(), value.as_str()).map_err(|e| self.file_error(&e))?;
            }
        }
        write.commit().map_err(|e| self.file_error(&e))
    }

    /// Writes the changed records of one table, and removes the deleted ones.
    fn write_records<T: Serialize>(
        &self,
        write: &WriteTransaction,
        definition: RecordTable,
        changes: &[(String, Option<&T>)],
    ) -> Result<(), StoreError> {
        let mut table = write.open_table(definition).map_err(|e| self.file_error(&e))?;
        for (id, record) in changes {
            match record {
                Some(record) => table.insert(id.as_str(), encode(definition.name(), id, record)?.as_slice()).map(drop),
                None => table.remove(id.as_str()).map(drop),
            }
            .map_err(|e| self.file_error(&e))?;
        }
        Ok(())
    }

    /// Creates the tables that are missing, raises a lower schema number, and refuses a file that a newer hub wrote.
    fn prepare(&self) -> Result<(), StoreError> {
        let write = self.db.begin_write().map_err(|e| self.file_error(&e))?;
        visit_tables(&mut Create(&write)).map_err(|e| self.file_error(&e))?;
        let found = {
            let mut meta = write.open_table(META).map_err(|e| self.file_error(&e))?;
            let found = meta.get(SCHEMA_KEY).map_err(|e| self.file_error(&e))?.map(|found| found.value());
            match found {
                Some(found) if found > SCHEMA => return Err(StoreError::Newer { path: self.path.clone(), found }),
                Some(SCHEMA) => {}
                Some(_) | None => meta.insert(SCHEMA_KEY, SCHEMA).map(drop).map_err(|e| self.file_error(&e))?,
            }
            found
        };
        write.commit().map_err(|e| self.file_error(&e))?;
        if let Some(found) = found.filter(|found| *found < SCHEMA) {
            tracing::info!(file = %self.path.display(), from = found, to = SCHEMA, "the store has a new schema number: an older hub refuses it from now on");
        }
        Ok(())
    }

    fn read_clock(&self, meta: &ReadOnlyTable<&'static str, u64>) -> Result<Option<ClockMark>, StoreError> {
        let read = |key| -> Result<Option<u64>, StoreError> {
            Ok(meta.get(key).map_err(|e| self.file_error(&e))?.map(|value| value.value()))
        };
        let [at_ms, steady_ms, boot] = CLOCKS.map(read);
        let mark = (at_ms?, steady_ms?, boot?);
        Ok(match mark {
            (Some(at_ms), Some(steady_ms), Some(boot)) => Some(ClockMark { at_ms, steady_ms, boot }),
            (_, _, _) => None,
        })
    }

    fn write_clock(&self, write: &WriteTransaction, clock: Option<ClockMark>) -> Result<(), StoreError> {
        let Some(ClockMark { at_ms, steady_ms, boot }) = clock else { return Ok(()) };
        let mut meta = write.open_table(META).map_err(|e| self.file_error(&e))?;
        for (key, value) in CLOCKS.into_iter().zip([at_ms, steady_ms, boot]) {
            meta.insert(key, value).map_err(|e| self.file_error(&e))?;
        }
        Ok(())
    }

    fn file_error(&self, error: &dyn std::error::Error) -> StoreError {
        StoreError::file(&self.path, error)
    }
}

/// Returns the schema number; 0 if there is none.
pub(in crate::hub::state) fn schema_of(read: &ReadTransaction, path: &Path) -> Result<u64, StoreError> {
    let failed = |error: &dyn std::error::Error| StoreError::file(path, error);
    match read.open_table(META) {
        Ok(meta) => Ok(meta.get(SCHEMA_KEY).map_err(|e| failed(&e))?.map_or(0, |found| found.value())),
        Err(TableError::TableDoesNotExist(_)) => Ok(0),
        Err(error) => Err(failed(&error)),
    }
}

/// Reads the schema number without changing a byte, which opening the file for writing does. `None` if there is none, or
/// if the file is absent, in use, damaged, or was not closed: then opening it for writing shows what is the matter.
fn look_at_schema(path: &Path) -> Option<u64> {
    let look = || {
        let db = ReadOnlyDatabase::open(path).ok()?;
        let meta = db.begin_read().ok()?.open_table(META).ok()?;
        meta.get(SCHEMA_KEY).ok()?.map(|found| found.value())
    };
    catch_panic(path, || Ok(look())).ok().flatten()
}

/// Runs an access to the file and turns a panic into an error: redb panics if a page that it relies on is damaged
/// (4.6, `btree_base.rs`).
pub(in crate::hub::state) fn catch_panic<T>(
    path: &Path,
    read: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    std::panic::catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| {
        Err(StoreError::Damaged { path: path.to_owned(), detail: "a page makes no sense".to_owned() })
    })
}

#[cfg(test)]
mod tests;
