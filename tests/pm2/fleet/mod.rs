//! Twenty sidecars under one pm2, by the real `ecosystem.config.js` and its folders of agents.
#![cfg(target_os = "linux")]
#![allow(clippy::print_stderr, reason = "the figures are for whoever runs it with --nocapture")]

mod at_once;
mod feeder;
mod rollout;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::ground::{Ground, HUB_APP, ecosystem};
use crate::support::{process, wait};

const AGENTS: usize = 20;

/// Twenty at once on a busy machine.
const BOUND: Duration = Duration::from_secs(60);

/// The label that each has, as a selector.
const ALL: &str = "label.pool=twenty";

const WAKE: &str = "r=results/$TASK_ID; : > $r.started; echo \"$TASK_ID\" >> ran; sleep 0.05; \
                    echo '{\"status\":\"success\"}' > $r.part; mv $r.part $r.json";

fn names() -> Vec<String> {
    (1..=AGENTS).map(|n| format!("agent-{n:02}")).collect()
}

/// The folders of the agents: each in a folder of those that were launched together.
struct Fleet(tempfile::TempDir);

impl Fleet {
    fn new() -> Self {
        Self(tempfile::Builder::new().prefix("agents-").tempdir().expect("a folder of agents"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Registers these agents at the hub and starts them, with the program in `bin`.
    fn launch(&self, ground: &Ground, names: &[String], bin: &Path) {
        let group = self.path(&format!("with-{}", names[0]));
        for name in names {
            let config = json!({
                "agent_id": name, "token": ground.hub.register(name), "hub_url": ground.hub.url(), "wake_command": WAKE,
                "capabilities": ["code"], "labels": {"pool": "twenty"}, "reconnect_min_ms": 50, "reconnect_max_ms": 500,
            });
            fs::create_dir_all(group.join(name).join("results")).expect("a folder");
            let file = group.join(name).join("config.json");
            fs::write(&file, config.to_string()).expect("a config");
            fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("its mode");
        }
        let text = |path: &Path| path.to_str().expect("a readable path").to_owned();
        let (bin, group) = (text(bin), text(&group));
        let variables = [("AGENTCOM_BIN_DIR", &*bin), ("AGENTCOM_LOG_DIR", &*group), ("AGENTCOM_AGENTS", &*group)];
        // The whole file, as a person would: the hub that runs is none of it.
        let hub = ground.pm2.pid_of(HUB_APP);
        assert!(hub.is_some(), "it runs");
        ground.pm2.launch_file(&ecosystem(), &variables, None);
        assert_eq!(ground.pm2.pid_of(HUB_APP), hub, "the hub was restarted");
    }

    /// The ids of the tasks that the agents were woken for, once for each time.
    fn ran(&self) -> Vec<String> {
        let below = |path: &Path| -> Vec<PathBuf> {
            fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
        };
        let folders = below(self.0.path()).iter().flat_map(|group| below(group)).collect::<Vec<_>>();
        let ran = folders.iter().map(|folder| fs::read_to_string(folder.join("ran")).unwrap_or_default());
        ran.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
    }
}

/// pm2's word on each agent, in the order of their names.
fn apps(ground: &Ground) -> Vec<Value> {
    let apps = ground.pm2.apps();
    names().iter().map(|name| apps.iter().find(|app| app["name"] == **name).cloned().unwrap_or_default()).collect()
}

/// The pid of each, once pm2 says that all are online, and that it has restarted each so often.
fn wait_online(ground: &Ground, restarts: u64) -> Vec<u32> {
    let pid = |app: &Value| {
        let there = app["pm2_env"]["status"] == "online" && app["pm2_env"]["restart_time"] == restarts;
        app["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| there && process::alive(*pid))
    };
    let word = |app: &Value| format!("{} {}", app["pm2_env"]["status"], app["pm2_env"]["restart_time"]);
    let told = || apps(ground).iter().map(word).collect::<Vec<_>>().join(", ");
    wait::until_or("all online", BOUND, || apps(ground).iter().map(pid).collect(), told)
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
