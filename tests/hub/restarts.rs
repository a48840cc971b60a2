//! Commanded restarts over real sockets: what the agent hears, who is fenced, and what the ledger says in the end.

use crate::support::{Hub, Peer, folder, node, run, step_names};
use serde_json::{Value, json};

async fn acknowledge(peer: &mut Peer, command: &Value, outcome: &str) {
    peer.say(json!({"type": "restart_ack", "command_id": command["command_id"], "outcome": outcome})).await;
}

async fn say_goodbye(peer: &mut Peer, command: &Value) {
    peer.say(json!({
        "type": "agent_restarting", "reason": command["reason"], "command_id": command["command_id"],
        "forced": false, "expected_back_ms": 50, "protocol_version": 1,
    }))
    .await;
}

#[tokio::test]
async fn a_restart_is_followed_from_the_command_to_the_return() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let token = hub.register("a").await;
    let mut peer = Peer::join(&hub, "a", &token, run("boot-1")).await;
    let answer = hub.restart("a", json!({"reason": "update", "deadline_ms": 60_000})).await;
    assert_eq!(answer["status"], "restart_commanded");
    assert_eq!((&answer["agent_id"], &answer["reason"]), (&json!("a"), &json!("update")));
    let command = peer.expect("restart_sidecar").await;
    assert_eq!(command["command_id"], answer["command_id"]);
    assert_eq!((&command["deadline_ms"], &command["by"]), (&json!(60_000), &json!("ops")));
    acknowledge(&mut peer, &command, "accepted").await;
    say_goodbye(&mut peer, &command).await;
    peer.close().await;
    hub.restart_until("a", "exiting").await;
    assert_eq!(hub.agent("a").await.unwrap()["fsm_state"], "restarting");
    let restarted = json!({"command_id": command["command_id"], "reason": "update", "forced": false, "gap_ms": 31});
    let mut more = run("boot-2");
    more["restarted"] = restarted;
    let _peer = Peer::join(&hub, "a", &token, more).await;
    let restart = hub.restart_until("a", "back").await;
    assert_eq!(step_names(&restart), ["commanded", "delivered", "accepted", "draining", "exiting", "back"]);
    let times: Vec<u64> =
        restart["steps"].as_array().unwrap().iter().map(|step| step["at_ms"].as_u64().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!(restart["gap_ms"].as_u64(), Some(times[5] - times[3]));
    assert_eq!(restart["reported_gap_ms"], 31);
    assert_eq!((&restart["boot_before"], &restart["boot_after"]), (&json!("boot-1"), &json!("boot-2")));
    assert_eq!(hub.agent("a").await.unwrap()["fsm_state"], "idle");
}

#[tokio::test]
async fn a_fenced_agent_gets_no_task_before_it_is_back() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let token = hub.register("a").await;
    let mut peer = Peer::join(&hub, "a", &token, run("boot-1")).await;
    hub.restart("a", Value::Null).await;
    let task_id = hub.submit(json!({"description": "d"})).await;
    let command = peer.expect("restart_sidecar").await;
    assert_eq!(command["reason"], "admin_commanded");
    assert_eq!(peer.drain().await, Vec::<Value>::new());
    say_goodbye(&mut peer, &command).await;
    assert_eq!(peer.drain().await, Vec::<Value>::new());
    assert_eq!(hub.task(&task_id).await["status"], "queued");
    drop(peer);
    let mut peer = Peer::join(&hub, "a", &token, run("boot-2")).await;
    assert_eq!(peer.expect("task_assign").await["generation"], 1);
}

#[tokio::test]
async fn a_second_command_is_the_first_and_is_not_sent() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let token = hub.register("a").await;
    let mut peer = Peer::join(&hub, "a", &token, run("boot-1")).await;
    let first = hub.restart("a", json!({"reason": "one"})).await;
    for _ in 0..20 {
        let again = hub.restart("a", json!({"reason": "two"})).await;
        assert_eq!((&again["command_id"], &again["reason"]), (&first["command_id"], &json!("one")));
    }
    peer.expect("restart_sidecar").await;
    assert_eq!(peer.drain().await, Vec::<Value>::new());
    let (_, ledger) = hub.admin("GET", "/api/admin/agents/a/restarts", Value::Null).await;
    assert_eq!(ledger["restarts"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn force_is_sent_once_more_under_the_same_name() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let token = hub.register("a").await;
    let mut peer = Peer::join(&hub, "a", &token, run("boot-1")).await;
    let first = hub.restart("a", Value::Null).await;
    assert_eq!(peer.expect("restart_sidecar").await.get("force"), None);
    let forced = hub.restart("a", json!({"force": true})).await;
    assert_eq!(forced["command_id"], first["command_id"]);
    let frame = peer.expect("restart_sidecar").await;
    assert_eq!((&frame["command_id"], &frame["force"]), (&first["command_id"], &json!(true)));
    hub.restart("a", json!({"force": true})).await;
    assert_eq!(peer.drain().await, Vec::<Value>::new());
}

#[tokio::test]
async fn a_planned_absence_keeps_the_task_under_its_generation() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let token = hub.register("a").await;
    let mut peer = Peer::join(&hub, "a", &token, run("boot-1")).await;
    let task_id = hub.submit(json!({"description": "d"})).await;
    peer.expect("task_assign").await;
    peer.accept(&task_id).await;
    hub.restart("a", json!({"force": true})).await;
    let command = peer.expect("restart_sidecar").await;
    acknowledge(&mut peer, &command, "accepted").await;
    say_goodbye(&mut peer, &command).await;
    peer.close().await;
    hub.restart_until("a", "exiting").await;
    let task = hub.task(&task_id).await;
    assert_eq!((&task["status"], &task["generation"]), (&json!("assigned"), &json!(1)));
    let mut peer = Peer::join(&hub, "a", &token, run("boot-2")).await;
    peer.say(json!({"type": "task_recovering", "task_id": task_id, "last_status": "working"})).await;
    assert_eq!(peer.expect("task_continue").await["generation"], 1);
    assert_eq!(peer.complete(&task_id, 1).await["status"], "complete");
}

#[tokio::test]
async fn what_never_returns_is_overdue_its_task_moves_on_and_a_late_return_is_still_told() {
    let dir = folder();
    let flags = ["--restart-deadline-ms", "100", "--drain-deadline-ms", "50", "--restart-margin-ms", "150"];
    let hub = Hub::start(&dir, &flags);
    let (token_a, token_b) = (hub.register("a").await, hub.register("b").await);
    let mut a = Peer::join(&hub, "a", &token_a, run("boot-1")).await;
    let task_id = hub.submit(json!({"description": "d"})).await;
    a.expect("task_assign").await;
    a.accept(&task_id).await;
    let mut b = Peer::join(&hub, "b", &token_b, run("boot-b")).await;
    hub.restart("a", Value::Null).await;
    drop(a);
    hub.restart_until("a", "overdue").await;
    assert_eq!(b.expect("task_assign").await["generation"], 3);
    let _a = Peer::join(&hub, "a", &token_a, run("boot-2")).await;
    let restart = hub.restart_until("a", "back").await;
    assert_eq!(restart["steps"].as_array().unwrap().last().unwrap()["detail"]["late"], true);
}

#[tokio::test]
async fn a_refusal_is_an_end_and_the_agent_works_on() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let token = hub.register("a").await;
    let mut peer = Peer::join(&hub, "a", &token, run("boot-1")).await;
    hub.restart("a", Value::Null).await;
    let command = peer.expect("restart_sidecar").await;
    let id = &command["command_id"];
    peer.say(json!({"type": "restart_ack", "command_id": id, "outcome": "refused", "detail": "3 in 60 s"})).await;
    let restart = hub.restart_until("a", "refused").await;
    let last = restart["steps"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(last["detail"]["detail"], "3 in 60 s");
    hub.submit(json!({"description": "d"})).await;
    peer.expect("task_assign").await;
}

#[tokio::test]
async fn an_original_sidecar_is_restarted_as_it_is_used_to() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let token = hub.register("s2").await;
    let mut peer = Peer::join(&hub, "s2", &token, node(0)).await;
    let task_id = hub.submit(json!({"description": "start=0.2 run=8"})).await;
    peer.expect("task_assign").await;
    peer.accept(&task_id).await;
    hub.restart("s2", json!({"reason": "while_working"})).await;
    assert_eq!(peer.expect("restart_sidecar").await, json!({"type": "restart_sidecar", "reason": "while_working"}));
    // It finishes its task first, announces, and vanishes without a close frame.
    assert_eq!(peer.complete(&task_id, 1).await["status"], "complete");
    peer.say(json!({"type": "agent_restarting", "reason": "while_working", "protocol_version": 1})).await;
    assert_eq!(peer.drain().await, Vec::<Value>::new());
    drop(peer);
    hub.restart_until("s2", "exiting").await;
    let _peer = Peer::join(&hub, "s2", &token, node(1)).await;
    let restart = hub.restart_until("s2", "back").await;
    assert!(restart["gap_ms"].is_u64(), "{restart}");
}

#[tokio::test]
async fn an_absent_agent_cannot_be_commanded() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let (status, body) = hub.admin("POST", "/api/admin/agents/nobody/restart", Value::Null).await;
    assert_eq!(status, 404);
    assert_eq!((&body["error"], &body["agent_id"]), (&json!("agent_not_connected"), &json!("nobody")));
}

#[tokio::test]
async fn a_command_survives_kill_9_of_the_hub_and_is_sent_again_to_the_same_run() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let token = hub.register("a").await;
    let mut peer = Peer::join(&hub, "a", &token, run("boot-1")).await;
    let answer = hub.restart("a", json!({"reason": "update"})).await;
    peer.expect("restart_sidecar").await;
    hub.kill_9();
    let hub = Hub::start(&dir, &[]);
    assert_eq!(hub.agent("a").await.unwrap()["fsm_state"], "restarting");
    let mut peer = Peer::join(&hub, "a", &token, run("boot-1")).await;
    let again = peer.expect("restart_sidecar").await;
    assert_eq!((&again["command_id"], &again["reason"]), (&answer["command_id"], &json!("update")));
    acknowledge(&mut peer, &again, "duplicate").await;
    hub.restart_until("a", "accepted").await;
}

#[tokio::test]
async fn a_command_whose_agent_returned_while_the_hub_was_dead_is_back_and_not_sent_again() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let token = hub.register("a").await;
    let mut peer = Peer::join(&hub, "a", &token, run("boot-1")).await;
    hub.restart("a", Value::Null).await;
    let command = peer.expect("restart_sidecar").await;
    acknowledge(&mut peer, &command, "accepted").await;
    hub.restart_until("a", "accepted").await;
    hub.kill_9();
    let hub = Hub::start(&dir, &[]);
    let mut peer = Peer::join(&hub, "a", &token, run("boot-2")).await;
    hub.restart_until("a", "back").await;
    assert_eq!(peer.drain().await, Vec::<Value>::new());
}

#[tokio::test]
async fn a_run_that_has_answered_does_not_hear_the_command_again_after_kill_9_of_the_hub() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let token = hub.register("a").await;
    let mut peer = Peer::join(&hub, "a", &token, run("boot-1")).await;
    hub.restart("a", Value::Null).await;
    let command = peer.expect("restart_sidecar").await;
    acknowledge(&mut peer, &command, "accepted").await;
    hub.restart_until("a", "accepted").await;
    hub.kill_9();
    let hub = Hub::start(&dir, &[]);
    let mut peer = Peer::join(&hub, "a", &token, run("boot-1")).await;
    assert_eq!(peer.drain().await, Vec::<Value>::new());
    assert_eq!(hub.agent("a").await.unwrap()["fsm_state"], "restarting");
}
