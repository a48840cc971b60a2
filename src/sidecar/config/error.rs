//! The errors and warnings of a configuration, worded so that an operator can fix it. None quotes the token.

use core::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::common::text::escape_hidden;

/// The reason why a configuration was not read. Every message names the file and what to do next.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {source}; {}", .path.display(), hint(.source, .path))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The file is far larger than any configuration.
    #[error("{} is larger than {max_bytes} bytes: is it the right file?", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most that is read, bytes.
        max_bytes: u64,
    },
    /// The file is not UTF-8.
    #[error("{}:{line}: not UTF-8; save the file as UTF-8", .path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The line of the first invalid byte, from 1.
        line: usize,
    },
    /// The file is not JSON.
    #[error("{place}: not valid JSON: {detail}")]
    Syntax {
        /// The place where the parser stopped.
        place: Place,
        /// The parser's message.
        detail: String,
    },
    /// The file is JSON, but has wrong values.
    #[error("{}", invalid_message(.path, .problems))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// All wrong values, at least one, in the order of the file.
        problems: Vec<Problem>,
    },
}

/// A place in a file. Line and column count from 1, columns in characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
}

/// One wrong value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The place of the value; `None` if a required key is missing or the value came from the environment or a flag.
    pub place: Option<Place>,
    /// The key, with its path: `restart_intensity.max`, `wake_retry_delays_ms[1]`.
    pub key: String,
    /// The value that was found. Never a token.
    pub found: String,
    /// The allowed values.
    pub allowed: String,
}

/// Something that works but that an operator should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The place; `None` if the warning is about the whole file.
    pub place: Option<Place>,
    /// The subject.
    pub kind: WarningKind,
}

/// The subject of a warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WarningKind {
    /// A key that is not read.
    UnknownKey {
        /// The key as written.
        key: String,
        /// The key that was probably meant.
        did_you_mean: Option<&'static str>,
    },
    /// A key that occurs twice. The last one counts, as in Node.
    DuplicateKey {
        /// The key, with its path.
        key: String,
        /// The line of the first one, from 1.
        first_line: usize,
    },
    /// Other users can read a secret.
    ReadableByOthers {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// The secret that it holds: `the agent's token`.
        secret: &'static str,
    },
    /// `token_file` holds no token at this time.
    TokenFile {
        /// What was found.
        found: String,
    },
    /// A placeholder in single quotes, where the shell does not expand it.
    SingleQuoted {
        /// The key of the command.
        key: String,
        /// `TASK_ID`, `TASK_JSON` or `TASK_DESCRIPTION`.
        variable: &'static str,
    },
    /// There is no `wake_command`.
    NoWakeCommand,
    /// An `agent_id` that no new agent could have.
    HiddenInName {
        /// The name.
        name: String,
    },
    /// A path that starts with `~`, which is not expanded.
    Tilde {
        /// The key.
        key: &'static str,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        write!(f, "`{}`: found {}; allowed: {}", self.key, self.found, self.allowed)
    }
}

fn invalid_message(path: &Path, problems: &[Problem]) -> String {
    let plural = if problems.len() == 1 { "value" } else { "values" };
    let heading = format!("{} wrong {plural} in {}:", problems.len(), path.display());
    problems.iter().fold(heading, |message, problem| format!("{message}\n  {problem}"))
}

fn hint(source: &io::Error, path: &Path) -> String {
    if source.kind() == io::ErrorKind::NotFound {
        "agentcom-sidecar onboard writes one; or name yours with --config or AGENTCOM_CONFIG".to_owned()
    } else if source.kind() == io::ErrorKind::PermissionDenied {
        format!("it must belong to the user that runs the sidecar (chown, then chmod 600 {})", path.display())
    } else {
        "name another with --config or AGENTCOM_CONFIG".to_owned()
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        write!(f, "{}", self.kind)
    }
}

impl fmt::Display for WarningKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKey { key, did_you_mean: Some(meant) } => {
                write!(f, "unknown key `{key}`; did you mean `{meant}`?")
            }
            Self::UnknownKey { key, did_you_mean: None } => write!(f, "unknown key `{key}`"),
            Self::DuplicateKey { key, first_line } => {
                write!(f, "`{key}` stands twice (first on line {first_line}); this one counts")
            }
            Self::ReadableByOthers { path, mode, secret } => write!(
                f,
                "other users can read {} (mode {mode:03o}) and it holds {secret}; run: chmod 600 '{}'",
                path.display(),
                path.display()
            ),
            Self::TokenFile { found } => {
                write!(f, "`token_file` is {found}; it is read again for each connection, and there is none without it")
            }
            Self::SingleQuoted { key, variable } => write!(
                f,
                "`{key}` has ${{{variable}}} inside single quotes, where the shell does not expand it; \
                 use double quotes: the value comes as an environment variable and needs no other protection"
            ),
            Self::NoWakeCommand => f.write_str(
                "no `wake_command`: a task waits, without a limit, for an agent that finds it by itself and leaves its result file",
            ),
            Self::HiddenInName { name } => write!(
                f,
                "`agent_id` is \"{}\", with white space around it or characters in it that are not seen: the hub knows only \
                 the agent that is written in the same way",
                escape_hidden(name)
            ),
            Self::Tilde { key } => {
                write!(f, "`{key}` starts with `~`, which is not expanded here; write the whole path")
            }
        }
    }
}
