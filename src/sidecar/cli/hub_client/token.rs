//! Finds out whether a hub accepts a token, by requests that every hub answers and that change nothing. An `identify`
//! would displace the connection of a running sidecar.
//!
//! AgentCom's Rust hub shows an agent's restarts only to that agent and to an admin, which tells whose token it is. The
//! legacy hub has no such page. There, a task that cannot exist is requested: the answer is 401 for an unknown token
//! and 404 otherwise.

use std::time::Duration;

use crate::common::http_client::route::Transport;
use crate::common::http_client::{AskError, percent_encoded};
use crate::common::secret::Secret;
use crate::sidecar::cli::hub_client::{Question, ask};

/// A hub's answer about a token.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TokenStatus {
    /// The token may act as this agent.
    Ours,
    /// The hub knows the token, and does not tell whose it is.
    Known,
    /// The hub knows the token as another agent's.
    Anothers,
    /// The hub does not know the token.
    Unknown,
    /// The hub's answer is not one that a hub is known to give.
    Unclear {
        /// The hub's error text.
        why: String,
    },
}

/// Asks the hub about the token of `agent`.
///
/// # Errors
/// Returns an [`AskError`] if the hub cannot be reached.
pub(crate) async fn token_status(
    base: &str,
    agent: &str,
    token: &Secret,
    timeout: Duration,
    transport: &Transport,
) -> Result<TokenStatus, AskError> {
    let path = format!("/api/admin/agents/{}/restarts", percent_encoded(agent));
    let answer = ask(Question { base, path: &path, token: Some(token), body: None, timeout, transport }).await?;
    match answer.status {
        200 => return Ok(TokenStatus::Ours),
        401 => return Ok(TokenStatus::Unknown),
        403 => return Ok(TokenStatus::Anothers),
        404 | 405 => {}
        _ => return Ok(TokenStatus::Unclear { why: answer.error_text() }),
    }
    let path = "/api/tasks/task-of-no-agentcom-sidecar-check";
    let answer = ask(Question { base, path, token: Some(token), body: None, timeout, transport }).await?;
    Ok(match answer.status {
        200 => TokenStatus::Known,
        404 if answer.body["error"] == "task_not_found" || !answer.body["task_id"].is_null() => TokenStatus::Known,
        401 | 403 => TokenStatus::Unknown,
        _ => TokenStatus::Unclear { why: answer.error_text() },
    })
}
