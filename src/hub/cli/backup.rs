//! `agentcom-hub backup` and `agentcom-hub restore`: arguments and output. The copies themselves are made by `state`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::hub::cli::output::{fail, print};
use crate::hub::cli::request::{DataArgs, make_data_dir};
use crate::hub::state::backup::{BackupError, Contents, back_up_stopped};
use crate::hub::state::restore::{RestoreError, Restored, restore};
use crate::hub::state::store::{Store, StoreError};

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// The file to write (mode 0600: it holds the hashes of all tokens, and every result)
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Replace FILE if it is there
    #[arg(long)]
    force: bool,
    /// Print what it holds as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// A file that `agentcom-hub backup` wrote
    file: PathBuf,
    /// Print what it holds as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataArgs,
}

/// Makes a backup and returns the exit code.
pub(crate) fn run_backup(args: &BackupArgs) -> ExitCode {
    let BackupArgs { out, force, json, data } = args;
    let store = Store::path_in(&data.dir);
    if !store.exists() {
        return fail(78, &format!("there is no store at {}: name the hub's data dir with --data", store.display()));
    }
    if out.file_name().is_none() || out == Path::new("-") {
        return fail(2, "--out takes the name of a file");
    }
    match back_up_stopped(&data.dir, out, *force) {
        Ok(contents) => {
            let text = format!("{} holds {}\n", out.display(), words(&contents));
            print(&if *json { as_json(out, &contents, None) } else { text })
        }
        Err(BackupError::Store(StoreError::Locked(path))) => {
            let path = path.display();
            fail(
                75,
                &format!("{path} is in use by a hub: fetch the backup from that hub (GET /api/v1/backup, docs/hub.md)"),
            )
        }
        Err(error) => fail(backup_exit_code(&error), &error.to_string()),
    }
}

const fn backup_exit_code(error: &BackupError) -> u8 {
    match error {
        BackupError::Store(StoreError::Locked(_)) => 75,
        BackupError::Store(
            StoreError::Newer { .. } | StoreError::NoFile { .. } | StoreError::Record { .. } | StoreError::File { .. },
        )
        | BackupError::Taken(_)
        | BackupError::IsAStore(_)
        | BackupError::NoFile { .. } => 78,
        BackupError::Write { .. } | BackupError::BrokeOff { .. } | BackupError::Differs { .. } => 74,
    }
}

/// Restores a backup and returns the exit code.
pub(crate) fn run_restore(args: &RestoreArgs) -> ExitCode {
    let RestoreArgs { file, json, data } = args;
    if let Err(code) = make_data_dir(data) {
        return code;
    }
    let Restored { contents, former } = match restore(file, &data.dir) {
        Ok(restored) => restored,
        Err(error) => return fail(restore_exit_code(&error), &error.to_string()),
    };
    let store = Store::path_in(&data.dir);
    if *json {
        return print(&as_json(&store, &contents, former.as_deref()));
    }
    let kept = former.map(|former| format!("the store that was there is now {}\n", former.display()));
    print(&format!(
        "{} holds {}\n{}tokens are those of the backup: one made since is refused, one revoked since is valid again \
         (agentcom-hub token list); now start the hub\n",
        store.display(),
        words(&contents),
        kept.unwrap_or_default()
    ))
}

const fn restore_exit_code(error: &RestoreError) -> u8 {
    match error {
        RestoreError::InUse(_) => 75,
        RestoreError::NoStore { .. } => 65,
        RestoreError::Write { .. } => 74,
        RestoreError::Unreadable { .. }
        | RestoreError::Newer { .. }
        | RestoreError::IsTheStore(_)
        | RestoreError::NoFile { .. } => 78,
    }
}

/// Returns the contents in words: `3 tasks, 1 restarts, ...; schema 2, 1.6 MB`.
fn words(contents: &Contents) -> String {
    let records: Vec<String> = contents.records.iter().map(|(table, count)| format!("{count} {table}")).collect();
    let tenths = contents.bytes.div_ceil(100_000);
    format!("{}; schema {}, {}.{} MB", records.join(", "), contents.schema, tenths / 10, tenths % 10)
}

fn as_json(file: &Path, contents: &Contents, former: Option<&Path>) -> String {
    let records: serde_json::Map<String, serde_json::Value> =
        contents.records.iter().map(|(table, count)| (table.clone(), json!(count))).collect();
    let Contents { schema, bytes, .. } = contents;
    json!({"file": file.display().to_string(), "schema": schema, "records": records, "bytes": bytes,
        "former": former.map(|former| former.display().to_string())})
    .to_string()
        + "\n"
}
