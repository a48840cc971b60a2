//! The shutdown, once the machine has ordered the exit: the final messages to the hub and to pm2.

use crate::sidecar::admin::status::Status;
use crate::sidecar::hub_connection::ConnectionEventKind;
use crate::sidecar::shell::event_loop::Sidecar;

impl Sidecar {
    /// Waits briefly for the goodbye to reach the hub, then shuts pm2's channel and the history down.
    pub(super) async fn shut_down(&mut self) {
        const GOODBYE_TIMEOUT: std::time::Duration = std::time::Duration::from_millis(150);
        if matches!(self.machine.connection, crate::machine::Connection::Closing { .. }) {
            let closed = async {
                while let Some(event) = self.inbox.connection.recv().await {
                    if let ConnectionEventKind::Closed(_) = event.what {
                        return;
                    }
                }
            };
            if tokio::time::timeout(GOODBYE_TIMEOUT, closed).await.is_err() {
                tracing::debug!("left without the peer's close frame");
            }
        }
        self.shut_down_pm2_channel().await;
        self.history_writer.finish().await;
    }

    /// Refuses requests that come too late and sends pm2 the final messages.
    ///
    /// If pm2 does not read its channel, half a line may be in it. The channel is then closed, so that the program that
    /// replaces this one does not write behind it.
    async fn shut_down_pm2_channel(&mut self) {
        const FLUSH_TIMEOUT: std::time::Duration = std::time::Duration::from_millis(250);
        self.inbox.requests.close();
        while self.inbox.requests.try_recv().is_ok() {}
        self.adapters.next_run.close();
        let status = Status::of(&self.snapshot.borrow(), &self.adapters.pm2);
        self.adapters.pm2_channel.send_final_messages(&status);
        let between_lines = self.adapters.pm2_channel.finish(FLUSH_TIMEOUT).await;
        if !between_lines {
            tracing::warn!("pm2 does not read its channel: a program that replaces this one goes without it");
            crate::sidecar::supervisor::inherited_fd::abandon();
        }
    }
}
