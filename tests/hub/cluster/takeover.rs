//! Real nodes on a real database, and a real sidecar that knows only the address of the standby.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cluster::sidecars::{Sidecar, until};
use crate::postgres::Postgres;
use crate::support::{Hub, folder, token};

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
    let sidecar = Sidecar::start(&standby.address, "a", "code", &of_agent);
    let task = standby.submit(json!({"description": "run=hold"})).await;
    until("the agent works", async || sidecar.runs().iter().any(|run| run.ends_with("started")).then_some(())).await;
    let second = standby.submit(json!({"description": "run=0"})).await;

    let killed_at = Instant::now();
    leader.kill_9();
    until("the standby leads", async || (health(&standby).await["role"] == "leader").then_some(())).await;
    until("the sidecar is back", async || standby.agent("a").await).await;
    assert!(killed_at.elapsed() < Duration::from_secs(15), "{:?}", killed_at.elapsed());
    assert!(health(&standby).await["epoch"].as_u64() > Some(epoch));
    sidecar.go(&task);
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
