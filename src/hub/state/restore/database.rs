//! Puts a copy of a store into a database that no hub leads by. What was there before is kept as a file.

use std::path::Path;

use redb::{Key, ReadTransaction, ReadableTable as _, TableDefinition, TableHandle as _, Value};
use tokio_postgres::types::{ToSql, Type};

use crate::common::fs::regular_file;
use crate::hub::state::backup::database::back_up;
use crate::hub::state::backup::{inspect, open_to_read};
use crate::hub::state::restore::{RestoreError, Restored, of_the_copy};
use crate::hub::state::store::postgres::{Candidate, Database, Session};
use crate::hub::state::store::{
    AUDIT_BYTES, AUDIT_NAME, DatabaseError, META_NAME, StoreError, TableVisitor, catch_panic, visit_tables,
};

/// The largest number of rows in one statement, and their largest size in bytes.
const AT_ONCE: (usize, usize) = (512, 4 << 20);

/// Makes a copy of `file` what the database holds. `file` stays as it is, and what was there before is written to `former`, if
/// there was anything.
///
/// # Errors
/// [`RestoreError`]; the database is then as it was.
pub fn restore_into(database: &Database, file: &Path, former: &Path, term: &str) -> Result<Restored, RestoreError> {
    regular_file::open(file).map_err(|error| RestoreError::Unreadable { path: file.to_owned(), error })?;
    let contents = inspect(file).map_err(|error| of_the_copy(file, error))?;
    let client = begin(database, term)?;
    let before = back_up(database, former, false).map_err(|error| RestoreError::NotKept(Box::new(error)))?;
    let former = if before.records.iter().any(|(_, count)| *count > 0) {
        Some(former.to_owned())
    } else {
        // An empty one is of no use to anybody.
        let _ = std::fs::remove_file(former);
        None
    };
    let client = replace(database, client, term)?;
    let source = open_to_read(file).map_err(|error| of_the_copy(file, error))?;
    let read = source.begin_read().map_err(|error| of_the_copy(file, error))?;
    let mut filling = Filling { database, client: Some(client), read: &read, path: file };
    catch_panic(file, || Ok(visit_tables(&mut filling))).map_err(|error| of_the_copy(file, error))??;
    let client = filling.client.take();
    let own = database.clone();
    database.wait(async move {
        let Some(client) = client else { return Ok(()) };
        client.batch_execute("commit").await.map_err(|error| own.error(&error))
    })?;
    Ok(Restored { contents, former })
}

/// Takes over, so that no hub leads while the database is changed.
fn begin(database: &Database, term: &str) -> Result<Session, RestoreError> {
    let (own, term) = (database.clone(), term.to_owned());
    let (client, led) = database.wait(async move {
        let mut client = own.connect().await?;
        own.prepare(&mut client).await?;
        // It may take longer than a lease: no node may take it for what a leader left behind.
        let named = client.batch_execute("set application_name = 'agentcom-hub restore'").await;
        named.map_err(|error| own.error(&error))?;
        let node = "agentcom-hub restore".to_owned();
        let candidate = Candidate { node, url: String::new(), secret: String::new(), term };
        let led = match own.take_over(&client, &candidate).await? {
            Some(_) => None,
            None => Some(own.look(&client).await?.node),
        };
        Ok::<_, DatabaseError>((client, led))
    })?;
    match led {
        None => Ok(client),
        Some(node) => Err(RestoreError::Led { place: database.shown().to_owned(), node }),
    }
}

/// Begins the change: deletes everything, and lets a hub lead once it is done. Meanwhile the row of the leader is locked.
fn replace(database: &Database, client: Session, term: &str) -> Result<Session, RestoreError> {
    let (own, term) = (database.clone(), term.to_owned());
    let (client, is_ours) = database.wait(async move {
        let failed = |error: tokio_postgres::Error| own.error(&error);
        client.batch_execute("begin").await.map_err(failed)?;
        let fence =
            "update agentcom.leader set until = '-infinity', commit_no = commit_no + 1 where term = $1 returning 1";
        let is_ours = client.query_typed_opt(fence, &[(&term, Type::TEXT)]).await.map_err(failed)?.is_some();
        if is_ours {
            client.batch_execute("delete from agentcom.record; delete from agentcom.audit").await.map_err(failed)?;
        }
        Ok::<_, DatabaseError>((client, is_ours))
    })?;
    match is_ours {
        true => Ok(client),
        false => Err(RestoreError::Led { place: database.shown().to_owned(), node: "another node".to_owned() }),
    }
}

/// Sends each table of a file.
struct Filling<'a> {
    database: &'a Database,
    client: Option<Session>,
    read: &'a ReadTransaction,
    path: &'a Path,
}

impl Filling<'_> {
    fn put(&mut self, kind: &str, keys: Vec<Vec<u8>>, records: Vec<Vec<u8>>) -> Result<(), RestoreError> {
        if keys.is_empty() {
            return Ok(());
        }
        let Some(client) = self.client.take() else { return Ok(()) };
        let (own, kind) = (self.database.clone(), kind.to_owned());
        let client = self.database.wait(async move {
            let (numbers, is_audit) = (numbers(&keys), kind == AUDIT_NAME);
            let sent = if is_audit {
                let put = "insert into agentcom.audit select * from unnest($1::bigint[], $2::bytea[])";
                let values: &[(&(dyn ToSql + Sync), Type)] =
                    &[(&numbers, Type::INT8_ARRAY), (&records, Type::BYTEA_ARRAY)];
                client.query_typed(put, values).await
            } else {
                let put = "insert into agentcom.record select $1, * from unnest($2::bytea[], $3::bytea[])";
                let values: &[(&(dyn ToSql + Sync), Type)] =
                    &[(&kind, Type::TEXT), (&keys, Type::BYTEA_ARRAY), (&records, Type::BYTEA_ARRAY)];
                client.query_typed(put, values).await
            };
            sent.map_err(|error| own.error(&error))?;
            Ok::<_, DatabaseError>(client)
        })?;
        self.client = Some(client);
        Ok(())
    }
}

/// Returns the keys of the audit as numbers.
fn numbers(keys: &[Vec<u8>]) -> Vec<i64> {
    keys.iter().filter_map(|key| key.as_slice().try_into().ok()).map(i64::from_le_bytes).collect()
}

impl TableVisitor for Filling<'_> {
    type Error = RestoreError;

    fn visit<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'static, K, V>,
    ) -> Result<(), RestoreError> {
        let path = self.path;
        let failed = |error: &dyn std::error::Error| of_the_copy(path, StoreError::file(path, error));
        let from = match self.read.open_table(table) {
            Ok(from) => from,
            // An older store may lack it.
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(()),
            Err(error) => return Err(failed(&error)),
        };
        let kind = table.name().to_owned();
        let (mut keys, mut records, mut bytes) = (Vec::new(), Vec::new(), 0);
        for entry in from.iter().map_err(|e| failed(&e))? {
            let (key, record) = entry.map_err(|e| failed(&e))?;
            let key = K::as_bytes(&key.value()).as_ref().to_vec();
            if kind == META_NAME && key == AUDIT_BYTES.as_bytes() {
                continue;
            }
            let record = V::as_bytes(&record.value()).as_ref().to_vec();
            bytes += key.len() + record.len();
            keys.push(key);
            records.push(record);
            if keys.len() >= AT_ONCE.0 || bytes >= AT_ONCE.1 {
                bytes = 0;
                self.put(&kind, std::mem::take(&mut keys), std::mem::take(&mut records))?;
            }
        }
        self.put(&kind, keys, records)
    }
}
