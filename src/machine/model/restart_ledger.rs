//! The ledger of commanded restarts: how many lately, which one is open, which one this run returned from.

use alloc::string::String;
use alloc::vec::Vec;

use crate::machine::model::policy::Intensity;
use crate::machine::model::time::Timestamp;

/// Command ids remembered to know a repeat after the restart.
pub const SEEN_CAP: usize = 16;

/// A restart as it was commanded.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RestartOrder {
    /// For people.
    pub reason: String,
    /// Names the command across repeats, where the hub does that.
    pub command_id: Option<String>,
    /// How long a running task may hold it up; the policy's time where absent.
    pub deadline_ms: Option<u64>,
    /// Do not wait for the task.
    pub force: bool,
    /// Who asked, where known.
    pub by: Option<String>,
}

/// The restart that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OpenRestart {
    /// The first command's id.
    pub command_id: Option<String>,
    /// The first command's reason.
    pub reason: String,
    /// Work is left under way.
    pub forced: bool,
    /// When the drain began.
    pub leaving_at: Option<Timestamp>,
}

/// What to tell the hub after the return.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Returned {
    /// The restart that this run returned from.
    pub restart: OpenRestart,
}

/// What the journal remembers of commanded restarts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct RestartLedger {
    /// When the latest were accepted, oldest first; only as many as the intensity looks at.
    pub recent: Vec<Timestamp>,
    /// The one under way.
    pub open: Option<OpenRestart>,
    /// The one this run returned from, until a hub has been told.
    pub returned: Option<Returned>,
    /// Ids of commands already carried out or under way, oldest first.
    pub seen: Vec<String>,
    /// The ids of commands that were cancelled on this machine, oldest first, to say so again when a hub repeats one.
    pub cancelled: Vec<String>,
}

impl RestartLedger {
    /// The ledger in the process after: what was open has happened, however the process ended. A clock that was set
    /// back must not make old restarts look like future ones for ever.
    pub fn recovered(mut self, now: Timestamp) -> Self {
        if let Some(restart) = self.open.take() {
            self.returned = Some(Returned { restart });
        }
        for at in &mut self.recent {
            *at = (*at).min(now);
        }
        self
    }

    /// Whether this command was already carried out or is under way.
    pub fn knows(&self, command_id: Option<&str>) -> bool {
        command_id.is_some_and(|id| self.seen.iter().any(|seen| seen == id))
    }

    /// Whether one more would be too many: how long until it would not, in ms.
    pub fn too_many(&self, now: Timestamp, limit: Intensity) -> Option<u64> {
        let within = self.recent.iter().filter(|at| now.since(**at) < limit.window_ms).count();
        if (within as u64) < u64::from(limit.max) {
            return None;
        }
        let oldest = self.recent.iter().find(|at| now.since(**at) < limit.window_ms);
        Some(oldest.map_or(limit.window_ms, |at| limit.window_ms - now.since(*at)))
    }

    /// Opens a restart.
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

    /// Takes the open restart back: it counts no more against the intensity.
    pub fn cancel(&mut self) {
        if let Some(open) = self.open.take() {
            self.recent.pop();
            self.note_cancelled(open.command_id.as_deref());
        }
    }

    /// Whether this command was cancelled on this machine.
    pub fn was_cancelled(&self, command_id: Option<&str>) -> bool {
        command_id.is_some_and(|id| self.cancelled.iter().any(|cancelled| cancelled == id))
    }

    /// Remembers that a command was cancelled.
    pub fn note_cancelled(&mut self, command_id: Option<&str>) {
        remember(&mut self.cancelled, command_id);
    }

    /// Remembers a command id, the open restart's or a repeat's.
    pub fn note(&mut self, command_id: Option<&str>) {
        remember(&mut self.seen, command_id);
    }
}

/// Keeps the latest ids, each once.
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
        assert_eq!(ledger.too_many(at(1_040), limit), Some(60));
        assert_eq!(ledger.too_many(at(1_099), limit), Some(1));
        assert_eq!(ledger.too_many(at(1_100), limit), None);
        assert_eq!(ledger.too_many(at(1_100), Intensity { max: 1, ..limit }), Some(30));
        assert_eq!(ledger.too_many(at(2_000), Intensity { max: 0, ..limit }), Some(100));
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
