//! Waits until drained agents hold no task, and tells of each as it gets free.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::common::http_client::percent_encoded;
use crate::common::text::{count_of, on_one_line};
use crate::hub::cli::client::{Client, Failure, value};
use crate::hub::cli::exit_code::ExitCode;
use crate::hub::cli::show::fields::text;
use crate::hub::cli::show::output::print;

/// The agents that are waited for.
struct Waiting {
    busy: BTreeSet<String>,
    json: bool,
    /// Whether all of whom was told got free in time.
    all_well: bool,
}

/// Waits until none of the agents holds a task: `Done`, or `No` if one held one at its deadline or is not drained any more.
///
/// # Errors
/// The time limit has passed, or the hub cannot be followed any more.
pub(super) async fn wait(
    client: &mut Client,
    agents: BTreeSet<String>,
    timeout_ms: Option<u64>,
    json: bool,
) -> Result<ExitCode, Failure> {
    let mut waiting = Waiting { busy: agents, json, all_well: true };
    let ended = until_all_are_free(client, &mut waiting);
    let in_time = match timeout_ms {
        None => Ok(ended.await),
        Some(ms) => tokio::time::timeout(Duration::from_millis(ms), ended).await,
    };
    match in_time {
        Ok(Ok(())) if waiting.all_well => Ok(ExitCode::Done),
        Ok(Ok(())) => Ok(ExitCode::No),
        Ok(Err(failure)) => Err(failure),
        Err(_) => {
            let message = format!(
                "{} held a task to the end; what was drained stays so",
                count_of(waiting.busy.len() as u64, "agent")
            );
            Err(Failure::new(ExitCode::TimedOut, message))
        }
    }
}

async fn until_all_are_free(client: &mut Client, waiting: &mut Waiting) -> Result<(), Failure> {
    // First the events, then a look at all: who gets free between the two is seen twice, and told once.
    let mut events = client.follow(None).await?;
    look_at_all(client, waiting).await?;
    while !waiting.busy.is_empty() {
        let event = client.next_event(&mut events).await?;
        match event.kind.as_str() {
            "missed" => look_at_all(client, waiting).await?,
            "drain" => {
                let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
                if let Some(agent_id) = data["agent_id"].as_str().filter(|id| waiting.busy.contains(*id)) {
                    look_at(client, waiting, agent_id).await?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Looks at all agents in pages: that costs less than a request for each of many.
async fn look_at_all(client: &mut Client, waiting: &mut Waiting) -> Result<(), Failure> {
    let all = client.list("/api/v1/agents", &[], None).await?;
    let mut gone = waiting.busy.clone();
    for raw in &all.raw {
        gone.remove(&text(&value(raw)["agent_id"]));
        waiting.looked_at(raw)?;
    }
    gone.iter().try_for_each(|agent_id| waiting.forgotten(agent_id))
}

async fn look_at(client: &mut Client, waiting: &mut Waiting, agent_id: &str) -> Result<(), Failure> {
    match client.get(&format!("/api/v1/agents/{}", percent_encoded(agent_id))).await {
        Ok(agent) => waiting.looked_at(&agent),
        Err(failure) if failure.status == Some(404) => waiting.forgotten(agent_id),
        Err(failure) => Err(failure),
    }
}

impl Waiting {
    /// Tells of an agent that is waited for, if it need not be any more.
    fn looked_at(&mut self, raw: &RawValue) -> Result<(), Failure> {
        let agent = value(raw);
        let agent_id = text(&agent["agent_id"]);
        let (holds, drain) = (agent["task"]["held"] == true, &agent["drain"]["hub"]);
        let (how, is_well) = match (holds, drain.is_null(), drain["overdue"] == true) {
            (_, true, _) => ("is not drained any more".to_owned(), false),
            (false, false, _) => ("holds no task".to_owned(), true),
            (true, false, true) => (format!("still holds {} at the deadline", text(&agent["task"]["task_id"])), false),
            (true, false, false) => return Ok(()),
        };
        self.told(&agent_id, Some(raw), &how, is_well)
    }

    /// Tells of an agent that the hub does not know any more: it holds nothing.
    fn forgotten(&mut self, agent_id: &str) -> Result<(), Failure> {
        self.told(agent_id, None, "is not known any more", true)
    }

    fn told(&mut self, agent_id: &str, raw: Option<&RawValue>, how: &str, is_well: bool) -> Result<(), Failure> {
        if !self.busy.remove(agent_id) {
            return Ok(());
        }
        self.all_well &= is_well;
        let line = match (self.json, raw) {
            (true, Some(raw)) => raw.get().to_owned(),
            (true, None) => serde_json::json!({"agent_id": agent_id}).to_string(),
            (false, _) => on_one_line(&format!("{agent_id}: {how}; {} to wait for", self.busy.len())),
        };
        print(format!("{line}\n").as_bytes()).map_err(Failure::silent)
    }
}
