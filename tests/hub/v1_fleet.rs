//! `/api/v1` over many agents: selections, labels, tokens and invitations, and the audit of all of it.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::support::{Hub, Peer, folder, run};

async fn join(hub: &Hub, name: &str, pool: &str) -> (String, Peer) {
    let token = hub.register(name).await;
    let mut more = run("b1");
    more["labels"] = json!({"pool": pool});
    let peer = Peer::join(hub, name, &token, more).await;
    (token, peer)
}

fn names(items: &Value) -> Vec<&str> {
    items.as_array().unwrap().iter().map(|item| item["agent_id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_selection_is_restarted_in_one_request_and_who_is_passed_over_is_named() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let (_, mut gpu) = join(&hub, "a", "gpu").await;
    let (_, _cpu) = join(&hub, "b", "cpu").await;
    let (_, away) = join(&hub, "c", "gpu").await;
    away.close().await;
    hub.register("d").await;
    let ask = |body: Value| {
        let hub = &hub;
        async move { hub.admin("POST", "/api/v1/restarts", body).await }
    };
    let (status, plan) = ask(json!({"selector": {"labels": {"pool": "gpu"}}, "dry_run": true})).await;
    assert_eq!((status, &plan["dry_run"], &plan["matched"]), (202, &json!(true), &json!(2)), "{plan}");
    assert_eq!(plan["restarts"], json!([{"agent_id": "a", "command_id": null, "repeated": false}]));
    assert_eq!((names(&plan["skipped"]), &plan["skipped"][0]["code"]), (vec!["c"], &json!("not_connected")));
    let (_, restarts) = hub.admin("GET", "/api/v1/restarts", Value::Null).await;
    assert_eq!(restarts["items"], json!([]), "a dry run commands nothing");

    let (status, done) = ask(json!({"selector": "label.pool=gpu", "reason": "new driver"})).await;
    assert_eq!((status, names(&done["restarts"])), (202, vec!["a"]), "{done}");
    let command_id = done["restarts"][0]["command_id"].as_str().unwrap();
    assert_eq!(gpu.expect("restart_sidecar").await["command_id"], command_id);
    let (_, again) = ask(json!({"selector": {"ids": ["a", "nobody", "d"]}})).await;
    assert_eq!(again["restarts"], json!([{"agent_id": "a", "command_id": command_id, "repeated": true}]));
    let skipped: Vec<_> =
        again["skipped"].as_array().unwrap().iter().map(|it| (&it["agent_id"], &it["code"])).collect();
    assert_eq!(skipped, [(&json!("nobody"), &json!("unknown_agent")), (&json!("d"), &json!("not_connected"))]);
    let (_, audit) = hub.admin("GET", "/api/v1/audit?action=restart_commanded", Value::Null).await;
    let entry = &audit["items"][0];
    assert_eq!((&entry["target"], &entry["reason"]), (&json!("a"), &json!("new driver")), "{audit}");
    assert_eq!(entry["selector"], "label.pool=gpu");
    assert_eq!(audit["items"].as_array().unwrap().len(), 1, "a repeat is no act");

    for (body, field) in [
        (json!({}), "selector"),
        (json!({"selector": {}}), "selector"),
        (json!({"selector": {"all": true, "status": "offline"}}), "selector"),
        (json!({"selector": {"statos": "offline"}}), "selector"),
        (json!({"selector": "status=asleep"}), "selector"),
        (json!({"selector": 7}), "selector"),
        (json!({"selector": "all", "deadline_ms": 86_400_001}), "deadline_ms"),
        (json!({"selector": "all", "dry": true}), "dry"),
    ] {
        let (status, problem) = ask(body.clone()).await;
        assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!(field)), "{body}: {problem}");
    }
}

#[tokio::test]
async fn an_operators_label_wins_over_the_agents_own_and_outlives_the_hub() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let (token, peer) = join(&hub, "a", "gpu").await;
    let (_, _other) = join(&hub, "b", "cpu").await;
    let body = json!({"selector": {"ids": ["a"]}, "labels": {"pool": "canary", "tier": "1"}, "reason": "first"});
    let (status, set) = hub.admin("POST", "/api/v1/labels", body.clone()).await;
    let changes = json!([{"key": "pool", "old": null, "new": "canary"}, {"key": "tier", "old": null, "new": "1"}]);
    assert_eq!((status, &set["changed"]), (200, &json!([{"agent_id": "a", "changes": changes}])), "{set}");
    let (_, again) = hub.admin("POST", "/api/v1/labels", body).await;
    assert_eq!((&again["matched"], &again["changed"]), (&json!(1), &json!([])));
    peer.close().await;
    let mut more = run("b2");
    more["labels"] = json!({"pool": "gpu"});
    let _peer = Peer::join(&hub, "a", &token, more).await;
    let admin = hub.admin.clone();
    hub.kill_9();
    let hub = Hub::start(&dir, &[]);
    let found = |selector: &'static str| {
        let (hub, admin) = (&hub, &admin);
        async move {
            let path = format!("/api/v1/agents?selector={selector}");
            let (status, page) = hub.request("GET", &path, Some(admin), Value::Null).await;
            assert_eq!(status, 200, "{page}");
            names(&page["items"]).into_iter().map(str::to_owned).collect::<Vec<_>>()
        }
    };
    assert_eq!(found("label.pool%3Dcanary").await, ["a"]);
    assert_eq!(found("label.pool%3Dgpu").await, Vec::<String>::new());
    assert_eq!(found("label.tier%3D1,status%3Doffline").await, ["a"]);
    assert_eq!(found("all").await, ["a", "b"]);
    let body = json!({"selector": "all", "labels": {"pool": null}});
    let (_, removed) = hub.request("POST", "/api/v1/labels", Some(&admin), body).await;
    assert_eq!(names(&removed["changed"]), ["a"]);
    assert_eq!(found("label.pool%3Dgpu").await, ["a"], "its own counts again");
    let (_, audit) =
        hub.request("GET", "/api/v1/audit?target=a&action=labels_changed", Some(&admin), Value::Null).await;
    let told = |n: usize| (&audit["items"][n]["old"], &audit["items"][n]["new"], &audit["items"][n]["reason"]);
    assert_eq!(told(0), (&json!("pool=canary"), &Value::Null, &Value::Null), "{audit}");
    assert_eq!(told(1), (&Value::Null, &json!("pool=canary, tier=1"), &json!("first")));
    for (labels, field) in
        [(json!({"Pool": "x"}), "labels.Pool"), (json!({"a": "x\ny"}), "labels.a"), (json!({}), "labels")]
    {
        let body = json!({"selector": "all", "labels": labels});
        let (status, problem) = hub.request("POST", "/api/v1/labels", Some(&admin), body).await;
        assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!(field)), "{problem}");
    }
}

#[tokio::test]
async fn a_token_and_a_code_are_shown_once_also_to_who_repeats_the_request() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let head = |key: &str| {
        let admin = &hub.admin;
        format!("authorization: Bearer {admin}\r\ncontent-type: application/json\r\nidempotency-key: {key}\r\n")
    };
    let body = br#"{"agent_id":"v","role":"viewer","expires_in_ms":60000}"#;
    let (status, made) = hub.raw("POST", "/api/v1/tokens", &head("k1"), body).await;
    assert_eq!((status, &made["role"]), (201, &json!("viewer")), "{made}");
    let token = made["token"].as_str().unwrap();
    let (_, me) = hub.request("GET", "/api/v1/me", Some(token), Value::Null).await;
    assert_eq!((&me["name"], &me["role"], &me["via"]), (&json!("v"), &json!("viewer"), &json!("http")));
    let (status, again) = hub.raw("POST", "/api/v1/tokens", &head("k1"), body).await;
    assert_eq!((status, &again["id"], &again["token"]), (201, &made["id"], &Value::Null));
    let (_, invitation) = hub.raw("POST", "/api/v1/invitations", &head("k2"), br#"{"uses":2}"#).await;
    let code = invitation["invitation"].as_str().unwrap();
    let (_, again) = hub.raw("POST", "/api/v1/invitations", &head("k2"), br#"{"uses":2}"#).await;
    assert_eq!((&again["id"], &again["invitation"]), (&invitation["id"], &Value::Null));
    for secret in [token, code] {
        let stored = std::fs::read(dir.path().join("hub.redb")).unwrap();
        assert!(!stored.windows(secret.len()).any(|bytes| bytes == secret.as_bytes()), "the store holds a secret");
    }
    // A token that its client made up and stored first.
    let secret = "0123456789abcdef".repeat(4);
    let body = json!({"agent_id": "w", "secret": secret, "replace": true});
    let (_, made) = hub.admin("POST", "/api/v1/tokens", body.clone()).await;
    let (_, twice) = hub.admin("POST", "/api/v1/tokens", body).await;
    assert_eq!((&made["token"], &made["id"]), (&json!(secret), &twice["id"]));
    for secret in ["0123", &"G".repeat(64), &"A".repeat(64)] {
        let (status, problem) = hub.admin("POST", "/api/v1/tokens", json!({"agent_id": "w", "secret": secret})).await;
        assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!("secret")), "{problem}");
    }
    let (_, page) = hub.admin("GET", "/api/v1/tokens?limit=2", Value::Null).await;
    assert_eq!(names(&page["items"]), ["ops", "v"]);
    let cursor = page["next_cursor"].as_str().unwrap();
    let (_, page) = hub.admin("GET", &format!("/api/v1/tokens?cursor={cursor}"), Value::Null).await;
    assert_eq!((names(&page["items"]), &page["next_cursor"]), (vec!["w"], &Value::Null));
    let (_, revoked) = hub.admin("DELETE", "/api/v1/tokens/v", Value::Null).await;
    assert_eq!(revoked, json!({"agent_id": "v", "revoked": 1}));
    assert_eq!(hub.request("GET", "/api/v1/me", Some(token), Value::Null).await.0, 401);
    let path = format!("/api/v1/invitations/{}", invitation["id"].as_str().unwrap());
    assert_eq!(hub.admin("DELETE", &path, Value::Null).await.0, 200);
    assert_eq!(hub.admin("DELETE", &path, Value::Null).await.0, 404);
    let (_, page) = hub.admin("GET", "/api/v1/invitations", Value::Null).await;
    assert_eq!(page, json!({"items": [], "next_cursor": null}));
}

#[tokio::test]
async fn the_hubs_own_socket_takes_its_owner_for_an_admin_and_a_token_for_what_it_is() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let agent = hub.register("a").await;
    let path = dir.path().join("hub.sock");
    let me = |head: String| {
        let path = path.clone();
        async move {
            let mut socket = UnixStream::connect(&path).await.unwrap();
            let request = format!("GET /api/v1/me HTTP/1.1\r\nhost: hub\r\nconnection: close\r\n{head}\r\n");
            socket.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            socket.read_to_string(&mut answer).await.unwrap();
            let body = answer.split("\r\n\r\n").nth(1).unwrap().to_owned();
            (answer[9..12].to_owned(), serde_json::from_str::<Value>(&body).unwrap())
        }
    };
    let (status, owner) = me(String::new()).await;
    assert_eq!((status.as_str(), &owner["role"], &owner["via"]), ("200", &json!("admin"), &json!("socket")));
    assert!(owner["name"].as_str().unwrap().starts_with("uid:"), "{owner}");
    let (_, holder) = me(format!("authorization: Bearer {agent}\r\n")).await;
    assert_eq!((&holder["name"], &holder["role"]), (&json!("a"), &json!("agent")));
    assert_eq!(me("authorization: Bearer none\r\n".to_owned()).await.0, "401");
}
