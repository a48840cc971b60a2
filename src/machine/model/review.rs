//! The review of a result by the result hook.

use crate::machine::model::task::Outcome;
use crate::machine::model::time::Timestamp;

/// A review in progress.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Review {
    /// The question's number, so that an answer about an earlier result changes nothing.
    pub number: u32,
    /// The result as it was found; it counts if the hook does not answer.
    pub outcome: Outcome,
    /// The time limit for the hook's answer.
    pub deadline: Timestamp,
}
