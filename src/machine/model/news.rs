//! What happened outside the protocol and the hub may be told.

use crate::machine::model::task::TaskId;

/// Something that could be told to the hub.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum News {
    /// A batch of a run's output.
    Output {
        /// Of which task.
        task_id: TaskId,
    },
    /// The machine's load.
    Resources,
}
