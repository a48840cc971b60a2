//! What the commands write to stdout and stderr, and the exit codes that go with it.

use std::io::Write as _;
use std::process::ExitCode;

/// Prints an error to stderr and returns the exit code.
pub(super) fn fail(code: u8, message: &str) -> ExitCode {
    // stderr may be closed; the exit code is enough then.
    let _ = writeln!(std::io::stderr(), "agentcom-hub: {message}");
    ExitCode::from(code)
}

/// Prints a text to stdout and returns the exit code: 74 if stdout cannot be written.
pub(super) fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(74),
    }
}
