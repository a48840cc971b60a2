//! An app of pm2 whose Node sidecar becomes ours, and back, in the middle of a task: same name, same folder, no other
//! command than `pm2 restart`. The Node sidecar is a stand-in (`node_stand_in.js`).
#![cfg(target_os = "linux")]

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::ground::{ALICE, Ground};
use crate::support::process;
use crate::support::sidecar::SIDECAR;

const NODE: &str = concat!("exec node ", env!("CARGO_MANIFEST_DIR"), "/tests/pm2/node_stand_in.js");

/// pm2 starts a script that hands over, as existing installations have it.
fn start_script(ground: &Ground, last_line: &str) {
    let (script, written) = (ground.agent.path("start.sh"), ground.agent.path("start.sh.written"));
    fs::write(&written, format!("#!/bin/bash\nset -e\ncd \"$(dirname \"$0\")\"\n{last_line}\n"))
        .expect("a start script");
    process::install(&written, &script);
}

fn ours() -> String {
    format!("exec {SIDECAR} run --config config.json")
}

/// With the settings of an existing installation's ecosystem.config.js.
fn launched(last_line: &str) -> Ground {
    let ground = Ground::new();
    start_script(&ground, last_line);
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("node_modules/ws");
    ground.launch_as(json!({
        "name": ALICE, "script": ground.agent.path("start.sh"), "cwd": ground.agent.folder(), "interpreter": "/bin/bash",
        "autorestart": true, "max_restarts": 50, "min_uptime": 5_000, "restart_delay": 2_000,
        "max_memory_restart": "200M", "env": {"NODE_ENV": "production", "PM2_PROCESS_NAME": ALICE, "WS_MODULE": module},
    }));
    ground
}

/// The stand-in has seen the session's sign, or ours has.
fn wait_working(ground: &Ground) {
    let working = || ground.agent.queue().is_some_and(|queue| queue["active"]["status"] == "working");
    crate::support::wait::until_true("the sidecar to know that the agent works", working);
}

fn boot_id(ground: &Ground) -> Value {
    ground.hub.agent(ALICE).map_or(Value::Null, |agent| agent["boot_id"].clone())
}

#[test]
fn ours_takes_the_place_of_a_node_sidecar_in_the_middle_of_its_task() {
    let ground = launched(NODE);
    assert_eq!(boot_id(&ground), Value::Null);
    let task = ground.start_task("start=0.2 run=hold");
    wait_working(&ground);
    let before = ground.listed();
    let checked = || ground.pm2.typed(&format!("{SIDECAR} check --config {}", ground.agent.config_file().display()));
    let said = checked();
    assert!(said.contains("another program runs in this folder: \"alice\""), "{said}");
    start_script(&ground, &ours());
    ground.pm2.command(&["restart", ALICE]);
    ground.hub.wait_agent(ALICE, |agent| agent["boot_id"].is_string());
    let said = checked();
    assert!(said.contains("we are \"alice\""), "{said}");
    ground.assert_restarted(&before, 1);
    ground.agent.go("run", &task);
    let done = ground.hub.wait_task(&task, "completed");
    assert_eq!(ground.agent.count(&task, "woken"), 1, "{done}");
    ground.wait_idle();
    ground.assert_works();
}

#[test]
fn a_restart_that_the_hub_commands_brings_ours_after_the_task() {
    let ground = launched(NODE);
    let task = ground.start_task("start=0.2 run=hold");
    wait_working(&ground);
    start_script(&ground, &ours());
    let command = ground.command(json!({"reason": "migration"}));
    ground.agent.go("run", &task);
    ground.hub.wait_restart(&command, ALICE, "back");
    ground.hub.wait_agent(ALICE, |agent| agent["boot_id"].is_string());
    let done = ground.hub.task(&task);
    assert_eq!((&done["status"], ground.agent.count(&task, "woken")), (&json!("completed"), 1), "{done}");
    ground.assert_works();
}

#[test]
fn a_node_sidecar_takes_the_place_back_in_the_middle_of_a_task() {
    let ground = launched(&ours());
    let task = ground.start_task("start=0.2 run=hold");
    wait_working(&ground);
    start_script(&ground, NODE);
    ground.pm2.command(&["restart", ALICE]);
    ground.hub.wait_agent(ALICE, |agent| agent["boot_id"].is_null() && agent["current_task_id"] == task.as_str());
    wait_working(&ground);
    ground.agent.go("run", &task);
    let done = ground.hub.wait_task(&task, "completed");
    assert_eq!(ground.agent.count(&task, "woken"), 1, "{done}");
    ground.wait_idle();
}
