//! The life of a node: it binds its ports, stands by until it is told to lead, and then does the work of a hub on the same
//! ports and the same connections.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::common::http_client::route::Transport;
use crate::common::http_client::tls::{Roots, SetBy, TlsOptions};
use crate::common::secret::Secret;
use crate::hub::cluster::address::advertised;
use crate::hub::cluster::standby::Standby;
use crate::hub::cluster::{Role, listener};
use crate::hub::connections::routes::Routes;
use crate::hub::connections::{admin_socket, fd_limit};
use crate::hub::options::{Membership, Options, ServeError};
use crate::hub::port::{Port, read_certificate};
use crate::hub::server::{Loaded, Work, bind_socket, say_goodbye};
use crate::hub::state::audit::Via;
use crate::hub::state::store::Store;

/// What the other nodes must know of this one before it may lead.
#[derive(Debug, Clone)]
pub struct Advertised {
    /// The address of its port for them.
    pub url: String,
    /// What proves there that a node asks. A process leads once at most, so that it is another one in each epoch.
    pub secret: Secret,
}

/// A node that is known to the others.
pub struct Joined<S> {
    /// What it is from now on.
    pub role: watch::Receiver<Role>,
    /// Returns the store once this node leads.
    pub store: S,
}

/// Runs a node until `stop`, on a data folder that is its own. `join` makes it known to the others.
///
/// # Errors
/// [`ServeError`], at the start, or when it cannot go on.
pub async fn serve<S: Future<Output = Result<Store, ServeError>>>(
    options: Options,
    membership: Membership,
    join: impl FnOnce(Advertised) -> Joined<S>,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let certificate = read_certificate(&options)?;
    let own_socket = bind_socket(&options.data_dir)?;
    // A standby holds two files for each connection, and there is a second port.
    let files = fd_limit::max_open_files() / 2;
    let port = Port::bind(&options.listen, &options, certificate.clone(), files).await?;
    let with_tls = membership.url.as_ref().is_some_and(|url| url.starts_with("https://"));
    if with_tls && certificate.is_none() {
        let why = "--cluster-url is https://, and the hub has no certificate: give --tls-cert and --tls-key";
        return Err(ServeError::Cluster(why.to_owned()));
    }
    if certificate.is_some() && !with_tls {
        tracing::warn!(
            "clients speak TLS, and what they say goes to the leader in the clear: give --cluster-url https://... or keep \
             that network private"
        );
    }
    let cluster_port = Port::bind(&membership.listen, &options, certificate.filter(|_| with_tls), files).await?;
    let url = advertised(cluster_port.front.address, membership.url.as_deref()).map_err(ServeError::Cluster)?;
    let secret = listener::new_secret().map_err(|error| ServeError::Cluster(error.to_string()))?;
    let Joined { mut role, store } = join(Advertised { url: url.clone(), secret: secret.clone() });

    let (front, sockets) = (port.front.clone(), TaskTracker::new());
    let standby = Standby::new(
        role.clone(),
        front.entrance.clone(),
        front.connections.clone(),
        transport(&membership),
        stop.clone(),
        sockets.clone(),
    );
    front.watch_certificate(&options, &sockets, &stop);
    sockets.spawn(standby.clone().follow());
    let (routes, cluster_routes) = (Routes::new(standby.router()), Routes::new(listener::closed()));
    sockets.spawn(admin_socket::serve(own_socket, routes.clone(), Via::Socket, stop.clone()));
    let ports = vec![port.serve(routes.clone(), &stop)?, cluster_port.serve(cluster_routes.clone(), &stop)?];
    tracing::info!(address = %front.address, cluster = url, "standing by");

    let store = tokio::select! {
        () = stop.cancelled() => None,
        store = store => Some(store),
    };
    let begun = async {
        let Some(store) = store else { return Ok(None) };
        let (store, epoch) = (store?, leading(&mut role).await?);
        // It may have much to read, and whoever asks meanwhile is told so.
        let loaded = tokio::task::spawn_blocking(move || Loaded::read(store)).await;
        Ok(Some((loaded.unwrap_or_else(|error| Err(ServeError::ActorDied(error.to_string())))?, epoch)))
    };
    let (loaded, epoch) = match begun.await {
        Ok(Some(begun)) => begun,
        ended => {
            stop.cancel();
            say_goodbye(ports, sockets).await;
            return ended.map(|_| ());
        }
    };
    let counts = loaded.counts;
    let work = Work::begin(loaded, &options, &front, Some(epoch), sockets, &stop);
    cluster_routes.replace(listener::leading(work.router.clone(), epoch, secret));
    routes.replace(work.router.clone());
    let (tasks, restarts, tokens) = counts;
    tracing::info!(address = %front.address, epoch, tasks, restarts, tokens, "listening");
    work.finish(ports, stop).await
}

/// Returns the epoch in which this node leads.
async fn leading(role: &mut watch::Receiver<Role>) -> Result<u64, ServeError> {
    let leads = role.wait_for(|role| matches!(role, Role::Leading { .. })).await;
    match leads.as_deref() {
        Ok(Role::Leading { epoch }) => Ok(*epoch),
        Ok(Role::Standby(_)) | Err(_) => {
            Err(ServeError::Cluster("nobody says any more who leads: this is a bug".to_owned()))
        }
    }
}

fn transport(membership: &Membership) -> Transport {
    let roots = membership.ca_file.clone().map_or(Roots::Native, Roots::File);
    Transport { tls: TlsOptions { roots, client: None, set_by: SetBy::Option }, ..Transport::without_proxies() }
}
