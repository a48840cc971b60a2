//! `agentcom-hub cancel` and `agentcom-hub retry`.

use clap::Args;
use hyper::Method;
use serde_json::json;

use crate::common::text::on_one_line;
use crate::hub::cli::client::{self, Folder, HubArgs, value};
use crate::hub::cli::exit_code::ExitCode;
use crate::hub::cli::show::fields::text;
use crate::hub::cli::show::output::Output;
use crate::hub::cli::tasks::parts::{no_such_task, path_of, state};

#[derive(Debug, Args)]
pub(in crate::hub::cli) struct ChangeArgs {
    /// The task's id
    #[arg(value_name = "ID")]
    id: String,
    /// Print the JSON of the API
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    hub: HubArgs,
}

/// What is done to a task.
#[derive(Debug, Clone, Copy)]
pub(in crate::hub::cli) enum Change {
    /// It is cancelled.
    Cancel,
    /// A dead letter is queued again.
    Retry,
}

/// Runs the command and returns the exit code.
pub(in crate::hub::cli) fn run(args: &ChangeArgs, change: Change) -> ExitCode {
    let word = match change {
        Change::Cancel => "cancel",
        Change::Retry => "retry",
    };
    client::run(&args.hub, Folder::MustExist, async |client| {
        let path = format!("{}/{word}", path_of(&args.id));
        let answer = client.act(Method::POST, &path, Some(json!({})), None).await;
        let answer = answer.map_err(|failure| no_such_task(failure, &args.id))?;
        let task = value(&answer);
        let said = on_one_line(&format!("{} is {}", text(&task["id"]), state(&task)));
        Ok(Output::done(if args.json { format!("{}\n", answer.get()) } else { said + "\n" }))
    })
}
