//! How long a field may be before an existing hub calls the frame invalid, and the one way to make a text fit.

/// The most characters (not bytes) that the existing hub takes in a field.
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
    /// The limit in characters.
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
