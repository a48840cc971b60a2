//! Holds at most one WebSocket connection to the hub and turns what happens on it into [`ConnectionEvent`]s. It does
//! not decide when to dial, interprets no frame, keeps no protocol state, and never retries.
//!
//! The guarantee: **every dial ends in exactly one [`ConnectionEventKind::Closed`], and nothing follows it.**

mod close_reason;
mod conversation;
pub(crate) mod dial;
mod disconnect;
pub mod transport;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::sidecar::hub_connection::dial::progress::Progress;
use crate::sidecar::hub_connection::transport::{Connector, Stream};

pub use crate::common::http_client::route::Transport;
pub use crate::common::http_client::tls::{ClientCertificate, Roots, SetBy, TlsOptions};
pub use close_reason::cooldown_ms;

/// The largest text that is sent in one frame, bytes: a result file of the largest size still fits with every byte
/// escaped.
pub const MAX_OUTGOING_BYTES: usize = 64 * 1024 * 1024;

/// How many frames may wait behind the one being written. A sidecar has a few to send at a time: a hub that leaves this
/// many unread does not read.
const SEND_QUEUE: usize = 64;

const CONNECTION_ENDED: SendError = SendError::Gone { why: "the connection ended" };

/// The close code for a connection that is replaced or whose owner is gone (RFC 6455, 7.4.1).
const GOING_AWAY: u16 = 1001;

/// The configuration of connections to the hub.
#[derive(Debug, Clone)]
pub struct ConnectionConfig {
    /// The hub's URL, `ws://` or `wss://`; with anything else each dial ends in a `Closed` that reports it.
    pub url: String,
    /// The time limit for name lookup, TCP, TLS and the upgrade together, ms.
    pub connect_timeout_ms: u64,
    /// The largest incoming message, bytes; a larger one ends the connection.
    pub max_frame_bytes: usize,
    /// The time from [`HubConnection::close`] within which the peer must answer the close frame, ms.
    pub close_timeout_ms: u64,
    /// The time limit for passing one frame to the kernel, after which the connection is declared dead, ms; large
    /// frames get more, 1 ms for each 32 bytes.
    pub write_timeout_ms: u64,
    /// How the hub is reached: TLS and proxies.
    pub transport: Transport,
}

impl ConnectionConfig {
    /// Returns a configuration with the usual limits: 10 s to connect and to write, 1 MiB frames, 5 s to close, native
    /// roots.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            connect_timeout_ms: 10_000,
            max_frame_bytes: 1024 * 1024,
            close_timeout_ms: 5_000,
            write_timeout_ms: 10_000,
            transport: Transport::default(),
        }
    }
}

/// The id of one dial and the connection it led to; later dials compare greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(u64);

impl core::fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// Something that happened on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionEvent {
    /// The connection's id.
    pub connection: ConnectionId,
    /// What happened.
    pub what: ConnectionEventKind,
}

/// What can happen on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectionEventKind {
    /// The upgrade succeeded: frames may be sent.
    Opened,
    /// A complete text message in valid UTF-8.
    Frame(String),
    /// A message that this protocol has no use for; the connection continues.
    Ignored {
        /// A description, for the log.
        what: String,
    },
    /// The end, once per dial.
    Closed(Closed),
}

/// How a dial or a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// The peer's close code, if it sent a close frame with one.
    pub code: Option<u16>,
    /// The peer's close reason, or empty.
    pub reason: String,
    /// Whether both close frames were exchanged, so that the peer has read everything sent before this side's.
    pub clean: bool,
    /// What went wrong, where, and what to do about it; none after a clean close.
    pub error: Option<String>,
}

impl Closed {
    /// Returns the reason, for people.
    pub fn in_words(&self) -> String {
        match (&self.error, self.code) {
            (Some(error), _) => error.clone(),
            (None, Some(code)) => format!("it ended the connection ({code} {})", self.reason.trim()),
            (None, None) => "the connection was ended".to_owned(),
        }
    }

    fn failed(error: String) -> Self {
        Self { code: None, reason: String::new(), clean: false, error: Some(error) }
    }
}

/// The reason why a text was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// No open connection accepted it. If one was open, its `Closed` follows.
    #[error("frame not sent: {why}; send it again on the next connection")]
    Gone {
        /// The obstacle.
        why: &'static str,
    },
    /// Too many frames are waiting already: the peer does not read.
    #[error("frame not sent: {} frames wait already, since the hub does not read; close the link", SEND_QUEUE)]
    Full,
    /// The text is larger than [`MAX_OUTGOING_BYTES`] and cannot be sent on any connection.
    #[error("frame not sent: {bytes} bytes, at most {} fit; shorten it", MAX_OUTGOING_BYTES)]
    TooLarge {
        /// Its size, bytes.
        bytes: usize,
    },
}

/// A text that waits to be written, and the channel for the outcome.
struct Outgoing {
    text: String,
    done: oneshot::Sender<Result<(), SendError>>,
}

/// The request to close, with the deadline of the closing handshake.
struct CloseOrder {
    code: u16,
    reason: String,
    deadline: Instant,
}

/// The owner's end of one connection.
struct Live {
    sends: mpsc::Sender<Outgoing>,
    /// Taken by the first close: later ones have no effect.
    close: Option<oneshot::Sender<CloseOrder>>,
    open: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

/// The connection to the hub. Dropping it closes the connection with 1001.
pub struct HubConnection {
    config: ConnectionConfig,
    events: mpsc::Sender<ConnectionEvent>,
    live: Option<Live>,
    dials: u64,
    connector: Option<Connector>,
    progress: Progress,
}

impl HubConnection {
    /// Creates a connection that is not connected yet. Events go to `events`; when it is full, reading from the hub
    /// pauses.
    pub fn new(config: ConnectionConfig, events: mpsc::Sender<ConnectionEvent>) -> Self {
        Self::over(config, events, None)
    }

    /// Creates a connection like [`Self::new`]; [`Self::dial`] uses `connector`, if there is one, instead of TCP.
    pub fn over(config: ConnectionConfig, events: mpsc::Sender<ConnectionEvent>, connector: Option<Connector>) -> Self {
        Self { config, events, live: None, dials: 0, connector, progress: Progress::new() }
    }

    /// Publishes by `progress` what each dial is doing.
    pub(crate) fn publishing(self, progress: Progress) -> Self {
        Self { progress, ..self }
    }

    /// Starts a dial in the background and returns its id. If a connection still exists, it is closed with 1001 and the
    /// new dial begins only AFTER its `Closed` was delivered, so two never overlap.
    pub fn dial(&mut self) -> ConnectionId {
        match &self.connector {
            Some(connect) => {
                let stream = connect();
                self.dial_over(stream)
            }
            None => {
                // Boxed: it is over when the connection begins, and would be a part of its task's state for ever.
                let stream = Box::pin(dial::reach(self.config.clone(), self.progress.clone()));
                self.dial_over(stream)
            }
        }
    }

    /// Counts as a dial that fails at once, with `why`.
    pub fn fail(&mut self, why: String) -> ConnectionId {
        self.dial_over(async { Err::<Box<dyn Stream>, _>(io::Error::other(why)) })
    }

    /// Dials like [`Self::dial`], over the byte stream that `stream` yields instead of TCP (a simulated network, for
    /// example).
    pub fn dial_over<S, F>(&mut self, stream: F) -> ConnectionId
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        F: Future<Output = io::Result<S>> + Send + 'static,
    {
        self.close(GOING_AWAY, "replaced by a new connection");
        let previous = self.live.take().map(|live| live.task);
        self.dials += 1;
        self.progress.begin();
        let id = ConnectionId(self.dials);
        let (sends, sends_rx) = mpsc::channel(SEND_QUEUE);
        let (close, close_rx) = oneshot::channel();
        let open = Arc::new(AtomicBool::new(false));
        let progress = self.progress.clone();
        let orders = conversation::Orders { sends: sends_rx, close: close_rx, open: open.clone(), progress };
        let (config, events) = (self.config.clone(), self.events.clone());
        let task = tokio::spawn(async move {
            if let Some(previous) = previous {
                // An error means that the task is gone, which is all that is awaited.
                let _ = previous.await;
            }
            let reporter = events.clone();
            let conversation = async move { conversation::run(id, &config, stream, orders, &events).await };
            // Exactly one `Closed` per dial is guaranteed, even if the conversation panics.
            if tokio::spawn(conversation).await.is_err_and(|error| error.is_panic()) {
                let closed = Closed::failed("a bug: the connection's task panicked; see the log".to_owned());
                let _ =
                    reporter.send(ConnectionEvent { connection: id, what: ConnectionEventKind::Closed(closed) }).await;
            }
        });
        self.live = Some(Live { sends, close: Some(close), open, task });
        id
    }

    /// Sends one text frame: returns when the kernel has it, or when it is known that it never will, which takes at
    /// most the write timeout for each frame before it.
    ///
    /// # Errors
    /// [`SendError`]: the frame was not sent, or not completely.
    pub async fn send(&self, text: String) -> Result<(), SendError> {
        self.post(text)?.await.unwrap_or(Err(CONNECTION_ENDED))
    }

    /// Queues one text frame without waiting; the returned receiver yields the outcome. A frame that does not reach the
    /// kernel ends the connection.
    ///
    /// # Errors
    /// [`SendError`]: the frame was not queued.
    pub fn post(&self, text: String) -> Result<oneshot::Receiver<Result<(), SendError>>, SendError> {
        if text.len() > MAX_OUTGOING_BYTES {
            return Err(SendError::TooLarge { bytes: text.len() });
        }
        let Some(live) = &self.live else { return Err(SendError::Gone { why: "never dialled" }) };
        if live.close.is_none() {
            return Err(SendError::Gone { why: "the connection is closing" });
        }
        if !live.open.load(Ordering::Acquire) {
            return Err(SendError::Gone { why: "the connection is not open" });
        }
        let (done, answer) = oneshot::channel();
        live.sends.try_send(Outgoing { text, done }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SendError::Full,
            mpsc::error::TrySendError::Closed(_) => CONNECTION_ENDED,
        })?;
        Ok(answer)
    }

    /// Starts to close: queued frames are sent, then a close frame with `code` and `reason` (cut to 123 bytes), then
    /// the peer's close frame is awaited; after `close_timeout_ms` from now TCP is dropped anyway. Frames that arrive
    /// meanwhile are still delivered. A second call, or one without a connection, has no effect.
    pub fn close(&mut self, code: u16, reason: &str) {
        let Some(order) = self.live.as_mut().and_then(|live| live.close.take()) else { return };
        let deadline = Instant::now() + Duration::from_millis(self.config.close_timeout_ms);
        // An error means that the connection ended by itself; its `Closed` describes how.
        let _ = order.send(CloseOrder { code, reason: close_reason::truncate(reason).to_owned(), deadline });
    }
}
