//! Twenty sidecars on one machine, under one pm2, at one hub: all serve, all restart on command at the same time, all come
//! back, each once. By the real `ecosystem.config.js` and its folder of agents.
#![cfg(target_os = "linux")]
#![allow(clippy::print_stderr, reason = "the figures are for whoever runs it with --nocapture")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::ground::{Ground, HUB_APP, ecosystem};
use crate::support::sidecar::SIDECAR;
use crate::support::{process, wait};

const AGENTS: usize = 20;

/// Twenty at once on a busy machine.
const BOUND: Duration = Duration::from_secs(60);

const WAKE: &str = "r=results/$TASK_ID; : > $r.started; echo \"$TASK_ID\" >> ran; \
                    echo '{\"status\":\"success\"}' > $r.part; mv $r.part $r.json";

fn names() -> Vec<String> {
    (1..=AGENTS).map(|n| format!("agent-{n:02}")).collect()
}

/// A folder with a folder for each, registered at the hub.
fn settle(ground: &Ground, folder: &Path) {
    for name in names() {
        let config = json!({
            "agent_id": name, "token": ground.hub.register(&name), "hub_url": ground.hub.url(), "wake_command": WAKE,
            "capabilities": ["code"], "reconnect_min_ms": 50, "reconnect_max_ms": 500,
        });
        fs::create_dir_all(folder.join(&name).join("results")).expect("a folder");
        let file = folder.join(&name).join("config.json");
        fs::write(&file, config.to_string()).expect("a config");
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("its mode");
    }
}

fn launch(ground: &Ground, folder: &Path) {
    let bin = Path::new(SIDECAR).parent().and_then(Path::to_str).expect("a readable path");
    let folder = folder.to_str().expect("a readable path");
    let variables = [("AGENTCOM_BIN_DIR", bin), ("AGENTCOM_LOG_DIR", folder), ("AGENTCOM_AGENTS", folder)];
    // The whole file, as a person would: the hub that runs is none of it.
    let hub = ground.pm2.pid_of(HUB_APP);
    assert!(hub.is_some(), "it runs");
    ground.pm2.launch_file(&ecosystem(), &variables, None);
    assert_eq!(ground.pm2.pid_of(HUB_APP), hub, "the hub was restarted");
}

/// pm2's word on each: its pid and how often it has restarted it, once all are online.
fn wait_online(ground: &Ground, restarts: u64) -> Vec<u32> {
    let look = || {
        let apps = ground.pm2.apps();
        let find = |name: &String| apps.iter().find(|app| app["name"] == **name).cloned().unwrap_or_default();
        names().iter().map(find).collect::<Vec<Value>>()
    };
    let pid = |app: &Value| {
        let there = app["pm2_env"]["status"] == "online" && app["pm2_env"]["restart_time"] == restarts;
        app["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| there && process::alive(*pid))
    };
    let word = |app: &Value| format!("{} {}", app["pm2_env"]["status"], app["pm2_env"]["restart_time"]);
    let told = || look().iter().map(word).collect::<Vec<_>>().join(", ");
    wait::until_or("all online", BOUND, || look().iter().map(pid).collect(), told)
}

fn wait_idle(ground: &Ground) {
    let idle = || {
        let (_, body) = ground.hub.get("/api/agents");
        let list = body["agents"].as_array().cloned().unwrap_or_default();
        let idle = |name: &String| list.iter().any(|agent| agent["agent_id"] == **name && agent["fsm_state"] == "idle");
        names().iter().filter(|name| !idle(name)).cloned().collect::<Vec<_>>()
    };
    wait::until_or("all idle", BOUND, || idle().is_empty().then_some(()), || format!("not {:?}", idle()));
}

fn work(ground: &Ground) {
    let tasks: Vec<String> = (0..AGENTS).map(|n| ground.hub.submit(&format!("task {n}"))).collect();
    tasks.iter().for_each(|task| drop(ground.hub.wait_task(task, "completed")));
}

fn tell(what: &str, pids: &[u32]) {
    let resident: Vec<u64> = pids.iter().filter_map(|pid| process::resident_kb(*pid)).collect();
    let open = |pid: &u32| fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    let open: Vec<usize> = pids.iter().map(open).collect();
    let of = |all: &[u64]| (all.iter().min().copied(), all.iter().max().copied(), all.iter().sum::<u64>());
    eprintln!(
        "{what}: RSS min, max, sum kB {:?}; open files {:?}",
        of(&resident),
        open.iter().collect::<BTreeSet<_>>()
    );
}

#[test]
fn twenty_restart_at_once_and_come_back_each_once() {
    let ground = Ground::new();
    let folder = tempfile::Builder::new().prefix("agents-").tempdir().expect("a folder of agents");
    settle(&ground, folder.path());
    launch(&ground, folder.path());
    let before = wait_online(&ground, 0);
    wait_idle(&ground);
    work(&ground);
    tell("before", &before);
    let since = Instant::now();
    let commands: Vec<String> = names()
        .iter()
        .map(|name| {
            let (status, answer) = ground.hub.restart(name, json!({"reason": "all at once"}));
            assert_eq!(status, 200, "{answer}");
            answer["command_id"].as_str().expect("an id").to_owned()
        })
        .collect();
    for (name, command) in names().iter().zip(&commands) {
        ground.hub.wait_restart(command, name, "back");
    }
    eprintln!("all back after {:?}", since.elapsed());
    let after = wait_online(&ground, 1);
    wait_idle(&ground);
    work(&ground);
    tell("after", &after);
    let pids: BTreeSet<u32> = before.iter().chain(&after).copied().collect();
    assert_eq!(pids.len(), 2 * AGENTS, "each is another process, and its own");
    for name in names() {
        assert_eq!(ground.hub.restarts(&name).len(), 1, "{name}");
    }
    let ran: Vec<String> = names()
        .iter()
        .flat_map(|name| {
            let text = fs::read_to_string(folder.path().join(name).join("ran")).unwrap_or_default();
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    let once: BTreeSet<&String> = ran.iter().collect();
    assert_eq!((ran.len(), once.len()), (2 * AGENTS, 2 * AGENTS), "each task once");
    let shows = |app: &Value| app["pm2_env"]["axm_monitor"]["Hub"]["value"] == "online";
    wait::until_true("each to say for itself how it is", || {
        ground.pm2.apps().iter().filter(|app| shows(app)).count() == AGENTS
    });
}
