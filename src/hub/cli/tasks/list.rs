//! `agentcom-hub tasks`: the tasks, by priority and order of submission.

use clap::Args;

use crate::common::cli::table::Table;
use crate::common::cli::terminal;
use crate::hub::cli::client::{self, Folder, HubArgs, Items};
use crate::hub::cli::exit_code::ExitCode;
use crate::hub::cli::show::fields::{ago, priority, text};
use crate::hub::cli::show::output::{Output, note};
use crate::hub::cli::tasks::parts::waits_for;

#[derive(Debug, Args)]
pub(in crate::hub::cli) struct TasksArgs {
    /// Only those in this status: queued, assigned, completed, dead_letter or cancelled
    #[arg(long, value_name = "STATUS")]
    status: Option<String>,
    /// Only those that this agent holds, or held last
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Only those of this goal
    #[arg(long, value_name = "ID")]
    goal: Option<String>,
    /// Only those of this priority: urgent, high, normal or low
    #[arg(long, value_name = "PRIORITY")]
    priority: Option<String>,
    /// At most this many
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
        let found = client.list("/api/v1/tasks", &only, Some(limit)).await?;
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
