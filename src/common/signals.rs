//! Signals that both programs treat alike.

use std::io;

/// A write beyond `ulimit -f` fails from here on, and is said and tried again like any other; the kernel's own way is to
/// end the process in the middle of it (SIGXFSZ). What is started gets that way back. Call it inside the runtime.
///
/// # Errors
/// The signal handler cannot be installed.
pub fn let_writes_fail() -> io::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        // It stays when nobody listens any more.
        signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw())).map(drop)?;
    }
    Ok(())
}
