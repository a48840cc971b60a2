//! `agentcom-hub backup` and `agentcom-hub restore`: arguments and output. The copies themselves are made by `state`.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use http_body_util::BodyExt as _;
use hyper::Response;
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::CONTENT_LENGTH;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::common::fs::atomic_file::remove_leftovers;
#[cfg(feature = "postgres")]
use crate::common::fs::atomic_file::utc_stamp;
use crate::hub::cli::client::{self, Client, Failure, Folder, HubArgs, Place, of_database};
#[cfg(feature = "postgres")]
use crate::hub::cli::database::CopiedArgs;
use crate::hub::cli::exit_code::ExitCode;
use crate::hub::cli::show::output::{Output, fail};
use crate::hub::options::ServeError;
#[cfg(feature = "postgres")]
use crate::hub::random;
#[cfg(feature = "postgres")]
use crate::hub::state::backup::database::back_up;
use crate::hub::state::backup::{BackupError, Checksum, Contents, back_up_stopped, receive};
#[cfg(feature = "postgres")]
use crate::hub::state::restore::database::restore_into;
use crate::hub::state::restore::{RestoreError, Restored, restore};
#[cfg(feature = "postgres")]
use crate::hub::state::store::postgres::Database;
use crate::hub::state::store::{Store, StoreError, elsewhere, make_private_dir};

/// The number of parts of a backup that are read ahead of the disk.
const READ_AHEAD: usize = 4;
/// The longest pause between two parts of a backup.
const SILENCE: Duration = Duration::from_secs(60);

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
    #[cfg(feature = "postgres")]
    #[command(flatten)]
    store: CopiedArgs,
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
    #[cfg(feature = "postgres")]
    #[command(flatten)]
    store: CopiedArgs,
}

/// Makes a backup and returns the exit code. A store that no hub uses is copied as it is; a hub that runs hands one over.
pub(super) fn run_backup(args: &BackupArgs) -> ExitCode {
    let BackupArgs { out, force, json, hub, .. } = args;
    if out.file_name().is_none() || out == Path::new("-") {
        return fail(ExitCode::Usage, "--out takes the name of a file");
    }
    let shown = |contents: &Contents| match *json {
        true => as_json(out, contents, None),
        false => format!("{} holds {}\n", out.display(), words(contents)),
    };
    #[cfg(feature = "postgres")]
    match args.store.database() {
        Ok(None) => {}
        Ok(Some(database)) => {
            return client::finish(
                back_up(&database, out, *force).map(|it| Output::done(shown(&it))).map_err(Failure::from),
            );
        }
        Err(failure) => return client::finish(Err(failure)),
    }
    client::run(hub, Folder::MustExist, async |client| {
        let mut unfinished = Unfinished(Some(out));
        let saved = save_any(client, out, *force).await;
        unfinished.0 = None;
        Ok(Output::done(shown(&saved?)))
    })
}

/// Makes the backup: of a store that nobody uses, or by the hub.
async fn save_any(client: &mut Client, out: &Path, replace: bool) -> Result<Contents, Failure> {
    if let Some(contents) = save_stopped(client, out.to_owned(), replace).await? {
        return Ok(contents);
    }
    let answer = client.fetch("/api/v1/backup").await?;
    save(client, answer, out.to_owned(), replace).await
}

/// The file beside which a backup is being written. Dropping it removes what is there so far: the thread that writes it does
/// not end with the command's work.
struct Unfinished<'a>(Option<&'a Path>);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        // What cannot be removed now, the next backup to this file removes.
        let _ = self.0.map(remove_leftovers);
    }
}

/// Copies the store of a data folder that nobody uses; `None` where a hub runs or a command is at work, which is asked then.
async fn save_stopped(client: &Client, out: PathBuf, replace: bool) -> Result<Option<Contents>, Failure> {
    let Place::Folder(data) = client.place() else { return Ok(None) };
    let data = data.clone();
    // A file that lies beside the sign of a database is what was there before.
    if elsewhere(&data).is_some() || !Store::path_in(&data).exists() {
        return Ok(None);
    }
    let saving = tokio::task::spawn_blocking(move || back_up_stopped(&data, &out, replace));
    match saving.await.map_err(|error| Failure::new(ExitCode::Internal, error.to_string()))? {
        Err(BackupError::Store(StoreError::Locked(_))) => Ok(None),
        done => Ok(Some(done?)),
    }
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
    pass_on(answer.into_body(), parts).await;
    let saved = saving.await.map_err(|error| Failure::new(ExitCode::Internal, error.to_string()))?;
    Ok(saved?)
}

/// Passes the parts of a body on until its end, or until it has been silent for too long.
async fn pass_on<B: Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static> + Unpin>(
    mut body: B,
    parts: mpsc::Sender<io::Result<Bytes>>,
) {
    loop {
        let part = match timeout(SILENCE, body.frame()).await {
            Ok(None) => return,
            Ok(Some(frame)) => frame.map_err(io::Error::other).map(|frame| frame.into_data().unwrap_or_default()),
            Err(_) => Err(io::Error::other(format!("the hub sent nothing for {} s", SILENCE.as_secs()))),
        };
        let is_last = part.is_err();
        // Where it is not taken, the writer has ended: it says why.
        if parts.send(part).await.is_err() || is_last {
            return;
        }
    }
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
            BackupError::Store(StoreError::Locked(_)) | BackupError::BrokeOff { .. } => ExitCode::Busy,
            BackupError::Store(StoreError::Database(error)) => of_database(error),
            BackupError::Store(error) if error.is_the_disks() => ExitCode::Disk,
            BackupError::Store(_) | BackupError::Taken(_) | BackupError::IsAStore(_) | BackupError::NoFile { .. } => {
                ExitCode::Unusable
            }
            BackupError::Write { .. } | BackupError::Differs { .. } => ExitCode::Disk,
        };
        Self::new(code, error.to_string())
    }
}

/// Restores a backup and returns the exit code.
pub(super) fn run_restore(args: &RestoreArgs) -> ExitCode {
    client::finish(restored(args).map(Output::done))
}

fn restored(args: &RestoreArgs) -> Result<String, Failure> {
    let RestoreArgs { file, json, hub, .. } = args;
    let data = match hub.place()? {
        Place::Folder(data) => data,
        Place::Remote { .. } => {
            let message =
                "a backup is restored on the hub's machine, while the hub does not run: name its folder with --data";
            return Err(Failure::new(ExitCode::Usage, message));
        }
    };
    make_private_dir(&data).map_err(|error| ServeError::DataDir { path: data.clone(), error })?;
    #[cfg(feature = "postgres")]
    let (Restored { contents, former }, store) = match args.store.database()? {
        Some(database) => (restore_database(&database, file, &data)?, PathBuf::from(database.shown())),
        None => (restore(file, &data)?, Store::path_in(&data)),
    };
    #[cfg(not(feature = "postgres"))]
    let (Restored { contents, former }, store) = (restore(file, &data)?, Store::path_in(&data));
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

/// Makes a backup what a database holds. What was there before becomes a file in the data folder.
#[cfg(feature = "postgres")]
fn restore_database(database: &Database, file: &Path, data: &Path) -> Result<Restored, Failure> {
    let stamp = utc_stamp(std::time::SystemTime::now());
    let former = data.join(format!("hub.postgres.before-restore-{stamp}"));
    let term = random::id().map_err(|error| Failure::new(ExitCode::Internal, error.to_string()))?;
    Ok(restore_into(database, file, &former, &term)?)
}

impl From<RestoreError> for Failure {
    fn from(error: RestoreError) -> Self {
        let code = match &error {
            RestoreError::InUse(_) => ExitCode::Busy,
            RestoreError::NoStore { .. } => ExitCode::Unread,
            RestoreError::Write { .. } | RestoreError::NotKept(_) => ExitCode::Disk,
            RestoreError::Led { .. } => ExitCode::Deposed,
            RestoreError::Database(error) => of_database(error),
            RestoreError::Unreadable { .. }
            | RestoreError::Newer { .. }
            | RestoreError::IsTheStore(_)
            | RestoreError::Elsewhere { .. }
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use hyper::body::Frame;

    use super::*;

    /// A body of one part, after which nothing comes.
    struct Silent(Option<Bytes>);

    impl Body for Silent {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.0.take().map_or(Poll::Pending, |part| Poll::Ready(Some(Ok(Frame::data(part)))))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_hub_that_falls_silent_is_not_waited_for() {
        let (parts, mut received) = mpsc::channel(READ_AHEAD);
        pass_on(Silent(Some(Bytes::from_static(b"abc"))), parts).await;
        assert_eq!(received.recv().await.unwrap().unwrap(), "abc");
        assert!(received.recv().await.unwrap().unwrap_err().to_string().contains("nothing for 60 s"));
        assert!(received.recv().await.is_none());
    }
}
