//! The codes the sidecar exits with. It names them; it does not decide when.
//!
//! Those from 64 up are the meanings of BSD's `sysexits.h`. None is above 127, where a shell reports signals, and none is
//! 1, with which Node programs under pm2 report everything.

use std::process::ExitCode as ProcessExit;

use strum::IntoEnumIterator as _;

/// Why the process ended, as its parent sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumIter)]
#[repr(u8)]
pub enum ExitCode {
    /// Done: a commanded restart or a stop, both as wanted.
    Done = 0,
    /// The command line is wrong (clap's own code too).
    Usage = 2,
    /// What was asked for could not be had: no sidecar runs, `onboard` was refused, `check` found a problem.
    Unavailable = 69,
    /// A bug, or something that should not happen.
    Internal = 70,
    /// What was asked for is in force, and the journal cannot be written: a crash would forget it.
    NotOnDisk = 73,
    /// The state folder cannot be used: read-only, full, another user's, or no file more may be opened.
    StateUnusable = 74,
    /// Another copy serves this state folder.
    AlreadyRunning = 75,
    /// The running sidecar refused what a command asked of it.
    Refused = 77,
    /// The configuration is missing or wrong; a restart will not help.
    Config = 78,
}

impl ExitCode {
    /// Every code, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::iter()
    }

    /// What it means, for the help, the man page and the docs.
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
        }
    }
}

impl From<ExitCode> for ProcessExit {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}
