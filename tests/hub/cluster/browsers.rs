//! Which pages may use a hub is decided by the port that they ask at, also where a standby passes their requests on.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use agentcom::common::http_host::WebOrigin;
use serde_json::{Value, json};

use crate::browsers::{answer_to, requests, status_of, websocket};
use crate::cluster::nodes::{Node, pair, pair_with};

#[tokio::test]
async fn a_foreign_or_rebound_page_gets_nothing_through_a_standby() {
    let (_leader, mut standby) = pair().await;
    let port = standby.hub.address.rsplit(':').next().unwrap().to_owned();
    let hub = &standby.hub;
    for request in requests(&format!("host: evil.test:{port}\norigin: http://evil.test:{port}\n")) {
        assert_eq!(status_of(hub, &request).await, 421, "{request}");
    }
    for request in requests(&format!("host: evil.test:{port}\n")) {
        let expected = if request.starts_with("GET /ws") { 101 } else { 421 };
        assert_eq!(status_of(hub, &request).await, expected, "{request}");
    }
    for origin in ["http://evil.test", "null", "http://127.0.0.1", &format!("http://localhost:{port}")] {
        for request in requests(&format!("host: 127.0.0.1:{port}\norigin: {origin}\n")) {
            assert_eq!(status_of(hub, &request).await, 403, "{request}");
        }
    }
    // A header that is about the connection alone takes no other along.
    let hidden = format!("host: 127.0.0.1:{port}\norigin: http://evil.test\nconnection: keep-alive, origin\n");
    assert_eq!(status_of(hub, &format!("GET /api/agents HTTP/1.1\n{hidden}")).await, 403);
    for head in [
        "/health HTTP/1.1\nhost: localhost\nhost: evil.test",
        "/api/agents HTTP/1.1\nhost: localhost\nhost: evil.test",
        "http://evil.test/api/agents HTTP/1.1\nhost: localhost",
        "/api/agents HTTP/1.1",
    ] {
        assert_eq!(status_of(hub, &format!("GET {head}\n")).await, 400, "{head}");
    }
    assert_eq!(status_of(hub, "GET http://evil.test/api/agents HTTP/1.1\nhost: evil.test\n").await, 421);
    assert_eq!(status_of(hub, "GET http://localhost/api/agents HTTP/1.1\nhost: localhost\n").await, 200);
    assert_eq!(status_of(hub, "GET /api/agents HTTP/1.0\n").await, 200);
    // Also where there is nobody to ask, a rebound page learns nothing of the nodes.
    standby.lose_sight();
    let head = format!("host: evil.test:{port}\n");
    for path in ["/health", "/ready"] {
        assert_eq!(status_of(&standby.hub, &format!("GET {path} HTTP/1.1\n{head}")).await, 421);
    }
}

#[tokio::test]
async fn a_page_of_the_standbys_address_is_its_own() {
    let (_leader, standby) = pair().await;
    let port = standby.hub.address.rsplit(':').next().unwrap().to_owned();
    for host in ["127.0.0.1", "[::1]", "localhost"] {
        for scheme in ["http", "https"] {
            let head = format!("host: {host}:{port}\norigin: {scheme}://{host}:{port}\n");
            assert_eq!(status_of(&standby.hub, &format!("GET /api/agents HTTP/1.1\n{head}")).await, 200, "{head}");
            assert_eq!(status_of(&standby.hub, &websocket(&head)).await, 101, "{head}");
        }
    }
    let valid = format!("host: hub.test\nauthorization: Bearer {}\n", standby.hub.admin);
    assert_eq!(status_of(&standby.hub, &format!("GET /api/v1/me HTTP/1.1\n{valid}")).await, 200);
}

/// Each node is told its own address: neither counts for what comes in at the other.
#[tokio::test]
async fn the_public_url_is_that_of_the_node_which_is_asked() {
    let url = |text: &'static str| {
        move |options: &mut agentcom::hub::options::Options, _: &mut _| options.public_url = WebOrigin::parse(text)
    };
    let (leader, standby) = pair_with(url("https://a.test"), url("https://b.test")).await;
    for (node, own, other) in [(&leader, "a.test", "b.test"), (&standby, "b.test", "a.test")] {
        let ask = async |host: &str, origin: &str| {
            let request = format!("GET /api/agents HTTP/1.1\nhost: {host}\norigin: https://{origin}\n");
            status_of(&node.hub, &request).await
        };
        assert_eq!((ask(own, own).await, ask(other, other).await, ask(own, other).await), (200, 421, 403), "{own}");
        let body = r#"{"agent_id":"#.to_owned() + &json!(format!("agent-of-{own}")).to_string() + "}";
        let length = body.len();
        let head = format!("host: {own}\ncontent-type: application/json\ncontent-length: {length}\n");
        let request = format!("POST /api/onboard/register HTTP/1.1\n{head}connection: close\n\n{body}");
        let (status, answer) = answer_as_it_stands(node, &request).await;
        assert_eq!(status, 201, "{answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["hub_ws_url"], format!("wss://{own}/ws"), "{answer}");
    }
}

async fn answer_as_it_stands(node: &Node, request: &str) -> (u16, String) {
    let answer = crate::cluster::nodes::say(&node.hub.address, &request.replace('\n', "\r\n")).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// The leader knows by the page's `Origin` whether its cookie is for TLS only, and the standby hands it on as it is.
#[tokio::test]
#[cfg(feature = "page")]
async fn people_log_in_through_a_standby() {
    let (_leader, standby) = pair().await;
    let port = standby.hub.address.rsplit(':').next().unwrap().to_owned();
    for (scheme, name, is_secure) in [("http", "agentcom-session", false), ("https", "__Host-agentcom-session", true)] {
        let form = format!("token={}&next=", standby.hub.admin);
        let head = format!("host: localhost:{port}\norigin: {scheme}://localhost:{port}\n");
        let kind = "content-type: application/x-www-form-urlencoded";
        let length = form.len();
        let request = format!(
            "POST /dashboard/login HTTP/1.1\n{head}{kind}\ncontent-length: {length}\nconnection: close\n\n{form}"
        );
        let answer = crate::cluster::nodes::say(&standby.hub.address, &request.replace('\n', "\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 303"), "{answer}");
        let cookie = answer.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
        assert!(cookie.starts_with(&format!("{name}=")) && cookie.contains("; Secure") == is_secure, "{cookie}");
        let pair = cookie.split(';').next().unwrap();
        let me = format!("GET /api/v1/me HTTP/1.1\n{head}cookie: {pair}\nagentcom-page: 1\n");
        assert_eq!(answer_to(&standby.hub, &me).await.0, 200);
        let without = format!("GET /api/v1/me HTTP/1.1\n{head}cookie: {pair}\n");
        assert_eq!(answer_to(&standby.hub, &without).await.0, 401);
    }
}
