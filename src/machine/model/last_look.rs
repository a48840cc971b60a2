//! The last look into the results folder before a wait is given up.

use crate::machine::model::time::Timestamp;

/// A look into the results folder that has not been answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LastLook {
    /// The question's number.
    pub number: u32,
    /// The time limit for the answer.
    pub until: Timestamp,
}
