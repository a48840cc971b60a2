//! `agentcom-hub store`: arguments and output. The store itself determines which records cannot be read.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use crate::hub::admin_socket::Request;
use crate::hub::cli::output::{fail, print};
use crate::hub::cli::request::{DataArgs, request_or_fail};
use crate::hub::state::store::{Store, UnreadRecord};

/// The exit code for a store with records that cannot be read.
const UNREAD: u8 = 65;

#[derive(Debug, Subcommand)]
pub(crate) enum StoreAction {
    /// List the records that cannot be read: table, key, bytes, why, and what to do. Exits 65 where there are any. Also
    /// while the hub runs on the same data dir: then those that it met at its start
    Check {
        /// Print a JSON list
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        data: DataArgs,
    },
}

/// Runs the command and returns the exit code.
pub(crate) fn run(action: &StoreAction) -> ExitCode {
    let StoreAction::Check { json, data } = action;
    let path = Store::path_in(&data.dir);
    if !path.exists() {
        return fail(78, &format!("there is no store at {}: name the hub's data dir with --data", path.display()));
    }
    let unread = match request_or_fail(data, &Request::CheckStore) {
        Ok(answer) => answer.unread.unwrap_or_default(),
        Err(code) => return code,
    };
    let printed = print(&if *json { as_json(&unread) } else { as_text(&unread, &path.display().to_string()) });
    if unread.is_empty() || printed != ExitCode::SUCCESS { printed } else { ExitCode::from(UNREAD) }
}

fn as_text(unread: &[UnreadRecord], path: &str) -> String {
    if unread.is_empty() {
        return format!("{path}: every record can be read\n");
    }
    let record = |UnreadRecord { table, key, bytes, why }: &UnreadRecord| {
        format!("{table}/{key}: {bytes} bytes: {why}\n  -> {}\n", advice(table))
    };
    let records: String = unread.iter().map(record).collect();
    format!("{path}: {} cannot be read; each is kept as it is and counts for nothing\n{records}", unread.len())
}

fn as_json(unread: &[UnreadRecord]) -> String {
    let record = |UnreadRecord { table, key, bytes, why }: &UnreadRecord| json!({"table": table, "key": key, "bytes": bytes, "why": why, "then": advice(table)});
    serde_json::Value::from_iter(unread.iter().map(record)).to_string() + "\n"
}

fn advice(table: &str) -> &'static str {
    match table {
        "tasks" => "submit the task again, or start the version of the hub that wrote it",
        "invitations" => "make a new one (agentcom-hub invite), or start the version of the hub that wrote it",
        "tokens" => "make a new one (agentcom-hub token NAME), or start the version of the hub that wrote it",
        "agents" => {
            "it begins anew when the agent identifies, without its labels and counts; or start the version of the hub that wrote it"
        }
        _ => "nothing is lost but this line of the past; or start the version of the hub that wrote it",
    }
}
