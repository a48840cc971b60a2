//! A result that the result hook is looking at.

use crate::machine::model::task::Outcome;
use crate::machine::model::time::Timestamp;

/// A result that the hook is looking at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Review {
    /// Names the question, so that an answer about an earlier result changes nothing.
    pub number: u32,
    /// The result as it was found: what counts when the hook does not answer.
    pub outcome: Outcome,
    /// When to stop waiting for the hook.
    pub deadline: Timestamp,
}
