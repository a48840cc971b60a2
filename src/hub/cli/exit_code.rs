//! The codes that `agentcom-hub` exits with. Those from 64 to 78 have the meanings of BSD's `sysexits.h`.

use std::process::ExitCode as ProcessExit;

use strum::IntoEnumIterator as _;

use crate::common::cli::finding::Code;

/// The reason why a command ended, as its parent sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumIter)]
#[repr(u8)]
pub(super) enum ExitCode {
    /// What was asked for was done.
    Done = 0,
    /// What is asked for is not there, or did not end well.
    No = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The store holds records that cannot be read.
    Unread = 65,
    /// The hub is not there, or its address is taken.
    Unavailable = 69,
    /// A bug, or a hub of another version.
    Internal = 70,
    /// No threads or files are left.
    NoResources = 71,
    /// A disk failed.
    Disk = 74,
    /// The hub does not answer now.
    Busy = 75,
    /// Another hub leads.
    Deposed = 76,
    /// The token does not allow it.
    NotAllowed = 77,
    /// A file or folder cannot be used.
    Unusable = 78,
    /// The time limit passed.
    TimedOut = 124,
    /// It was told to stop by SIGINT.
    Interrupted = 130,
    /// It was told to stop by SIGTERM.
    Terminated = 143,
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
        Self::iter().collect()
    }

    fn number(self) -> u8 {
        self as u8
    }

    fn meaning(self) -> &'static str {
        match self {
            Self::Done => {
                "done; `serve`: stopped by a signal; `--follow`: completed; `--wait`: all are back, or hold no task; `rollout watch`: \
                 every agent has restarted"
            }
            Self::No => {
                "there is no such agent, task, rollout, token or invitation; what was asked for is not possible in its state; \
                 no agent matched, or (except `restart` without --wait) one was skipped; `--wait`, `--follow`, `rollout watch`: it did not end well, or waits \
                 for an operator"
            }
            Self::Usage => "the command line is wrong; also where the hub refuses a value, such as a selector",
            Self::Unread => {
                "`store check`, `check`: the store holds records that cannot be read; `restore`: the file holds no store"
            }
            Self::Unavailable => "no hub is reached there; `serve`: the address is taken",
            Self::Internal => "a bug, or a hub of a version that does not know the request",
            Self::NoResources => "no threads or files are left",
            Self::Disk => {
                "a disk failed, or stdout cannot be written; `serve`: the store was removed, moved or replaced"
            }
            Self::Deposed => {
                "`serve --store`: another hub leads, or may lead; started again, this one stands by. `restore --store`: a hub leads"
            }
            Self::Busy => "the data folder is in use, or the hub does not answer, is stopping or full: try again",
            Self::NotAllowed => "the token is not known, has expired, or its role does not allow it",
            Self::Unusable => {
                "the data folder has no store or a damaged one; or the address, the certificate or its key, the token file, the rules or \
                 --out's file cannot be used"
            }
            Self::TimedOut => "the time of --timeout passed; what the hub was asked for goes on",
            Self::Interrupted => "SIGINT (Ctrl-C); what the hub was asked for goes on",
            Self::Terminated => "SIGTERM; what the hub was asked for goes on",
        }
    }
}
