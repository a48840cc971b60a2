//! Sessions that may yet show themselves: their wake ended well, nobody came in time, and the task was given up. When the
//! same task comes again, its files are looked at before anybody is woken. It holds no work: what is known to be under way
//! is the job or on the shelf.

use alloc::string::String;
use alloc::vec::Vec;

use crate::machine::model::task::TaskId;

/// At most this many; the oldest goes first.
pub const LATECOMERS_CAP: usize = 16;

/// A session that may yet show itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Latecomer {
    /// For which task.
    pub task_id: TaskId,
    /// The machine's boot that it was woken in: in another one it does not run any more.
    pub machine_boot: String,
}

/// All of them, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Latecomers(Vec<Latecomer>);

impl Latecomers {
    /// What a journal held.
    pub fn recovered(items: Vec<Latecomer>) -> Self {
        Self(items)
    }

    /// All of them, oldest first.
    pub fn items(&self) -> &[Latecomer] {
        &self.0
    }

    /// One more, in place of an earlier one for the same task.
    pub fn expect(&mut self, latecomer: Latecomer) {
        self.forget(&latecomer.task_id);
        self.0.push(latecomer);
        if self.0.len() > LATECOMERS_CAP {
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

    fn latecomer(name: &str, boot: &str) -> Latecomer {
        Latecomer { task_id: TaskId::new(name).unwrap(), machine_boot: boot.into() }
    }

    #[test]
    fn as_many_are_expected_as_promised_the_latest() {
        let mut all = Latecomers::default();
        for n in 0..=LATECOMERS_CAP {
            all.expect(latecomer(&alloc::format!("t{n}"), "b"));
        }
        assert_eq!(all.items().len(), LATECOMERS_CAP);
        let woken_in = |name| all.woken_in(&TaskId::new(name).unwrap());
        assert_eq!([woken_in("t0"), woken_in("t1"), woken_in("t16")], [None, Some("b"), Some("b")]);
    }

    #[test]
    fn the_last_wake_of_a_task_counts() {
        let mut all = Latecomers::default();
        for (name, boot) in [("t", "b1"), ("u", "b1"), ("t", "b2")] {
            all.expect(latecomer(name, boot));
        }
        assert_eq!(all.items(), [latecomer("u", "b1"), latecomer("t", "b2")]);
    }
}
