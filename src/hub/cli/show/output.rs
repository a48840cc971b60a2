//! What the commands write to stdout and stderr, and the exit codes that go with it.

use std::fmt::Display;
use std::io::{self, Write as _};

use crate::hub::cli::exit_code::ExitCode;

/// What a command prints at its end, and its exit code.
#[derive(Debug)]
pub(in crate::hub::cli) struct Output {
    /// The text for stdout.
    pub(in crate::hub::cli) text: String,
    /// The exit code, if the text can be written.
    pub(in crate::hub::cli) code: ExitCode,
}

impl Output {
    /// Creates the output of a command that did what was asked for.
    pub(in crate::hub::cli) fn done(text: impl Into<String>) -> Self {
        Self { text: text.into(), code: ExitCode::Done }
    }

    /// Returns the same with another exit code.
    #[must_use]
    pub(in crate::hub::cli) fn ending(self, code: ExitCode) -> Self {
        Self { code, ..self }
    }
}

/// Prints an error to stderr and returns the exit code. stderr may be closed; the exit code is enough then.
pub(in crate::hub::cli) fn fail(code: ExitCode, message: impl Display) -> ExitCode {
    let _ = writeln!(io::stderr(), "agentcom-hub: {message}");
    code
}

/// Prints a line for people beside the output, to stderr.
pub(in crate::hub::cli) fn note(message: impl Display) {
    let _ = writeln!(io::stderr(), "agentcom-hub: {message}");
}

/// Prints to stdout.
///
/// # Errors
/// The exit code: `Done` where the reader has gone (`| head`), `Disk` where stdout cannot be written.
pub(in crate::hub::cli) fn print(text: &[u8]) -> Result<(), ExitCode> {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(ExitCode::Done),
        Err(error) => Err(fail(ExitCode::Disk, format_args!("cannot write to stdout: {error}"))),
    }
}
