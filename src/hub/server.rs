//! The hub's lifecycle: opens the store, binds the port, serves until stopped, and ends within a second. It reads no
//! arguments and handles no signals; `cli` does.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use tokio::net::UnixListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::hub::actor::Actor;
use crate::hub::backups::Backups;
use crate::hub::clock::Clock;
use crate::hub::connections::routes::Routes;
use crate::hub::connections::websocket::TimeLimits;
use crate::hub::connections::{admin_socket, fd_limit};
use crate::hub::healing_file;
use crate::hub::http::{App, router};
use crate::hub::hub_state::HubState;
use crate::hub::options::{Options, ServeError};
use crate::hub::port::{Front, Port, read_certificate};
use crate::hub::registration::{Changes, Registration};
use crate::hub::scheduler::agents::SILENCE_BOUND_MS;
use crate::hub::scheduler::policy::Policy;
use crate::hub::state::audit::Via;
use crate::hub::state::store::{Store, StoreError, Stored, UnreadRecord, WithoutStore, make_private_dir};

/// The time that sockets and requests have to end. pm2 kills after 1,600 ms.
const GOODBYE: Duration = Duration::from_millis(900);
/// How long to wait at start for a locked store: `agentcom-hub token` holds the lock for some milliseconds.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs the hub until `stop`.
///
/// # Errors
/// [`ServeError`], at the start or when the disk fails.
pub async fn serve(options: Options, stop: CancellationToken) -> Result<(), ServeError> {
    let certificate = read_certificate(&options)?;
    let loaded = Loaded::read(open_store(&options.data_dir, options.absent).await?)?;
    let own_socket = bind_socket(&options.data_dir)?;
    let port = Port::bind(&options.listen, &options, certificate, fd_limit::max_open_files()).await?;
    let (address, counts) = (port.front.address, loaded.counts);
    let work = Work::begin(loaded, &options, &port.front, None, TaskTracker::new(), &stop);
    let routes = Routes::new(work.router.clone());
    port.front.watch_certificate(&options, &work.sockets, &stop);
    work.sockets.spawn(admin_socket::serve(own_socket, routes.clone(), Via::Socket, stop.clone()));
    let http = port.serve(routes, &stop)?;
    tracing::info!(%address, tasks = counts.0, restarts = counts.1, tokens = counts.2, "listening");
    work.finish(vec![http], stop).await
}

/// Binds the hub's own socket, while it holds the data folder.
pub(in crate::hub) fn bind_socket(data_dir: &Path) -> Result<UnixListener, ServeError> {
    admin_socket::bind(data_dir).map_err(|error| ServeError::DataDir { path: admin_socket::path_in(data_dir), error })
}

/// A store, and what was in it.
pub(in crate::hub) struct Loaded {
    store: Store,
    stored: Stored,
    clock: Clock,
    /// The numbers of tasks, restarts and tokens.
    pub(in crate::hub) counts: (usize, usize, usize),
}

impl Loaded {
    /// Reads a store.
    pub(in crate::hub) fn read(store: Store) -> Result<Self, ServeError> {
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
        Ok(Self { store, stored, clock, counts })
    }
}

/// A hub at work.
pub(in crate::hub) struct Work {
    /// Its routes.
    pub(in crate::hub) router: Router,
    /// The tasks beside it, which end at `stop`.
    pub(in crate::hub) sockets: TaskTracker,
    actor: JoinHandle<Result<(), StoreError>>,
    store: Arc<Store>,
    data_dir: PathBuf,
}

impl Work {
    /// Begins it: alone, or as the leader of a cluster in this epoch.
    pub(in crate::hub) fn begin(
        Loaded { store, stored, clock, counts: _ }: Loaded,
        options: &Options,
        front: &Front,
        epoch: Option<u64>,
        sockets: TaskTracker,
        stop: &CancellationToken,
    ) -> Self {
        let Options { data_dir, policy, registration, public_metrics, healing, .. } = options.clone();
        let store = Arc::new(store);
        let backups = Backups::new(&store, &data_dir);
        let policy = Policy { takeover_wait_ms: takeover_wait_ms(&store, &stored), ..policy };
        let mut state = HubState::load(stored, policy, clock);
        if let Some(file) = &healing {
            let now_ms = state.clock.now_ms();
            healing_file::load(&file.path, &mut state, now_ms);
        }
        let (actor, handle) = Actor::new(state, Arc::clone(&store));
        let actor = spawn_actor(actor, stop.clone());
        let app = App {
            entrance: Arc::new(front.entrance.clone()),
            epoch,
            patience: TimeLimits {
                silence: Duration::from_millis(policy.silence_timeout_ms),
                identify: Duration::from_millis(policy.identify_timeout_ms),
            },
            registration: registration.unwrap_or_else(|| default_registration(front.address.ip())),
            public_metrics,
            certificate: front.certificate.clone(),
            connections: front.connections.clone(),
            sockets: sockets.clone(),
            ..App::new(handle.clone(), data_dir.clone(), backups, stop.clone())
        };
        if let Some(file) = healing {
            sockets.spawn(healing_file::watch(file, handle, stop.clone()));
        }
        Self { router: router(Arc::new(app)), sockets, actor, store, data_dir }
    }

    /// Goes on until `stop`, or until the disk fails; then ends within a second.
    pub(in crate::hub) async fn finish(
        self,
        ports: Vec<JoinHandle<()>>,
        stop: CancellationToken,
    ) -> Result<(), ServeError> {
        let ended = finish(self.actor, &self.store, ports, self.sockets, stop).await;
        if let Err(ServeError::TakenAway(why)) = &ended {
            self.store.leave_word(&self.data_dir, why);
        }
        ended
    }
}

/// Returns for how long a hub that begins leaves each task with its holder at least, in ms: as long as any agent may listen to
/// the hub that led before, which may have been alive for a lease, and a second for its goodbye. (See docs/architecture.md.)
fn takeover_wait_ms(store: &Store, stored: &Stored) -> u64 {
    if !store.is_shared() {
        return 0;
    }
    let bounds = stored.agents.iter().map(|record| record.about.silence_bound_ms());
    bounds.max().unwrap_or(0).max(SILENCE_BOUND_MS) + store.lease_ms() + 1_000
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
        let own_socket = bind_socket(data_dir)?;
        let store = Arc::new(store);
        let backups = Backups::new(&store, data_dir);
        let (actor, handle) = Actor::to_edit(HubState::load_to_edit(stored, clock), store);
        let stop = CancellationToken::new();
        let actor = spawn_actor(actor, stop.clone());
        let router = router(Arc::new(App::new(handle, data_dir.to_owned(), backups, stop.clone())));
        let socket = tokio::spawn(admin_socket::serve(own_socket, Routes::new(router), Via::Offline, stop.clone()));
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

/// Waits for the end, then gives connections a moment to close.
async fn finish(
    mut actor: JoinHandle<Result<(), StoreError>>,
    store: &Store,
    ports: Vec<JoinHandle<()>>,
    sockets: TaskTracker,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let (ended, stop_requested) = tokio::select! {
        () = stop.cancelled() => (actor.await, true),
        ended = &mut actor => (ended, stop.is_cancelled()),
        _ = store.lost() => {
            stop.cancel();
            (actor.await, false)
        }
    };
    stop.cancel();
    say_goodbye(ports, sockets).await;
    match ended {
        Ok(Ok(())) if stop_requested => Ok(()),
        Ok(Ok(())) => Err(ServeError::ActorDied("it was not told to".to_owned())),
        Ok(Err(error @ StoreError::TakenAway { .. })) => Err(ServeError::TakenAway(error)),
        Ok(Err(StoreError::Database(error))) if error.ends_leadership() => Err(ServeError::Leadership(error)),
        Ok(Err(error)) => Err(ServeError::Commit(error)),
        Err(error) => Err(ServeError::ActorDied(error.to_string())),
    }
}

/// Gives connections a moment to close.
pub(in crate::hub) async fn say_goodbye(ports: Vec<JoinHandle<()>>, sockets: TaskTracker) {
    sockets.close();
    let goodbye = async {
        sockets.wait().await;
        for port in ports {
            // It ends by itself; a panic in it is in the log already.
            let _ = port.await;
        }
    };
    if tokio::time::timeout(GOODBYE, goodbye).await.is_err() {
        tracing::info!("some connections did not end in time and are cut");
    }
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
