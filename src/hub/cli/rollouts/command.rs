//! `agentcom-hub rollout`: its commands, and those that do something with one rollout.

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::json;

use crate::common::duration::parse_duration;
use crate::common::text::on_one_line;
use crate::hub::acts::RolloutAct;
use crate::hub::cli::client::{self, Folder, HubArgs};
use crate::hub::cli::exit_code::ExitCode;
use crate::hub::cli::rollouts::records::{RolloutRecord, not_done, path_of, read};
use crate::hub::cli::rollouts::start::{self, StartArgs};
use crate::hub::cli::rollouts::status::{self, StatusArgs};
use crate::hub::cli::rollouts::watch::{Watched, watch};
use crate::hub::cli::rollouts::words;
use crate::hub::cli::show::output::Output;

#[derive(Debug, Subcommand)]
pub(in crate::hub::cli) enum RolloutAction {
    /// Start a rollout: restarts of a selection of agents, a few at a time
    #[command(after_long_help = "\
Examples:
  agentcom-hub rollout start all --dry-run
  agentcom-hub rollout start label.pool=gpu --reason 'driver 7' --canary 1 --max-unavailable 5% --watch
  agentcom-hub rollout start all --expect-version 0.2.0 --step 1,5%,25% --soak 5m --offline wait --wait-for 12h")]
    Start(Box<StartArgs>),
    /// List the rollouts, newest first; or show one: its state, why, and what to do next
    #[command(after_long_help = "\
Examples:
  agentcom-hub rollout status
  agentcom-hub rollout status rollout-0123456789abcdef --state failed")]
    Status(StatusArgs),
    /// Watch a rollout until it has ended, is paused or halted, or waits for promote
    #[command(after_long_help = "\
Exits with 0 if every agent has restarted; with 1 if it ended otherwise, or waits for an operator; with 124 after --timeout.
A hub that restarts meanwhile is waited for.

Examples:
  agentcom-hub rollout watch rollout-0123456789abcdef --timeout 2h && echo all have restarted")]
    Watch(WatchArgs),
    /// Pause a rollout: no further restart begins, and those under way are followed to their end
    Pause(ActArgs),
    /// Continue a rollout that is paused or halted; failures so far do not count any more
    Resume(ActArgs),
    /// Continue with the other agents, once the canary has succeeded
    Promote(ActArgs),
    /// End a rollout: no further restart begins, and those under way are followed to their end
    Cancel(ActArgs),
    /// Withdraw the restarts of a stopped rollout that have not reached their agents
    Recall(ActArgs),
    /// Try the failed agents again; a rollout that is stopped also needs `rollout resume`
    #[command(after_long_help = "\
Examples:
  agentcom-hub rollout retry-failed rollout-0123456789abcdef && agentcom-hub rollout resume rollout-0123456789abcdef")]
    RetryFailed(ActArgs),
}

#[derive(Debug, Args)]
pub(in crate::hub::cli) struct WatchArgs {
    /// The rollout's id
    #[arg(value_name = "ID")]
    id: String,
    /// Stop after this time, such as 90s or 2h, and exit with 124; the rollout goes on
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    timeout: Option<u64>,
    /// Print one JSON object a line: the rollout, each target as it moves, the rollout whenever its state or wave changes
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    hub: HubArgs,
}

#[derive(Debug, Args)]
pub(in crate::hub::cli) struct ActArgs {
    /// The rollout's id
    #[arg(value_name = "ID")]
    id: String,
    /// The reason, as the audit shows it
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Print the JSON of the API
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    hub: HubArgs,
}

/// Runs the command and returns the exit code.
pub(in crate::hub::cli) fn run(action: RolloutAction) -> ExitCode {
    match action {
        RolloutAction::Start(args) => start::run(&args),
        RolloutAction::Status(args) => status::run(&args),
        RolloutAction::Watch(args) => watch_one(args),
        RolloutAction::Pause(args) => act(&args, RolloutAct::Pause),
        RolloutAction::Resume(args) => act(&args, RolloutAct::Resume),
        RolloutAction::Promote(args) => act(&args, RolloutAct::Promote),
        RolloutAction::Cancel(args) => act(&args, RolloutAct::Cancel),
        RolloutAction::Recall(args) => act(&args, RolloutAct::Recall),
        RolloutAction::RetryFailed(args) => act(&args, RolloutAct::RetryFailed),
    }
}

fn watch_one(args: WatchArgs) -> ExitCode {
    let WatchArgs { id, timeout, json, hub } = args;
    let watched = Watched { id, hub: hub.typed(), json, is_new: false, timeout_ms: timeout };
    client::run(&hub, Folder::MustExist, async |client| watch(client, watched).await)
}

fn act(args: &ActArgs, act: RolloutAct) -> ExitCode {
    let hub = args.hub.typed();
    client::run(&args.hub, Folder::MustExist, async |client| {
        let act: &str = act.into();
        let body = args.reason.as_ref().map_or_else(|| json!({}), |reason| json!({"reason": reason}));
        let answer = client.act(Method::POST, &format!("{}/{act}", path_of(&args.id)), Some(body), None).await;
        let answer = answer.map_err(|failure| not_done(failure, &args.id, &hub))?;
        if args.json {
            return Ok(Output::done(format!("{}\n", answer.get())));
        }
        let rollout: RolloutRecord = read(client, answer.get())?;
        let (said, counts) = (rollout.said(), words::counts(&rollout.counts));
        let line = on_one_line(&format!("{}: {said}; {}: {counts}", rollout.rollout_id, rollout.wave_name()));
        Ok(Output::done(format!("{line}\n{}", rollout.next_steps(&hub))))
    })
}
