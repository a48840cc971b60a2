//! The restart of all agents at once: each is commanded, leaves and comes back as another run.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use serde_json::json;
use tokio::task::JoinSet;

use crate::Outcome;
use crate::agent::Agent;
use crate::fleet::Fleet;
use crate::hub_process::Hub;
use crate::phases::CONNECTIONS;
use crate::report::Report;
use crate::stats::Spread;

/// Restarts all agents of the fleet, and checks that the hub's ledger has each as back.
pub async fn run(hub: &Hub, fleet: &Arc<Fleet>, agents: &[Arc<Agent>], report: &mut Report) -> Outcome<()> {
    fleet.restarts_on_command.store(true, Ordering::Relaxed);
    let (lines_before, joined_before) = (hub.log_lines()?, fleet.joined());
    let began = Instant::now();
    let mut commanders = JoinSet::new();
    for commander in 0..CONNECTIONS.min(agents.len()) {
        let mut client = hub.client();
        let ids: Vec<String> =
            agents.iter().skip(commander).step_by(CONNECTIONS).map(|agent| agent.id.clone()).collect();
        commanders.spawn(async move {
            let body = json!({"reason": "all of them"}).to_string();
            let mut commanded = Vec::with_capacity(ids.len());
            for id in ids {
                let path = format!("/api/admin/agents/{id}/restart");
                let answer = client.json("POST", &path, Some(&body), 200).await?;
                let command_id = answer["command_id"].as_str().ok_or_else(|| format!("no command_id: {answer}"))?;
                commanded.push((id, command_id.to_owned()));
            }
            Ok::<_, String>(commanded)
        });
    }
    let mut commanded = Vec::with_capacity(agents.len());
    while let Some(some) = commanders.join_next().await {
        commanded.extend(some.map_err(|error| format!("a commander ended: {error}"))??);
    }
    fleet.wait("all agents to be back", || fleet.joined() - joined_before >= agents.len()).await?;
    let took = began.elapsed();
    fleet.restarts_on_command.store(false, Ordering::Relaxed);
    let mut client = hub.client();
    for (id, command_id) in &commanded {
        let ledger = client.json("GET", &format!("/api/admin/agents/{id}/restarts"), None, 200).await?;
        let newest = &ledger["restarts"][0];
        if newest["command_id"] != command_id.as_str() || newest["state"] != "back" {
            return Err(format!("{id} is back, but its newest restart is {newest}, not {command_id}"));
        }
    }
    let lines = hub.log_lines()?.zip(lines_before).map(|(after, before)| after - before);
    report.restart(agents.len(), took, Spread::of(fleet.take_joins()), lines);
    Ok(())
}
