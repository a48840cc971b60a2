//! The findings of `check`, their output as text and JSON, and the exit code that they amount to.

use std::fmt::{Display, Write as _};
use std::path::Path;

use serde_json::{Value, json};

use crate::common::secret::{REDACTED, Secret};
use crate::sidecar::exit_code::ExitCode;

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub(super) enum Level {
    /// As it should be.
    Ok,
    /// It works, and the operator should know.
    Warning,
    /// It does not work.
    Problem,
}

/// The result of one check.
#[derive(Debug, Clone)]
pub(super) struct Finding {
    check: &'static str,
    level: Level,
    found: String,
    todo: Option<String>,
    code: ExitCode,
}

impl Finding {
    /// Returns a finding without a fault.
    pub(super) fn ok(check: &'static str, found: impl Display) -> Self {
        Self { check, level: Level::Ok, found: found.to_string(), todo: None, code: ExitCode::Done }
    }

    /// Returns a finding that the operator should know.
    pub(super) fn warning(check: &'static str, found: impl Display) -> Self {
        Self { level: Level::Warning, ..Self::ok(check, found) }
    }

    /// Returns a finding that something does not work. `code` is the exit code that `run` would end with, or
    /// [`ExitCode::Unavailable`].
    pub(super) fn problem(check: &'static str, found: impl Display, code: ExitCode) -> Self {
        Self { level: Level::Problem, code, ..Self::ok(check, found) }
    }

    /// Adds what to do about it.
    #[must_use]
    pub(super) fn then(mut self, todo: impl Display) -> Self {
        self.todo = Some(todo.to_string());
        self
    }

    pub(super) fn is_problem(&self) -> bool {
        self.level == Level::Problem
    }

    pub(super) const fn code(&self) -> ExitCode {
        self.code
    }

    /// Returns the check's name, what was found and what to do, on one line.
    pub(super) fn as_sentence(&self) -> String {
        let todo = self.todo.as_ref().map(|todo| format!("; {todo}")).unwrap_or_default();
        format!("{}: {}{todo}", self.check, self.found)
    }
}

/// All findings.
#[derive(Debug, Default)]
pub(super) struct Report {
    findings: Vec<Finding>,
}

impl Report {
    pub(super) fn add(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    pub(super) fn extend(&mut self, findings: impl IntoIterator<Item = Finding>) {
        self.findings.extend(findings);
    }

    /// Redacts the secret in all findings: the answers of a hub or pm2 may hold it.
    pub(super) fn hide(&mut self, secret: &Secret) {
        for finding in &mut self.findings {
            finding.found = finding.found.replace(secret.expose(), REDACTED);
            finding.todo = finding.todo.take().map(|todo| todo.replace(secret.expose(), REDACTED));
        }
    }

    /// Returns [`ExitCode::Done`] without a problem; else the code that `run` would end with, if any; else
    /// [`ExitCode::Unavailable`].
    pub(super) fn exit_code(&self) -> ExitCode {
        let problems = || self.findings.iter().filter(|finding| finding.is_problem()).map(|finding| finding.code);
        let fatal = problems().find(|code| *code != ExitCode::Unavailable);
        fatal.or_else(|| problems().next()).unwrap_or(ExitCode::Done)
    }

    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            let found = finding.found.replace('\n', "\n                      ");
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{:<8} {:<12} {found}", finding.level.to_string(), finding.check);
            if let Some(todo) = &finding.todo {
                let _ = writeln!(text, "{:<8} {:<12} -> {todo}", "", "");
            }
        }
        let count = |level| self.findings.iter().filter(|finding| finding.level == level).count();
        let of = |count: usize, what: &str| match count {
            0 => format!("no {what}s"),
            1 => format!("1 {what}"),
            more => format!("{more} {what}s"),
        };
        let _ = writeln!(text, "{}, {}", of(count(Level::Problem), "problem"), of(count(Level::Warning), "warning"));
        text
    }

    pub(super) fn to_json(&self, config: &Path) -> String {
        let findings: Vec<Value> = self
            .findings
            .iter()
            .map(|finding| {
                let level: &str = finding.level.into();
                json!({"check": finding.check, "level": level, "found": finding.found, "do": finding.todo})
            })
            .collect();
        let value = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "config": config.display().to_string(),
            "exit_code": self.exit_code() as u8,
            "findings": findings,
        });
        format!("{value:#}\n")
    }
}
