//! `agentcom-hub rollout status`: the rollouts, or how one of them is, why, and what to do next.

use clap::Args;

use crate::common::cli::table::Table;
use crate::common::cli::terminal;
use crate::common::wall_clock::utc;
use crate::hub::cli::client::{self, Client, Failure, Folder, HubArgs, Items};
use crate::hub::cli::exit_code::ExitCode;
use crate::hub::cli::rollouts::records::{RolloutRecord, TargetRecord, not_done, path_of, read};
use crate::hub::cli::rollouts::words;
use crate::hub::cli::show::fields::{NONE, age};
use crate::hub::cli::show::output::Output;
use crate::hub::cli::show::page::Page;
use crate::hub::scheduler::rollouts::target::TargetPhase;

/// The number of targets of each state that the page of a rollout shows.
const SHOWN: usize = 20;

#[derive(Debug, Args)]
pub(in crate::hub::cli) struct StatusArgs {
    /// The rollout's id; without one, all rollouts
    #[arg(value_name = "ID")]
    id: Option<String>,
    /// Only those in this state: of one rollout, the targets that are pending, waiting, restarting, soaking, succeeded,
    /// failed, skipped or cancelled; else the rollouts that are in their canary, running, paused, halted, succeeded, partial
    /// or cancelled
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    /// Print the JSON of the API: a list, or one rollout
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    hub: HubArgs,
}

/// Runs the command and returns the exit code.
pub(super) fn run(args: &StatusArgs) -> ExitCode {
    client::run(&args.hub, Folder::MustExist, async |client| match (&args.id, &args.state) {
        (None, state) => {
            let found = client.list("/api/v1/rollouts", &[("state", state.clone())], None).await?;
            Ok(Output::done(if args.json { found.to_json() } else { rollouts(client, &found)? }))
        }
        (Some(id), Some(_)) => {
            let found = client.list(&format!("{}/targets", path_of(id)), &[("state", args.state.clone())], None).await;
            let found = found.map_err(|failure| not_done(failure, id, &args.hub.typed()))?;
            Ok(Output::done(if args.json { found.to_json() } else { targets(client, &found)? }))
        }
        (Some(id), None) => one(client, args, id).await,
    })
}

async fn one(client: &mut Client, args: &StatusArgs, id: &str) -> Result<Output, Failure> {
    let hub = args.hub.typed();
    let answer = client.get(&path_of(id)).await.map_err(|failure| not_done(failure, id, &hub))?;
    if args.json {
        return Ok(Output::done(format!("{}\n", answer.get())));
    }
    let rollout: RolloutRecord = read(client, answer.get())?;
    let mut said = page(&rollout);
    let (mut raw, mut more) = (Vec::new(), Vec::new());
    for (state, count) in of_interest(&rollout) {
        let name: &str = state.into();
        if count == 0 {
            continue;
        }
        let only = [("state", Some(name.to_owned()))];
        let found = client.list(&format!("{}/targets", path_of(id)), &only, Some(SHOWN)).await?;
        if found.more {
            more.push(format!("more are {name}: agentcom-hub rollout status {id} --state {name}{hub}\n"));
        }
        raw.extend(found.raw);
    }
    if !raw.is_empty() {
        said.push_str(&targets(client, &Items { raw, more: false })?);
    }
    Ok(Output::done(said + &more.concat() + &rollout.next_steps(&hub)))
}

/// Returns the states whose targets are shown one by one, with the number of these.
fn of_interest(rollout: &RolloutRecord) -> [(TargetPhase, u32); 5] {
    let counts = &rollout.counts;
    [
        (TargetPhase::Failed, counts.failed),
        (TargetPhase::Skipped, counts.skipped),
        (TargetPhase::Waiting, counts.waiting),
        (TargetPhase::Restarting, counts.restarting),
        (TargetPhase::Soaking, counts.soaking),
    ]
}

fn page(rollout: &RolloutRecord) -> String {
    let mut page = Page::default();
    page.row(&rollout.rollout_id, &format!("{} (since {} ago)", rollout.said(), age(rollout.since)));
    page.row("asked for", &format!("by {}, {} ago: {}", rollout.by, age(rollout.created_at), rollout.reason));
    page.row("selector", &rollout.selector);
    let plan = &rollout.plan;
    let version = plan.expect_version.as_ref().map(|version| format!(", version {version} expected"));
    let canary = plan.canary.map(|canary| format!(", {canary} as canary")).unwrap_or_default();
    let (most, failures) = (plan.max_unavailable, plan.max_failures);
    page.row("plan", &format!("{most} at once{canary}, {failures} may fail{}", version.unwrap_or_default()));
    page.row("wave", &format!("{}, up to {} of {} targets", rollout.wave_name(), rollout.wave_cap, rollout.size));
    let (through, pending) = (rollout.through(), rollout.counts.pending);
    page.row("targets", &format!("{through} through: {}; {pending} to come", words::counts(&rollout.counts)));
    if let Some(at) = rollout.ended_at {
        page.row("ended", &utc(at));
    }
    page.text
}

fn targets(client: &Client, found: &Items) -> Result<String, Failure> {
    let mut table = Table::new(&["AGENT", "STATE", "SINCE", "HOW IT IS"]);
    for raw in &found.raw {
        let target: TargetRecord = read(client, raw.get())?;
        let state: &str = target.state.into();
        let said = target.said();
        table.row([target.agent_id, state.to_owned(), format!("{} ago", age(target.since)), said]);
    }
    Ok(table.render(terminal::columns()))
}

fn rollouts(client: &Client, found: &Items) -> Result<String, Failure> {
    let mut table = Table::new(&["ROLLOUT", "STARTED", "THROUGH", "FAILED", "SKIPPED", "BY", "REASON", "STATE"]);
    for raw in &found.raw {
        let rollout: RolloutRecord = read(client, raw.get())?;
        let said = rollout.said();
        let reason = if rollout.reason.is_empty() { NONE.to_owned() } else { rollout.reason.clone() };
        table.row([
            rollout.rollout_id.clone(),
            format!("{} ago", age(rollout.created_at)),
            format!("{} of {}", rollout.through(), rollout.size),
            rollout.counts.failed.to_string(),
            rollout.counts.skipped.to_string(),
            rollout.by,
            reason,
            said,
        ]);
    }
    Ok(table.render(terminal::columns()))
}
