//! The reasons why a query to pm2 fails.

use std::time::Duration;

use crate::sidecar::supervisor::pm2::process_list::ListError;

/// The most output of pm2 that is read, bytes: enough for a thousand apps with large environments.
pub(super) const MAX_OUTPUT_BYTES: u64 = 32 << 20;

/// The reason why a query to pm2 failed. pm2's status is "unknown" then, and everything else works.
#[derive(Debug, thiserror::Error)]
pub enum Pm2Error {
    /// There is no `pm2` on the `PATH`.
    #[error("pm2 unknown: no `pm2` on the PATH")]
    NotFound,
    /// No daemon answers at `$PM2_HOME/rpc.sock`.
    #[error("pm2 unknown: no daemon answers at $PM2_HOME/rpc.sock")]
    NoDaemon,
    /// The `pm2` command could not be run.
    #[error("pm2 unknown: cannot run it: {0}")]
    Spawn(#[source] std::io::Error),
    /// It did not finish in time and was killed.
    #[error("pm2 unknown: no answer in {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// The command failed.
    #[error("pm2 unknown: {}: {stderr}", describe_exit(*code))]
    Failed {
        /// Its exit code; `None` after a signal.
        code: Option<i32>,
        /// The first line of its stderr.
        stderr: String,
    },
    /// The exchange over its socket failed.
    #[error("pm2 unknown: its socket: {0}")]
    Rpc(#[source] std::io::Error),
    /// Its answer is not a process list.
    #[error("pm2 unknown: {0}")]
    Garbage(#[source] ListError),
    /// Its list does not contain this process.
    #[error("pm2 unknown: it does not list this process")]
    NotListed,
}

fn describe_exit(code: Option<i32>) -> String {
    match code {
        Some(code) => format!("it exited with {code}"),
        None => "a signal ended it".to_owned(),
    }
}
