//! Sessions that may yet show themselves: their wake ended well, nobody came in time, and the task was given up. When the
//! same task comes again, its files are looked at before anybody is woken. It holds no work: what is known to be under way
//! is the job or on the shelf.

use alloc::string::String;
use alloc::vec::Vec;

use crate::machine::model::task::TaskId;

/// At most this many; the oldest goes first.
pub const LATE_SESSIONS_CAP: usize = 16;

/// A session that may yet show itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LateSession {
    /// For which task.
    pub task_id: TaskId,
    /// The machine's boot that it was woken in: in another one it does not run any more.
    pub machine_boot: String,
}

/// All of them, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct LateSessions(Vec<LateSession>);

impl LateSessions {
    /// What a journal held.
    pub fn recovered(items: Vec<LateSession>) -> Self {
        Self(items)
    }

    /// All of them, oldest first.
    pub fn items(&self) -> &[LateSession] {
        &self.0
    }

    /// One more, in place of an earlier one for the same task.
    pub fn expect(&mut self, late_session: LateSession) {
        self.forget(&late_session.task_id);
        self.0.push(late_session);
        if self.0.len() > LATE_SESSIONS_CAP {
            self.0.remove(0);
        }
    }

    /// Nobody is expected for the task any more; returns whether somebody was.
    pub fn forget(&mut self, task_id: &TaskId) -> bool {
        let before = self.0.len();
        self.0.retain(|known| known.task_id != *task_id);
        self.0.len() < before
    }

    /// The boot in which somebody was woken for the task who may yet show up.
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
