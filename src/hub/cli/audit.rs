//! `agentcom-hub audit`: arguments and output.

use clap::Args;
use serde_json::Value;

use crate::common::duration::parse_duration;
use crate::common::text::on_one_line;
use crate::common::wall_clock::now_ms;
use crate::hub::cli::client::{self, Folder, HubArgs};
use crate::hub::cli::exit_code::ExitCode;
use crate::hub::cli::show::fields::{ago, text};
use crate::hub::cli::show::output::Output;
use crate::hub::state::audit::Action;

#[derive(Debug, Args)]
pub(in crate::hub::cli) struct AuditArgs {
    /// Only what this agent or operator did (its name, or uid:N for commands on the hub's machine)
    #[arg(long, value_name = "NAME")]
    who: Option<String>,
    /// Only acts of this kind, such as restart_commanded or token_revoked
    #[arg(long, value_name = "ACTION", value_parser = parse_action)]
    action: Option<Action>,
    /// Only what was done to this agent, task, rollout, invitation or setting
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// Only what was done within this time, such as 90m, 24h or 7d
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    since: Option<u64>,
    /// At most this many entries
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), default_value_t = 1_000)]
    limit: u64,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    hub: HubArgs,
}

fn parse_action(named: &str) -> Result<Action, String> {
    let known = || <Action as strum::VariantNames>::VARIANTS.join(", ");
    named.parse().map_err(|_| format!("expected one of {}", known()))
}

/// Runs the command and returns the exit code.
pub(in crate::hub::cli) fn run(args: &AuditArgs) -> ExitCode {
    client::run(&args.hub, Folder::MustExist, async |client| {
        let only = [
            ("who", args.who.clone()),
            ("action", args.action.map(|action| action.to_string())),
            ("target", args.target.clone()),
            ("since", args.since.map(|since| now_ms().saturating_sub(since).to_string())),
        ];
        let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
        let found = client.list("/api/v1/audit", &only, Some(limit)).await?;
        let text: String = match args.json {
            true => found.raw.iter().map(|entry| format!("{}\n", entry.get())).collect(),
            false => found.values().map(|entry| as_text(&entry)).collect(),
        };
        Ok(Output::done(text))
    })
}

fn as_text(entry: &Value) -> String {
    let [seq, who, via, action, target] = ["seq", "who", "via", "action", "target"].map(|field| text(&entry[field]));
    let role = entry["role"].as_str().map(|role| format!(" ({role})")).unwrap_or_default();
    let mut line = format!("{seq:>6}  {:>9}  {who}{role} by {via}: {action} {target}", ago(&entry["at_ms"]));
    for (field, word) in [("count", "count"), ("old", "was"), ("new", "now"), ("selector", "as"), ("reason", "because")]
    {
        if !entry[field].is_null() {
            line.push_str(&format!("; {word} {}", text(&entry[field])));
        }
    }
    on_one_line(&line) + "\n"
}
