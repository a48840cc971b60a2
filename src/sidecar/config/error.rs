//! What can be wrong with a configuration, said so that a person can fix it. Nothing here ever quotes the token.

use core::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why there is no configuration. Every variant names the file and what to do next.
#[derive(Debug)]
pub enum ConfigError {
    /// The file cannot be read.
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is far larger than any configuration.
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// The most that is read, bytes.
        max_bytes: u64,
    },
    /// The file is not UTF-8.
    NotUtf8 {
        /// Which file.
        path: PathBuf,
        /// The line of the first bad byte, from 1.
        line: usize,
    },
    /// The file is not JSON.
    Syntax {
        /// Where, as far as the parser got.
        place: Place,
        /// The parser's words.
        detail: String,
    },
    /// The file is JSON, but these values are wrong: all of them, in the order they stand in the file.
    Invalid {
        /// Which file.
        path: PathBuf,
        /// At least one.
        problems: Vec<Problem>,
    },
}

/// A place in a file; line and column count from 1, columns in characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Which file.
    pub file: PathBuf,
    /// Which line.
    pub line: usize,
    /// Which column.
    pub column: usize,
}

/// One wrong value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it stands; `None` when a required key is missing or the value came from the environment or a flag.
    pub place: Option<Place>,
    /// The key, with its path: `restart_intensity.max`, `wake_retry_delays_ms[1]`.
    pub key: String,
    /// What was found. Never a token.
    pub found: String,
    /// What is allowed.
    pub allowed: String,
}

/// Something that works but that a person should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Where; `None` when it is about the whole file.
    pub place: Option<Place>,
    /// What.
    pub kind: WarningKind,
}

/// What a warning is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WarningKind {
    /// A key nobody reads.
    UnknownKey {
        /// The key as written.
        key: String,
        /// The key that was probably meant.
        did_you_mean: Option<&'static str>,
    },
    /// A key that stands twice; the last one counts, as in Node.
    DuplicateKey {
        /// The key, with its path.
        key: String,
        /// Where the first one stands.
        first_line: usize,
    },
    /// Others can read the token.
    ReadableByOthers {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The shell will not expand this placeholder: single quotes stop it.
    SingleQuoted {
        /// The key of the command.
        key: String,
        /// `TASK_ID`, `TASK_JSON` or `TASK_DESCRIPTION`.
        variable: &'static str,
    },
    /// There is no `wake_command`.
    NoWakeCommand,
    /// A path that starts with `~`, which no one expands.
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

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, source } => {
                write!(f, "cannot read the configuration {}: {source}; {}", path.display(), hint(source, path))
            }
            Self::TooLarge { path, max_bytes } => {
                write!(f, "{} is larger than {max_bytes} bytes: is it the right file?", path.display())
            }
            Self::NotUtf8 { path, line } => {
                write!(f, "{}:{line}: not UTF-8; save the file as UTF-8", path.display())
            }
            Self::Syntax { place, detail } => write!(f, "{place}: not valid JSON: {detail}"),
            Self::Invalid { path, problems } => {
                let plural = if problems.len() == 1 { "value" } else { "values" };
                write!(f, "{} wrong {plural} in {}:", problems.len(), path.display())?;
                problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
            }
        }
    }
}

fn hint(source: &io::Error, path: &Path) -> String {
    if source.kind() == io::ErrorKind::NotFound {
        "write one, or name yours with --config or AGENTCOM_CONFIG".to_owned()
    } else if source.kind() == io::ErrorKind::PermissionDenied {
        format!("it must belong to the user that runs the sidecar (chown, then chmod 600 {})", path.display())
    } else {
        "name another with --config or AGENTCOM_CONFIG".to_owned()
    }
}

impl core::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Unreadable { source, .. } => Some(source),
            Self::TooLarge { .. } | Self::NotUtf8 { .. } | Self::Syntax { .. } | Self::Invalid { .. } => None,
        }
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
                write!(f, "nobody reads `{key}`; did you mean `{meant}`?")
            }
            Self::UnknownKey { key, did_you_mean: None } => write!(f, "nobody reads `{key}`"),
            Self::DuplicateKey { key, first_line } => {
                write!(f, "`{key}` stands twice (first on line {first_line}); this one counts")
            }
            Self::ReadableByOthers { path, mode } => write!(
                f,
                "other users can read {} (mode {mode:03o}) and it holds the agent's token; run: chmod 600 '{}'",
                path.display(),
                path.display()
            ),
            Self::SingleQuoted { key, variable } => write!(
                f,
                "`{key}` has ${{{variable}}} inside single quotes, where the shell does not expand it; \
                 use double quotes: the value comes as an environment variable and needs no other protection"
            ),
            Self::NoWakeCommand => f.write_str(
                "no `wake_command`: a task waits, without a limit, for an agent that finds it by itself and leaves its result file",
            ),
            Self::Tilde { key } => {
                write!(f, "`{key}` starts with `~`, which is not expanded here; write the whole path")
            }
        }
    }
}
