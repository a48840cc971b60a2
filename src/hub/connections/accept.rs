//! The thread that accepts connections: it empties the kernel's queue into a bounded line, however busy everything else is.
//! It reads nothing from a connection.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::Shutdown;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::common::http_server;
use crate::hub::connections::connection_limit::ConnectionLimit;

/// The length of the kernel's queue that is asked for; it gives at most `net.core.somaxconn`.
const BACKLOG: i32 = 65_535;
/// The pause after a failed accept (no file descriptors left).
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// How long a failed accept counts: while they fail, one follows the other sooner. (A success would not show the end of it:
/// an accept that nobody comes for waits.)
const FAILING_FOR: Duration = Duration::from_secs(1);
/// The least time between two log lines about failed accepts.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// A connection that waits: a socket that does not block, and the address at its other end.
pub(super) type Waiting = (TcpStream, SocketAddr);

/// How accepting goes, for those who watch it.
#[derive(Debug)]
pub(super) struct Intake {
    /// The largest number of connections that wait in line.
    pub(super) places: usize,
    waiting: AtomicUsize,
    /// When a connection could not be accepted for the last time.
    failed_at: Mutex<Option<Instant>>,
}

impl Intake {
    /// Creates the watch over a line with so many places (at least 1).
    pub(super) fn new(places: usize) -> Self {
        Self { places: places.max(1), waiting: AtomicUsize::new(0), failed_at: Mutex::default() }
    }

    /// Returns the number of connections in line, with the one that is about to join it.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Returns whether connections cannot be accepted.
    pub(super) fn fails(&self) -> bool {
        let failed_at = *self.failed_at.lock().unwrap_or_else(PoisonError::into_inner);
        failed_at.is_some_and(|at| at.elapsed() < FAILING_FOR)
    }

    fn failed(&self) {
        *self.failed_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Records that a connection left the line.
    pub(super) fn served(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Listens on the first of these addresses that can be listened on.
///
/// # Errors
/// Returns the system's error for the last address.
pub(in crate::hub) fn listen(addresses: impl Iterator<Item = SocketAddr>) -> io::Result<TcpListener> {
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

/// Starts the thread, which ends at `stop` or when the line is dropped. While all places of the line are taken, none is
/// accepted; the kernel then queues what comes.
///
/// # Errors
/// Returns the system's error if there is no thread.
pub(super) fn start(
    listener: TcpListener,
    intake: Arc<Intake>,
    connection_limit: Arc<ConnectionLimit>,
    stop: CancellationToken,
) -> io::Result<mpsc::Receiver<Waiting>> {
    let (line, waiting) = mpsc::channel(intake.places);
    let (listener, theirs) = (Arc::new(listener), stop.clone());
    let accepting = Arc::clone(&listener);
    thread::Builder::new()
        .name("accept".to_owned())
        .spawn(move || accept_until_stopped(&accepting, &line, &intake, &connection_limit, &theirs))?;
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
    intake: &Intake,
    connection_limit: &ConnectionLimit,
    stop: &CancellationToken,
) {
    let mut logged_at = None;
    while !stop.is_cancelled() {
        match listener.accept() {
            Ok((stream, peer)) => {
                // Fails only for a connection that is broken already.
                if stream.set_nonblocking(true).is_err() {
                    continue;
                }
                intake.waiting.fetch_add(1, Ordering::Relaxed);
                if line.blocking_send((stream, peer)).is_err() {
                    return;
                }
            }
            Err(_) if stop.is_cancelled() => return,
            Err(error) if http_server::is_peer_error(&error) => {}
            Err(error) => {
                intake.failed();
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
