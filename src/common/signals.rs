//! Signals that both programs handle in the same way.
//!
//! SIGHUP, SIGUSR1 and SIGUSR2 end a process by default. A program that serves takes them from its first moment on:
//! [`hold`], then handlers, then [`release`]; and across a replacement of the program: [`ignore_across_exec`]. Its
//! children get the defaults, because a handler, unlike a mask and an ignored signal, is not inherited.
#![allow(unsafe_code, reason = "one call, with its reason beside it")]

use std::io;

use nix::sys::signal::{SigSet, Signal};

/// The signals that must not end a program that serves.
const HARMLESS: [Signal; 3] = [Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2];

/// Lets SIGHUP, SIGUSR1 and SIGUSR2 wait until [`release`]. To be called first in `main`: threads and children that are
/// started meanwhile inherit it.
pub fn hold() {
    // Fails only for a mask that does not exist.
    let _ = harmless().thread_block();
}

/// Lets the signals that [`hold`] holds arrive, also those that have come meanwhile.
pub fn release() {
    // As above.
    let _ = harmless().thread_unblock();
}

fn harmless() -> SigSet {
    HARMLESS.into_iter().collect()
}

/// Lets the program that is about to replace this one begin with these signals ignored, until it handles them. Unlike a
/// mask, this does not keep a program that only knows SIGHUP from receiving it.
#[cfg(feature = "sidecar")]
pub(crate) fn ignore_across_exec() {
    for one in HARMLESS {
        // SAFETY: replacing a handler is unsafe because the new one may do what no handler may; ignoring runs no code.
        let ignored = unsafe { nix::sys::signal::signal(one, nix::sys::signal::SigHandler::SigIgn) };
        // Fails only for a signal that cannot be ignored.
        let _ = ignored;
    }
}

/// Handles the signals that have no meaning here and would end the process: SIGUSR1, SIGUSR2, and SIGXFSZ, without which a
/// write beyond `ulimit -f` fails, so that it is logged and tried again like any other. Child processes get the defaults
/// back. Call it inside the runtime.
///
/// # Errors
/// A signal handler cannot be installed.
pub(crate) fn handle_meaningless() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    for one in [Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGXFSZ] {
        // The handler stays installed after its stream is dropped.
        drop(signal(SignalKind::from_raw(one as i32))?);
    }
    Ok(())
}

/// Returns the stream of SIGHUPs, which begins with one that [`hold`] held. Call it inside the runtime, on the thread that
/// called [`hold`].
///
/// # Errors
/// The signal handler cannot be installed.
pub(crate) fn hangups() -> io::Result<tokio::signal::unix::Signal> {
    let arrivals = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?;
    release();
    Ok(arrivals)
}
