//! Who may ask the process to leave: signals, pm2's message, and the library's user. It passes requests on; the machine
//! decides.

use std::io;

use tokio::sync::{mpsc, watch};

use super::operator::Asked;
use super::pm2::Pm2;
#[cfg(unix)]
use super::reload::Reloads;
use crate::machine::{Event, RestartOrder, StopSignal};

/// Asks a running sidecar to restart itself, as a hub's command would: it finishes its task, says `agent_restarting`,
/// and exits 0 to be brought back (or replaces itself where nobody would bring it back).
#[derive(Debug, Clone)]
pub struct RestartHandle {
    requests: mpsc::Sender<Asked>,
}

/// The sidecar has ended already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SidecarGone;

impl core::fmt::Display for SidecarGone {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the sidecar has ended")
    }
}

impl std::error::Error for SidecarGone {}

impl RestartHandle {
    pub(super) fn new(requests: mpsc::Sender<Asked>) -> Self {
        Self { requests }
    }

    /// Asks for one restart with this reason. Whether it is granted (restart intensity) shows in the log and at the hub.
    ///
    /// # Errors
    /// [`SidecarGone`] when there is no one to ask.
    pub async fn graceful_restart(&self, reason: &str) -> Result<(), SidecarGone> {
        let order =
            RestartOrder { reason: reason.to_owned(), command_id: None, deadline_ms: None, force: false, by: None };
        self.requests.send(Event::RestartRequested(order).into()).await.map_err(|_| SidecarGone)
    }
}

/// Where requests go. The flag goes up with the first wish to stop, so that whatever the loop is in the middle of can be
/// cut short.
#[derive(Debug, Clone)]
pub(super) struct Requests {
    pub(super) queue: mpsc::Sender<Asked>,
    pub(super) stop_wanted: watch::Sender<bool>,
}

impl Requests {
    /// Whether there is still someone to ask.
    async fn stop(&self, signal: StopSignal) -> bool {
        self.stop_wanted.send_replace(true);
        self.queue.send(Event::StopRequested { signal }.into()).await.is_ok()
    }
}

/// Listens for SIGINT and SIGTERM, and for pm2's `"shutdown"` on its channel where there is one.
///
/// # Errors
/// Signal handlers that cannot be installed: then the process could not be stopped without losing its goodbye.
pub(super) fn listen(requests: Requests, pm2: &Pm2) -> io::Result<()> {
    signals(requests.clone())?;
    #[cfg(unix)]
    if let Some(number) = pm2.facts().channel_fd {
        match super::inherited_fd::take_channel(number).and_then(into_async) {
            Ok(channel) => {
                tokio::spawn(supervisor_messages(channel, requests));
            }
            Err(error) => {
                tracing::warn!(descriptor = number, %error, "pm2's channel cannot be used: its shutdown message will not be heard");
            }
        }
    }
    Ok(())
}

#[cfg(unix)]
fn signals(requests: Requests) -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let kinds = [(SignalKind::interrupt(), StopSignal::Interrupt), (SignalKind::terminate(), StopSignal::Terminate)];
    for (kind, name) in kinds {
        let mut arrivals = signal(kind)?;
        let requests = requests.clone();
        tokio::spawn(async move {
            while arrivals.recv().await.is_some() {
                if !requests.stop(name).await {
                    return;
                }
            }
        });
    }
    Ok(())
}

/// SIGHUP: the configuration is read again. In a terminal it means that the terminal is gone, and stops the process.
///
/// # Errors
/// The signal handler cannot be installed.
#[cfg(unix)]
pub(super) fn hangups(requests: Requests, reloads: Reloads) -> io::Result<()> {
    use std::io::IsTerminal as _;
    use tokio::signal::unix::{SignalKind, signal};
    let in_terminal = io::stdout().is_terminal();
    let mut arrivals = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while arrivals.recv().await.is_some() {
            let there = if in_terminal {
                requests.stop(StopSignal::Terminate).await
            } else {
                // What came of it is in the log.
                reloads.ask().await.is_ok()
            };
            if !there {
                return;
            }
        }
    });
    Ok(())
}

#[cfg(not(unix))]
fn signals(requests: Requests) -> io::Result<()> {
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            if !requests.stop(StopSignal::Interrupt).await {
                return;
            }
        }
    });
    Ok(())
}

#[cfg(unix)]
fn into_async(channel: std::os::unix::net::UnixStream) -> io::Result<tokio::net::UnixStream> {
    channel.set_nonblocking(true)?;
    tokio::net::UnixStream::from_std(channel)
}

/// pm2's channel: JSON lines. Nothing is ever written to it here, since one bad line takes the whole pm2 daemon down.
#[cfg(unix)]
async fn supervisor_messages(channel: tokio::net::UnixStream, requests: Requests) {
    use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
    /// More than any message to us; a longer line is cut into pieces that mean nothing.
    const LINE_CAP: u64 = 64 * 1024;
    let mut lines = BufReader::new(channel);
    loop {
        let mut line = Vec::new();
        match (&mut lines).take(LINE_CAP).read_until(b'\n', &mut line).await {
            Ok(0) => {
                tracing::warn!("pm2 closed its channel: the pm2 daemon is gone, and nobody restarts this process");
                return;
            }
            Ok(_) if line.trim_ascii() == b"\"shutdown\"" => {
                if !requests.stop(StopSignal::SupervisorMessage).await {
                    return;
                }
            }
            Ok(_) => tracing::debug!(bytes = line.len(), "a message from pm2 without a meaning here"),
            Err(error) => {
                tracing::warn!(%error, "pm2's channel failed");
                return;
            }
        }
    }
}
