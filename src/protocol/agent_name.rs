//! The rule for the name (`agent_id`) of an agent.

use crate::common::text::{escape_hidden, looks_like_another};
use crate::protocol::Limit;

/// The reason why a text cannot name an agent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
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
    /// It would look like another name.
    #[error("a text with white space around it, or with characters in it that are not seen: \"{}\"", escape_hidden(.0))]
    Hidden(String),
    /// No address of a page or of the API could name it: there it means the folder, or the one above.
    #[error("{0:?}, which means a folder in an address")]
    Folder(String),
}

/// What a new name has to be, for error messages.
pub const NEW_NAME: &str = "1 to 128 characters, none of them a control character or one that is not seen (of no width, or \
                            for the direction), no white space around it, and none but spaces in it, and not `.` or `..`";

/// Checks the name of a new agent or operator: 1 to 128 characters, none that is not seen, and no white space around it. It
/// cannot be taken for another name, and an address can name it.
///
/// # Errors
/// [`BadAgentName`] describes what was found instead.
pub fn check_new_name(name: &str) -> Result<(), BadAgentName> {
    check_agent_name(name)?;
    if looks_like_another(name) {
        Err(BadAgentName::Hidden(name.to_owned()))
    } else if matches!(name, "." | "..") {
        Err(BadAgentName::Folder(name.to_owned()))
    } else {
        Ok(())
    }
}

/// Checks a name that an agent may have had since before [`check_new_name`]: 1 to 128 characters, at least one visible, no
/// control characters.
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

    #[test]
    fn a_new_name_cannot_be_taken_for_another() {
        for good in ["a", "agent 7", "ä", "...", ".a", "a/.."] {
            assert_eq!(check_new_name(good), Ok(()), "{good}");
        }
        assert_eq!(check_new_name(" "), Err(BadAgentName::Blank));
        for bad in ["a ", "a\u{200b}", "\u{202e}a", "a\u{fe0f}"] {
            assert_eq!(check_agent_name(bad), Ok(()), "{bad:?}");
            let error = check_new_name(bad).unwrap_err();
            assert_eq!(error, BadAgentName::Hidden(bad.to_owned()));
            assert!(bad.ends_with(' ') || error.to_string().contains("\\u{"), "{error}");
        }
        for folder in [".", ".."] {
            assert_eq!(check_agent_name(folder), Ok(()), "one that has the name keeps it");
            assert_eq!(check_new_name(folder), Err(BadAgentName::Folder(folder.to_owned())));
        }
    }
}
