//! Copies of a store that is in a database: files, as those of any other store, so that one can become the other.

use std::fs::File;
use std::path::Path;

use redb::backends::FileBackend;
use redb::{Builder, Key, TableDefinition, TableHandle as _, Value, WriteTransaction};
use tokio_postgres::types::Type;

use crate::hub::state::backup::tables::{Contents, CopyError};
use crate::hub::state::backup::{BackupError, look_again, place};
use crate::hub::state::store::postgres::{Database, Session};
use crate::hub::state::store::{
    AUDIT_BYTES, AUDIT_NAME, CACHE_BYTES, DatabaseError, META, META_NAME, SCHEMA_KEY, StoreError, TableVisitor,
    catch_panic, visit_tables,
};

/// The key and the value of a record.
type Row = (Vec<u8>, Vec<u8>);

/// The number of rows that are read at once.
const AT_ONCE: i64 = 512;

/// Copies what the database holds at this moment to `file`, which is empty, while a hub commits.
///
/// # Errors
/// [`BackupError`]; `file` is then of no use.
pub fn copy_to(database: &Database, file: &File) -> Result<Contents, BackupError> {
    write_copy(database, file).map_err(|error| error.at(Path::new(database.shown())))
}

/// Copies what the database holds at this moment to `out`.
///
/// # Errors
/// [`BackupError`]; `out` is then as it was.
pub fn back_up(database: &Database, out: &Path, replace: bool) -> Result<Contents, BackupError> {
    place(out, replace, |copy, target| {
        write_copy(database, copy.as_file()).map_err(|error| error.at(target))?;
        look_again(copy, target)
    })
}

fn write_copy(database: &Database, file: &File) -> Result<Contents, CopyError> {
    fn write(error: impl Into<redb::Error>) -> CopyError {
        CopyError::Write(error.into())
    }
    let snapshot = Snapshot::begin(database).map_err(|error| CopyError::Read(error.into()))?;
    let backend = FileBackend::new(file.try_clone().map_err(write)?).map_err(write)?;
    let db = Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(backend).map_err(write)?;
    let transaction = db.begin_write().map_err(write)?;
    let mut fill = Fill { snapshot, write: &transaction, schema: 0, audit_bytes: 0, copied: Vec::new() };
    // redb panics where bytes are none of a type's.
    catch_panic(Path::new(database.shown()), || Ok(visit_tables(&mut fill))).map_err(CopyError::Read)??;
    let Fill { audit_bytes, mut copied, schema, .. } = fill;
    {
        let mut meta = transaction.open_table(META).map_err(write)?;
        meta.insert(AUDIT_BYTES, audit_bytes).map_err(write)?;
    }
    transaction.commit().map_err(write)?;
    // Marks the file as closed.
    db.close().map_err(write)?;
    copied.retain(|(table, _)| table != META_NAME);
    let bytes = file.metadata().map_err(write)?.len();
    Ok(Contents { schema, records: copied, bytes })
}

/// What the database held at one moment.
struct Snapshot {
    database: Database,
    /// In a transaction; `None` after an error.
    client: Option<Session>,
}

impl Snapshot {
    fn begin(database: &Database) -> Result<Self, DatabaseError> {
        let own = database.clone();
        let client = database.wait(async move {
            let mut client = own.connect().await?;
            own.prepare(&mut client).await?;
            let begun = client.batch_execute("begin isolation level repeatable read read only").await;
            begun.map_err(|error| own.error(&error))?;
            Ok::<_, DatabaseError>(client)
        })?;
        Ok(Self { database: database.clone(), client: Some(client) })
    }

    /// Returns the next rows of a table, after the one with this key.
    fn next(&mut self, kind: &str, after: Option<&[u8]>) -> Result<Vec<Row>, DatabaseError> {
        let (database, kind, after) = (self.database.clone(), kind.to_owned(), after.map(<[u8]>::to_vec));
        let client = self.client.take().ok_or_else(|| DatabaseError::Away {
            place: self.database.shown().to_owned(),
            detail: "the copy broke off".to_owned(),
        })?;
        let (client, rows) = self.database.wait(async move {
            let rows = if kind == AUDIT_NAME {
                let after = after.and_then(|key| key.try_into().ok()).map_or(0, i64::from_le_bytes);
                let asked = "select seq, record from agentcom.audit where seq > $1 order by seq limit $2";
                let rows = client.query_typed(asked, &[(&after, Type::INT8), (&AT_ONCE, Type::INT8)]).await;
                rows.map(|rows| {
                    let key = |seq: i64| seq.to_le_bytes().to_vec();
                    rows.into_iter().map(|row| (key(row.get(0)), row.get(1))).collect::<Vec<_>>()
                })
            } else {
                let asked = "select key, record from agentcom.record \
                    where kind = $1 and ($2::bytea is null or key > $2) order by key limit $3";
                let values = &[(&kind as _, Type::TEXT), (&after as _, Type::BYTEA), (&AT_ONCE as _, Type::INT8)];
                let rows = client.query_typed(asked, values).await;
                rows.map(|rows| rows.into_iter().map(|row| (row.get(0), row.get(1))).collect())
            };
            rows.map(|rows| (client, rows)).map_err(|error| database.error(&error))
        })?;
        self.client = Some(client);
        Ok(rows)
    }
}

/// Fills each table of a file, and counts its records.
struct Fill<'a> {
    snapshot: Snapshot,
    write: &'a WriteTransaction,
    schema: u64,
    audit_bytes: u64,
    copied: Vec<(String, u64)>,
}

impl TableVisitor for Fill<'_> {
    type Error = CopyError;

    fn visit<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'static, K, V>,
    ) -> Result<(), CopyError> {
        fn read(error: DatabaseError) -> CopyError {
            CopyError::Read(StoreError::from(error))
        }
        let kind = table.name();
        let mut to = self.write.open_table(table).map_err(|e| CopyError::Write(e.into()))?;
        let (mut count, mut last) = (0, None::<Vec<u8>>);
        loop {
            let rows = self.snapshot.next(kind, last.as_deref()).map_err(read)?;
            for (key, record) in &rows {
                to.insert(K::from_bytes(key), V::from_bytes(record)).map_err(|e| CopyError::Write(e.into()))?;
                count += 1;
                if kind == AUDIT_NAME {
                    self.audit_bytes += record.len() as u64;
                } else if kind == META_NAME && key == SCHEMA_KEY.as_bytes() {
                    self.schema = record.as_slice().try_into().map_or(0, u64::from_le_bytes);
                }
            }
            match rows.into_iter().next_back() {
                Some((key, _)) => last = Some(key),
                None => break,
            }
        }
        self.copied.push((kind.to_owned(), count));
        Ok(())
    }
}
