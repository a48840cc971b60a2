//! What nobody who has proved nothing can do to the hub: hold it up, fill it, or keep agents out.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::process::Command;

use crate::support::{Got, Hub, PATIENCE, Peer, folder, hub_command, identify, run};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Says this over a raw connection, and then nothing more: what came until the hub closed it.
async fn say_and_wait(hub: &Hub, text: &str) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(&hub.address).await.unwrap();
        // A hub that refuses may close before it has read all of it.
        let _ = stream.write_all(text.as_bytes()).await;
        let mut answer = Vec::new();
        // Reset or ended, it is over.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    };
    timeout(PATIENCE, exchange).await.expect("the hub holds the connection for ever")
}

#[tokio::test]
async fn a_connection_that_says_nothing_or_half_a_head_is_closed() {
    let dir = folder();
    let hub = Hub::start(&dir, &["--request-timeout-ms", "300"]);
    for text in ["", "GET /health HT", "GET /health HTTP/1.1\r\nhost: localhost\r\nx-slow: "] {
        let answer = say_and_wait(&hub, text).await;
        assert!(!answer.contains("200"), "{answer}");
    }
}

#[tokio::test]
async fn a_connection_that_is_kept_open_between_requests_is_closed_too() {
    let dir = folder();
    let hub = Hub::start(&dir, &["--request-timeout-ms", "300"]);
    let answer = say_and_wait(&hub, "GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("agent_com"), "{answer}");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_408() {
    let dir = folder();
    let hub = Hub::start(&dir, &["--request-timeout-ms", "300"]);
    let head = "POST /api/onboard/register HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    let answer = say_and_wait(&hub, &format!("{head}content-length: 100\r\n\r\n{{\"agent")).await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("too_slow"), "{answer}");
}

#[tokio::test]
async fn a_head_that_is_far_too_long_is_refused() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let long = "x".repeat(600_000);
    let answer =
        say_and_wait(&hub, &format!("GET /health HTTP/1.1\r\nhost: localhost\r\nx-long: {long}\r\n\r\n")).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn a_socket_that_nobody_identifies_on_is_closed_however_lively_it_is() {
    let dir = folder();
    let hub = Hub::start(&dir, &["--identify-timeout-ms", "300"]);
    let mut silent = Peer::connect(&hub).await;
    assert_eq!(silent.expect_close(1008).await, "not identified in time");
    let mut lively = Peer::connect(&hub).await;
    lively.say(json!({"type": "ping"})).await;
    assert_eq!(lively.expect("error").await["error"], "not_identified");
    assert_eq!(lively.expect_close(1008).await, "not identified in time");
}

#[tokio::test]
async fn the_tenth_frame_before_identify_closes_the_socket() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let mut peer = Peer::connect(&hub).await;
    for _ in 0..10 {
        peer.say(json!({"type": "ping"})).await;
        assert_eq!(peer.expect("error").await["error"], "not_identified");
    }
    assert_eq!(peer.expect_close(1008).await, "too many frames before identify");
}

#[tokio::test]
async fn a_large_frame_is_for_those_who_have_identified() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let token = hub.register("a").await;
    let padding = "x".repeat(1 << 20);
    let mut stranger = Peer::connect(&hub).await;
    stranger.say_too_much(json!({"type": "status", "status": padding}).to_string()).await;
    assert_eq!(stranger.next().await, Got::End);
    let mut agent = Peer::join(&hub, "a", &token, run("boot-1")).await;
    agent.say_text(&json!({"type": "status", "status": padding}).to_string()).await;
    assert_eq!(agent.expect("error").await["error"], "validation_failed");
}

#[tokio::test]
async fn a_flood_of_connections_keeps_no_agent_out_and_throws_none_out() {
    let dir = folder();
    let hub = Hub::start(&dir, &["--max-unidentified", "8"]);
    let (token_a, token_b) = (hub.register("a").await, hub.register("b").await);
    let mut a = Peer::join(&hub, "a", &token_a, run("boot-1")).await;
    let mut flood = Vec::new();
    for _ in 0..12 {
        flood.push(TcpStream::connect(&hub.address).await.unwrap());
    }
    let mut sockets = Vec::new();
    for _ in 0..4 {
        sockets.push(Peer::connect(&hub).await);
    }
    let mut b = Peer::join(&hub, "b", &token_b, run("boot-1")).await;
    for peer in [&mut a, &mut b] {
        peer.say(json!({"type": "ping"})).await;
        peer.expect("pong").await;
    }
    // The oldest had to go, and nothing was said to it.
    let mut first = flood.remove(0);
    let mut byte = [0];
    let read = timeout(PATIENCE, first.read(&mut byte)).await.expect("the oldest is still there");
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
}

/// One request on a connection that stays open; reads until the body has this text.
async fn ask(stream: &mut TcpStream, head: &str, wanted: &str) {
    stream.write_all(format!("GET /health HTTP/1.1\r\nhost: localhost\r\n{head}\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !String::from_utf8_lossy(&answer).contains(wanted) {
        let read = timeout(PATIENCE, stream.read_buf(&mut answer)).await.expect("no answer").unwrap();
        assert!(read > 0, "closed after {:?}", String::from_utf8_lossy(&answer));
    }
}

#[tokio::test]
async fn a_flood_closes_no_connection_that_has_shown_a_token() {
    let dir = folder();
    let hub = Hub::start(&dir, &["--max-unidentified", "2"]);
    let bearer = format!("authorization: Bearer {}\r\n", hub.register("a").await);
    let mut operator = TcpStream::connect(&hub.address).await.unwrap();
    ask(&mut operator, &bearer, "agents_connected").await;
    let mut strangers = Vec::new();
    for _ in 0..4 {
        strangers.push(TcpStream::connect(&hub.address).await.unwrap());
    }
    // Two of them had to go: whoever is older would have gone before.
    let mut byte = [0];
    for stranger in &mut strangers[..2] {
        let read = timeout(PATIENCE, stranger.read(&mut byte)).await.expect("it is still there");
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }
    ask(&mut operator, "", "agents_connected").await;
}

#[tokio::test]
async fn a_socket_that_has_to_make_room_is_told_so() {
    let dir = folder();
    let hub = Hub::start(&dir, &["--max-unidentified", "2"]);
    let mut first = Peer::connect(&hub).await;
    let others = (TcpStream::connect(&hub.address).await.unwrap(), TcpStream::connect(&hub.address).await.unwrap());
    first.expect_close(1013).await;
    drop(others);
}

#[tokio::test]
async fn a_late_identify_still_counts_as_long_as_it_is_in_time() {
    let dir = folder();
    let hub = Hub::start(&dir, &["--identify-timeout-ms", "20000", "--request-timeout-ms", "200"]);
    let token = hub.register("a").await;
    let mut peer = Peer::connect(&hub).await;
    // The bound on HTTP is over, and counts no more once the connection is a socket.
    say_and_wait(&hub, "").await;
    peer.say(identify("a", &token, json!({}))).await;
    peer.expect("identified").await;
    let (status, _) = hub.request("GET", "/health", None, Value::Null).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn where_files_run_out_strangers_make_room_for_agents() {
    let dir = folder();
    let mut command = Command::new("sh");
    // A hub without an agent has some 14 files open; 11 unauthenticated clients may add theirs.
    command.args(["-c", "ulimit -n 44; exec \"$@\"", "sh"]).arg(hub_command().get_program());
    let hub = Hub::start_by(command, &dir, &["--request-timeout-ms", "120000"]);
    let mut tokens = Vec::new();
    for n in 0..24 {
        tokens.push(hub.register(&format!("a{n}")).await);
    }
    let mut strangers = Vec::new();
    for _ in 0..11 {
        strangers.push(TcpStream::connect(&hub.address).await.unwrap());
    }
    let mut agents = Vec::new();
    for (n, token) in tokens.iter().enumerate() {
        agents.push(Peer::join(&hub, &format!("a{n}"), token, run("boot-1")).await);
    }
    for agent in &mut agents {
        agent.say(json!({"type": "ping"})).await;
        agent.expect("pong").await;
    }
}
