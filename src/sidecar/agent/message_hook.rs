//! Runs `on_message` for messages in rooms, one after the other. It stands outside of the machine: a message changes no
//! task, waits for nothing and is lost with the process.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;

use crate::protocol::JsonFields;
use crate::sidecar::agent::hooks::Hooks;

/// The most messages that wait for the one before; more are dropped.
const WAITING: usize = 32;

/// Runs the hook, in the background.
#[derive(Debug)]
pub(crate) struct MessageHook {
    messages: mpsc::Sender<(Hooks, JsonFields)>,
    /// Whether the last message was dropped.
    is_full: AtomicBool,
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
        Self { messages, is_full: AtomicBool::new(false) }
    }

    /// Runs the hook for this message after those that came before.
    pub(crate) fn offer(&self, hooks: &Hooks, message: JsonFields) {
        let is_dropped = self.messages.try_send((hooks.clone(), message)).is_err();
        // Once per series: a room may be flooded.
        if !self.is_full.swap(is_dropped, Ordering::Relaxed) && is_dropped {
            tracing::warn!(hook = "on_message", waiting = WAITING, "messages are dropped: too many wait for the hook");
        }
    }
}
