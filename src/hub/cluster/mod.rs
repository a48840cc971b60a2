//! More than one hub on one database: one leads, and the others stand by and pass on to it what comes in.
//!
//! | part | what it is |
//! |---|---|
//! | `leadership` | who leads |
//! | `member` | a node whose role its database decides |
//! | [`node`] | the life of a node: it stands by, and then leads |
//! | [`listener`] | the leader's port for the other nodes, and how it believes what they say of a client |
//! | [`address`] | where that port is, as the others are told |
//! | [`standby`] | what a node answers while it does not lead |
//! | `forwarded` | what a node says of a request that it passes on |

pub mod address;
mod forwarded;
#[cfg(feature = "postgres")]
pub mod leadership;
pub mod listener;
#[cfg(feature = "postgres")]
pub mod member;
pub mod node;
pub mod standby;

use std::fmt;

/// What a node is at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Another node leads, or none that is known.
    Standby(Option<Leader>),
    /// This node leads.
    Leading {
        /// The number of its leadership, which each one that follows exceeds.
        epoch: u64,
    },
}

/// The node that leads.
#[derive(Clone, PartialEq, Eq)]
pub struct Leader {
    /// The number of its leadership.
    pub epoch: u64,
    /// The address of its cluster listener, without a trailing slash.
    pub url: String,
    /// What proves to that listener that a node asks; made anew for each epoch.
    pub secret: String,
}

/// Without the secret.
impl fmt::Debug for Leader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leader").field("epoch", &self.epoch).field("url", &self.url).finish_non_exhaustive()
    }
}
