//! `drain` and `resume`.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cli::{command, json_of, printed, run, said, started};
use crate::support::{Hub, Peer, folder, run as boot};

/// A hub with `a`, which works on the task that is returned, and `b`, which is idle.
async fn fleet(dir: &TempDir) -> (Hub, [Peer; 2], [String; 2], String) {
    let hub = Hub::start(dir, &[]);
    let tokens = [hub.register("a").await, hub.register("b").await];
    let mut a = Peer::join(&hub, "a", &tokens[0], boot("boot-1")).await;
    let task_id = hub.submit(json!({"description": "d", "assign_to": "a"})).await;
    a.expect("task_assign").await;
    a.accept(&task_id).await;
    let b = Peer::join(&hub, "b", &tokens[1], boot("boot-1")).await;
    (hub, [a, b], tokens, task_id)
}

/// Waits until the agent is drained from the hub.
async fn until_drained(hub: &Hub, admin: &str, agent_id: &str) {
    let begun = std::time::Instant::now();
    loop {
        let (_, agent) = hub.request("GET", &format!("/api/v1/agents/{agent_id}"), Some(admin), Value::Null).await;
        if agent["drain"]["hub"].is_object() {
            return;
        }
        assert!(begun.elapsed() < crate::support::PATIENCE, "never drained: {agent}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_drain_is_waited_for_over_a_restart_of_the_hub_until_nobody_holds_a_task() {
    let dir = folder();
    let (hub, _peers, tokens, task_id) = fleet(&dir).await;
    let wait = started(command(&dir, &["drain", "all", "--reason", "new disks", "--until", "2h", "--wait"]));
    let admin = hub.admin.clone();
    until_drained(&hub, &admin, "a").await;
    let page = printed(&dir, &["agent", "a"]);
    assert!(page.contains("by uid:") && page.contains("until 2") && page.contains(": new disks"), "{page}");
    let table = printed(&dir, &["agents", "b"]);
    assert!(table.contains("connected, drained by uid:"), "{table}");
    hub.kill_9();
    let hub = Hub::start(&dir, &[]);
    let mut a = Peer::join(&hub, "a", &tokens[0], boot("boot-1")).await;
    a.say(json!({"type": "state_report", "task_id": task_id, "status": "working"})).await;
    a.expect("state_report_ack").await;
    let generation = hub.request("GET", &format!("/api/tasks/{task_id}"), Some(&admin), Value::Null).await.1;
    a.complete(&task_id, generation["generation"].as_u64().unwrap()).await;
    let output = wait.await.unwrap();
    let told = said(&output);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(told.contains("a: drained\nb: drained\n2 of 2 changed\n"), "{told}");
    assert!(told.contains("b: holds no task; 1 to wait for\na: holds no task; 0 to wait for\n"), "{told}");
    let resumed = printed(&dir, &["resume", "a,b", "--reason", "done"]);
    assert_eq!(resumed, "a: takes tasks again\nb: takes tasks again\n2 of 2 changed\n");
    assert!(printed(&dir, &["resume", "a"]).contains("a: was not drained from the hub\n0 of 1 changed"));
    let entries = printed(&dir, &["audit", "--target", "a", "--action", "agent_drained"]);
    assert!(entries.contains("because new disks"), "{entries}");
}

#[tokio::test]
async fn at_the_deadline_it_says_who_still_works_and_takes_nothing_back() {
    let dir = folder();
    let (hub, _peers, _tokens, task_id) = fleet(&dir).await;
    let output = run(&dir, &["drain", "a,b", "--deadline", "1s", "--wait"]);
    let told = said(&output);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(told.contains(&format!("a: still holds {task_id} at the deadline; 0 to wait for")), "{told}");
    let task = hub.task(&task_id).await;
    assert_eq!((&task["status"], &task["assigned_to"]), (&json!("assigned"), &json!("a")));
    let page = printed(&dir, &["agent", "a"]);
    assert!(page.contains("has passed, and it still holds a task"), "{page}");
    // What is asked for goes on after the time limit, and one that is resumed meanwhile did not end well.
    let late = run(&dir, &["drain", "a", "--wait", "--timeout", "1s"]);
    assert_eq!(late.status.code(), Some(124), "{late:?}");
    let mut wait = command(&dir, &["drain", "a", "--wait", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(wait.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(next()["unchanged"], json!(["a"]));
    assert_eq!(json_of(&dir, &["resume", "a", "--json"])["changed"], json!(["a"]));
    let resumed = next();
    assert_eq!((&resumed["agent_id"], &resumed["drain"]["hub"]), (&json!("a"), &Value::Null));
    assert_eq!(wait.wait().unwrap().code(), Some(1));
}

#[tokio::test]
async fn what_it_ends_with_says_whether_all_that_were_meant_are_drained() {
    let dir = folder();
    let (hub, _peers, _tokens, _task) = fleet(&dir).await;
    hub.register("never").await;
    let skipped = run(&dir, &["drain", "all"]);
    assert_eq!((skipped.status.code(), said(&skipped).contains("never: skipped")), (Some(1), true), "{skipped:?}");
    assert_eq!(run(&dir, &["drain", "status=stale"]).status.code(), Some(1));
    assert_eq!(run(&dir, &["drain", "colour=red"]).status.code(), Some(2));
    assert_eq!(run(&dir, &["drain", "a", "--until", "soon"]).status.code(), Some(2));
    assert_eq!(run(&dir, &["drain", "a", "--timeout", "1s"]).status.code(), Some(2));
    assert_eq!(run(&dir, &["drain"]).status.code(), Some(2));
    assert_eq!(run(&dir, &["resume"]).status.code(), Some(2));
}
