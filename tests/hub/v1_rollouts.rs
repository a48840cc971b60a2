//! Rollouts over HTTP: a real hub, and peers that restart as they are told.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Hub, Peer, folder, run};

async fn join(hub: &Hub, name: &str) -> (String, Peer) {
    let token = hub.register(name).await;
    let peer = Peer::join(hub, name, &token, run("b1")).await;
    (token, peer)
}

/// The rollout, once it is in this state.
async fn until(hub: &Hub, path: &str, state: &str) -> Value {
    let began = Instant::now();
    loop {
        let (_, rollout) = hub.admin("GET", path, Value::Null).await;
        if rollout["state"] == state {
            return rollout;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "it is not {state}: {rollout}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_rollout_is_planned_started_stopped_and_followed() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let (token_a, mut a) = join(&hub, "a").await;
    let (token_b, mut b) = join(&hub, "b").await;
    hub.register("c").await;
    let body = json!({"selector": "all", "reason": "new driver", "canary": 1, "soak_ms": 0, "dry_run": true});
    let (status, plan) = hub.admin("POST", "/api/v1/rollouts", body.clone()).await;
    assert_eq!((status, &plan["rollout"], &plan["matched"]), (201, &Value::Null, &json!(3)), "{plan}");
    assert_eq!(plan["would"]["waves"], json!([["a"], ["b"]]));
    assert_eq!(plan["would"]["skipped"], json!({"offline": ["c"]}));
    let (_, none) = hub.admin("GET", "/api/v1/rollouts", Value::Null).await;
    assert_eq!(none["items"], json!([]), "a dry run starts nothing");

    let mut body = body;
    body["dry_run"] = json!(false);
    let (status, started) = hub.admin("POST", "/api/v1/rollouts", body.clone()).await;
    assert_eq!((status, &started["rollout"]["state"]), (201, &json!("canary")), "{started}");
    let path = format!("/api/v1/rollouts/{}", started["rollout"]["rollout_id"].as_str().unwrap());
    assert_eq!(a.expect("restart_sidecar").await["reason"], "new driver");
    let (status, shared) = hub.admin("POST", "/api/v1/rollouts", body).await;
    assert_eq!((status, &shared["code"]), (409, &json!("agents_in_rollout")), "{shared}");
    a.close().await;
    let _a = Peer::join(&hub, "a", &token_a, run("b2")).await;
    let (_, waits) = hub.admin("GET", &path, Value::Null).await;
    assert_eq!((&waits["awaits_promote"], &waits["counts"]["succeeded"]), (&json!(true), &json!(1)), "{waits}");
    let (status, early) = hub.admin("POST", &format!("{path}/resume"), Value::Null).await;
    assert_eq!((status, &early["code"]), (409, &json!("rollout_state")), "{early}");
    let (status, promoted) = hub.admin("POST", &format!("{path}/promote"), json!({"reason": "it is well"})).await;
    assert_eq!((status, &promoted["state"]), (200, &json!("running")), "{promoted}");
    b.expect("restart_sidecar").await;
    b.close().await;
    let _b = Peer::join(&hub, "b", &token_b, run("b2")).await;
    let ended = until(&hub, &path, "partial").await;
    assert_eq!((&ended["counts"]["succeeded"], &ended["counts"]["skipped"]), (&json!(2), &json!(1)));

    let (_, skipped) = hub.admin("GET", &format!("{path}/targets?state=skipped"), Value::Null).await;
    let targets = skipped["items"].as_array().unwrap();
    assert_eq!((targets.len(), &targets[0]["agent_id"], &targets[0]["why"]), (1, &json!("c"), &json!("offline")));
    let (_, first) = hub.admin("GET", &format!("{path}/targets?limit=1"), Value::Null).await;
    let next = format!("{path}/targets?limit=1&cursor={}", first["next_cursor"].as_str().unwrap());
    let (_, second) = hub.admin("GET", &next, Value::Null).await;
    assert_eq!((&first["items"][0]["agent_id"], &second["items"][0]["agent_id"]), (&json!("a"), &json!("b")));
    let (_, audit) = hub.admin("GET", "/api/v1/audit?action=rollout_promoted", Value::Null).await;
    let entry = &audit["items"][0];
    assert_eq!(
        (&entry["old"], &entry["new"], &entry["reason"]),
        (&json!("canary"), &json!("running"), &json!("it is well"))
    );
    let (_, audit) = hub.admin("GET", "/api/v1/audit?action=rollout_started", Value::Null).await;
    assert_eq!((&audit["items"][0]["selector"], &audit["items"][0]["count"]), (&json!("all"), &json!(3)));
}

#[tokio::test]
async fn a_rollout_outlives_the_hub_and_may_be_cancelled_after() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let (_, mut a) = join(&hub, "a").await;
    let (_, _b) = join(&hub, "b").await;
    let (_, started) = hub.admin("POST", "/api/v1/rollouts", json!({"selector": "all"})).await;
    let path = format!("/api/v1/rollouts/{}", started["rollout"]["rollout_id"].as_str().unwrap());
    a.expect("restart_sidecar").await;
    let admin = hub.admin.clone();
    hub.kill_9();
    let hub = Hub::start(&dir, &[]);
    let (_, rollout) = hub.request("GET", &path, Some(&admin), Value::Null).await;
    assert_eq!((&rollout["state"], &rollout["counts"]["restarting"]), (&json!("running"), &json!(1)), "{rollout}");
    let (status, cancelled) = hub.request("POST", &format!("{path}/cancel"), Some(&admin), Value::Null).await;
    assert_eq!((status, &cancelled["state"], &cancelled["counts"]["cancelled"]), (200, &json!("cancelled"), &json!(1)));
}

#[tokio::test]
async fn what_a_rollout_cannot_be_is_refused_by_its_field() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let (_, _a) = join(&hub, "a").await;
    for (body, field) in [
        (json!({}), "selector"),
        (json!({"selector": "id=nobody"}), "selector"),
        (json!({"selector": "all", "max_unavailable": 0}), "max_unavailable"),
        (json!({"selector": "all", "max_unavailable": "many"}), "max_unavailable"),
        (json!({"selector": "all", "steps": ["5%", "1%"]}), "steps"),
        (json!({"selector": "all", "offline": "perhaps"}), "offline"),
        (json!({"selector": "all", "soak": 5}), "soak"),
    ] {
        let (status, problem) = hub.admin("POST", "/api/v1/rollouts", body.clone()).await;
        assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!(field)), "{body}: {problem}");
    }
    for path in ["/api/v1/rollouts/none", "/api/v1/rollouts/none/targets"] {
        let (status, problem) = hub.admin("GET", path, Value::Null).await;
        assert_eq!((status, &problem["code"]), (404, &json!("rollout_not_found")));
    }
    let (status, problem) = hub.admin("POST", "/api/v1/rollouts/none/explode", Value::Null).await;
    assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!("act")), "{problem}");
}
