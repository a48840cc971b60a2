//! `/api/v1`: what it takes and refuses, that an act is done once, and that what happens is told.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{Hub, PATIENCE, Peer, folder, run};

fn head(hub: &Hub, more: &str) -> String {
    format!("authorization: Bearer {}\r\ncontent-type: application/json\r\n{more}", hub.admin)
}

async fn post(hub: &Hub, path: &str, more: &str, body: &Value) -> (u16, Value) {
    hub.raw("POST", path, &head(hub, more), body.to_string().as_bytes()).await
}

#[tokio::test]
async fn what_is_not_known_is_refused_by_its_name() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let (status, problem) = post(&hub, "/api/v1/tasks", "", &json!({"desciption": "d", "priority": 7})).await;
    assert_eq!((status, &problem["code"]), (422, &json!("validation_failed")));
    let errors = problem["errors"].as_array().unwrap();
    let found: Vec<_> =
        errors.iter().map(|error| (error["field"].as_str().unwrap(), error["code"].as_str().unwrap())).collect();
    assert_eq!(found, [("desciption", "unknown_field"), ("description", "required"), ("priority", "wrong_type")]);
    assert!(errors[0]["detail"].as_str().unwrap().contains("description, priority, metadata"), "{problem}");
    let (status, problem) = hub.admin("GET", "/api/v1/tasks?statos=queued", Value::Null).await;
    assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!("statos")));
    let (status, problem) = post(&hub, "/api/v1/agents/nobody/restart", "", &json!({"reson": "r"})).await;
    assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!("reson")));
    // The original's path goes on ignoring what it does not know.
    assert_eq!(post(&hub, "/api/tasks", "", &json!({"description": "d", "colour": "red"})).await.0, 201);
}

#[tokio::test]
async fn every_error_is_a_problem() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    for (method, path, token, status, code) in [
        ("GET", "/api/v1/tasks", None, 401, "unauthorized"),
        ("GET", "/api/v1/tasks/none", Some(&hub.admin), 404, "task_not_found"),
        ("GET", "/api/v1/agents/none", Some(&hub.admin), 404, "agent_not_found"),
        ("GET", "/api/v1/restarts/none", Some(&hub.admin), 404, "restart_not_found"),
        ("POST", "/api/v1/agents/none/restart", Some(&hub.admin), 404, "agent_not_connected"),
        ("POST", "/api/v1/tasks/none/cancel", Some(&hub.admin), 404, "task_not_found"),
        ("GET", "/api/v1/nowhere", Some(&hub.admin), 404, "not_found"),
        ("DELETE", "/api/v1/tasks", Some(&hub.admin), 405, "method_not_allowed"),
        ("GET", "/api/v1/restarts?state=gone", Some(&hub.admin), 422, "validation_failed"),
        ("GET", "/api/v1/tasks?cursor=x", Some(&hub.admin), 422, "validation_failed"),
    ] {
        let (found, problem) = hub.request(method, path, token.map(String::as_str), Value::Null).await;
        assert_eq!((found, &problem["code"]), (status, &json!(code)), "{method} {path}: {problem}");
        assert_eq!(problem["status"], status, "{problem}");
        assert_eq!(problem["type"], format!("urn:agentcom:{code}"), "{problem}");
        assert!(!problem["detail"].as_str().unwrap().is_empty() && !problem["title"].as_str().unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_request_with_a_key_is_carried_out_once_also_after_the_hub_was_killed() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let key = "idempotency-key: 8b0e\r\n";
    let body = json!({"description": "d"});
    let (status, first) = post(&hub, "/api/v1/tasks", key, &body).await;
    assert_eq!((status, &first["status"]), (201, &json!("queued")));
    assert_eq!(post(&hub, "/api/v1/tasks", key, &body).await, (201, first.clone()));
    let admin = hub.admin.clone();
    hub.kill_9();
    let hub = Hub::start(&dir, &[]);
    let head = format!("authorization: Bearer {admin}\r\ncontent-type: application/json\r\n{key}");
    let again = hub.raw("POST", "/api/v1/tasks", &head, body.to_string().as_bytes()).await;
    assert_eq!(again, (201, first));
    let (_, tasks) = hub.admin("GET", "/api/v1/tasks", Value::Null).await;
    assert_eq!(tasks["items"].as_array().unwrap().len(), 1);
    // The key of another request, and none at all.
    let other = json!({"description": "another"}).to_string();
    let (status, problem) = hub.raw("POST", "/api/v1/tasks", &head, other.as_bytes()).await;
    assert_eq!((status, &problem["code"]), (409, &json!("idempotency_key_reused")));
    assert_eq!(post(&hub, "/api/v1/tasks", "idempotency-key: a b\r\n", &body).await.0, 422);
    assert_eq!(post(&hub, "/api/v1/tasks", "", &body).await.0, 201);
    assert_eq!(post(&hub, "/api/v1/tasks", "", &body).await.0, 201);
    let (_, tasks) = hub.admin("GET", "/api/v1/tasks?limit=2", Value::Null).await;
    assert_eq!(tasks["items"].as_array().unwrap().len(), 2);
    assert!(tasks["next_cursor"].is_string());
}

#[tokio::test]
async fn a_refused_request_does_not_use_its_key_up() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let key = "idempotency-key: k1\r\n";
    let path = "/api/v1/agents/a/restart";
    assert_eq!(post(&hub, path, key, &json!({})).await.0, 404);
    let token = hub.register("a").await;
    let _agent = Peer::join(&hub, "a", &token, run("b1")).await;
    let (status, restart) = post(&hub, path, key, &json!({})).await;
    assert_eq!((status, &restart["agent_id"], &restart["open"]), (202, &json!("a"), &json!(true)));
}

#[tokio::test]
async fn restarts_are_listed_newest_first_and_by_what_is_asked_for() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let mut agents = Vec::new();
    for name in ["a", "b", "c"] {
        let token = hub.register(name).await;
        agents.push(Peer::join(&hub, name, &token, run("b1")).await);
        let path = format!("/api/v1/agents/{name}/restart");
        assert_eq!(post(&hub, &path, "", &json!({"reason": "new binary"})).await.0, 202);
    }
    let names = |page: &Value| -> Vec<String> {
        page["items"].as_array().unwrap().iter().map(|it| it["agent_id"].as_str().unwrap().to_owned()).collect()
    };
    let (_, page) = hub.admin("GET", "/api/v1/restarts?limit=2", Value::Null).await;
    assert_eq!(names(&page), ["c", "b"]);
    let cursor = page["next_cursor"].as_str().unwrap();
    let (_, page) = hub.admin("GET", &format!("/api/v1/restarts?limit=2&cursor={cursor}"), Value::Null).await;
    assert_eq!((names(&page), &page["next_cursor"]), (vec!["a".to_owned()], &Value::Null));
    let (_, page) = hub.admin("GET", "/api/v1/restarts?agent_id=b&open=true", Value::Null).await;
    assert_eq!(names(&page), ["b"]);
    let id = page["items"][0]["command_id"].as_str().unwrap();
    let (status, restart) = hub.admin("GET", &format!("/api/v1/restarts/{id}"), Value::Null).await;
    assert_eq!((status, &restart["reason"]), (200, &json!("new binary")));
    let (_, page) = hub.admin("GET", "/api/v1/restarts?state=back", Value::Null).await;
    assert_eq!(names(&page), Vec::<String>::new());
}

/// A reader of events.
pub(crate) struct Events(BufReader<TcpStream>);

impl Events {
    pub(crate) async fn open(hub: &Hub, last: Option<&str>) -> Self {
        let mut stream = TcpStream::connect(&hub.address).await.unwrap();
        let last = last.map(|id| format!("last-event-id: {id}\r\n")).unwrap_or_default();
        let request = format!(
            "GET /api/v1/events HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n{last}\r\n",
            hub.admin
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut events = Self(BufReader::new(stream));
        assert!(events.line().await.unwrap().starts_with("HTTP/1.1 200"));
        while !events.line().await.unwrap().is_empty() {}
        events
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = timeout(PATIENCE, self.0.read_line(&mut line)).await.expect("no event came").unwrap();
        (read > 0).then(|| line.trim_end().to_owned())
    }

    /// The next event: its id, kind and data. `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<(String, String, Value)> {
        let (mut id, mut kind) = (String::new(), String::new());
        loop {
            let line = self.line().await?;
            match line.split_once(": ") {
                Some(("id", value)) => id = value.to_owned(),
                Some(("event", value)) => kind = value.to_owned(),
                Some(("data", value)) => return Some((id, kind, serde_json::from_str(value).unwrap())),
                // Sizes of chunks, and empty lines.
                Some(_) | None => {}
            }
        }
    }
}

#[tokio::test]
async fn what_happens_is_told_and_a_reader_goes_on_where_it_was() {
    let dir = folder();
    let mut hub = Hub::start(&dir, &[]);
    let mut events = Events::open(&hub, None).await;
    let token = hub.register("a").await;
    let mut agent = Peer::join(&hub, "a", &token, run("b1")).await;
    let (first, kind, data) = events.next().await.unwrap();
    assert_eq!((kind.as_str(), data), ("agent", json!({"agent_id": "a", "connected": true})));
    let task_id = hub.submit(json!({"description": "d"})).await;
    let (_, kind, data) = events.next().await.unwrap();
    assert_eq!((kind.as_str(), &data["task_id"], &data["status"]), ("task", &json!(task_id), &json!("assigned")));
    agent.expect("task_assign").await;
    // Later, and from the first on.
    let mut later = Events::open(&hub, Some(&first)).await;
    assert_eq!(later.next().await.unwrap().1, "task");
    // Another hub's id.
    let mut strange = Events::open(&hub, Some("1-1")).await;
    assert_eq!(strange.next().await.unwrap().1, "missed");
    assert_eq!(strange.next().await.unwrap().0, first);
    agent.close().await;
    assert_eq!(later.next().await.unwrap().2, json!({"agent_id": "a", "connected": false}));
    // A hub that stops ends the streams, and does not wait for their readers.
    let (code, took) = hub.signal("TERM");
    assert_eq!(code, Some(0));
    assert!(took.as_millis() < 1_500, "{took:?}");
    while later.next().await.is_some() {}
}

#[tokio::test]
async fn the_description_names_every_route_and_each_answers() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let (status, description) = hub.request("GET", "/api/v1/openapi.json", None, Value::Null).await;
    assert_eq!((status, description["openapi"].as_str().unwrap().starts_with("3.1")), (200, true));
    let paths = description["paths"].as_object().unwrap();
    assert!(paths.len() >= 9, "{paths:?}");
    let document = include_str!("../../docs/api.md");
    for (path, methods) in paths {
        let last = path.rsplit('/').next().unwrap();
        assert!(
            document.contains(path) || document.contains(&format!("`.../{last}`")),
            "docs/api.md does not name {path}"
        );
        if path == "/api/v1/events" {
            continue;
        }
        let path = path.replace("{id}", "none");
        for method in methods.as_object().unwrap().keys() {
            let (status, answer) = hub.request(&method.to_uppercase(), &path, None, Value::Null).await;
            assert_eq!((status, &answer["code"]), (401, &json!("unauthorized")), "{method} {path}");
        }
    }
    assert_eq!(description["components"]["securitySchemes"]["token"]["scheme"], "bearer");
}
