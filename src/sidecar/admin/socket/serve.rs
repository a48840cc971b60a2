//! Serves the local socket: many clients at once, each with a limit on the size of its request and on its time. A
//! client that is slow, silent or sends garbage costs a connection, never the event loop's time.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::protocol::{Limit, clip};
use crate::sidecar::admin::commands::{CommandResult, OperatorCommand, SidecarGone};
use crate::sidecar::admin::handle::AdminHandle;
use crate::sidecar::admin::socket::messages::{SocketReply, SocketRequest, to_line};

/// The longest request, in bytes.
const MAX_REQUEST_BYTES: usize = 16 * 1024;
/// The time limit for a client to send its request, or to read a line.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);
/// The time limit for the event loop to answer; it may be in the middle of a slow write.
const LOOP_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest time between two lines to a `watch` client.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// The connection limit; further clients wait in the kernel's queue.
const MAX_CLIENTS: usize = 256;
/// The limit of `watch` clients among them.
const MAX_WATCHERS: usize = 32;
/// The requester's name in the log and at the hub.
const REQUESTER: &str = "operator";
/// The reason of a restart if the request gives none.
const DEFAULT_REASON: &str = "operator_requested";

/// Serves the listener as long as the process lives.
pub(crate) async fn serve(listener: UnixListener, admin: AdminHandle) {
    let clients = Arc::new(Semaphore::new(MAX_CLIENTS));
    let watchers = Arc::new(Semaphore::new(MAX_WATCHERS));
    loop {
        // The semaphore is never closed: this waits for a permit.
        let Ok(permit) = Arc::clone(&clients).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (admin, watchers) = (admin.clone(), Arc::clone(&watchers));
                tokio::spawn(async move {
                    if let Err(error) = serve_client(stream, admin, &watchers).await {
                        tracing::debug!(%error, "a caller at the local socket left early");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the local socket could not take a caller; trying again");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

async fn serve_client(stream: UnixStream, mut admin: AdminHandle, watchers: &Semaphore) -> std::io::Result<()> {
    let peer = stream.peer_cred()?.uid();
    let (read, mut write) = stream.into_split();
    if !is_authorized(peer, rustix::process::geteuid().as_raw()) {
        tracing::warn!(uid = peer, "another user's process was turned away at the local socket");
        return send(&mut write, &SocketReply::Error("this sidecar is another user's".into())).await;
    }
    let mut line = Vec::new();
    let mut limited = BufReader::new(read.take(MAX_REQUEST_BYTES as u64 + 1));
    timeout(CLIENT_TIMEOUT, limited.read_until(b'\n', &mut line)).await??;
    let reply = match parse_request(&line) {
        Err(why) => SocketReply::Error(why),
        Ok(SocketRequest::Status {}) => SocketReply::Status(Box::new(admin.status())),
        Ok(SocketRequest::Watch {}) => match watchers.try_acquire() {
            Ok(_permit) => return watch(&mut write, admin).await,
            Err(_) => SocketReply::Error(format!("{MAX_WATCHERS} watch already; ask for the status instead")),
        },
        Ok(SocketRequest::Restart { reason, force }) => {
            let reason = reason.filter(|reason| !reason.trim().is_empty());
            let reason = clip(reason.as_deref().unwrap_or(DEFAULT_REASON), Limit::Reason);
            ask(&admin, OperatorCommand::Restart { reason, force }).await
        }
        Ok(SocketRequest::CancelRestart {}) => ask(&admin, OperatorCommand::CancelRestart).await,
        Ok(SocketRequest::Drain {}) => ask(&admin, OperatorCommand::Drain).await,
        Ok(SocketRequest::Resume {}) => ask(&admin, OperatorCommand::Resume).await,
        Ok(SocketRequest::Reload {}) => reply_for(admin.reload()).await,
    };
    send(&mut write, &reply).await
}

/// Returns whether a client of the user `peer` is served: the sidecar's own user, and root, who could become that user.
fn is_authorized(peer: u32, own: u32) -> bool {
    peer == own || peer == 0
}

fn parse_request(line: &[u8]) -> Result<SocketRequest, String> {
    if line.len() > MAX_REQUEST_BYTES {
        return Err(format!("a request has at most {MAX_REQUEST_BYTES} bytes"));
    }
    serde_json::from_slice(line).map_err(|error| format!("not a request: {error}"))
}

async fn ask(admin: &AdminHandle, command: OperatorCommand) -> SocketReply {
    reply_for(admin.ask(command, REQUESTER)).await
}

async fn reply_for(outcome: impl Future<Output = Result<CommandResult, SidecarGone>>) -> SocketReply {
    match timeout(LOOP_TIMEOUT, outcome).await {
        Ok(Ok(answer)) => SocketReply::Answer(answer),
        Ok(Err(gone)) => SocketReply::Error(gone.to_string()),
        Err(_) => SocketReply::Error(
            "the sidecar is in the middle of something slow (its disk?): it has the request and will see to it".into(),
        ),
    }
}

async fn watch(write: &mut OwnedWriteHalf, mut admin: AdminHandle) -> std::io::Result<()> {
    loop {
        send(write, &SocketReply::Status(Box::new(admin.status()))).await?;
        if let Ok(Err(_gone)) = timeout(WATCH_INTERVAL, admin.changed()).await {
            return Ok(());
        }
    }
}

async fn send(write: &mut OwnedWriteHalf, reply: &SocketReply) -> std::io::Result<()> {
    timeout(CLIENT_TIMEOUT, write.write_all(&to_line(reply))).await?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_user_and_root_may_ask() {
        assert!(is_authorized(1_000, 1_000) && is_authorized(0, 1_000));
        assert!(!is_authorized(1_001, 1_000) && !is_authorized(1_000, 0));
    }

    #[test]
    fn requests_are_what_the_pages_say() {
        assert_eq!(parse_request(b"{\"op\":\"status\"}\n"), Ok(SocketRequest::Status {}));
        let restart = SocketRequest::Restart { reason: Some("r".into()), force: true };
        assert_eq!(parse_request(br#"{"op":"restart","reason":"r","force":true}"#), Ok(restart));
        assert_eq!(parse_request(br#"{"op":"restart"}"#), Ok(SocketRequest::Restart { reason: None, force: false }));
        for rubbish in [&b""[..], b"\n", b"status", br#"{"op":"stop"}"#, br#"{"op":"drain","for":1}"#, b"\xff\n", b"[]"]
        {
            assert!(parse_request(rubbish).is_err(), "{rubbish:?}");
        }
        assert!(parse_request(&[b' '; MAX_REQUEST_BYTES + 1]).unwrap_err().contains("at most"));
    }
}
