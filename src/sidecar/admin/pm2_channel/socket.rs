//! Takes over the socket that pm2 passed down, reads from it and writes to it. Only [`write`] writes to it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::machine::StopSignal;
use crate::sidecar::admin::commands::CommandResult;
use crate::sidecar::admin::handle::AdminHandle;
use crate::sidecar::admin::pm2_channel::line::{Axm, Message, Returned};
use crate::sidecar::admin::pm2_channel::reader::{self, ChannelMessage, ChannelReader};
use crate::sidecar::admin::pm2_channel::writer::{ChannelWriter, WriteStep};
use crate::sidecar::admin::pm2_channel::{actions, metrics};
use crate::sidecar::admin::readiness::Ready;
use crate::sidecar::admin::signals::Requests;
use crate::sidecar::supervisor::inherited_fd;
use crate::sidecar::supervisor::pm2::Pm2;

/// The number of triggers that are answered at the same time; further ones are refused.
const TRIGGERS_AT_ONCE: usize = 16;

/// The least time from a trigger to its answer: if the answer overtakes the daemon's own reply to `pm2 trigger`, that
/// command waits for ever (`API/Extra.js` counts answers only once it knows how many there will be).
const ANSWER_AFTER: Duration = Duration::from_millis(100);

/// Takes over the channel, if pm2 passed one down, and serves it in the background. Readiness is reported when `ready`
/// is set.
pub(crate) fn open(
    pm2: &Arc<Pm2>,
    requests: Requests,
    admin: AdminHandle,
    ready: watch::Receiver<Option<Ready>>,
) -> ChannelWriter {
    let Some(number) = pm2.settings().channel_fd else { return ChannelWriter::disconnected() };
    let socket = match inherited_fd::take_channel(number).and_then(into_async) {
        Ok(socket) => Arc::new(socket),
        Err(error) => {
            tracing::warn!(
                descriptor = number, %error,
                "pm2's channel cannot be used: its shutdown message and triggers will not be heard, nor our figures shown"
            );
            return ChannelWriter::disconnected();
        }
    };
    let channel = ChannelWriter::new();
    tokio::spawn(write(socket.clone(), channel.clone()));
    tokio::spawn(metrics::report(admin.clone(), channel.clone(), ready.clone()));
    tokio::spawn(report_ready(channel.clone(), ready));
    tokio::spawn(read(socket, Listener { channel: channel.clone(), requests, admin, pm2: pm2.clone() }));
    channel
}

fn into_async(channel: std::os::unix::net::UnixStream) -> io::Result<UnixStream> {
    channel.set_nonblocking(true)?;
    UnixStream::from_std(channel)
}

/// Writes the queued messages to the channel.
async fn write(socket: Arc<UnixStream>, channel: ChannelWriter) {
    loop {
        match channel.step(|bytes| socket.try_write(bytes)) {
            Ok(WriteStep::Wrote) => {}
            Ok(WriteStep::Quiet) => channel.wait().await,
            Ok(WriteStep::Full) => {
                // Woken when the pipe accepts more, or by `finish`; an error shows at the next write.
                tokio::select! {
                    _ = socket.writable() => {}
                    () = channel.wait() => {}
                }
            }
            Ok(WriteStep::Closed) => return,
            Err(error) => {
                tracing::debug!(%error, "pm2's channel takes nothing any more");
                return;
            }
        }
    }
}

async fn report_ready(channel: ChannelWriter, mut ready: watch::Receiver<Option<Ready>>) {
    if ready.wait_for(Option::is_some).await.is_ok() {
        channel.send(Message::Ready);
    }
}

struct Listener {
    channel: ChannelWriter,
    requests: Requests,
    admin: AdminHandle,
    pm2: Arc<Pm2>,
}

async fn read(socket: Arc<UnixStream>, listener: Listener) {
    let (mut reader, mut piece) = (ChannelReader::default(), vec![0; 8 * 1024]);
    let triggers = Arc::new(Semaphore::new(TRIGGERS_AT_ONCE));
    loop {
        let read = match socket.readable().await {
            Ok(()) => socket.try_read(&mut piece),
            Err(error) => Err(error),
        };
        match read {
            Ok(0) => return listener.pm2_is_gone("it is closed"),
            Ok(length) => {
                for message in reader.receive(&piece[..length]) {
                    if !listener.handle(message, &triggers).await {
                        return;
                    }
                }
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return listener.pm2_is_gone(&error.to_string()),
        }
    }
}

impl Listener {
    fn pm2_is_gone(&self, why: &str) {
        self.pm2.mark_gone();
        tracing::warn!(
            why,
            "pm2's channel has ended: the pm2 daemon is gone, and no supervisor restarts this process; it goes on, and a \
             commanded restart replaces it in place"
        );
    }

    /// Handles a message. Returns false if the event loop has ended.
    async fn handle(&self, message: ChannelMessage, triggers: &Arc<Semaphore>) -> bool {
        match message {
            ChannelMessage::Shutdown => return self.requests.stop(StopSignal::SupervisorMessage).await,
            ChannelMessage::Trigger { name, opts } => match triggers.clone().try_acquire_owned() {
                Ok(permit) => {
                    let (channel, mut admin, answering) =
                        (self.channel.clone(), self.admin.clone(), self.channel.answering());
                    let not_before = Instant::now() + ANSWER_AFTER;
                    tokio::spawn(async move {
                        let returned = actions::run(&mut admin, &name, &opts).await;
                        tracing::info!(action = name, "pm2 triggered an action");
                        tokio::time::sleep_until(not_before).await;
                        channel.send(reply(name, returned));
                        drop((answering, permit));
                    });
                }
                Err(_) => self.refuse(name, "too many triggers at once"),
            },
            ChannelMessage::TooLong => {
                tracing::warn!(cap_bytes = reader::LINE_CAP, "a message from pm2 was too long to be read");
                self.refuse(String::new(), "the message was too long to be read");
            }
            ChannelMessage::Nothing => tracing::debug!("a message from pm2 without a meaning here"),
        }
        true
    }

    fn refuse(&self, name: String, why: &'static str) {
        let (channel, answering) = (self.channel.clone(), self.channel.answering());
        tokio::spawn(async move {
            tokio::time::sleep(ANSWER_AFTER).await;
            channel.send(reply(name, Returned::CommandResult(CommandResult::refused(why))));
            drop(answering);
        });
    }
}

fn reply(action_name: String, returned: Returned) -> Message {
    Message::Axm(Axm::Reply { action_name, returned })
}
