//! What the tasks weigh: the finished ones, of which the oldest make room, and the others, which leave room for no more at
//! some point. It keeps no task.

use std::collections::{HashMap, VecDeque};

use super::policy::Policy;
use super::task::Task;

/// The finished tasks in the order in which they ended.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    order: VecDeque<(String, u64)>,
    bytes: u64,
}

impl Kept {
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
