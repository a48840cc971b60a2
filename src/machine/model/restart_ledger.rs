//! The ledger of commanded restarts: the recent ones, the open one, and the one that this run returned from.

use alloc::string::String;
use alloc::vec::Vec;

use crate::machine::model::policy::Intensity;
use crate::machine::model::time::Timestamp;

/// The number of command ids that are remembered, so that a repeat is recognised after the restart.
pub const SEEN_CAP: usize = 16;

/// A restart command.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RestartOrder {
    /// The reason, for operators.
    pub reason: String,
    /// The command's id, the same in each repeat, if the hub sends one.
    pub command_id: Option<String>,
    /// The time in ms that a running task may delay the restart; the policy's time if absent.
    pub deadline_ms: Option<u64>,
    /// Whether the restart does not wait for the task.
    pub force: bool,
    /// The operator who sent the command, if known.
    pub by: Option<String>,
}

/// The restart that is in progress.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OpenRestart {
    /// The first command's id.
    pub command_id: Option<String>,
    /// The first command's reason.
    pub reason: String,
    /// Whether work is left under way.
    pub forced: bool,
    /// The time at which the drain began.
    pub leaving_at: Option<Timestamp>,
}

/// The return from a restart, to be reported to the hub.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Returned {
    /// The restart that this run returned from.
    pub restart: OpenRestart,
}

/// The commanded restarts as the journal holds them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct RestartLedger {
    /// The times at which the latest were accepted, oldest first; only those within the intensity's window.
    pub recent: Vec<Timestamp>,
    /// The restart in progress.
    pub open: Option<OpenRestart>,
    /// The restart that this run returned from, until it has been reported to a hub.
    pub returned: Option<Returned>,
    /// The ids of commands that were carried out or are in progress, oldest first.
    pub seen: Vec<String>,
    /// The ids of commands that were cancelled on this machine, oldest first, to refuse a repeat from the hub again.
    pub cancelled: Vec<String>,
}

impl RestartLedger {
    /// Returns the ledger for the next process: the open restart has happened, however the process ended. A clock that
    /// was set back must not leave old restarts in the future.
    pub fn recovered(mut self, now: Timestamp) -> Self {
        if let Some(restart) = self.open.take() {
            self.returned = Some(Returned { restart });
        }
        for at in &mut self.recent {
            *at = (*at).min(now);
        }
        self
    }

    /// Returns whether this command was carried out or is in progress.
    pub fn knows(&self, command_id: Option<&str>) -> bool {
        command_id.is_some_and(|id| self.seen.iter().any(|seen| seen == id))
    }

    /// Returns the time in ms until another restart is permitted; `None` if it is permitted now.
    pub fn intensity_wait_ms(&self, now: Timestamp, limit: Intensity) -> Option<u64> {
        let within = self.recent.iter().filter(|at| now.since(**at) < limit.window_ms).count();
        if (within as u64) < u64::from(limit.max) {
            return None;
        }
        let oldest = self.recent.iter().find(|at| now.since(**at) < limit.window_ms);
        Some(oldest.map_or(limit.window_ms, |at| limit.window_ms - now.since(*at)))
    }

    /// Accepts a restart and opens it.
    pub fn accept(&mut self, order: &RestartOrder, now: Timestamp, limit: Intensity) {
        self.recent.retain(|at| now.since(*at) < limit.window_ms);
        self.recent.push(now);
        self.note(order.command_id.as_deref());
        self.open = Some(OpenRestart {
            command_id: order.command_id.clone(),
            reason: order.reason.clone(),
            forced: false,
            leaving_at: None,
        });
    }

    /// Cancels the open restart: it no longer counts against the intensity.
    pub fn cancel(&mut self) {
        if let Some(open) = self.open.take() {
            self.recent.pop();
            self.note_cancelled(open.command_id.as_deref());
        }
    }

    /// Returns whether this command was cancelled on this machine.
    pub fn was_cancelled(&self, command_id: Option<&str>) -> bool {
        command_id.is_some_and(|id| self.cancelled.iter().any(|cancelled| cancelled == id))
    }

    /// Remembers that a command was cancelled.
    pub fn note_cancelled(&mut self, command_id: Option<&str>) {
        remember(&mut self.cancelled, command_id);
    }

    /// Remembers the id of the open restart's command or of a repeat.
    pub fn note(&mut self, command_id: Option<&str>) {
        remember(&mut self.seen, command_id);
    }
}

/// Adds `id` to the latest ids, each once.
fn remember(ids: &mut Vec<String>, id: Option<&str>) {
    let Some(id) = id else { return };
    if !ids.iter().any(|known| known == id) {
        ids.push(id.into());
        if ids.len() > SEEN_CAP {
            ids.remove(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_commands_are_remembered_as_promised_the_latest() {
        let mut ledger = RestartLedger::default();
        for n in 0..=SEEN_CAP {
            ledger.note(Some(&alloc::format!("c{n}")));
        }
        assert_eq!(ledger.seen.len(), SEEN_CAP);
        assert!(!ledger.knows(Some("c0")) && ledger.knows(Some("c1")) && ledger.knows(Some("c16")));
    }

    #[test]
    fn a_repeat_pushes_no_other_command_out() {
        let mut ledger = RestartLedger::default();
        ledger.note(Some("c0"));
        ledger.note(Some("c0"));
        ledger.note(None);
        assert_eq!(ledger.seen, ["c0"]);
    }

    #[test]
    fn too_many_says_how_long_until_it_is_not() {
        let limit = Intensity { max: 2, window_ms: 100 };
        let at = Timestamp::from_millis;
        let ledger = RestartLedger { recent: [at(1_000), at(1_030)].into(), ..RestartLedger::default() };
        assert_eq!(ledger.intensity_wait_ms(at(1_040), limit), Some(60));
        assert_eq!(ledger.intensity_wait_ms(at(1_099), limit), Some(1));
        assert_eq!(ledger.intensity_wait_ms(at(1_100), limit), None);
        assert_eq!(ledger.intensity_wait_ms(at(1_100), Intensity { max: 1, ..limit }), Some(30));
        assert_eq!(ledger.intensity_wait_ms(at(2_000), Intensity { max: 0, ..limit }), Some(100));
    }

    #[test]
    fn only_what_lies_in_the_window_is_remembered() {
        let at = Timestamp::from_millis;
        let order = RestartOrder { reason: "r".into(), command_id: None, deadline_ms: None, force: false, by: None };
        let mut ledger = RestartLedger { recent: [at(1_000), at(1_001)].into(), ..RestartLedger::default() };
        ledger.accept(&order, at(1_100), Intensity { max: 3, window_ms: 100 });
        assert_eq!(ledger.recent, [at(1_001), at(1_100)]);
    }

    #[test]
    fn a_command_without_an_id_was_never_taken_back() {
        let mut ledger = RestartLedger::default();
        assert!(!ledger.was_cancelled(None));
        ledger.note_cancelled(Some("c"));
        assert!(ledger.was_cancelled(Some("c")) && !ledger.was_cancelled(Some("d")) && !ledger.was_cancelled(None));
    }
}
