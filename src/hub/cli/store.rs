//! `agentcom-hub store`: arguments and output. The store itself determines which records cannot be read.

use clap::Subcommand;
use serde_json::{Value, json};

use crate::hub::cli::client::{self, Folder, HubArgs, value};
use crate::hub::cli::exit_code::ExitCode;
use crate::hub::cli::show::fields::text;
use crate::hub::cli::show::output::Output;

#[derive(Debug, Subcommand)]
pub(in crate::hub::cli) enum StoreAction {
    /// List the records that cannot be read: table, key, bytes, why, and what to do. Exits with 65 if there are any. Of a
    /// hub that runs, it lists those found at its start
    Check {
        /// Print a JSON list
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        hub: HubArgs,
    },
}

/// Runs the command and returns the exit code.
pub(in crate::hub::cli) fn run(action: &StoreAction) -> ExitCode {
    let StoreAction::Check { json, hub } = action;
    client::run(hub, Folder::MustExist, async |client| {
        let answer = value(&client.get("/api/v1/store/unread").await?);
        let unread = answer["items"].as_array().ok_or_else(|| client.unknown_answer(&"it has no `items`"))?;
        let shown = if *json { as_json(unread) } else { as_text(unread, &client.store()) };
        let code = if unread.is_empty() { ExitCode::Done } else { ExitCode::Unread };
        Ok(Output::done(shown).ending(code))
    })
}

fn as_text(unread: &[Value], store: &str) -> String {
    if unread.is_empty() {
        return format!("{store}: every record can be read\n");
    }
    let record = |record: &Value| {
        let [table, key, bytes, why] = ["table", "key", "bytes", "why"].map(|field| text(&record[field]));
        format!("{table}/{key}: {bytes} bytes: {why}\n  -> {}\n", advice(&table))
    };
    let records: String = unread.iter().map(record).collect();
    format!("{store}: {} cannot be read; each is kept as it is and counts for nothing\n{records}", unread.len())
}

fn as_json(unread: &[Value]) -> String {
    let record = |record: &Value| {
        let mut record = record.clone();
        record["then"] = json!(advice(&text(&record["table"])));
        record
    };
    Value::from_iter(unread.iter().map(record)).to_string() + "\n"
}

/// Returns what to do about an unreadable record of this table.
pub(in crate::hub::cli) fn advice(table: &str) -> &'static str {
    match table {
        "tasks" => "submit the task again, or start the version of the hub that wrote it",
        "invitations" => "make a new one (agentcom-hub invite), or start the version of the hub that wrote it",
        "tokens" => "make a new one (agentcom-hub token NAME), or start the version of the hub that wrote it",
        "healing" => {
            "the rule's cooldown and budget for that agent begin anew; or start the version of the hub that wrote it"
        }
        "agents" => {
            "it begins anew when the agent identifies, without its labels and counts; or start the version of the hub that wrote it"
        }
        _ => "nothing is lost but this line of the past; or start the version of the hub that wrote it",
    }
}
