//! The TCP listener: serves HTTP on each connection that is accepted, with limits on time, bytes and the number of
//! connections, so that no unauthenticated client can hold the hub up. It knows no route.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::common::http_server;
use crate::hub::api_error::ApiError;
use crate::hub::connections::accept::{self, Intake, Waiting};
use crate::hub::connections::break_off::given;
use crate::hub::connections::connection_limit::{ConnectionLimit, Slot};
use crate::hub::connections::guarded_stream::{Guarded, Meter};
use crate::hub::connections::routes::Routes;
use crate::hub::connections::tls::handshake::Handshakes;
use crate::hub::connections::tls::stream::Stream;
use crate::hub::problem::or_problem;

/// The maximum size of a request's head, in bytes.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// The lifetime of a connection that no agent identified on, however busy it is.
const MAX_LIFETIME: Duration = Duration::from_secs(600);
/// The lifetime of a connection that fetches something large.
const LONG_LIFETIME: Duration = Duration::from_secs(3_600);
/// The time that a connection has to finish its current request after its lifetime ended or the hub stops.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);
/// The number of new connections that are being answered at any moment. The others wait, so that a mass join never stands
/// before an identified agent's frame for longer than these take together.
const TURNS: usize = 16;
/// The time after which a connection no longer counts as being answered: it waits for its peer, which is far away or silent.
/// So 3,200 distant agents a second can join, and all that are near.
pub(super) const TURN: Duration = Duration::from_millis(5);

/// The limits that an operator may set.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// The time limit of a request's head, of its whole answer, and of the pause between two requests.
    pub request: Duration,
    /// The maximum number of connections that are served and that no agent has identified on.
    pub unidentified: usize,
    /// The maximum number of connections that wait to be served; each costs an open file, and no buffer.
    pub waiting: usize,
}

/// All connections that no agent has identified on, for those who limit and for those who watch them.
#[derive(Clone)]
pub struct Connections {
    limit: Arc<ConnectionLimit>,
    intake: Arc<Intake>,
}

impl Connections {
    /// Creates the limits on them.
    pub fn new(bounds: &Bounds) -> Self {
        Self { limit: ConnectionLimit::new(bounds.unidentified), intake: Arc::new(Intake::new(bounds.waiting)) }
    }

    /// Returns the number of those that are served and have shown no valid token.
    pub fn unidentified(&self) -> usize {
        self.limit.count()
    }

    /// Returns the number of those that wait to be served.
    pub fn waiting(&self) -> usize {
        self.intake.waiting()
    }

    /// Returns what keeps others from being accepted, as a text for people; `None` if nothing does.
    pub fn complaint(&self) -> Option<String> {
        if self.intake.fails() {
            let text = "no connection can be taken: no files or memory are left (see LimitNOFILE, ulimit -n)";
            return Some(text.to_owned());
        }
        let waiting = self.intake.waiting();
        (waiting >= self.intake.places).then(|| {
            format!("{waiting} connections wait to be served, and no more are taken: the hub is flooded (put a proxy before it)")
        })
    }
}

/// A request's handle to its connection.
#[derive(Clone)]
pub struct Origin {
    slot: Arc<Slot>,
    turn: Turn,
    meter: Meter,
    peer: SocketAddr,
    /// Whether its answer may take as long as it has to.
    is_unhurried: Arc<AtomicBool>,
}

/// A connection's turn to be answered, until it is over.
type Turn = Arc<Mutex<Option<OwnedSemaphorePermit>>>;

impl Origin {
    /// Returns the token that is cancelled when the connection must make room for another.
    pub fn evicted(&self) -> &CancellationToken {
        &self.slot.evicted
    }

    /// Lets another connection be answered beside this one. Called when its time is over.
    pub fn end_turn(&self) {
        end_turn(&self.turn);
    }

    /// Limits the bytes that the peer may send from now on; beyond that the connection breaks.
    pub fn allow(&self, bytes: u64) {
        self.meter.allow(Some(bytes));
    }

    /// Lets the answer, and the connection with it, take longer than others may: up to [`LONG_LIFETIME`]. It still breaks
    /// when its peer reads nothing.
    pub fn take_time(&self) {
        self.is_unhurried.store(true, Ordering::Relaxed);
    }

    fn is_unhurried(&self) -> bool {
        self.is_unhurried.load(Ordering::Relaxed)
    }

    /// Returns the address at the other end of the connection: the client's, or that of a proxy.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Returns the same for a request that another node passes on for a client with this address.
    #[must_use]
    pub(in crate::hub) fn on_behalf_of(&self, client: SocketAddr) -> Self {
        Self { peer: client, ..self.clone() }
    }

    /// Returns whether the connection counts towards the connection limit.
    pub fn counts(&self) -> bool {
        self.slot.counts()
    }

    /// Marks the connection as that of somebody with a valid token: it no longer counts towards the connection limit.
    pub fn authenticated(&self) {
        self.slot.release();
    }

    /// Marks the connection as identified: it no longer counts towards the connection limit, and may send any number of
    /// bytes.
    pub fn identified(self) {
        self.end_turn();
        self.meter.allow(None);
    }
}

/// How connections are served.
#[derive(Clone)]
pub struct Service {
    /// The time limit of a handshake, a request's head, its answer, and the pause before the next.
    pub request_timeout: Duration,
    /// How TLS is spoken, if it is.
    pub tls: Option<Handshakes>,
}

/// Starts to serve. The task that it returns ends when the last connection has ended after `stop`.
///
/// Connections are accepted by a thread of their own, so that the kernel's queue never fills while the workers are busy, and
/// wait in line, in the order in which they came, until they are served.
///
/// # Errors
/// Returns the system's error if that thread cannot be started.
pub fn start(
    listener: TcpListener,
    routes: Routes,
    connections: Connections,
    service: Service,
    stop: CancellationToken,
) -> io::Result<JoinHandle<()>> {
    let (intake, limit) = (Arc::clone(&connections.intake), Arc::clone(&connections.limit));
    let line = accept::start(listener, intake, limit, stop.clone())?;
    Ok(tokio::spawn(serve(line, connections, routes, service, stop)))
}

async fn serve(
    mut line: mpsc::Receiver<Waiting>,
    Connections { limit, intake }: Connections,
    routes: Routes,
    service: Service,
    stop: CancellationToken,
) {
    let connections = TaskTracker::new();
    let turns = Arc::new(Semaphore::new(TURNS));
    loop {
        let next = async {
            let (stream, peer) = line.recv().await?;
            let slot = limit.enter().await;
            intake.served();
            let turn = Arc::clone(&turns).acquire_owned().await.ok()?;
            Some((stream, peer, slot, turn))
        };
        let (stream, peer, slot, turn) = tokio::select! {
            () = stop.cancelled() => break,
            next = next => match next {
                Some(next) => next,
                None => break,
            },
        };
        // Fails only for a connection that is broken already.
        let Ok(stream) = TcpStream::from_std(stream) else { continue };
        let turn = Arc::new(Mutex::new(Some(turn)));
        let origin = Origin {
            slot: Arc::new(slot),
            turn: Arc::clone(&turn),
            meter: Meter::default(),
            peer,
            is_unhurried: Arc::default(),
        };
        let connection = serve_connection(stream, origin, routes.clone(), service.clone(), stop.clone());
        connections.spawn(async move {
            let mut connection = pin!(connection);
            if timeout(TURN, connection.as_mut()).await.is_err() {
                end_turn(&turn);
                connection.await;
            }
        });
    }
    drop(line);
    connections.close();
    connections.wait().await;
}

fn end_turn(turn: &Turn) {
    turn.lock().unwrap_or_else(PoisonError::into_inner).take();
}

async fn serve_connection(
    stream: TcpStream,
    origin: Origin,
    routes: Routes,
    Service { request_timeout, tls }: Service,
    stop: CancellationToken,
) {
    // Frames are small and peers wait for answers, so delaying a packet to fill it only costs time.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection keeps its delay");
    }
    let evicted = origin.evicted().clone();
    let guarded = Guarded::new(stream, origin.meter.clone());
    let stream = match tls {
        None => Stream::Plain(guarded),
        Some(tls) => {
            // Boxed: a future is as large as its largest part, for its whole life.
            let secured = Box::pin(tls.secure(guarded, &origin.meter, origin.peer, request_timeout));
            let secured = tokio::select! {
                secured = secured => secured,
                () = evicted.cancelled() => None,
                () = stop.cancelled() => None,
            };
            match secured {
                Some(stream) => stream,
                None => return,
            }
        }
    };
    let lifetime = {
        let origin = origin.clone();
        async move {
            sleep(MAX_LIFETIME).await;
            if origin.is_unhurried() {
                sleep(LONG_LIFETIME - MAX_LIFETIME).await;
            }
        }
    };
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(origin.clone());
        let uri = request.uri().clone();
        let (origin, answer) = (origin.clone(), routes.answer(request));
        async move {
            let mut answer = pin!(answer);
            given(match timeout(request_timeout, answer.as_mut()).await {
                Ok(Ok(answer)) => answer,
                Err(_) if origin.is_unhurried() => match answer.await {
                    Ok(answer) => answer,
                },
                Err(_) => too_slow_response(&uri, request_timeout),
            })
        }
    });
    let connection = http_server::connection(request_timeout, MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return log_end(ended),
        () = evicted.cancelled() => return,
        () = stop.cancelled() => {}
        () = lifetime => {}
    }
    connection.as_mut().graceful_shutdown();
    if let Ok(ended) = timeout(SHUTDOWN_TIMEOUT, connection).await {
        log_end(ended);
    }
}

fn log_end(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "an HTTP connection broke off");
    }
}

fn too_slow_response(uri: &Uri, request_timeout: Duration) -> Response {
    let hint = format!(
        "a request and its answer may take {} ms; it may have been done: look before you send it again",
        request_timeout.as_millis()
    );
    let mut answer = or_problem(uri, ApiError::new(StatusCode::REQUEST_TIMEOUT, "too_slow", &hint));
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use axum::{Extension, Router};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// How long a request and its answer may take here.
    const REQUEST: Duration = Duration::from_millis(250);

    async fn status(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(Duration::from_secs(30), stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        answer.split(' ').nth(1).unwrap().to_owned()
    }

    #[tokio::test]
    async fn an_answer_that_takes_too_long_is_408_unless_its_route_may_take_its_time() {
        let listener = accept::listen(["127.0.0.1:0".parse().unwrap()].into_iter()).unwrap();
        let address = listener.local_addr().unwrap();
        let work = || async { sleep(2 * REQUEST).await };
        let router = Router::new().route("/slow", get(work)).route(
            "/unhurried",
            get(move |Extension(origin): Extension<Origin>| async move {
                origin.take_time();
                work().await;
            }),
        );
        let connections = Connections::new(&Bounds { request: REQUEST, unidentified: 8, waiting: 8 });
        let stop = CancellationToken::new();
        let served = start(
            listener,
            Routes::new(router),
            connections,
            Service { request_timeout: REQUEST, tls: None },
            stop.clone(),
        )
        .unwrap();
        assert_eq!((status(address, "/slow").await, status(address, "/unhurried").await), ("408".into(), "200".into()));
        stop.cancel();
        served.await.unwrap();
    }
}
