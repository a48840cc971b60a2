//! `restart` and `restarts`.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cli::{command, json_of, printed, run, said, started};
use crate::support::{Hub, Peer, folder, run as boot};

async fn acknowledge(peer: &mut Peer, command: &Value, outcome: &str) {
    let detail = (outcome == "refused").then_some("pm2 would not bring it back");
    peer.say(json!({"type": "restart_ack", "command_id": command["command_id"], "outcome": outcome, "detail": detail}))
        .await;
}

/// The agent restarts as it was told.
async fn comply(hub: &Hub, mut peer: Peer, token: &str, next_boot: &str) -> Peer {
    let command = peer.expect("restart_sidecar").await;
    acknowledge(&mut peer, &command, "accepted").await;
    peer.say(json!({
        "type": "agent_restarting", "reason": command["reason"], "command_id": command["command_id"],
        "forced": false, "expected_back_ms": 50, "protocol_version": 1,
    }))
    .await;
    peer.close().await;
    hub.restart_until("a", "exiting").await;
    let mut more = boot(next_boot);
    more["restarted"] =
        json!({"command_id": command["command_id"], "reason": command["reason"], "forced": false, "gap_ms": 31});
    Peer::join(hub, "a", token, more).await
}

async fn hub_with_a(dir: &TempDir) -> (Hub, String, Peer) {
    let hub = Hub::start(dir, &[]);
    let token = hub.register("a").await;
    let peer = Peer::join(&hub, "a", &token, boot("boot-1")).await;
    (hub, token, peer)
}

#[tokio::test]
async fn a_restart_is_waited_for_and_why_it_was_is_one_command() {
    let dir = folder();
    let (hub, token, peer) = hub_with_a(&dir).await;
    let wait = started(command(&dir, &["restart", "a", "--reason", "new disks", "--deadline", "1m", "--wait"]));
    let _peer = comply(&hub, peer, &token, "boot-2").await;
    let output = wait.await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(said(&output).contains("a: back after"), "{output:?}");
    let told = printed(&dir, &["restarts", "--agent", "a", "--since", "24h"]);
    assert!(told.contains("back") && told.contains("new disks") && told.contains("uid:"), "{told}");
    let page = printed(&dir, &["agent", "a"]);
    assert!(page.contains("planned, restart_commanded") && page.contains("commanded by uid:"), "{page}");
    assert!(page.contains(": new disks") && !page.contains("commands "), "{page}");
    let list = json_of(&dir, &["restarts", "--state", "back", "--json"]);
    assert_eq!((&list[0]["agent_id"], &list[0]["deadline_ms"]), (&json!("a"), &json!(60_000)));
    assert_eq!(json_of(&dir, &["restarts", "--open", "--json"]), json!([]));
    for wrong in [&["restarts", "--state", "gone"][..], &["restarts", "--since", "yesterday"]] {
        assert_eq!(run(&dir, wrong).status.code(), Some(2), "{wrong:?}");
    }
}

#[tokio::test]
async fn one_that_is_refused_or_skipped_is_told_by_the_exit_code() {
    let dir = folder();
    let (hub, _token, mut peer) = hub_with_a(&dir).await;
    hub.register("b").await;
    let wait = started(command(&dir, &["restart", "all", "--wait", "--json"]));
    let command_ = peer.expect("restart_sidecar").await;
    acknowledge(&mut peer, &command_, "refused").await;
    let output = wait.await.unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let lines: Vec<Value> =
        String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["matched"], &lines[0]["skipped"][0]["agent_id"]), (&json!(2), &json!("b")), "{lines:?}");
    assert_eq!((lines.len(), &lines[1]["state"]), (2, &json!("refused")), "{lines:?}");
    assert!(printed(&dir, &["restarts"]).contains("refused: pm2 would not bring it back"));
    let skipped = run(&dir, &["restart", "b"]);
    assert_eq!((skipped.status.code(), said(&skipped).contains("not connected")), (Some(1), true), "{skipped:?}");
    assert_eq!(run(&dir, &["restart", "nobody", "--wait"]).status.code(), Some(1));
    assert_eq!(run(&dir, &["restart", "colour=red"]).status.code(), Some(2));
    assert_eq!(run(&dir, &["restart"]).status.code(), Some(2));
    assert_eq!(run(&dir, &["restart", "a", "--timeout", "1s"]).status.code(), Some(2));
}

#[tokio::test]
async fn a_dry_run_commands_nothing_and_a_time_limit_leaves_the_restart_open() {
    let dir = folder();
    let (hub, _token, mut peer) = hub_with_a(&dir).await;
    let plan = printed(&dir, &["restart", "all", "--dry-run"]);
    assert!(plan.contains("would be commanded"), "{plan}");
    assert_eq!(json_of(&dir, &["restarts", "--json"]), json!([]));
    let late = run(&dir, &["restart", "a", "--wait", "--timeout", "1s"]);
    assert_eq!(late.status.code(), Some(124), "{late:?}");
    assert_eq!(peer.expect("restart_sidecar").await["reason"], hub.newest_restart("a").await["reason"]);
    assert_eq!(json_of(&dir, &["restarts", "--open", "--json"]).as_array().unwrap().len(), 1);
    assert!(printed(&dir, &["restart", "a"]).contains("goes on already"));
}

#[tokio::test]
async fn a_restart_is_waited_for_over_a_restart_of_the_hub() {
    let dir = folder();
    let (hub, token, mut peer) = hub_with_a(&dir).await;
    let wait = started(command(&dir, &["restart", "a", "--wait"]));
    let told = peer.expect("restart_sidecar").await;
    acknowledge(&mut peer, &told, "accepted").await;
    hub.restart_until("a", "accepted").await;
    hub.kill_9();
    let hub = Hub::start(&dir, &[]);
    let _peer = Peer::join(&hub, "a", &token, boot("boot-2")).await;
    let output = wait.await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}
