//! The store in a PostgreSQL database: many hubs reach it, and one of them, the leader, commits to it.
//!
//! The row of `agentcom.leader` says who leads: an epoch, which each new leader raises; a random name of its term; the number of
//! its last commit; and until when nobody else may take over. Each commit is one statement. Its first part moves that row, and
//! only where epoch, term and number are what this process knows: a leader that was replaced changes nothing, a statement that
//! is sent again after the connection broke is done once, and a database that has lost a confirmed commit is noticed.

mod audit;
mod batch;
mod connection;
mod lease;
mod schema;
mod term;
mod tls;
mod writer;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::timeout;

use crate::hub::scheduler::Changes;
use crate::hub::state::store::database_error::DatabaseError;
use crate::hub::state::store::error::StoreError;
pub(in crate::hub::state::store) use crate::hub::state::store::postgres::audit::PostgresAudit;
use crate::hub::state::store::postgres::batch::Batch;
pub use crate::hub::state::store::postgres::connection::{Database, Session};
pub use crate::hub::state::store::postgres::lease::{LEASE_MS, Lease};
pub use crate::hub::state::store::postgres::schema::Facts;
pub use crate::hub::state::store::postgres::term::{Candidate, Incumbent, Term};
use crate::hub::state::store::postgres::writer::{Sending, Writer};
use crate::hub::state::store::records::{StateChanges, Stored};

/// How long a hub that ends takes at most to say that its term is over.
const RELEASE_TIMEOUT: Duration = Duration::from_millis(500);
/// How often the size of the tables is looked at, in ms.
const SIZE_EVERY_MS: u64 = 60_000;

/// The store of the leader.
pub struct PostgresStore {
    database: Database,
    term: Term,
    writer: Mutex<Writer>,
    bytes: AtomicU64,
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        let leads = self.term.lease.check().is_ok();
        // Nobody commits in its name any more: it is not renewed either.
        self.term.lease.end(self.term.lease.over("the store was closed"));
        if leads {
            self.release();
        }
    }
}

impl PostgresStore {
    /// Opens the store for the process that leads in this term.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub fn lead(database: Database, term: Term) -> Result<Self, DatabaseError> {
        let opening = {
            let (database, term) = (database.clone(), term.clone());
            async move {
                let client = database.connect().await?;
                schema::raise(&database, &client, &term).await?;
                let writer = Writer::new(&database, client, term.commit_no).await?;
                Ok((writer, schema::bytes(&database).await?))
            }
        };
        let (writer, bytes) = database.wait(opening)?;
        Ok(Self { database, term, writer: Mutex::new(writer), bytes: AtomicU64::new(bytes) })
    }

    /// Says in the database that the term is over, so that the next leader need not wait. Where that fails, it waits.
    fn release(&self) {
        let client = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (database, term) = (self.database.clone(), self.term.clone());
        let releasing = async move {
            let saying = async {
                let client = match client {
                    Some(client) => client,
                    None => database.connect().await?,
                };
                database.release(&client, &term).await
            };
            timeout(RELEASE_TIMEOUT, saying).await.unwrap_or(Ok(()))
        };
        if let Err(error) = self.database.wait(releasing) {
            tracing::debug!(%error, "the lease ends by itself");
        }
    }

    /// Returns the database.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Returns the size of the tables, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Checks that this process may still lead.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        Ok(self.term.lease.check()?)
    }

    /// Returns once this process does not lead any more, and why.
    pub(super) async fn lost(&self) -> DatabaseError {
        self.term.lease.ended().await
    }

    /// Returns a reader of the audit.
    pub(super) fn audit(&self) -> PostgresAudit {
        PostgresAudit { database: self.database.clone() }
    }

    /// Reads everything but the audit.
    pub(super) fn load(&self) -> Result<Stored, StoreError> {
        let database = self.database.clone();
        Ok(self.database.wait(async move { schema::load(&database).await })?)
    }

    /// Commits, as [`crate::hub::state::store::Store::commit`] does.
    pub(super) fn commit(&self, changes: &Changes<'_>, aside: &StateChanges) -> Result<bool, StoreError> {
        self.check()?;
        let batch = Batch::of(changes, aside)?;
        let wrote = !batch.is_empty();
        if !wrote && !aside.speaks {
            return Ok(false);
        }
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let measures = writer.is_size_due(SIZE_EVERY_MS);
        let sending = Sending::new(&self.database, &self.term, &mut writer, batch, measures);
        match self.database.wait(sending.send()) {
            Ok((client, bytes)) => {
                writer.landed(client);
                if let Some(bytes) = bytes {
                    self.bytes.store(bytes, Ordering::Relaxed);
                }
            }
            Err(error) => {
                // Whatever else this process does now, it says nothing more.
                self.term.lease.end(error.clone());
                return Err(error.into());
            }
        }
        // The statement may have taken longer than the lease that it renewed.
        self.check()?;
        Ok(wrote)
    }
}
