//! What a hub thinks of a token, found out by questions that every hub answers and that change nothing: no `identify`,
//! which would push a running sidecar off its connection.
//!
//! Our hub shows an agent's restarts to that agent (and to an admin) only, which tells whose the token is. An existing
//! hub has no such page; there, a task that cannot exist is asked for: 401 for a token that it does not know, 404
//! otherwise.

use std::time::Duration;

use crate::common::secret::Secret;
use crate::sidecar::cli::hub_client::{AskError, HttpRequest, ask};

/// How a token stands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TokenStatus {
    /// It may act as this agent.
    Ours,
    /// The hub knows it; it does not tell whose it is.
    Known,
    /// The hub knows it as another's.
    Anothers,
    /// The hub does not know it.
    Unknown,
    /// The hub did not answer as hubs do.
    Unclear {
        /// What it said.
        why: String,
    },
}

/// Asks.
///
/// # Errors
/// [`AskError`]: the hub is not there.
pub(crate) async fn standing(
    base: &str,
    agent: &str,
    token: &Secret,
    timeout: Duration,
) -> Result<TokenStatus, AskError> {
    let path = format!("/api/admin/agents/{}/restarts", encoded(agent));
    let answer = ask(HttpRequest { base, path: &path, token: Some(token), body: None, timeout }).await?;
    match answer.status {
        200 => return Ok(TokenStatus::Ours),
        401 => return Ok(TokenStatus::Unknown),
        403 => return Ok(TokenStatus::Anothers),
        404 | 405 => {}
        _ => return Ok(TokenStatus::Unclear { why: answer.why() }),
    }
    let path = "/api/tasks/task-of-no-agentcom-sidecar-check";
    let answer = ask(HttpRequest { base, path, token: Some(token), body: None, timeout }).await?;
    Ok(match answer.status {
        200 => TokenStatus::Known,
        404 if answer.body["error"] == "task_not_found" || !answer.body["task_id"].is_null() => TokenStatus::Known,
        401 | 403 => TokenStatus::Unknown,
        _ => TokenStatus::Unclear { why: answer.why() },
    })
}

/// As one segment of a path: everything that is not plain is written as `%xx` (RFC 3986).
fn encoded(segment: &str) -> String {
    use std::fmt::Write as _;
    segment.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            text.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_segment_whatever_is_in_it() {
        assert_eq!(encoded("my-agent_1.x"), "my-agent_1.x");
        assert_eq!(encoded("a/b ?ä"), "a%2Fb%20%3F%C3%A4");
    }
}
