//! What a hub hands out and what comes of it. A task's content is opaque here: text that rides along for the agent.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::sync::Arc;

/// A task id that is a plain file name: letters, digits, `.`, `_`, `-`, at most 128 of them, no leading dot.
/// It names files in the results folder, so nothing else is ever let in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(Arc<str>);

/// Why a task id was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::Display)]
pub enum BadTaskId {
    /// Nothing there.
    #[strum(to_string = "the task id is empty")]
    Empty,
    /// Over 128 characters.
    #[strum(to_string = "the task id is longer than 128 characters")]
    TooLong,
    /// It would be a hidden file.
    #[strum(to_string = "the task id starts with a dot")]
    LeadingDot,
    /// Something a file name should not have.
    #[strum(to_string = "the task id has a character other than letters, digits, '.', '_' and '-'")]
    BadCharacter,
}

impl TaskId {
    /// Checks `raw`.
    ///
    /// # Errors
    /// [`BadTaskId`] says what is wrong with it.
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

    /// The id as the hub wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl core::fmt::Display for TaskId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A task as the hub handed it out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Task {
    /// Which task.
    pub id: TaskId,
    /// The hub's count of hand-outs: a verdict holds for one generation only.
    pub generation: u64,
    /// The assignment's JSON object, for the agent.
    pub payload: Arc<str>,
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The agent's result: a JSON object.
    Completed {
        /// Opaque here.
        result: Arc<str>,
    },
    /// It failed.
    Failed {
        /// For people and for the hub's retry.
        reason: String,
    },
}

impl Outcome {
    /// A failure with this reason.
    pub fn failed(reason: &str) -> Self {
        Self::Failed { reason: reason.to_owned() }
    }

    /// Whether it is said as `task_complete`; otherwise as `task_failed`.
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
