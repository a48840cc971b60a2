//! The admin handle: inspects and commands the running sidecar. Every admin interface (the local socket, pm2's channel,
//! HTTP, systemd) uses it.

use std::sync::Arc;

use tokio::sync::watch;

use crate::sidecar::admin::commands::{CommandResult, CommandSender, OperatorCommand, SidecarGone};
use crate::sidecar::admin::reload::Reloads;
use crate::sidecar::admin::snapshot::Snapshot;
use crate::sidecar::admin::status::Status;
use crate::sidecar::supervisor::pm2::Pm2;

/// A handle to inspect and command the sidecar from outside its event loop.
#[derive(Debug, Clone)]
pub(crate) struct AdminHandle {
    snapshots: watch::Receiver<Snapshot>,
    commands: CommandSender,
    reloads: Reloads,
    pm2: Arc<Pm2>,
}

impl AdminHandle {
    pub(crate) fn new(
        snapshots: watch::Receiver<Snapshot>,
        commands: CommandSender,
        reloads: Reloads,
        pm2: Arc<Pm2>,
    ) -> Self {
        Self { snapshots, commands, reloads, pm2 }
    }

    /// Returns the current status document.
    pub(crate) fn status(&mut self) -> Status {
        let snapshot = self.snapshots.borrow_and_update();
        Status::of(&snapshot, &self.pm2)
    }

    /// Returns whether the hub knows this sidecar now. Unlike the status document it costs nothing.
    pub(crate) fn is_online(&mut self) -> bool {
        self.snapshots.borrow_and_update().machine.connection.online().is_some()
    }

    /// Returns how long the event loop's next deadline is overdue, in ms. More than a moment shows that the loop is
    /// stuck.
    pub(crate) fn overdue_ms(&self) -> u64 {
        let snapshot = self.snapshots.borrow();
        snapshot.next.map_or(0, |(at, _)| snapshot.clock.now().since(at))
    }

    /// Waits for the next step of the machine after the last [`AdminHandle::status`] or [`AdminHandle::is_online`].
    ///
    /// # Errors
    /// [`SidecarGone`]: the sidecar has ended.
    pub(crate) async fn changed(&mut self) -> Result<(), SidecarGone> {
        self.snapshots.changed().await.map_err(|_| SidecarGone)
    }

    /// Sends a command and waits for the machine's answer. `by` is for the log: `operator`, `pm2 trigger`.
    ///
    /// # Errors
    /// [`SidecarGone`]: the sidecar has ended.
    pub(crate) async fn ask(&self, command: OperatorCommand, by: &str) -> Result<CommandResult, SidecarGone> {
        self.commands.ask(command, by).await
    }

    /// Reads the configuration again and returns the outcome.
    ///
    /// # Errors
    /// [`SidecarGone`]: the sidecar has ended.
    pub(crate) async fn reload(&self) -> Result<CommandResult, SidecarGone> {
        self.reloads.ask().await
    }
}
