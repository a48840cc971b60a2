//! Waits until restarts have ended, and tells of each as it ends.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::common::http_client::percent_encoded;
use crate::common::text::on_one_line;
use crate::hub::cli::client::{Client, Failure, value};
use crate::hub::cli::exit_code::ExitCode;
use crate::hub::cli::restarts::list::state;
use crate::hub::cli::show::fields::{text, took};
use crate::hub::cli::show::output::print;

/// The restarts that have not ended.
struct Waiting {
    open: BTreeSet<String>,
    json: bool,
    /// Whether all that ended did so with the agent back.
    all_well: bool,
}

/// Waits until each of the restarts has ended: `Done` if all agents are back, else `No`.
///
/// # Errors
/// The time limit has passed, or the hub cannot be followed any more.
pub(super) async fn wait(
    client: &mut Client,
    command_ids: BTreeSet<String>,
    timeout_ms: Option<u64>,
    json: bool,
) -> Result<ExitCode, Failure> {
    let mut waiting = Waiting { open: command_ids, json, all_well: true };
    let ended = until_all_end(client, &mut waiting);
    let in_time = match timeout_ms {
        None => Ok(ended.await),
        Some(ms) => tokio::time::timeout(Duration::from_millis(ms), ended).await,
    };
    match in_time {
        Ok(Ok(())) if waiting.all_well => Ok(ExitCode::Done),
        Ok(Ok(())) => Ok(ExitCode::No),
        Ok(Err(failure)) => Err(failure),
        Err(_) => {
            let message = format!("{} restarts have not ended in this time; they go on", waiting.open.len());
            Err(Failure::new(ExitCode::TimedOut, message))
        }
    }
}

async fn until_all_end(client: &mut Client, waiting: &mut Waiting) -> Result<(), Failure> {
    // First the events, then a look at all: what ends between the two is seen twice, and told once.
    let mut events = client.follow(None).await?;
    look_at_all(client, waiting).await?;
    while !waiting.open.is_empty() {
        let event = client.next_event(&mut events).await?;
        match event.kind.as_str() {
            "missed" => look_at_all(client, waiting).await?,
            "restart" => {
                let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
                let id = data["command_id"].as_str().filter(|id| waiting.open.contains(*id));
                if let Some(id) = id.filter(|_| data["open"] != true) {
                    look_at(client, waiting, id).await?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Tells of those that are not among the open ones any more.
async fn look_at_all(client: &mut Client, waiting: &mut Waiting) -> Result<(), Failure> {
    let open = client.list("/api/v1/restarts", &[("open", Some("true".to_owned()))], None).await?;
    let open: BTreeSet<String> = open.values().map(|restart| text(&restart["command_id"])).collect();
    let ended: Vec<String> = waiting.open.difference(&open).cloned().collect();
    for id in ended {
        look_at(client, waiting, &id).await?;
    }
    Ok(())
}

async fn look_at(client: &mut Client, waiting: &mut Waiting, id: &str) -> Result<(), Failure> {
    let restart = client.get(&format!("/api/v1/restarts/{}", percent_encoded(id))).await?;
    waiting.told(id, &restart)
}

impl Waiting {
    fn told(&mut self, id: &str, raw: &RawValue) -> Result<(), Failure> {
        let restart = value(raw);
        if restart["open"] == true {
            return Ok(());
        }
        self.open.remove(id);
        self.all_well &= restart["state"] == "back";
        let line = match self.json {
            true => raw.get().to_owned(),
            false => {
                let gap = restart["gap_ms"].is_u64().then(|| format!(" after {}", took(&restart["gap_ms"])));
                let (agent, gap, left) = (text(&restart["agent_id"]), gap.unwrap_or_default(), self.open.len());
                on_one_line(&format!("{agent}: {}{gap}; {left} to wait for", state(&restart)))
            }
        };
        print(format!("{line}\n").as_bytes()).map_err(Failure::silent)
    }
}
