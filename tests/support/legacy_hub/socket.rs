//! The double's sockets: turns frames into calls of the core and what the core wants said into frames, and records both.
//! It decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::StatusCode;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::core::{ConnectionId, Core, Out};
use super::log::{Entry, What};
use super::now_ms;
use super::options::Options;

/// How often the core's timers are looked at.
const TICK: Duration = Duration::from_millis(5);

/// What a connection's task is to do.
pub enum Order {
    Text(String),
    Binary(Vec<u8>),
    Close(u16, String),
    Drop,
    /// Neither read nor write any more, and keep the TCP connection.
    Freeze,
}

/// Everything that the test, the sockets and the timers have in common.
pub struct Shared {
    pub core: Core,
    pub log: Vec<Entry>,
    pub refusing: bool,
    orders: BTreeMap<ConnectionId, mpsc::UnboundedSender<Order>>,
    half_open: BTreeSet<ConnectionId>,
    last_connection: ConnectionId,
}

impl Shared {
    pub fn new(options: Options) -> Self {
        Self {
            core: Core::new(options),
            log: Vec::new(),
            refusing: false,
            orders: BTreeMap::new(),
            half_open: BTreeSet::new(),
            last_connection: 0,
        }
    }

    /// Carries out what the core wants, in order.
    pub fn flush(&mut self) {
        for out in self.core.take_outs() {
            match out {
                Out::Say(connection, frame) => self.say(connection, frame),
                Out::Close(connection, code, reason) => {
                    self.order(connection, Order::Close(code, reason.clone()), What::HubClosed(code, reason));
                }
                Out::Drop(connection) => self.order(connection, Order::Drop, What::HubDropped),
            }
        }
    }

    pub fn say(&mut self, connection: ConnectionId, frame: Value) {
        let lost = self.half_open.contains(&connection);
        self.order(connection, Order::Text(frame.to_string()), What::Hub { frame, lost });
    }

    /// Records `what` and gives the order; one to a connection that has ended is lost, as in life.
    pub fn order(&mut self, connection: ConnectionId, order: Order, what: What) {
        self.record(connection, what);
        if let Some(orders) = self.orders.get(&connection) {
            let _ = orders.send(order);
        }
    }

    pub fn freeze(&mut self, connection: ConnectionId) {
        self.half_open.insert(connection);
        if let Some(orders) = self.orders.get(&connection) {
            let _ = orders.send(Order::Freeze);
        }
    }

    pub fn drop_all(&mut self) {
        let all: Vec<_> = self.orders.keys().copied().collect();
        for connection in all {
            self.order(connection, Order::Drop, What::HubDropped);
            self.core.closed(connection, now_ms());
        }
    }

    /// The hub's process ends in the middle of everything and a new one is there.
    pub fn crash(&mut self) {
        let all: Vec<_> = self.orders.keys().copied().collect();
        for connection in all {
            self.order(connection, Order::Drop, What::HubDropped);
        }
        self.core.crashed();
    }

    fn record(&mut self, connection: ConnectionId, what: What) {
        let agent = self.core.agent_of(connection).or_else(|| {
            // A connection that the core has forgotten still belongs to whoever was on it.
            self.log.iter().rev().find(|entry| entry.connection == connection)?.agent.clone()
        });
        self.log.push(Entry { at_ms: now_ms(), connection, agent, what });
    }

    fn opened(&mut self, orders: mpsc::UnboundedSender<Order>) -> ConnectionId {
        self.last_connection += 1;
        let connection = self.last_connection;
        self.orders.insert(connection, orders);
        self.record(connection, What::Opened);
        self.core.opened(connection, now_ms());
        connection
    }

    fn received(&mut self, connection: ConnectionId, message: Message) {
        match message {
            Message::Text(text) => {
                let what = serde_json::from_str(&text).map_or_else(|_| What::Garbage(text.to_string()), What::Sidecar);
                self.said(connection, what, &text);
            }
            Message::Binary(bytes) => {
                self.record(connection, What::Garbage(format!("{} binary bytes", bytes.len())));
                self.core.choke(connection, now_ms());
            }
            Message::Close(frame) => {
                let why = frame.map(|frame| (u16::from(frame.code), frame.reason.as_str().to_owned()));
                self.record(connection, What::SidecarClosed(why));
            }
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => self.core.heard(connection, now_ms()),
        }
    }

    /// The agent of an `identify` is known only after it was handled; the record should have it all the same.
    fn said(&mut self, connection: ConnectionId, what: What, text: &str) {
        let at = self.log.len();
        self.record(connection, what);
        self.core.said(connection, text, now_ms());
        if let Some(agent) = self.core.agent_of(connection) {
            self.log[at].agent = Some(agent);
        }
    }

    fn ended(&mut self, connection: ConnectionId) {
        self.orders.remove(&connection);
        let said_so = |entry: &Entry| entry.connection == connection && matches!(entry.what, What::SidecarClosed(_));
        if !self.log.iter().any(said_so) {
            self.record(connection, What::Ended);
        }
        if !self.half_open.contains(&connection) {
            self.core.closed(connection, now_ms());
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves until `stopped` resolves, however it does.
pub async fn serve(listener: std::net::TcpListener, shared: Arc<Mutex<Shared>>, mut stopped: oneshot::Receiver<()>) {
    let listener = TcpListener::from_std(listener).expect("a listener for the double");
    let mut ticks = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            _ = &mut stopped => return,
            _ = ticks.tick() => {
                let mut shared = lock(&shared);
                shared.core.tick(now_ms());
                shared.flush();
            }
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted && !lock(&shared).refusing {
                    tokio::spawn(connection(stream, Arc::clone(&shared)));
                }
            }
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Mutex<Shared>>) {
    let Ok(mut socket) = tokio_tungstenite::accept_hdr_async(stream, only_ws).await else { return };
    let (orders, mut ordered) = mpsc::unbounded_channel();
    let id = lock(&shared).opened(orders);
    // A close frame of ours waits for its answer only so long.
    let mut leave_at = None;
    loop {
        let leave = async {
            match leave_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            order = ordered.recv() => match order {
                None | Some(Order::Drop) => break,
                Some(Order::Freeze) => {
                    frozen(&mut ordered).await;
                    break;
                }
                Some(Order::Close(code, reason)) => {
                    let frame = CloseFrame { code: code.into(), reason: reason.into() };
                    let _ = socket.close(Some(frame)).await;
                    leave_at = Some(tokio::time::Instant::now() + Duration::from_secs(1));
                }
                Some(Order::Text(text)) => said(&mut socket, Message::text(text)).await,
                Some(Order::Binary(bytes)) => said(&mut socket, Message::binary(bytes)).await,
            },
            message = socket.next() => match message {
                Some(Ok(message)) => {
                    let mut shared = lock(&shared);
                    shared.received(id, message);
                    shared.flush();
                }
                Some(Err(_)) | None => break,
            },
            () = leave => break,
        }
    }
    // Before the record says that it has ended, it has.
    drop(socket);
    let mut shared = lock(&shared);
    shared.ended(id);
    shared.flush();
}

/// A write to a peer that is gone fails; reading will tell.
async fn said(socket: &mut WebSocketStream<TcpStream>, message: Message) {
    let _ = socket.send(message).await;
}

/// Until the test or the core ends the connection.
async fn frozen(ordered: &mut mpsc::UnboundedReceiver<Order>) {
    loop {
        match ordered.recv().await {
            None | Some(Order::Drop | Order::Close(..)) => return,
            Some(Order::Text(_) | Order::Binary(_) | Order::Freeze) => {}
        }
    }
}

// The handshake callback's type is the library's.
#[allow(clippy::result_large_err)]
fn only_ws(request: &Request, response: Response) -> Result<Response, ErrorResponse> {
    if request.uri().path() == "/ws" {
        return Ok(response);
    }
    let mut refusal = ErrorResponse::new(None);
    *refusal.status_mut() = StatusCode::NOT_FOUND;
    Err(refusal)
}
