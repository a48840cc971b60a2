//! The store: tasks, restarts, rollouts, agents, tokens, invitations, settings and the audit, with one durable commit for each
//! batch of changes. It keeps records as JSON by key and does not know what they mean.
//!
//! | backend | what it is | who may commit |
//! |---|---|---|
//! | [`FileStore`] | one redb file in the data folder; the default | the one process that has it open |
//! | [`PostgresStore`] | a PostgreSQL database (`--store`) | the leader: each commit is fenced by its term |
//!
//! A commit is atomic in both: all of it is durable when it returns, or none of it is there. One that fails ends the hub, which
//! then is ahead of its store.

mod audit_bounds;
mod audit_reader;
mod clock;
mod database_error;
mod error;
mod file;
#[cfg(feature = "postgres")]
pub mod postgres;
mod records;
mod tables;

use std::io;
use std::path::{Path, PathBuf};

use crate::hub::scheduler::Changes;
pub use crate::hub::state::store::audit_bounds::{CLOCK_STEP_MS, MAX_BYTES, MAX_ENTRIES};
pub use crate::hub::state::store::audit_reader::AuditReader;
pub use crate::hub::state::store::database_error::DatabaseError;
pub use crate::hub::state::store::error::StoreError;
pub(super) use crate::hub::state::store::error::{ELSEWHERE, open_error};
pub(super) use crate::hub::state::store::file::{CACHE_BYTES, catch_panic, schema_of};
pub use crate::hub::state::store::file::{
    FileStore, SOCKET, WithoutStore, elsewhere, make_private_dir, take_for_database,
};
#[cfg(feature = "postgres")]
use crate::hub::state::store::postgres::PostgresStore;
pub use crate::hub::state::store::records::{StateChanges, Stored, UnreadRecord};
pub use crate::hub::state::store::tables::SCHEMA;
#[cfg(feature = "postgres")]
pub(super) use crate::hub::state::store::tables::{AUDIT_BYTES, AUDIT_NAME, META, SCHEMA_KEY};
pub(super) use crate::hub::state::store::tables::{META_NAME, TableVisitor, visit_tables};

/// The open store.
#[allow(clippy::large_enum_variant, reason = "a process has one")]
pub enum Store {
    /// In a file.
    File(FileStore),
    /// In a PostgreSQL database, by its leader.
    #[cfg(feature = "postgres")]
    Postgres(PostgresStore),
}

impl Store {
    /// Returns the path of a store's file in a data folder.
    pub fn path_in(data_dir: &Path) -> PathBuf {
        FileStore::path_in(data_dir)
    }

    /// Opens `hub.redb` in the folder; `absent` says what is done where there is none.
    ///
    /// # Errors
    /// Returns [`StoreError::Locked`] while another process has the file open, or the other errors as described there.
    pub fn open(data_dir: &Path, absent: WithoutStore) -> Result<Self, StoreError> {
        FileStore::open(data_dir, absent).map(Self::File)
    }

    /// Checks that the folder holds a store, or is that of a node whose store is in a database.
    ///
    /// # Errors
    /// [`StoreError`] if there is none that could be opened.
    pub fn must_be_in(data_dir: &Path) -> Result<(), StoreError> {
        FileStore::must_be_in(data_dir)
    }

    /// Returns the size of what is stored, in bytes: of the file after the last commit, or of the database's tables within the
    /// last minute.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::File(store) => store.bytes(),
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => store.bytes(),
        }
    }

    /// Returns the same as it is found now.
    ///
    /// # Errors
    /// The system's, where there is no file.
    pub(in crate::hub) fn bytes_found(&self) -> io::Result<u64> {
        match self {
            Self::File(store) => Ok(std::fs::metadata(store.path())?.len()),
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => Ok(store.bytes()),
        }
    }

    /// Checks that what was stored is found again: that the file is where it was, as the last commit left it; or that the lease
    /// of this leader has not ended.
    ///
    /// # Errors
    /// [`StoreError::TakenAway`], [`StoreError::Database`].
    pub fn check(&self) -> Result<(), StoreError> {
        match self {
            Self::File(store) => store.check(),
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => store.check(),
        }
    }

    /// Returns whether something may be said now: whether no other process can be the store's owner. Nobody but the owner of a
    /// file has it open.
    pub fn may_speak(&self) -> bool {
        match self {
            Self::File(_) => true,
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => store.check().is_ok(),
        }
    }

    /// Returns whether another process may become the store's owner at any moment, so that a batch that speaks and changes
    /// nothing has to ask the store, too.
    pub fn is_shared(&self) -> bool {
        match self {
            Self::File(_) => false,
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => true,
        }
    }

    /// Returns for how long another process waits at most before it takes the store over, in ms.
    pub fn lease_ms(&self) -> u64 {
        match self {
            Self::File(_) => 0,
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => postgres::LEASE_MS,
        }
    }

    /// Returns once this process must not go on with the store, and why. A file is its own until the process ends.
    pub async fn lost(&self) -> DatabaseError {
        match self {
            Self::File(_) => std::future::pending().await,
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => store.lost().await,
        }
    }

    /// Returns a reader of the audit, which is not part of [`Self::load`].
    pub fn audit(&self) -> AuditReader {
        match self {
            Self::File(store) => AuditReader::File(store.audit()),
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => AuditReader::Postgres(store.audit()),
        }
    }

    /// Reads everything but the audit. A record that cannot be read does not keep others from being read.
    ///
    /// # Errors
    /// Returns [`StoreError::File`] or [`StoreError::Database`] if the store itself cannot be read.
    pub fn load(&self) -> Result<Stored, StoreError> {
        match self {
            Self::File(store) => store.load(),
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => store.load(),
        }
    }

    /// Writes a batch atomically: all of it is durable when this returns, or none of it. Where the store is
    /// [shared](Self::is_shared), a batch that [speaks](StateChanges::speaks) asks it whether this process still leads, even if
    /// there is nothing to write.
    ///
    /// Returns whether there was anything to write.
    ///
    /// # Errors
    /// Returns [`StoreError`]; memory and store differ then, and the caller must not continue, nor say anything. Also where there
    /// is nothing to write: [`StoreError::TakenAway`], or [`StoreError::Database`] with the end of the leadership.
    pub fn commit(&self, changes: &Changes<'_>, aside: &StateChanges) -> Result<bool, StoreError> {
        match self {
            Self::File(store) => store.commit(changes, aside),
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => store.commit(changes, aside),
        }
    }

    /// Leaves word in the data folder of a file that was taken away from under a hub, and a copy of what it held, where it is
    /// gone with this process. A database keeps what it holds.
    pub fn leave_word(&self, data_dir: &Path, why: &StoreError) {
        match self {
            Self::File(store) => store.leave_word(data_dir, why),
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => {}
        }
    }
}
