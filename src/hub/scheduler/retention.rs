//! The sizes of the tasks: of the finished ones, of which the oldest are dropped, and of the unfinished ones, whose
//! total limits new submissions. The tasks themselves are kept in `tasks`.

use std::collections::{HashMap, VecDeque};

use crate::hub::scheduler::policy::Policy;
use crate::hub::scheduler::task::Task;

/// The finished tasks, in the order in which they ended.
#[derive(Debug, Clone, Default)]
pub struct Retention {
    order: VecDeque<(String, u64)>,
    bytes: u64,
}

impl Retention {
    /// Adds a task that has ended.
    pub fn push(&mut self, task: &Task) {
        let weight = task.weight();
        self.bytes += weight;
        self.order.push_back((task.id.clone(), weight));
    }

    /// Removes a task that is no longer finished.
    pub fn remove(&mut self, task_id: &str) {
        if let Some(at) = self.order.iter().position(|(id, _)| id == task_id)
            && let Some((_, weight)) = self.order.remove(at)
        {
            self.bytes -= weight;
        }
    }

    /// Removes and returns the oldest task, if there are too many or their total is too large. The newest always
    /// stays: a client may be waiting for it.
    pub fn pop_excess(&mut self, policy: &Policy) -> Option<String> {
        let over = self.order.len() > policy.keep_finished || self.bytes > policy.keep_finished_bytes;
        if !over || self.order.len() <= 1 {
            return None;
        }
        let (task_id, weight) = self.order.pop_front()?;
        self.bytes -= weight;
        Some(task_id)
    }
}

/// The unfinished tasks, with their sizes at the time they were queued.
#[derive(Debug, Clone, Default)]
pub struct Unfinished {
    weights: HashMap<String, u64>,
    bytes: u64,
}

impl Unfinished {
    /// Adds a task that is queued or assigned.
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

    /// A policy with space for the bytes of this number of finished tasks.
    fn room_for(tasks: u64) -> Policy {
        Policy { keep_finished_bytes: tasks * task("a").weight(), ..Policy::default() }
    }

    fn kept(ids: &[&str]) -> Retention {
        let mut kept = Retention::default();
        ids.iter().for_each(|id| kept.push(&task(id)));
        kept
    }

    #[test]
    fn the_oldest_go_while_there_are_too_many_and_as_many_as_allowed_stay() {
        let policy = Policy { keep_finished: 2, ..Policy::default() };
        let mut kept = kept(&["a", "b", "c"]);
        assert_eq!(kept.pop_excess(&policy).as_deref(), Some("a"));
        assert_eq!(kept.pop_excess(&policy), None);
    }

    #[test]
    fn the_oldest_go_while_they_weigh_too_much_and_what_just_fits_stays() {
        let mut kept = kept(&["a", "b", "c", "d"]);
        assert_eq!(kept.pop_excess(&room_for(4)), None);
        assert_eq!(kept.pop_excess(&room_for(2)).as_deref(), Some("a"));
        assert_eq!(kept.pop_excess(&room_for(2)).as_deref(), Some("b"));
        assert_eq!(kept.pop_excess(&room_for(2)), None);
    }

    #[test]
    fn what_is_not_finished_any_more_weighs_nothing() {
        let mut kept = kept(&["a", "b", "c"]);
        kept.remove("b");
        kept.remove("never there");
        assert_eq!(kept.pop_excess(&room_for(2)), None);
        assert_eq!(kept.pop_excess(&room_for(1)).as_deref(), Some("a"));
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
