//! The log's levels and formats.

/// The least severe level that is logged. `notice` is the legacy sidecar's level between info and warning; no event
/// here has it, so it shows warnings and errors. A more severe level is greater.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Everything, including other crates' events.
    Trace,
    /// Every frame, event and effect.
    Debug,
    /// Normal operation.
    #[default]
    Info,
    /// The same as `Warning`.
    Notice,
    /// Failures that the program handled.
    Warning,
    /// Failures that need a person.
    Error,
}

/// The format of the log on stdout; its file is always JSON.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text in a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// One JSON object per line.
    Json,
    /// One line of text, for people.
    Text,
}

impl LogFormat {
    /// All names.
    pub const NAMES: &'static str = "auto, json, text";

    /// Parses a name.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "auto" => Self::Auto,
            "json" => Self::Json,
            "text" => Self::Text,
            _ => return None,
        })
    }
}

impl LogLevel {
    /// All names: the legacy sidecar's first, then Rust's.
    pub const NAMES: &'static str = "debug, info, notice, warning (warn), error, trace";

    /// Parses a name of the legacy sidecar or of Rust.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "trace" => Self::Trace,
            "debug" => Self::Debug,
            "info" => Self::Info,
            "notice" => Self::Notice,
            "warning" | "warn" => Self::Warning,
            "error" => Self::Error,
            _ => return None,
        })
    }
}
