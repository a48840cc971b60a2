//! What is said over the local socket. Both ends share it; it does no I/O.

use serde::{Deserialize, Serialize};

use crate::sidecar::admin::commands::CommandResult;
use crate::sidecar::admin::status::Status;

/// What may be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum SocketRequest {
    /// The state as it is.
    Status {},
    /// The state as it is, and again whenever it changes.
    Watch {},
    /// Restart, as if the hub had asked.
    Restart {
        /// Why, for people.
        #[serde(default)]
        reason: Option<String>,
        /// Do not wait for the task.
        #[serde(default)]
        force: bool,
    },
    /// Take a restart back that still waits for its task.
    CancelRestart {},
    /// Finish the task in hand and take no more.
    Drain {},
    /// Take tasks again.
    Resume {},
    /// Read the configuration again.
    Reload {},
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SocketReply {
    /// To `status`, and to `watch` again and again.
    Status(Box<Status>),
    /// To everything else that was understood.
    CommandResult(CommandResult),
    /// Nothing was done.
    Error(String),
}

impl SocketReply {
    /// The reply's line.
    pub(super) fn to_line(&self) -> Vec<u8> {
        // Texts and numbers only: nothing here can fail to serialize.
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }
}
