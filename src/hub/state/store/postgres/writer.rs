//! Sending one commit until it is known whether it was done.
//!
//! A commit whose connection breaks may have been done, or be done yet. It is sent again, with the same number of the commit
//! before: if the first one was done, the fence of the second finds a higher number and changes nothing, and the row says that
//! is this process's. If the first one is under way, the second waits for it. All of it is bounded by the lease.
//!
//! A commit that is found so, or comes with a warning, is there, and perhaps not at a replica yet. A renewal of the lease that
//! follows it, and waits for the replica without a warning, says that it is: the log is in order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};
use tokio_postgres::types::{ToSql, Type};

use crate::common::steady_clock;
use crate::hub::state::store::audit_bounds::AuditBounds;
use crate::hub::state::store::database_error::DatabaseError;
use crate::hub::state::store::postgres::audit::HeldEntries;
use crate::hub::state::store::postgres::batch::{Batch, Columns};
use crate::hub::state::store::postgres::connection::{Database, Session};
use crate::hub::state::store::postgres::schema;
use crate::hub::state::store::postgres::term::{FENCE, LEASE_S, Term, deposed_by, fence_values};

/// The pause before the database is tried again.
const PAUSE: Duration = Duration::from_millis(100);
/// How long the size of the tables may take to be looked at.
const SIZE_TIMEOUT: Duration = Duration::from_secs(1);

/// What the leader knows of its next commit.
pub(super) struct Writer {
    /// The connection; `None` while a commit has it, and after one that failed.
    client: Option<Session>,
    /// The number of the last commit.
    commit_no: i64,
    kept: HeldEntries,
    measured_at: Instant,
}

impl Writer {
    /// Creates it, with what is kept of the audit.
    pub(super) async fn new(database: &Database, client: Session, commit_no: i64) -> Result<Self, DatabaseError> {
        let asked = "select seq, length(record)::bigint from agentcom.audit order by seq";
        let rows = client.query_typed(asked, &[]).await.map_err(|error| database.error(&error))?;
        let size = |bytes: i64| u64::try_from(bytes).unwrap_or_default();
        let kept = HeldEntries::new(rows.iter().map(|row| (row.get(0), size(row.get(1)))));
        Ok(Self { client: Some(client), commit_no, kept, measured_at: Instant::now() })
    }

    /// Returns whether the size of the tables was looked at so long ago; if so, it is looked at now.
    pub(super) fn is_size_due(&mut self, every_ms: u64) -> bool {
        let is_due = self.measured_at.elapsed() >= Duration::from_millis(every_ms);
        if is_due {
            self.measured_at = Instant::now();
        }
        is_due
    }

    /// Takes the connection, if it is open.
    pub(super) fn take(&mut self) -> Option<Session> {
        self.client.take().filter(|client| !client.is_closed())
    }

    /// Records that the commit was done.
    pub(super) fn landed(&mut self, client: Session) {
        self.client = Some(client);
        self.commit_no += 1;
    }
}

/// One commit under way.
pub(super) struct Sending {
    database: Database,
    term: Term,
    client: Option<Session>,
    /// The number of the commit before.
    last: i64,
    columns: Columns,
    audit: (Vec<i64>, Vec<Vec<u8>>),
    /// The lowest number of an entry of the audit that is kept.
    audit_from: i64,
    is_empty: bool,
    measures: bool,
}

impl Sending {
    pub(super) fn new(database: &Database, term: &Term, writer: &mut Writer, batch: Batch, measures: bool) -> Self {
        let sizes = batch.audit.iter().map(|record| record.len() as u64);
        let (numbers, audit_from) = writer.kept.add(sizes, AuditBounds::default());
        Self {
            database: database.clone(),
            term: term.clone(),
            client: writer.client.take(),
            last: writer.commit_no,
            columns: batch.columns(),
            is_empty: batch.is_empty(),
            audit: (numbers, batch.audit),
            audit_from,
            measures,
        }
    }

    /// Sends it until it is known whether it was done. Returns the connection, and the size of the tables if that was asked for.
    ///
    /// # Errors
    /// [`DatabaseError`]: it was not done; or, with [`DatabaseError::LeaseEnded`], that is not known.
    pub(super) async fn send(mut self) -> Result<(Session, Option<u64>), DatabaseError> {
        let (mut was_sent, mut heard) = (false, "no answer".to_owned());
        loop {
            let Some(left) = self.left() else { return Err(self.term.lease.over(&heard)) };
            let lease = Arc::clone(&self.term.lease);
            let tried = tokio::select! {
                tried = timeout(left, self.try_once(&mut was_sent)) => tried,
                why = lease.ended() => return Err(why),
            };
            match tried {
                Ok(Ok(client)) => {
                    // A size that cannot be had now is had later.
                    let size = match self.measures {
                        true => timeout(SIZE_TIMEOUT, schema::size(&client)).await.ok().and_then(Result::ok),
                        false => None,
                    };
                    return Ok((client, size));
                }
                Ok(Err(error)) if error.passes() => {
                    heard = error.to_string();
                    tracing::warn!(error = heard, "a commit is sent again");
                    sleep(PAUSE).await;
                }
                Ok(Err(error)) => return Err(error),
                Err(_) => {}
            }
        }
    }

    fn left(&self) -> Option<Duration> {
        Some(self.term.lease.left_ms()).filter(|left| *left > 0).map(Duration::from_millis)
    }

    async fn try_once(&mut self, was_sent: &mut bool) -> Result<Session, DatabaseError> {
        let client = match self.client.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => self.database.connect().await?,
        };
        let (sent_at_ms, warnings) = (steady_clock::with_suspend_ms(), client.warnings());
        let may_be_done = std::mem::replace(was_sent, true);
        if self.statement(&client).await.map_err(|error| self.database.error(&error))? {
            self.term.lease.renewed(sent_at_ms);
            return if client.warnings() == warnings { Ok(client) } else { self.confirmed(client).await };
        }
        let found = self.database.look(&client).await?;
        let next = self.last + 1;
        match found.commit_no {
            _ if !found.is(&self.term) => Err(deposed_by(&found)),
            commit_no if commit_no == next && may_be_done => self.confirmed(client).await,
            commit_no => Err(DatabaseError::WentBack {
                place: self.database.shown().to_owned(),
                found: commit_no.cast_unsigned(),
                expected: self.last.cast_unsigned(),
            }),
        }
    }

    /// Returns the connection once what is there is as durable as any commit.
    async fn confirmed(&self, client: Session) -> Result<Session, DatabaseError> {
        loop {
            let warnings = client.warnings();
            if !self.database.renew(&client, &self.term).await? {
                return Err(deposed_by(&self.database.look(&client).await?));
            }
            if client.warnings() == warnings {
                return Ok(client);
            }
            sleep(PAUSE).await;
        }
    }

    /// Does the commit in one statement. Returns whether the fence held: if not, nothing was changed.
    async fn statement(&self, client: &Session) -> Result<bool, tokio_postgres::Error> {
        let (epoch, term) = fence_values(&self.term);
        let mut values: Vec<(&(dyn ToSql + Sync), Type)> =
            vec![(&epoch, Type::INT8), (&term, Type::TEXT), (&self.last, Type::INT8), (&LEASE_S, Type::FLOAT8)];
        if self.is_empty {
            return Ok(client.query_typed_opt(FENCE, &values).await?.is_some());
        }
        let Columns { put, deleted } = &self.columns;
        values.extend::<[(&(dyn ToSql + Sync), Type); 8]>([
            (&put.0, Type::TEXT_ARRAY),
            (&put.1, Type::BYTEA_ARRAY),
            (&put.2, Type::BYTEA_ARRAY),
            (&deleted.0, Type::TEXT_ARRAY),
            (&deleted.1, Type::BYTEA_ARRAY),
            (&self.audit.0, Type::INT8_ARRAY),
            (&self.audit.1, Type::BYTEA_ARRAY),
            (&self.audit_from, Type::INT8),
        ]);
        let statement = format!(
            "with fence as ({FENCE}), \
             put as (insert into agentcom.record (kind, key, record) \
               select * from unnest($5::text[], $6::bytea[], $7::bytea[]) where exists (select from fence) \
               on conflict (kind, key) do update set record = excluded.record), \
             deleted as (delete from agentcom.record r using unnest($8::text[], $9::bytea[]) as d (kind, key) \
               where r.kind = d.kind and r.key = d.key and exists (select from fence)), \
             added as (insert into agentcom.audit (seq, record) \
               select * from unnest($10::bigint[], $11::bytea[]) where exists (select from fence)), \
             dropped as (delete from agentcom.audit where seq < $12 and exists (select from fence)) \
             select epoch from fence"
        );
        Ok(client.query_typed_opt(&statement, &values).await?.is_some())
    }
}
