//! The opening handshake against peers that answer by hand: what opens a WebSocket, and what each other answer is told as.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::time::Duration;

use agentcom::sidecar::hub_connection::{ConnectionConfig, ConnectionEvent, ConnectionEventKind, HubConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;

const BOUND: Duration = Duration::from_secs(30);

/// A dial to a peer that reads the request and answers what `answer` makes of the right `Sec-WebSocket-Accept`.
async fn dial_to(
    answer: impl FnOnce(&str) -> Vec<u8> + Send + 'static,
) -> (HubConnection, mpsc::Receiver<ConnectionEvent>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/ws", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        let request = String::from_utf8(request).unwrap();
        let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
        let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
        let answer = answer(&accept);
        let _ = stream.write_all(&answer).await;
        if answer.is_empty() {
            return;
        }
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    });
    let (tx, events) = mpsc::channel(16);
    let mut link = HubConnection::new(ConnectionConfig::new(&url), tx);
    link.dial();
    (link, events)
}

async fn next(events: &mut mpsc::Receiver<ConnectionEvent>) -> ConnectionEventKind {
    timeout(BOUND, events.recv()).await.expect("no event in time").expect("the link ended its events").what
}

/// What the dial ends with, without having opened.
async fn error_of(answer: impl FnOnce(&str) -> Vec<u8> + Send + 'static) -> String {
    let (_link, mut events) = dial_to(answer).await;
    let what = next(&mut events).await;
    let ConnectionEventKind::Closed(closed) = what else { panic!("expected Closed, got {what:?}") };
    closed.error.unwrap()
}

#[tokio::test]
async fn a_connection_of_two_tokens_opens_and_no_frame_is_lost() {
    let (_link, mut events) = dial_to(|accept| {
        let head = "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\nConnection: Keep-Alive, Upgrade\r\n";
        // The first frame comes with the head.
        [head.as_bytes(), format!("Sec-WebSocket-Accept: {accept}\r\n\r\n").as_bytes(), b"\x81\x02hi"].concat()
    })
    .await;
    assert_eq!(next(&mut events).await, ConnectionEventKind::Opened);
    assert_eq!(next(&mut events).await, ConnectionEventKind::Frame("hi".to_owned()));
}

#[tokio::test]
async fn each_broken_101_is_refused_by_name() {
    let right =
        |accept: &str| format!("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n");
    type Change = fn(String) -> String;
    let cases: [(Change, &str); 6] = [
        (|lines| lines.replace("Connection: Upgrade", "Connection: keep-alive"), "\"Connection\" does not contain"),
        (|lines| lines.replace("websocket", "h2c"), "lacks \"Upgrade: websocket\""),
        (|lines| lines.replace("-Accept: ", "-Accept: x"), "\"Sec-WebSocket-Accept\" is missing or wrong"),
        (|lines| lines + "Sec-WebSocket-Extensions: permessage-deflate\r\n", "an extension that was not asked for"),
        (|lines| lines + "Sec-WebSocket-Protocol: chat\r\n", "a subprotocol that was not asked for"),
        (|lines| lines + &format!("X: {}\r\n", "x".repeat(20_000)), "longer than 16384 bytes"),
    ];
    for (change, expected) in cases {
        let error =
            error_of(move |accept| format!("HTTP/1.1 101 Ok\r\n{}\r\n", change(right(accept))).into_bytes()).await;
        assert!(error.contains(expected), "{expected:?} in: {error}");
    }
    let old = error_of(move |accept| format!("HTTP/1.0 101 Ok\r\n{}\r\n", right(accept)).into_bytes()).await;
    assert!(old.contains("not HTTP/1.1"), "{old}");
}

#[tokio::test]
async fn every_other_answer_says_what_to_do() {
    for (answer, expected) in [
        (
            "HTTP/1.1 301 Moved Permanently\r\nLocation: https://hub.example/ws\r\nContent-Length: 0\r\n\r\n",
            "it redirects to https://hub.example/ws, which is not followed; if that is the hub, write wss://hub.example/ws into `hub_url`",
        ),
        (
            "HTTP/1.1 400 Bad Request\r\nContent-Length: 46\r\n\r\nThe plain HTTP request was sent to HTTPS port.",
            "that port speaks TLS: write wss://",
        ),
        ("\u{15}\u{3}\u{1}", "that port speaks TLS; write wss://"),
        (
            "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 6\r\n\r\nnot up",
            "(\"not up\"); the hub, or a proxy before it, is not ready",
        ),
        ("SSH-2.0-OpenSSH_9.9\r\n", "its answer is no HTTP"),
        ("", "it closed the connection without an answer; if that port speaks TLS, write wss://"),
    ] {
        let error = error_of(move |_| answer.as_bytes().to_vec()).await;
        assert!(error.contains(expected), "{expected:?} in: {error}");
    }
}
