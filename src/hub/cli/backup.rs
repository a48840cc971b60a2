//! `agentcom-hub backup` and `agentcom-hub restore`: arguments and output. The copies themselves are made by `state`.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use http_body_util::BodyExt as _;
use hyper::Response;
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_LENGTH;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use crate::hub::cli::client::{self, Client, Failure, Folder, HubArgs, Place};
use crate::hub::cli::exit_code::ExitCode;
use crate::hub::cli::show::output::{Output, fail};
use crate::hub::server::{ServeError, make_private_dir};
use crate::hub::state::backup::{BackupError, Checksum, Contents, back_up_stopped, receive};
use crate::hub::state::restore::{RestoreError, Restored, restore};
use crate::hub::state::store::{Store, StoreError};

/// The number of parts of a backup that are read ahead of the disk.
const READ_AHEAD: usize = 4;

#[derive(Debug, Args)]
pub(super) struct BackupArgs {
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
    hub: HubArgs,
}

#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    /// A file that `agentcom-hub backup` wrote
    file: PathBuf,
    /// Print what it holds as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    hub: HubArgs,
}

/// Makes a backup and returns the exit code. A store that no hub uses is copied as it is; a hub that runs hands one over.
pub(super) fn run_backup(args: &BackupArgs) -> ExitCode {
    let BackupArgs { out, force, json, hub } = args;
    if out.file_name().is_none() || out == Path::new("-") {
        return fail(ExitCode::Usage, "--out takes the name of a file");
    }
    let shown = |contents: &Contents| match *json {
        true => as_json(out, contents, None),
        false => format!("{} holds {}\n", out.display(), words(contents)),
    };
    if let Ok(Place::Folder(data)) = hub.place()
        && Store::path_in(&data).exists()
    {
        match back_up_stopped(&data, out, *force) {
            // A hub runs, or a command is at work.
            Err(BackupError::Store(StoreError::Locked(_))) => {}
            done => {
                let done = done.map(|contents| Output::done(shown(&contents))).map_err(Failure::from);
                return client::finish(done);
            }
        }
    }
    client::run(hub, Folder::MustExist, async |client| {
        let answer = client.fetch("/api/v1/backup").await?;
        Ok(Output::done(shown(&save(client, answer, out.clone(), *force).await?)))
    })
}

/// Writes the backup in a hub's answer to a file.
async fn save(client: &Client, answer: Response<Incoming>, out: PathBuf, replace: bool) -> Result<Contents, Failure> {
    let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let bytes = header(CONTENT_LENGTH.as_str()).parse().ok();
    let told = bytes.and_then(|bytes| Checksum::of_answer(bytes, header("repr-digest")));
    let told = told.ok_or_else(|| client.unknown_answer(&"it tells no size, or no digest"))?;
    let (parts, received) = mpsc::channel(READ_AHEAD);
    let saving = tokio::task::spawn_blocking(move || {
        let mut content = Parts { received, rest: Bytes::new() };
        receive(&mut content, told, &out, replace)
    });
    let mut body = answer.into_body();
    while let Some(frame) = body.frame().await {
        let part = frame.map_err(io::Error::other).map(|frame| frame.into_data().unwrap_or_default());
        // The writer has ended: it says why.
        if parts.send(part).await.is_err() {
            break;
        }
    }
    drop(parts);
    let saved = saving.await.map_err(|error| Failure::new(ExitCode::Internal, error.to_string()))?;
    Ok(saved?)
}

/// The parts of a body, for a thread that may wait.
struct Parts {
    received: mpsc::Receiver<io::Result<Bytes>>,
    rest: Bytes,
}

impl Read for Parts {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.received.blocking_recv() {
                Some(part) => self.rest = part?,
                None => return Ok(0),
            }
        }
        let length = self.rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.rest.split_to(length));
        Ok(length)
    }
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        let code = match &error {
            BackupError::Store(StoreError::Locked(_)) => ExitCode::Busy,
            BackupError::Store(
                StoreError::Newer { .. }
                | StoreError::NoFile { .. }
                | StoreError::Record { .. }
                | StoreError::File { .. },
            )
            | BackupError::Taken(_)
            | BackupError::IsAStore(_)
            | BackupError::NoFile { .. } => ExitCode::Unusable,
            BackupError::Write { .. } | BackupError::BrokeOff { .. } | BackupError::Differs { .. } => ExitCode::Disk,
        };
        Self::new(code, error.to_string())
    }
}

/// Restores a backup and returns the exit code.
pub(super) fn run_restore(args: &RestoreArgs) -> ExitCode {
    client::finish(restored(args).map(Output::done))
}

fn restored(args: &RestoreArgs) -> Result<String, Failure> {
    let RestoreArgs { file, json, hub } = args;
    let data = match hub.place()? {
        Place::Folder(data) => data,
        Place::Remote { .. } => {
            let message =
                "a backup is restored on the hub's machine, while the hub does not run: name its folder with --data";
            return Err(Failure::new(ExitCode::Usage, message));
        }
    };
    make_private_dir(&data).map_err(|error| ServeError::DataDir { path: data.clone(), error })?;
    let Restored { contents, former } = restore(file, &data)?;
    let store = Store::path_in(&data);
    if *json {
        return Ok(as_json(&store, &contents, former.as_deref()));
    }
    let kept = former.map(|former| format!("the store that was there is now {}\n", former.display()));
    Ok(format!(
        "{} holds {}\n{}tokens are those of the backup: one made since is refused, one revoked since is valid again \
         (agentcom-hub token list); now start the hub\n",
        store.display(),
        words(&contents),
        kept.unwrap_or_default()
    ))
}

impl From<RestoreError> for Failure {
    fn from(error: RestoreError) -> Self {
        let code = match &error {
            RestoreError::InUse(_) => ExitCode::Busy,
            RestoreError::NoStore { .. } => ExitCode::Unread,
            RestoreError::Write { .. } => ExitCode::Disk,
            RestoreError::Unreadable { .. }
            | RestoreError::Newer { .. }
            | RestoreError::IsTheStore(_)
            | RestoreError::NoFile { .. } => ExitCode::Unusable,
        };
        Self::new(code, error.to_string())
    }
}

/// Returns the contents in words: `3 tasks, 1 restarts, ...; schema 2, 1.6 MB`.
fn words(contents: &Contents) -> String {
    let records: Vec<String> = contents.records.iter().map(|(table, count)| format!("{count} {table}")).collect();
    let tenths = contents.bytes.div_ceil(100_000);
    format!("{}; schema {}, {}.{} MB", records.join(", "), contents.schema, tenths / 10, tenths % 10)
}

fn as_json(file: &Path, contents: &Contents, former: Option<&Path>) -> String {
    let records: Map<String, Value> =
        contents.records.iter().map(|(table, count)| (table.clone(), json!(count))).collect();
    let Contents { schema, bytes, .. } = contents;
    json!({"file": file.display().to_string(), "schema": schema, "records": records, "bytes": bytes,
        "former": former.map(|former| former.display().to_string())})
    .to_string()
        + "\n"
}
