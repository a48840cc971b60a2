//! What goes through a standby arrives as if the leader had been asked, and nobody can say there what only a node may.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::cluster::nodes::{Node, pair, pair_with, read_until, request, say};
use crate::support::{Hub, Peer, hub_command, run, token};

#[tokio::test]
async fn an_agent_works_through_a_standby() {
    let (leader, standby) = pair().await;
    let token = standby.hub.register("a").await;
    let mut agent = Peer::join(&standby.hub, "a", &token, run("boot-1")).await;
    let seen = leader.hub.agent("a").await.unwrap();
    assert_eq!(seen["agent_id"], "a", "{seen}");
    let (_, agents) = leader.hub.admin("GET", "/api/v1/agents/a", Value::Null).await;
    let address = agents["address"].as_str().unwrap_or_else(|| panic!("{agents}"));
    assert!(address.starts_with("127.0.0.1:"), "{address}");

    let mut events = TcpStream::connect(&standby.hub.address).await.unwrap();
    let head = format!("authorization: Bearer {}\r\n", leader.hub.admin);
    events.write_all(request("GET /api/v1/events", &head).as_bytes()).await.unwrap();
    read_until(&mut events, "text/event-stream").await;
    // More than a connection's buffers hold.
    let large = json!({"description": "d", "metadata": {"large": "x".repeat(900_000)}});
    let task_id = standby.hub.submit(large).await;
    let task = agent.expect("task_assign").await;
    assert_eq!(task["task_id"], task_id);
    assert_eq!(task["metadata"]["large"].as_str().unwrap().len(), 900_000);
    agent.accept(&task_id).await;
    let verdict = agent.complete(&task_id, task["generation"].as_u64().unwrap()).await;
    assert_eq!(verdict["status"], "complete", "{verdict}");
    read_until(&mut events, "completed").await;
    assert_eq!(leader.hub.task(&task_id).await["status"], "completed");
    let restart = standby.hub.restart("a", json!({"reason": "r"})).await;
    assert_eq!(agent.expect("restart_sidecar").await["command_id"], restart["command_id"]);
    agent.close().await;
}

#[tokio::test]
async fn every_kind_of_request_and_answer_goes_through() {
    let (leader, standby) = pair().await;
    let hub = &standby.hub;
    for (method, path, body, status) in [
        ("GET", "/api/agents", Value::Null, 200),
        ("GET", "/api/v1/me", Value::Null, 200),
        ("GET", "/api/tasks/task-none", Value::Null, 404),
        ("GET", "/nowhere", Value::Null, 404),
        ("PUT", "/health", Value::Null, 405),
        ("DELETE", "/api/v1/tokens/nobody", Value::Null, 200),
        ("PUT", "/api/config/default-repo", json!({"url": "https://repo.example/r.git"}), 200),
        ("POST", "/api/tasks", json!({"description": 5}), 422),
        ("POST", "/api/tasks", json!({"description": "x".repeat(1 << 20)}), 413),
    ] {
        let (found, answer) = hub.admin(method, path, body.clone()).await;
        assert_eq!(found, status, "{method} {path}: {answer}");
    }
    let refused = hub.request("GET", "/api/v1/me", Some("wrong"), Value::Null).await;
    assert_eq!((refused.0, &refused.1["code"]), (401, &json!("unauthorized")));
    let head = format!("authorization: Bearer {}\r\nconnection: close\r\n", leader.hub.admin);
    // In parts, and by the oldest version; without a body; and what has none to show.
    let parts = "2\r\n{\"\r\n11\r\ndescription\":\"x\"}\r\n0\r\n\r\n";
    let chunked = format!("{head}content-type: application/json\r\ntransfer-encoding: chunked\r\n");
    let made = say(&hub.address, &(request("POST /api/tasks", &chunked) + parts)).await;
    assert!(made.starts_with("HTTP/1.1 201"), "{made}");
    let old = say(&hub.address, &format!("GET /api/agents HTTP/1.0\r\n{head}\r\n")).await;
    assert!(old.starts_with("HTTP/1.0 200") && old.ends_with("]}"), "{old}");
    let headed = say(&hub.address, &request("HEAD /api/agents", &head)).await;
    assert!(headed.starts_with("HTTP/1.1 200") && headed.ends_with("\r\n\r\n"), "{headed}");
    let backup = request("GET /api/v1/backup", &head);
    let mut stream = TcpStream::connect(&hub.address).await.unwrap();
    stream.write_all(backup.as_bytes()).await.unwrap();
    let answer = read_until(&mut stream, "content-length: ").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("repr-digest: "), "{answer}");
    // Several requests on one connection.
    let mut kept = TcpStream::connect(&hub.address).await.unwrap();
    for _ in 0..3 {
        kept.write_all(request("GET /api/tasks/stats", "authorization: Bearer no\r\n").as_bytes()).await.unwrap();
        read_until(&mut kept, "agentcom-hub token NAME makes one").await;
    }
    for answer in [made, old, headed, answer] {
        assert!(!answer.contains("agentcom-cluster"), "{answer}");
    }
}

#[tokio::test]
async fn commands_work_on_the_folder_of_any_node() {
    let (leader, mut standby) = pair().await;
    let made = token(standby.dir.path(), "viewer", false);
    assert_eq!(leader.hub.request("GET", "/api/v1/me", Some(&made), Value::Null).await.0, 200);
    let run = |args: &[&str]| hub_command().args(args).arg("--data").arg(standby.dir.path()).output().unwrap();
    let checked = run(&["check"]);
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.success() && said.contains("stands by and passes requests on"), "{checked:?}");
    let audit = run(&["audit"]);
    let said = String::from_utf8_lossy(&audit.stdout).into_owned();
    assert!(said.contains("viewer") && said.contains("uid:"), "{said}");
    let file = standby.dir.path().join("token");
    let written = run(&["token", "other", "--out", file.to_str().unwrap()]);
    assert!(written.status.success() && file.exists(), "{written:?}");
    let copy = standby.dir.path().join("copy.redb");
    let copied = run(&["backup", "--out", copy.to_str().unwrap()]);
    assert!(copied.status.success() && copy.metadata().unwrap().len() > 0, "{copied:?}");
    standby.end();
    let alone = hub_command().args(["agents", "--data"]).arg(standby.dir.path()).output().unwrap();
    let said = String::from_utf8_lossy(&alone.stderr).into_owned();
    assert!(!alone.status.success() && said.contains("no hub answers there"), "{said}");
}

/// What a node says of a request.
fn said_by_a_node(secret: &str) -> String {
    let forwarded = json!({
        "client": {"local": 0}, "listen": "127.0.0.1:4000", "tls": false, "checks_host": false, "public_url": null,
    });
    format!("agentcom-cluster-secret: {secret}\r\nagentcom-cluster-forwarded: {forwarded}\r\n")
}

#[tokio::test]
async fn only_who_knows_the_secret_is_a_node() {
    let (leader, standby) = pair().await;
    let inside = Hub::at(leader.cluster.url.replace("http://", ""), String::new());
    let secret = leader.cluster.secret.expose().to_owned();
    let standbys = standby.cluster.secret.expose().to_owned();
    for said in ["", &secret[1..], &standbys, &format!("{secret}0"), &secret.to_uppercase()] {
        for path in ["/health", "/api/v1/me", "/ws"] {
            let (status, answer) = inside.raw("GET", path, &said_by_a_node(said), b"").await;
            assert_eq!(status, 403, "{answer}");
            assert!(answer.to_string().contains("not_a_node"), "{answer}");
        }
    }
    let (status, _) = inside.raw("GET", "/api/v1/me", "", b"").await;
    assert_eq!(status, 403);
    let (status, _) = inside.raw("GET", "/api/v1/me", &format!("agentcom-cluster-secret: {secret}\r\n"), b"").await;
    assert_eq!(status, 403, "it does not say for whom");
    let (status, me) = inside.raw("GET", "/api/v1/me", &said_by_a_node(&secret), b"").await;
    assert_eq!((status, &me["name"], &me["via"]), (200, &json!("uid:0"), &json!("socket")), "{me}");
    // The port of a node that does not lead takes nobody, whatever its secret.
    let closed = Hub::at(standby.cluster.url.replace("http://", ""), String::new());
    assert_eq!(closed.raw("GET", "/api/v1/me", &said_by_a_node(&standbys), b"").await.0, 403);
}

#[tokio::test]
async fn a_client_cannot_say_what_a_node_says() {
    let (leader, standby) = pair().await;
    let secret = leader.cluster.secret.expose();
    for hub in [&leader.hub, &standby.hub] {
        let (status, answer) = hub.raw("GET", "/api/v1/me", &said_by_a_node(secret), b"").await;
        assert_eq!(status, 401, "{answer}");
    }
}

/// Strangers' registrations are counted by their own address, not by that of the node.
#[tokio::test]
async fn limits_count_by_the_clients_address() {
    let (_leader, standby) = pair().await;
    let register = async |n: usize, from: &str| {
        let body = json!({"agent_id": format!("{from}-{n}").replace('.', "-")}).to_string();
        let head = format!("content-type: application/json\r\nx-forwarded-for: {from}\r\n");
        standby.hub.raw("POST", "/api/onboard/register", &head, body.as_bytes()).await.0
    };
    let mut taken = 0;
    while register(taken, "192.0.2.1").await == 201 {
        taken += 1;
        assert!(taken <= 500, "there is no limit");
    }
    assert_eq!(taken, 500);
    assert_eq!(register(0, "192.0.2.2").await, 201);
}

/// Who has not identified counts at the standby until the leader's 101, and at the leader from then on.
#[tokio::test]
async fn strangers_take_no_places_from_those_who_come_after() {
    let few = |options: &mut agentcom::hub::options::Options, _: &mut _| options.policy.max_unidentified = 4;
    let (_leader, standby) = pair_with(few, few).await;
    let token = standby.hub.register("a").await;
    let mut silent = Vec::new();
    for _ in 0..12 {
        silent.push(TcpStream::connect(&standby.hub.address).await.unwrap());
    }
    let mut opened = Vec::new();
    for _ in 0..12 {
        opened.push(Peer::connect(&standby.hub).await);
    }
    let agent = Peer::join(&standby.hub, "a", &token, run("boot-1")).await;
    agent.close().await;
}

#[tokio::test]
async fn a_leader_that_is_not_there_or_another_is_said_to_be_away() {
    let mut standby = Node::start();
    let nobody = crate::support::free_address();
    standby.follow_to(&format!("http://{nobody}"), "s", 3);
    said_to_be_away(&standby, "epoch 3 cannot be reached").await;
    // Another web server, and a node that does not lead.
    let other = Node::start();
    standby.follow_to(&other.cluster.url, other.cluster.secret.expose(), 4);
    said_to_be_away(&standby, "epoch 4 cannot be reached").await;
    standby.follow_to(&format!("http://{}", other.hub.address), "s", 5);
    said_to_be_away(&standby, "epoch 5 cannot be reached").await;
    standby.lose_sight();
    said_to_be_away(&standby, "no node of the cluster leads").await;
}

async fn said_to_be_away(standby: &Node, words: &str) {
    for (path, code) in [("/api/agents", "error"), ("/api/v1/agents", "code")] {
        let answer = say(&standby.hub.address, &request(&format!("GET {path}"), "connection: close\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: 2\r\n"), "{answer}");
        assert!(answer.contains(&format!("\"{code}\":\"no_leader\"")) && answer.contains(words), "{answer}");
    }
    let socket = crate::browsers::websocket("host: localhost\n").replace('\n', "\r\n") + "\r\n";
    let mut stream = TcpStream::connect(&standby.hub.address).await.unwrap();
    stream.write_all(socket.as_bytes()).await.unwrap();
    let answer = read_until(&mut stream, "no_leader").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
}

/// A server may give a request up that the leader's routes have begun with: nobody is told that nothing was done.
#[tokio::test]
async fn a_leader_whose_server_gave_a_request_up_breaks_the_connection() {
    let mut standby = Node::start();
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    standby.follow_to(&format!("http://{}", server.local_addr().unwrap()), "s", 3);
    let answering = tokio::spawn(async move {
        let (mut stream, _) = server.accept().await.unwrap();
        read_until(&mut stream, "\r\n\r\n").await;
        stream.write_all(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    });
    assert_eq!(say(&standby.hub.address, &request("POST /api/tasks", "content-length: 0\r\n")).await, "");
    answering.await.unwrap();
}
