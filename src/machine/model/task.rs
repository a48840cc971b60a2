//! Tasks and their outcomes. A task's content is opaque here: text that is passed to the agent.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::sync::Arc;

/// A task id that is a plain file name: letters, digits, `.`, `_`, `-`, at most 128 of them, no leading dot.
/// It names files in the results folder, so no other id is accepted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(Arc<str>);

/// The reason why a task id is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum BadTaskId {
    /// The id is empty.
    #[error("the task id is empty")]
    Empty,
    /// The id is longer than 128 characters.
    #[error("the task id is longer than 128 characters")]
    TooLong,
    /// The id starts with a dot and would name a hidden file.
    #[error("the task id starts with a dot")]
    LeadingDot,
    /// The id has a character that is not allowed.
    #[error("the task id has a character other than letters, digits, '.', '_' and '-'")]
    BadCharacter,
}

impl TaskId {
    /// Creates a task id from `raw`.
    ///
    /// # Errors
    /// [`BadTaskId`] if `raw` is not a plain file name.
    pub fn new(raw: &str) -> Result<Self, BadTaskId> {
        if raw.is_empty() {
            return Err(BadTaskId::Empty);
        }
        if raw.len() > 128 {
            return Err(BadTaskId::TooLong);
        }
        if raw.starts_with('.') {
            return Err(BadTaskId::LeadingDot);
        }
        if !raw.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
            return Err(BadTaskId::BadCharacter);
        }
        Ok(Self(raw.into()))
    }

    /// Returns the id as the hub wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl core::fmt::Display for TaskId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A task as the hub assigned it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Task {
    /// The task's id.
    pub id: TaskId,
    /// The hub's count of assignments of the task; a verdict is valid for one generation only.
    pub generation: u64,
    /// The assignment's JSON object for the agent.
    pub payload: Arc<str>,
}

/// The outcome of a task.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The task is completed.
    Completed {
        /// The agent's result, a JSON object; opaque here.
        result: Arc<str>,
    },
    /// The task failed.
    Failed {
        /// The reason, for operators and for the hub's retry.
        reason: String,
    },
}

impl Outcome {
    /// Creates a failure with this reason.
    pub fn failed(reason: &str) -> Self {
        Self::Failed { reason: reason.to_owned() }
    }

    /// Returns whether the outcome is sent as `task_complete`, and not as `task_failed`.
    pub fn is_completed(&self) -> bool {
        match self {
            Self::Completed { .. } => true,
            Self::Failed { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_plain_file_name() {
        for good in ["t", "T-1_a.b", "t.", "-", &"x".repeat(128)] {
            assert_eq!(TaskId::new(good).map(|id| id.as_str() == good), Ok(true));
        }
        assert_eq!(TaskId::new(""), Err(BadTaskId::Empty));
        assert_eq!(TaskId::new(&"x".repeat(129)), Err(BadTaskId::TooLong));
        assert_eq!(TaskId::new(".t"), Err(BadTaskId::LeadingDot));
        for bad in ["a/b", "a b", "a\0", "\u{e4}", "a\\b", "a:b"] {
            assert_eq!(TaskId::new(bad), Err(BadTaskId::BadCharacter));
        }
    }
}
