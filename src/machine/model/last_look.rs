//! The last look at the results folder before a wait is given up.

use crate::machine::model::time::Timestamp;

/// A look into the results folder that has not been answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LastLook {
    /// Names the question.
    pub number: u32,
    /// When a folder that does not answer is no longer waited for.
    pub until: Timestamp,
}
