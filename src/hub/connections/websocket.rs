//! One agent's WebSocket: reads frames, checks their shape, and writes what the actor orders. It decides nothing about
//! tasks or restarts; every frame of an identified agent goes to the actor.

use std::borrow::Cow;
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::common::wall_clock::now_ms;
use crate::hub::actor::{Handle, ToSocket};
use crate::hub::connections::listener::{Origin, TURN};
use crate::hub::connections::message_stream::{Message, MessageStream, ReadError};
use crate::hub::connections::outbox;
use crate::hub::connections::tls::stream::Stream;
use crate::hub::connections::upgrade::Upgrade;
use crate::hub::not_unicode;
use crate::hub::scheduler::agents::ConnId;
use crate::hub::scheduler::inventory::close::Closing;
use crate::protocol::schema::{Incoming, read_frame};
use crate::protocol::{HubError, HubFrame, Identify, JsonText, SidecarFrame, task_named_in};

/// The maximum size of a message, in bytes: enough for a result with a long output.
const MAX_MESSAGE_BYTES: usize = 4 << 20;
/// The maximum number of frames queued for a slow peer before its connection is closed.
const OUTBOX: usize = 256;
/// The maximum size of those frames, in bytes.
const OUTBOX_BYTES: usize = 4 << 20;
/// The time limit of one write.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// The time that the peer has to answer a close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);
/// The number of invalid frames within a minute that closes the socket, as on the legacy hub (which adds a cooldown;
/// this hub does not).
const MAX_VIOLATIONS: usize = 10;

/// The maximum number of frames that a peer may send before it identifies.
const MAX_EARLY_FRAMES: usize = 10;
/// The maximum number of bytes that a peer may send before it identifies. An identify frame has some hundreds.
const MAX_EARLY_BYTES: u64 = 256 << 10;

/// The time limits of a WebSocket.
#[derive(Debug, Clone, Copy)]
pub struct TimeLimits {
    /// The longest silence of the peer.
    pub silence: Duration,
    /// The time that the peer has to identify.
    pub identify: Duration,
}

/// Serves one socket from the answer to its request on, until it closes or breaks, the peer is silent for too long, or the
/// hub stops.
pub(in crate::hub) async fn serve(
    upgrade: Upgrade,
    conn: ConnId,
    actor: Handle,
    origin: Origin,
    address: String,
    patience: TimeLimits,
    stop: CancellationToken,
) {
    // Without it the peer was gone before it had its answer.
    let Some(messages) = upgrade.messages(MAX_MESSAGE_BYTES).await else { return };
    let (outbox, orders) = outbox::new(OUTBOX, OUTBOX_BYTES);
    origin.allow(MAX_EARLY_BYTES);
    let mut session = Session {
        messages,
        conn,
        actor,
        outbox: Some(outbox),
        origin: Some(origin),
        address,
        identified: false,
        early_frames: 0,
        violations: Vec::new(),
    };
    let end = session.run(orders, patience, &stop).await;
    tracing::debug!(conn, ?end, "socket ended");
    let closing = Closing::from(&end);
    // What happens once for each connection is boxed: a future is as large as its largest part, for its whole life.
    match end {
        End::Peer => {}
        End::PeerClosed(..) => Box::pin(session.answer_close()).await,
        End::Silent => Box::pin(session.close(1002, SILENT)).await,
        End::Close(code, reason) => Box::pin(session.close(code, &reason)).await,
    }
    if session.identified {
        // Fails only while the hub stops. That is fine: a stopping hub keeps every assignment.
        let _ = Box::pin(session.actor.gone(conn, closing)).await;
    }
}

/// The reason in the close frame for a peer that was silent for too long.
const SILENT: &str = "silent for too long";

/// The reason why a session ended.
#[derive(Debug)]
enum End {
    /// The connection ended, or broke.
    Peer,
    /// The peer closes the connection by handshake, with this code and reason.
    PeerClosed(Option<u16>, String),
    /// The peer was silent for too long.
    Silent,
    /// The hub closes the connection with this code and reason.
    Close(u16, Cow<'static, str>),
}

impl From<&End> for Closing {
    fn from(end: &End) -> Self {
        match end {
            End::Peer => Self::broken(),
            End::PeerClosed(code, reason) => Self::by_agent(*code, reason),
            End::Silent => Self::silent(1002, SILENT),
            End::Close(code, reason) => Self::by_hub(*code, reason),
        }
    }
}

struct Session {
    messages: MessageStream<Stream>,
    conn: ConnId,
    actor: Handle,
    /// The sender for the actor, handed over at identify. It is the only one, so the actor ends the session by dropping
    /// it.
    outbox: Option<outbox::Sender<ToSocket>>,
    /// The connection's origin, until an agent has identified.
    origin: Option<Origin>,
    /// The network address of the peer.
    address: String,
    identified: bool,
    /// The number of frames received before that.
    early_frames: usize,
    violations: Vec<Instant>,
}

impl Session {
    async fn run(
        &mut self,
        mut orders: outbox::Receiver<ToSocket>,
        patience: TimeLimits,
        stop: &CancellationToken,
    ) -> End {
        let mut received_at = Instant::now();
        let identify_by = received_at + patience.identify;
        let evicted = self.origin.as_ref().map(|origin| origin.evicted().clone()).unwrap_or_default();
        let (mut stopped, mut evicted) = (pin!(stop.cancelled()), pin!(evicted.cancelled()));
        // One timer for all limits. When it fires it may be too early, since a frame only notes when it came.
        let mut alarm = pin!(sleep_until(received_at + TURN));
        loop {
            let step = tokio::select! {
                () = &mut stopped => Err(End::Close(1001, Cow::Borrowed("the hub is stopping"))),
                order = orders.recv() => match order {
                    Some(ToSocket::Frame(text, receipt)) => Box::pin(self.write(text, receipt)).await,
                    Some(ToSocket::Close(code, reason)) => Err(End::Close(code, reason.into())),
                    None if stop.is_cancelled() => Err(hub_stopping()),
                    None => Err(End::Close(1008, Cow::Borrowed("too slow: frames were not read"))),
                },
                () = &mut alarm => {
                    let (now, silent_at) = (Instant::now(), received_at + patience.silence);
                    if !self.identified && now >= identify_by {
                        Err(End::Close(1008, Cow::Borrowed("not identified in time")))
                    } else if now >= silent_at {
                        Err(End::Silent)
                    } else {
                        if let Some(origin) = &self.origin {
                            origin.end_turn();
                        }
                        alarm.as_mut().reset(if self.identified { silent_at } else { identify_by.min(silent_at) });
                        Ok(())
                    }
                }
                () = &mut evicted, if !self.identified => {
                    Err(End::Close(1013, Cow::Borrowed("too many connections that are not identified")))
                }
                message = self.messages.recv() => {
                    received_at = Instant::now();
                    match message {
                        Ok(Some(message)) => Box::pin(self.receive(message)).await,
                        Ok(None) => Err(End::Peer),
                        Err(error) => Err(end_after_error(&error)),
                    }
                }
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    async fn receive(&mut self, message: Message) -> Result<(), End> {
        match message {
            Message::Text(text) => self.receive_text(&text).await,
            Message::Binary => Err(End::Close(1003, Cow::Borrowed("text frames only"))),
            Message::Ping(_) if !self.actor.may_speak() => Err(hub_stopping()),
            Message::Ping(payload) => self.messages.send_pong(&payload, WRITE_TIMEOUT).await.map_err(|_| End::Peer),
            Message::Pong => Ok(()),
            Message::Close { code, reason } => Err(End::PeerClosed(code, reason)),
        }
    }

    async fn receive_text(&mut self, text: &str) -> Result<(), End> {
        let (incoming, replaced) = read_frame(text);
        not_unicode::warn("frame", &format!("connection {}", self.conn), replaced);
        match incoming {
            Incoming::Frame(SidecarFrame::Identify(identify)) => self.identify(identify).await,
            Incoming::Frame(_) | Incoming::Ignored if !self.identified => {
                self.send_error("not_identified").await?;
                self.early_frames += 1;
                if self.early_frames >= MAX_EARLY_FRAMES {
                    return Err(End::Close(1008, Cow::Borrowed("too many frames before identify")));
                }
                Ok(())
            }
            Incoming::Frame(SidecarFrame::Ping {}) => {
                self.send(&HubFrame::Pong { timestamp: JsonText::of(&now_ms()) }).await
            }
            Incoming::Frame(frame) => self.actor.frame_received(self.conn, frame).await.map_err(|_| hub_stopping()),
            Incoming::Ignored => Ok(()),
            Incoming::NotJson => {
                self.send_error("invalid_json").await?;
                self.count_violation()
            }
            Incoming::Invalid { message_type, errors } => {
                let (task_id, generation) = task_named_in(text);
                let errors = errors.iter().map(JsonText::of).collect();
                let error =
                    HubError { error: "validation_failed".to_owned(), message_type, task_id, generation, errors };
                self.send(&HubFrame::Error(error)).await?;
                self.count_violation()
            }
        }
    }

    async fn identify(&mut self, identify: Box<Identify>) -> Result<(), End> {
        let Some(outbox) = self.outbox.take() else {
            return self.send_error("already_identified").await;
        };
        // From here on the actor may know this connection, so it must be told when the connection is gone.
        self.identified = true;
        if !identify.dropped_labels.is_empty() {
            let (agent_id, labels) = (&identify.agent_id, identify.dropped_labels.join(", "));
            tracing::warn!(
                agent_id,
                labels,
                "labels of an agent are not allowed and are left out: `agentcom-sidecar check` says what is, on its machine"
            );
        }
        match self.actor.identify(self.conn, identify, std::mem::take(&mut self.address), outbox).await {
            Ok(Ok(())) => {
                if let Some(origin) = self.origin.take() {
                    origin.identified();
                }
                Ok(())
            }
            Ok(Err(refused)) => {
                self.identified = false;
                let why: &'static str = refused.into();
                self.send_error(why).await?;
                Err(End::Close(1008, Cow::Borrowed(why)))
            }
            Err(_) => Err(hub_stopping()),
        }
    }

    fn count_violation(&mut self) -> Result<(), End> {
        let now = Instant::now();
        self.violations.retain(|at| now.duration_since(*at) < Duration::from_secs(60));
        self.violations.push(now);
        if self.violations.len() >= MAX_VIOLATIONS {
            return Err(End::Close(1008, Cow::Borrowed("too many validation errors")));
        }
        Ok(())
    }

    async fn send_error(&mut self, error: &str) -> Result<(), End> {
        self.send(&HubFrame::Error(HubError { error: error.to_owned(), ..HubError::default() })).await
    }

    async fn send(&mut self, frame: &HubFrame) -> Result<(), End> {
        self.write(frame.to_text(), None).await
    }

    async fn write(&mut self, text: String, receipt: Option<String>) -> Result<(), End> {
        // It may have waited in the queue, or the process may have stood still.
        if !self.actor.may_speak() {
            return Err(hub_stopping());
        }
        self.messages.send_text(&text, WRITE_TIMEOUT).await.map_err(|_| End::Peer)?;
        match receipt {
            Some(command_id) => self.actor.written(command_id).await.map_err(|_| hub_stopping()),
            None => Ok(()),
        }
    }

    /// Answers the peer's close frame, which ends the handshake.
    async fn answer_close(&mut self) {
        // A peer that has gone already needs no answer.
        let _ = self.messages.send_close(1000, "", CLOSE_TIMEOUT).await;
        self.messages.end().await;
    }

    /// Sends a close frame and gives the peer a moment to answer, so that it sees a close and not a reset.
    async fn close(&mut self, code: u16, reason: &str) {
        let closing = async {
            if self.messages.send_close(code, reason, CLOSE_TIMEOUT).await.is_ok() {
                while let Ok(Some(Message::Text(_) | Message::Binary | Message::Ping(_) | Message::Pong)) =
                    self.messages.recv().await
                {}
            }
        };
        // A peer that does not answer in time is dropped.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, closing).await;
        self.messages.end().await;
    }
}

fn hub_stopping() -> End {
    End::Close(1001, Cow::Borrowed("the hub is stopping"))
}

/// Converts a read error to the end of the session.
fn end_after_error(error: &ReadError) -> End {
    match error {
        ReadError::Broken(_) => End::Peer,
        ReadError::TooLong => End::Close(1009, Cow::Borrowed("message too big")),
        ReadError::NotUtf8 => End::Close(1007, Cow::Borrowed("a text is not UTF-8")),
        ReadError::Protocol(why) => End::Close(1002, Cow::Borrowed(why)),
    }
}
