//! What a store holds, table by table: counting it, and copying it to an empty file.

use std::fs::File;
use std::path::Path;

use redb::backends::FileBackend;
use redb::{
    Builder, Key, ReadTransaction, ReadableTable as _, TableDefinition, TableHandle as _, Value, WriteTransaction,
};
use serde::Serialize;

use crate::hub::state::store::{
    CACHE_BYTES, META_NAME, SCHEMA, StoreError, TableVisitor, catch_panic, schema_of, visit_tables,
};

/// What a store holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Contents {
    /// The schema number.
    pub schema: u64,
    /// The number of records in each table.
    pub records: Vec<(String, u64)>,
    /// The size of the file, in bytes.
    pub bytes: u64,
}

/// The side on which a copy failed.
pub(super) enum CopyError {
    /// The store cannot be read, or not be copied whole.
    Read(StoreError),
    /// The copy cannot be written.
    Write(redb::Error),
}

/// Returns what is in the file's tables, and reads all of it.
pub(super) fn contents_of(read: &ReadTransaction, path: &Path) -> Result<Contents, StoreError> {
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
pub(super) fn tables_in(read: &ReadTransaction, path: &Path) -> Result<Vec<String>, StoreError> {
    let tables = read.list_tables().map_err(|e| StoreError::file(path, &e))?;
    Ok(tables.map(|table| table.name().to_owned()).collect())
}

/// Copies every table to an empty file, and returns what the copy holds.
pub(super) fn write_copy(read: &ReadTransaction, store: &Path, file: &File) -> Result<Contents, CopyError> {
    fn write(error: impl Into<redb::Error>) -> CopyError {
        CopyError::Write(error.into())
    }
    let copied = catch_panic(store, || {
        Ok((|| {
            let schema = schema_of(read, store).map_err(CopyError::Read)?;
            let backend = FileBackend::new(file.try_clone().map_err(write)?).map_err(write)?;
            let db = Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(backend).map_err(write)?;
            let transaction = db.begin_write().map_err(write)?;
            let present = tables_in(read, store).map_err(CopyError::Read)?;
            let mut known = Copy { read, store, write: &transaction, present, copied: Vec::new() };
            visit_tables(&mut known)?;
            let mut copied = known.copied;
            if let Some(unknown) = known.present.iter().find(|name| !copied.iter().any(|(table, _)| table == *name)) {
                let detail = format!("it has a table {unknown}, which this hub does not know and cannot copy");
                return Err(CopyError::Read(StoreError::File { path: store.to_owned(), detail }));
            }
            transaction.commit().map_err(write)?;
            // Marks the file as closed.
            db.close().map_err(write)?;
            copied.retain(|(table, _)| table != META_NAME);
            let bytes = file.metadata().map_err(write)?.len();
            Ok(Contents { schema, records: copied, bytes })
        })())
    });
    copied.map_err(CopyError::Read)?
}

/// Copies each table, and counts its records.
struct Copy<'a> {
    read: &'a ReadTransaction,
    store: &'a Path,
    write: &'a WriteTransaction,
    present: Vec<String>,
    copied: Vec<(String, u64)>,
}

impl TableVisitor for Copy<'_> {
    type Error = CopyError;

    fn visit<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'static, K, V>,
    ) -> Result<(), CopyError> {
        let read = |error: &dyn std::error::Error| CopyError::Read(StoreError::file(self.store, error));
        // An older store may lack it.
        if !self.present.iter().any(|name| name == table.name()) {
            return Ok(());
        }
        let from = self.read.open_table(table).map_err(|e| read(&e))?;
        let mut to = self.write.open_table(table).map_err(|e| CopyError::Write(e.into()))?;
        let mut count = 0;
        for entry in from.iter().map_err(|e| read(&e))? {
            let (key, value) = entry.map_err(|e| read(&e))?;
            to.insert(key.value(), value.value()).map_err(|e| CopyError::Write(e.into()))?;
            count += 1;
        }
        self.copied.push((table.name().to_owned(), count));
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
