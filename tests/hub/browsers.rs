//! Web pages that are not the hub's own, as their requests arrive: foreign ones by their `Origin`, rebound ones by their
//! `Host`. `tests/operator/browser.rs` has what pages in a real browser get.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{Hub, PATIENCE, folder, hub_command};

/// Sends this, byte by byte as it stands with `\n` for the end of a line, and returns the status and the body; the body of a
/// WebSocket is not waited for.
pub(crate) async fn answer_to(hub: &Hub, request: &str) -> (u16, String) {
    let request = request.replace('\n', "\r\n") + "connection: close\r\n\r\n";
    let exchange = async {
        let mut stream = BufReader::new(TcpStream::connect(&hub.address).await.unwrap());
        stream.write_all(request.as_bytes()).await.unwrap();
        let (mut line, mut rest) = (String::new(), String::new());
        stream.read_line(&mut line).await.unwrap();
        let status = line.split(' ').nth(1).unwrap_or_else(|| panic!("{line}")).parse().unwrap();
        if status != 101 {
            stream.read_to_string(&mut rest).await.unwrap();
        }
        (status, rest.split_once("\r\n\r\n").unwrap_or_default().1.to_owned())
    };
    timeout(PATIENCE, exchange).await.unwrap_or_else(|_| panic!("no answer to {request}"))
}

pub(crate) async fn status_of(hub: &Hub, request: &str) -> u16 {
    answer_to(hub, request).await.0
}

/// The head of a WebSocket's handshake without its host.
pub(crate) fn websocket(more: &str) -> String {
    let key = "sec-websocket-version: 13\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\n";
    format!("GET /ws HTTP/1.1\nupgrade: websocket\nconnection: upgrade\n{key}{more}")
}

/// A request for each kind of path, with this head.
pub(crate) fn requests(head: &str) -> Vec<String> {
    let paths = [
        ("GET", "/health"),
        ("GET", "/ready"),
        ("GET", "/metrics"),
        ("GET", "/api/agents"),
        ("GET", "/api/config/default-repo"),
        ("POST", "/api/onboard/register"),
        ("POST", "/api/tasks"),
        ("GET", "/api/v1/openapi.json"),
        ("GET", "/api/v1/events"),
        ("POST", "/api/v1/tokens"),
        ("DELETE", "/api/v1/tokens/ops"),
        ("OPTIONS", "/api/v1/tokens"),
        ("GET", "/"),
        ("GET", "/nowhere"),
        ("PUT", "/health"),
    ];
    let plain = paths.iter().map(|(method, path)| {
        let body = if *method == "POST" { "content-type: application/json\ncontent-length: 0\n" } else { "" };
        format!("{method} {path} HTTP/1.1\n{body}{head}")
    });
    plain.chain([websocket(head)]).collect()
}

#[tokio::test]
async fn a_rebound_page_gets_nothing_from_any_path() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let port = hub.address.rsplit(':').next().unwrap();
    // As a browser asks for the page's own host: a GET without `Origin`, a POST and a WebSocket with it.
    for request in requests(&format!("host: evil.test:{port}\norigin: http://evil.test:{port}\n")) {
        assert_eq!(status_of(&hub, &request).await, 421, "{request}");
    }
    for request in requests(&format!("host: evil.test:{port}\n")) {
        // Without `Origin` it is no browser that opens a WebSocket.
        let expected = if request.starts_with("GET /ws") { 101 } else { 421 };
        assert_eq!(status_of(&hub, &request).await, expected, "{request}");
    }
    // Neither does what a page has no token for.
    assert_eq!(status_of(&hub, "GET /api/agents HTTP/1.1\nhost: evil.test\nauthorization: Bearer no\n").await, 421);
    assert_eq!(status_of(&hub, "GET /ws HTTP/1.1\nhost: evil.test\n").await, 421);
    assert_eq!(status_of(&hub, "GET /ws/ HTTP/1.1\nhost: evil.test\n").await, 421);
    assert_eq!(hub.request("GET", "/api/agents", None, Value::Null).await.1["agents"], json!([]));
}

#[tokio::test]
async fn a_refusal_has_its_paths_form_and_says_what_to_do() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    for (head, status, code, words) in [
        ("host: hub.test", 421, "unknown_host", "`hub.test`"),
        ("host: hub.test", 421, "unknown_host", "--public-url"),
        ("host: a b", 421, "unknown_host", "`a b`"),
        ("host: localhost\norigin: https://hub.test", 403, "foreign_origin", "--public-url"),
        ("host: localhost\nhost: localhost", 400, "invalid_host", "several `Host`"),
    ] {
        let (found, body) = answer_to(&hub, &format!("GET /api/v1/agents HTTP/1.1\n{head}\n")).await;
        let problem: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((found, &problem["code"], &problem["status"]), (status, &json!(code), &json!(status)), "{body}");
        assert!(problem["detail"].as_str().unwrap().contains(words), "{body}");
        let (found, body) = answer_to(&hub, &format!("GET /api/agents HTTP/1.1\n{head}\n")).await;
        let error: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((found, &error["error"]), (status, &json!(code)), "{body}");
        assert!(error["hint"].as_str().unwrap().contains(words), "{body}");
    }
}

#[tokio::test]
async fn a_foreign_page_is_refused_on_every_path_whatever_it_brings() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let port = hub.address.rsplit(':').next().unwrap();
    let foreign = [
        "http://evil.test".to_owned(),
        "null".to_owned(),
        String::new(),
        format!("http://127.0.0.1:{}", port.parse::<u32>().unwrap() - 1),
        "http://127.0.0.1".to_owned(),
        format!("http://localhost:{port}"),
        format!("http://127.0.0.1.evil.test:{port}"),
        format!("ws://127.0.0.1:{port}"),
        format!("chrome-extension://127.0.0.1:{port}"),
        format!("http://127.0.0.1:{port}/"),
        format!("http://127.0.0.1:{port} http://evil.test"),
        format!("http://127.0.0.1:{port}\norigin: http://evil.test"),
        format!("http://evil.test\norigin: http://127.0.0.1:{port}"),
        format!("http://127.0.0.1:{port}\norigin: http://127.0.0.1:{port}"),
    ];
    for origin in &foreign {
        let head = format!("host: 127.0.0.1:{port}\norigin: {origin}\n");
        for request in requests(&head) {
            assert_eq!(status_of(&hub, &request).await, 403, "{request}");
        }
    }
    let with_token = format!("host: 127.0.0.1:{port}\norigin: http://evil.test\nauthorization: Bearer {}\n", hub.admin);
    for request in requests(&with_token) {
        assert_eq!(status_of(&hub, &request).await, 403, "{request}");
    }
    let (_, tokens) = hub.admin("GET", "/api/v1/tokens", Value::Null).await;
    assert_eq!(tokens["items"].as_array().unwrap().len(), 1, "{tokens}");
}

#[tokio::test]
async fn a_page_of_the_address_that_it_asks_is_the_hubs_own() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let port = hub.address.rsplit(':').next().unwrap();
    for host in ["127.0.0.1", "[::1]", "localhost", "LOCALHOST", "a.localhost", "10.0.0.1"] {
        for scheme in ["http", "https"] {
            let head = format!("host: {host}:{port}\norigin: {scheme}://{host}:{port}\n");
            assert_eq!(status_of(&hub, &format!("GET /health HTTP/1.1\n{head}")).await, 200, "{head}");
            assert_eq!(status_of(&hub, &websocket(&head)).await, 101, "{head}");
        }
    }
}

#[tokio::test]
async fn a_valid_token_comes_by_any_name_but_with_no_page() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let agent = hub.register("a").await;
    for host in ["hub.test", "hub_backend", "HUB.test:443", "a b", "2130706433"] {
        for token in [&agent, &hub.admin] {
            let head = format!("host: {host}\nauthorization: Bearer {token}\n");
            assert_eq!(status_of(&hub, &format!("GET /api/v1/me HTTP/1.1\n{head}")).await, 200, "{head}");
            assert_eq!(status_of(&hub, &format!("GET /api/agents HTTP/1.1\n{head}")).await, 200, "{head}");
            // A page that has a token, and may have been rebound since.
            let head = format!("{head}origin: http://{host}\n");
            assert_eq!(status_of(&hub, &format!("GET /api/v1/me HTTP/1.1\n{head}")).await, 421, "{head}");
        }
    }
    assert_eq!(hub.admin("DELETE", "/api/v1/tokens/a", Value::Null).await.0, 200);
    let revoked = format!("GET /api/agents HTTP/1.1\nhost: hub.test\nauthorization: Bearer {agent}\n");
    assert_eq!(status_of(&hub, &revoked).await, 421);
}

/// Each row is what is sent between `GET` and the end of the head.
#[tokio::test]
async fn odd_hosts_are_each_decided() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    for (expected, head) in [
        // Addresses and localhost, as browsers and others write them; the port may be a proxy's.
        (200, "/health HTTP/1.1\nhost: 127.0.0.1"),
        (200, "/health HTTP/1.1\nhost: 127.0.0.1.:1"),
        (200, "/health HTTP/1.1\nHOST:   LocalHost:  "),
        (200, "/health HTTP/1.1\nhost: [::1]:4000"),
        (200, "/health HTTP/1.1\nhost: [fe80::1%eth0]:4000"),
        (200, "/health HTTP/1.1\nhost: [::ffff:127.0.0.1]"),
        (200, "/health HTTP/1.1\nhost: localhost."),
        (200, "/health HTTP/1.1\nhost: 192.168.0.1:1"),
        // None: no browser does that, and old health checks do.
        (200, "/health HTTP/1.0"),
        (200, "/health HTTP/1.1\nhost:"),
        (400, "/health HTTP/1.1"),
        // Several: each could be the one that counts for a proxy.
        (400, "/health HTTP/1.1\nhost: localhost\nhost: evil.test"),
        (400, "/health HTTP/1.1\nhost: localhost\nHost: localhost"),
        (400, "/health HTTP/1.0\nhost: localhost\nhost: localhost"),
        // In the target, too.
        (200, "http://localhost/health HTTP/1.1\nhost: localhost"),
        (200, "http://LOCALHOST/health HTTP/1.0"),
        (400, "http://localhost/health HTTP/1.1\nhost: evil.test"),
        (400, "http://evil.test/health HTTP/1.1\nhost: localhost"),
        (421, "http://evil.test/health HTTP/1.1\nhost: evil.test"),
        (421, "http://evil.test/health HTTP/1.0"),
        (421, "http://localhost@evil.test/health HTTP/1.0"),
        (421, "http://evil.test@localhost/health HTTP/1.0"),
        // Names that only look like one of these.
        (421, "/health HTTP/1.1\nhost: 127.0.0.1.evil.com"),
        (421, "/health HTTP/1.1\nhost: localhost.evil.com"),
        (421, "/health HTTP/1.1\nhost: evil.com.localhost.evil.com"),
        (421, "/health HTTP/1.1\nhost: notlocalhost"),
        (421, "/health HTTP/1.1\nhost: evil.test/.localhost"),
        (421, "/health HTTP/1.1\nhost: evil.test#.localhost"),
        (421, "/health HTTP/1.1\nhost: evil.test:80.localhost"),
        (421, "/health HTTP/1.1\nhost: evil.test@localhost"),
        (421, "/health HTTP/1.1\nhost: localhost, evil.test"),
        (421, "/health HTTP/1.1\nhost: localhost evil.test"),
        (421, "/health HTTP/1.1\nhost: localhost\tevil.test"),
        (421, "/health HTTP/1.1\nhost: [127.0.0.1].evil.test"),
        (421, "/health HTTP/1.1\nhost: [::1].evil.test"),
        (421, "/health HTTP/1.1\nhost: [evil.test]"),
        (421, "/health HTTP/1.1\nhost: löcalhost"),
        (421, "/health HTTP/1.1\nhost: localhost:99999"),
        (421, "/health HTTP/1.1\nhost: localhost:x"),
        (421, "/health HTTP/1.1\nhost: :4000"),
        // What a browser would have written as an address.
        (421, "/health HTTP/1.1\nhost: 2130706433"),
        (421, "/health HTTP/1.1\nhost: 0x7f.1"),
        (421, "/health HTTP/1.1\nhost: 127.1"),
        (421, "/health HTTP/1.1\nhost: ::1"),
        // Headers that name another host do not count.
        (421, "/health HTTP/1.1\nhost: evil.test\nx-forwarded-host: localhost\nforwarded: host=localhost"),
        (421, "/ws HTTP/1.1\nhost: evil.test\norigin: http://localhost"),
        (421, "//ws HTTP/1.1\nhost: evil.test"),
        (421, "/%77s HTTP/1.1\nhost: evil.test"),
    ] {
        let (status, body) = answer_to(&hub, &format!("GET {head}\n")).await;
        assert_eq!(status, expected, "{head}: {body}");
    }
    // What is no HTTP is not answered by a route.
    assert_eq!(status_of(&hub, "GET /health HTTP/1.1\nhost : evil.test\n").await, 400);
    assert_eq!(status_of(&hub, "CONNECT evil.test:80 HTTP/1.1\nhost: evil.test:80\n").await, 421);
    assert_eq!(status_of(&hub, "OPTIONS * HTTP/1.1\nhost: evil.test\n").await, 421);
}

#[tokio::test]
async fn each_request_of_a_connection_is_judged_by_itself() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let get = |head: &str| format!("GET /api/agents HTTP/1.1\r\n{head}\r\n");
    let (own, foreign) = (get("host: localhost\r\n"), get("host: evil.test\r\n"));
    let hidden = format!("POST /api/tasks HTTP/1.1\r\nhost: evil.test\r\ncontent-length: {}\r\n\r\n{own}", own.len());
    let last = get("host: localhost\r\nconnection: close\r\n");
    for (requests, statuses) in [([&own, &foreign], ["200", "421", "200"]), ([&foreign, &own], ["421", "200", "200"])] {
        let sent = format!("{}{}{last}", requests[0], requests[1]);
        assert_eq!(answers_to(&hub, &sent).await, statuses, "{sent}");
    }
    // What stands in the body of a refused request is no request.
    let answers = answers_to(&hub, &format!("{hidden}{last}")).await;
    assert!(answers == ["421", "200"] || answers == ["421"], "{answers:?}");
}

/// The statuses of the answers to these requests on one connection.
async fn answers_to(hub: &Hub, requests: &str) -> Vec<String> {
    let exchange = async {
        let mut stream = TcpStream::connect(&hub.address).await.unwrap();
        stream.write_all(requests.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    };
    let text = timeout(PATIENCE, exchange).await.expect("no answer in time");
    text.split("HTTP/1.1 ").skip(1).map(|answer| answer[..3].to_owned()).collect()
}

#[tokio::test]
async fn with_a_public_url_its_host_and_its_pages_are_the_hubs_own() {
    let dir = folder();
    let hub = Hub::start(&dir, &["--public-url", "https://Hub.Example.org"]);
    for (expected, head) in [
        (200, "host: hub.example.org"),
        (200, "host: HUB.example.org.:8443"),
        (200, "host: hub.example.org\norigin: https://hub.example.org"),
        // nginx names its own address of the hub, where it is not told to pass the client's.
        (200, "host: 127.0.0.1:4000\norigin: https://hub.example.org"),
        (200, "host: 127.0.0.1:4000\norigin: http://127.0.0.1:4000"),
        (200, "host: localhost:4000\norigin: http://localhost:4000"),
        (403, "host: hub.example.org\norigin: http://hub.example.org"),
        (403, "host: hub.example.org\norigin: https://hub.example.org:444"),
        (403, "host: hub.example.org\norigin: https://www.hub.example.org"),
        (403, "host: hub.example.org\norigin: https://hub.example.org.evil.test"),
        (403, "host: hub.example.org:444\norigin: https://hub.example.org:444"),
        (421, "host: www.hub.example.org"),
        (421, "host: evil.test"),
        (421, "host: evil.test\norigin: https://hub.example.org"),
    ] {
        assert_eq!(status_of(&hub, &format!("GET /health HTTP/1.1\n{head}\n")).await, expected, "{head}");
        let opens = expected == 200 || !head.contains("origin");
        let expected = if opens { 101 } else { expected };
        assert_eq!(status_of(&hub, &websocket(&format!("{head}\n"))).await, expected, "{head}");
    }
}

#[tokio::test]
async fn a_hub_for_other_machines_knows_its_name_only_from_a_public_url() {
    let dir = folder();
    let open = Hub::start(&dir, &["--listen", "0.0.0.0:0"]);
    for (expected, head) in [
        (200, "host: hub.test:4000"),
        (200, "host: hub.test:4000\norigin: http://hub.test:4000"),
        (403, "host: hub.test:4000\norigin: http://evil.test:4000"),
        (403, "host: hub.test:4000\norigin: null"),
        (400, "host: hub.test\nhost: hub.test"),
    ] {
        assert_eq!(status_of(&open, &format!("GET /health HTTP/1.1\n{head}\n")).await, expected, "{head}");
    }
    let other = folder();
    let told = Hub::start(&other, &["--listen", "0.0.0.0:0", "--public-url", "http://hub.test:4000"]);
    for (expected, head) in [
        (200, "host: hub.test:4000"),
        (200, "host: 10.0.0.1:4000"),
        (200, "host: hub.test:4000\norigin: http://hub.test:4000"),
        (421, "host: evil.test:4000"),
    ] {
        assert_eq!(status_of(&told, &format!("GET /health HTTP/1.1\n{head}\n")).await, expected, "{head}");
    }
}

#[tokio::test]
async fn a_public_url_that_is_none_is_refused_by_name() {
    let dir = folder();
    for (text, why) in [
        ("hub.example.org", "no scheme"),
        ("https://hub.example.org/hub", "below a path"),
        ("wss://hub.example.org", "scheme is another"),
        ("https://ops:secret@hub.example.org", "credentials"),
    ] {
        let mut command = hub_command();
        let output = command.args(["serve", "--public-url", text, "--data"]).arg(dir.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(
            said.contains("--public-url") && said.contains(why) && said.contains("https://hub.example.org"),
            "{said}"
        );
        assert!(!said.contains("secret"), "{said}");
    }
    let output = hub_command().arg("serve").env("AGENTCOM_HUB_PUBLIC_URL", "hub").output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}
