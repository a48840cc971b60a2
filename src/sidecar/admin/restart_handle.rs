//! The handle by which a program that embeds the sidecar restarts it.

use tokio::sync::mpsc;

use crate::sidecar::admin::commands::{AdminRequest, OperatorCommand, SidecarGone};

/// Asks a running sidecar to restart itself, as a hub's command would: it finishes its task, says `agent_restarting`,
/// and exits 0 to be brought back (or replaces itself where nobody would bring it back).
#[derive(Debug, Clone)]
pub struct RestartHandle {
    requests: mpsc::Sender<AdminRequest>,
}

impl RestartHandle {
    pub(crate) fn new(requests: mpsc::Sender<AdminRequest>) -> Self {
        Self { requests }
    }

    /// Asks for one restart with this reason. Whether it is granted (restart intensity) shows in the log and at the hub.
    ///
    /// # Errors
    /// [`SidecarGone`] when there is no one to ask.
    pub async fn graceful_restart(&self, reason: &str) -> Result<(), SidecarGone> {
        let command = OperatorCommand::Restart { reason: reason.to_owned(), force: false };
        self.requests
            .send(AdminRequest::OperatorCommand { command, by: None, asker: None })
            .await
            .map_err(|_| SidecarGone)
    }
}
