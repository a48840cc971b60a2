//! `agentcom-hub restarts`: the commanded restarts, the newest first.

use clap::Args;
use serde_json::Value;

use crate::common::cli::table::Table;
use crate::common::cli::terminal;
use crate::common::duration::parse_duration;
use crate::common::wall_clock::now_ms;
use crate::hub::cli::client::{self, Folder, HubArgs, Items};
use crate::hub::cli::exit_code::ExitCode;
use crate::hub::cli::show::fields::{ago, text, took};
use crate::hub::cli::show::output::{Output, note};

#[derive(Debug, Args)]
pub(in crate::hub::cli) struct RestartsArgs {
    /// Only those of this agent
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Only those that were commanded within this time, such as 90m, 24h or 7d
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    since: Option<u64>,
    /// Only those that have not ended
    #[arg(long)]
    open: bool,
    /// Only those in this state: commanded, delivered, accepted, draining, exiting, back, refused, overdue, revoked or
    /// withdrawn
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
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
pub(in crate::hub::cli) fn run(args: &RestartsArgs) -> ExitCode {
    client::run(&args.hub, Folder::MustExist, async |client| {
        let only = [
            ("agent_id", args.agent.clone()),
            ("open", args.open.then(|| "true".to_owned())),
            ("state", args.state.clone()),
            ("since", args.since.map(|since| now_ms().saturating_sub(since).to_string())),
        ];
        let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
        let found = client.list("/api/v1/restarts", &only, Some(limit)).await?;
        if found.more {
            note(format_args!("there are more: these are the newest {limit} (--limit)"));
        }
        Ok(Output::done(if args.json { found.to_json() } else { table(&found) }))
    })
}

fn table(found: &Items) -> String {
    let mut table = Table::new(&["COMMANDED", "AGENT", "STATE", "AWAY FOR", "BY", "REASON", "COMMAND"]);
    for restart in found.values() {
        table.row([
            ago(&restart["commanded_at"]),
            text(&restart["agent_id"]),
            state(&restart),
            took(&restart["gap_ms"]),
            text(&restart["by"]),
            text(&restart["reason"]),
            text(&restart["command_id"]),
        ]);
    }
    table.render(terminal::columns())
}

/// Returns a restart's state, with why the agent refused it.
pub(in crate::hub::cli) fn state(restart: &Value) -> String {
    let state = text(&restart["state"]);
    let mut steps = restart["steps"].as_array().into_iter().flatten();
    let refused = steps.rfind(|step| step["step"] == "refused");
    match refused.and_then(|step| step["detail"]["detail"].as_str()).filter(|_| state == "refused") {
        Some(why) => format!("{state}: {why}"),
        None => state,
    }
}
