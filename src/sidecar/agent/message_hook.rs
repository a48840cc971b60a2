//! Runs `on_message` for messages in rooms, one after the other. It stands outside of the machine: a message changes no
//! task, waits for nothing and is lost with the process.

use tokio::sync::mpsc;

use crate::protocol::JsonFields;
use crate::sidecar::agent::hooks::Hooks;

/// The most messages that wait for the one before; more are dropped.
const WAITING: usize = 32;

/// Runs the hook, in the background.
#[derive(Debug)]
pub(crate) struct MessageHook {
    messages: mpsc::Sender<(Hooks, JsonFields)>,
}

impl MessageHook {
    /// Creates a runner that waits for messages.
    pub(crate) fn start() -> Self {
        let (messages, mut waiting) = mpsc::channel::<(Hooks, JsonFields)>(WAITING);
        tokio::spawn(async move {
            while let Some((hooks, message)) = waiting.recv().await {
                hooks.on_message(&message).await;
            }
        });
        Self { messages }
    }

    /// Runs the hook for this message after those that came before.
    pub(crate) fn offer(&self, hooks: &Hooks, message: JsonFields) {
        if self.messages.try_send((hooks.clone(), message)).is_err() {
            tracing::warn!(hook = "on_message", waiting = WAITING, "a message was dropped: too many wait for the hook");
        }
    }
}
