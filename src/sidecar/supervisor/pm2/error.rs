//! The reasons why a query to pm2 fails.

use core::fmt;
use std::time::Duration;

use crate::sidecar::supervisor::pm2::process_list::ListError;

/// The most output of pm2 that is read, bytes: enough for a thousand apps with large environments.
pub(super) const MAX_OUTPUT_BYTES: u64 = 32 << 20;

/// The reason why a query to pm2 failed. pm2's status is "unknown" then, and everything else works.
#[derive(Debug)]
pub enum Pm2Error {
    /// There is no `pm2` on the `PATH`.
    NotFound,
    /// No daemon answers at `$PM2_HOME/rpc.sock`.
    NoDaemon,
    /// The `pm2` command could not be run.
    Spawn(std::io::Error),
    /// It did not finish in time and was killed.
    TimedOut(Duration),
    /// The command failed.
    Failed {
        /// Its exit code; `None` after a signal.
        code: Option<i32>,
        /// The first line of its stderr.
        stderr: String,
    },
    /// The exchange over its socket failed.
    Rpc(std::io::Error),
    /// Its answer is not a process list.
    Garbage(ListError),
    /// Its list does not contain this process.
    NotListed,
}

impl fmt::Display for Pm2Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("pm2 unknown: no `pm2` on the PATH"),
            Self::NoDaemon => f.write_str("pm2 unknown: no daemon answers at $PM2_HOME/rpc.sock"),
            Self::Spawn(error) => write!(f, "pm2 unknown: cannot run it: {error}"),
            Self::TimedOut(after) => write!(f, "pm2 unknown: no answer in {} ms", after.as_millis()),
            Self::Failed { code: Some(code), stderr } => write!(f, "pm2 unknown: it exited with {code}: {stderr}"),
            Self::Failed { code: None, stderr } => write!(f, "pm2 unknown: a signal ended it: {stderr}"),
            Self::Rpc(error) => write!(f, "pm2 unknown: its socket: {error}"),
            Self::Garbage(why) => write!(f, "pm2 unknown: {why}"),
            Self::NotListed => f.write_str("pm2 unknown: it does not list this process"),
        }
    }
}
