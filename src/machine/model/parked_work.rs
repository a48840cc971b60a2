//! Parked work: work that the hub reclaimed while it was under way or after it was done. When the same task is assigned
//! again under a new generation, the work is adopted instead of repeated.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::machine::model::job::PersistedJob;
use crate::machine::model::task::TaskId;

/// The most parked tasks; the oldest is dropped first.
pub const PARKED_WORK_CAP: usize = 8;

/// Parked work on one task.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ParkedTask {
    /// Work that a session may still be at.
    UnderWay(PersistedJob),
    /// Finished work whose result did not count for the generation in which it was done.
    Finished {
        /// The task's id.
        task_id: TaskId,
        /// The generation in which it was done.
        generation: u64,
        /// The agent's result, a JSON object.
        result: Arc<str>,
    },
}

impl ParkedTask {
    /// Returns the task's id.
    pub fn task_id(&self) -> &TaskId {
        match self {
            Self::UnderWay(persisted) => &persisted.task.id,
            Self::Finished { task_id, .. } => task_id,
        }
    }
}

/// All parked work, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ParkedWork(Vec<ParkedTask>);

impl ParkedWork {
    /// Returns the parked work of a journal.
    pub fn recovered(items: Vec<ParkedTask>) -> Self {
        Self(items)
    }

    /// Parks `item` in place of older work on the same task. Returns the work that was dropped to make room.
    #[must_use]
    pub fn put(&mut self, item: ParkedTask) -> Option<ParkedTask> {
        self.0.retain(|kept| kept.task_id() != item.task_id());
        self.0.push(item);
        (self.0.len() > PARKED_WORK_CAP).then(|| self.0.remove(0))
    }

    /// Removes and returns the parked work on the task.
    pub fn take(&mut self, task_id: &TaskId) -> Option<ParkedTask> {
        let index = self.0.iter().position(|kept| kept.task_id() == task_id)?;
        Some(self.0.remove(index))
    }

    /// Returns whether work on the task is parked.
    pub fn contains(&self, task_id: &TaskId) -> bool {
        self.0.iter().any(|kept| kept.task_id() == task_id)
    }

    /// Returns the parked work, oldest first.
    pub fn items(&self) -> &[ParkedTask] {
        &self.0
    }

    /// Returns the parked work mutably, oldest first.
    pub fn items_mut(&mut self) -> &mut [ParkedTask] {
        &mut self.0
    }
}
