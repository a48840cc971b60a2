//! What is worth a line of the log, and in which form lines are written.

/// What is worth a log line. `notice` is the original's level between info and warning; nothing here is logged at it,
/// so it shows warnings and errors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// Everything, other crates too.
    Trace,
    /// Every frame, event and effect.
    Debug,
    /// What happened.
    #[default]
    Info,
    /// As warnings.
    Notice,
    /// What went wrong and was coped with.
    Warning,
    /// What needs a person.
    Error,
}

/// How the log looks on stdout; in its file it is JSON always.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text in a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// One line of text, for people.
    Text,
}

impl LogFormat {
    /// Every name.
    pub const NAMES: &'static str = "auto, json, text";

    /// Reads a name.
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
    /// Every name that is understood: the original's first, then Rust's.
    pub const NAMES: &'static str = "debug, info, notice, warning (warn), error, trace";

    /// Reads a name of either world.
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
