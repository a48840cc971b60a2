//! Signals that both programs handle in the same way.

use std::io;

/// Makes a write beyond `ulimit -f` fail, so that it is logged and tried again like any other; by default the kernel
/// ends the process in the middle of the write (SIGXFSZ). Child processes get the default back. Call it inside the
/// runtime.
///
/// # Errors
/// The signal handler cannot be installed.
pub fn handle_file_size_signal() -> io::Result<()> {
    {
        use tokio::signal::unix::{SignalKind, signal};
        // The handler stays installed after its stream is dropped.
        signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw())).map(drop)?;
    }
    Ok(())
}
