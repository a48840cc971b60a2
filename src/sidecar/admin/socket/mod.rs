//! The local socket, by which an operator on this machine inspects and commands a running sidecar. Only processes of
//! the sidecar's own user and of root get answers.
//!
//! Each connection carries one request: a line of JSON, answered by a line of JSON (`watch`: by lines without end).
//!
//! | request | answer |
//! |---|---|
//! | `{"op":"status"}` | `{"status":{..}}` |
//! | `{"op":"watch"}` | the same at every change, at least once a second |
//! | `{"op":"restart","reason":"..","force":false}`, `cancel_restart`, `drain`, `resume`, `reload` | `{"answer":{"ok":true,"message":".."}}` |
//! | anything else | `{"error":".."}` |

mod client;
mod listener;
mod messages;
mod offline;
mod serve;

use std::io;
use std::os::unix::net;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::UnixListener;
use tokio::time::sleep;

pub use client::{CallError, Client};
pub use offline::{OfflineView, StoredTask, StoredWork};

use crate::sidecar::admin::handle::AdminHandle;
use crate::sidecar::journal::state_folder::{LOOK_EVERY, StateFolder};
use listener::SocketFile;
pub use messages::{SocketReply, SocketRequest};

/// Opens the socket for the journal `queue_file` and serves it in the background until the runtime ends, which removes
/// it. A socket that others have removed is made anew. While it cannot be opened, the sidecar works without it, and that
/// is logged. Must be called inside the runtime, holding the state folder's lock, which `folder` looks after.
pub(crate) fn start(queue_file: &Path, admin: AdminHandle, folder: Option<Arc<StateFolder>>) {
    let queue_file = queue_file.to_owned();
    tokio::spawn(async move {
        // The dial to the hub goes first.
        tokio::task::yield_now().await;
        let mut opened = open(&queue_file, None).and_then(into_async);
        let mut is_said = false;
        loop {
            match opened {
                Ok((listener, file)) => {
                    is_said = false;
                    tokio::select! {
                        () = serve::serve(listener, admin.clone()) => {}
                        () = gone(file, &queue_file) => {
                            tracing::warn!("the local socket was removed by others, or belongs elsewhere by now: made anew");
                        }
                    }
                }
                Err(error) => {
                    if !is_said {
                        tracing::warn!(%error, "there is no local socket: `status`, `restart`, `drain` and the like cannot reach this sidecar; tried again every second");
                    }
                    is_said = true;
                    sleep(LOOK_EVERY).await;
                }
            }
            opened = open_on_a_thread(queue_file.clone(), folder.clone()).await;
        }
    });
}

/// Waits until the socket is not in its place any more.
async fn gone(file: SocketFile, queue_file: &Path) {
    loop {
        sleep(LOOK_EVERY).await;
        let (place, queue_file) = (file.0.clone(), queue_file.to_owned());
        // A look that panicked says nothing.
        if let Ok(false) = tokio::task::spawn_blocking(move || place.is_there_for(&queue_file)).await {
            return;
        }
    }
}

async fn open_on_a_thread(
    queue_file: PathBuf,
    folder: Option<Arc<StateFolder>>,
) -> io::Result<(UnixListener, SocketFile)> {
    let opened = tokio::task::spawn_blocking(move || open(&queue_file, folder.as_deref())).await;
    into_async(opened.map_err(io::Error::other)??)
}

fn open(queue_file: &Path, folder: Option<&StateFolder>) -> io::Result<(net::UnixListener, SocketFile)> {
    folder.map_or(Ok(()), StateFolder::keep).map_err(io::Error::other)?;
    listener::open(queue_file)
}

fn into_async((listener, file): (net::UnixListener, SocketFile)) -> io::Result<(UnixListener, SocketFile)> {
    listener.set_nonblocking(true)?;
    Ok((UnixListener::from_std(listener)?, file))
}
