//! Real sidecars for the tests of several hubs.
#![allow(unreachable_pub, reason = "the parts of one test binary")]
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use crate::support::{PATIENCE, folder};

/// A sidecar with its folder; it ends with the value.
pub struct Sidecar {
    dir: TempDir,
    child: Child,
}

impl Sidecar {
    /// Starts one at this address of the cluster.
    pub fn start(address: &str, name: &str, capability: &str, token: &str) -> Self {
        let dir = folder();
        std::fs::create_dir(dir.path().join("results")).unwrap();
        let script = dir.path().join("agent.sh");
        std::fs::write(&script, include_str!("../../support/agent.sh")).unwrap();
        let (script, place) = (script.display(), dir.path().display());
        let config = json!({
            "agent_id": name, "token": token, "hub_url": format!("ws://{address}/ws"), "repo_dir": dir.path(),
            "reviewer": "nobody", "capabilities": [capability], "results_dir": "./results", "results_scan_ms": 50,
            "reconnect_min_ms": 20, "reconnect_max_ms": 200,
            "wake_command": format!("sh '{script}' '{place}' \"${{TASK_ID}}\" \"${{TASK_DESCRIPTION}}\""),
        });
        let mut file = std::fs::File::options();
        let file = file.write(true).create_new(true).mode(0o600).open(dir.path().join("config.json")).unwrap();
        serde_json::to_writer(file, &config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_agentcom-sidecar"));
        for inherited in ["pm_id", "name", "PM2_HOME", "PM2_PROCESS_NAME", "NODE_CHANNEL_FD", "AGENTCOM_CONFIG"] {
            command.env_remove(inherited);
        }
        command.args(["run", "--config"]).arg(dir.path().join("config.json")).current_dir(dir.path());
        let log = std::fs::File::create(dir.path().join("sidecar.out")).unwrap();
        let child = command.stdin(Stdio::null()).stdout(log).spawn().unwrap();
        Self { dir, child }
    }

    /// What its agent did: `ID GENERATION STEP`.
    pub fn runs(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.dir.path().join("runs.log")).unwrap_or_default();
        // A last line without its end is still being written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(str::to_owned).collect()
    }

    /// Lets a task that holds go on.
    pub fn go(&self, task: &str) {
        std::fs::write(self.dir.path().join(format!("go.run.{task}")), "").unwrap();
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks again and again until there is an answer.
pub async fn until<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
