//! The hub link against real sockets: a WebSocket server where the peer behaves, raw TCP where it does not.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::time::Duration;

use agentcom::sidecar::hub_connection::{
    Closed, ConnectionConfig, ConnectionEvent, ConnectionEventKind, ConnectionId, HubConnection, SendError,
};
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Bytes, Message};

const BOUND: Duration = Duration::from_secs(30);

type Peer = WebSocketStream<TcpStream>;

/// A link and a listener of its own.
struct Fixture {
    listener: TcpListener,
    link: HubConnection,
    events: mpsc::Receiver<ConnectionEvent>,
}

async fn fixture(adjust: impl FnOnce(&mut ConnectionConfig)) -> Fixture {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = ConnectionConfig::new(format!("ws://{}/ws?token=s3cret", listener.local_addr().unwrap()));
    adjust(&mut config);
    let (tx, events) = mpsc::channel(16);
    Fixture { listener, link: HubConnection::new(config, tx), events }
}

impl Fixture {
    async fn raw_peer(&self) -> TcpStream {
        within(self.listener.accept()).await.unwrap().0
    }

    async fn peer(&self) -> Peer {
        let stream = self.raw_peer().await;
        within(tokio_tungstenite::accept_async(stream)).await.unwrap()
    }

    /// A connection that both ends hold, its `Opened` already seen.
    async fn open(&mut self) -> (ConnectionId, Peer) {
        let id = self.link.dial();
        let peer = self.peer().await;
        assert_eq!(self.next().await, ConnectionEvent { connection: id, what: ConnectionEventKind::Opened });
        (id, peer)
    }

    async fn next(&mut self) -> ConnectionEvent {
        within(self.events.recv()).await.expect("the link ended its events")
    }

    async fn closed(&mut self) -> Closed {
        let what = self.next().await.what;
        let ConnectionEventKind::Closed(closed) = what else { panic!("expected Closed, got {what:?}") };
        closed
    }

    /// Drops the link and checks that it had nothing more to say.
    async fn nothing_follows(self) {
        let Fixture { link, mut events, .. } = self;
        drop(link);
        assert_eq!(within(events.recv()).await, None);
    }
}

async fn within<F: Future>(future: F) -> F::Output {
    timeout(BOUND, future).await.expect("took longer than the test's bound")
}

fn close_frame(code: u16, reason: &str) -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::from(code), reason: reason.to_owned().into() }))
}

async fn next_message(peer: &mut Peer) -> Message {
    within(peer.next()).await.expect("the link dropped the connection").unwrap()
}

/// Reads the client's upgrade request off a raw socket and accepts it by hand.
async fn upgrade_by_hand(stream: &mut TcpStream) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(within(stream.read_u8()).await.unwrap());
    }
    let request = String::from_utf8(request).unwrap();
    let key = request.lines().find_map(|l| l.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
    let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).await.unwrap();
}

#[tokio::test]
async fn frames_go_both_ways() {
    let mut f = fixture(|_| {}).await;
    let (id, mut peer) = f.open().await;
    within(f.link.send(r#"{"type":"ping"}"#.into())).await.unwrap();
    assert_eq!(next_message(&mut peer).await, Message::text(r#"{"type":"ping"}"#));
    peer.send(Message::text("pong ü")).await.unwrap();
    assert_eq!(f.next().await, ConnectionEvent { connection: id, what: ConnectionEventKind::Frame("pong ü".into()) });
}

#[tokio::test]
async fn a_websocket_ping_is_answered() {
    let mut f = fixture(|_| {}).await;
    let (_, mut peer) = f.open().await;
    peer.send(Message::Ping(Bytes::from_static(b"are you there"))).await.unwrap();
    assert_eq!(next_message(&mut peer).await, Message::Pong(Bytes::from_static(b"are you there")));
}

#[tokio::test]
async fn a_binary_frame_is_ignored_by_name_and_the_connection_lives() {
    let mut f = fixture(|_| {}).await;
    let (_, mut peer) = f.open().await;
    peer.send(Message::Binary(Bytes::from_static(b"123"))).await.unwrap();
    assert_eq!(f.next().await.what, ConnectionEventKind::Ignored { what: "binary frame of 3 bytes".into() });
    peer.send(Message::text("next")).await.unwrap();
    assert_eq!(f.next().await.what, ConnectionEventKind::Frame("next".into()));
}

#[tokio::test]
async fn closing_shakes_hands_and_reports_the_peers_code() {
    let mut f = fixture(|_| {}).await;
    let (_, mut peer) = f.open().await;
    f.link.close(1012, "restarting");
    assert_eq!(next_message(&mut peer).await, close_frame(1012, "restarting"));
    assert!(within(peer.next()).await.is_none());
    let closed = f.closed().await;
    assert_eq!(closed, Closed { code: Some(1012), reason: "restarting".into(), clean: true, error: None });
    f.nothing_follows().await;
}

#[tokio::test]
async fn what_is_queued_is_sent_before_the_close_frame() {
    let mut f = fixture(|_| {}).await;
    let (_, mut peer) = f.open().await;
    // More than the kernel holds, so that it and what follows are still on their way when the close is asked for.
    let big = "x".repeat(16 * 1024 * 1024);
    assert!(f.link.send(big.clone()).now_or_never().is_none());
    assert!(f.link.send("last words".into()).now_or_never().is_none());
    f.link.close(1012, "restarting");
    assert_eq!(next_message(&mut peer).await, Message::text(big));
    assert_eq!(next_message(&mut peer).await, Message::text("last words"));
    assert_eq!(next_message(&mut peer).await, close_frame(1012, "restarting"));
}

#[tokio::test]
async fn frames_that_arrive_while_closing_are_delivered() {
    let mut f = fixture(|_| {}).await;
    let mut stream = {
        f.link.dial();
        f.raw_peer().await
    };
    upgrade_by_hand(&mut stream).await;
    assert_eq!(f.next().await.what, ConnectionEventKind::Opened);
    f.link.close(1012, "restarting");
    // The client's masked close frame: 2 bytes of header, 4 of mask, 12 of payload.
    within(stream.read_exact(&mut [0; 18])).await.unwrap();
    stream.write_all(b"\x81\x03ack\x88\x02\x03\xf4").await.unwrap();
    assert_eq!(f.next().await.what, ConnectionEventKind::Frame("ack".into()));
    assert_eq!(f.closed().await, Closed { code: Some(1012), reason: String::new(), clean: true, error: None });
}

#[tokio::test]
async fn a_second_close_changes_nothing() {
    let mut f = fixture(|_| {}).await;
    let (_, mut peer) = f.open().await;
    f.link.close(1012, "first");
    f.link.close(1001, "second");
    assert_eq!(next_message(&mut peer).await, close_frame(1012, "first"));
    assert!(within(peer.next()).await.is_none());
    assert_eq!(f.closed().await.reason, "first");
    f.nothing_follows().await;
}

#[tokio::test]
async fn a_long_close_reason_is_cut_to_what_a_frame_holds() {
    let mut f = fixture(|_| {}).await;
    let (_, mut peer) = f.open().await;
    f.link.close(1000, &"é".repeat(200));
    assert_eq!(next_message(&mut peer).await, close_frame(1000, &"é".repeat(61)));
}

#[tokio::test]
async fn the_peers_close_is_answered_and_reported() {
    let mut f = fixture(|_| {}).await;
    let (_, mut peer) = f.open().await;
    peer.send(close_frame(1008, "cooldown active: retry in 29s")).await.unwrap();
    assert_eq!(next_message(&mut peer).await, close_frame(1008, "cooldown active: retry in 29s"));
    let expected =
        Closed { code: Some(1008), reason: "cooldown active: retry in 29s".into(), clean: true, error: None };
    assert_eq!(f.closed().await, expected);
    f.nothing_follows().await;
}

#[tokio::test]
async fn a_peer_that_never_answers_the_close_is_dropped_in_time() {
    let mut f = fixture(|c| c.close_timeout_ms = 300).await;
    let (_, _silent_peer) = f.open().await;
    let start = Instant::now();
    f.link.close(1012, "restarting");
    let closed = f.closed().await;
    assert!(!closed.clean);
    assert!(closed.error.as_deref().unwrap().contains("closing handshake within 300 ms"), "{closed:?}");
    assert!(start.elapsed() >= Duration::from_millis(300));
    f.nothing_follows().await;
}

#[tokio::test]
async fn a_peer_that_vanishes_ends_the_connection_uncleanly() {
    let mut f = fixture(|_| {}).await;
    let (_, peer) = f.open().await;
    drop(peer);
    let closed = f.closed().await;
    assert!(!closed.clean);
    assert_eq!(closed.code, None);
    assert!(closed.error.as_deref().unwrap().contains("without a close frame"), "{closed:?}");
    assert!(matches!(f.link.send("late".into()).await, Err(SendError::Gone { .. })));
    f.nothing_follows().await;
}

#[tokio::test]
async fn a_half_open_peer_does_not_hang_the_sender() {
    let mut f = fixture(|c| c.write_timeout_ms = 400).await;
    let (_, _never_reads) = f.open().await;
    // More than both kernels' socket buffers hold.
    let sent = within(f.link.send("x".repeat(32 * 1024 * 1024))).await;
    assert!(matches!(sent, Err(SendError::Gone { .. })), "{sent:?}");
    let closed = f.closed().await;
    assert!(closed.error.as_deref().unwrap().contains("took no data for 400 ms"), "{closed:?}");
    f.nothing_follows().await;
}

#[tokio::test]
async fn a_frame_no_connection_could_carry_is_refused_as_such() {
    let mut f = fixture(|_| {}).await;
    let (_, _peer) = f.open().await;
    let bytes = agentcom::sidecar::hub_connection::MAX_OUTGOING_BYTES + 1;
    assert_eq!(f.link.send("x".repeat(bytes)).await, Err(SendError::TooLarge { bytes }));
}

#[tokio::test]
async fn both_sides_writing_more_than_the_kernel_holds_do_not_lock_up() {
    let mut f = fixture(|c| c.max_frame_bytes = 64 * 1024 * 1024).await;
    let (_, mut peer) = f.open().await;
    let big = "x".repeat(16 * 1024 * 1024);
    // The peer reads nothing until its own write is through.
    let theirs = big.clone();
    let other_side = tokio::spawn(async move {
        peer.send(Message::text(theirs)).await.unwrap();
        next_message(&mut peer).await.len()
    });
    within(f.link.send(big.clone())).await.unwrap();
    assert_eq!(f.next().await.what, ConnectionEventKind::Frame(big.clone()));
    assert_eq!(within(other_side).await.unwrap(), big.len());
}

#[tokio::test]
async fn an_oversize_message_ends_the_connection_with_the_limit_in_the_error() {
    let mut f = fixture(|c| c.max_frame_bytes = 1000).await;
    let (_, mut peer) = f.open().await;
    peer.send(Message::text("x".repeat(1001))).await.unwrap();
    let closed = f.closed().await;
    let error = closed.error.as_deref().unwrap();
    assert!(error.contains("1001 bytes") && error.contains("max_frame_bytes"), "{error}");
    assert_eq!(next_message(&mut peer).await, close_frame(1009, "message too large"));
    f.nothing_follows().await;
}

#[tokio::test]
async fn garbage_instead_of_frames_ends_the_connection() {
    let mut f = fixture(|_| {}).await;
    f.link.dial();
    let mut stream = f.raw_peer().await;
    upgrade_by_hand(&mut stream).await;
    stream.write_all(&[0xff; 64]).await.unwrap();
    assert_eq!(f.next().await.what, ConnectionEventKind::Opened);
    let closed = f.closed().await;
    assert!(!closed.clean && closed.error.is_some(), "{closed:?}");
    f.nothing_follows().await;
}

#[tokio::test]
async fn text_that_is_not_utf8_ends_the_connection() {
    let mut f = fixture(|_| {}).await;
    f.link.dial();
    let mut stream = f.raw_peer().await;
    upgrade_by_hand(&mut stream).await;
    stream.write_all(b"\x81\x02\xc3\x28").await.unwrap();
    assert_eq!(f.next().await.what, ConnectionEventKind::Opened);
    assert!(f.closed().await.error.unwrap().contains("not UTF-8"));
}

#[tokio::test]
async fn a_refused_upgrade_names_the_status_and_no_token() {
    let mut f = fixture(|_| {}).await;
    f.link.dial();
    let mut stream = f.raw_peer().await;
    let answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nno such p";
    stream.write_all(answer).await.unwrap();
    let error = f.closed().await.error.unwrap();
    assert!(error.contains("404 Not Found") && error.contains("/ws"), "{error}");
    assert!(!error.contains("s3cret"), "{error}");
    f.nothing_follows().await;
}

#[tokio::test]
async fn nobody_listening_says_so_once() {
    let mut f = fixture(|_| {}).await;
    let port = f.listener.local_addr().unwrap().port();
    let (spare, address) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), format!("127.0.0.1:{port}"));
    f.listener = spare;
    f.link.dial();
    let error = f.closed().await.error.unwrap();
    assert!(error.contains(&address) && error.contains("is the hub running"), "{error}");
    assert!(!error.contains("s3cret"), "{error}");
    f.nothing_follows().await;
}

#[tokio::test]
async fn a_server_that_never_answers_the_upgrade_is_given_up() {
    let mut f = fixture(|c| c.connect_timeout_ms = 200).await;
    f.link.dial();
    let _silent = f.raw_peer().await;
    let error = f.closed().await.error.unwrap();
    assert!(error.contains("within 200 ms"), "{error}");
}

#[tokio::test]
async fn a_url_of_the_wrong_kind_ends_the_dial_with_advice() {
    let mut f = fixture(|c| c.url = "https://hub.example/ws".into()).await;
    f.link.dial();
    assert!(f.closed().await.error.unwrap().contains("wss://"));
}

#[tokio::test]
async fn closing_during_a_dial_ends_it() {
    let mut f = fixture(|_| {}).await;
    f.link.dial();
    let _silent = f.raw_peer().await;
    f.link.close(1000, "changed my mind");
    assert!(f.closed().await.error.unwrap().contains("changed my mind"));
    f.nothing_follows().await;
}

#[tokio::test]
async fn sending_before_the_connection_is_open_is_refused_at_once() {
    let mut f = fixture(|_| {}).await;
    assert!(matches!(f.link.send("a".into()).await, Err(SendError::Gone { .. })));
    f.link.dial();
    assert!(matches!(f.link.send("b".into()).await, Err(SendError::Gone { .. })));
}

#[tokio::test]
async fn a_new_dial_waits_until_the_old_connection_is_closed() {
    let mut f = fixture(|_| {}).await;
    let (old, mut old_peer) = f.open().await;
    let new = f.link.dial();
    assert!(new > old);
    assert!(timeout(Duration::from_millis(100), f.listener.accept()).await.is_err(), "two connections at a time");
    assert_eq!(next_message(&mut old_peer).await, close_frame(1001, "replaced by a new connection"));
    assert!(within(old_peer.next()).await.is_none());
    let closed = f.next().await;
    assert_eq!(closed.connection, old);
    assert!(matches!(closed.what, ConnectionEventKind::Closed(Closed { clean: true, .. })), "{closed:?}");
    let _new_peer = f.peer().await;
    assert_eq!(f.next().await, ConnectionEvent { connection: new, what: ConnectionEventKind::Opened });
}

#[tokio::test]
async fn a_slow_receiver_pauses_reading_and_loses_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (tx, mut events) = mpsc::channel(1);
    let mut link = HubConnection::new(ConnectionConfig::new(format!("ws://{}", listener.local_addr().unwrap())), tx);
    link.dial();
    let (stream, _) = within(listener.accept()).await.unwrap();
    let mut peer = within(tokio_tungstenite::accept_async(stream)).await.unwrap();
    let frame = "x".repeat(256 * 1024);
    let mut flood = tokio::spawn(async move {
        for _ in 0..200 {
            peer.send(Message::text(frame.clone())).await.unwrap();
        }
        peer
    });
    // 50 MB do not fit into socket buffers: as long as nobody takes events, the flood cannot end.
    assert!(timeout(Duration::from_millis(300), &mut flood).await.is_err(), "reading did not pause");
    // Sending must work meanwhile, or a loop that awaits a send while events wait for it would never end.
    within(link.send("still alive".into())).await.unwrap();
    assert_eq!(within(events.recv()).await.unwrap().what, ConnectionEventKind::Opened);
    for _ in 0..200 {
        assert!(matches!(within(events.recv()).await.unwrap().what, ConnectionEventKind::Frame(_)));
    }
    within(flood).await.unwrap();
}

/// While nobody takes events nothing more is read, and the close handshake cannot end.
#[tokio::test]
async fn a_frame_that_waits_for_room_is_delivered_though_the_close_runs_out_of_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (tx, mut events) = mpsc::channel(1);
    let mut config = ConnectionConfig::new(format!("ws://{}", listener.local_addr().unwrap()));
    config.close_timeout_ms = 500;
    let mut link = HubConnection::new(config, tx);
    link.dial();
    let (stream, _) = within(listener.accept()).await.unwrap();
    let mut peer = within(tokio_tungstenite::accept_async(stream)).await.unwrap();
    within(async {
        while link.send("is it open?".into()).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    within(peer.send(Message::text("the last one"))).await.unwrap();
    link.close(1000, "");
    // The connection has ended, and not even its `Opened` was taken.
    let _ = within(peer.get_mut().read_to_end(&mut Vec::new())).await;
    let seen = [within(events.recv()).await, within(events.recv()).await, within(events.recv()).await];
    let [Some(opened), Some(frame), Some(closed)] = seen else { panic!("{seen:?}") };
    assert_eq!(
        (opened.what, frame.what),
        (ConnectionEventKind::Opened, ConnectionEventKind::Frame("the last one".into()))
    );
    assert!(matches!(closed.what, ConnectionEventKind::Closed(Closed { clean: false, .. })), "{closed:?}");
}

#[tokio::test]
async fn dropping_the_link_says_goodbye() {
    let mut f = fixture(|_| {}).await;
    let (_, mut peer) = f.open().await;
    drop(f.link);
    assert_eq!(next_message(&mut peer).await, close_frame(1001, ""));
}

#[tokio::test]
async fn runs_over_any_byte_stream() {
    let (ours, theirs) = tokio::io::duplex(1024);
    let mut f = fixture(|_| {}).await;
    f.link.dial_over(async { Ok(ours) });
    let mut peer = within(tokio_tungstenite::accept_async(theirs)).await.unwrap();
    assert_eq!(f.next().await.what, ConnectionEventKind::Opened);
    peer.send(Message::text("through a pipe")).await.unwrap();
    assert_eq!(f.next().await.what, ConnectionEventKind::Frame("through a pipe".into()));
}
