//! What a command says: results on stdout, errors on stderr. It formats nothing.

use std::fmt::Display;
use std::io::{self, Write as _};

use crate::sidecar::exit_code::ExitCode;

/// Writes a command's result. A reader that has gone (`| head`) wants no more of it and is no error.
pub(super) fn print(bytes: &[u8]) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::Done,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::Done,
        Err(error) => complain(&format!("cannot write to stdout: {error}; is its disk full?"), ExitCode::StateUnusable),
    }
}

/// One error for a person; a stderr that is gone changes nothing about the exit.
pub(super) fn complain(error: &impl Display, code: ExitCode) -> ExitCode {
    let _ = writeln!(io::stderr(), "agentcom-sidecar: {error}");
    code
}
