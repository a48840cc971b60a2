//! The messages on the local socket, shared by both ends.

use serde::{Deserialize, Serialize};

use crate::sidecar::admin::commands::CommandResult;
use crate::sidecar::admin::status::Status;

/// A request on the local socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum SocketRequest {
    /// Return the state.
    Status {},
    /// Return the state now and whenever it changes.
    Watch {},
    /// Restart, as on the hub's command.
    Restart {
        /// The reason, for the log and the hub.
        #[serde(default)]
        reason: Option<String>,
        /// Do not wait for the task.
        #[serde(default)]
        force: bool,
    },
    /// Cancel a restart that still waits for its task.
    CancelRestart {},
    /// Finish the current task and accept no other.
    Drain {},
    /// Accept tasks again.
    Resume {},
    /// Read the configuration again.
    Reload {},
}

/// A reply on the local socket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SocketReply {
    /// The reply to `status`, and repeatedly to `watch`.
    Status(Box<Status>),
    /// The reply to any other valid request.
    Answer(CommandResult),
    /// The reason why the request was not carried out.
    Error(String),
}

/// Encodes a request or a reply as a line.
pub(super) fn to_line(message: &impl Serialize) -> Vec<u8> {
    // Strings and numbers only: serialization cannot fail.
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
}
