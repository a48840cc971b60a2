//! The tables: making them, reading all of what they hold, and what `agentcom-hub check` asks of the server.
//!
//! `agentcom.record` has all of redb's tables but the audit, with the same bytes as keys and values: `jsonb` refuses a NUL and
//! half of a surrogate pair, which a task may hold.

use std::pin::pin;

use futures_util::TryStreamExt as _;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error};

use crate::hub::state::clock_mark::ClockMark;
use crate::hub::state::store::database_error::DatabaseError;
use crate::hub::state::store::postgres::connection::Database;
use crate::hub::state::store::postgres::term::Term;
use crate::hub::state::store::records::{Stored, decode, read_token};
use crate::hub::state::store::tables::SCHEMA;
use crate::hub::state::store::tables::{
    AGENTS, ANSWERS, CLOCKS, HEALING, INVITATIONS, META_NAME, MOMENT, RESTARTS, ROLLOUTS, SCHEMA_KEY, SETTINGS,
    TARGETS, TASKS, TOKENS,
};

/// The number of the lock under which the tables are made: two nodes may start at once.
const MAKING: i64 = 0x6167_656e_7463_6f6d;

/// The tables. The one row of `leader` has ended long ago.
const TABLES: &str = "\
create schema if not exists agentcom;
create table agentcom.leader (
  one boolean primary key default true check (one),
  epoch bigint not null,
  term text not null,
  node text not null,
  url text not null,
  secret text not null,
  commit_no bigint not null,
  until timestamptz not null,
  session_pid integer not null,
  session_start timestamptz not null
);
insert into agentcom.leader values (true, 0, '', '', '', '', 0, '-infinity', 0, '-infinity');
create table agentcom.record (kind text not null, key bytea not null, record bytea not null, primary key (kind, key));
create table agentcom.audit (seq bigint primary key, record bytea not null);";

/// What the server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The version of the server.
    pub version: String,
    /// The schema number; `None` without tables.
    pub schema: Option<u64>,
    /// The setting `synchronous_standby_names`.
    pub synchronous_standby_names: String,
    /// The setting `fsync`.
    pub fsync: String,
    /// The number of replicas that stream from it, as far as this role may see.
    pub replicas: u64,
}

impl Database {
    /// Makes the tables where there are none, and refuses those of a newer hub.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn prepare(&self, client: &mut Client) -> Result<(), DatabaseError> {
        let failed = |error: Error| self.error(&error);
        if schema_of(client).await.map_err(failed)?.is_none() {
            let making = client.transaction().await.map_err(failed)?;
            let lock: &[(&(dyn ToSql + Sync), Type)] = &[(&MAKING, Type::INT8)];
            making.query_typed("select pg_advisory_xact_lock($1)", lock).await.map_err(failed)?;
            // Another node may have made them meanwhile.
            if !has_tables(making.client()).await.map_err(failed)? {
                making.batch_execute(TABLES).await.map_err(failed)?;
                put_schema(making.client()).await.map_err(failed)?;
            }
            making.commit().await.map_err(failed)?;
        }
        self.refuse_newer(client).await
    }

    /// Refuses the tables of a newer hub.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn refuse_newer(&self, client: &Client) -> Result<(), DatabaseError> {
        match schema_of(client).await.map_err(|error| self.error(&error))? {
            Some(found) if found > SCHEMA => Err(DatabaseError::Newer { place: self.shown().to_owned(), found }),
            Some(_) | None => Ok(()),
        }
    }

    /// Returns what the server says of itself.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn facts(&self) -> Result<Facts, DatabaseError> {
        let failed = |error: Error| self.error(&error);
        let client = self.connect().await?;
        let asked = "select current_setting('server_version'), current_setting('synchronous_standby_names'), \
            current_setting('fsync'), (select count(*) from pg_stat_replication)";
        let row = client.query_typed_one(asked, &[]).await.map_err(failed)?;
        Ok(Facts {
            version: row.get(0),
            schema: schema_of(&client).await.map_err(failed)?,
            synchronous_standby_names: row.get(1),
            fsync: row.get(2),
            replicas: u64::try_from(row.get::<_, i64>(3)).unwrap_or_default(),
        })
    }
}

/// Returns whether there are tables, by the catalogue as this statement sees it: `to_regclass` may remember that there were none.
async fn has_tables(client: &Client) -> Result<bool, Error> {
    let asked = "select exists (select from pg_tables where schemaname = 'agentcom' and tablename = 'audit')";
    client.query_typed_one(asked, &[]).await.map(|row| row.get(0))
}

/// Returns the schema number; `None` without tables.
async fn schema_of(client: &Client) -> Result<Option<u64>, Error> {
    if !has_tables(client).await? {
        return Ok(None);
    }
    let asked = "select record from agentcom.record where kind = $1 and key = $2";
    let key = SCHEMA_KEY.as_bytes();
    let found = client.query_typed_opt(asked, &[(&META_NAME, Type::TEXT), (&key, Type::BYTEA)]).await?;
    Ok(Some(found.and_then(|row| number(row.get(0))).unwrap_or(0)))
}

async fn put_schema(client: &Client) -> Result<(), Error> {
    let put = "insert into agentcom.record values ($1, $2, $3) on conflict (kind, key) do update set record = excluded.record";
    let (key, record) = (SCHEMA_KEY.as_bytes(), SCHEMA.to_le_bytes());
    let record: &[u8] = &record;
    client.query_typed(put, &[(&META_NAME, Type::TEXT), (&key, Type::BYTEA), (&record, Type::BYTEA)]).await.map(drop)
}

/// Raises a lower schema number, in the name of the leader: an older hub refuses the database from then on.
pub(super) async fn raise(database: &Database, client: &Client, term: &Term) -> Result<(), DatabaseError> {
    let failed = |error: Error| database.error(&error);
    database.refuse_newer(client).await?;
    let found = schema_of(client).await.map_err(failed)?.unwrap_or(0);
    if found < SCHEMA {
        tracing::info!(
            database = database.shown(),
            from = found,
            to = SCHEMA,
            epoch = term.epoch,
            "the store has a new schema number: an older hub refuses it from now on"
        );
        put_schema(client).await.map_err(failed)?;
    }
    Ok(())
}

/// Returns the size of the tables, in bytes.
pub(super) async fn bytes(database: &Database) -> Result<u64, DatabaseError> {
    let client = database.connect().await?;
    size(&client).await.map_err(|error| database.error(&error))
}

/// The same over an open connection.
pub(super) async fn size(client: &Client) -> Result<u64, Error> {
    let asked = "select pg_total_relation_size('agentcom.record') + pg_total_relation_size('agentcom.audit')";
    client.query_typed_one(asked, &[]).await.map(|row| u64::try_from(row.get::<_, i64>(0)).unwrap_or_default())
}

/// Reads everything but the audit.
pub(super) async fn load(database: &Database) -> Result<Stored, DatabaseError> {
    let failed = |error: Error| database.error(&error);
    let client = database.connect().await?;
    // In the order in which a file is read.
    let asked = "select kind, key, record from agentcom.record order by kind, key";
    let none: [(&(dyn ToSql + Sync), Type); 0] = [];
    let rows = client.query_typed_raw(asked, none).await.map_err(failed)?;
    let mut rows = pin!(rows);
    let (mut stored, mut clocks) = (Stored::default(), [None; 3]);
    while let Some(row) = rows.try_next().await.map_err(failed)? {
        add(&mut stored, &mut clocks, row.get(0), row.get(1), row.get(2));
    }
    stored.clock = match clocks {
        [Some(at_ms), Some(steady_ms), Some(boot)] => Some(ClockMark { at_ms, steady_ms, boot }),
        [..] => None,
    };
    Ok(stored)
}

/// Adds one row to what was stored.
fn add(stored: &mut Stored, clocks: &mut [Option<u64>; 3], kind: &str, key: &[u8], record: &[u8]) {
    use redb::TableHandle as _;
    let name = String::from_utf8_lossy(key);
    let unread = &mut stored.unread;
    if kind == TASKS.name() {
        stored.tasks.extend(decode(kind, &name, record, unread));
    } else if kind == RESTARTS.name() {
        stored.restarts.extend(decode(kind, &name, record, unread));
    } else if kind == ROLLOUTS.name() {
        stored.rollouts.extend(decode(kind, &name, record, unread));
    } else if kind == TARGETS.name() {
        stored.targets.extend(decode(kind, &name, record, unread));
    } else if kind == ANSWERS.name() {
        stored.answers.extend(decode(kind, &name, record, unread));
    } else if kind == INVITATIONS.name() {
        stored.invitations.extend(decode(kind, &name, record, unread));
    } else if kind == HEALING.name() {
        stored.healing.extend(decode(kind, &name, record, unread));
    } else if kind == AGENTS.name() {
        stored.agents.extend(decode(kind, &name, record, unread));
    } else if kind == TOKENS.name() {
        stored.tokens.extend(read_token(key, record, unread));
    } else if kind == SETTINGS.name() {
        stored.settings.push((name.into_owned(), String::from_utf8_lossy(record).into_owned()));
    } else if kind == META_NAME && name == MOMENT {
        stored.moment = number(record).unwrap_or(0);
    } else if kind == META_NAME
        && let Some(clock) = CLOCKS.iter().position(|clock| *clock == name)
    {
        clocks[clock] = number(record);
    }
}

/// Reads a number as redb writes it.
fn number(record: &[u8]) -> Option<u64> {
    record.try_into().ok().map(u64::from_le_bytes)
}
