//! Writes a command's output: results to stdout, errors to stderr. It formats nothing.

use std::fmt::Display;
use std::io::{self, Write as _};

use crate::sidecar::exit_code::ExitCode;

/// Writes a command's result to stdout. A closed pipe (`| head`) is not an error.
pub(super) fn print(bytes: &[u8]) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::Done,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::Done,
        Err(error) => {
            print_error(&format!("cannot write to stdout: {error}; is its disk full?"), ExitCode::StateUnusable)
        }
    }
}

/// Writes an error to stderr and returns `code`. A closed stderr does not change the exit code.
pub(super) fn print_error(error: &impl Display, code: ExitCode) -> ExitCode {
    let _ = writeln!(io::stderr(), "agentcom-sidecar: {error}");
    code
}
