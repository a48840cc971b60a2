//! What came of a command, for people and for scripts. With `--json` it is one object on stdout, whatever came of it;
//! without, a line on stdout, or on stderr where it did not do what it was asked.

use std::io::{self, Write as _};

use serde::Serialize;

use crate::sidecar::cli::out::{print, print_error};
use crate::sidecar::exit_code::ExitCode;

/// What came of a command.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Whether it did what it was asked.
    ok: bool,
    /// The exit code's name.
    outcome: &'static str,
    /// The exit code.
    exit_code: u8,
    /// The same for people.
    message: String,
    /// What is known beside it.
    #[serde(flatten)]
    pub(super) details: Details,
    #[serde(skip)]
    code: ExitCode,
}

/// What a script may want to know of a command that waited; each is left out where it is not known.
#[derive(Debug, Default, Serialize)]
pub(super) struct Details {
    /// The sidecar's answer to the command, where what came of it later is the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) answer: Option<String>,
    /// The sidecar's phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) phase: Option<String>,
    /// The task in hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) task_id: Option<String>,
    /// The process of the next run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pid: Option<u32>,
    /// The id of the next run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) boot_id: Option<String>,
    /// How long the hub was without the agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) gap_ms: Option<u64>,
}

impl Report {
    pub(super) fn new(code: ExitCode, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            ok: code == ExitCode::Done,
            outcome: code.into(),
            exit_code: code as u8,
            message,
            details: Details::default(),
            code,
        }
    }

    /// Returns the exit code.
    pub(super) fn code(&self) -> ExitCode {
        self.code
    }

    /// Returns what it says to people.
    pub(super) fn into_message(self) -> String {
        self.message
    }

    /// Prints it. Returns its exit code, or that of a stdout that cannot be written.
    pub(super) fn print(&self, json: bool) -> ExitCode {
        if !json && self.code != ExitCode::Done {
            return print_error(&self.message, self.code);
        }
        let line = if json { json_line(self) } else { format!("{}\n", self.message) };
        let printed = print(line.as_bytes());
        if printed == ExitCode::Done { self.code } else { printed }
    }
}

/// Returns a document as a line of JSON.
pub(super) fn json_line(document: &impl Serialize) -> String {
    // The documents hold only texts and numbers, which always serialize.
    serde_json::to_string(document).unwrap_or_default() + "\n"
}

/// Returns the exit code of a command whose output could not be written: a closed pipe (`| head`) is not an error.
pub(super) fn exit_code_of(written: io::Result<ExitCode>) -> ExitCode {
    match written {
        Ok(code) => code,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::Done,
        Err(error) => {
            print_error(&format!("cannot write to stdout: {error}; is its disk full?"), ExitCode::StateUnusable)
        }
    }
}

/// Writes a remark to stderr, beside what is on stdout. A closed stderr changes nothing.
pub(super) fn remark(text: &str) {
    let _ = writeln!(io::stderr(), "agentcom-sidecar: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_finds_the_exit_code_by_number_and_by_name() {
        let mut report = Report::new(ExitCode::TimedOut, "timed out after 2 s");
        report.details.task_id = Some("t".into());
        let wanted =
            r#"{"ok":false,"outcome":"timed_out","exit_code":124,"message":"timed out after 2 s","task_id":"t"}"#;
        assert_eq!(json_line(&report).trim_end(), wanted);
        let done = r#"{"ok":true,"outcome":"done","exit_code":0,"message":"m"}"#;
        assert_eq!(json_line(&Report::new(ExitCode::Done, "m")).trim_end(), done);
    }
}
