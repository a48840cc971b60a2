//! One connection from dial to `Closed`: a loop that reads, writes and closes over any byte stream. It decides nothing
//! about the protocol above: texts pass through uninterpreted.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{Sink, SinkExt, Stream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_tungstenite::tungstenite::error::Error;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::sidecar::hub_connection::dial::progress::{Progress, Stage};
use crate::sidecar::hub_connection::dial::{self, explain_tcp, explain_upgrade, loggable_url};
use crate::sidecar::hub_connection::{
    CloseOrder, Closed, ConnectionConfig, ConnectionEvent, ConnectionEventKind, ConnectionId, GOING_AWAY, Outgoing,
    SendError, disconnect,
};

/// The slowest rate that is tolerated, bytes per ms (about a quarter of a megabit a second): a large frame gets the
/// time that it needs at this rate, in addition to the write timeout.
const SLOWEST_BYTES_PER_MS: u64 = 32;

/// The most additional time, in multiples of the write timeout: a half-open connection must end.
const MAX_EXTRA_FACTOR: u64 = 8;

/// How long a peer that violated the protocol is given to read why it is disconnected.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(500);

/// How long after the connect timeout the stream's own report of it is waited for.
const OWN_LIMIT_GRACE: Duration = Duration::from_millis(100);

const NOT_WRITTEN: SendError = SendError::Gone { why: "the connection ended before the frame was written" };

/// The requests of the owner to a running connection.
pub(super) struct Orders {
    pub(super) sends: mpsc::Receiver<Outgoing>,
    pub(super) close: oneshot::Receiver<CloseOrder>,
    /// Set BEFORE `Opened` is delivered.
    pub(super) open: Arc<AtomicBool>,
    /// Publishes what the dial is doing.
    pub(super) progress: Progress,
}

/// Dials, runs the connection, and delivers exactly one `Closed`, last.
pub(super) async fn run<S, F>(
    id: ConnectionId,
    config: &ConnectionConfig,
    stream: F,
    mut orders: Orders,
    events: &mpsc::Sender<ConnectionEvent>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = io::Result<S>>,
{
    let established = tokio::select! {
        biased;
        order = &mut orders.close => {
            let reason = order.map(|order| order.reason).unwrap_or_default();
            Err(Closed::failed(format!("closed by this side before it was open ({reason:?})")))
        }
        // Boxed: the handshakes' state is needed once, and would otherwise be part of the connection's task, and several
        // times on the stack, for as long as the process lives.
        established = Box::pin(establish(config, stream, &orders.progress)) => established,
    };
    let (closed, undelivered) = match established {
        Err(closed) => (closed, None),
        Ok(socket) => {
            orders.open.store(true, Ordering::Release);
            orders.progress.reached(Stage::Open);
            Conversation::new(socket, config, orders, events, id).run_to_end().await
        }
    };
    // The receiver may be gone.
    for what in undelivered.into_iter().chain([ConnectionEventKind::Closed(closed)]) {
        let _ = events.send(ConnectionEvent { connection: id, what }).await;
    }
}

async fn establish<S, F>(
    config: &ConnectionConfig,
    stream: F,
    progress: &Progress,
) -> Result<WebSocketStream<MaybeTlsStream<S>>, Closed>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = io::Result<S>>,
{
    let limit = config.connect_timeout_ms;
    let deadline = Instant::now() + Duration::from_millis(limit);
    // A dial over TCP keeps the limit itself, and says at which address or step it was over.
    let stream = match timeout_at(deadline + OWN_LIMIT_GRACE, stream).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(e)) => return Err(Closed::failed(explain_tcp(&config.url, &e))),
        Err(_) => {
            let e = io::Error::new(io::ErrorKind::TimedOut, format!("no connection within {limit} ms"));
            return Err(Closed::failed(explain_tcp(&config.url, &e)));
        }
    };
    tracing::debug!("the hub's port was reached");
    match timeout_at(deadline, dial::upgrade(config, stream, progress)).await {
        Ok(Ok(socket)) => {
            tracing::debug!("the hub took the WebSocket");
            Ok(socket)
        }
        Ok(Err(e)) => Err(Closed::failed(explain_upgrade(config, &e))),
        Err(_) => Err(Closed::failed(format!(
            "{} took the connection but did not finish the WebSocket upgrade within {limit} ms; is it the hub, and is it alive?",
            loggable_url(&config.url)
        ))),
    }
}

/// A write that has not reached the kernel yet.
struct Writing {
    until: Instant,
    done: Option<oneshot::Sender<Result<(), SendError>>>,
}

/// The event that woke the loop.
enum Next {
    Deliverable,
    ReceiverGone,
    Flushed(Result<(), Error>),
    Read(Option<Result<Message, Error>>),
    CloseOrdered(CloseOrder),
    SendOrdered(Outgoing),
    SendsDrained,
    TimedOut,
}

struct Conversation<'a, S> {
    socket: WebSocketStream<MaybeTlsStream<S>>,
    config: &'a ConnectionConfig,
    orders: Orders,
    events: &'a mpsc::Sender<ConnectionEvent>,
    id: ConnectionId,
    /// The only event that waits for capacity in the channel; while it waits, nothing is read, and TCP slows the hub
    /// down.
    undelivered: Option<ConnectionEventKind>,
    writing: Option<Writing>,
    /// The owner's request to close.
    closing: Option<CloseOrder>,
    sends_drained: bool,
    /// Whether the close frame of this side was passed to the library (it is on the wire once `writing` is none).
    close_sent: bool,
    /// The code and reason of the peer's close frame.
    peer_closed: Option<(Option<u16>, String)>,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Conversation<'a, S> {
    fn new(
        socket: WebSocketStream<MaybeTlsStream<S>>,
        config: &'a ConnectionConfig,
        orders: Orders,
        events: &'a mpsc::Sender<ConnectionEvent>,
        id: ConnectionId,
    ) -> Self {
        Self {
            socket,
            config,
            orders,
            events,
            id,
            undelivered: Some(ConnectionEventKind::Opened),
            writing: None,
            closing: None,
            sends_drained: false,
            close_sent: false,
            peer_closed: None,
        }
    }

    /// Runs until the end; returns how it ended and the event that still waits for capacity.
    async fn run_to_end(mut self) -> (Closed, Option<ConnectionEventKind>) {
        let closed = loop {
            // 1. Both close frames are on the wire: the handshake is complete.
            if self.close_sent
                && self.writing.is_none()
                && let Some((code, reason)) = self.peer_closed.take()
            {
                self.shut_down().await;
                break Closed { code, reason, clean: true, error: None };
            }
            // 2. The close frame is sent AFTER everything that was queued before it.
            if self.closing.is_some() && self.sends_drained && self.writing.is_none() && !self.close_sent {
                self.send_close();
            }
            // 3. One step.
            let ended = match self.step().await {
                Next::Deliverable => None,
                Next::ReceiverGone => Some(Closed::failed("the connection is not wanted any more".into())),
                Next::Flushed(outcome) => self.flushed(outcome),
                Next::Read(item) => self.read(item).await,
                Next::CloseOrdered(order) => {
                    // Queued frames are still sent; new ones are refused.
                    self.orders.sends.close();
                    self.closing = Some(order);
                    None
                }
                Next::SendOrdered(outgoing) => self.write(outgoing),
                Next::SendsDrained => {
                    self.sends_drained = true;
                    None
                }
                Next::TimedOut => Some(self.timed_out()),
            };
            if let Some(closed) = ended {
                break closed;
            }
        };
        if let Some(done) = self.writing.take().and_then(|writing| writing.done) {
            let _ = done.send(Err(NOT_WRITTEN));
        }
        (closed, self.undelivered)
    }

    /// Waits for the next event. Every branch is cancel-safe.
    async fn step(&mut self) -> Next {
        let deadline = self.deadline();
        let Self { socket, orders, events, id, undelivered, writing, closing, sends_drained, peer_closed, .. } = self;
        let (flush, read) = (writing.is_some(), undelivered.is_none() && peer_closed.is_none());
        tokio::select! {
            // Branches that are ready at the same time run in this order, not at random: orders before traffic, and no
            // two orders without a flush between them.
            biased;
            () = sleep_until_deadline(deadline) => Next::TimedOut,
            order = &mut orders.close, if closing.is_none() => Next::CloseOrdered(order.unwrap_or_else(|_| CloseOrder {
                // The owner was dropped without a close.
                code: GOING_AWAY,
                reason: String::new(),
                deadline: Instant::now() + GOODBYE_TIMEOUT,
            })),
            send = orders.sends.recv(), if !flush && !*sends_drained && peer_closed.is_none() => match send {
                Some(outgoing) => Next::SendOrdered(outgoing),
                None => Next::SendsDrained,
            },
            step = poll_fn(|cx| poll_socket(socket, flush, read, cx)) => step,
            permit = events.reserve(), if undelivered.is_some() => match permit {
                Ok(permit) => {
                    if let Some(what) = undelivered.take() {
                        permit.send(ConnectionEvent { connection: *id, what });
                    }
                    Next::Deliverable
                }
                Err(_) => Next::ReceiverGone,
            },
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let writing = self.writing.as_ref().map(|writing| writing.until);
        let closing = self.closing.as_ref().map(|order| order.deadline);
        [writing, closing].into_iter().flatten().min()
    }

    fn write(&mut self, outgoing: Outgoing) -> Option<Closed> {
        let limit = self.config.write_timeout_ms;
        let extra_ms = outgoing.text.len() as u64 / SLOWEST_BYTES_PER_MS;
        let allowed_ms = limit.saturating_add(extra_ms.min(limit.saturating_mul(MAX_EXTRA_FACTOR)));
        let until = Instant::now() + Duration::from_millis(allowed_ms);
        match Pin::new(&mut self.socket).start_send(Message::text(outgoing.text)) {
            Ok(()) => {
                self.writing = Some(Writing { until, done: Some(outgoing.done) });
                None
            }
            Err(e) => {
                let _ = outgoing.done.send(Err(NOT_WRITTEN));
                Some(self.broken(&e))
            }
        }
    }

    fn flushed(&mut self, outcome: Result<(), Error>) -> Option<Closed> {
        let done = self.writing.take().and_then(|writing| writing.done);
        let answer = if outcome.is_ok() { Ok(()) } else { Err(NOT_WRITTEN) };
        // The sender may have stopped waiting.
        let _ = done.map(|done| done.send(answer));
        outcome.err().map(|e| self.broken(&e))
    }

    fn send_close(&mut self) {
        let Some(order) = &self.closing else { return };
        let code = CloseCode::from(order.code);
        let code = if code.is_allowed() { code } else { CloseCode::Normal };
        let frame = CloseFrame { code, reason: Utf8Bytes::from(order.reason.as_str()) };
        self.close_sent = true;
        // An error is reported again, with its text, by the flush or the read that follows.
        let _ = Pin::new(&mut self.socket).start_send(Message::Close(Some(frame)));
        self.writing = Some(Writing { until: order.deadline, done: None });
    }

    async fn read(&mut self, item: Option<Result<Message, Error>>) -> Option<Closed> {
        match item {
            Some(Ok(Message::Text(text))) => {
                self.undelivered = Some(ConnectionEventKind::Frame(text.as_str().to_owned()))
            }
            Some(Ok(Message::Binary(bytes))) => {
                self.undelivered =
                    Some(ConnectionEventKind::Ignored { what: format!("binary frame of {} bytes", bytes.len()) });
            }
            // The library answers pings while it reads on; it never yields raw frames.
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            Some(Ok(Message::Close(frame))) => {
                self.peer_closed = Some(match frame {
                    Some(frame) => (Some(frame.code.into()), frame.reason.as_str().to_owned()),
                    None => (None, String::new()),
                });
                if !self.close_sent {
                    self.answer_close();
                }
            }
            Some(Err(e)) => {
                self.send_error_close(&e).await;
                return Some(self.broken(&e));
            }
            None => return Some(self.broken(&Error::ConnectionClosed)),
        }
        None
    }

    /// Answers the peer's close frame: the library has queued the answer, which only needs a flush. No frame may follow
    /// it.
    fn answer_close(&mut self) {
        if let Some(done) = self.writing.take().and_then(|writing| writing.done) {
            let _ = done.send(Err(NOT_WRITTEN));
        }
        self.close_sent = true;
        let until = Instant::now() + Duration::from_millis(self.config.close_timeout_ms);
        self.writing = Some(Writing { until, done: None });
    }

    /// Tells a peer that violated the protocol why it is disconnected, if it reads at all.
    async fn send_error_close(&mut self, e: &Error) {
        let Some((code, reason)) = disconnect::close_frame_for(e) else { return };
        if !self.close_sent {
            let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
            let _ = timeout(GOODBYE_TIMEOUT, self.socket.send(Message::Close(Some(frame)))).await;
        }
    }

    /// Shuts TLS and TCP down in order, so that the last bytes are not overtaken by a reset.
    async fn shut_down(&mut self) {
        let stream = self.socket.get_mut();
        let shutdown = poll_fn(|cx| Pin::new(&mut *stream).poll_shutdown(cx));
        let _ = timeout(GOODBYE_TIMEOUT, shutdown).await;
    }

    fn timed_out(&self) -> Closed {
        let closing = self.closing.is_some() || self.peer_closed.is_some();
        self.unclean(disconnect::explain_silence(self.config, closing))
    }

    fn broken(&self, e: &Error) -> Closed {
        self.unclean(disconnect::explain(self.config, e))
    }

    fn unclean(&self, error: String) -> Closed {
        let (code, reason) = self.peer_closed.clone().unwrap_or_default();
        Closed { code, reason, clean: false, error: Some(error) }
    }
}

/// Polls the socket: pending output first, then input.
fn poll_socket<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut WebSocketStream<MaybeTlsStream<S>>,
    flush: bool,
    read: bool,
    cx: &mut Context<'_>,
) -> Poll<Next> {
    if flush && let Poll::Ready(outcome) = Pin::new(&mut *socket).poll_flush(cx) {
        return Poll::Ready(Next::Flushed(outcome));
    }
    if read && let Poll::Ready(item) = Pin::new(&mut *socket).poll_next(cx) {
        return Poll::Ready(Next::Read(item));
    }
    Poll::Pending
}

async fn sleep_until_deadline(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
