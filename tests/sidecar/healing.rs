//! A healing rule and a real sidecar whose task is stuck: while the rule observes, nothing happens; once it acts, the sidecar
//! restarts by its order, and the task is done once.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::hub::Hub;
use crate::support::scene::ALICE;
use crate::support::sidecar::Agent;
use crate::support::wait;

fn write_rules(file: &Path, act: bool) {
    let stuck = json!({"name": "stuck", "when": {"task_silent_ms": 200}, "for_ms": 0, "action": "restart", "act": act});
    let new = file.with_extension("new");
    fs::write(&new, json!({"rules": [stuck]}).to_string()).unwrap();
    fs::rename(new, file).unwrap();
}

/// Waits until the rule, as it is now, has looked at the agent.
fn wait_matching(hub: &Hub, act: bool) -> Value {
    let look = || hub.get("/api/v1/healing").1["rules"][0].clone();
    let matching = |rule: &Value| rule["rule"]["act"] == act && rule["agents"][0]["agent_id"] == ALICE;
    wait::until_or(
        "a match",
        wait::BOUND,
        || Some(look()).filter(matching),
        || hub.get("/api/v1/healing").1.to_string(),
    )
}

#[test]
fn a_stuck_sidecar_is_restarted_by_a_rule_that_acts_and_left_alone_by_one_that_observes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("healing.json");
    let hub = Hub::start_with(&["--healing", file.to_str().unwrap()]);
    let agent = Agent::new(ALICE, &hub.url(), &hub.register(ALICE));
    agent.configure("reconnect_min_ms", json!(20));
    agent.configure("restart_deadline_ms", json!(300));
    let mut sidecar = agent.start_supervised();
    let task = hub.submit("start=0 run=hold");
    agent.wait_run(&task, "started");

    write_rules(&file, false);
    let seen = wait_matching(&hub, false);
    assert!(seen["agents"][0]["why"].as_str().unwrap().contains("no sign of life"), "{seen}");
    assert_eq!((&seen["last_actions"], hub.restarts(ALICE)), (&json!([]), vec![]), "{seen}");

    write_rules(&file, true);
    let why = wait_matching(&hub, true)["agents"][0]["why"].clone();
    // The task delays it until the deadline.
    assert!(sidecar.wait_exit().success());
    let _sidecar = agent.start_supervised();
    let commands: Vec<Value> = hub.restarts(ALICE);
    assert_eq!(commands.len(), 1, "{commands:?}");
    let command_id = commands[0]["command_id"].as_str().unwrap();
    let restart = hub.wait_restart(command_id, ALICE, "back");
    assert_eq!((&restart["by"], &restart["forced"]), (&json!("rule:stuck"), &json!(true)), "{restart}");
    let (_, audit) = hub.get("/api/v1/audit?action=restart_commanded");
    let entries = audit["items"].as_array().unwrap();
    assert_eq!(entries.len(), 1, "{audit}");
    let entry = ["who", "via", "target", "new"].map(|field| &entries[0][field]);
    assert_eq!(entry, [&json!("rule:stuck"), &json!("rule"), &json!(ALICE), &json!(command_id)], "{audit}");

    agent.go("run", &task);
    hub.wait_task(&task, "completed");
    assert_eq!(["woken", "finished"].map(|step| agent.count(&task, step)), [1, 1], "{}", agent.story());
    let (code, text) = agent.operate(&["history", "--json"]);
    assert_eq!(code, 0, "{text}");
    let history: Value = serde_json::from_str(&text).unwrap();
    let restarts = history["items"].as_array().unwrap().iter().filter(|item| item["kind"] == "restart");
    let told: Vec<_> = restarts.map(|restart| (&restart["by"], &restart["reason"])).collect();
    assert_eq!(told, [(&json!("rule:stuck"), &entries[0]["reason"])], "{history} {why}");
}
