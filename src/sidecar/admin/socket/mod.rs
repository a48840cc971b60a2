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

use std::path::Path;

pub use client::{CallError, Client};
pub use offline::{OfflineView, StoredTask, StoredWork};

use crate::sidecar::admin::handle::AdminHandle;
pub use messages::{SocketReply, SocketRequest};

/// Opens the socket for the journal `queue_file` and serves it in the background until the runtime ends, which removes
/// it. If it cannot be opened, a warning is logged and the sidecar works without it. Must be called inside the runtime,
/// holding the state folder's lock.
pub(crate) fn start(queue_file: &Path, admin: AdminHandle) {
    let queue_file = queue_file.to_owned();
    tokio::spawn(async move {
        // The dial to the hub goes first.
        tokio::task::yield_now().await;
        let opened = listener::open(&queue_file).and_then(|(listener, guard)| {
            listener.set_nonblocking(true)?;
            Ok((tokio::net::UnixListener::from_std(listener)?, guard))
        });
        match opened {
            Ok((listener, _guard)) => serve::serve(listener, admin).await,
            Err(error) => {
                tracing::warn!(%error, "there is no local socket: `status`, `restart`, `drain` and the like cannot reach this sidecar");
            }
        }
    });
}
