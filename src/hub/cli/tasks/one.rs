//! `agentcom-hub task ID`: one task with what happened to it, and where it is followed, until it has ended.

use std::fmt::Write as _;

use clap::Args;
use serde_json::Value;

use crate::common::duration::parse_duration;
use crate::common::text::{first_chars, on_one_line};
use crate::hub::cli::client::{self, Folder, HubArgs, value};
use crate::hub::cli::exit_code::ExitCode;
use crate::hub::cli::show::fields::{ago, list, priority, text};
use crate::hub::cli::show::output::Output;
use crate::hub::cli::tasks::follow::follow;
use crate::hub::cli::tasks::parts::{get, happened, state, waits_for};

/// The most that is shown of a result, in characters.
const RESULT_CHARS: usize = 4_000;

#[derive(Debug, Args)]
pub(in crate::hub::cli) struct TaskArgs {
    /// The task's id
    #[arg(value_name = "ID")]
    id: String,
    /// Print what happens to it until it has ended; exits with 0 if it was completed, else with 1
    #[arg(long)]
    follow: bool,
    /// With --follow: stop after this time, such as 90s or 2h, and exit with 124
    #[arg(long, value_name = "TIME", value_parser = parse_duration, requires = "follow")]
    timeout: Option<u64>,
    /// Print the JSON of the API; with --follow one object a line, for each change the whole task
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    hub: HubArgs,
}

/// Runs the command and returns the exit code.
pub(in crate::hub::cli) fn run(args: &TaskArgs) -> ExitCode {
    client::run(&args.hub, Folder::MustExist, async |client| {
        if args.follow {
            return follow(client, &args.id, args.timeout, args.json).await;
        }
        let task = get(client, &args.id).await?;
        Ok(Output::done(if args.json { format!("{}\n", task.get()) } else { page(&value(&task)) }))
    })
}

fn page(task: &Value) -> String {
    let mut page = String::new();
    let mut row = |about: &str, said: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(page, "{about:<12} {}", on_one_line(said));
    };
    row(&text(&task["id"]), &state(task));
    row("description", &text(&task["description"]));
    let (created, by) = (ago(&task["created_at"]), text(&task["submitted_by"]));
    row("submitted", &format!("{created} by {by}, priority {}", priority(&task["priority"])));
    if !task["waiting_for"].is_null() {
        row("waits for", &waits_for(&task["waiting_for"]));
    }
    row("needs", &list(&task["needed_capabilities"]));
    let (failures, most, losses) = (text(&task["retry_count"]), text(&task["max_retries"]), text(&task["losses"]));
    row("failures", &format!("{failures} of {most}; lost {losses} times"));
    if !task["last_error"].is_null() {
        row("last error", &text(&task["last_error"]));
    }
    if !task["result"].is_null() {
        row("result", first_chars(&text(&task["result"]), RESULT_CHARS));
    }
    let history = task["history"].as_array().into_iter().flatten();
    for (number, entry) in history.enumerate() {
        row(if number == 0 { "history" } else { "" }, &happened(entry));
    }
    page
}
