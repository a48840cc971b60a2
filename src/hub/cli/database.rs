//! The arguments that name a database as the store.

use std::path::PathBuf;

use clap::Args;

use crate::hub::cli::client::{Failure, of_database};
use crate::hub::cli::exit_code::ExitCode;
use crate::hub::options::{Membership, Shared};
use crate::hub::state::store::DatabaseError;
use crate::hub::state::store::postgres::Database;

/// The variable of `--store`.
pub(in crate::hub::cli) const VARIABLE: &str = "AGENTCOM_HUB_STORE";

/// Where the store is. (Not read by clap from the environment, which would quote a password.)
#[derive(Debug, Args)]
pub(in crate::hub::cli) struct StoreArgs {
    /// The PostgreSQL database of the store, as postgres://USER:PASSWORD@HOST:PORT/DATABASE (also in AGENTCOM_HUB_STORE, where
    /// no other user sees the password); several hosts, if it has replicas: HOST:PORT,HOST:PORT. Without it, the store is a
    /// file in --data
    #[arg(long, value_name = "URL")]
    store: Option<String>,
}

impl StoreArgs {
    /// Returns the database, if one is named.
    ///
    /// # Errors
    /// [`DatabaseError::Address`].
    pub(in crate::hub::cli) fn database(&self) -> Result<Option<Database>, DatabaseError> {
        let named = self.store.clone().or_else(variable).filter(|address| !address.is_empty());
        named.as_deref().map(Database::parse).transpose()
    }
}

/// The database that is copied, or replaced by a copy. (Only where the command names it: by the variable alone, the restore of a
/// file into a folder would replace what all nodes share.)
#[derive(Debug, Args)]
pub(in crate::hub::cli) struct CopiedArgs {
    /// The PostgreSQL database of the store; without URL, the one that AGENTCOM_HUB_STORE names. Without --store, the store of
    /// --data or --hub is meant, whatever that variable says
    #[arg(long, value_name = "URL", num_args = 0..=1, conflicts_with = "hub")]
    store: Option<Option<String>>,
}

impl CopiedArgs {
    /// Returns the database, if one is meant.
    ///
    /// # Errors
    /// Its address is none, or not there.
    pub(in crate::hub::cli) fn database(&self) -> Result<Option<Database>, Failure> {
        let Some(given) = &self.store else { return Ok(None) };
        let address = given.clone().or_else(variable).filter(|address| !address.is_empty());
        let address = address.ok_or_else(|| {
            let message = format!("--store without an address takes it from {VARIABLE}, which is not set");
            Failure::new(ExitCode::Usage, message)
        })?;
        Ok(Some(Database::parse(&address)?))
    }
}

fn variable() -> Option<String> {
    std::env::var(VARIABLE).ok()
}

/// More than one hub.
#[derive(Debug, Args)]
#[command(next_help_heading = "More than one hub")]
pub(in crate::hub::cli) struct ClusterArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Where the other hubs on this database reach this one; needed with --store
    #[arg(long, value_name = "ADDRESS:PORT", env = "AGENTCOM_HUB_CLUSTER_LISTEN")]
    cluster_listen: Option<String>,
    /// The address of that port for the others, where it is another one; with https:// it speaks TLS (--tls-cert)
    #[arg(long, value_name = "URL", env = "AGENTCOM_HUB_CLUSTER_URL", requires = "cluster_listen")]
    cluster_url: Option<String>,
    /// Trust the certificates of the other hubs by the authorities in this file (PEM), where --cluster-url is https://
    #[arg(long, value_name = "FILE", env = "AGENTCOM_HUB_CLUSTER_CA_FILE", requires = "cluster_listen")]
    cluster_ca_file: Option<PathBuf>,
}

impl ClusterArgs {
    /// Returns the store that is shared with other hubs, if there is one.
    ///
    /// # Errors
    /// Returns what is wrong, and what to give.
    pub(in crate::hub::cli) fn shared(&self) -> Result<Option<Shared>, String> {
        let database = self.store.database().map_err(|error| error.to_string())?;
        match (database, &self.cluster_listen) {
            (Some(database), Some(listen)) => {
                let membership = Membership {
                    listen: listen.clone(),
                    url: self.cluster_url.clone(),
                    ca_file: self.cluster_ca_file.clone(),
                };
                Ok(Some(Shared { database, membership }))
            }
            (Some(_), None) => {
                Err("--store (or AGENTCOM_HUB_STORE) needs --cluster-listen ADDRESS:PORT: where the other hubs \
                on this database reach this one, such as 10.0.0.5:4001"
                    .to_owned())
            }
            (None, Some(_)) => {
                Err("--cluster-listen (or AGENTCOM_HUB_CLUSTER_LISTEN) is for hubs on one database: give \
                --store postgres://USER:PASSWORD@HOST:PORT/DATABASE, or leave it out"
                    .to_owned())
            }
            (None, None) => Ok(None),
        }
    }
}

impl From<DatabaseError> for Failure {
    fn from(error: DatabaseError) -> Self {
        Self::new(of_database(&error), error.to_string())
    }
}
