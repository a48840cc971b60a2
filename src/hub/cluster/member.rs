//! A node whose role its database decides.

use tokio_util::sync::CancellationToken;

use crate::hub::cluster::leadership::Leadership;
use crate::hub::cluster::node::{self, Advertised, Joined};
use crate::hub::options::{Options, ServeError, Shared};
use crate::hub::random;
use crate::hub::state::store::postgres::Candidate;
use crate::hub::state::store::{Store, make_private_dir, take_for_database};

/// Runs a hub as one of several on a database until `stop`.
///
/// # Errors
/// [`ServeError`], at the start, or when it cannot go on; also when another one leads after it.
pub async fn serve(options: Options, shared: Shared, stop: CancellationToken) -> Result<(), ServeError> {
    let Shared { database, membership } = shared;
    let data_dir = &options.data_dir;
    make_private_dir(data_dir).map_err(|error| ServeError::DataDir { path: data_dir.clone(), error })?;
    let _folder = take_for_database(data_dir, database.shown()).map_err(ServeError::Store)?;
    let term = random::id().map_err(|error| ServeError::Cluster(error.to_string()))?;
    let join = |Advertised { url, secret }: Advertised| {
        let candidate = Candidate { node: url.clone(), url, secret: secret.expose().to_owned(), term };
        let leadership = Leadership::start(&database, candidate);
        let role = leadership.role();
        let store =
            async move { Ok(Store::Postgres(leadership.store(database).await.map_err(ServeError::Leadership)?)) };
        Joined { role, store }
    };
    node::serve(options, membership, join, stop).await
}
