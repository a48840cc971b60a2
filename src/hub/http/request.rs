//! What all routes share: the state, the extracted parts of a request, and helpers to read them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{Extensions, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::hub::actor::Handle;
use crate::hub::api_error::ApiError;
use crate::hub::backups::Backups;
use crate::hub::connections::listener::{Bounds, Connections};
use crate::hub::connections::tls::certificate::Certificate;
use crate::hub::connections::websocket::TimeLimits;
use crate::hub::http::entrance::Entrance;
use crate::hub::http::reply::{Caller, Proof, unauthorized};
use crate::hub::hub_state::{HubState, Snapshot};
use crate::hub::registration::{Registration, RegistrationLimit};
use crate::protocol::JsonFields;

/// The state that all routes share.
pub struct App {
    /// The handle to the actor.
    pub actor: Handle,
    /// The port of this hub.
    pub entrance: Arc<Entrance>,
    /// The epoch in which it leads a cluster; `None` for a hub alone.
    pub epoch: Option<u64>,
    /// The time limits of every WebSocket.
    pub patience: TimeLimits,
    /// Who may register agents.
    pub registration: Registration,
    /// How often strangers may.
    pub registrations: RegistrationLimit,
    /// Whether anybody may read the metrics.
    pub public_metrics: bool,
    /// The certificate, if the port speaks TLS.
    pub certificate: Option<Arc<Certificate>>,
    /// The folder of the store.
    pub data_dir: PathBuf,
    /// The connections that no agent has identified on.
    pub connections: Connections,
    /// Held by the scrape that is being answered.
    pub scrape: Arc<Mutex<()>>,
    /// The maker of backups.
    pub backups: Backups,
    /// The token whose cancellation ends every WebSocket.
    pub stop: CancellationToken,
    /// The task of every WebSocket.
    pub sockets: TaskTracker,
    /// The id of the next connection.
    pub next_conn: AtomicU64,
}

impl App {
    /// Creates the state of a hub that listens nowhere.
    pub fn new(actor: Handle, data_dir: PathBuf, backups: Backups, stop: CancellationToken) -> Self {
        Self {
            actor,
            entrance: Arc::default(),
            epoch: None,
            patience: TimeLimits { silence: Duration::ZERO, identify: Duration::ZERO },
            registration: Registration::Closed,
            registrations: RegistrationLimit::default(),
            public_metrics: false,
            certificate: None,
            data_dir,
            connections: Connections::new(&Bounds { request: Duration::ZERO, unidentified: 0, waiting: 0 }),
            scrape: Arc::default(),
            backups,
            stop,
            sockets: TaskTracker::new(),
            next_conn: AtomicU64::new(1),
        }
    }

    /// Returns whether what proves a caller is still valid.
    pub(super) fn is_valid(&self, proof: Proof) -> bool {
        match proof {
            Proof::Token(token) => {
                let snapshot = self.snapshot();
                snapshot.tokens.is_valid(&token, snapshot.now_ms())
            }
            Proof::Local(_) => true,
        }
    }

    /// Returns the entrance that a request with these extensions came in by.
    pub(super) fn entrance_of<'a>(&'a self, extensions: &'a Extensions) -> &'a Entrance {
        extensions.get::<Arc<Entrance>>().unwrap_or(&self.entrance)
    }

    /// Returns the state as of the last commit.
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.actor.snapshot()
    }

    /// Runs `work` on the state for a caller, and returns its result once everything that it changed is on disk.
    ///
    /// # Errors
    /// 401 if the caller's token has been revoked or has expired meanwhile, 503 if the hub is stopping.
    pub(super) async fn act<T: Send + 'static>(
        &self,
        caller: &Caller,
        work: impl FnOnce(&mut HubState, u64) -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        match caller.proof {
            Proof::Token(token) => self.actor.ask_as(token, work).await?.map_err(|_| unauthorized()),
            Proof::Local(_) => Ok(self.actor.ask(work).await?),
        }
    }
}

/// The extracted state.
pub(super) type Shared = State<Arc<App>>;
/// The answer of a route.
pub(super) type Reply = Result<Response, ApiError>;
/// The extracted body.
pub(super) type Body = Result<Bytes, BytesRejection>;
/// The extracted id in the path.
pub(super) type Id = Result<Path<String>, PathRejection>;
/// The extracted query.
pub(super) type QueryParameters = Result<Query<HashMap<String, String>>, QueryRejection>;

/// Returns the id in the path.
///
/// # Errors
/// 400 if it is not UTF-8.
pub(super) fn path_id(id: Id) -> Result<String, ApiError> {
    let refused =
        |rejection: PathRejection| ApiError::new(StatusCode::BAD_REQUEST, "invalid_path", &rejection.body_text());
    id.map(|Path(id)| id).map_err(refused)
}

/// Returns a required text of the body, which `read_body` has checked.
pub(super) fn required_text(body: &JsonFields, key: &str) -> String {
    body.string(key).unwrap_or_default()
}

/// Returns the size of the body, in bytes.
pub(super) fn body_bytes(body: &Body) -> u64 {
    body.as_ref().map_or(0, |body| u64::try_from(body.len()).unwrap_or(u64::MAX))
}

/// Returns the parameters of the query.
///
/// # Errors
/// 400 if the query cannot be parsed.
pub(super) fn read_query(query: QueryParameters) -> Result<HashMap<String, String>, ApiError> {
    let refused =
        |rejection: QueryRejection| ApiError::new(StatusCode::BAD_REQUEST, "invalid_query", &rejection.body_text());
    query.map(|Query(query)| query).map_err(refused)
}

/// Returns the 200 answer with this body.
pub(super) fn ok(body: impl Serialize) -> Reply {
    Ok((StatusCode::OK, Json(body)).into_response())
}

/// Returns the 201 answer with this body.
pub(super) fn created(body: impl Serialize) -> Reply {
    Ok((StatusCode::CREATED, Json(body)).into_response())
}
