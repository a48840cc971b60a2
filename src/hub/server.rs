//! The hub's lifecycle: opens the store, binds the port, serves until stopped, and ends within a second. It reads no
//! arguments and handles no signals; `cli` does.

use std::io;
use std::net::{IpAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::common::http_host::WebOrigin;
use crate::hub::actor::Actor;
use crate::hub::backups::Backups;
use crate::hub::clock::Clock;
use crate::hub::connections::listener::{self, Bounds, Connections, Service};
use crate::hub::connections::tls::certificate::{self, Certificate, TlsFiles};
use crate::hub::connections::tls::handshake::Handshakes;
use crate::hub::connections::websocket::TimeLimits;
use crate::hub::connections::{accept, admin_socket, fd_limit};
use crate::hub::healing_file;
use crate::hub::healing_file::HealingFile;
use crate::hub::http::browsers::own_pages::OwnPages;
use crate::hub::http::{App, router};
use crate::hub::hub_state::HubState;
use crate::hub::registration::{Changes, Registration};
use crate::hub::scheduler::policy::Policy;
use crate::hub::state::audit::Via;
use crate::hub::state::store::{Store, StoreError, UnreadRecord, WithoutStore, make_private_dir};

/// The time that sockets and requests have to end. pm2 kills after 1,600 ms.
const GOODBYE: Duration = Duration::from_millis(900);
/// How long to wait at start for a locked store: `agentcom-hub token` holds the lock for some milliseconds.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

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
    /// The certificate or its key cannot be used.
    #[error("the hub cannot speak TLS: {0}")]
    Certificate(String),
    /// A commit failed: memory is ahead of the disk, so nothing more may be answered.
    #[error("a change could not be stored, and the hub stops rather than lose it: {0}")]
    Commit(StoreError),
    /// The store was taken away: what was answered might not be found again.
    #[error("the store was taken away, and nothing more is answered: {0}")]
    TakenAway(StoreError),
    /// The actor ended without having been told to.
    #[error("the hub's actor ended: {0}; this is a bug")]
    ActorDied(String),
}

/// Runs the hub until `stop`.
///
/// # Errors
/// [`ServeError`], at the start or when the disk fails.
pub async fn serve(options: Options, stop: CancellationToken) -> Result<(), ServeError> {
    let Options { listen, data_dir, absent, policy, registration, public_metrics, public_url, healing, tls } = options;
    let certificate = tls.as_ref().map(Certificate::read).transpose().map_err(ServeError::Certificate)?.map(Arc::new);
    let store = open_store(&data_dir, absent).await?;
    let clock = Clock::default();
    let stored = store.load_at(clock.mark()).map_err(ServeError::Store)?;
    for UnreadRecord { table, key, bytes, why } in &stored.unread {
        tracing::error!(
            table,
            key,
            bytes,
            why,
            "a record cannot be read: it is kept as it is and counts for nothing; `agentcom-hub store check` says what to do"
        );
    }
    let counts = (stored.tasks.len(), stored.restarts.len(), stored.tokens.len());
    let own_socket = admin_socket::bind(&data_dir)
        .map_err(|error| ServeError::DataDir { path: admin_socket::path_in(&data_dir), error })?;
    let listener = bind(&listen).await?;
    let address = listener.local_addr().map_err(|error| ServeError::Listen { address: listen, error })?;

    let store = Arc::new(store);
    let backups = Backups::new(&store);
    let mut state = HubState::load(stored, policy, clock);
    if let Some(file) = &healing {
        let now_ms = state.clock.now_ms();
        healing_file::load(&file.path, &mut state, now_ms);
    }
    let (actor, handle) = Actor::new(state, Arc::clone(&store));
    let actor = spawn_actor(actor, stop.clone());

    let bounds = bounds(&policy, fd_limit::max_open_files());
    let connections = Connections::new(&bounds);
    let app = App {
        listen: address.to_string(),
        patience: TimeLimits {
            silence: Duration::from_millis(policy.silence_timeout_ms),
            identify: Duration::from_millis(policy.identify_timeout_ms),
        },
        registration: registration.unwrap_or_else(|| default_registration(address.ip())),
        public_metrics,
        certificate: certificate.clone(),
        own_pages: OwnPages {
            checks_host: address.ip().to_canonical().is_loopback() || public_url.is_some(),
            public_url,
        },
        connections: connections.clone(),
        ..App::new(handle.clone(), data_dir.clone(), backups, stop.clone())
    };
    let sockets = app.sockets.clone();
    if let Some(file) = healing {
        sockets.spawn(healing_file::watch(file, handle, stop.clone()));
    }
    if let Some((files, certificate)) = tls.zip(certificate.clone()) {
        sockets.spawn(certificate::watch(files, certificate, stop.clone()));
    }
    let router = router(Arc::new(app));
    sockets.spawn(admin_socket::serve(own_socket, router.clone(), Via::Socket, stop.clone()));
    let service = Service { request_timeout: bounds.request, tls: certificate.map(Handshakes::new) };
    let http = listener::start(listener, router, connections, service, stop.clone())
        .map_err(|error| ServeError::Listen { address: address.to_string(), error })?;
    tracing::info!(%address, tasks = counts.0, restarts = counts.1, tokens = counts.2, "listening");
    let ended = finish(actor, http, sockets, stop).await;
    if let Err(ServeError::TakenAway(why)) = &ended {
        store.leave_word(&data_dir, why);
    }
    ended
}

/// Returns who may register agents where nothing is said, and warns where that will change.
fn default_registration(listens_on: IpAddr) -> Registration {
    let (registration, changes) = Registration::by_default(listens_on);
    match changes {
        Changes::No => {}
        Changes::InTheNextVersion => tracing::warn!(
            "anyone who reaches this hub can register an agent; the next version will ask for an invitation \
             (agentcom-hub invite): start it with --registration invite to have that now, or with --registration open to \
             keep it as it is"
        ),
    }
    registration
}

/// Starts the actor on a thread of its own: its commits block.
fn spawn_actor(actor: Actor, stop: CancellationToken) -> JoinHandle<Result<(), StoreError>> {
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || runtime.block_on(actor.run(stop)))
}

/// A data folder whose own socket is served by a command, while no hub runs on it: no agent connects, and nothing becomes
/// due.
pub struct OfflineHub {
    actor: JoinHandle<Result<(), StoreError>>,
    socket: JoinHandle<()>,
    stop: CancellationToken,
}

impl OfflineHub {
    /// Opens the store and serves the socket.
    ///
    /// # Errors
    /// [`ServeError`]; `Store(Locked)` if a hub or another command has the store.
    pub fn start(data_dir: &Path, absent: WithoutStore) -> Result<Self, ServeError> {
        let store = Store::open(data_dir, absent).map_err(ServeError::Store)?;
        let clock = Clock::default();
        let stored = store.load_at(clock.mark()).map_err(ServeError::Store)?;
        let own_socket = admin_socket::bind(data_dir)
            .map_err(|error| ServeError::DataDir { path: admin_socket::path_in(data_dir), error })?;
        let store = Arc::new(store);
        let backups = Backups::new(&store);
        let (actor, handle) = Actor::to_edit(HubState::load_to_edit(stored, clock), store);
        let stop = CancellationToken::new();
        let actor = spawn_actor(actor, stop.clone());
        let router = router(Arc::new(App::new(handle, data_dir.to_owned(), backups, stop.clone())));
        let socket = tokio::spawn(admin_socket::serve(own_socket, router, Via::Offline, stop.clone()));
        Ok(Self { actor, socket, stop })
    }

    /// Stops serving and closes the store.
    ///
    /// # Errors
    /// [`ServeError`] if a commit failed: what was asked for then was not done.
    pub async fn end(self) -> Result<(), ServeError> {
        self.stop.cancel();
        // It ends by itself; a panic in it is in the log already.
        let _ = self.socket.await;
        match self.actor.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(ServeError::Commit(error)),
            Err(error) => Err(ServeError::ActorDied(error.to_string())),
        }
    }
}

/// Returns the limits on connections where this many files may be open. Half of them are for connections that no agent has
/// identified on: of those, half at most are served, and the rest wait.
fn bounds(policy: &Policy, max_open_files: usize) -> Bounds {
    let all = max_open_files / 2;
    let unidentified = policy.max_unidentified.min(all / 2).max(1);
    // Two are on their way: out of the kernel's queue, and out of the line.
    let waiting = all.saturating_sub(unidentified + 2).max(1);
    Bounds { request: Duration::from_millis(policy.request_timeout_ms), unidentified, waiting }
}

/// Waits for the end, then gives connections a moment to close.
async fn finish(
    mut actor: JoinHandle<Result<(), StoreError>>,
    http: JoinHandle<()>,
    sockets: TaskTracker,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let ended = tokio::select! {
        () = stop.cancelled() => actor.await,
        ended = &mut actor => ended,
    };
    let stop_requested = stop.is_cancelled();
    stop.cancel();
    sockets.close();
    let goodbye = async {
        sockets.wait().await;
        // It ends by itself; a panic in it is in the log already.
        let _ = http.await;
    };
    if tokio::time::timeout(GOODBYE, goodbye).await.is_err() {
        tracing::info!("some connections did not end in time and are cut");
    }
    match ended {
        Ok(Ok(())) if stop_requested => Ok(()),
        Ok(Ok(())) => Err(ServeError::ActorDied("it was not told to".to_owned())),
        Ok(Err(error @ StoreError::TakenAway { .. })) => Err(ServeError::TakenAway(error)),
        Ok(Err(error)) => Err(ServeError::Commit(error)),
        Err(error) => Err(ServeError::ActorDied(error.to_string())),
    }
}

async fn bind(listen: &str) -> Result<TcpListener, ServeError> {
    let listening = async { accept::listen(tokio::net::lookup_host(listen).await?) };
    listening.await.map_err(|error| {
        if error.kind() == io::ErrorKind::AddrInUse {
            return ServeError::AddressInUse(listen.to_owned());
        }
        ServeError::Listen { address: listen.to_owned(), error }
    })
}

async fn open_store(data_dir: &Path, absent: WithoutStore) -> Result<Store, ServeError> {
    if absent != WithoutStore::Refuse {
        make_private_dir(data_dir).map_err(|error| ServeError::DataDir { path: data_dir.to_owned(), error })?;
    }
    let started_at = Instant::now();
    loop {
        match Store::open(data_dir, absent) {
            Err(StoreError::Locked(_)) if started_at.elapsed() < LOCK_TIMEOUT => {
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
            other => return other.map_err(ServeError::Store),
        }
    }
}
