//! All tasks by id and by turn. A copy shares the tasks with the original and costs nothing, so that readers get one for
//! each state of the hub.

use std::ops::Bound;
use std::sync::Arc;

use imbl::{HashMap, OrdMap};

use crate::hub::scheduler::queue::{Turn, turn};
use crate::hub::scheduler::task::Task;

/// All tasks.
#[derive(Debug, Clone, Default)]
pub struct TaskTable {
    by_id: HashMap<Arc<str>, Arc<Task>>,
    order: OrdMap<Turn, Arc<str>>,
}

impl TaskTable {
    /// Returns one task.
    pub fn get(&self, task_id: &str) -> Option<&Task> {
        self.by_id.get(task_id).map(Arc::as_ref)
    }

    /// Returns one task for modification; its turn must stay the same.
    pub(crate) fn get_mut(&mut self, task_id: &str) -> Option<&mut Task> {
        self.by_id.get_mut(task_id).map(Arc::make_mut)
    }

    /// Returns the tasks after this position, by lane and order of submission.
    pub fn list_after(&self, after: Option<Turn>) -> impl Iterator<Item = &Task> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rest = self.order.range((from, Bound::Unbounded));
        rest.filter_map(|(_, id)| self.get(id))
    }

    pub(crate) fn insert(&mut self, task: Task) {
        let id: Arc<str> = task.id.as_str().into();
        self.order.insert(turn(&task), id.clone());
        self.by_id.insert(id, Arc::new(task));
    }

    pub(crate) fn remove(&mut self, task_id: &str) {
        if let Some(task) = self.by_id.remove(task_id) {
            self.order.remove(&turn(&task));
        }
    }
}
