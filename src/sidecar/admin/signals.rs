//! Signal handlers: SIGINT and SIGTERM stop the process, SIGHUP reads the configuration again.

use std::io;

use tokio::sync::mpsc;

use crate::common::signals::hangups;
use crate::machine::StopSignal;
use crate::sidecar::admin::commands::AdminRequest;
use crate::sidecar::admin::reload::Reloads;

/// Sends stop requests to the event loop.
#[derive(Debug, Clone)]
pub(crate) struct Requests {
    pub(crate) queue: mpsc::Sender<AdminRequest>,
}

impl Requests {
    /// Requests a stop. Returns false if the event loop has ended.
    pub(crate) async fn stop(&self, signal: StopSignal) -> bool {
        self.queue.send(AdminRequest::Stop(signal)).await.is_ok()
    }
}

/// Installs the handlers of SIGINT and SIGTERM.
///
/// # Errors
/// The signal handlers cannot be installed: the process could not be stopped without losing its goodbye.
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

/// Reads the configuration again at each SIGHUP. With a terminal, SIGHUP means that the terminal is gone, and stops the
/// process.
///
/// # Errors
/// The signal handler cannot be installed.
pub(crate) fn listen_for_hangup(requests: Requests, reloads: Reloads) -> io::Result<()> {
    use std::io::IsTerminal as _;
    let in_terminal = io::stdout().is_terminal();
    let mut arrivals = hangups()?;
    tokio::spawn(async move {
        while arrivals.recv().await.is_some() {
            let loop_is_running = if in_terminal {
                requests.stop(StopSignal::Terminate).await
            } else {
                // The outcome is logged there.
                reloads.ask().await.is_ok()
            };
            if !loop_is_running {
                return;
            }
        }
    });
    Ok(())
}
