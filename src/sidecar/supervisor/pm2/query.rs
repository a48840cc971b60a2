//! Queries a running pm2 for its list: over its socket, else by `pm2 jlist -s`. It never makes pm2 start a daemon: if
//! none answers, pm2 is not run at all.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use crate::common::fs::is_executable;
use crate::common::text::{first_chars, on_one_line};
use crate::sidecar::supervisor::pm2::child_env::scrub_child_env;
use crate::sidecar::supervisor::pm2::error::{MAX_OUTPUT_BYTES, Pm2Error};
use crate::sidecar::supervisor::pm2::process_list::{Pm2Process, parse_jlist};
use crate::sidecar::supervisor::pm2::rpc::query_rpc;

/// How long `pm2 jlist` may take; it takes 0.2 to 0.5 s.
pub const QUERY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the socket may take; it takes 1 to 5 ms.
const RPC_TIMEOUT: Duration = Duration::from_secs(1);
/// How much of pm2's stderr is kept, bytes.
const MAX_STDERR_BYTES: u64 = 4_096;
/// How much of it is shown, characters.
const SHOWN_STDERR_CHARS: usize = 200;

/// Queries the daemon of `home` for its list in the fastest way that works. `program` is for the slow one.
///
/// # Errors
/// The [`Pm2Error`] of the last way that was tried.
pub async fn query(program: Option<&Path>, home: &Path, timeout: Duration) -> Result<Vec<Pm2Process>, Pm2Error> {
    let quick = tokio::time::timeout(RPC_TIMEOUT.min(timeout), query_rpc(home)).await;
    match (quick.unwrap_or(Err(Pm2Error::TimedOut(RPC_TIMEOUT))), program) {
        (Ok(list), _) => Ok(list),
        (Err(Pm2Error::NoDaemon), _) => Err(Pm2Error::NoDaemon),
        (Err(_), Some(program)) => query_jlist(program, home, timeout).await,
        (Err(error), None) => Err(error),
    }
}

/// Queries the daemon of `home` for its list by running `pm2 jlist -s`. Dropping the future kills that `pm2`.
///
/// # Errors
/// [`Pm2Error`]; each variant is one way in which the query fails.
pub async fn query_jlist(program: &Path, home: &Path, timeout: Duration) -> Result<Vec<Pm2Process>, Pm2Error> {
    let output = tokio::time::timeout(timeout, async {
        if !daemon_answers(home).await {
            return Err(Pm2Error::NoDaemon);
        }
        run(program, home).await
    });
    let output = output.await.map_err(|_| Pm2Error::TimedOut(timeout))??;
    parse_jlist(&output).map_err(Pm2Error::Garbage)
}

async fn run(program: &Path, home: &Path) -> Result<Vec<u8>, Pm2Error> {
    let mut command = Command::new(program);
    scrub_child_env(command.as_std_mut());
    command.args(["jlist", "-s"]).env("PM2_HOME", home);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let spawn_error = |error: std::io::Error| {
        if error.kind() == std::io::ErrorKind::NotFound { Pm2Error::NotFound } else { Pm2Error::Spawn(error) }
    };
    let mut child = command.spawn().map_err(spawn_error)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (stdout, stderr, status) =
        tokio::join!(read(stdout, MAX_OUTPUT_BYTES), read(stderr, MAX_STDERR_BYTES), child.wait());
    let status = status.map_err(Pm2Error::Spawn)?;
    if !status.success() {
        return Err(Pm2Error::Failed { code: status.code(), stderr: first_line(&stderr.map_err(Pm2Error::Spawn)?) });
    }
    stdout.map_err(Pm2Error::Spawn)
}

/// Reads to the end, so that the writer never blocks, and keeps the first `max` bytes.
async fn read(pipe: Option<impl AsyncRead + Unpin>, max: u64) -> std::io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    if let Some(mut pipe) = pipe {
        (&mut pipe).take(max).read_to_end(&mut kept).await?;
        tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await?;
    }
    Ok(kept)
}

fn first_line(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("nothing on stderr");
    on_one_line(first_chars(line, SHOWN_STDERR_CHARS))
}

async fn daemon_answers(home: &Path) -> bool {
    tokio::net::UnixStream::connect(home.join("rpc.sock")).await.is_ok()
}

/// Returns pm2's folder: `PM2_HOME`, else `.pm2` in the home folder, as pm2 itself decides.
pub(super) fn pm2_home(env: &impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let filled = |key: &str| env(key).filter(|value| !value.is_empty()).map(PathBuf::from);
    filled("PM2_HOME").or_else(|| filled("HOME").map(|home| home.join(".pm2")))
}

/// Returns the path of the `pm2` program: on the `PATH`, else the one that `_` names, which is what the shell ran for
/// `pm2 start`, and which pm2 passes on.
pub fn find_pm2(env: &impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let on_path = env("PATH").and_then(|path| {
        std::env::split_paths(&path).map(|folder| folder.join("pm2")).find(|candidate| is_executable(candidate))
    });
    let typed = || env("_").map(PathBuf::from).filter(|path| path.ends_with("pm2") && is_executable(path));
    on_path.or_else(typed)
}
