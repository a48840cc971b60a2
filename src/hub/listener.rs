//! The TCP listener: accepts connections and serves HTTP on each, with limits on time, bytes and the number of
//! connections, so that no unauthenticated client can hold the hub up. It knows no route.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Sleep, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::common::http_server;
use crate::hub::api_error::ApiError;
use crate::hub::connection_limit::{ConnectionLimit, Slot};

/// The maximum size of a request's head, in bytes.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// The lifetime of a connection that no agent identified on, however busy it is.
const MAX_LIFETIME: Duration = Duration::from_secs(600);
/// The time that a connection has to finish its current request after its lifetime ended or the hub stops.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest time that a peer may leave written bytes unread.
const STALL_TIMEOUT: Duration = Duration::from_secs(20);
/// The pause after a failed accept (no file descriptors left).
const ACCEPT_RETRY_PAUSE: Duration = Duration::from_millis(200);
/// The least time between two log lines about failed accepts.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// The meter's value for no limit.
const UNBOUNDED: u64 = u64::MAX;

/// The limits that an operator may set.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// The time limit of a request's head, of its whole answer, and of the pause between two requests.
    pub request: Duration,
    /// The maximum number of connections that no agent has identified on.
    pub unidentified: usize,
}

/// A request's handle to its connection.
#[derive(Clone)]
pub struct Origin {
    slot: Arc<Slot>,
    meter: Meter,
    peer: SocketAddr,
}

impl Origin {
    /// Returns the token that is cancelled when the connection must make room for another.
    pub fn evicted(&self) -> &CancellationToken {
        &self.slot.evicted
    }

    /// Limits the bytes that the peer may send from now on; beyond that the connection breaks.
    pub fn allow(&self, bytes: u64) {
        self.meter.0.store(bytes, Ordering::Relaxed);
    }

    /// Returns the address at the other end of the connection: the client's, or that of a proxy.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Marks the connection as identified: it no longer counts towards the connection limit, and may send any number of
    /// bytes.
    pub fn identified(self) {
        self.allow(UNBOUNDED);
    }
}

/// Serves until `stop`, then waits until the last connection has ended.
pub async fn serve(listener: TcpListener, router: Router, bounds: Bounds, stop: CancellationToken) {
    let connection_limit = ConnectionLimit::new(bounds.unidentified);
    let connections = TaskTracker::new();
    let mut logged_at = None;
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let slot = tokio::select! {
                    () = stop.cancelled() => break,
                    slot = connection_limit.enter() => slot,
                };
                connections.spawn(serve_connection(stream, peer, slot, router.clone(), bounds.request, stop.clone()));
            }
            Err(error) if http_server::is_peer_error(&error) => {}
            Err(error) => {
                if logged_at.is_none_or(|at: Instant| at.elapsed() > LOG_INTERVAL) {
                    tracing::warn!(%error, "no connection can be taken; trying again (see LimitNOFILE or ulimit -n)");
                    logged_at = Some(Instant::now());
                }
                connection_limit.make_room();
                sleep(ACCEPT_RETRY_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn serve_connection(
    stream: TcpStream,
    peer: SocketAddr,
    slot: Slot,
    router: Router,
    request_timeout: Duration,
    stop: CancellationToken,
) {
    // Frames are small and peers wait for answers, so delaying a packet to fill it only costs time.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection keeps its delay");
    }
    let evicted = slot.evicted.clone();
    let meter = Meter(Arc::new(AtomicU64::new(UNBOUNDED)));
    let stream = TokioIo::new(Guarded { stream, meter: meter.clone(), stall: None });
    let origin = Origin { slot: Arc::new(slot), meter, peer };
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(origin.clone());
        let answer = router.call(request.map(Body::new));
        async move {
            Ok::<Response, Infallible>(match timeout(request_timeout, answer).await {
                Ok(Ok(answer)) => answer,
                Err(_) => too_slow_response(request_timeout),
            })
        }
    });
    let connection =
        http_server::connection(request_timeout, MAX_HEAD_BYTES).serve_connection(stream, service).with_upgrades();
    tokio::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return log_end(ended),
        () = evicted.cancelled() => return,
        () = stop.cancelled() => {}
        () = sleep(MAX_LIFETIME) => {}
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

fn too_slow_response(request_timeout: Duration) -> Response {
    let hint = format!(
        "a request and its answer may take {} ms; it may have been done: look before you send it again",
        request_timeout.as_millis()
    );
    let mut answer = ApiError::new(StatusCode::REQUEST_TIMEOUT, "too_slow", &hint).into_response();
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// The number of bytes that the peer may still send.
#[derive(Clone)]
struct Meter(Arc<AtomicU64>);

impl Meter {
    /// Takes `bytes` off the rest. Returns `false` if the rest is smaller.
    fn take(&self, bytes: usize) -> bool {
        let bytes = u64::try_from(bytes).unwrap_or(UNBOUNDED);
        let less = |left: u64| if left == UNBOUNDED { Some(left) } else { left.checked_sub(bytes) };
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }
}

/// A stream that breaks when its peer sends more than it may, or reads nothing for too long.
struct Guarded {
    stream: TcpStream,
    meter: Meter,
    stall: Option<Pin<Box<Sleep>>>,
}

impl Guarded {
    /// Passes the outcome of a write on, or fails if the peer has stalled for too long.
    fn check_stall<T>(&mut self, written: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stall = None;
            return written;
        }
        let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(STALL_TIMEOUT)));
        match stall.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Guarded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if !self.meter.take(buf.filled().len() - before) {
            return Poll::Ready(Err(io::Error::other("more was said before `identify` than is allowed")));
        }
        read
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.check_stall(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.check_stall(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
