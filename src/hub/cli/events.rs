//! `agentcom-hub events`: what happens, as it happens.

use std::time::Duration;

use clap::Args;
use serde::Deserialize as _;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::common::duration::parse_duration;
use crate::common::text::on_one_line;
use crate::common::wall_clock::{now_ms, utc};
use crate::hub::cli::client::{self, Client, Event, Failure, Folder, HubArgs};
use crate::hub::cli::exit_code::ExitCode;
use crate::hub::cli::rollouts::words;
use crate::hub::cli::show::fields::{text, took};
use crate::hub::cli::show::output::{Output, print};
use crate::hub::scheduler::rollouts::rollout::RolloutPhase;
use crate::hub::scheduler::rollouts::target::Counts;

#[derive(Debug, Args)]
pub(in crate::hub::cli) struct EventsArgs {
    /// Only events of this kind: task, restart, rollout, agent, drain or healing; may be repeated
    #[arg(long, value_name = "KIND", value_parser = ["task", "restart", "rollout", "agent", "drain", "healing"])]
    kind: Vec<String>,
    /// Stop after this time, such as 90s or 2h, and exit with 124
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    timeout: Option<u64>,
    /// Print one JSON object a line: event, id, data
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    hub: HubArgs,
}

/// Runs the command and returns the exit code.
pub(in crate::hub::cli) fn run(args: &EventsArgs) -> ExitCode {
    client::run(&args.hub, Folder::MustExist, async |client| {
        let followed = follow(client, args);
        match args.timeout {
            None => followed.await,
            Some(ms) => tokio::time::timeout(Duration::from_millis(ms), followed)
                .await
                .unwrap_or_else(|_| Err(Failure::silent(ExitCode::TimedOut))),
        }
    })
}

async fn follow(client: &mut Client, args: &EventsArgs) -> Result<Output, Failure> {
    let mut events = client.follow(None).await?;
    loop {
        let event = client.next_event(&mut events).await?;
        // What was missed may have been of any kind.
        if args.kind.is_empty() || event.kind == "missed" || args.kind.contains(&event.kind) {
            let line = if args.json { as_json(&event) } else { as_text(&event) };
            print(format!("{line}\n").as_bytes()).map_err(Failure::silent)?;
        }
    }
}

fn as_json(event: &Event) -> String {
    let data: Option<&RawValue> = serde_json::from_str(&event.data).ok();
    let (kind, id) = (json!(event.kind), json!(event.id));
    format!("{{\"event\":{kind},\"id\":{id},\"data\":{}}}", data.map_or("null", RawValue::get))
}

fn as_text(event: &Event) -> String {
    let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
    let agent = text(&data["agent_id"]);
    let said = match event.kind.as_str() {
        "task" => format!("{} {}, agent {agent}", text(&data["task_id"]), text(&data["status"])),
        "restart" => {
            let gap = data["gap_ms"].is_u64().then(|| format!(" after {}", took(&data["gap_ms"])));
            let (id, state, step) = (text(&data["command_id"]), text(&data["state"]), text(&data["step"]));
            let step = if step == state { String::new() } else { format!(" ({step})") };
            format!("{agent} {state}{step}{}, {id}", gap.unwrap_or_default())
        }
        "rollout" => rollout(&data),
        "agent" if data["connected"] == true => format!("{agent} connected"),
        "agent" => format!("{agent} went away"),
        "drain" if data["overdue"] == true => format!("{agent} still holds a task at the deadline of its drain"),
        "drain" if data["drained"] == true => {
            let holds = if data["holds_task"] == true { "holds a task yet" } else { "holds no task" };
            format!("{agent} is drained by {}, and {holds}", text(&data["by"]))
        }
        "drain" => format!("{agent} is not drained from the hub any more"),
        "healing" => healing(&data),
        "missed" => "events were missed: read the lists again".to_owned(),
        _ => event.data.clone(),
    };
    on_one_line(&format!("{} {:<8} {said}", utc(now_ms()), event.kind))
}

/// Returns how a rollout went on, in words.
fn rollout(data: &Value) -> String {
    let id = text(&data["rollout_id"]);
    let said = match RolloutPhase::deserialize(&data["state"]) {
        Ok(state) => words::rollout(state, &data["why"], data["awaits_promote"] == true),
        // One of a newer hub.
        Err(_) => text(&data["state"]),
    };
    let counts = Counts::deserialize(&data["counts"]).map(|counts| format!(": {}", words::counts(&counts)));
    format!("{id} {said}{}", counts.unwrap_or_default())
}

/// Returns what a healing rule did, in words.
fn healing(data: &Value) -> String {
    let [rule, agent, action, why] = ["rule", "agent_id", "action", "why"].map(|field| text(&data[field]));
    match data["what"].as_str() {
        Some("acted") => format!("rule {rule}: {action} of {agent}: {why}"),
        Some("told") if action == "notify" => format!("rule {rule}: {agent}: {why}"),
        Some("told") => format!("rule {rule} would {action} {agent}: {why}"),
        Some("too_many_match") => {
            format!("rule {rule} does nothing: {} agents match, at most {} may", data["matching"], data["most"])
        }
        Some(_) | None => format!("rule {rule}: few enough agents match again"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollout_is_told_of_in_words() {
        let counts = json!({
            "pending": 1, "waiting": 0, "restarting": 0, "soaking": 0, "succeeded": 2, "failed": 1, "skipped": 0,
            "already_restarted": 0, "cancelled": 0,
        });
        let data = json!({"rollout_id": "r", "state": "halted", "why": "canary_failed", "counts": counts});
        assert_eq!(
            rollout(&data),
            "r halted: a target of the canary failed: 2 succeeded, 0 in flight, 1 failed, 0 skipped"
        );
        assert_eq!(rollout(&json!({"rollout_id": "r", "state": "dreaming"})), "r dreaming");
    }
}
