//! `agentcom-hub backup` and `agentcom-hub restore`: arguments and output. The copies themselves are made by `state`, those of
//! a running hub by that hub.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use crate::hub::admin_socket::{LOCK_TIMEOUT, Request, Response, send_to_running_hub};
use crate::hub::backups::{Failure, exit_code};
use crate::hub::cli::output::{fail, print};
use crate::hub::cli::request::{DataArgs, make_data_dir};
use crate::hub::state::backup::{BackupError, Contents, back_up_stopped, inspect};
use crate::hub::state::restore::{RestoreError, Restored, restore};
use crate::hub::state::store::{Store, StoreError};

/// How long a running hub may take for a backup.
const BACKUP_TIMEOUT: Duration = Duration::from_secs(3_600);

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
    // The hub's working directory is another one.
    let out = match std::path::absolute(out) {
        Ok(out) if out.to_str().is_some() && out.file_name().is_some() && args.out != Path::new("-") => out,
        Ok(_) | Err(_) => return fail(2, "--out takes the name of a file, in UTF-8"),
    };
    match make(&data.dir, &out, *force) {
        Ok(contents) => {
            let text = format!("{} holds {}\n", out.display(), words(&contents));
            print(&if *json { as_json(&out, &contents, None) } else { text })
        }
        Err((code, why)) => fail(code, &why),
    }
}

/// Lets the running hub make the backup, or makes it where none runs.
fn make(data_dir: &Path, out: &Path, force: bool) -> Result<Contents, Failure> {
    let request = Request::Backup { out: out.to_owned(), force };
    let began = Instant::now();
    loop {
        match send_to_running_hub(data_dir, &request, BACKUP_TIMEOUT) {
            Ok(Some(response)) => return made_by_the_hub(response, out),
            Ok(None) => {}
            Err(error) => {
                let then = "see whether the file is there before you try again";
                return Err((75, format!("the hub was told and did not answer ({error}): {then}")));
            }
        }
        match back_up_stopped(data_dir, out, force) {
            Ok(contents) => return Ok(contents),
            // A starting hub locks the store a moment before it binds the socket.
            Err(BackupError::Store(StoreError::Locked(_))) if began.elapsed() < LOCK_TIMEOUT => {
                std::thread::sleep(Duration::from_millis(25));
            }
            Err(error) => return Err((exit_code(&error), error.to_string())),
        }
    }
}

fn made_by_the_hub(response: Response, out: &Path) -> Result<Contents, Failure> {
    let contents = match response.backup {
        Some(contents) => contents,
        None => {
            let (code, why) = response.failure();
            return Err((code, format!("the hub said no: {why}")));
        }
    };
    // What this user finds there is what counts.
    match inspect(out) {
        Ok(found) if found == contents => Ok(contents),
        Ok(found) => {
            let why = format!("the hub wrote {}, and {} holds {}", words(&contents), out.display(), words(&found));
            Err((74, format!("{why}: is another program writing that file?")))
        }
        Err(error) => {
            let hint = "does the hub run in a container, or with PrivateTmp=? Name a file below its data dir";
            Err((74, format!("the hub wrote the copy, but {} cannot be read here ({error}): {hint}", out.display())))
        }
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
