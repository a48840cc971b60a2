//! The operator's panel: what may be seen of the running sidecar and asked of it, for every door (the local socket, pm2's
//! channel, HTTP). It is the same behind each; it knows no door.

use std::sync::Arc;

use tokio::sync::watch;

use crate::sidecar::admin::commands::{CommandResult, CommandSender, OperatorCommand, SidecarGone};
use crate::sidecar::admin::reload::Reloads;
use crate::sidecar::admin::snapshot::Snapshot;
use crate::sidecar::admin::status::Status;
use crate::sidecar::supervisor::pm2::Pm2;

/// Looks at the sidecar from outside its loop, and asks it.
#[derive(Debug, Clone)]
pub(crate) struct AdminHandle {
    seen: watch::Receiver<Snapshot>,
    commands: CommandSender,
    reloads: Reloads,
    pm2: Arc<Pm2>,
}

impl AdminHandle {
    pub(crate) fn new(
        seen: watch::Receiver<Snapshot>,
        commands: CommandSender,
        reloads: Reloads,
        pm2: Arc<Pm2>,
    ) -> Self {
        Self { seen, commands, reloads, pm2 }
    }

    /// The sidecar as it stands; the document of the moment.
    pub(crate) fn status(&mut self) -> Status {
        let snapshot = self.seen.borrow_and_update();
        Status::of(&snapshot, &self.pm2)
    }

    /// How long something has been due that the loop has not got to, ms: more than a moment shows that it stands still.
    pub(crate) fn overdue_ms(&self) -> u64 {
        let snapshot = self.seen.borrow();
        snapshot.next.map_or(0, |(at, _)| snapshot.clock.now().since(at))
    }

    /// Waits for the next step after the last [`AdminHandle::status`].
    ///
    /// # Errors
    /// [`SidecarGone`]: there will be none.
    pub(crate) async fn changed(&mut self) -> Result<(), SidecarGone> {
        self.seen.changed().await.map_err(|_| SidecarGone)
    }

    /// Asks, and waits for what the machine makes of it. `by` is for the log: `operator`, `pm2 trigger`.
    ///
    /// # Errors
    /// [`SidecarGone`]: there is no one to ask any more.
    pub(crate) async fn ask(&self, command: OperatorCommand, by: &str) -> Result<CommandResult, SidecarGone> {
        self.commands.ask(command, by).await
    }

    /// Reads the configuration again, and answers what came of it.
    ///
    /// # Errors
    /// [`SidecarGone`]: there is no one to ask any more.
    pub(crate) async fn reload(&self) -> Result<CommandResult, SidecarGone> {
        self.reloads.ask().await
    }
}
