//! The thread that accepts connections: it empties the kernel's queue into a bounded line, however busy everything else is.
//! It reads nothing from a connection.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::Shutdown;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::common::http_server;
use crate::hub::connection_limit::ConnectionLimit;

/// The length of the kernel's queue that is asked for; it gives at most `net.core.somaxconn`.
const BACKLOG: i32 = 65_535;
/// The pause after a failed accept (no file descriptors left).
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// The least time between two log lines about failed accepts.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// A connection that waits: a socket that does not block, and the address at its other end.
pub(super) type Waiting = (TcpStream, SocketAddr);

/// Listens on the first of these addresses that can be listened on.
///
/// # Errors
/// Returns the system's error for the last address.
pub(super) fn listen(addresses: impl Iterator<Item = SocketAddr>) -> io::Result<TcpListener> {
    let mut outcome = Err(io::Error::new(io::ErrorKind::InvalidInput, "the name has no address"));
    for address in addresses {
        outcome = TcpListener::bind(address);
        if outcome.is_ok() {
            break;
        }
    }
    let listener = outcome?;
    // The library asks for a queue of 128 places. A second call changes that and nothing else.
    rustix::net::listen(&listener, BACKLOG)?;
    Ok(listener)
}

/// Starts the thread, which ends at `stop` or when the line is dropped. While the line has `places` connections, none is
/// accepted; the kernel then queues what comes.
///
/// # Errors
/// Returns the system's error if there is no thread.
pub(super) fn start(
    listener: TcpListener,
    places: usize,
    connection_limit: Arc<ConnectionLimit>,
    stop: CancellationToken,
) -> io::Result<mpsc::Receiver<Waiting>> {
    let (line, waiting) = mpsc::channel(places.max(1));
    let (listener, theirs) = (Arc::new(listener), stop.clone());
    let accepting = Arc::clone(&listener);
    thread::Builder::new()
        .name("accept".to_owned())
        .spawn(move || accept_until_stopped(&accepting, &line, &connection_limit, &theirs))?;
    tokio::spawn(async move {
        stop.cancelled().await;
        // Wakes the thread, whose accept then fails.
        if let Err(error) = rustix::net::shutdown(&*listener, Shutdown::Both) {
            tracing::debug!(%error, "the listener cannot be woken");
        }
    });
    Ok(waiting)
}

fn accept_until_stopped(
    listener: &TcpListener,
    line: &mpsc::Sender<Waiting>,
    connection_limit: &ConnectionLimit,
    stop: &CancellationToken,
) {
    let mut logged_at = None;
    while !stop.is_cancelled() {
        match listener.accept() {
            Ok((stream, peer)) => {
                // Fails only for a connection that is broken already.
                if stream.set_nonblocking(true).is_ok() && line.blocking_send((stream, peer)).is_err() {
                    return;
                }
            }
            Err(_) if stop.is_cancelled() => return,
            Err(error) if http_server::is_peer_error(&error) => {}
            Err(error) => {
                if logged_at.is_none_or(|at: Instant| at.elapsed() > LOG_INTERVAL) {
                    tracing::warn!(%error, "no connection can be taken; trying again (see LimitNOFILE or ulimit -n)");
                    logged_at = Some(Instant::now());
                }
                connection_limit.make_room();
                thread::sleep(RETRY_PAUSE);
            }
        }
    }
}
