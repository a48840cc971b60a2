//! Names that change hands: what ends with the last token of a name, and what its next owner finds.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Hub, Peer, folder, hub_command, run, step_names, token};

fn revoke(dir: &Path, name: &str) {
    let output = hub_command().args(["token", "revoke", name, "--data"]).arg(dir).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// Submits a task and returns its id.
async fn submit_as(hub: &Hub, token: &str, task: Value) -> String {
    let (status, body) = hub.request("POST", "/api/tasks", Some(token), task).await;
    assert_eq!(status, 201, "{body}");
    body["task_id"].as_str().unwrap().to_owned()
}

async fn restarts(hub: &Hub) -> Vec<Value> {
    let (status, ledger) = hub.admin("GET", "/api/admin/agents/a/restarts", Value::Null).await;
    assert_eq!(status, 200, "{ledger}");
    ledger["restarts"].as_array().unwrap().clone()
}

/// What the owner of `a` leaves: a task that it holds and was to be done by any agent, one that only it may do, one that
/// it submitted (for nobody), and an open restart.
async fn leave_much(hub: &Hub, token: &str) -> [String; 3] {
    let mut peer = Peer::join(hub, "a", token, run("boot-1")).await;
    let held = hub.submit(json!({"description": "d"})).await;
    peer.expect("task_assign").await;
    peer.accept(&held).await;
    let addressed = hub.submit(json!({"description": "d", "assign_to": "a"})).await;
    let own = submit_as(hub, token, json!({"description": "d", "needed_capabilities": ["x"]})).await;
    hub.restart("a", Value::Null).await;
    peer.expect("restart_sidecar").await;
    [held, addressed, own]
}

/// What the next owner of `a` finds.
async fn find_nothing(hub: &Hub, token: &str, [held, addressed, own]: &[String; 3]) {
    assert_eq!(restarts(hub).await, Vec::<Value>::new());
    let lost = hub.task(addressed).await;
    assert_eq!(lost["status"], "dead_letter", "{lost}");
    assert!(lost["last_error"].as_str().unwrap().contains("only a may do it"), "{lost}");
    let cancel = format!("/api/tasks/{own}/cancel");
    assert_eq!(hub.request("POST", &cancel, Some(token), Value::Null).await.0, 403, "a former owner submitted it");
    let theirs = submit_as(hub, token, json!({"description": "d", "needed_capabilities": ["x"]})).await;
    let cancel = format!("/api/tasks/{theirs}/cancel");
    assert_eq!(hub.request("POST", &cancel, Some(token), Value::Null).await.0, 200);
    // The same run as before: it hears of no restart, and of the task as any other agent would.
    let mut peer = Peer::join(hub, "a", token, run("boot-1")).await;
    let assigned = peer.expect("task_assign").await;
    assert_eq!((&assigned["task_id"], &assigned["generation"]), (&json!(held), &json!(3)));
}

#[tokio::test]
async fn who_registers_a_revoked_name_inherits_nothing() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let former = hub.register("a").await;
    let left = leave_much(&hub, &former).await;
    revoke(dir.path(), "a");
    let restart = hub.restart_until("a", "revoked").await;
    assert_eq!((&restart["open"], step_names(&restart).last()), (&json!(false), Some(&"revoked")));
    let next = hub.register("a").await;
    find_nothing(&hub, &next, &left).await;
}

#[tokio::test]
async fn nor_does_whoever_gets_a_token_while_no_hub_runs() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let former = hub.register("a").await;
    let left = leave_much(&hub, &former).await;
    hub.kill_9();
    revoke(dir.path(), "a");
    let next = token(dir.path(), "a", false);
    let hub = Hub::start(&dir, &[]);
    find_nothing(&hub, &next, &left).await;
}

#[tokio::test]
async fn another_token_of_the_same_owner_costs_it_nothing() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let first = hub.register("a").await;
    let peer = Peer::join(&hub, "a", &first, run("boot-1")).await;
    let own = submit_as(&hub, &first, json!({"description": "d", "needed_capabilities": ["x"]})).await;
    let addressed = hub.submit(json!({"description": "d", "assign_to": "a", "needed_capabilities": ["x"]})).await;
    hub.restart("a", Value::Null).await;
    // In place of the first, in one step, while the hub runs and while none does.
    let (status, reset) = hub.admin("POST", "/api/admin/agents/a/reset-token", Value::Null).await;
    assert_eq!(status, 201, "{reset}");
    drop(peer);
    hub.kill_9();
    let output = hub_command().args(["token", "a", "--replace", "--data"]).arg(dir.path()).output().unwrap();
    let third = String::from_utf8(output.stdout).unwrap().split_whitespace().last().unwrap().to_owned();
    let hub = Hub::start(&dir, &[]);
    assert!(restarts(&hub).await[0]["open"].as_bool().unwrap());
    let mut peer = Peer::join(&hub, "a", &third, run("boot-2")).await;
    assert_eq!(peer.expect("task_assign").await["task_id"], json!(addressed));
    hub.restart_until("a", "back").await;
    let cancel = format!("/api/tasks/{own}/cancel");
    assert_eq!(hub.request("POST", &cancel, Some(&third), Value::Null).await.0, 200);
}

#[tokio::test]
async fn a_connection_that_flaps_leaves_a_short_ledger_also_over_a_restart_of_the_hub() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let token = hub.register("a").await;
    let mut peer = Peer::join(&hub, "a", &token, run("boot-1")).await;
    hub.restart("a", Value::Null).await;
    for _ in 0..20 {
        peer.expect("restart_sidecar").await;
        drop(peer);
        peer = Peer::join(&hub, "a", &token, run("boot-1")).await;
    }
    peer.expect("restart_sidecar").await;
    hub.kill_9();
    let hub = Hub::start(&dir, &[]);
    let restart = hub.newest_restart("a").await;
    let names = step_names(&restart);
    assert_eq!((&names[..2], names.len()), (&["commanded", "delivered"][..], 2 + 24));
    assert!(restart["steps_left_out"].as_u64().unwrap() > 0, "{restart}");
}
