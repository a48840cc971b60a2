//! Who may ask the process to leave: signals, and the library's user (and pm2, see `pm2_channel`). It passes requests on;
//! the machine decides.

use std::io;

use tokio::sync::mpsc;

use crate::machine::StopSignal;
use crate::sidecar::admin::commands::{Request, Wish};
#[cfg(unix)]
use crate::sidecar::admin::reload::Reloads;

/// Asks a running sidecar to restart itself, as a hub's command would: it finishes its task, says `agent_restarting`,
/// and exits 0 to be brought back (or replaces itself where nobody would bring it back).
#[derive(Debug, Clone)]
pub struct RestartHandle {
    requests: mpsc::Sender<Request>,
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
    pub(crate) fn new(requests: mpsc::Sender<Request>) -> Self {
        Self { requests }
    }

    /// Asks for one restart with this reason. Whether it is granted (restart intensity) shows in the log and at the hub.
    ///
    /// # Errors
    /// [`SidecarGone`] when there is no one to ask.
    pub async fn graceful_restart(&self, reason: &str) -> Result<(), SidecarGone> {
        let wish = Wish::Restart { reason: reason.to_owned(), force: false };
        self.requests.send(Request::Wish { wish, by: None, asker: None }).await.map_err(|_| SidecarGone)
    }
}

/// Where requests go.
#[derive(Debug, Clone)]
pub(crate) struct Requests {
    pub(crate) queue: mpsc::Sender<Request>,
}

impl Requests {
    /// Whether there is still someone to ask.
    pub(crate) async fn stop(&self, signal: StopSignal) -> bool {
        self.queue.send(Request::Stop(signal)).await.is_ok()
    }
}

/// Listens for SIGINT and SIGTERM.
///
/// # Errors
/// Signal handlers that cannot be installed: then the process could not be stopped without losing its goodbye.
#[cfg(unix)]
pub(crate) fn listen(requests: Requests) -> io::Result<()> {
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
pub(crate) fn hangups(requests: Requests, reloads: Reloads) -> io::Result<()> {
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

/// Listens for Ctrl-C.
///
/// # Errors
/// None here.
#[cfg(not(unix))]
pub(crate) fn listen(requests: Requests) -> io::Result<()> {
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            if !requests.stop(StopSignal::Interrupt).await {
                return;
            }
        }
    });
    Ok(())
}
