//! The hub on a disk that takes no more: it ends rather than go on with what is not stored, and loses nothing that it
//! answered.

use std::process::Command;
use std::sync::Arc;

use crate::support::{Hub, Peer, folder, hub_command, run};
use serde_json::{Value, json};

/// A hub whose files may have so many KiB. A write beyond that fails, as on a full disk.
fn limited(kib: u32) -> Command {
    let mut command = Command::new("sh");
    // Dash counts in 512 bytes. Left alone, the signal would end the process; ignored, the write fails.
    let line = format!("trap '' XFSZ; ulimit -f {}; exec \"$@\"", kib * 2);
    command.args(["-c", &line, "sh"]).arg(hub_command().get_program());
    command
}

#[tokio::test]
async fn a_full_disk_is_exit_74_and_costs_nothing_that_was_answered() {
    let dir = folder();
    let hub = Arc::new(Hub::start_by(limited(4_096), &dir, &[]));
    let agent = hub.register("a").await;
    let mut peer = Peer::join(&hub, "a", &agent, run("boot-1")).await;
    let held = hub.submit(json!({"description": "held"})).await;
    peer.expect("task_assign").await;
    peer.accept(&held).await;
    let large = json!({"description": "d", "metadata": {"padding": "x".repeat(200_000)}});
    let mut answered = vec![held.clone()];
    loop {
        let (hub, large) = (Arc::clone(&hub), large.clone());
        // The submission that finds the disk full gets no answer, or one that is no 201: it was not stored.
        match tokio::spawn(async move { hub.submit(large).await }).await {
            Ok(task_id) => answered.push(task_id),
            Err(_) => break,
        }
        assert!(answered.len() < 1_000, "the disk is never full");
    }
    let mut hub = Arc::into_inner(hub).unwrap();
    assert_eq!(hub.wait(), Some(74));
    drop(hub);
    let hub = Hub::start(&dir, &[]);
    for task_id in &answered {
        assert_eq!(hub.task(task_id).await["id"], json!(task_id));
    }
    let task = hub.task(&held).await;
    assert_eq!((&task["status"], &task["accepted"]), (&json!("assigned"), &json!(true)));
    assert!(answered.len() > 3, "only {} were answered", answered.len());
    assert_eq!(hub.request("GET", "/api/tasks", Some(&agent), Value::Null).await.0, 200);
}

#[test]
fn a_token_that_could_not_be_stored_is_not_printed() {
    let dir = folder();
    // There is room for the empty store and hardly more.
    let mut made = 0;
    let failed = loop {
        let output = limited(100)
            .args(["token", &format!("agent-{made}"), "--init", "--data"])
            .arg(dir.path())
            .output()
            .unwrap();
        if !output.status.success() {
            break output;
        }
        made += 1;
        assert!(made < 2_000, "the disk is never full");
    };
    assert_eq!(failed.status.code(), Some(74), "{failed:?}");
    assert!(failed.stdout.is_empty() && String::from_utf8_lossy(&failed.stderr).contains("free space"), "{failed:?}");
}
