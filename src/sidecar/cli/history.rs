//! `history`: what this agent's sidecar did, from the file that it keeps beside the journal. It needs no running sidecar and
//! changes nothing.

use clap::Args;
use serde::Serialize;

use crate::common::cli::table::Table;
use crate::common::cli::terminal;
use crate::common::text::count_of;
use crate::common::wall_clock::{now_ms, utc};
use crate::sidecar::cli::options::Options;
use crate::sidecar::cli::out::print;
use crate::sidecar::cli::report::{Report, json_line, remark};
use crate::sidecar::cli::show;
use crate::sidecar::config::Config;
use crate::sidecar::exit_code::ExitCode;
use crate::sidecar::history::items::{Item, RestartOutcome, RunState, What, items_of};
use crate::sidecar::history::{RunEnd, path_of, reader};
use crate::sidecar::journal::state_lock::StateLock;

/// The arguments of `history`.
#[derive(Debug, Clone, Copy, Args)]
pub struct HistoryArgs {
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
    /// Print at most N items, the newest
    #[arg(short = 'n', long = "limit", value_name = "N", value_parser = clap::value_parser!(u32).range(1..), default_value_t = 50)]
    limit: u32,
}

/// The document that `history --json` prints.
#[derive(Serialize)]
struct Document<'a> {
    agent_id: &'a str,
    /// The file that the history is in.
    file: String,
    /// Whether a sidecar serves this agent now.
    running: bool,
    /// The number of lines that cannot be read.
    skipped: u64,
    /// The number of items that are kept, of which the newest are here.
    kept: usize,
    items: &'a [Item],
}

/// Prints the runs, tasks, restarts and drains, newest first.
pub fn history(options: &Options, args: &HistoryArgs) -> ExitCode {
    let config = match options.load() {
        Ok(loaded) => loaded.config,
        Err(error) => return Report::new(ExitCode::Config, error.to_string()).print(args.json),
    };
    match text_of(&config, args) {
        Ok(text) => print(text.as_bytes()),
        Err(why) => Report::new(ExitCode::StateUnusable, why).print(args.json),
    }
}

fn text_of(config: &Config, args: &HistoryArgs) -> Result<String, String> {
    let history = reader::read(&config.queue_file).map_err(|error| error.to_string())?;
    let holder = StateLock::holder(&config.queue_file).map_err(|error| error.to_string())?;
    let file = path_of(&config.queue_file).map_err(|error| error.to_string())?.display().to_string();
    let all = items_of(&history.entries, holder.as_ref().and_then(|holder| holder.pid));
    let items = all.get(..args.limit as usize).unwrap_or(&all);
    if args.json {
        return Ok(json_line(&Document {
            agent_id: &config.agent_id,
            file,
            running: holder.is_some(),
            skipped: history.skipped,
            kept: all.len(),
            items,
        }));
    }
    if history.skipped > 0 {
        remark(&format!("left out, because it cannot be read: {} of {file}", count_of(history.skipped, "line")));
    }
    if items.is_empty() {
        return Ok(format!("{}: nothing is kept yet ({file})\n", config.agent_id));
    }
    let now = now_ms();
    let mut table = Table::new(&["WHEN (UTC)", "WHAT", "STATE", "TOOK", "DETAILS"]);
    items.iter().for_each(|item| table.row(row(item, now)));
    Ok(table.render(terminal::columns()))
}

/// Returns an item as a row: when, what, its state, how long, and the rest.
fn row(item: &Item, now: u64) -> [String; 5] {
    let lasted = |to: u64| show::duration(to.saturating_sub(item.at_ms));
    let ended = || item.ended_at_ms.map(lasted).unwrap_or_default();
    let (what, state, took, details) = match &item.what {
        What::Run { end, last_seen_at_ms, .. } => {
            let took = match end {
                RunState::Running => lasted(now),
                RunState::Ended(_) if item.ended_at_ms.is_some() => ended(),
                RunState::Ended(_) => format!("> {}", lasted(*last_seen_at_ms)),
            };
            ("run", end.to_string(), took, run_details(&item.what))
        }
        What::Task { task_id, generation, outcome, why, duration_ms } => {
            let state = outcome.map_or_else(|| "in hand".to_owned(), |outcome| outcome.to_string());
            let in_hand = || if outcome.is_none() { lasted(now) } else { String::new() };
            let parts = [Some(format!("{task_id} generation {generation}")), why.clone()];
            ("task", state, duration_ms.map_or_else(in_hand, show::duration), joined(parts))
        }
        What::Restart { planned: false, detail, .. } => {
            let unknown = || "the run before did not say that it ends".to_owned();
            ("restart", "unplanned".to_owned(), String::new(), detail.clone().unwrap_or_else(unknown))
        }
        What::Restart { planned: true, outcome, gap_ms, .. } => {
            let open = || if *outcome == RestartOutcome::Open { lasted(now) } else { String::new() };
            ("restart", outcome.to_string(), gap_ms.map_or_else(open, show::duration), restart_details(&item.what))
        }
        What::Drain {} if item.ended_at_ms.is_some() => ("drain", "resumed".to_owned(), ended(), String::new()),
        What::Drain {} => ("drain", "on".to_owned(), lasted(now), String::new()),
    };
    [time(item.at_ms), what.to_owned(), state, took, details]
}

fn run_details(run: &What) -> String {
    let What::Run { version, pid, end, why, exit_code, in_place, .. } = run else { return String::new() };
    let lost = (*end == RunState::Ended(RunEnd::Lost)).then(|| "killed, or crashed".to_owned());
    joined([
        pid.map(|pid| format!("process {pid}")),
        version.as_ref().map(|version| format!("version {version}")),
        why.clone().or(lost),
        exit_code.map(|code| format!("exit {code}")),
        in_place.then(|| "replaced in place".to_owned()),
    ])
}

fn restart_details(restart: &What) -> String {
    let What::Restart { reason, by, command_id, detail, .. } = restart else { return String::new() };
    let by = by.clone().or(command_id.as_ref().map(|_| "the hub".to_owned()));
    joined([
        reason.as_ref().map(|reason| format!("\"{reason}\"")),
        by.map(|by| format!("by {by}")),
        command_id.clone(),
        detail.clone(),
    ])
}

/// Returns the time to the second, for a column.
fn time(at_ms: u64) -> String {
    let utc = utc(at_ms);
    utc.split_once('.').map_or(&*utc, |(seconds, _)| seconds).replace('T', " ")
}

fn joined<const N: usize>(parts: [Option<String>; N]) -> String {
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
