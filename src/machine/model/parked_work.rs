//! Work that the hub took back while it was under way or done. It is kept for a while: when the same task comes back
//! under a new generation, the work is adopted instead of repeated.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::machine::model::job::PersistedJob;
use crate::machine::model::task::TaskId;

/// At most this many; the oldest goes first.
pub const PARKED_WORK_CAP: usize = 8;

/// One piece of work.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ParkedTask {
    /// Somebody may still be working on it.
    UnderWay(PersistedJob),
    /// It is done, and its result did not count for the generation it was done under.
    Finished {
        /// Which task.
        task_id: TaskId,
        /// The agent's result: a JSON object.
        result: Arc<str>,
    },
}

impl ParkedTask {
    /// Which task.
    pub fn task_id(&self) -> &TaskId {
        match self {
            Self::UnderWay(persisted) => &persisted.task.id,
            Self::Finished { task_id, .. } => task_id,
        }
    }
}

/// What is kept, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ParkedWork(Vec<ParkedTask>);

impl ParkedWork {
    /// What a journal held.
    pub fn recovered(items: Vec<ParkedTask>) -> Self {
        Self(items)
    }

    /// Keeps `item` in place of anything older for the same task. Returns what had to go for it.
    #[must_use]
    pub fn put(&mut self, item: ParkedTask) -> Option<ParkedTask> {
        self.0.retain(|kept| kept.task_id() != item.task_id());
        self.0.push(item);
        (self.0.len() > PARKED_WORK_CAP).then(|| self.0.remove(0))
    }

    /// Takes the task's work off the shelf.
    pub fn take(&mut self, task_id: &TaskId) -> Option<ParkedTask> {
        let index = self.0.iter().position(|kept| kept.task_id() == task_id)?;
        Some(self.0.remove(index))
    }

    /// What is kept, oldest first.
    pub fn items(&self) -> &[ParkedTask] {
        &self.0
    }

    /// The same, to be changed.
    pub fn items_mut(&mut self) -> &mut [ParkedTask] {
        &mut self.0
    }
}
