//! The rule for the name (`agent_id`) of an agent.

use crate::protocol::Limit;

/// The reason why a text cannot name an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadAgentName {
    /// No visible character.
    #[error("a text without a visible character")]
    Blank,
    /// Longer than [`Limit::AgentId`].
    #[error("a text of {chars} characters")]
    TooLong {
        /// Its length in characters.
        chars: usize,
    },
    /// It would break the lines that name it.
    #[error("a text with control characters in it")]
    Control,
}

/// Checks the name of an agent: 1 to 128 characters, at least one visible, no control characters.
///
/// # Errors
/// [`BadAgentName`] describes what was found instead.
pub fn check_agent_name(name: &str) -> Result<(), BadAgentName> {
    let chars = name.chars().count();
    if name.trim().is_empty() {
        Err(BadAgentName::Blank)
    } else if chars > Limit::AgentId.chars() {
        Err(BadAgentName::TooLong { chars })
    } else if name.chars().any(char::is_control) {
        Err(BadAgentName::Control)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_short_visible_text() {
        for good in ["a", "agent 7", "ä", &"x".repeat(128)] {
            assert_eq!(check_agent_name(good), Ok(()), "{good}");
        }
        assert_eq!(check_agent_name(""), Err(BadAgentName::Blank));
        assert_eq!(check_agent_name(" \u{a0}"), Err(BadAgentName::Blank));
        assert_eq!(check_agent_name(&"ä".repeat(129)), Err(BadAgentName::TooLong { chars: 129 }));
        assert_eq!(check_agent_name("a\nb"), Err(BadAgentName::Control));
    }
}
