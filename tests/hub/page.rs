//! The page as its requests arrive: who gets a session, what a session is worth, and what keeps a browser in bounds.
//! `tests/operator/page.rs` has what people see in a real browser.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{Hub, PATIENCE, Peer, folder, run};

/// An answer: the status, the head and the body.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The name and value of the cookie that it sets.
    fn cookie(&self) -> String {
        self.header("set-cookie").unwrap().split(';').next().unwrap().to_owned()
    }
}

/// Sends a request with these header lines, each with its end.
async fn send(hub: &Hub, line: &str, head: &str, body: &str) -> Answer {
    let length = body.len();
    let request = format!(
        "{line} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: {length}\r\n{head}\r\n{body}",
        hub.address
    );
    let exchange = async {
        let mut stream = TcpStream::connect(&hub.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        answer
    };
    let answer = timeout(PATIENCE, exchange).await.unwrap_or_else(|_| panic!("no answer to {request}"));
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    Answer { status: head.split(' ').nth(1).unwrap().parse().unwrap(), head, body: answer[end + 4..].to_vec() }
}

const FORM: &str = "content-type: application/x-www-form-urlencoded\r\n";

async fn log_in(hub: &Hub, token: &str) -> Answer {
    send(hub, "POST /dashboard/login", FORM, &format!("token={token}&next=%2Fdashboard%2Ftasks%3Fid%3D1")).await
}

/// The head of a request that the page's script sends.
fn of_the_page(cookie: &str) -> String {
    format!("cookie: other=1; {cookie}\r\nagentcom-page: 1\r\ncontent-type: application/json\r\n")
}

async fn token_of(hub: &Hub, name: &str, role: &str) -> String {
    let (_, made) = hub.admin("POST", "/api/v1/tokens", json!({"agent_id": name, "role": role})).await;
    made["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_token_opens_a_session_and_nothing_else_does() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let shown = send(&hub, "GET /dashboard/agents/a%22b?x=%3C", "", "").await;
    assert_eq!(shown.status, 200);
    assert!(shown.text().contains("name=\"next\" value=\"/dashboard/agents/a%22b?x=%3C\""), "{}", shown.text());
    for (body, status) in [
        ("token=", 401),
        ("token=wrong&next=%2Fdashboard", 401),
        ("next=%2Fdashboard", 422),
        ("token=a&admin=1", 422),
        ("token=%ff", 401),
    ] {
        let refused = send(&hub, "POST /dashboard/login", FORM, body).await;
        assert_eq!((refused.status, refused.header("set-cookie")), (status, None), "{body}");
        assert!(refused.text().contains("role=\"alert\""), "{body}");
    }
    let opened = log_in(&hub, &hub.admin).await;
    assert_eq!((opened.status, opened.header("location")), (303, Some("/dashboard/tasks?id=1")));
    let cookie = opened.header("set-cookie").unwrap();
    assert!(cookie.contains("; HttpOnly; SameSite=Strict") && !cookie.contains(&hub.admin), "{cookie}");
    let elsewhere =
        send(&hub, "POST /dashboard/login", FORM, &format!("token={}&next=%2F%2Fevil.test", hub.admin)).await;
    assert_eq!(elsewhere.header("location"), Some("/dashboard"));

    let page = send(&hub, "GET /dashboard", &format!("cookie: {}\r\n", opened.cookie()), "").await;
    assert!(page.text().contains("data-name=\"ops\" data-role=\"admin\""), "{}", page.text());
    let ended = send(&hub, "POST /dashboard/logout", "", "").await;
    assert_eq!(ended.status, 303);
    assert!(ended.header("set-cookie").unwrap().starts_with("agentcom-session=; Path=/; Max-Age=0"), "{}", ended.head);
}

#[tokio::test]
async fn a_session_counts_with_the_pages_own_header_and_for_its_own_origin_alone() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let token = token_of(&hub, "olga", "operator").await;
    let cookie = log_in(&hub, &token).await.cookie();
    let own = of_the_page(&cookie);
    let me = send(&hub, "GET /api/v1/me", &own, "").await;
    let said: Value = serde_json::from_slice(&me.body).unwrap();
    assert_eq!((me.status, &said["name"], &said["role"]), (200, &json!("olga"), &json!("operator")));
    assert_eq!(send(&hub, "GET /api/tasks", &own, "").await.status, 200, "also on the legacy paths");

    let drain = r#"{"selector": "all", "reason": "by the page"}"#;
    let without = own.replace("agentcom-page: 1\r\n", "");
    assert_eq!(send(&hub, "GET /api/v1/me", &without, "").await.status, 401);
    assert_eq!(send(&hub, "POST /api/v1/drain", &without, drain).await.status, 401);
    assert_eq!(send(&hub, "GET /api/v1/me", &own.replace(&cookie, &cookie.replace('.', "0.")), "").await.status, 401);
    let foreign = format!("{own}origin: http://127.0.0.1:1\r\n");
    assert_eq!(send(&hub, "POST /api/v1/drain", &foreign, drain).await.status, 403);
    let asked = "origin: http://127.0.0.1:1\r\naccess-control-request-method: POST\r\naccess-control-request-headers: agentcom-page\r\n";
    let preflight = send(&hub, "OPTIONS /api/v1/drain", asked, "").await;
    assert!(preflight.status >= 400 && preflight.header("access-control-allow-origin").is_none(), "{}", preflight.head);

    let agent = hub.register("a").await;
    let _peer = Peer::join(&hub, "a", &agent, run("boot-1")).await;
    let same = format!("{own}origin: http://{}\r\n", hub.address);
    let drained = send(&hub, "POST /api/v1/drain", &same, drain).await;
    assert_eq!(drained.status, 200, "{}", drained.text());
    let (_, audit) = hub.admin("GET", "/api/v1/audit?action=agent_drained", Value::Null).await;
    assert_eq!((&audit["items"][0]["who"], &audit["items"][0]["reason"]), (&json!("olga"), &json!("by the page")));

    let viewer = log_in(&hub, &token_of(&hub, "eve", "viewer").await).await.cookie();
    assert_eq!(send(&hub, "POST /api/v1/drain", &of_the_page(&viewer), drain).await.status, 403);
}

#[tokio::test]
async fn a_session_outlives_the_hub_and_not_its_token() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let cookie = log_in(&hub, &token_of(&hub, "olga", "operator").await).await.cookie();
    hub.kill_9();
    let hub = Hub::start(&dir, &[]);
    let own = of_the_page(&cookie);
    assert_eq!(send(&hub, "GET /api/v1/me", &own, "").await.status, 200);
    let (status, _) = hub.admin("DELETE", "/api/v1/tokens/olga", Value::Null).await;
    assert_eq!(status, 200);
    assert_eq!(send(&hub, "GET /api/v1/me", &own, "").await.status, 401);
    let page = send(&hub, "GET /dashboard", &format!("cookie: {cookie}\r\n"), "").await;
    assert!(page.text().contains("name=\"token\""), "the form to log in");
}

#[tokio::test]
async fn a_browser_may_do_nothing_with_the_page_that_the_hub_did_not_mean() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let form = send(&hub, "GET /dashboard", "", "").await;
    let text = form.text();
    let style =
        text.split("href=\"").find_map(|rest| rest.split('"').next().filter(|path| path.ends_with(".css"))).unwrap();
    let plain = send(&hub, &format!("GET {style}"), "", "").await;
    let packed = send(&hub, &format!("GET {style}"), "accept-encoding: br, GZIP\r\n", "").await;
    assert_eq!((plain.status, plain.header("content-encoding")), (200, None));
    assert_eq!((packed.status, packed.header("content-encoding")), (200, Some("gzip")));
    assert!(packed.body.len() * 2 < plain.body.len(), "{} of {}", packed.body.len(), plain.body.len());
    assert!(plain.header("cache-control").unwrap().contains("immutable"));
    let gone = send(&hub, "GET /dashboard/static/0123456789abcdef/style.css", "", "").await;
    assert_eq!(gone.status, 404);
    let refused = log_in(&hub, "wrong").await;
    assert_eq!(form.header("cache-control"), Some("no-store"));
    for answer in [form, plain, packed, gone, refused] {
        let policy = answer.header("content-security-policy").unwrap();
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "require-trusted-types-for 'script'",
        ] {
            assert!(policy.contains(part), "{part}: {policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("referrer-policy"), Some("same-origin"));
    }
}
