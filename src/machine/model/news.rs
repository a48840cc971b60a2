//! Optional news for the hub.

use crate::machine::model::task::TaskId;

/// News that may be passed on to the hub.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum News {
    /// A batch of output of a run.
    Output {
        /// The task's id.
        task_id: TaskId,
    },
    /// The load figures of the machine.
    Resources,
}
