//! `agentcom-hub agents`: the agents that are known, with since when and why each does as it does.

use std::time::Duration;

use clap::Args;
use serde_json::Value;
use tokio::time::sleep;

use crate::common::cli::table::Table;
use crate::common::cli::terminal;
use crate::hub::cli::client::{self, Client, Failure, Folder, HubArgs, Items, selector};
use crate::hub::cli::exit_code::ExitCode;
use crate::hub::cli::show::fields::{NONE, ago, labels, text};
use crate::hub::cli::show::output::{Output, print};

/// The pause between two looks of `--watch`.
const WATCH: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(in crate::hub::cli) struct AgentsArgs {
    /// Only these: NAME, `label.pool=gpu,status=offline` (keys: id, label.KEY, capability, version, status), or all (an agent of that name is `id=all`)
    #[arg(value_name = "SELECTOR", default_value = "all", hide_default_value = true)]
    selector: String,
    /// Only agents that are away: status offline or stale
    #[arg(long, conflicts_with = "selector")]
    away: bool,
    /// Show the list again every 2 s until interrupted
    #[arg(long, conflicts_with = "json")]
    watch: bool,
    /// Print a JSON list
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    hub: HubArgs,
}

/// Runs the command and returns the exit code.
pub(in crate::hub::cli) fn run(args: &AgentsArgs) -> ExitCode {
    client::run(&args.hub, Folder::MustExist, async |client| match args.watch {
        true => watch(client, args).await,
        false => {
            let found = read(client, args).await?;
            Ok(Output::done(if args.json { found.to_json() } else { table(&found) }))
        }
    })
}

async fn read(client: &mut Client, args: &AgentsArgs) -> Result<Items, Failure> {
    let selector = if args.away { "status=offline,status=stale".to_owned() } else { selector(&args.selector) };
    client.list("/api/v1/agents", &[("selector", Some(selector))], None).await
}

/// Shows the agents again and again. A hub that is away for a moment is said to be, in the table's place.
async fn watch(client: &mut Client, args: &AgentsArgs) -> Result<Output, Failure> {
    loop {
        let page = match read(client, args).await {
            Ok(found) => table(&found),
            Err(failure) if failure.is_away() => format!("{}\n", failure.message),
            Err(failure) => return Err(failure),
        };
        client.pause().await?;
        print(format!("{}{page}", terminal::new_page()).as_bytes()).map_err(Failure::silent)?;
        sleep(WATCH).await;
    }
}

fn table(found: &Items) -> String {
    let mut table = Table::new(&["NAME", "STATUS", "SINCE", "WHY", "TASK", "VERSION", "LABELS"]);
    for agent in found.values() {
        let task = if agent["task"]["held"] == true { text(&agent["task"]["task_id"]) } else { NONE.to_owned() };
        table.row([
            text(&agent["agent_id"]),
            text(&agent["status"]),
            ago(&agent["since"]),
            why(&agent),
            task,
            text(&agent["version"]),
            labels(&agent["labels"]),
        ]);
    }
    table.render(terminal::columns())
}

/// Returns why the agent does as it does, with what a close frame said of an agent that is away, and who drains it.
fn why(agent: &Value) -> String {
    let hub = agent["drain"]["hub"]["by"].as_str().map(|by| format!(", drained by {by}"));
    let own = (agent["drain"]["own"] == true).then(|| ", drained on its machine".to_owned());
    format!("{}{}{}", standing(agent), own.unwrap_or_default(), hub.unwrap_or_default())
}

fn standing(agent: &Value) -> String {
    let reason = agent["last_close"]["reason"].as_str().filter(|reason| !reason.is_empty());
    match reason.filter(|_| agent["away_since"].is_u64()) {
        Some(reason) => format!("{} ({reason})", text(&agent["why"])),
        None => text(&agent["why"]),
    }
}
