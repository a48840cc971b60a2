//! Who may do what: every route with a token of every role, and without one.

use std::path::Path;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{Hub, PATIENCE, Peer, folder, hub_command, identify, run};

/// A token of a role, by the command.
pub(crate) fn token_of(dir: &Path, name: &str, role: &str, more: &[&str]) -> String {
    let output =
        hub_command().args(["token", name, "--role", role]).args(more).arg("--data").arg(dir).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().split_whitespace().last().unwrap().to_owned()
}

/// A method and a path, the body, and whether it is let in: without a token, a viewer, an operator, an admin, an agent
/// that it does not concern. `{task}` is somebody else's task.
type Row = (&'static str, &'static str, &'static str, [bool; 5]);

const ANYBODY: [bool; 5] = [true; 5];
const READERS: [bool; 5] = [false, true, true, true, true];
const PEOPLE: [bool; 5] = [false, true, true, true, false];
const WORKERS: [bool; 5] = [false, false, true, true, true];
const OPERATORS: [bool; 5] = [false, false, true, true, false];
const ADMINS: [bool; 5] = [false, false, false, true, false];

const ROUTES: &[Row] = &[
    ("GET", "/ws", "", ANYBODY),
    ("GET", "/health", "", ANYBODY),
    ("GET", "/ready", "", ANYBODY),
    // To a client of this machine.
    ("GET", "/metrics", "", ANYBODY),
    ("GET", "/api/agents", "", ANYBODY),
    ("GET", "/api/config/default-repo", "", ANYBODY),
    ("POST", "/api/onboard/register", r#"{"agent_id":"taken"}"#, ANYBODY),
    ("GET", "/api/agents/states", "", READERS),
    ("GET", "/api/agents/{id}/state", "", READERS),
    ("GET", "/api/tasks", "", READERS),
    ("GET", "/api/tasks/dead-letter", "", READERS),
    ("GET", "/api/tasks/stats", "", READERS),
    ("GET", "/api/tasks/{id}", "", READERS),
    ("GET", "/api/admin/agents/{id}/restarts", "", PEOPLE),
    ("POST", "/api/tasks", r#"{"description":"d"}"#, WORKERS),
    ("POST", "/api/admin/push-task", r#"{"agent_id":"nobody","description":"d"}"#, WORKERS),
    ("POST", "/api/tasks/{id}/cancel", "", OPERATORS),
    ("POST", "/api/tasks/{id}/retry", "", OPERATORS),
    ("POST", "/api/admin/agents/{id}/restart", "", OPERATORS),
    ("GET", "/admin/tokens", "", ADMINS),
    ("POST", "/admin/tokens", r#"{"agent_id":"new"}"#, ADMINS),
    ("DELETE", "/admin/tokens/{id}", "", ADMINS),
    ("GET", "/api/admin/tokens", "", ADMINS),
    ("POST", "/api/admin/tokens", r#"{"agent_id":"new"}"#, ADMINS),
    ("DELETE", "/api/admin/tokens/{id}", "", ADMINS),
    ("POST", "/api/admin/agents/{id}/reset-token", "", ADMINS),
    ("PUT", "/api/config/default-repo", r#"{"url":"https://example.org/r"}"#, ADMINS),
];

/// The same for the routes of `/api/v1`, which its description names.
const V1_ROUTES: &[Row] = &[
    ("GET", "/api/v1/agents", "", READERS),
    ("GET", "/api/v1/agents/{id}", "", READERS),
    ("GET", "/api/v1/tasks", "", READERS),
    ("GET", "/api/v1/tasks/{id}", "", READERS),
    ("GET", "/api/v1/restarts", "", PEOPLE),
    ("GET", "/api/v1/restarts/{id}", "", READERS),
    ("GET", "/api/v1/events", "", READERS),
    ("GET", "/api/v1/healing", "", PEOPLE),
    ("GET", "/api/v1/me", "", READERS),
    ("POST", "/api/v1/tasks", r#"{"description":"d"}"#, WORKERS),
    ("POST", "/api/v1/tasks/{id}/cancel", "", OPERATORS),
    ("POST", "/api/v1/tasks/{id}/retry", "", OPERATORS),
    ("POST", "/api/v1/agents/{id}/restart", "", OPERATORS),
    ("POST", "/api/v1/restarts", r#"{"selector":"id=nobody"}"#, OPERATORS),
    ("GET", "/api/v1/rollouts", "", PEOPLE),
    ("GET", "/api/v1/rollouts/{id}", "", PEOPLE),
    ("GET", "/api/v1/rollouts/{id}/targets", "", PEOPLE),
    ("POST", "/api/v1/rollouts", r#"{"selector":"id=nobody"}"#, OPERATORS),
    ("POST", "/api/v1/rollouts/{id}/{act}", "", OPERATORS),
    ("POST", "/api/v1/labels", r#"{"selector":"id=nobody","labels":{"a":"b"}}"#, OPERATORS),
    ("POST", "/api/v1/drain", r#"{"selector":"id=nobody"}"#, OPERATORS),
    ("POST", "/api/v1/resume", r#"{"selector":"id=nobody"}"#, OPERATORS),
    ("GET", "/api/v1/audit", "", OPERATORS),
    ("GET", "/api/v1/tokens", "", ADMINS),
    ("POST", "/api/v1/tokens", r#"{"agent_id":"new"}"#, ADMINS),
    ("DELETE", "/api/v1/tokens/{agent_id}", "", ADMINS),
    ("GET", "/api/v1/invitations", "", ADMINS),
    ("POST", "/api/v1/invitations", "{}", ADMINS),
    ("DELETE", "/api/v1/invitations/{id}", "", ADMINS),
    ("GET", "/api/v1/store/unread", "", ADMINS),
    ("GET", "/api/v1/backup", "", ADMINS),
];

/// Where an agent that registered openly is let in, beside the routes that are for anybody: nothing of another's is there.
const OPENLY: &[(&str, &str)] = &[
    ("GET", "/api/tasks"),
    ("GET", "/api/tasks/dead-letter"),
    ("GET", "/api/v1/tasks"),
    ("GET", "/api/v1/restarts/{id}"),
    ("GET", "/api/v1/me"),
    ("POST", "/api/tasks"),
    ("POST", "/api/v1/tasks"),
];

/// Those whose answer to who is let in is no JSON, or never ends.
const NOT_JSON: &[&str] = &["/metrics", "/api/v1/events", "/api/v1/backup"];

#[tokio::test]
async fn every_route_lets_every_role_do_what_it_may_and_no_more() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let [viewer, operator, admin] = ["viewer", "operator", "admin"].map(|role| token_of(dir.path(), role, role, &[]));
    let (agent, stray) = (hub.register("a").await, hub.register_openly("stray").await);
    hub.register("taken").await;
    let task = hub.submit(json!({"description": "d", "needed_capabilities": ["none"]})).await;
    let tokens = [("nobody", None), ("viewer", Some(&viewer)), ("operator", Some(&operator)), ("admin", Some(&admin))];
    for (method, path, body, lets_in) in ROUTES.iter().chain(V1_ROUTES) {
        let lets_in = lets_in.iter().copied().chain([lets_in[0] || OPENLY.contains(&(*method, *path))]);
        let id = if path.contains("/tasks/") { &task } else { "nobody" };
        let path = path.replace("{id}", id).replace("{agent_id}", "nobody");
        let body = if body.is_empty() { Value::Null } else { serde_json::from_str(body).unwrap() };
        let callers = tokens.iter().copied().chain([("agent", Some(&agent)), ("stray", Some(&stray))]);
        for ((role, token), lets_in) in callers.zip(lets_in) {
            if lets_in && NOT_JSON.contains(&path.as_str()) {
                assert_eq!(status_of(&hub, &path, token).await, 200, "{path} by {role}");
                continue;
            }
            let (status, answer) = hub.request(method, &path, token.map(String::as_str), body.clone()).await;
            let refused = if token.is_none() { 401 } else { 403 };
            assert_eq!(status != refused, lets_in, "{method} {path} by {role}: {status} {answer}");
            assert!(lets_in || answer["hint"].is_string() || answer["detail"].is_string(), "{answer}");
            assert_eq!(status == 403, answer["needed_role"].is_string(), "{method} {path} by {role}: {answer}");
        }
    }
}

/// The status of an answer of which nothing more is read.
async fn status_of(hub: &Hub, path: &str, token: Option<&String>) -> u16 {
    let mut stream = TcpStream::connect(&hub.address).await.unwrap();
    let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{token}\r\n").as_bytes()).await.unwrap();
    let mut line = String::new();
    timeout(PATIENCE, BufReader::new(stream).read_line(&mut line)).await.expect("no answer").unwrap();
    line.split(' ').nth(1).unwrap().parse().unwrap()
}

/// What is routed and not in the table would be tried with no role.
#[test]
fn the_table_has_every_route() {
    let source = include_str!("../../src/hub/http/mod.rs");
    let routes: Vec<&str> = source.split(".route(\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(routes.len() > 20, "{routes:?}");
    for route in routes {
        let line = source.split(&format!(".route(\"{route}\"")).nth(1).unwrap().lines().next().unwrap();
        for (method, call) in [("GET", "get("), ("POST", "post("), ("PUT", "put("), ("DELETE", "delete(")] {
            let is_in_table = ROUTES.iter().any(|(m, path, _, _)| (*m, *path) == (method, route));
            assert_eq!(line.contains(call), is_in_table, "{method} {route}");
        }
    }
}

#[tokio::test]
async fn the_table_has_every_route_of_the_description() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let (_, description) = hub.request("GET", "/api/v1/openapi.json", None, Value::Null).await;
    let mut described = Vec::new();
    for (path, methods) in description["paths"].as_object().unwrap() {
        described.extend(methods.as_object().unwrap().keys().map(|method| (method.to_uppercase(), path.clone())));
    }
    let mut known: Vec<_> = V1_ROUTES.iter().map(|(method, path, ..)| (method.to_string(), path.to_string())).collect();
    described.sort();
    known.sort();
    assert_eq!(described, known);
}

#[tokio::test]
async fn an_agent_acts_on_what_is_its_own_and_another_role_of_the_same_name_does_not() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let agent = hub.register("a").await;
    let viewer = token_of(dir.path(), "a", "viewer", &[]);
    let _peer = Peer::join(&hub, "a", &agent, run("boot-1")).await;
    let body = json!({"description": "d", "needed_capabilities": ["none"]});
    let (_, task) = hub.request("POST", "/api/tasks", Some(&agent), body).await;
    let cancel = format!("/api/tasks/{}/cancel", task["task_id"].as_str().unwrap());
    for (method, path, for_agent, for_viewer) in [
        ("GET", "/api/admin/agents/a/restarts", 200, 200),
        ("POST", "/api/admin/agents/a/restart", 200, 403),
        ("POST", cancel.as_str(), 200, 403),
        ("DELETE", "/admin/tokens/a?id=1", 403, 403),
        ("DELETE", "/admin/tokens/a", 200, 403),
    ] {
        for (token, expected) in [(&viewer, for_viewer), (&agent, for_agent)] {
            let (status, answer) = hub.request(method, path, Some(token), Value::Null).await;
            assert_eq!(status, expected, "{method} {path}: {answer}");
        }
    }
    // It revoked its own, and not the viewer's.
    assert_eq!(hub.request("GET", "/api/tasks", Some(&agent), Value::Null).await.0, 401);
    assert_eq!(hub.request("GET", "/api/tasks", Some(&viewer), Value::Null).await.0, 200);
}

#[tokio::test]
async fn a_token_of_a_person_is_no_agents_but_an_admins_may_be() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    for (role, refused) in [("viewer", true), ("operator", true), ("admin", false)] {
        let token = token_of(dir.path(), role, role, &[]);
        let mut peer = Peer::connect(&hub).await;
        peer.say(identify(role, &token, run("boot-1"))).await;
        if refused {
            assert_eq!(peer.expect("error").await["error"], "token_agent_mismatch");
            assert_eq!(peer.expect_close(1008).await, "token_agent_mismatch");
        } else {
            peer.expect("identified").await;
        }
    }
}

#[tokio::test]
async fn a_role_is_named_when_the_token_is_made_and_a_wrong_one_is_refused() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let path = "/api/admin/tokens";
    for (body, expected, role) in [
        (json!({"agent_id": "c"}), 201, "agent"),
        (json!({"agent_id": "c", "admin": true}), 201, "admin"),
        (json!({"agent_id": "c", "role": "operator"}), 201, "operator"),
        (json!({"agent_id": "c", "role": "admin", "admin": true}), 201, "admin"),
        (json!({"agent_id": "c", "role": "viewer", "admin": true}), 422, ""),
        (json!({"agent_id": "c", "role": "king"}), 422, ""),
        (json!({"agent_id": "c", "expires_in_ms": 0}), 422, ""),
    ] {
        let (status, answer) = hub.admin("POST", path, body.clone()).await;
        assert_eq!(status, expected, "{body}: {answer}");
        if expected == 201 {
            assert_eq!((&answer["role"], &answer["admin"]), (&json!(role), &json!(role == "admin")), "{answer}");
        }
    }
    let (_, list) = hub.admin("GET", path, Value::Null).await;
    let list = list["tokens"].as_array().unwrap();
    let of_c: Vec<&str> =
        list.iter().filter(|token| token["agent_id"] == "c").map(|token| token["role"].as_str().unwrap()).collect();
    assert_eq!(of_c, ["agent", "admin", "operator", "admin"]);
    assert!(list.iter().all(|token| token["prefix"].as_str().unwrap().len() == 6), "{list:?}");
    assert!(list.iter().filter(|token| token["agent_id"] == "c").all(|token| token["created_by"] == "ops"));
    let wrong = hub_command().args(["token", "x", "--role", "king", "--data"]).arg(dir.path()).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("viewer, operator, admin, agent"), "{wrong:?}");
}
