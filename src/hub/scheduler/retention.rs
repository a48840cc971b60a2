//! What the tasks weigh: the finished ones, of which the oldest make room, and the others, which leave room for no more at
//! some point. It keeps no task.

use std::collections::{HashMap, VecDeque};

use crate::hub::scheduler::policy::Policy;
use crate::hub::scheduler::task::Task;

/// The finished tasks in the order in which they ended.
#[derive(Debug, Clone, Default)]
pub struct Retention {
    order: VecDeque<(String, u64)>,
    bytes: u64,
}

impl Retention {
    /// The task has ended.
    pub fn push(&mut self, task: &Task) {
        let weight = task.weight();
        self.bytes += weight;
        self.order.push_back((task.id.clone(), weight));
    }

    /// The task is not finished any more.
    pub fn remove(&mut self, task_id: &str) {
        if let Some(at) = self.order.iter().position(|(id, _)| id == task_id)
            && let Some((_, weight)) = self.order.remove(at)
        {
            self.bytes -= weight;
        }
    }

    /// The oldest, where there are too many or they weigh too much. The newest always stays: somebody waits for it.
    pub fn pop_over(&mut self, policy: &Policy) -> Option<String> {
        let over = self.order.len() > policy.keep_finished || self.bytes > policy.keep_finished_bytes;
        if !over || self.order.len() <= 1 {
            return None;
        }
        let (task_id, weight) = self.order.pop_front()?;
        self.bytes -= weight;
        Some(task_id)
    }
}

/// The tasks that have not ended, by what they weighed when they began to wait.
#[derive(Debug, Clone, Default)]
pub struct Unfinished {
    weights: HashMap<String, u64>,
    bytes: u64,
}

impl Unfinished {
    /// The task waits, or is under way.
    pub fn add(&mut self, task: &Task) {
        let weight = task.weight();
        self.remove(&task.id);
        self.bytes += weight;
        self.weights.insert(task.id.clone(), weight);
    }

    /// The task has ended.
    pub fn remove(&mut self, task_id: &str) {
        self.bytes -= self.weights.remove(task_id).unwrap_or_default();
    }

    /// Whether there is room for another of this weight.
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

    /// ConnectionLimit for so many finished tasks of that weight, however many there are.
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
        assert_eq!(kept.pop_over(&policy).as_deref(), Some("a"));
        assert_eq!(kept.pop_over(&policy), None);
    }

    #[test]
    fn the_oldest_go_while_they_weigh_too_much_and_what_just_fits_stays() {
        let mut kept = kept(&["a", "b", "c", "d"]);
        assert_eq!(kept.pop_over(&room_for(4)), None);
        assert_eq!(kept.pop_over(&room_for(2)).as_deref(), Some("a"));
        assert_eq!(kept.pop_over(&room_for(2)).as_deref(), Some("b"));
        assert_eq!(kept.pop_over(&room_for(2)), None);
    }

    #[test]
    fn what_is_not_finished_any_more_weighs_nothing() {
        let mut kept = kept(&["a", "b", "c"]);
        kept.remove("b");
        kept.remove("never there");
        assert_eq!(kept.pop_over(&room_for(2)), None);
        assert_eq!(kept.pop_over(&room_for(1)).as_deref(), Some("a"));
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
