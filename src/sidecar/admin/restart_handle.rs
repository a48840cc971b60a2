//! The handle by which a program that embeds the sidecar can restart it.

use tokio::sync::mpsc;

pub use crate::sidecar::admin::commands::SidecarGone;
use crate::sidecar::admin::commands::{AdminRequest, OperatorCommand};

/// A handle by which a running sidecar is asked to restart, as by the hub's command: it finishes its task, sends
/// `agent_restarting`, and exits with 0 for the supervisor to start it again (or replaces itself in place if no
/// supervisor would).
#[derive(Debug, Clone)]
pub struct RestartHandle {
    requests: mpsc::Sender<AdminRequest>,
}

impl RestartHandle {
    pub(crate) fn new(requests: mpsc::Sender<AdminRequest>) -> Self {
        Self { requests }
    }

    /// Requests one restart with this reason. Whether it is accepted (restart intensity) shows in the log and at the
    /// hub.
    ///
    /// # Errors
    /// [`SidecarGone`]: the sidecar has ended.
    pub async fn graceful_restart(&self, reason: &str) -> Result<(), SidecarGone> {
        let command = OperatorCommand::Restart { reason: reason.to_owned(), force: false };
        self.requests
            .send(AdminRequest::OperatorCommand { command, by: None, reply_to: None })
            .await
            .map_err(|_| SidecarGone)
    }
}
