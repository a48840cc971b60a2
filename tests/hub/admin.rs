//! What an operator does with a running hub: tokens, settings, and looking through many tasks; on the original's paths.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::process::Output;

use crate::support::{Hub, Peer, first_token, folder, hub_command, identify, run, token};
use serde_json::{Value, json};
use tempfile::TempDir;

fn cli(dir: &TempDir, args: &[&str]) -> Output {
    hub_command().arg("token").args(args).arg("--data").arg(dir.path()).output().unwrap()
}

fn listed(dir: &TempDir) -> Vec<Value> {
    let output = cli(dir, &["list", "--json"]);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn names(tokens: &[Value]) -> Vec<&str> {
    tokens.iter().map(|token| token["agent_id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_revoked_token_is_worth_nothing_at_once_and_for_ever() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let (a, b) = (hub.register("a").await, hub.register("b").await);
    let mut live = Peer::join(&hub, "a", &a, run("boot-1")).await;
    let task = hub.submit(json!({"description": "d"})).await;
    live.expect("task_assign").await;
    let output = cli(&dir, &["revoke", "a"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(live.expect_close(1008).await, "the token was revoked");
    hub.task_until(&task, |task| task["status"] == "queued").await;
    assert_eq!(hub.request("GET", "/api/tasks", Some(&a), Value::Null).await.0, 401);
    let mut again = Peer::connect(&hub).await;
    again.say(identify("a", &a, json!({}))).await;
    assert_eq!(again.expect("error").await["error"], "invalid_token");
    hub.kill_9();
    let hub = Hub::start(&dir, &[]);
    assert_eq!(hub.request("GET", "/api/tasks", Some(&a), Value::Null).await.0, 401);
    assert_eq!(hub.request("GET", "/api/tasks", Some(&b), Value::Null).await.0, 200);
    // The name is free again, as at the original hub.
    hub.register("a").await;
}

#[tokio::test]
async fn one_of_two_tokens_is_revoked_by_its_id_and_the_other_stays_connected() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let old = hub.register("a").await;
    let id = listed(&dir).iter().find(|token| token["agent_id"] == "a").unwrap()["id"].as_str().unwrap().to_owned();
    let new = token(dir.path(), "a", false);
    let mut live = Peer::join(&hub, "a", &new, run("boot-1")).await;
    assert!(cli(&dir, &["revoke", "a", "--id", &id]).status.success());
    live.say(json!({"type": "ping"})).await;
    live.expect("pong").await;
    assert_eq!(hub.request("GET", "/api/tasks", Some(&old), Value::Null).await.0, 401);
    assert_eq!(cli(&dir, &["revoke", "a", "--id", &id]).status.code(), Some(1), "it is gone already");
}

#[tokio::test]
async fn replace_makes_a_token_and_revokes_the_others_in_one_step() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let old = hub.register("a").await;
    let output = cli(&dir, &["a", "--replace"]);
    let new = String::from_utf8(output.stdout).unwrap().split_whitespace().last().unwrap().to_owned();
    assert_eq!(hub.request("GET", "/api/tasks", Some(&old), Value::Null).await.0, 401);
    assert_eq!(hub.request("GET", "/api/tasks", Some(&new), Value::Null).await.0, 200);
}

#[test]
fn tokens_are_listed_and_revoked_without_a_hub_too_and_never_shown() {
    let dir = folder();
    let secrets = [first_token(dir.path(), "a"), token(dir.path(), "ops", true)];
    let output = cli(&dir, &["list"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.contains("admin") && secrets.iter().all(|secret| !text.contains(secret.as_str())), "{text}");
    assert!(cli(&dir, &["revoke", "a"]).status.success());
    assert_eq!(names(&listed(&dir)), ["ops"]);
    assert_eq!(cli(&dir, &["revoke", "a"]).status.code(), Some(1));
    // Whoever is called like a command is meant after `--`.
    let output = hub_command().args(["token", "--data"]).arg(dir.path()).args(["--", "list"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(names(&listed(&dir)), ["list", "ops"]);
}

#[tokio::test]
async fn the_originals_token_routes_are_here_for_admins_and_for_ones_own() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let (a, b) = (hub.register("a").await, hub.register("b").await);
    let (status, made) = hub.admin("POST", "/admin/tokens", json!({"agent_id": "c"})).await;
    assert_eq!((status, &made["agent_id"]), (201, &json!("c")));
    let (status, list) = hub.admin("GET", "/admin/tokens", Value::Null).await;
    assert_eq!((status, names(list["tokens"].as_array().unwrap())), (200, vec!["a", "b", "c", "ops"]));
    for (method, path) in [
        ("GET", "/admin/tokens"),
        ("POST", "/admin/tokens"),
        ("DELETE", "/admin/tokens/b"),
        ("POST", "/api/admin/agents/a/reset-token"),
    ] {
        let (status, answer) = hub.request(method, path, Some(&a), json!({"agent_id": "d"})).await;
        assert_eq!(status, 403, "{method} {path}: {answer}");
        assert_eq!(hub.request(method, path, None, Value::Null).await.0, 401, "{method} {path}");
    }
    // As remove-agent.js does it.
    let (status, gone) = hub.request("DELETE", "/admin/tokens/a", Some(&a), Value::Null).await;
    assert_eq!((status, &gone["status"], &gone["revoked"]), (200, &json!("revoked"), &json!(1)));
    let (status, reset) = hub.admin("POST", "/api/admin/agents/b/reset-token", Value::Null).await;
    assert_eq!(status, 201, "{reset}");
    assert_eq!(hub.request("GET", "/api/tasks", Some(&b), Value::Null).await.0, 401);
    let new = reset["token"].as_str().unwrap();
    assert_eq!(hub.request("GET", "/api/tasks", Some(new), Value::Null).await.0, 200);
    let (status, answer) = hub.admin("POST", "/api/admin/agents/nobody/reset-token", Value::Null).await;
    assert_eq!((status, &answer["error"]), (404, &json!("agent_not_found")));
}

#[tokio::test]
async fn nobody_can_revoke_an_admins_token_by_going_under_the_same_name() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let plain = token(dir.path(), "ops", false);
    let (status, gone) = hub.request("DELETE", "/admin/tokens/ops", Some(&plain), Value::Null).await;
    assert_eq!((status, &gone["revoked"]), (200, &json!(1)));
    assert_eq!(hub.admin("GET", "/admin/tokens", Value::Null).await.0, 200);
}

#[tokio::test]
async fn the_default_repository_is_set_by_an_admin_kept_and_told_to_new_agents() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let path = "/api/config/default-repo";
    let (_, before) = hub.request("GET", path, None, Value::Null).await;
    assert_eq!((&before["default_repo"], &before["configured"]), (&Value::Null, &json!(false)));
    let a = hub.register("a").await;
    let url = json!({"url": "https://example.org/repo.git"});
    assert_eq!(hub.request("PUT", path, Some(&a), url.clone()).await.0, 403);
    assert_eq!(hub.admin("PUT", path, url.clone()).await.0, 200);
    hub.kill_9();
    let hub = Hub::start(&dir, &[]);
    let (_, after) = hub.request("GET", path, None, Value::Null).await;
    assert_eq!((&after["default_repo"], &after["configured"]), (&url["url"], &json!(true)));
    let (_, answer) = hub.request("POST", "/api/onboard/register", None, json!({"agent_id": "b"})).await;
    assert_eq!(answer["default_repo"], url["url"]);
}

#[tokio::test]
async fn a_long_list_is_read_in_pages_and_each_task_comes_once() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    for n in 0..7 {
        let priority = if n % 2 == 0 { "low" } else { "high" };
        hub.submit(json!({"description": n.to_string(), "priority": priority, "goal_id": format!("g{}", n % 3)})).await;
    }
    let (_, all) = hub.admin("GET", "/api/tasks", Value::Null).await;
    assert_eq!((&all["count"], &all["cursor"]), (&json!(7), &Value::Null));
    let mut paged = Vec::new();
    let mut path = "/api/tasks?limit=2".to_owned();
    loop {
        let (status, page) = hub.admin("GET", &path, Value::Null).await;
        assert_eq!(status, 200, "{page}");
        let tasks = page["tasks"].as_array().unwrap();
        assert!(tasks.len() <= 2);
        paged.extend(tasks.iter().cloned());
        let Some(cursor) = page["cursor"].as_str() else { break };
        path = format!("/api/tasks?limit=2&cursor={cursor}");
    }
    assert_eq!(json!(paged), all["tasks"]);
    for (query, count) in [("priority=high", 3), ("priority=3", 4), ("goal_id=g0", 3), ("status=completed", 0)] {
        let (_, found) = hub.admin("GET", &format!("/api/tasks?{query}"), Value::Null).await;
        assert_eq!(found["count"], count, "{query}");
    }
    for query in ["limit=0", "limit=many", "cursor=x", "cursor=9-1", "priority=soon"] {
        let (status, answer) = hub.admin("GET", &format!("/api/tasks?{query}"), Value::Null).await;
        assert_eq!((status, &answer["error"]), (422, &json!("validation_failed")), "{query}");
    }
}

/// The agent fails the task that it is handed, for good.
async fn fail(peer: &mut Peer, task: &str) {
    let generation = peer.expect("task_assign").await["generation"].clone();
    peer.say(json!({"type": "task_failed", "task_id": task, "generation": generation, "reason": "no"})).await;
    assert_eq!(peer.expect("task_ack").await["status"], "dead_letter");
}

#[tokio::test]
async fn dead_letters_and_counts_are_where_the_original_has_them() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let a = hub.register("a").await;
    let mut peer = Peer::join(&hub, "a", &a, run("boot-1")).await;
    let dead = hub.submit(json!({"description": "d", "max_retries": 1})).await;
    fail(&mut peer, &dead).await;
    hub.submit(json!({"description": "d", "needed_capabilities": ["none"], "priority": "critical"})).await;
    let (_, letters) = hub.admin("GET", "/api/tasks/dead-letter", Value::Null).await;
    assert_eq!((&letters["count"], &letters["tasks"][0]["id"]), (&json!(1), &json!(dead)));
    let (_, stats) = hub.admin("GET", "/api/tasks/stats", Value::Null).await;
    assert_eq!(
        stats,
        json!({"by_status": {"queued": 1}, "by_priority": {"0": 1}, "dead_letter": 1, "queued_index_size": 1})
    );
    let other = hub.submit(json!({"description": "d", "max_retries": 1})).await;
    fail(&mut peer, &other).await;
    let (_, first) = hub.admin("GET", "/api/tasks/dead-letter?limit=1&status=queued", Value::Null).await;
    assert_eq!((&first["count"], &first["tasks"][0]["id"]), (&json!(1), &json!(dead)));
    let rest = format!("/api/tasks/dead-letter?cursor={}", first["cursor"].as_str().unwrap());
    let (_, rest) = hub.admin("GET", &rest, Value::Null).await;
    assert_eq!((&rest["count"], &rest["tasks"][0]["id"]), (&json!(1), &json!(other)));
}

#[tokio::test]
async fn a_task_for_one_agent_waits_for_it_beside_another_that_is_idle() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let (a, b) = (hub.register("a").await, hub.register("b").await);
    let mut idle = Peer::join(&hub, "a", &a, run("boot-1")).await;
    let task = hub.submit(json!({"description": "d", "metadata": {"target_agent": "b"}})).await;
    assert!(idle.drain().await.is_empty());
    let mut wanted = Peer::join(&hub, "b", &b, run("boot-1")).await;
    assert_eq!(wanted.expect("task_assign").await["task_id"], json!(task));
}

#[tokio::test]
async fn how_agents_stand_is_shown_as_at_the_original_hub() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let token = hub.register("a").await;
    let mut peer = Peer::join(&hub, "a", &token, run("boot-1")).await;
    let task = hub.submit(json!({"description": "d"})).await;
    peer.expect("task_assign").await;
    let (status, all) = hub.request("GET", "/api/agents/states", Some(&token), Value::Null).await;
    let one = &all["agents"][0];
    assert_eq!((status, &one["agent_id"], &one["fsm_state"]), (200, &json!("a"), &json!("assigned")));
    assert_eq!((&one["current_task_id"], &one["flags"], &one["name"]), (&json!(task), &json!([]), &json!("a")));
    assert!(one["connected_at"].is_u64() && one["capabilities"].is_array(), "{one}");
    assert!(one["last_state_change"].as_u64() >= one["connected_at"].as_u64(), "{one}");
    let (status, alone) = hub.request("GET", "/api/agents/a/state", Some(&token), Value::Null).await;
    assert_eq!((status, &alone), (200, one));
    let (status, nobody) = hub.request("GET", "/api/agents/b/state", Some(&token), Value::Null).await;
    assert_eq!((status, &nobody["error"]), (404, &json!("agent_not_found")));
    assert_eq!(hub.request("GET", "/api/agents/states", None, Value::Null).await.0, 401);
}

#[tokio::test]
async fn a_pushed_task_goes_to_that_agent_and_only_while_it_is_here() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let (a, b) = (hub.register("a").await, hub.register("b").await);
    let mut idle = Peer::join(&hub, "a", &a, run("boot-1")).await;
    let push = json!({"agent_id": "b", "description": "d", "metadata": {"k": 1}});
    let (status, away) = hub.request("POST", "/api/admin/push-task", Some(&a), push.clone()).await;
    assert_eq!((status, &away["error"]), (404, &json!("agent_not_connected")));
    let mut wanted = Peer::join(&hub, "b", &b, run("boot-1")).await;
    let (status, pushed) = hub.request("POST", "/api/admin/push-task", Some(&a), push).await;
    assert_eq!((status, &pushed["status"], &pushed["agent_id"]), (200, &json!("pushed"), &json!("b")));
    let assignment = wanted.expect("task_assign").await;
    assert_eq!((&assignment["task_id"], &assignment["metadata"]), (&pushed["task_id"], &json!({"k": 1})));
    assert!(idle.drain().await.is_empty());
}

#[tokio::test]
async fn cancel_and_retry_say_what_there_was() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let task = hub.submit(json!({"description": "d", "priority": "high"})).await;
    let (_, cancelled) = hub.admin("POST", &format!("/api/tasks/{task}/cancel"), Value::Null).await;
    assert_eq!(cancelled, json!({"status": "cancelled", "task_id": task, "previous_status": "queued"}));
    let token = hub.register("a").await;
    let mut peer = Peer::join(&hub, "a", &token, run("boot-1")).await;
    let task = hub.submit(json!({"description": "d", "priority": "high", "max_retries": 1})).await;
    let generation = peer.expect("task_assign").await["generation"].clone();
    peer.say(json!({"type": "task_failed", "task_id": task, "generation": generation, "reason": "r"})).await;
    peer.expect("task_ack").await;
    let (_, retried) = hub.admin("POST", &format!("/api/tasks/{task}/retry"), Value::Null).await;
    assert_eq!(retried, json!({"status": "requeued", "task_id": task, "priority": 1}));
}

#[tokio::test]
async fn what_only_the_original_has_is_404_and_says_what_to_do_instead() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    for (method, path) in [
        ("POST", "/api/message"),
        ("GET", "/api/mailbox/a"),
        ("GET", "/api/goals"),
        ("GET", "/api/dashboard/state"),
        ("GET", "/api/agents/a/subscriptions"),
        ("GET", "/api/schemas"),
        ("GET", "/api/room/messages"),
        ("POST", "/api/room/message/human"),
        ("POST", "/api/tasks/t/classify"),
        ("GET", "/api/config/heartbeat-interval"),
    ] {
        let (status, answer) = hub.request(method, path, None, Value::Null).await;
        assert_eq!((status, &answer["error"]), (404, &json!("not_offered")), "{method} {path}");
        assert!(answer["hint"].as_str().unwrap().contains(path), "{answer}");
    }
}

#[tokio::test]
async fn a_full_queue_says_so_and_takes_tasks_again_when_one_has_ended() {
    let dir = folder();
    let hub = Hub::start(&dir, &["--max-unfinished", "1"]);
    let first = hub.submit(json!({"description": "d"})).await;
    let (status, answer) = hub.admin("POST", "/api/tasks", json!({"description": "d"})).await;
    assert_eq!((status, &answer["error"]), (503, &json!("queue_full")));
    assert_eq!(hub.admin("POST", &format!("/api/tasks/{first}/cancel"), Value::Null).await.0, 200);
    hub.submit(json!({"description": "d"})).await;
}

#[tokio::test]
async fn where_registration_is_closed_only_an_admin_registers() {
    let dir = folder();
    let hub = Hub::start(&dir, &["--closed-registration"]);
    let path = "/api/onboard/register";
    let agent = token(dir.path(), "a", false);
    assert_eq!(hub.request("POST", path, None, json!({"agent_id": "b"})).await.0, 401);
    assert_eq!(hub.request("POST", path, Some(&agent), json!({"agent_id": "b"})).await.0, 403);
    let (status, answer) = hub.admin("POST", path, json!({"agent_id": "b"})).await;
    assert_eq!(status, 201, "{answer}");
}
