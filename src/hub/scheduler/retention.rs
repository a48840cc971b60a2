//! The sizes of records: of those that have ended, of which the oldest are dropped, and of the unfinished tasks, whose
//! total limits new submissions. The records themselves are kept in `tasks` and `restart_ledger`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::hub::scheduler::policy::Policy;
use crate::hub::scheduler::task::Task;

/// Records that have ended, in the order in which they ended, with their sizes.
#[derive(Debug, Clone, Default)]
pub struct Retention {
    order: BTreeMap<u64, (Arc<str>, u64)>,
    /// Each record's key in `order`.
    places: HashMap<Arc<str>, u64>,
    bytes: u64,
    next: u64,
}

impl Retention {
    /// Adds a record that has ended, of so many bytes. One that is there already counts as the newest, with this size.
    pub fn push(&mut self, id: &str, weight: u64) {
        self.remove(id);
        let id: Arc<str> = id.into();
        self.bytes += weight;
        self.order.insert(self.next, (id.clone(), weight));
        self.places.insert(id, self.next);
        self.next += 1;
    }

    /// Removes a record, if it is there.
    pub fn remove(&mut self, id: &str) {
        let weight = self.places.remove(id).and_then(|place| self.order.remove(&place)).map(|(_, weight)| weight);
        self.bytes -= weight.unwrap_or_default();
    }

    /// Removes and returns the oldest record, if there are more than `most` or their total exceeds `most_bytes`. The
    /// newest always stays: a client may be waiting for it.
    pub fn pop_excess(&mut self, most: usize, most_bytes: u64) -> Option<Arc<str>> {
        let over = self.order.len() > most || self.bytes > most_bytes;
        if !over || self.order.len() <= 1 {
            return None;
        }
        let (oldest, _) = self.order.first_key_value()?.1.clone();
        self.remove(&oldest);
        Some(oldest)
    }
}

/// The unfinished tasks, with their sizes when they were last queued.
#[derive(Debug, Clone, Default)]
pub struct Unfinished {
    weights: HashMap<String, u64>,
    bytes: u64,
}

impl Unfinished {
    /// Adds a task that is queued or assigned, or notes its present size.
    pub fn add(&mut self, task: &Task) {
        let weight = task.weight();
        self.remove(&task.id);
        self.bytes += weight;
        self.weights.insert(task.id.clone(), weight);
    }

    /// Removes a task that has ended.
    pub fn remove(&mut self, task_id: &str) {
        self.bytes -= self.weights.remove(task_id).unwrap_or_default();
    }

    /// Returns whether another task of this size may be added.
    pub fn has_room(&self, policy: &Policy, weight: u64) -> bool {
        self.weights.len() < policy.max_unfinished && self.bytes.saturating_add(weight) <= policy.max_unfinished_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::scheduler::task::Priority;
    use crate::hub::scheduler::tests::rig::submission;

    fn task(id: &str) -> Task {
        Task::new(id.into(), 1, submission(Priority::Normal), 0)
    }

    /// Records of 10 bytes each.
    fn kept(ids: &[&str]) -> Retention {
        let mut kept = Retention::default();
        ids.iter().for_each(|id| kept.push(id, 10));
        kept
    }

    #[test]
    fn the_oldest_go_while_there_are_too_many_and_as_many_as_allowed_stay() {
        let mut kept = kept(&["a", "b", "c"]);
        assert_eq!(kept.pop_excess(2, u64::MAX).as_deref(), Some("a"));
        assert_eq!(kept.pop_excess(2, u64::MAX), None);
    }

    #[test]
    fn the_oldest_go_while_they_weigh_too_much_and_what_just_fits_stays() {
        let mut kept = kept(&["a", "b", "c", "d"]);
        assert_eq!(kept.pop_excess(9, 40), None);
        assert_eq!(kept.pop_excess(9, 20).as_deref(), Some("a"));
        assert_eq!(kept.pop_excess(9, 20).as_deref(), Some("b"));
        assert_eq!(kept.pop_excess(9, 20), None);
    }

    #[test]
    fn the_newest_stays_whatever_it_weighs() {
        let mut kept = kept(&["a"]);
        assert_eq!(kept.pop_excess(0, 0), None);
    }

    #[test]
    fn what_has_not_ended_any_more_weighs_nothing() {
        let mut kept = kept(&["a", "b", "c"]);
        kept.remove("b");
        kept.remove("never there");
        assert_eq!(kept.pop_excess(9, 20), None);
        assert_eq!(kept.pop_excess(9, 10).as_deref(), Some("a"));
    }

    #[test]
    fn what_ends_again_is_the_newest_and_weighs_what_it_weighs_now() {
        let mut kept = kept(&["a", "b"]);
        kept.push("a", 30);
        assert_eq!(kept.pop_excess(9, 40), None);
        assert_eq!(kept.pop_excess(9, 39).as_deref(), Some("b"));
    }

    #[test]
    fn what_has_ended_makes_room() {
        let weight = task("a").weight();
        let policy = Policy { max_unfinished: 10, max_unfinished_bytes: 2 * weight, ..Policy::default() };
        let mut unfinished = Unfinished::default();
        unfinished.add(&task("a"));
        assert!(unfinished.has_room(&policy, weight) && !unfinished.has_room(&policy, weight + 1));
        unfinished.add(&task("b"));
        assert!(!unfinished.has_room(&policy, 1));
        unfinished.remove("a");
        unfinished.add(&task("b"));
        assert!(unfinished.has_room(&policy, weight) && !unfinished.has_room(&policy, weight + 1));
    }
}
