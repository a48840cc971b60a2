//! `agentcom-hub tasks`: the tasks, by priority and order of submission.

use clap::Args;
use serde_json::Value;

use crate::common::cli::table::Table;
use crate::common::cli::terminal;
use crate::hub::cli::client::{self, Folder, HubArgs, Items};
use crate::hub::cli::exit_code::ExitCode;
use crate::hub::cli::show::fields::{NONE, ago, list, priority, text};
use crate::hub::cli::show::output::{Output, note};

#[derive(Debug, Args)]
pub(in crate::hub::cli) struct TasksArgs {
    /// Only those in this status: queued, assigned, completed, dead_letter or cancelled
    #[arg(long, value_name = "STATUS")]
    status: Option<String>,
    /// Only those that this agent holds, or did
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Only those of this goal
    #[arg(long, value_name = "ID")]
    goal: Option<String>,
    /// Only those of this priority: urgent, high, normal or low
    #[arg(long, value_name = "PRIORITY")]
    priority: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), default_value_t = 1_000)]
    limit: u32,
    /// Print a JSON list
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    hub: HubArgs,
}

/// Runs the command and returns the exit code.
pub(in crate::hub::cli) fn run(args: &TasksArgs) -> ExitCode {
    client::run(&args.hub, Folder::MustExist, async |client| {
        let only = [
            ("status", args.status.clone()),
            ("assigned_to", args.agent.clone()),
            ("goal_id", args.goal.clone()),
            ("priority", args.priority.clone()),
        ];
        let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
        let found = client.list("/api/v1/tasks", &only, Some(limit), |_| false).await?;
        if found.more {
            note(format_args!("there are more: these are the first {limit} (--limit)"));
        }
        Ok(Output::done(if args.json { found.to_json() } else { table(&found) }))
    })
}

fn table(found: &Items) -> String {
    let mut table = Table::new(&["ID", "STATUS", "PRIORITY", "AGENT", "CREATED", "WAITS FOR", "DESCRIPTION"]);
    for task in found.values() {
        table.row([
            text(&task["id"]),
            text(&task["status"]),
            priority(&task["priority"]),
            text(&task["assigned_to"]),
            ago(&task["created_at"]),
            waits_for(&task["waiting_for"]),
            text(&task["description"]),
        ]);
    }
    table.render(terminal::columns())
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
