//! Which finished tasks are kept, oldest first, and what they weigh. It keeps no task.

use std::collections::VecDeque;

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
