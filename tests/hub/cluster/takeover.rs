//! Real nodes on a real database, and a real sidecar that knows only the address of the standby.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::postgres::Postgres;
use crate::support::{Hub, PATIENCE, folder, token};

/// A sidecar with its folder; it ends with the value.
struct Sidecar {
    dir: TempDir,
    child: Child,
}

impl Sidecar {
    fn start(hub: &Hub, name: &str, token: &str) -> Self {
        let dir = folder();
        std::fs::create_dir(dir.path().join("results")).unwrap();
        let script = dir.path().join("agent.sh");
        std::fs::write(&script, include_str!("../../support/agent.sh")).unwrap();
        let (script, place) = (script.display(), dir.path().display());
        let config = json!({
            "agent_id": name, "token": token, "hub_url": format!("ws://{}/ws", hub.address), "repo_dir": dir.path(),
            "reviewer": "nobody", "capabilities": ["code"], "results_dir": "./results", "results_scan_ms": 50,
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
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        Self { dir, child }
    }

    /// What its agent did: `ID GENERATION STEP`.
    fn runs(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.dir.path().join("runs.log")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn until<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_at_a_standby_outlives_the_leader() {
    let Some(server) = Postgres::shared() else { return };
    let (url, one, other) = (server.new_database(), folder(), folder());
    let flags = ["--store", &url, "--cluster-listen", "127.0.0.1:0"];
    let leader = Hub::start(&one, &flags);
    let mut standby = Hub::start_standby(&other, &flags);
    let health = async |hub: &Hub| hub.request("GET", "/health", None, Value::Null).await.1;
    let epoch = until("the standby sees the leader", async || health(&standby).await["leader"]["epoch"].as_u64()).await;
    assert_eq!(health(&leader).await["epoch"], epoch);
    // Both commands and requests at the standby are the leader's.
    standby.admin = token(other.path(), "ops", true);
    let of_agent = standby.register("a").await;
    let sidecar = Sidecar::start(&standby, "a", &of_agent);
    let task = standby.submit(json!({"description": "run=hold"})).await;
    until("the agent works", async || sidecar.runs().iter().any(|run| run.ends_with("started")).then_some(())).await;
    let second = standby.submit(json!({"description": "run=0"})).await;

    let killed_at = Instant::now();
    leader.kill_9();
    until("the standby leads", async || (health(&standby).await["role"] == "leader").then_some(())).await;
    until("the sidecar is back", async || standby.agent("a").await).await;
    assert!(killed_at.elapsed() < Duration::from_secs(15), "{:?}", killed_at.elapsed());
    assert!(health(&standby).await["epoch"].as_u64() > Some(epoch));
    std::fs::write(sidecar.dir.path().join(format!("go.run.{task}")), "").unwrap();
    for id in [&task, &second] {
        let ended = standby.task_until(id, |task| task["status"] == "completed").await;
        assert_eq!(ended["generation"], 1, "{ended}");
    }
    let runs = sidecar.runs();
    for id in [&task, &second] {
        for step in ["woken", "started", "finished"] {
            let times = runs.iter().filter(|run| run.starts_with(id.as_str()) && run.ends_with(step)).count();
            assert_eq!(times, 1, "{id} {step}: {runs:?}");
        }
    }
    // The node that was killed comes back as a standby.
    let back = Hub::start_standby(&one, &flags);
    until("it follows the other", async || {
        let leader = health(&back).await["leader"].clone();
        (leader["epoch"] == health(&standby).await["epoch"]).then_some(())
    })
    .await;
    assert_eq!(back.request("GET", "/api/v1/me", Some(&standby.admin), Value::Null).await.0, 200);
}
