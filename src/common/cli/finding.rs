//! The findings of a program's `check`, their output as text and JSON, and the exit code that they amount to.

use std::fmt::{Display, Write as _};

use serde_json::{Value, json};

use crate::common::secret::{REDACTED, Secret};
use crate::common::text::count_of;

/// The exit codes of a program, as far as findings, help and manual need them.
pub trait Code: Copy + PartialEq {
    /// The code for success.
    const DONE: Self;
    /// The code for a problem that has no code of its own.
    const UNAVAILABLE: Self;

    /// Returns every code, in ascending order.
    fn all() -> Vec<Self>;

    /// Returns its number.
    fn number(self) -> u8;

    /// Returns its meaning.
    fn meaning(self) -> &'static str;
}

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
enum Level {
    /// As it should be.
    Ok,
    /// It works, and the operator should know.
    Warning,
    /// It does not work.
    Problem,
}

/// The result of one check.
#[derive(Debug, Clone)]
pub struct Finding<C> {
    check: &'static str,
    level: Level,
    found: String,
    todo: Option<String>,
    code: C,
}

impl<C: Code> Finding<C> {
    /// Returns a finding without a fault.
    pub fn ok(check: &'static str, found: impl Display) -> Self {
        Self { check, level: Level::Ok, found: found.to_string(), todo: None, code: C::DONE }
    }

    /// Returns a finding that the operator should know.
    pub fn warning(check: &'static str, found: impl Display) -> Self {
        Self { level: Level::Warning, ..Self::ok(check, found) }
    }

    /// Returns a finding that something does not work. `code` is the exit code that it amounts to.
    pub fn problem(check: &'static str, found: impl Display, code: C) -> Self {
        Self { level: Level::Problem, code, ..Self::ok(check, found) }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn then(mut self, todo: impl Display) -> Self {
        self.todo = Some(todo.to_string());
        self
    }

    /// Returns whether something does not work.
    pub fn is_problem(&self) -> bool {
        self.level == Level::Problem
    }

    /// Returns the exit code that it amounts to.
    pub const fn code(&self) -> C {
        self.code
    }

    /// Returns the check's name, what was found and what to do, on one line.
    pub fn as_sentence(&self) -> String {
        let todo = self.todo.as_ref().map(|todo| format!("; {todo}")).unwrap_or_default();
        format!("{}: {}{todo}", self.check, self.found)
    }
}

/// All findings.
#[derive(Debug)]
pub struct Report<C> {
    findings: Vec<Finding<C>>,
}

impl<C> Default for Report<C> {
    fn default() -> Self {
        Self { findings: Vec::new() }
    }
}

impl<C: Code> Report<C> {
    /// Adds a finding.
    pub fn add(&mut self, finding: Finding<C>) {
        self.findings.push(finding);
    }

    /// Adds findings.
    pub fn extend(&mut self, findings: impl IntoIterator<Item = Finding<C>>) {
        self.findings.extend(findings);
    }

    /// Redacts the secret in all findings: the answers of a hub or pm2 may hold it.
    pub fn hide(&mut self, secret: &Secret) {
        if secret.expose().is_empty() {
            return;
        }
        for finding in &mut self.findings {
            finding.found = finding.found.replace(secret.expose(), REDACTED);
            finding.todo = finding.todo.take().map(|todo| todo.replace(secret.expose(), REDACTED));
        }
    }

    /// Returns [`Code::DONE`] without a problem; else the first code of a problem that is not [`Code::UNAVAILABLE`], if any;
    /// else that.
    pub fn exit_code(&self) -> C {
        let problems = || self.findings.iter().filter(|finding| finding.is_problem()).map(|finding| finding.code);
        let fatal = problems().find(|code| *code != C::UNAVAILABLE);
        fatal.or_else(|| problems().next()).unwrap_or(C::DONE)
    }

    /// Returns the findings as lines, and how many are problems and warnings.
    pub fn to_text(&self) -> String {
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
            some => count_of(some as u64, what),
        };
        let _ = writeln!(text, "{}, {}", of(count(Level::Problem), "problem"), of(count(Level::Warning), "warning"));
        text
    }

    /// Returns the findings as one JSON object; `subject` is the name and value of the field that says what was checked.
    pub fn to_json(&self, subject: (&str, &str)) -> String {
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
            subject.0: subject.1,
            "exit_code": self.exit_code().number(),
            "findings": findings,
        });
        format!("{value:#}\n")
    }
}
