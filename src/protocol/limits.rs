//! The field lengths beyond which a legacy hub calls a frame invalid, and the function that makes a text fit.

/// The maximum number of characters (not bytes) that the legacy hub accepts in a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// `agent_id`.
    AgentId,
    /// `description`.
    Description,
    /// `status`, `token` and `name`.
    Status,
    /// `error` and `reason`.
    Reason,
}

impl Limit {
    /// Returns the limit in characters.
    pub const fn chars(self) -> usize {
        match self {
            Self::AgentId => 128,
            Self::Description => 10_000,
            Self::Status => 256,
            Self::Reason => 2_000,
        }
    }
}

/// Cuts `text` to the field's limit on a character boundary; a cut text ends in an ellipsis.
pub fn clip(text: &str, limit: Limit) -> String {
    let max = limit.chars();
    match text.char_indices().nth(max) {
        None => text.to_owned(),
        Some(_) => text.chars().take(max - 1).chain(core::iter::once('…')).collect(),
    }
}
