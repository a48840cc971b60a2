//! Connections to the hub that is meant. Where no hub runs on the data folder, the command itself serves the folder's
//! socket, and goes through it as any client does.

use std::path::Path;
use std::time::{Duration, Instant};

use tokio::net::UnixStream;
use tokio::time::sleep;

use crate::common::http_client::route::Transport;
use crate::common::http_client::{AskError, ByteStream, exchange};
use crate::common::private_socket;
use crate::hub::cli::client::args::Place;
use crate::hub::cli::client::failure::Failure;
use crate::hub::cli::exit_code::ExitCode;
use crate::hub::connections::admin_socket;
use crate::hub::options::ServeError;
use crate::hub::server::OfflineHub;
use crate::hub::state::store::{Store, StoreError, WithoutStore, make_private_dir};

/// How long a command waits while the store is locked and nothing answers: a hub may be starting or stopping.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause between two tries.
pub(in crate::hub::cli) const PAUSE: Duration = Duration::from_millis(25);
/// How long a connection to an address may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether a data folder that is not there, or holds no store, is made one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::hub::cli) enum Folder {
    /// It must be there, with a store in it: a folder that is named wrongly would seem to be an empty hub.
    MustExist,
    /// It is made, as somebody has asked for: the first tokens may be made before a hub ever ran.
    IsMade,
}

/// The way to a hub.
pub(super) struct Door {
    place: Place,
    folder: Folder,
    offline: Option<OfflineHub>,
    /// Whether the command waits for what a running hub does, and so does not take its place.
    only_running: bool,
    /// Whether a hub was there.
    met_hub: bool,
}

impl Door {
    pub(super) fn new(place: Place, folder: Folder) -> Self {
        Self { place, folder, offline: None, only_running: false, met_hub: false }
    }

    /// Returns where the hub is.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Returns the hub's address: for its folder, one that stands for it.
    pub(super) fn base(&self) -> &str {
        match &self.place {
            Place::Remote { base, .. } => base,
            Place::Folder(_) => "http://localhost",
        }
    }

    /// Returns how the hub is named in messages.
    pub(super) fn shown(&self) -> String {
        match &self.place {
            Place::Remote { base, .. } => base.clone(),
            Place::Folder(data) => admin_socket::path_in(data).display().to_string(),
        }
    }

    /// Returns whether a hub was there.
    pub(super) fn met_hub(&self) -> bool {
        self.met_hub
    }

    /// Closes the store, and from now on leaves it to a hub.
    pub(super) async fn wait_for_hub(&mut self) -> Result<(), Failure> {
        self.only_running = true;
        self.close().await
    }

    /// Connects to the hub, and opens the store where none runs.
    pub(super) async fn connect(&mut self) -> Result<Box<dyn ByteStream>, Failure> {
        let data = match &self.place {
            Place::Remote { base, tls, .. } => {
                let late = || {
                    AskError::Tcp(format!(
                        "{base} did not take a connection within {} s: is the host up, and does a firewall stand between?",
                        CONNECT_TIMEOUT.as_secs()
                    ))
                };
                let transport = Transport { tls: tls.clone(), ..Transport::default() };
                let connecting = exchange::connect(base, tokio::time::Instant::now() + CONNECT_TIMEOUT, &transport);
                let connecting = tokio::time::timeout(CONNECT_TIMEOUT, connecting);
                let stream = connecting.await.unwrap_or_else(|_| Err(late()))?;
                self.met_hub = true;
                return Ok(stream);
            }
            Place::Folder(data) => data.clone(),
        };
        self.check_folder()?;
        let begun = Instant::now();
        loop {
            if let Ok(stream) = connect_socket(&data) {
                self.met_hub |= self.offline.is_none();
                return Ok(stream);
            }
            if self.only_running {
                let message = format!("no hub runs on {}, so nothing happens there: start it", data.display());
                return Err(Failure { passes: true, ..Failure::new(ExitCode::Unavailable, message) });
            }
            let absent = match self.folder {
                Folder::MustExist => WithoutStore::Refuse,
                Folder::IsMade => WithoutStore::Make,
            };
            match OfflineHub::start(&data, absent) {
                Ok(hub) => self.offline = Some(hub),
                // A starting hub locks the store a moment before it binds the socket.
                Err(ServeError::Store(StoreError::Locked(_))) if begun.elapsed() < LOCK_TIMEOUT => sleep(PAUSE).await,
                Err(ServeError::Store(error @ StoreError::Locked(_))) => {
                    let message = format!("no hub answers at {}, but {error}", self.shown());
                    return Err(Failure::new(ExitCode::Busy, message));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Checks that there is a hub's data folder, or makes one, where it is meant.
    pub(super) fn check_folder(&self) -> Result<(), Failure> {
        let Place::Folder(data) = &self.place else { return Ok(()) };
        match self.folder {
            Folder::IsMade => {
                let unusable = |error| ServeError::DataDir { path: data.to_owned(), error };
                Ok(make_private_dir(data).map_err(unusable)?)
            }
            Folder::MustExist => Ok(Store::must_be_in(data).map_err(ServeError::Store)?),
        }
    }

    /// Closes the store, if this command opened it. What waits for a person must not keep a hub from starting.
    ///
    /// # Errors
    /// The disk failed: what was asked for was not done.
    pub(super) async fn close(&mut self) -> Result<(), Failure> {
        match self.offline.take() {
            Some(offline) => offline.end().await.map_err(|error| match &error {
                ServeError::Commit(why) | ServeError::TakenAway(why) => {
                    Failure::new(ExitCode::Disk, format!("what was asked for could not be stored: {why}"))
                }
                ServeError::DataDir { .. }
                | ServeError::Store(_)
                | ServeError::AddressInUse(_)
                | ServeError::Listen { .. }
                | ServeError::Cluster(_)
                | ServeError::Certificate(_)
                | ServeError::Leadership(_)
                | ServeError::ActorDied(_) => error.into(),
            }),
            None => Ok(()),
        }
    }
}

fn connect_socket(data: &Path) -> std::io::Result<Box<dyn ByteStream>> {
    let stream = private_socket::connect(&admin_socket::path_in(data))?;
    stream.set_nonblocking(true)?;
    Ok(Box::new(UnixStream::from_std(stream)?))
}
