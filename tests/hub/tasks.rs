//! Tasks over real sockets: what a sidecar hears, and what the API shows of it.

use std::time::{Duration, Instant};

use crate::support::{Got, Hub, PATIENCE, Peer, folder, identify, node, run};
use serde_json::{Value, json};

#[tokio::test]
async fn a_task_goes_from_submission_to_completion() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let token = hub.register("a").await;
    let mut peer = Peer::join(&hub, "a", &token, run("boot-1")).await;
    let task_id =
        hub.submit(json!({"description": "do it", "metadata": {"k": 1}, "branch": "main", "timeout_ms": 7})).await;
    let assign = peer.expect("task_assign").await;
    assert_eq!(assign["task_id"], task_id.as_str());
    assert_eq!(assign["description"], "do it");
    assert_eq!(assign["metadata"], json!({"k": 1}));
    assert_eq!((&assign["branch"], &assign["timeout_ms"]), (&json!("main"), &json!(7)));
    assert_eq!(assign["generation"], 1);
    assert!(assign["assigned_at"].as_u64().unwrap() > 1_600_000_000_000);
    assert_eq!(assign.get("routing_decision"), Some(&Value::Null));
    peer.accept(&task_id).await;
    assert_eq!(hub.agent("a").await.unwrap()["fsm_state"], "working");
    let answer = peer.complete(&task_id, 1).await;
    assert_eq!((&answer["type"], &answer["status"]), (&json!("task_ack"), &json!("complete")));
    let task = hub.task(&task_id).await;
    assert_eq!((&task["status"], &task["assigned_to"]), (&json!("completed"), &json!("a")));
    assert_eq!(task["result"]["output"], "done");
    let events: Vec<&str> = task["history"].as_array().unwrap().iter().map(|e| e["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["completed", "accepted", "assigned", "queued"]);
    assert_eq!(hub.agent("a").await.unwrap()["fsm_state"], "idle");
}

/// The frames of a recorded Node sidecar, sent in its order; the answers must be of the real hub's kinds, in its order.
#[tokio::test]
async fn an_original_sidecar_gets_the_answers_it_knows() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let token = hub.register("happy").await;
    let mut peer = Peer::join(&hub, "happy", &token, node(0)).await;
    let task_id = hub.submit(json!({"description": "start=0.2 run=3", "complexity_tier": "trivial"})).await;
    assert_eq!(peer.expect("task_assign").await["complexity"]["effective_tier"], "trivial");
    peer.accept(&task_id).await;
    peer.say(
        json!({"type": "wake_result", "task_id": task_id, "status": "success", "attempt": 1, "protocol_version": 1}),
    )
    .await;
    peer.say(json!({
        "type": "task_complete", "task_id": task_id, "result": {"status": "success", "output": "done"}, "generation": 1,
        "verification_report": {"task_id": task_id, "run_number": 1, "status": "skip", "checks": [],
            "summary": {"total": 0, "passed": 0, "failed": 0, "errors": 0, "timed_out": 0}},
        "verification_history": null, "protocol_version": 1,
    }))
    .await;
    let ack = peer.expect("task_ack").await;
    assert_eq!(ack, json!({"type": "task_ack", "task_id": task_id, "status": "complete"}));
    peer.say(json!({"type": "ping", "protocol_version": 1})).await;
    assert!(peer.expect("pong").await["timestamp"].is_u64());
    assert_eq!(hub.task(&task_id).await["verification_report"]["status"], "skip");
    peer.close().await;
}

#[tokio::test]
async fn an_original_sidecar_killed_mid_task_recovers_as_recorded() {
    let dir = folder();
    let hub = Hub::start(&dir, &["--reconnect-grace-ms", "200"]);
    let token = hub.register("s7").await;
    let mut peer = Peer::join(&hub, "s7", &token, node(0)).await;
    let task_id = hub.submit(json!({"description": "start=0.2 run=12"})).await;
    peer.expect("task_assign").await;
    peer.accept(&task_id).await;
    drop(peer);
    hub.task_until(&task_id, |task| task["status"] == "queued" && task["generation"] == 2).await;
    let mut peer = Peer::join(&hub, "s7", &token, node(1)).await;
    assert_eq!(peer.expect("task_assign").await["generation"], 3);
    peer.say(json!({"type": "task_recovering", "task_id": task_id, "description": "start=0.2 run=12", "metadata": {},
        "last_status": "working", "protocol_version": 1}))
        .await;
    let go_on = peer.expect("task_continue").await;
    assert_eq!(go_on, json!({"type": "task_continue", "task_id": task_id, "generation": 3}));
    peer.accept(&task_id).await;
    assert_eq!(peer.complete(&task_id, 3).await["status"], "complete");
}

#[tokio::test]
async fn a_state_report_for_a_task_that_another_has_now_is_aborted() {
    let dir = folder();
    let hub = Hub::start(&dir, &["--reconnect-grace-ms", "200"]);
    let (token_a, token_b) = (hub.register("a").await, hub.register("b").await);
    let mut a = Peer::join(&hub, "a", &token_a, node(0)).await;
    let task_id = hub.submit(json!({"description": "d"})).await;
    a.expect("task_assign").await;
    let mut b = Peer::join(&hub, "b", &token_b, node(0)).await;
    drop(a);
    assert_eq!(b.expect("task_assign").await["generation"], 3);
    let mut a = Peer::join(&hub, "a", &token_a, node(0)).await;
    a.say(json!({"type": "state_report", "task_id": task_id, "status": "working", "generation": 1})).await;
    assert_eq!(a.expect("state_report_ack").await["action"], "abort");
}

#[tokio::test]
async fn three_failures_make_a_dead_letter() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let token = hub.register("a").await;
    let mut peer = Peer::join(&hub, "a", &token, json!({})).await;
    let task_id = hub.submit(json!({"description": "d"})).await;
    let mut answers = Vec::new();
    for _ in 0..3 {
        let generation = peer.expect("task_assign").await["generation"].clone();
        let failed = json!({"type": "task_failed", "task_id": task_id, "generation": generation, "reason": "no"});
        peer.say(failed).await;
        answers.push(peer.expect("task_ack").await["status"].clone());
    }
    assert_eq!(answers, ["retried", "retried", "dead_letter"]);
    let task = hub.task(&task_id).await;
    assert_eq!((&task["status"], &task["last_error"]), (&json!("dead_letter"), &json!("no")));
    let (status, _) = hub.admin("POST", &format!("/api/tasks/{task_id}/retry"), Value::Null).await;
    assert_eq!(status, 200);
    assert_eq!(peer.expect("task_assign").await["generation"], 7);
}

#[tokio::test]
async fn verdicts_that_do_not_count_say_why() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let token = hub.register("a").await;
    let mut peer = Peer::join(&hub, "a", &token, json!({})).await;
    let task_id = hub.submit(json!({"description": "d"})).await;
    peer.expect("task_assign").await;
    assert_eq!(peer.complete(&task_id, 0).await["error"], "task_complete_failed: stale_generation");
    assert_eq!(peer.complete("task-none", 1).await["error"], "task_complete_failed: not_found");
    assert_eq!(peer.complete(&task_id, 1).await["status"], "complete");
    assert_eq!(peer.complete(&task_id, 1).await["error"], "task_complete_failed: invalid_state");
    peer.say(json!({"type": "task_failed", "task_id": task_id, "generation": 1, "reason": "no"})).await;
    assert_eq!(peer.expect("error").await["error"], "task_fail_failed: invalid_state");
}

#[tokio::test]
async fn a_task_waits_for_an_agent_with_its_capabilities() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let (plain, able) = (hub.register("plain").await, hub.register("able").await);
    let mut plain = Peer::join(&hub, "plain", &plain, json!({})).await;
    let task_id = hub.submit(json!({"description": "d", "needed_capabilities": ["gpu"]})).await;
    assert_eq!(plain.drain().await, Vec::<Value>::new());
    let mut able = Peer::join(&hub, "able", &able, json!({"capabilities": ["code", {"name": "gpu"}]})).await;
    assert_eq!(able.expect("task_assign").await["task_id"], task_id.as_str());
}

#[tokio::test]
async fn a_rejected_task_goes_back_and_an_invalid_one_is_a_dead_letter() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let token = hub.register("a").await;
    let mut peer = Peer::join(&hub, "a", &token, json!({})).await;
    let task_id = hub.submit(json!({"description": "d"})).await;
    peer.expect("task_assign").await;
    peer.say(json!({"type": "task_rejected", "task_id": task_id, "generation": 1, "reason": "busy"})).await;
    let task = hub.task_until(&task_id, |task| task["generation"] == 2).await;
    assert_eq!(task["status"], "queued");
    // A changed state makes it eligible again: the answer to `status` comes, and the task after it.
    peer.say(json!({"type": "status", "status": "idle"})).await;
    peer.expect("status_updated").await;
    assert_eq!(peer.expect("task_assign").await["generation"], 3);
    peer.say(json!({"type": "task_rejected", "task_id": task_id, "generation": 3, "reason": "invalid"})).await;
    let task = hub.task_until(&task_id, |task| task["status"] == "dead_letter").await;
    assert_eq!(task["last_error"], "rejected as invalid by a");
}

#[tokio::test]
async fn a_cancelled_task_is_said_to_its_holder() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let token = hub.register("a").await;
    let mut peer = Peer::join(&hub, "a", &token, json!({})).await;
    let task_id = hub.submit(json!({"description": "d"})).await;
    peer.expect("task_assign").await;
    let (status, _) = hub.admin("POST", &format!("/api/tasks/{task_id}/cancel"), Value::Null).await;
    assert_eq!(status, 200);
    assert_eq!(peer.expect("task_cancelled").await["task_id"], task_id.as_str());
    assert_eq!(hub.task(&task_id).await["status"], "cancelled");
}

#[tokio::test]
async fn an_assignment_that_is_not_accepted_goes_to_another_agent() {
    let dir = folder();
    let hub = Hub::start(&dir, &["--accept-timeout-ms", "200"]);
    let (token_a, token_b) = (hub.register("a").await, hub.register("b").await);
    let mut a = Peer::join(&hub, "a", &token_a, json!({})).await;
    let task_id = hub.submit(json!({"description": "d"})).await;
    a.expect("task_assign").await;
    let mut b = Peer::join(&hub, "b", &token_b, json!({})).await;
    assert_eq!(b.expect("task_assign").await["generation"], 3);
    b.accept(&task_id).await;
    assert_eq!(hub.task(&task_id).await["assigned_to"], "b");
}

#[tokio::test]
async fn an_accepted_task_without_a_sign_of_life_is_taken_back() {
    let dir = folder();
    let hub = Hub::start(&dir, &["--stale-timeout-ms", "300"]);
    let token = hub.register("a").await;
    let mut a = Peer::join(&hub, "a", &token, run("boot-1")).await;
    let task_id = hub.submit(json!({"description": "d"})).await;
    a.expect("task_assign").await;
    a.accept(&task_id).await;
    let task = hub.task_until(&task_id, |task| task["generation"] == 2).await;
    assert_eq!(task["history"][0]["details"]["reason"], "stale");
}

#[tokio::test]
async fn the_newest_of_two_sockets_wins_and_keeps_the_job() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let token = hub.register("a").await;
    let mut older = Peer::join(&hub, "a", &token, run("boot-1")).await;
    let task_id = hub.submit(json!({"description": "d"})).await;
    older.expect("task_assign").await;
    older.accept(&task_id).await;
    let mut newer = Peer::join(&hub, "a", &token, run("boot-1")).await;
    assert!(older.expect_close(4001).await.contains("superseded"));
    newer.say(json!({"type": "state_report", "task_id": task_id, "generation": 1, "status": "working"})).await;
    assert_eq!(newer.expect("state_report_ack").await["action"], "continue");
    assert_eq!(newer.complete(&task_id, 1).await["status"], "complete");
    let next = hub.submit(json!({"description": "next"})).await;
    assert_eq!(newer.expect("task_assign").await["task_id"], next.as_str());
}

#[tokio::test]
async fn an_identify_that_is_read_late_does_not_cut_a_newer_socket_off() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let token = hub.register("a").await;
    let mut older = Peer::connect(&hub).await;
    let mut newer = Peer::join(&hub, "a", &token, run("boot-2")).await;
    older.say(identify("a", &token, run("boot-1"))).await;
    assert!(older.expect_close(4001).await.contains("superseded"));
    let task_id = hub.submit(json!({"description": "d"})).await;
    assert_eq!(newer.expect("task_assign").await["task_id"], task_id.as_str());
}

#[tokio::test]
async fn garbage_is_answered_and_hurts_nobody() {
    let dir = folder();
    let mut hub = Hub::start(&dir, &[]);
    let token = hub.register("a").await;
    let mut peer = Peer::join(&hub, "a", &token, json!({})).await;
    let deep = "[".repeat(100_000);
    for (text, error) in [
        ("nonsense", "invalid_json"),
        (deep.as_str(), "invalid_json"),
        ("[1]", "validation_failed"),
        ("{}", "validation_failed"),
        (r#"{"type":7}"#, "validation_failed"),
        (r#"{"type":"dance"}"#, "validation_failed"),
        (r#"{"type":"task_accepted","task_id":7}"#, "validation_failed"),
        (r#"{"type":"task_complete","task_id":"t","generation":-1}"#, "validation_failed"),
        (r#"{"type":"restart_ack","command_id":"c","outcome":"maybe"}"#, "validation_failed"),
    ] {
        peer.say_text(text).await;
        assert_eq!(peer.expect("error").await["error"], error, "{}", &text[..text.len().min(60)]);
    }
    peer.say(json!({"type": "ping"})).await;
    peer.expect("pong").await;
    assert!(!hub.has_ended());
}

#[tokio::test]
async fn the_tenth_invalid_frame_in_a_minute_closes_the_socket() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let token = hub.register("a").await;
    let mut peer = Peer::join(&hub, "a", &token, json!({})).await;
    for _ in 0..10 {
        peer.say_text(r#"{"type":"dance"}"#).await;
        let error = peer.expect("error").await;
        assert_eq!(error["message_type"], "dance");
        assert_eq!(error["errors"][0]["error"], "unknown_message_type");
    }
    assert_eq!(peer.expect_close(1008).await, "too many validation errors");
}

#[tokio::test]
async fn a_binary_frame_closes_only_its_own_socket() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let (token_a, token_b) = (hub.register("a").await, hub.register("b").await);
    let mut a = Peer::join(&hub, "a", &token_a, json!({})).await;
    let mut b = Peer::join(&hub, "b", &token_b, json!({})).await;
    a.say_binary(b"\x00\xff").await;
    a.expect_close(1003).await;
    b.say(json!({"type": "ping"})).await;
    b.expect("pong").await;
}

#[tokio::test]
async fn a_message_over_the_limit_ends_its_socket_and_not_the_hub() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let (token_a, token_b) = (hub.register("a").await, hub.register("b").await);
    let mut a = Peer::join(&hub, "a", &token_a, json!({})).await;
    let mut b = Peer::join(&hub, "b", &token_b, json!({})).await;
    a.say_too_much("x".repeat(5 << 20)).await;
    assert!(matches!(a.next().await, Got::Close(1009, _) | Got::End));
    b.say(json!({"type": "ping"})).await;
    b.expect("pong").await;
}

#[tokio::test]
async fn nobody_is_heard_before_identify() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let mut peer = Peer::connect(&hub).await;
    peer.say(json!({"type": "task_accepted", "task_id": "t"})).await;
    assert_eq!(peer.expect("error").await["error"], "not_identified");
    let token = hub.register("a").await;
    peer.say(identify("a", &token, json!({}))).await;
    peer.expect("identified").await;
}

#[tokio::test]
async fn a_wrong_token_is_told_so_and_closed() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let token = hub.register("a").await;
    for (agent_id, token, error) in
        [("a", "not-a-token", "invalid_token"), ("b", token.as_str(), "token_agent_mismatch")]
    {
        let mut peer = Peer::connect(&hub).await;
        peer.say(identify(agent_id, token, json!({}))).await;
        assert_eq!(peer.expect("error").await["error"], error);
        peer.expect_close(1008).await;
    }
    assert_eq!(hub.agent("a").await, None);
}

#[tokio::test]
async fn a_silent_socket_is_dropped_and_its_task_taken_back() {
    let dir = folder();
    let hub = Hub::start(&dir, &["--silence-timeout-ms", "400", "--reconnect-grace-ms", "200"]);
    let token = hub.register("a").await;
    let mut peer = Peer::join(&hub, "a", &token, json!({})).await;
    let task_id = hub.submit(json!({"description": "d"})).await;
    peer.expect("task_assign").await;
    peer.expect_close(1002).await;
    hub.task_until(&task_id, |task| task["status"] == "queued").await;
    assert_eq!(hub.agent("a").await, None);
}

#[tokio::test]
async fn a_close_frame_is_answered() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let token = hub.register("a").await;
    let peer = Peer::join(&hub, "a", &token, json!({})).await;
    // `close` waits for the answer, within its patience.
    peer.close().await;
    let begun = Instant::now();
    while hub.agent("a").await.is_some() {
        assert!(begun.elapsed() < PATIENCE, "the agent never left");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_agents_join_at_once_and_do_two_hundred_tasks() {
    let dir = folder();
    let hub = std::sync::Arc::new(Hub::start(&dir, &[]));
    // Nobody completes before everybody has a task: so each of them gets one.
    let all_assigned = std::sync::Arc::new(tokio::sync::Barrier::new(200));
    let mut joins = Vec::new();
    for n in 0..200 {
        let (hub, all_assigned) = (hub.clone(), all_assigned.clone());
        joins.push(tokio::spawn(async move {
            let id = format!("agent-{n}");
            let token = hub.register(&id).await;
            let mut peer = Peer::join(&hub, &id, &token, run("boot-1")).await;
            hub.submit(json!({"description": "d"})).await;
            let task_id = peer.expect("task_assign").await["task_id"].as_str().unwrap().to_owned();
            peer.accept(&task_id).await;
            all_assigned.wait().await;
            assert_eq!(peer.complete(&task_id, 1).await["status"], "complete");
            // Stays until the end, so that all two hundred are here at once.
            peer
        }));
    }
    let mut peers = Vec::new();
    for join in joins {
        peers.push(join.await.unwrap());
    }
    let (_, health) = hub.request("GET", "/health", None, Value::Null).await;
    assert_eq!(health["agents_connected"], 200);
    let (_, done) = hub.admin("GET", "/api/tasks?status=completed", Value::Null).await;
    assert_eq!(done["count"], 200);
}
