//! The hub's own socket: a unix socket in the data folder that serves the same routes as TCP does. Whoever may open it (its
//! owner: mode 0600) is an admin without a token.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::common::{http_server, private_socket};
use crate::hub::connections::break_off::{BrokenOff, given};
use crate::hub::connections::routes::Routes;
use crate::hub::http::credentials::LocalUser;
use crate::hub::state::audit::Via;
use crate::hub::state::store::SOCKET;

/// The maximum size of a request's head, in bytes.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// The number of connections that are served at a time; further ones wait.
const MAX_CONNECTIONS: usize = 256;
/// The time limit of a request's body and the beginning of its answer. A backup takes its time.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(600);
/// The time limit of a request's head, and of the pause between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// The time that a connection has to finish its current request when the hub stops.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(500);

/// Returns the socket's path.
pub fn path_in(data_dir: &Path) -> PathBuf {
    data_dir.join(SOCKET)
}

/// Binds the socket. Call it only while holding the store's lock: then no other hub can be behind an existing socket.
///
/// # Errors
/// The socket cannot be created.
pub fn bind(data_dir: &Path) -> std::io::Result<UnixListener> {
    let path = path_in(data_dir);
    // The data folder is the hub's own: a file or a link at this name is replaced. A folder is an error below.
    let _ = std::fs::remove_file(&path);
    let listener = private_socket::bind(&path)?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Serves the routes until `stop`; returns when the last connection has ended.
pub async fn serve(listener: UnixListener, routes: Routes, via: Via, stop: CancellationToken) {
    let (connections, places) = (TaskTracker::new(), Arc::new(Semaphore::new(MAX_CONNECTIONS)));
    loop {
        let accept = async {
            // It is never closed.
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = serve_connection(stream, routes.clone(), via, stop.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the hub's socket could not take a caller; trying again");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn serve_connection(stream: UnixStream, routes: Routes, via: Via, stop: CancellationToken) {
    // Fails only for a connection that is broken already.
    let Ok(peer) = stream.peer_cred() else { return };
    let user = LocalUser { uid: peer.uid(), via };
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(user);
        let answer = routes.answer(request);
        async move {
            let answered = timeout(REQUEST_TIMEOUT, answer).await.map_err(|_| BrokenOff::TooSlow)?;
            given(answered.unwrap_or_else(|never| match never {}))
        }
    });
    let connection =
        http_server::connection(HEAD_TIMEOUT, MAX_HEAD_BYTES).serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            timeout(SHUTDOWN_TIMEOUT, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a caller at the hub's socket left early");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_stands_at_the_sockets_name_is_replaced() {
        let data = tempfile::tempdir().unwrap();
        let path = path_in(data.path());
        std::fs::write(&path, "left here").unwrap();
        drop(bind(data.path()).unwrap());
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("nowhere", &path).unwrap();
        let _listener = bind(data.path()).unwrap();
        private_socket::connect(&path).unwrap();
    }
}
