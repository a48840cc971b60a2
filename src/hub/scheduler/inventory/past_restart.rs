//! The latest restarts of one agent, also those that nobody wanted: each is seen when another run of its process identifies.

use serde::{Deserialize, Serialize};

use crate::common::text::first_chars;
use crate::hub::scheduler::inventory::close::CloseCause;
use crate::protocol::{PreviousEnd, Restarted};

/// The number of restarts that are kept of each agent.
const MAX_PAST_RESTARTS: usize = 8;
/// The largest number of characters that are kept of a reason.
const MAX_REASON_CHARS: usize = 200;

/// A restart of an agent that is over. Times are in ms since the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PastRestart {
    /// When the new run identified.
    pub at: u64,
    /// Whether somebody wanted it: it was commanded or announced, or the process was stopped.
    pub planned: bool,
    /// How the connection of the run before had ended.
    pub why: CloseCause,
    /// The time from then to the new run's identify, in ms; null if that connection was still open.
    pub away_ms: Option<u64>,
    /// How the run before ended, as the new one found it; null if it does not know or say.
    #[serde(default)]
    pub end: Option<PreviousEnd>,
    /// The reason that the new run reports, what it found of the end, or what the close frame gave.
    pub reason: Option<Box<str>>,
    /// The id of the hub's command that the new run reports.
    pub command_id: Option<Box<str>>,
    /// The `boot_id` of the run before, if it had one.
    pub boot_before: Option<Box<str>>,
    /// The `boot_id` of the new run, if it has one.
    pub boot_after: Option<Box<str>>,
    /// The version of the new run, if it names one.
    pub version: Option<Box<str>>,
}

/// What a run says of the one before.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reported<'a> {
    /// The restart that brought it.
    pub restarted: Option<&'a Restarted>,
    /// How that one ended.
    pub end: Option<PreviousEnd>,
    /// The same in words.
    pub end_in_words: Option<&'a str>,
}

impl PastRestart {
    /// Adds what the new run reports of it, or what the close frame of the run before gave as its reason.
    #[must_use]
    pub(super) fn reported(mut self, reported: Reported<'_>, close_reason: &str) -> Self {
        let Reported { restarted, end, end_in_words } = reported;
        self.end = end.filter(|end| *end != PreviousEnd::Unknown);
        let found = restarted.map(|it| it.reason.as_str()).or(end_in_words);
        let reason = first_chars(found.unwrap_or(close_reason), MAX_REASON_CHARS);
        self.reason = (!reason.is_empty()).then(|| reason.into());
        let command_id = restarted.and_then(|it| it.command_id.as_deref());
        self.command_id = command_id.map(|id| first_chars(id, MAX_REASON_CHARS).into());
        self
    }
}

/// Adds a restart, newest first, and drops the oldest where there are too many.
pub(super) fn add(past: &mut Vec<PastRestart>, new: PastRestart) {
    past.truncate(MAX_PAST_RESTARTS - 1);
    past.insert(0, new);
}
