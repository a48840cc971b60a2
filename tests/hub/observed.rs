//! `/metrics` and `/ready` of the real hub: what they say of what happens, and to whom.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::prometheus::{self, Family};
use crate::support::{Hub, PATIENCE, Peer, folder, run, token};

/// One GET on a connection that stays open; status and body.
async fn get_on(stream: &mut TcpStream, path: &str, head: &str) -> (u16, String) {
    let host = if head.contains("host:") { "" } else { "host: localhost\r\n" };
    stream.write_all(format!("GET {path} HTTP/1.1\r\n{host}{head}\r\n").as_bytes()).await.unwrap();
    let read = async {
        let mut answer = String::new();
        loop {
            let mut part = vec![0; 64 << 10];
            let length = stream.read(&mut part).await.unwrap();
            assert!(length > 0, "closed after {answer:?}");
            answer.push_str(std::str::from_utf8(&part[..length]).unwrap());
            let Some((head, body)) = answer.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() == length.expect("a length").parse::<usize>().unwrap() {
                return (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned());
            }
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("no answer over HTTP")
}

pub(crate) async fn get(hub: &Hub, path: &str, head: &str) -> (u16, String) {
    get_on(&mut TcpStream::connect(&hub.address).await.unwrap(), path, head).await
}

pub(crate) async fn metrics(hub: &Hub) -> BTreeMap<String, Family> {
    let (status, text) = get(hub, "/metrics", "").await;
    assert_eq!(status, 200, "{text}");
    prometheus::parse(&text).unwrap_or_else(|why| panic!("{why}\n{text}"))
}

fn figure(families: &BTreeMap<String, Family>, name: &str, labels: &[(&str, &str)]) -> f64 {
    let family = families.get(name).unwrap_or_else(|| panic!("no {name}"));
    let mut samples = family.samples.iter();
    let is = |sample: &&prometheus::Sample| labels.iter().all(|(key, value)| sample.label(key) == Some(value));
    samples.find(is).unwrap_or_else(|| panic!("no {labels:?} in {family:?}")).value
}

/// Waits until the metrics are as `done` wants them.
async fn metrics_until(hub: &Hub, what: &str, done: impl Fn(&BTreeMap<String, Family>) -> bool) {
    let begun = Instant::now();
    loop {
        let families = metrics(hub).await;
        if done(&families) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "never {what}: {families:#?}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

fn tasks(families: &BTreeMap<String, Family>) -> [f64; 5] {
    ["queued", "assigned", "completed", "dead_letter", "cancelled"]
        .map(|status| figure(families, "agentcom_hub_tasks", &[("status", status)]))
}

#[tokio::test]
async fn the_metrics_show_tasks_agents_and_the_hubs_own_work() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let first = metrics(&hub).await;
    assert_eq!((tasks(&first), figure(&first, "agentcom_hub_oldest_queued_seconds", &[])), ([0.0; 5], 0.0));
    assert_eq!(figure(&first, "agentcom_hub_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), 1.0);
    assert_eq!(figure(&first, "agentcom_hub_ready", &[]), 1.0);

    let token = hub.register("a").await;
    let mut peer = Peer::join(&hub, "a", &token, run("boot-1")).await;
    let task_id = hub.submit(json!({"description": "d"})).await;
    let generation = peer.expect("task_assign").await["generation"].as_u64().unwrap();
    let (waits, cancelled) = (
        hub.submit(json!({"description": "d", "assign_to": "b"})).await,
        hub.submit(json!({"description": "d"})).await,
    );
    assert_eq!(tasks(&metrics(&hub).await), [2.0, 1.0, 0.0, 0.0, 0.0]);
    assert_eq!(hub.admin("POST", &format!("/api/tasks/{cancelled}/cancel"), Value::Null).await.0, 200);
    peer.accept(&task_id).await;
    peer.complete(&task_id, generation).await;
    let families = metrics(&hub).await;
    assert_eq!(tasks(&families), [1.0, 0.0, 1.0, 0.0, 1.0]);
    let agents = |families: &_| {
        ["healthy", "degraded", "offline", "stale", "never_seen"]
            .map(|status| figure(families, "agentcom_hub_agents", &[("status", status)]))
    };
    assert_eq!(agents(&families), [1.0, 0.0, 0.0, 0.0, 0.0]);
    hub.register("b").await;
    assert_eq!(agents(&metrics(&hub).await), [1.0, 0.0, 0.0, 0.0, 1.0]);
    assert_eq!(figure(&families, "agentcom_hub_connections", &[("state", "identified")]), 1.0);
    // This request's own connection.
    assert!(figure(&families, "agentcom_hub_connections", &[("state", "unidentified")]) >= 1.0);
    let commits = &families["agentcom_hub_commit_seconds"];
    assert!(commits.count() >= 5.0 && commits.sum() > 0.0, "{commits:?}");
    assert!(families["agentcom_hub_actor_lag_seconds"].count() >= commits.count());
    assert!(figure(&families, "agentcom_hub_store_bytes", &[]) > 4_096.0);
    assert!(figure(&families, "agentcom_hub_disk_free_bytes", &[]) > 0.0);
    assert!(figure(&families, "process_resident_memory_bytes", &[]) > 1e6);
    assert!(figure(&families, "process_open_fds", &[]) >= 3.0);
    assert!(figure(&families, "process_max_fds", &[]) >= 64.0);
    metrics_until(&hub, "a wait", |seen| figure(seen, "agentcom_hub_oldest_queued_seconds", &[]) > 0.0).await;

    peer.close().await;
    metrics_until(&hub, "offline", |seen| agents(seen) == [0.0, 0.0, 1.0, 0.0, 1.0]).await;

    // What is stored counts from the start of the next one on.
    let mut hub = hub;
    hub.signal("TERM");
    let hub = Hub::start(&dir, &[]);
    let families = metrics(&hub).await;
    assert_eq!(agents(&families), [0.0, 0.0, 1.0, 0.0, 1.0]);
    assert_eq!(tasks(&families), [1.0, 0.0, 1.0, 0.0, 1.0]);
    assert!(figure(&families, "agentcom_hub_oldest_queued_seconds", &[]) > 0.0);
    assert_eq!(hub.admin("POST", &format!("/api/tasks/{waits}/cancel"), Value::Null).await.0, 200);
    assert_eq!(figure(&metrics(&hub).await, "agentcom_hub_oldest_queued_seconds", &[]), 0.0);
}

#[tokio::test]
async fn the_metrics_show_the_targets_of_rollouts_that_go_on() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let targets = |families: &_| {
        ["pending", "restarting", "failed", "cancelled"]
            .map(|state| figure(families, "agentcom_hub_rollout_targets", &[("state", state)]))
    };
    assert_eq!(targets(&metrics(&hub).await), [0.0; 4]);
    let mut peers = Vec::new();
    for name in ["a", "b", "c"] {
        let token = hub.register(name).await;
        peers.push(Peer::join(&hub, name, &token, run("boot-1")).await);
    }
    let (_, started) = hub.admin("POST", "/api/v1/rollouts", json!({"selector": "all"})).await;
    assert_eq!(targets(&metrics(&hub).await), [2.0, 1.0, 0.0, 0.0]);
    let cancel = format!("/api/v1/rollouts/{}/cancel", started["rollout"]["rollout_id"].as_str().unwrap());
    assert_eq!(hub.admin("POST", &cancel, Value::Null).await.0, 200);
    assert_eq!(targets(&metrics(&hub).await), [0.0, 1.0, 0.0, 2.0], "one is on its restart yet");
    let command = peers[0].expect("restart_sidecar").await;
    peers[0].say(json!({"type": "restart_ack", "command_id": command["command_id"], "outcome": "refused"})).await;
    metrics_until(&hub, "over", |seen| targets(seen) == [0.0; 4]).await;
}

#[tokio::test]
async fn the_metrics_tell_planned_from_unplanned_restarts() {
    let dir = folder();
    let hub = Hub::start(&dir, &["--restart-margin-ms", "1", "--drain-deadline-ms", "1"]);
    let token = hub.register("a").await;
    let peer = Peer::join(&hub, "a", &token, run("boot-1")).await;
    peer.close().await;
    // A broken connection is no restart.
    let peer = Peer::join(&hub, "a", &token, run("boot-1")).await;
    hub.restart("a", json!({"reason": "news"})).await;
    peer.close().await;
    let peer = Peer::join(&hub, "a", &token, run("boot-2")).await;
    hub.restart_until("a", "back").await;
    peer.close().await;
    let peer = Peer::join(&hub, "a", &token, run("boot-3")).await;
    peer.close().await;
    let stopped = json!({"boot_id": "boot-4", "version": "0.1.0", "previous_end": "stopped"});
    let mut peer = Peer::join(&hub, "a", &token, stopped).await;
    hub.restart("a", json!({"reason": "never done", "deadline_ms": 1})).await;
    peer.expect("restart_sidecar").await;
    hub.restart_until("a", "overdue").await;
    peer.close().await;
    let _peer = Peer::join(&hub, "a", &token, run("boot-5")).await;
    hub.restart_until("a", "back").await;

    let families = metrics(&hub).await;
    let restarts =
        |outcome, cause| figure(&families, "agentcom_hub_restarts_total", &[("outcome", outcome), ("cause", cause)]);
    assert_eq!((restarts("back", "commanded"), restarts("overdue", "commanded")), (1.0, 1.0));
    assert_eq!((restarts("back_late", "commanded"), restarts("refused", "commanded")), (1.0, 0.0));
    assert_eq!((restarts("back", "unplanned"), restarts("back", "planned")), (1.0, 1.0));
    assert_eq!(families["agentcom_hub_restart_gap_seconds"].count(), 2.0);
}

#[tokio::test]
async fn a_stranger_needs_a_token_and_this_machines_prometheus_does_not() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let agent = hub.register("a").await;
    let status = async |hub: &Hub, head: &str| get(hub, "/metrics", head).await.0;
    assert_eq!(status(&hub, "").await, 200);
    // Through a proxy on this machine.
    for head in ["x-forwarded-for: 10.0.0.9\r\n", "via: 1.1 proxy\r\n"] {
        let (refused, text) = get(&hub, "/metrics", head).await;
        assert!(refused == 401 && text.contains("--public-metrics"), "{head}: {text}");
        let with = |token: &str| format!("{head}authorization: Bearer {token}\r\n");
        assert_eq!(status(&hub, &with(&agent)).await, 200, "{head}");
        assert_eq!(status(&hub, &with(&hub.admin)).await, 200, "{head}");
        assert_eq!(status(&hub, &with("wrong")).await, 401, "{head}");
    }
    // From a web page that names a host of its own.
    assert_eq!(status(&hub, "host: page.example\r\n").await, 421);
    let other = folder();
    let public = Hub::start(&other, &["--public-metrics"]);
    assert_eq!(status(&public, "x-forwarded-for: 10.0.0.9\r\n").await, 200);
    // No name of an agent and no token is in it.
    token(dir.path(), "somebody-of-this-name", false);
    let text = get(&hub, "/metrics", "").await.1;
    assert!(!text.contains("somebody-of-this-name") && !text.contains(&agent));
    assert_eq!(hub.request("POST", "/metrics", None, json!({})).await.0, 405);
}

#[tokio::test]
async fn ready_says_so_and_names_what_is_in_the_way() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let mut kept = TcpStream::connect(&hub.address).await.unwrap();
    let (status, body) = get_on(&mut kept, "/ready", "").await;
    assert_eq!((status, serde_json::from_str(&body).unwrap()), (200, json!({"ready": true, "reasons": []})));
    // No more files: nobody new can be taken.
    let limit = |files: &str| {
        let pid = hub.pid().to_string();
        let set = Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={files}")]).status();
        assert!(set.unwrap().success());
    };
    limit("4:1024");
    let _refused = TcpStream::connect(&hub.address).await.unwrap();
    let begun = Instant::now();
    let reasons = loop {
        let (status, body) = get_on(&mut kept, "/ready", "").await;
        if status == 503 {
            break serde_json::from_str::<Value>(&body).unwrap();
        }
        assert!(begun.elapsed() < PATIENCE, "{body}");
    };
    assert_eq!((&reasons["ready"], &reasons["reasons"][0]["check"]), (&json!(false), &json!("listener")));
    assert!(reasons["reasons"][0]["detail"].as_str().unwrap().contains("ulimit -n"), "{reasons}");
    limit("1024:1024");
    let begun = Instant::now();
    while get_on(&mut kept, "/ready", "").await.0 != 200 {
        assert!(begun.elapsed() < PATIENCE, "never ready again");
    }
    assert_eq!(get(&hub, "/health", "").await.0, 200);
}
