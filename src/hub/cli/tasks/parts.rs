//! What the commands about tasks share: how a task is asked for, and its parts in words.

use serde_json::Value;
use serde_json::value::RawValue;

use crate::common::http_client::percent_encoded;
use crate::common::wall_clock::utc;
use crate::hub::cli::client::{Client, Failure};
use crate::hub::cli::show::fields::{NONE, list, text};

/// Returns the path of a task in the API.
pub(super) fn path_of(id: &str) -> String {
    format!("/api/v1/tasks/{}", percent_encoded(id))
}

/// Returns a task as the hub knows it.
///
/// # Errors
/// There is no such task, or the hub cannot be asked.
pub(super) async fn get(client: &mut Client, id: &str) -> Result<Box<RawValue>, Failure> {
    client.get(&path_of(id)).await.map_err(|failure| no_such_task(failure, id))
}

/// Returns the failure with what to do where there is no such task.
pub(super) fn no_such_task(failure: Failure, id: &str) -> Failure {
    match failure.status {
        Some(404) => {
            failure.saying(format!("there is no task {id:?}; agentcom-hub tasks lists those that the hub knows"))
        }
        Some(_) | None => failure,
    }
}

/// Returns a task's status, with who has it.
pub(super) fn state(task: &Value) -> String {
    let status = text(&task["status"]);
    let accepted = if task["accepted"] == true { "accepted" } else { "not accepted yet" };
    match (task["status"].as_str(), task["assigned_to"].as_str()) {
        (Some("assigned"), Some(agent)) => format!("{status} to {agent}, {accepted}"),
        (_, Some(agent)) => format!("{status} by {agent}"),
        (_, None) => status,
    }
}

/// Returns an entry of a task's history.
pub(super) fn happened(entry: &Value) -> String {
    let at = entry["timestamp"].as_u64().map_or_else(|| "-".to_owned(), utc);
    format!("{at} {}: {}", text(&entry["event"]), text(&entry["details"]))
}

/// Returns what a queued task waits for, in words.
pub(super) fn waits_for(waiting: &Value) -> String {
    let agents = text(&waiting["agents"]);
    match waiting["what"].as_str() {
        None => NONE.to_owned(),
        Some("agent") => match waiting["status"].as_str() {
            None => format!("agent {}, which is not known", text(&waiting["agent_id"])),
            Some(status) => format!("agent {}, which is {status}", text(&waiting["agent_id"])),
        },
        Some("capabilities") if waiting["missing"].as_array().is_some_and(|missing| !missing.is_empty()) => {
            format!("an agent with {}, which none has", list(&waiting["missing"]))
        }
        Some("capabilities") => format!("an agent with all of {}", list(&waiting["needed"])),
        Some("draining_agents") => format!("one of {agents} agents, all of which drain"),
        Some("idle_agent") => format!("one of {agents} agents, all of which are busy"),
        Some("any_agent") => "any agent: none is connected".to_owned(),
        Some(other) => other.to_owned(),
    }
}
