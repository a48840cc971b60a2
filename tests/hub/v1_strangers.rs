//! `/api/v1` against those who ask for what is not theirs, or ask wrongly.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::time::Instant;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{Hub, PATIENCE, Peer, folder, run};

#[tokio::test]
async fn a_parameter_that_a_route_does_not_have_is_refused_before_anything_is_done() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let token = hub.register("a").await;
    let mut agent = Peer::join(&hub, "a", &token, run("b1")).await;
    for (method, path, body) in [
        ("POST", "/api/v1/restarts?dry_run=true", json!({"selector": "all"})),
        ("POST", "/api/v1/agents/a/restart?force=true", json!({})),
        ("POST", "/api/v1/tasks?wat=1", json!({"description": "d"})),
        ("DELETE", "/api/v1/tokens/a?all=true", Value::Null),
        ("GET", "/api/v1/agents/a?detail=full", Value::Null),
    ] {
        let (status, problem) = hub.admin(method, path, body).await;
        assert_eq!((status, &problem["errors"][0]["code"]), (422, &json!("unknown_parameter")), "{path}: {problem}");
    }
    let (status, problem) = hub.admin("GET", "/api/v1/tasks?status=queued&status=cancelled", Value::Null).await;
    assert_eq!((status, &problem["errors"][0]["code"]), (422, &json!("twice")), "{problem}");
    assert_eq!(agent.drain().await, Vec::<Value>::new(), "nothing was commanded");
    assert_eq!(hub.admin("GET", "/api/v1/tasks", Value::Null).await.1["items"], json!([]));
}

#[tokio::test]
async fn nobody_takes_the_name_of_who_needs_no_token() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    for name in ["uid:0", "uid:1000", "invitation:1", "rule:disk", "unauthenticated"] {
        let (status, answer) = hub.request("POST", "/api/onboard/register", None, json!({"agent_id": name})).await;
        assert_eq!((status, &answer["errors"][0]["error"]), (422, &json!("reserved")), "{answer}");
        let (status, _) = hub.admin("POST", "/api/v1/tokens", json!({"agent_id": name})).await;
        assert_eq!(status, 422, "{name}");
    }
}

#[tokio::test]
async fn bytes_that_are_a_token_already_make_no_other_and_revoke_nothing() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let secret = "0123456789abcdef".repeat(4);
    let ask = |name: &'static str, role: &'static str, replace: bool| {
        let body = json!({"agent_id": name, "role": role, "replace": replace, "secret": secret});
        let hub = &hub;
        async move { hub.admin("POST", "/api/v1/tokens", body).await }
    };
    assert_eq!(ask("first", "viewer", false).await.0, 201);
    assert_eq!(ask("first", "viewer", false).await.0, 201, "the same once more");
    let victim = hub.register("victim").await;
    for (name, role, replace) in [("second", "admin", false), ("first", "admin", false), ("victim", "agent", true)] {
        let (status, problem) = ask(name, role, replace).await;
        assert_eq!((status, &problem["code"]), (409, &json!("secret_in_use")), "{name}: {problem}");
    }
    assert_eq!(hub.request("GET", "/api/v1/me", Some(&victim), Value::Null).await.0, 200);
    let (_, me) = hub.request("GET", "/api/v1/me", Some(&secret), Value::Null).await;
    assert_eq!((&me["name"], &me["role"]), (&json!("first"), &json!("viewer")));
    let (_, audit) = hub.admin("GET", "/api/v1/audit?action=token_issued&target=first", Value::Null).await;
    assert_eq!(audit["items"].as_array().unwrap().len(), 1, "{audit}");
}

#[tokio::test]
async fn the_next_owner_of_a_name_gets_none_of_the_answers_to_the_former_one() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let submit = |token: String| {
        let hub = &hub;
        async move {
            let head = format!("authorization: Bearer {token}\r\ncontent-type: application/json\r\n");
            let head = format!("{head}idempotency-key: job-1\r\n");
            hub.raw("POST", "/api/v1/tasks", &head, br#"{"description":"d","needed_capabilities":["none"]}"#).await.1
        }
    };
    let former = submit(hub.register("own").await).await;
    assert_eq!(hub.admin("DELETE", "/api/v1/tokens/own", Value::Null).await.0, 200);
    let next = hub.register("own").await;
    let other = submit(next.clone()).await;
    assert_ne!(former["id"], other["id"]);
    assert_eq!(submit(next).await["id"], other["id"]);
}

#[tokio::test]
async fn an_agent_reads_its_own_past_restarts_and_no_others() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let (a, b) = (hub.register("a").await, hub.register("b").await);
    for boot in ["b1", "b2"] {
        Peer::join(&hub, "a", &a, run(boot)).await.close().await;
    }
    let past = |token: String| {
        let hub = &hub;
        async move { hub.request("GET", "/api/v1/agents/a", Some(&token), Value::Null).await.1["past_restarts"].clone() }
    };
    assert_eq!(past(a).await.as_array().unwrap().len(), 1);
    assert_eq!(past(hub.admin.clone()).await.as_array().unwrap().len(), 1);
    assert_eq!(past(b).await, Value::Null);
}

#[tokio::test]
async fn with_its_token_a_stream_ends_and_an_agent_is_away_for_that_reason() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let body = json!({"agent_id": "a", "expires_in_ms": 1_500});
    let (_, made) = hub.admin("POST", "/api/v1/tokens", body).await;
    let token = made["token"].as_str().unwrap();
    let _peer = Peer::join(&hub, "a", token, run("b1")).await;
    let mut stream = TcpStream::connect(&hub.address).await.unwrap();
    let request =
        format!("GET /api/v1/events HTTP/1.1\r\nhost: h\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut text)).await.expect("the stream goes on").unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    let began = Instant::now();
    loop {
        let (_, entry) = hub.admin("GET", "/api/v1/agents/a", Value::Null).await;
        if entry["status"] == "offline" {
            assert_eq!(entry["why"], "token_expired", "{entry}");
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{entry}");
    }
}
