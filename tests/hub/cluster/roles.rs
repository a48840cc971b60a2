//! What a node says of itself, and what becomes of the connections through it when the leader changes.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::cluster::nodes::{Node, pair, read_all, read_until, request};
use crate::support::{Got, PATIENCE, Peer, run};

#[tokio::test]
async fn a_node_says_what_it_is() {
    let mut leader = Node::start();
    assert_eq!((&leader.health().await["role"], &leader.health().await["leader"]), (&json!("standby"), &Value::Null));
    let ready = async |node: &Node| {
        let (status, answer) = node.hub.request("GET", "/ready", None, Value::Null).await;
        (status, answer["reasons"][0]["check"].as_str().map(str::to_owned), answer["ready"].clone())
    };
    assert_eq!(ready(&leader).await, (503, Some("no_leader".to_owned()), json!(false)));
    leader.lead(7).await;
    assert_eq!(ready(&leader).await, (200, None, json!(true)));
    let mut standby = Node::start();
    standby.follow(&leader, 7);
    assert_eq!(ready(&standby).await, (503, Some("standby".to_owned()), json!(false)));
    let health = standby.health().await;
    assert_eq!(health["leader"], json!({"epoch": 7, "url": leader.cluster.url}), "without the secret");
    assert_eq!((&health["status"], &health["role"]), (&json!("ok"), &json!("standby")));
    let metrics =
        crate::cluster::nodes::say(&standby.hub.address, &request("GET /metrics", "connection: close\r\n")).await;
    assert!(metrics.starts_with("HTTP/1.1 200") && metrics.contains("\nagentcom_hub_standby 1\n"), "{metrics}");
    standby.stop();
    leader.stop();
}

/// An agent, a reader of events and a request that waits, through a standby.
struct Through {
    agent: Peer,
    events: TcpStream,
}

impl Through {
    async fn new(leader: &Node, standby: &Node) -> Self {
        let token = standby.hub.register("a").await;
        let agent = Peer::join(&standby.hub, "a", &token, run("boot-1")).await;
        let mut events = TcpStream::connect(&standby.hub.address).await.unwrap();
        let head = format!("authorization: Bearer {}\r\n", leader.hub.admin);
        events.write_all(request("GET /api/v1/events", &head).as_bytes()).await.unwrap();
        read_until(&mut events, "\r\n\r\n").await;
        Self { agent, events }
    }

    /// Both must break: without a word of farewell, and with no end that looks like one.
    async fn break_off(mut self) {
        assert_eq!(self.agent.next().await, Got::End);
        let rest = timeout(PATIENCE, read_all(&mut self.events)).await.expect("the events go on");
        assert!(!rest.ends_with("0\r\n\r\n"), "the stream seems to be complete: {rest:?}");
    }

    /// Both go on.
    async fn go_on(&mut self, standby: &Node) {
        self.agent.drain().await;
        let task = standby.hub.submit(json!({"description": "d", "assign_to": "nobody"})).await;
        read_until(&mut self.events, &task).await;
    }
}

#[tokio::test]
async fn another_leadership_breaks_what_went_to_the_last() {
    let (leader, mut standby) = pair().await;
    let through = Through::new(&leader, &standby).await;
    // It is the same process, which does not know: only the standby can end them.
    standby.follow(&leader, 8);
    through.break_off().await;
    assert_eq!(standby.hub.request("GET", "/api/agents", None, Value::Null).await.0, 503, "the epoch is another");
}

#[tokio::test]
async fn a_leader_that_crashes_breaks_them() {
    let (mut leader, standby) = pair().await;
    let through = Through::new(&leader, &standby).await;
    leader.crash();
    through.break_off().await;
    standby.without_leader().await;
}

#[tokio::test]
async fn a_standby_that_takes_over_breaks_them() {
    let (leader, mut standby) = pair().await;
    let through = Through::new(&leader, &standby).await;
    standby.lead(8).await;
    through.break_off().await;
}

#[tokio::test]
async fn a_standby_that_loses_sight_of_the_leader_or_sees_it_again_breaks_nothing() {
    let (leader, mut standby) = pair().await;
    let mut through = Through::new(&leader, &standby).await;
    standby.lose_sight();
    through.agent.drain().await;
    standby.follow(&leader, 7);
    through.go_on(&standby).await;
    through.agent.close().await;
}

#[tokio::test]
async fn a_request_that_the_last_leader_may_have_done_gets_no_answer() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut standby = Node::start();
    standby.follow_to(&format!("http://{}", silent.local_addr().unwrap()), "s", 7);
    for over_socket in [false, true] {
        let asked = async {
            if over_socket {
                let path = standby.dir.path().join("hub.sock");
                let mut stream = tokio::net::UnixStream::connect(path).await.unwrap();
                stream.write_all(request("POST /api/v1/tokens", "content-length: 0\r\n").as_bytes()).await.unwrap();
                let mut answer = Vec::new();
                _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer).await;
                return answer.len();
            }
            let mut stream = TcpStream::connect(&standby.hub.address).await.unwrap();
            stream.write_all(request("POST /api/v1/tokens", "content-length: 0\r\n").as_bytes()).await.unwrap();
            read_all(&mut stream).await.len()
        };
        let ended = async {
            let (mut asked_of, _) = silent.accept().await.unwrap();
            read_until(&mut asked_of, "POST /api/v1/tokens").await;
            asked_of
        };
        let (length, _asked_of) = timeout(PATIENCE, async {
            tokio::join!(asked, async {
                let asked_of = ended.await;
                // It dies with the request in its hands.
                drop(asked_of);
            })
        })
        .await
        .expect("an answer that never comes");
        assert_eq!(length, 0, "over the socket: {over_socket}");
    }
}

/// The sockets and the connections stay: who was connected, who waits, and who comes later are all served by the new leader.
#[tokio::test]
async fn no_connection_is_lost_when_a_node_begins_to_lead() {
    let mut node = Node::start();
    let (mut used, mut silent) =
        (TcpStream::connect(&node.hub.address).await.unwrap(), TcpStream::connect(&node.hub.address).await.unwrap());
    let asked = request("GET /api/agents", "");
    used.write_all(asked.as_bytes()).await.unwrap();
    read_until(&mut used, "no_leader").await;
    silent.write_all(&asked.as_bytes()[..20]).await.unwrap();
    node.lead(1).await;
    used.write_all(asked.as_bytes()).await.unwrap();
    read_until(&mut used, "\"agents\":[]").await;
    silent.write_all(&asked.as_bytes()[20..]).await.unwrap();
    read_until(&mut silent, "\"agents\":[]").await;
    let token = node.hub.register("a").await;
    Peer::join(&node.hub, "a", &token, run("boot-1")).await.close().await;
    assert!(TcpStream::connect(&node.hub.address).await.is_ok());
    node.stop();
}
