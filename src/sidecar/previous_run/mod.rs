//! How the run before this one ended, found once at the start of a run, for operators and the hub. No decision of the
//! machine depends on it: what it may rely on is in the journal.
//!
//! `facts` reads what the machine says, `pm2_log` what pm2 saw of the end, `decide` concludes from both and from the last
//! lines of the history.

mod decide;
pub(crate) mod facts;
pub(crate) mod panics;
mod pm2_log;

use std::path::Path;

use crate::machine::PreviousEnd;
use crate::sidecar::history::{RunEnd, reader};
use crate::sidecar::previous_run::decide::{LastRun, decide};
use crate::sidecar::previous_run::facts::Facts;
use crate::sidecar::supervisor::pm2::Pm2;

/// How the run before this one ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PreviousRun {
    /// The id of that run.
    pub boot_id: String,
    /// How it ended.
    pub end: RunEnd,
    /// The same in words: the restart's reason and author, the signal and its sender, the error.
    pub why: String,
    /// The time of its last line in the history, in ms since the epoch, by this run's clock.
    pub last_seen_at_ms: u64,
    /// How far that run's clock was behind this one's, in ms; negative if it was ahead. 0 where nobody set the clock in
    /// between, and where that cannot be known: after a reboot of the machine.
    pub clock_step_ms: i64,
}

/// Finds out how the run before ended; `None` if there was none, or the history has nothing of it. `journal` is what the
/// journal says of it.
pub(crate) fn find(queue_file: &Path, journal: PreviousEnd, now: &Facts, pm2: &Pm2) -> Option<PreviousRun> {
    let entries = match reader::read_last(queue_file) {
        Ok(entries) => entries,
        Err(error) => {
            tracing::warn!(%error, "how the run before ended is not known");
            return None;
        }
    };
    let last = LastRun::of(&entries)?;
    Some(decide(&last, journal, now, pm2_log::last_end(pm2, last.pid).as_ref()))
}
