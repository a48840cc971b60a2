//! Lists of the API: whole, as pages, and while others are served.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{Hub, Peer, folder, run};

/// Reads all pages of a list with so many items on each.
async fn pages(hub: &Hub, path: &str, limit: usize) -> Vec<Value> {
    let mut items: Vec<Value> = Vec::new();
    let mut cursor = String::new();
    loop {
        let (status, page) = hub.admin("GET", &format!("{path}?limit={limit}{cursor}"), Value::Null).await;
        assert_eq!(status, 200, "{page}");
        let found = page["items"].as_array().unwrap();
        assert!(found.len() <= limit && (found.len() == limit || page["next_cursor"].is_null()), "{page}");
        items.extend(found.iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return items,
        }
    }
}

#[tokio::test]
async fn a_list_that_is_too_long_to_be_sent_at_once_is_streamed_whole() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let description = "d".repeat(9_000);
    for n in 0..60 {
        hub.submit(json!({"description": description, "goal_id": format!("g{}", n % 2)})).await;
    }
    let (_, all) = hub.admin("GET", "/api/tasks", Value::Null).await;
    let ids: BTreeSet<&str> =
        all["tasks"].as_array().unwrap().iter().map(|task| task["id"].as_str().unwrap()).collect();
    assert_eq!((&all["count"], &all["cursor"], ids.len()), (&json!(60), &Value::Null, 60));
    // A limit and a filter reach as far into the stream.
    let (_, half) = hub.admin("GET", "/api/tasks?goal_id=g0", Value::Null).await;
    assert_eq!(half["tasks"].as_array().unwrap().len(), 30);
    let (_, some) = hub.admin("GET", "/api/tasks?limit=50", Value::Null).await;
    let cursor = some["cursor"].as_str().unwrap();
    let (_, rest) = hub.admin("GET", &format!("/api/tasks?cursor={cursor}"), Value::Null).await;
    assert_eq!((&some["count"], &rest["count"], &rest["cursor"]), (&json!(50), &json!(10), &Value::Null));
}

#[tokio::test]
async fn pages_have_each_item_once_and_need_a_token() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let mut peers = Vec::new();
    for n in 0..7 {
        let (name, priority) = (format!("a{n}"), if n % 2 == 0 { "low" } else { "high" });
        hub.submit(json!({"description": "d", "priority": priority, "needed_capabilities": ["none"]})).await;
        peers.push(Peer::join(&hub, &name, &hub.register(&name).await, run("boot-1")).await);
    }
    let (_, whole) = hub.request("GET", "/api/agents", None, Value::Null).await;
    let (_, tasks) = hub.admin("GET", "/api/tasks", Value::Null).await;
    for limit in [1, 3, 7, 8] {
        let paged = pages(&hub, "/api/v1/agents", limit).await;
        let names = |agents: &Value| agents.as_array().unwrap().iter().map(|agent| agent["agent_id"].clone()).collect();
        let (paged, whole): (Vec<Value>, Vec<Value>) = (names(&json!(paged)), names(&whole["agents"]));
        assert_eq!(paged, whole);
        assert_eq!(json!(pages(&hub, "/api/v1/tasks", limit).await), tasks["tasks"]);
    }
    let (_, high) = hub.admin("GET", "/api/v1/tasks?priority=high", Value::Null).await;
    assert_eq!((high["items"].as_array().unwrap().len(), &high["next_cursor"]), (3, &Value::Null));
    for path in ["/api/v1/agents", "/api/v1/tasks"] {
        assert_eq!(hub.request("GET", path, None, Value::Null).await.0, 401, "{path}");
        for limit in ["0", "1001", "many"] {
            let (status, answer) = hub.admin("GET", &format!("{path}?limit={limit}"), Value::Null).await;
            assert_eq!((status, &answer["errors"][0]["field"]), (422, &json!("limit")), "{answer}");
        }
    }
}
