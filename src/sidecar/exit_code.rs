//! The codes the sidecar exits with.
//!
//! Those from 64 to 78 have the meanings of BSD's `sysexits.h`, 124 that of `timeout`. None is above 127, where a shell
//! reports signals, and none is 1, with which Node programs under pm2 report every failure.

use std::process::ExitCode as ProcessExit;

use strum::IntoEnumIterator as _;

use crate::common::cli::finding::Code;

/// The reason why the process ended, as its parent sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumIter, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
#[repr(u8)]
pub enum ExitCode {
    /// Success: a commanded restart, a stop, or a command that did its work.
    Done = 0,
    /// The command line is wrong (also clap's own code).
    Usage = 2,
    /// The request could not be met: no sidecar runs, `onboard` was refused, `check` found a problem.
    Unavailable = 69,
    /// A bug: something that should not happen.
    Internal = 70,
    /// The request is in force, but the journal cannot be written: a crash would lose it.
    NotOnDisk = 73,
    /// The state folder cannot be used: read-only, full, another user's, or the limit of open files is reached.
    StateUnusable = 74,
    /// Another process serves this state folder.
    AlreadyRunning = 75,
    /// The running sidecar refused the command.
    Refused = 77,
    /// The configuration is missing or wrong; a restart will not help.
    Config = 78,
    /// The time of `--timeout` is over. What the command asked for is in force all the same.
    TimedOut = 124,
}

impl ExitCode {
    /// Returns every code, in ascending order.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::iter()
    }

    /// Returns the code's meaning, as printed in the help, the man page and the docs.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done: a commanded restart (pm2 starts the next run), a stop, or whatever was asked for",
            Self::Usage => "the command line is wrong",
            Self::Unavailable => {
                "the sidecar that a command is for does not run or did not come back; `onboard`: the hub is not there or says \
                 no; `check`: it found a problem"
            }
            Self::Internal => "a bug",
            Self::NotOnDisk => {
                "`drain`, `resume`, `cancel-restart`: in force, but the journal cannot be written and a crash would forget it"
            }
            Self::StateUnusable => {
                "a file or folder cannot be used (read-only, full, another user's, too few open files allowed)"
            }
            Self::AlreadyRunning => "another copy serves this state folder",
            Self::Refused => "the running sidecar refused what a command asked of it",
            Self::Config => "the configuration is missing, wrong or (`onboard`) there already",
            Self::TimedOut => "the time of --timeout is over; what the command asked for is in force all the same",
        }
    }
}

impl From<ExitCode> for ProcessExit {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}

impl Code for ExitCode {
    const DONE: Self = Self::Done;
    const UNAVAILABLE: Self = Self::Unavailable;

    fn all() -> Vec<Self> {
        Self::all().collect()
    }

    fn number(self) -> u8 {
        self as u8
    }

    fn meaning(self) -> &'static str {
        self.meaning()
    }
}
