//! `agentcom-hub restart`: commands restarts of a selection of agents, and where asked to, waits until each has ended.

use clap::Args;
use hyper::Method;
use serde_json::{Value, json};

use crate::common::cli::table::Table;
use crate::common::cli::terminal;
use crate::common::duration::parse_duration;
use crate::hub::cli::client::{self, Failure, Folder, HubArgs, value};
use crate::hub::cli::exit_code::ExitCode;
use crate::hub::cli::restarts::wait::wait;
use crate::hub::cli::show::fields::text;
use crate::hub::cli::show::output::{Output, print};

#[derive(Debug, Args)]
pub(in crate::hub::cli) struct RestartArgs {
    /// The agents: NAME, NAME,NAME, `label.pool=gpu,status=degraded`, or all (an agent of that name is `id=all`)
    #[arg(value_name = "SELECTOR")]
    selector: String,
    /// The reason, as agents, `restarts` and the audit show it
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// How long a running task may delay the restart, such as 90s or 10m [default: the hub's --restart-deadline-ms]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    deadline: Option<u64>,
    /// Do not wait for running tasks: they go on after the restart
    #[arg(long)]
    force: bool,
    /// Change nothing; print which agents match
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,
    /// Wait until each restart has ended; exits with 1 if one did not end as back, or an agent was skipped
    #[arg(long)]
    wait: bool,
    /// With --wait: stop after this time, such as 90s or 2h, and exit with 124; the restarts go on
    #[arg(long, value_name = "TIME", value_parser = parse_duration, requires = "wait")]
    timeout: Option<u64>,
    /// Print the JSON of the API; with --wait one object a line: the commands, then each restart as it ends
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    hub: HubArgs,
}

impl RestartArgs {
    /// Returns the body of the request for these agents.
    fn request(&self, selector: &str) -> Value {
        let mut body = json!({"selector": selector});
        if let Some(reason) = &self.reason {
            body["reason"] = json!(reason);
        }
        if let Some(deadline) = self.deadline {
            body["deadline_ms"] = json!(deadline);
        }
        for (field, set) in [("force", self.force), ("dry_run", self.dry_run)] {
            if set {
                body[field] = json!(true);
            }
        }
        body
    }
}

/// Runs the command and returns the exit code.
pub(in crate::hub::cli) fn run(args: &RestartArgs) -> ExitCode {
    client::run(&args.hub, Folder::MustExist, async |client| {
        let request = args.request(&client.selector_to_act(&args.selector).await?);
        let answer = client.act(Method::POST, "/api/v1/restarts", Some(request), None).await?;
        let commanded = value(&answer);
        let said = if args.json { format!("{}\n", answer.get()) } else { table(&commanded) };
        let restarts: Vec<&Value> = commanded["restarts"].as_array().into_iter().flatten().collect();
        let skipped = commanded["skipped"].as_array().map_or(0, Vec::len);
        if !args.wait || restarts.is_empty() {
            let code = if restarts.is_empty() { ExitCode::No } else { ExitCode::Done };
            return Ok(Output::done(said).ending(code));
        }
        print(said.as_bytes()).map_err(Failure::silent)?;
        let ids = restarts.iter().filter_map(|restart| restart["command_id"].as_str()).map(str::to_owned).collect();
        let code = wait(client, ids, args.timeout, args.json).await?;
        Ok(Output::done("").ending(if skipped > 0 && code == ExitCode::Done { ExitCode::No } else { code }))
    })
}

fn table(answer: &Value) -> String {
    let mut table = Table::new(&["AGENT", "RESTART", "COMMAND"]);
    for restart in answer["restarts"].as_array().into_iter().flatten() {
        let word = match (answer["dry_run"] == true, restart["repeated"] == true) {
            (true, false) => "would be commanded",
            (true, true) => "goes on already; would be told again",
            (false, false) => "commanded",
            (false, true) => "goes on already",
        };
        table.row([text(&restart["agent_id"]), word.to_owned(), text(&restart["command_id"])]);
    }
    for agent in answer["skipped"].as_array().into_iter().flatten() {
        table.row([text(&agent["agent_id"]), format!("skipped: {}", text(&agent["detail"])), text(&Value::Null)]);
    }
    let (meant, skipped) = (text(&answer["matched"]), answer["skipped"].as_array().map_or(0, Vec::len));
    format!("{}matched: {meant}, skipped: {skipped}\n", table.render(terminal::columns()))
}
