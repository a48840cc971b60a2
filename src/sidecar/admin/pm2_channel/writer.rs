//! The one writer on pm2's channel. Whole lines only, each checked right before its first byte goes out; a line that has
//! begun is finished before anything else is said, or nothing is said on that channel ever again.
//!
//! Nobody waits for pm2: what it does not read is kept up to a bound, then left out, message by message. A half line is
//! harmless as long as nothing follows it (Node throws away what has no newline when the channel closes), so a process
//! may end in the middle of one; only the program that replaces this one in place must not go on behind it.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::sidecar::admin::commands::CommandResult;
use crate::sidecar::admin::pm2_channel::line::{Axm, BadLine, ChannelLine, Message, Returned};

/// Messages kept for a pm2 that does not read, besides the latest figures.
const QUEUE_CAP: usize = 64;

/// Says things to pm2; without a channel, to nobody.
#[derive(Debug, Clone)]
pub(crate) struct ChannelWriter(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: Mutex<SendQueue>,
    /// There is something new to say.
    said: Notify,
    /// Everything has been said.
    settled: Notify,
}

#[derive(Debug, Default)]
struct SendQueue {
    messages: VecDeque<Message>,
    /// Of figures only the latest are worth saying.
    monitor: Option<Message>,
    table: Option<Message>,
    /// What the line under way still lacks.
    owed: Vec<u8>,
    /// Its first byte has gone out.
    begun: bool,
    /// Nothing is said any more.
    closed: bool,
    /// Answers that are still being found.
    pending: usize,
    left_out: u64,
}

/// What a step of the writer came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum WriteStep {
    /// Go on.
    Wrote,
    /// There is nothing to say.
    Quiet,
    /// pm2 has not read what is in the pipe.
    Full,
    /// Nothing is to be said any more.
    Closed,
}

impl ChannelWriter {
    /// With nobody to speak to.
    pub(crate) fn mute() -> Self {
        let voice = Self::new();
        voice.queue().closed = true;
        voice
    }

    pub(super) fn new() -> Self {
        Self(Arc::new(Shared { queue: Mutex::default(), said: Notify::new(), settled: Notify::new() }))
    }

    fn queue(&self) -> MutexGuard<'_, SendQueue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says it as soon as pm2 reads; never waits.
    pub(super) fn say(&self, message: Message) {
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
                    queue.left_out += 1;
                    if queue.left_out.is_power_of_two() {
                        tracing::warn!(
                            left_out = queue.left_out,
                            "pm2 does not read its channel: messages are left out"
                        );
                    }
                }
            }
        }
        drop(queue);
        self.0.said.notify_one();
    }

    /// While it lives, an answer is being found: [`ChannelWriter::finish`] waits for it.
    pub(super) fn answering(&self) -> Answering {
        self.queue().pending += 1;
        Answering(self.clone())
    }

    /// Writes until there is nothing more to say, as far as `write` takes it: the next bytes of the next line.
    ///
    /// # Errors
    /// The pipe has failed. Nothing is said on it any more.
    pub(super) fn step(&self, write: impl FnOnce(&[u8]) -> io::Result<usize>) -> io::Result<WriteStep> {
        let mut queue = self.queue();
        if queue.closed {
            return Ok(WriteStep::Closed);
        }
        if queue.owed.is_empty() {
            let Some(message) = queue.next() else {
                if queue.pending == 0 {
                    self.0.settled.notify_one();
                }
                return Ok(WriteStep::Quiet);
            };
            match line_of(message) {
                Ok(line) => queue.owed = line.into_bytes(),
                Err(error) => {
                    tracing::error!(%error, "a message to pm2 was held back");
                    return Ok(WriteStep::Wrote);
                }
            }
        }
        match write(&queue.owed) {
            Ok(0) => {
                queue.closed = true;
                self.0.settled.notify_one();
                Err(io::ErrorKind::WriteZero.into())
            }
            Ok(written) => {
                let written = written.min(queue.owed.len());
                queue.owed.drain(..written);
                queue.begun = !queue.owed.is_empty();
                Ok(WriteStep::Wrote)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(WriteStep::Full),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(WriteStep::Wrote),
            Err(error) => {
                queue.closed = true;
                self.0.settled.notify_one();
                Err(error)
            }
        }
    }

    /// Waits until there is something to say.
    pub(super) async fn wait(&self) {
        self.0.said.notified().await;
    }

    /// Lets what has been said go out, for at most `bound`, and says nothing after that. Whether the channel is between
    /// two lines, so that another program may go on with it.
    pub(crate) async fn finish(&self, bound: Duration) -> bool {
        let settled = async {
            while !self.queue().is_settled() {
                self.0.settled.notified().await;
            }
        };
        if tokio::time::timeout(bound, settled).await.is_err() {
            tracing::debug!("pm2 has not read everything");
        }
        let mut queue = self.queue();
        queue.closed = true;
        drop(std::mem::take(&mut queue.messages));
        self.0.said.notify_one();
        !queue.begun
    }
}

impl SendQueue {
    fn next(&mut self) -> Option<Message> {
        self.messages.pop_front().or_else(|| self.table.take()).or_else(|| self.monitor.take())
    }

    fn is_settled(&self) -> bool {
        let said = self.messages.is_empty() && self.monitor.is_none() && self.table.is_none() && self.owed.is_empty();
        self.closed || (said && self.pending == 0)
    }
}

/// An answer too long for a line is answered by less, so that nobody waits for it.
fn line_of(message: Message) -> Result<ChannelLine, BadLine> {
    match (ChannelLine::of(&message), message) {
        (Err(BadLine::TooLong { bytes }), Message::Axm(Axm::Reply { action_name, .. })) => {
            let action_name = action_name.chars().take(64).collect();
            let answer = CommandResult::no(format!("the answer is too long to be shown here: {bytes} bytes"));
            ChannelLine::of(&Message::Axm(Axm::Reply { action_name, returned: Returned::CommandResult(answer) }))
        }
        (line, _) => line,
    }
}

/// An answer that is being found.
#[derive(Debug)]
pub(super) struct Answering(ChannelWriter);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.queue().pending -= 1;
        self.0.0.said.notify_one();
    }
}

#[cfg(test)]
mod tests;
