//! Drains from the hub, over its API: what is told, what is stored, and what a drained agent gets.

use serde_json::{Value, json};

use crate::support::{Hub, Peer, folder, run};
use crate::v1::Events;

async fn drain_of(hub: &Hub, admin: &str, agent_id: &str) -> Value {
    let (_, mut agent) = hub.request("GET", &format!("/api/v1/agents/{agent_id}"), Some(admin), Value::Null).await;
    agent["drain"].take()
}

/// The next event of drains, without its time.
async fn told(events: &mut Events) -> Value {
    loop {
        let (_, kind, data) = events.next().await.unwrap();
        if kind == "drain" {
            return data;
        }
    }
}

#[tokio::test]
async fn a_selection_is_drained_and_who_changed_is_named() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let (a, b) = (hub.register("a").await, hub.register("b").await);
    hub.register("never").await;
    let mut a = Peer::join(&hub, "a", &a, run("b1")).await;
    let mut b = Peer::join(&hub, "b", &b, run("b1")).await;
    let body = json!({"selector": {"ids": ["a", "never", "nobody"]}, "reason": "new disk", "until_ms": 3_600_000});
    let mut dry = body.clone();
    dry["dry_run"] = json!(true);
    for _ in 0..2 {
        let (_, answer) = hub.admin("POST", "/api/v1/drain", dry.clone()).await;
        let told = (&answer["dry_run"], &answer["matched"], &answer["changed"], &answer["unchanged"]);
        assert_eq!(told, (&json!(true), &json!(2), &json!(["a"]), &json!([])), "nothing was done: {answer}");
    }
    let (status, answer) = hub.admin("POST", "/api/v1/drain", body).await;
    assert_eq!((status, &answer["matched"], &answer["changed"]), (200, &json!(2), &json!(["a"])), "{answer}");
    let skipped: Vec<_> =
        answer["skipped"].as_array().unwrap().iter().map(|it| (&it["agent_id"], &it["code"])).collect();
    let expected = [(&json!("nobody"), &json!("unknown_agent")), (&json!("never"), &json!("never_seen"))];
    assert_eq!(skipped, expected, "{answer}");
    // Of two that could do it, it goes to the one that is not drained; then it waits.
    let first = hub.submit(json!({"description": "d"})).await;
    assert_eq!(b.expect("task_assign").await["task_id"], first);
    let second = hub.submit(json!({"description": "d"})).await;
    let waits = json!({"what": "idle_agent", "agents": 2});
    assert_eq!(hub.task(&second).await["waiting_for"], waits);
    assert_eq!(a.drain().await, Vec::<Value>::new());
    assert_eq!(hub.agent("a").await.unwrap()["fsm_state"], "draining");
    let again = json!({"selector": {"ids": ["a", "b"]}});
    let (_, answer) = hub.admin("POST", "/api/v1/drain", again.clone()).await;
    assert_eq!(
        (&answer["changed"], &answer["unchanged"]),
        (&json!(["a", "b"]), &json!([])),
        "other values change them"
    );
    let (_, answer) = hub.admin("POST", "/api/v1/drain", again).await;
    assert_eq!((&answer["changed"], &answer["unchanged"]), (&json!([]), &json!(["a", "b"])));
    let dry = json!({"selector": {"ids": ["a", "never"]}, "dry_run": true});
    let (_, answer) = hub.admin("POST", "/api/v1/resume", dry).await;
    assert_eq!((&answer["changed"], &answer["skipped"][0]["agent_id"]), (&json!(["a"]), &json!("never")));
    let (_, answer) = hub.admin("POST", "/api/v1/resume", json!({"selector": "id=a", "reason": "disk is in"})).await;
    assert_eq!((&answer["matched"], &answer["changed"]), (&json!(1), &json!(["a"])));
    assert_eq!(a.expect("task_assign").await["task_id"], second);
    let (_, answer) = hub.admin("POST", "/api/v1/resume", json!({"selector": "id=a"})).await;
    assert_eq!((&answer["changed"], &answer["unchanged"]), (&json!([]), &json!(["a"])));
    let (_, audit) = hub.admin("GET", "/api/v1/audit?target=a&limit=3", Value::Null).await;
    let entry = |n: usize| &audit["items"][n];
    assert_eq!((&entry(0)["action"], &entry(0)["reason"]), (&json!("agent_resumed"), &json!("disk is in")), "{audit}");
    assert_eq!((&entry(0)["old"], &entry(0)["new"]), (&json!("drained by ops until it is resumed"), &Value::Null));
    assert_eq!((&entry(1)["action"], &entry(1)["new"]), (&json!("agent_drained"), &entry(0)["old"]));
    assert!(entry(2)["new"].as_str().unwrap().ends_with(", because new disk"), "{audit}");
    for (path, body, field) in [
        ("/api/v1/drain", json!({"reason": "r"}), "selector"),
        ("/api/v1/drain", json!({"selector": "all", "until_ms": 0}), "until_ms"),
        ("/api/v1/drain", json!({"selector": "all", "deadline_ms": 315_360_000_001u64}), "deadline_ms"),
        ("/api/v1/drain", json!({"selector": "all", "until": 5}), "until"),
        ("/api/v1/resume", json!({"selector": "all", "until_ms": 5}), "until_ms"),
    ] {
        let (status, problem) = hub.admin("POST", path, body.clone()).await;
        assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!(field)), "{body}: {problem}");
    }
}

#[tokio::test]
async fn a_drain_outlives_the_agents_run_and_the_hub_and_what_it_holds_goes_on() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let token = hub.register("a").await;
    let mut peer = Peer::join(&hub, "a", &token, run("b1")).await;
    let task_id = hub.submit(json!({"description": "d"})).await;
    peer.expect("task_assign").await;
    peer.accept(&task_id).await;
    let mut events = Events::open(&hub, None).await;
    let body = json!({"selector": "id=a", "reason": "new disk", "deadline_ms": 100});
    hub.admin("POST", "/api/v1/drain", body).await;
    let drained = json!({
        "agent_id": "a", "drained": true, "by": "ops", "until": null, "holds_task": true, "overdue": false,
    });
    assert_eq!(told(&mut events).await, drained);
    let late = told(&mut events).await;
    assert_eq!((&late["drained"], &late["overdue"]), (&json!(true), &json!(true)), "{late}");
    assert_eq!(drain_of(&hub, &hub.admin, "a").await["hub"]["overdue"], true);
    let admin = hub.admin.clone();
    hub.kill_9();

    let hub = Hub::start(&dir, &[]);
    let drain = drain_of(&hub, &admin, "a").await;
    assert_eq!((&drain["hub"]["by"], &drain["hub"]["reason"]), (&json!("ops"), &json!("new disk")), "{drain}");
    let mut events = Events::open(&hub, None).await;
    let mut peer = Peer::join(&hub, "a", &token, run("b2")).await;
    peer.say(json!({"type": "task_recovering", "task_id": task_id, "last_status": "working"})).await;
    let continued = peer.expect("task_continue").await;
    hub.submit(json!({"description": "another"})).await;
    let generation = continued["generation"].as_u64().unwrap();
    assert_eq!(peer.complete(&task_id, generation).await["status"], "complete");
    let free = told(&mut events).await;
    assert_eq!((&free["drained"], &free["holds_task"], &free["overdue"]), (&json!(true), &json!(false), &json!(false)));
    assert_eq!(peer.drain().await, Vec::<Value>::new(), "it got another task");
    let (status, _) =
        hub.request("POST", "/api/v1/drain", Some(&admin), json!({"selector": "all", "until_ms": 50})).await;
    assert_eq!(status, 200);
    peer.expect("task_assign").await;
    assert_eq!(drain_of(&hub, &admin, "a").await, json!({"own": false, "hub": null}));
    assert_eq!(told(&mut events).await["drained"], true);
    assert_eq!(told(&mut events).await["drained"], false);
}
