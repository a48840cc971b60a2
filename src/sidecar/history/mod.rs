//! What this sidecar did, for operators: its runs, tasks, restarts and drains, one JSON object a line in a small file beside
//! the journal, which outlasts the process. No decision depends on it: a line that cannot be written is logged and lost,
//! and one that makes no sense is skipped.
//!
//! `record` finds the lines in the machine's steps, `writer` appends them, `reader` reads them back, `items` joins the
//! lines of each run, task, restart and drain.

pub mod items;
pub mod reader;
pub(crate) mod record;
pub(crate) mod writer;

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::common::fs::atomic_file;
use crate::common::fs::rotating_file::Limits;

/// The file has one predecessor, and holds task ids and reasons: it is the user's alone, as the journal is.
const LIMITS: Limits = Limits { max_bytes: 1 << 20, max_files: 2, mode: 0o600 };

/// A line of the history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When it happened, ms since the epoch, by the run's clock.
    pub at_ms: u64,
    /// The time since the machine's boot, ms: it tells where the clock was set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uptime_ms: Option<u64>,
    /// The id of the run in which it happened.
    pub boot_id: String,
    /// What happened.
    #[serde(flatten)]
    pub what: HistoryEvent,
}

/// What a line of the history is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum HistoryEvent {
    /// A run began. Said again from time to time, for a reader of the file's end.
    RunStarted {
        /// The sidecar's version.
        version: String,
        /// The process id.
        pid: u32,
        /// The machine's boot in which it began, if the system tells.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        machine_boot: Option<String>,
        /// The number of processes of its cgroup that had been killed for memory, if the kernel counts them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        oom_kills: Option<u64>,
    },
    /// What a run found of the one before it.
    RunBefore {
        /// How that one ended.
        end: RunEnd,
        /// The same in words.
        why: String,
    },
    /// A run ended by itself. A run without this was killed, or crashed.
    RunEnded {
        /// Why it ended.
        cause: EndCause,
        /// The restart's reason, or the signal.
        why: String,
        /// Who wanted the restart, if that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
        /// Whether the process replaced itself by the next run, instead of an exit with 0.
        in_place: bool,
    },
    /// A run could not begin.
    StartFailed {
        /// Its exit code.
        exit_code: u8,
        /// The error.
        why: String,
    },
    /// A part of the program panicked.
    Panicked {
        /// The message and its place.
        why: String,
        /// Whether it was a background task, whose panic does not end the run.
        #[serde(default)]
        in_background: bool,
    },
    /// The kernel killed a process of this cgroup for memory, and not the sidecar.
    KilledForMemory {
        /// The number of such processes so far.
        count: u64,
    },
    /// A task was taken.
    TaskTaken {
        /// The task's id.
        task_id: String,
        /// The assignment's generation.
        generation: u64,
    },
    /// A task ended here.
    TaskEnded {
        /// The task's id.
        task_id: String,
        /// The assignment's generation.
        generation: u64,
        /// How it ended.
        outcome: TaskOutcome,
        /// The reason of a failure.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// A commanded restart was accepted.
    RestartAccepted {
        /// The command's reason.
        reason: String,
        /// The command's id, if the hub sent one.
        command_id: Option<String>,
        /// Who commanded it, if the command says so.
        by: Option<String>,
    },
    /// A commanded restart was refused.
    RestartRefused {
        /// The command's reason.
        reason: String,
        /// Why it was refused.
        detail: String,
    },
    /// A restart was cancelled before it began.
    RestartCancelled {
        /// The command's reason.
        reason: String,
    },
    /// The hub knows the run that a restart led to.
    Returned {
        /// The command's reason.
        reason: String,
        /// The command's id, if the hub sent one.
        command_id: Option<String>,
        /// The time from the start of the drain until now, ms; absent if the process ended before it drained.
        gap_ms: Option<u64>,
    },
    /// New tasks are not taken (`on`), or taken again.
    Draining {
        /// Whether no new tasks are taken.
        on: bool,
    },
}

/// How a run ended, as the next one finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum RunEnd {
    /// A commanded restart.
    Restart,
    /// It was told to stop.
    Stop,
    /// An error of its own.
    Crashed,
    /// A signal that cannot be answered.
    Killed,
    /// The kernel killed it for memory.
    OutOfMemory,
    /// The machine was rebooted, or the container started anew.
    Rebooted,
    /// That is not known: it did not say that it ends.
    #[serde(other)]
    Lost,
}

impl RunEnd {
    /// Returns whether nobody wanted it.
    pub const fn is_unplanned(self) -> bool {
        match self {
            Self::Restart | Self::Stop => false,
            Self::Crashed | Self::Killed | Self::OutOfMemory | Self::Rebooted | Self::Lost => true,
        }
    }
}

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum EndCause {
    /// A commanded restart.
    Restart,
    /// It was told to stop.
    Stop,
}

/// How a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum TaskOutcome {
    /// Its result was found.
    Completed,
    /// It failed.
    Failed,
    /// The hub cancelled it.
    Cancelled,
    /// The hub reclaimed it.
    Reclaimed,
}

/// Returns the history's path for a journal: the journal's (symbolic links resolved) with `.history` appended.
///
/// # Errors
/// The links cannot be followed.
pub fn path_of(queue_file: &Path) -> io::Result<PathBuf> {
    let mut path = atomic_file::resolve(queue_file).map_err(|error| error.source)?.into_os_string();
    path.push(".history");
    Ok(path.into())
}
