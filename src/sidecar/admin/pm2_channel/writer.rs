//! The queue of messages to pm2 and their writing. Lines are written whole, each checked right before its first byte is
//! written; a line that has been begun is finished before the next one, or nothing more is written to the channel.
//!
//! No caller waits for pm2: messages that it does not read are queued up to a limit, then dropped one by one. Half a
//! line is harmless as long as nothing follows it (Node discards a line without a newline when the channel closes), so
//! a process may end in the middle of one; but the program that replaces this one in place must not write behind it.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::common::text::first_chars;
use crate::sidecar::admin::commands::CommandResult;
use crate::sidecar::admin::pm2_channel::line::{Axm, BadLine, ChannelLine, Message, Returned};

/// The number of messages that are queued for a pm2 that does not read, besides the latest metrics.
const QUEUE_CAP: usize = 64;

/// Sends messages to pm2; discards them if there is no channel.
#[derive(Debug, Clone)]
pub(crate) struct ChannelWriter(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: Mutex<SendQueue>,
    /// Notified when there is something new to send.
    new_message: Notify,
    /// Notified when everything has been sent.
    flushed: Notify,
}

#[derive(Debug, Default)]
struct SendQueue {
    messages: VecDeque<Message>,
    /// The latest metrics; older ones are replaced.
    monitor: Option<Message>,
    /// The latest table; older ones are replaced.
    table: Option<Message>,
    /// The rest of the current line.
    unwritten: Vec<u8>,
    /// Whether the current line has been partly written.
    partly_written: bool,
    /// Whether nothing is sent any more.
    closed: bool,
    /// The number of answers that are being prepared.
    pending: usize,
    /// The number of dropped messages.
    dropped: u64,
}

/// The outcome of a step of the writer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum WriteStep {
    /// Something was written; continue.
    Wrote,
    /// There is nothing to send.
    Quiet,
    /// The pipe is full: pm2 does not read.
    Full,
    /// Nothing is sent any more.
    Closed,
}

impl ChannelWriter {
    /// Creates a writer without a channel.
    pub(crate) fn disconnected() -> Self {
        let writer = Self::new();
        writer.queue().closed = true;
        writer
    }

    pub(super) fn new() -> Self {
        Self(Arc::new(Shared { queue: Mutex::default(), new_message: Notify::new(), flushed: Notify::new() }))
    }

    fn queue(&self) -> MutexGuard<'_, SendQueue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a message; never waits.
    pub(super) fn send(&self, message: Message) {
        let mut queue = self.queue();
        if queue.closed {
            return;
        }
        match message {
            message @ Message::Axm(Axm::Monitor(_)) => queue.monitor = Some(message),
            message @ Message::Axm(Axm::Table { .. }) => queue.table = Some(message),
            message @ (Message::Ready | Message::Axm(Axm::Action { .. } | Axm::Reply { .. })) => {
                if queue.messages.len() < QUEUE_CAP {
                    queue.messages.push_back(message);
                } else {
                    queue.dropped += 1;
                    if queue.dropped.is_power_of_two() {
                        tracing::warn!(
                            left_out = queue.dropped,
                            "pm2 does not read its channel: messages are left out"
                        );
                    }
                }
            }
        }
        drop(queue);
        self.0.new_message.notify_one();
    }

    /// Registers an answer that is being prepared. [`ChannelWriter::finish`] waits until the returned guard is dropped.
    pub(super) fn answering(&self) -> Answering {
        self.queue().pending += 1;
        Answering(self.clone())
    }

    /// Passes the rest of the current line, or else the next one, to `write` once.
    ///
    /// # Errors
    /// The pipe has failed. Nothing is sent any more.
    pub(super) fn step(&self, write: impl FnOnce(&[u8]) -> io::Result<usize>) -> io::Result<WriteStep> {
        let mut queue = self.queue();
        if queue.closed {
            return Ok(WriteStep::Closed);
        }
        if queue.unwritten.is_empty() {
            let Some(message) = queue.next() else {
                if queue.pending == 0 {
                    self.0.flushed.notify_one();
                }
                return Ok(WriteStep::Quiet);
            };
            match encode(message) {
                Ok(line) => queue.unwritten = line.into_bytes(),
                Err(error) => {
                    tracing::error!(%error, "a message to pm2 was held back");
                    return Ok(WriteStep::Wrote);
                }
            }
        }
        match write(&queue.unwritten) {
            Ok(0) => {
                queue.closed = true;
                self.0.flushed.notify_one();
                Err(io::ErrorKind::WriteZero.into())
            }
            Ok(written) => {
                let written = written.min(queue.unwritten.len());
                queue.unwritten.drain(..written);
                queue.partly_written = !queue.unwritten.is_empty();
                Ok(WriteStep::Wrote)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(WriteStep::Full),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(WriteStep::Wrote),
            Err(error) => {
                queue.closed = true;
                self.0.flushed.notify_one();
                Err(error)
            }
        }
    }

    /// Waits until there is something to send.
    pub(super) async fn wait(&self) {
        self.0.new_message.notified().await;
    }

    /// Flushes the queue for at most `bound`, then closes it. Returns whether the channel is between two lines, so that
    /// another program may write to it.
    pub(crate) async fn finish(&self, bound: Duration) -> bool {
        let flushed = async {
            while !self.queue().is_flushed() {
                self.0.flushed.notified().await;
            }
        };
        if tokio::time::timeout(bound, flushed).await.is_err() {
            tracing::debug!("pm2 has not read everything");
        }
        let mut queue = self.queue();
        queue.closed = true;
        drop(std::mem::take(&mut queue.messages));
        self.0.new_message.notify_one();
        !queue.partly_written
    }
}

impl SendQueue {
    fn next(&mut self) -> Option<Message> {
        self.messages.pop_front().or_else(|| self.table.take()).or_else(|| self.monitor.take())
    }

    fn is_flushed(&self) -> bool {
        let empty =
            self.messages.is_empty() && self.monitor.is_none() && self.table.is_none() && self.unwritten.is_empty();
        self.closed || (empty && self.pending == 0)
    }
}

/// Encodes a message. An answer that is too long is replaced by a short one, so that `pm2 trigger` does not wait for
/// ever.
fn encode(message: Message) -> Result<ChannelLine, BadLine> {
    match (ChannelLine::of(&message), message) {
        (Err(BadLine::TooLong { bytes }), Message::Axm(Axm::Reply { action_name, .. })) => {
            let action_name = first_chars(&action_name, 64).to_owned();
            let answer = CommandResult::refused(format!("the answer is too long to be shown here: {bytes} bytes"));
            ChannelLine::of(&Message::Axm(Axm::Reply { action_name, returned: Returned::CommandResult(answer) }))
        }
        (line, _) => line,
    }
}

/// The guard of an answer that is being prepared.
#[derive(Debug)]
pub(super) struct Answering(ChannelWriter);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.queue().pending -= 1;
        self.0.0.new_message.notify_one();
    }
}

#[cfg(test)]
mod tests;
