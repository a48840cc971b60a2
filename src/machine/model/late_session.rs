//! Late sessions: their wake succeeded, no session started in time, and the task was given up. When the same task is
//! assigned again, its files are looked for before another session is woken. Work that is known to be under way is not
//! here but in the job or in the parked work.

use alloc::string::String;
use alloc::vec::Vec;

use crate::machine::model::task::TaskId;

/// The most late sessions; the oldest is dropped first.
pub const LATE_SESSIONS_CAP: usize = 16;

/// A session that may still start.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LateSession {
    /// The task's id.
    pub task_id: TaskId,
    /// The machine's boot in which the session was woken; in another boot it does not run any more.
    pub machine_boot: String,
}

/// All late sessions, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct LateSessions(Vec<LateSession>);

impl LateSessions {
    /// Returns the late sessions of a journal.
    pub fn recovered(items: Vec<LateSession>) -> Self {
        Self(items)
    }

    /// Returns the late sessions, oldest first.
    pub fn items(&self) -> &[LateSession] {
        &self.0
    }

    /// Adds a late session in place of an earlier one for the same task.
    pub fn expect(&mut self, late_session: LateSession) {
        self.forget(&late_session.task_id);
        self.0.push(late_session);
        if self.0.len() > LATE_SESSIONS_CAP {
            self.0.remove(0);
        }
    }

    /// Removes the task's late session. Returns whether there was one.
    pub fn forget(&mut self, task_id: &TaskId) -> bool {
        let before = self.0.len();
        self.0.retain(|known| known.task_id != *task_id);
        self.0.len() < before
    }

    /// Returns the boot in which the task's late session was woken.
    pub fn woken_in(&self, task_id: &TaskId) -> Option<&str> {
        self.0.iter().find(|known| known.task_id == *task_id).map(|known| known.machine_boot.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn late_session(name: &str, boot: &str) -> LateSession {
        LateSession { task_id: TaskId::new(name).unwrap(), machine_boot: boot.into() }
    }

    #[test]
    fn as_many_are_expected_as_promised_the_latest() {
        let mut all = LateSessions::default();
        for n in 0..=LATE_SESSIONS_CAP {
            all.expect(late_session(&alloc::format!("t{n}"), "b"));
        }
        assert_eq!(all.items().len(), LATE_SESSIONS_CAP);
        let woken_in = |name| all.woken_in(&TaskId::new(name).unwrap());
        assert_eq!([woken_in("t0"), woken_in("t1"), woken_in("t16")], [None, Some("b"), Some("b")]);
    }

    #[test]
    fn the_last_wake_of_a_task_counts() {
        let mut all = LateSessions::default();
        for (name, boot) in [("t", "b1"), ("u", "b1"), ("t", "b2")] {
            all.expect(late_session(name, boot));
        }
        assert_eq!(all.items(), [late_session("u", "b1"), late_session("t", "b2")]);
    }
}
