//! `submit`, `tasks`, `task`, `cancel`, `retry` and `events`.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::cli::{command, json_of, printed, run, said, started};
use crate::support::{Hub, PATIENCE, Peer, folder, run as boot};

#[tokio::test]
async fn a_task_is_submitted_listed_shown_cancelled_and_retried() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let file = dir.path().join("metadata.json");
    std::fs::write(&file, r#"{"build": 7}"#).unwrap();
    let metadata = format!("@{}", file.display());
    let args = ["submit", "Build\nit", "--priority", "high", "--capability", "gpu", "--metadata", &metadata];
    let id = printed(&dir, &[&args[..], &["--time-limit", "30m"]].concat()).trim().to_owned();
    let task = hub.task(&id).await;
    assert_eq!(task["timeout_ms"], json!(1_800_000));
    assert_eq!((&task["metadata"], &task["needed_capabilities"]), (&json!({"build": 7}), &json!(["gpu"])));
    let list = printed(&dir, &["tasks", "--status", "queued", "--priority", "high"]);
    assert_eq!(list.lines().count(), 2, "a description stays on its line: {list}");
    assert!(list.contains(&id) && list.contains("an agent with gpu, which none has") && list.contains("Build it"));
    assert_eq!(json_of(&dir, &["tasks", "--json"])[0]["id"], id.as_str());
    let page = printed(&dir, &["task", &id]);
    assert!(page.contains("priority high") && page.contains("queued:") && page.contains("waits for"), "{page}");
    assert_eq!(json_of(&dir, &["task", &id, "--json"])["task_id"], id.as_str());
    assert!(printed(&dir, &["cancel", &id]).contains("cancelled"));
    for (args, code, word) in [
        (&["cancel", id.as_str()][..], 1, "ended already"),
        (&["retry", &id], 1, "only a dead letter"),
        (&["cancel", "task-none"], 1, "agentcom-hub tasks"),
        (&["task", "task-none"], 1, "agentcom-hub tasks"),
        (&["task", "task-none", "--follow"], 1, "agentcom-hub tasks"),
        (&["submit", "d", "--max-retries", "x"], 2, "--max-retries"),
        (&["submit", "d", "--priority", "soon"], 2, "priority"),
        (&["submit", "d", "--metadata", "[1]"], 2, "JSON object"),
        (&["submit", "d", "--metadata", "@/nowhere"], 2, "/nowhere"),
        (&["tasks", "--status", "lost"], 2, "status"),
        (&["tasks", "--limit", "0"], 2, "--limit"),
        (&["task", &id, "--timeout", "1s"], 2, "--follow"),
    ] {
        let output = run(&dir, args);
        assert_eq!((output.status.code(), said(&output).contains(word)), (Some(code), true), "{args:?}: {output:?}");
    }
}

#[tokio::test]
async fn a_submit_with_a_key_of_its_own_is_made_once() {
    let dir = folder();
    let _hub = Hub::start(&dir, &[]);
    let args = ["submit", "d", "--idempotency-key", "nightly-1"];
    assert_eq!(printed(&dir, &args), printed(&dir, &args));
    assert_eq!(json_of(&dir, &["tasks", "--json"]).as_array().unwrap().len(), 1);
    let other = run(&dir, &["submit", "another", "--idempotency-key", "nightly-1"]);
    assert_eq!((other.status.code(), said(&other).contains("Idempotency-Key")), (Some(1), true), "{other:?}");
}

#[tokio::test]
async fn lists_are_read_to_their_end() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    for n in 0..1_005 {
        hub.submit(json!({"description": format!("{n}")})).await;
    }
    assert_eq!(json_of(&dir, &["tasks", "--limit", "2000", "--json"]).as_array().unwrap().len(), 1_005);
    let first = run(&dir, &["tasks", "--json"]);
    assert_eq!(serde_json::from_slice::<Vec<Value>>(&first.stdout).unwrap().len(), 1_000);
    assert!(said(&first).contains("there are more"), "{}", String::from_utf8_lossy(&first.stderr));
}

#[tokio::test]
async fn a_task_is_followed_until_it_has_ended() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let token = hub.register("a").await;
    let follow = started(command(&dir, &["submit", "d", "--follow"]));
    let mut peer = Peer::join(&hub, "a", &token, boot("boot-1")).await;
    let assigned = peer.expect("task_assign").await;
    let id = assigned["task_id"].as_str().unwrap().to_owned();
    peer.accept(&id).await;
    peer.complete(&id, assigned["generation"].as_u64().unwrap()).await;
    let output = follow.await.unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let at = |word: &str| text.find(word).unwrap_or_else(|| panic!("no {word}: {text}"));
    assert!(at(&id) < at("queued:") && at("queued:") < at("assigned:") && at("assigned:") < at("completed:"), "{text}");
    assert_eq!(text.matches("assigned:").count(), 1, "{text}");
    // What has ended is told at once, also where no hub runs.
    hub.kill_9();
    let json = printed(&dir, &["task", &id, "--follow", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["status"], "completed");
}

#[tokio::test]
async fn a_task_that_does_not_end_well_or_in_time_is_told_by_the_exit_code() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let id = hub.submit(json!({"description": "d"})).await;
    let late = run(&dir, &["task", &id, "--follow", "--timeout", "1s"]);
    assert_eq!(late.status.code(), Some(124), "{late:?}");
    let follow = started(command(&dir, &["task", &id, "--follow"]));
    assert!(run(&dir, &["cancel", &id]).status.success());
    let output = follow.await.unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said(&output).contains("cancelled"), "{output:?}");
}

#[tokio::test]
async fn a_task_is_followed_over_a_restart_of_the_hub() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let id = hub.submit(json!({"description": "d"})).await;
    let mut child = command(&dir, &["task", &id, "--follow"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.next().unwrap().contains("queued"));
    hub.kill_9();
    let _hub = Hub::start(&dir, &[]);
    assert!(run(&dir, &["cancel", &id]).status.success());
    let ended = tokio::task::spawn_blocking(move || (lines.collect::<Vec<_>>(), child.wait().unwrap()));
    let (rest, status) = tokio::time::timeout(PATIENCE, ended).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(1), "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("cancelled")), "{rest:?}");
}

#[tokio::test]
async fn events_are_told_as_they_happen() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let mut child = command(&dir, &["events", "--json", "--kind", "task"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let first = tokio::task::spawn_blocking(move || lines.next());
    // It may be there before the events are followed.
    let begun = std::time::Instant::now();
    while !first.is_finished() {
        assert!(begun.elapsed() < PATIENCE, "no event came");
        hub.submit(json!({"description": "d"})).await;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let event: Value = serde_json::from_str(&first.await.unwrap().unwrap()).unwrap();
    assert_eq!((&event["event"], &event["data"]["status"]), (&json!("task"), &json!("queued")), "{event}");
    assert!(event["id"].is_string(), "{event}");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(run(&dir, &["events", "--timeout", "1s"]).status.code(), Some(124));
    assert_eq!(run(&dir, &["events", "--kind", "weather"]).status.code(), Some(2));
}
