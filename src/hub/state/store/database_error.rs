//! Why a store in a database cannot be used, or not be used any more: what, where, and what to do.

use crate::hub::state::store::tables::SCHEMA;

/// The reason why a database cannot be used as a store, or its leader must not go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseError {
    /// The address is none.
    #[error("{0}")]
    Address(String),
    /// The server refuses: waiting does not help.
    #[error("{place} cannot be used: {detail}; {advice}")]
    Refused {
        /// The database, without its password.
        place: String,
        /// What the server says.
        detail: String,
        /// What to do.
        advice: &'static str,
    },
    /// The server is not there, is starting, or takes no writes: it may be again in a moment.
    #[error("{place} is not reached: {detail}")]
    Away {
        /// The database, without its password.
        place: String,
        /// What the system or the server says.
        detail: String,
    },
    /// A newer hub wrote it.
    #[error("{place} has schema {found}, this hub knows {SCHEMA}: run the newer hub that wrote it")]
    Newer {
        /// The database, without its password.
        place: String,
        /// Its schema number.
        found: u64,
    },
    /// A statement failed.
    #[error("{place}: {detail}: look at the server's log, its disk and the rights of this role")]
    Failed {
        /// The database, without its password.
        place: String,
        /// What the server says.
        detail: String,
    },
    /// Another process leads now.
    #[error(
        "the hub of {node} leads now (epoch {epoch}), and this one no more: it says nothing more and ends; started again, it \
         is a standby"
    )]
    Deposed {
        /// The epoch of the other one.
        epoch: u64,
        /// What the other one calls itself.
        node: String,
    },
    /// The database confirmed nothing for as long as the lease lasts.
    #[error(
        "{place} confirmed nothing for {lease_s} s ({detail}), and another hub may lead: this one says nothing more and \
         ends; started again, it is a standby"
    )]
    LeaseEnded {
        /// The database, without its password.
        place: String,
        /// The length of a lease, in s.
        lease_s: u64,
        /// The last that was heard of it.
        detail: String,
    },
    /// Commits that were confirmed are not there any more.
    #[error(
        "{place} has lost commits that it had confirmed: it has number {found} where {expected} was the last. That is what a \
         failover does with asynchronous replication (set synchronous_standby_names); this hub ends, and the next leader goes \
         on with what is left"
    )]
    WentBack {
        /// The database, without its password.
        place: String,
        /// The number of the last commit that it has.
        found: u64,
        /// The number of the last one that it confirmed.
        expected: u64,
    },
}

impl DatabaseError {
    /// Returns whether the same may succeed in a moment.
    pub fn passes(&self) -> bool {
        match self {
            Self::Away { .. } => true,
            Self::Address(_)
            | Self::Refused { .. }
            | Self::Newer { .. }
            | Self::Failed { .. }
            | Self::Deposed { .. }
            | Self::LeaseEnded { .. }
            | Self::WentBack { .. } => false,
        }
    }

    /// Returns whether it ends a leadership, and nothing else is wrong.
    pub fn ends_leadership(&self) -> bool {
        match self {
            Self::Away { .. } | Self::Deposed { .. } | Self::LeaseEnded { .. } | Self::WentBack { .. } => true,
            Self::Address(_) | Self::Refused { .. } | Self::Newer { .. } | Self::Failed { .. } => false,
        }
    }
}
