//! The options of a hub, and the reasons why one ends.

use std::io;
use std::path::PathBuf;

use crate::common::http_host::WebOrigin;
use crate::hub::connections::tls::certificate::TlsFiles;
use crate::hub::healing_file::HealingFile;
use crate::hub::registration::Registration;
use crate::hub::scheduler::policy::Policy;
#[cfg(feature = "postgres")]
use crate::hub::state::store::postgres::Database;
use crate::hub::state::store::{DatabaseError, StoreError, WithoutStore};

/// The options of a hub.
#[derive(Debug, Clone)]
pub struct Options {
    /// The address to listen on, as `address:port`; port 0 takes any free one.
    pub listen: String,
    /// The folder of `hub.redb` and `hub.sock`.
    pub data_dir: PathBuf,
    /// What is done where it holds no store.
    pub absent: WithoutStore,
    /// The timings and limits.
    pub policy: Policy,
    /// Who may register agents; `None` for [`Registration::by_default`].
    pub registration: Option<Registration>,
    /// Whether anybody may read the metrics; else a token is needed, but not on this machine.
    pub public_metrics: bool,
    /// The address at which people open the hub in a browser, if it is told.
    pub public_url: Option<WebOrigin>,
    /// The file of the healing rules, if there is one.
    pub healing: Option<HealingFile>,
    /// The files of the certificate, if the port speaks TLS.
    pub tls: Option<TlsFiles>,
    /// The store that is shared with other hubs, if there is one.
    #[cfg(feature = "postgres")]
    pub shared: Option<Shared>,
}

/// A store that is shared with other hubs: the one that leads has it.
#[cfg(feature = "postgres")]
#[derive(Debug, Clone)]
pub struct Shared {
    /// The database.
    pub database: Database,
    /// What makes this hub one of them.
    pub membership: Membership,
}

/// What makes a hub a node of a cluster.
#[derive(Debug, Clone)]
pub struct Membership {
    /// The address of the port for the other nodes, as `address:port`.
    pub listen: String,
    /// Where they reach it, if that is another one. With `https://` it speaks TLS, with the certificate of the hub's own port.
    pub url: Option<String>,
    /// The authorities that the other nodes' certificates are checked against, if not the machine's own (PEM).
    pub ca_file: Option<PathBuf>,
}

/// The reason why a hub could not start, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The data dir cannot be used.
    #[error("the data dir {} cannot be used: {error}; give another with --data", .path.display())]
    DataDir {
        /// The data dir, or the socket in it.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// The store cannot be opened or read.
    #[error("{0}")]
    Store(StoreError),
    /// Another process listens on the address.
    #[error("{0} is taken by another process (ss -ltnp shows which): stop it, or give --listen")]
    AddressInUse(String),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {error}; give another --listen")]
    Listen {
        /// The address.
        address: String,
        /// The system's error.
        error: io::Error,
    },
    /// What is said of the cluster cannot be done.
    #[error("{0}")]
    Cluster(String),
    /// The certificate or its key cannot be used.
    #[error("the hub cannot speak TLS: {0}")]
    Certificate(String),
    /// A commit failed: memory is ahead of the disk, so nothing more may be answered.
    #[error("a change could not be stored, and the hub stops rather than lose it: {0}")]
    Commit(StoreError),
    /// The store was taken away: what was answered might not be found again.
    #[error("the store was taken away, and nothing more is answered: {0}")]
    TakenAway(StoreError),
    /// This hub does not lead any more, or the database refuses it.
    #[error("{0}")]
    Leadership(DatabaseError),
    /// The actor ended without having been told to.
    #[error("the hub's actor ended: {0}; this is a bug")]
    ActorDied(String),
}
