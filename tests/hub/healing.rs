//! Healing rules in a real hub: a stuck agent is restarted by a rule that acts and told of by one that observes; the file is
//! read again, and a wrong one changes nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Hub, PATIENCE, Peer, folder, hub_command, run};
use crate::v1::Events;

/// Writes a file of rules beside the store, as an editor that replaces it does.
fn write_rules(dir: &TempDir, text: &str) -> PathBuf {
    let (path, new) = (dir.path().join("healing.json"), dir.path().join("healing.json.new"));
    fs::write(&new, text).unwrap();
    fs::rename(&new, &path).unwrap();
    path
}

fn rules() -> Value {
    let stuck = |name: &str, pool: &str, act: bool| {
        json!({"name": name, "selector": {"labels": {"pool": pool}}, "when": {"task_silent_ms": 1_000}, "for_ms": 0,
            "action": "restart", "act": act})
    };
    json!({"rules": [stuck("stuck", "old", true), stuck("watched", "new", false)]})
}

/// An agent that has accepted a task and says nothing of it any more.
async fn stuck(hub: &Hub, name: &str, pool: &str) -> (String, Peer) {
    let token = hub.register(name).await;
    let mut more = run("b1");
    more["labels"] = json!({"pool": pool});
    let mut peer = Peer::join(hub, name, &token, more).await;
    let task_id = hub.submit(json!({"description": "d", "assign_to": name})).await;
    peer.expect("task_assign").await;
    peer.accept(&task_id).await;
    (token, peer)
}

/// The next event of a healing rule.
async fn told(events: &mut Events) -> Value {
    loop {
        let (_, kind, data) = events.next().await.unwrap();
        if kind == "healing" {
            return data;
        }
    }
}

/// Waits until the status is as `done` wants it.
async fn status_until(hub: &Hub, admin: &str, done: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let (code, status) = hub.request("GET", "/api/v1/healing", Some(admin), Value::Null).await;
        assert_eq!(code, 200, "{status}");
        if done(&status) {
            return status;
        }
        assert!(begun.elapsed() < PATIENCE, "it stayed {status}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn healing(dir: &Path, args: &[&str]) -> (Option<i32>, String) {
    let output = hub_command().arg("healing").args(args).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code(), said.replace(dir.to_str().unwrap(), "DIR"))
}

#[tokio::test]
async fn a_stuck_agent_is_restarted_by_a_rule_that_acts_and_told_of_by_one_that_observes() {
    let dir = folder();
    let file = write_rules(&dir, &rules().to_string());
    let flags = ["--healing", file.to_str().unwrap()];
    let hub = Hub::start(&dir, &flags);
    let mut events = Events::open(&hub, None).await;
    let (token, mut old) = stuck(&hub, "a", "old").await;
    let (_, mut new) = stuck(&hub, "b", "new").await;
    let (first, second) = (told(&mut events).await, told(&mut events).await);
    let (acted, seen) = if first["what"] == "acted" { (first, second) } else { (second, first) };
    let named =
        |event: &Value| ["rule", "what", "action", "agent_id"].map(|field| event[field].as_str().unwrap().to_owned());
    assert_eq!(named(&acted), ["stuck", "acted", "restart", "a"], "{acted}");
    assert_eq!(named(&seen), ["watched", "told", "restart", "b"], "{seen}");
    let command = old.expect("restart_sidecar").await;
    assert_eq!((&command["by"], &command["command_id"]), (&json!("rule:stuck"), &acted["command_id"]), "{command}");
    assert!(command["reason"].as_str().unwrap().contains("no sign of life"), "{command}");
    assert_eq!(new.drain().await, Vec::<Value>::new());
    let (_, audit) = hub.admin("GET", "/api/v1/audit?action=restart_commanded", Value::Null).await;
    let entry = &audit["items"][0];
    assert_eq!((&entry["who"], &entry["via"], &entry["target"]), (&json!("rule:stuck"), &json!("rule"), &json!("a")));
    assert_eq!((&entry["selector"], &entry["new"]), (&json!("label.pool=old"), &command["command_id"]), "{audit}");
    assert_eq!(audit["items"].as_array().unwrap().len(), 1, "{audit}");
    let admin = hub.admin.clone();
    hub.kill_9();

    // The agent is back, and stuck again: the rule remembers what it did.
    let hub = Hub::start(&dir, &flags);
    let mut more = run("b2");
    more["labels"] = json!({"pool": "old"});
    let mut old = Peer::join(&hub, "a", &token, more).await;
    let (_, tasks) = hub.request("GET", "/api/v1/tasks?assigned_to=a", Some(&admin), Value::Null).await;
    let task_id = tasks["items"][0]["id"].as_str().unwrap();
    old.say(json!({"type": "task_recovering", "task_id": task_id, "last_status": "working"})).await;
    old.expect("task_continue").await;
    let status = status_until(&hub, &admin, |status| status["rules"][0]["agents"][0]["held_back"] == "cooldown").await;
    assert_eq!(status["rules"][0]["last_actions"][0]["command_id"], command["command_id"], "{status}");
    assert_eq!(old.drain().await, Vec::<Value>::new());
    let (code, said) = healing(dir.path(), &["--data", dir.path().to_str().unwrap()]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("watched  observes (restart)") && said.contains("(held back: cooldown)"), "{said}");
    assert!(said.contains("DIR/healing.json: 2 rules, read "), "{said}");
}

#[tokio::test]
async fn a_file_that_changes_is_read_again_and_a_wrong_one_leaves_the_rules_as_they_are() {
    let dir = folder();
    let missing = dir.path().join("healing.json");
    let mut hub = Hub::start(&dir, &["--healing", missing.to_str().unwrap()]);
    let admin = hub.admin.clone();
    let status = status_until(&hub, &admin, |_| true).await;
    assert!(status["last_error"]["detail"].as_str().unwrap().contains("there is no such file"), "{status}");
    assert_eq!((&status["rules"], &status["loaded_at"]), (&json!([]), &Value::Null));
    write_rules(&dir, &rules().to_string());
    let good = status_until(&hub, &admin, |status| status["rules"].as_array().unwrap().len() == 2).await;
    assert_eq!(good["last_error"], Value::Null, "{good}");
    let wrong = "{\"rules\": [\n  {\"name\": \"x\", \"when\": {\"silent\": 5}, \"action\": \"notify\"}\n]}";
    let path = write_rules(&dir, wrong);
    let bad = status_until(&hub, &admin, |status| status["last_error"].is_object()).await;
    let detail = bad["last_error"]["detail"].as_str().unwrap();
    assert!(detail.contains("healing.json: line 2, column ") && detail.contains("unknown field `silent`"), "{detail}");
    assert_eq!((&bad["rules"][1]["rule"], &bad["loaded_at"]), (&good["rules"][1]["rule"], &good["loaded_at"]));
    let (code, said) = healing(dir.path(), &["--data", dir.path().to_str().unwrap()]);
    assert!(code == Some(0) && said.contains("the file could not be used: DIR/healing.json: line 2"), "{said}");
    let (code, said) = healing(dir.path(), &["check", path.to_str().unwrap()]);
    assert!(code == Some(78) && said.contains("DIR/healing.json: line 2") && said.contains("`silent`"), "{said}");
    let check = hub_command().args(["check", "--data"]).arg(dir.path()).output().unwrap();
    let check = String::from_utf8(check.stdout).unwrap();
    assert!(check.contains("warning  healing") && check.contains("unknown field `silent`"), "{check}");
    // On SIGHUP at once, also where nothing has changed.
    write_rules(&dir, "{\"rules\": []}");
    let pid = hub.pid().to_string();
    assert!(std::process::Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    let empty = status_until(&hub, &admin, |status| status["rules"] == json!([])).await;
    assert_eq!(empty["last_error"], Value::Null);
    assert!(!hub.has_ended());
    let path = write_rules(&dir, &rules().to_string());
    let (code, said) = healing(dir.path(), &["check", path.to_str().unwrap()]);
    assert_eq!((code, said.lines().last()), (Some(0), Some("2 rules, no problem")), "{said}");
    let one = json!({"rules": [{"name": "gone", "when": {"silent_ms": 5000}, "action": "notify"}]});
    let path = write_rules(&dir, &one.to_string());
    let (_, said) = healing(dir.path(), &["check", path.to_str().unwrap()]);
    assert_eq!(said.lines().last(), Some("1 rule, no problem"), "{said}");
    drop(hub);
    let (code, said) = healing(dir.path(), &["--data", dir.path().to_str().unwrap()]);
    assert!(code == Some(0) && said.starts_with("no hub runs on DIR"), "{said}");
    let without = folder();
    let _hub = Hub::start(&without, &[]);
    let (code, said) = healing(dir.path(), &["--data", without.path().to_str().unwrap()]);
    assert!(code == Some(0) && said.starts_with("no rules: "), "{said}");
}
