//! The log: lines on stdout (JSON, or text in a terminal) and, JSON and capped, in a file. It never blocks the daemon, never kills it and never lets a
//! secret through; under pressure it drops lines and says how many. It decides nothing about what is worth a line but
//! the level.
//!
//! Each sink has a thread and a bounded queue of its own, so that a pm2 that reads slowly (its pipe takes about 94 KiB)
//! does not hold up the file, and a full disk not stdout.

mod file;
mod level;
mod line;
mod queue;
mod text;

use std::io::{IsTerminal as _, Write};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use file::RotatingFile;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Registry, reload};

use crate::common::secret::Secret;
pub use level::{LogFormat, LogLevel};
use line::LineMaker;
pub(crate) use line::Redactor;
use queue::LineQueue;
use text::TextFormat;

/// A log file never grows beyond this, bytes (the original's figure).
pub const MAX_FILE_BYTES: u64 = 10 * 1024 * 1024;
/// The log file and its four predecessors, `.1` (the youngest) to `.4`.
pub const MAX_FILES: u32 = 5;
/// How long a dropped [`Guard`] waits for the last lines.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(200);

/// What to log, and where.
#[derive(Debug, Default)]
pub struct LogConfig {
    /// What is worth a line.
    pub level: LogLevel,
    /// How it looks on stdout; in the file it is JSON.
    pub format: LogFormat,
    /// The file beside stdout.
    pub file: Option<PathBuf>,
    /// Texts that no line may hold; they become `<redacted>`.
    pub secrets: Vec<Secret>,
}

/// Keeps the log going. When it is dropped, lines still queued are written, within 200 ms; later ones are lost.
#[derive(Debug)]
#[must_use = "the log ends when the guard is dropped"]
pub struct Guard {
    queues: Vec<Arc<LineQueue>>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let give_up = Instant::now() + FLUSH_TIMEOUT;
        // All are told first, so that they finish side by side.
        self.queues.iter().for_each(|queue| queue.close());
        self.queues.iter().for_each(|queue| queue.wait_until_done(give_up));
    }
}

/// Changes what is worth a line in the log of this process.
static LEVEL: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();

/// What is worth a line from now on. Without a log it changes nothing.
pub fn set_level(level: LogLevel) {
    if let Some(handle) = LEVEL.get() {
        // Fails only where the log has ended.
        let _ = handle.reload(targets(level));
    }
}

/// Starts the log of this process, and turns panics into error lines. A second call changes nothing but the panic hook,
/// and its guard guards nothing that is used.
pub fn init(config: LogConfig) -> Guard {
    let style = Style::of_this_process(config.format);
    let (subscriber, level, guard) = subscriber(config, style, stdout());
    // Fails only where a subscriber is already set: that one goes on.
    if tracing::subscriber::set_global_default(subscriber).is_ok() {
        let _ = LEVEL.set(level);
    }
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let text =
            payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let message = text.unwrap_or("a panic without a text");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(panic = message, place, "a bug: this thread panicked");
    }));
    guard
}

/// How lines look on stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Json,
    Text { colour: bool },
}

impl Style {
    fn of_this_process(format: LogFormat) -> Self {
        let terminal = std::io::stdout().is_terminal();
        // no-color.org: set, and not empty. A terminal that knows no colours says so.
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        match format {
            LogFormat::Json => Self::Json,
            LogFormat::Auto if !terminal => Self::Json,
            LogFormat::Auto | LogFormat::Text => Self::Text { colour: terminal && !plain },
        }
    }
}

/// The same with another writer for stdout and without touching the process.
fn subscriber(
    config: LogConfig,
    style: Style,
    out: Box<dyn Write + Send>,
) -> (impl tracing::Subscriber + Send + Sync, reload::Handle<Targets, Registry>, Guard) {
    let stdout = LineQueue::start("log-stdout", queue::Stream::new(out), None);
    let mut queues = vec![Arc::clone(&stdout)];
    // JSON wherever a program may read.
    let mut as_json = match style {
        Style::Json => vec![Arc::clone(&stdout)],
        Style::Text { .. } => Vec::new(),
    };
    if let Some(path) = config.file {
        let file = RotatingFile::new(path, MAX_FILE_BYTES, MAX_FILES);
        let file = LineQueue::start("log-file", file, Some(Arc::clone(&stdout)));
        queues.push(Arc::clone(&file));
        as_json.push(file);
    }
    let json = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_writer(LineMaker::new(as_json, Redactor::new(&config.secrets)));
    let text = match style {
        Style::Json => None,
        Style::Text { colour } => Some(
            tracing_subscriber::fmt::layer()
                .event_format(TextFormat { colour })
                .with_writer(LineMaker::new(vec![stdout], Redactor::new(&config.secrets))),
        ),
    };
    let (level, handle) = reload::Layer::new(targets(config.level));
    let subscriber = tracing_subscriber::registry().with(level).with(json).with(text);
    (subscriber, handle, Guard { queues })
}

/// Other crates speak up only to warn, except at `trace`.
fn targets(level: LogLevel) -> Targets {
    let (ours, others) = match level {
        LogLevel::Trace => (LevelFilter::TRACE, LevelFilter::TRACE),
        LogLevel::Debug => (LevelFilter::DEBUG, LevelFilter::WARN),
        LogLevel::Info => (LevelFilter::INFO, LevelFilter::WARN),
        LogLevel::Notice | LogLevel::Warning => (LevelFilter::WARN, LevelFilter::WARN),
        LogLevel::Error => (LevelFilter::ERROR, LevelFilter::ERROR),
    };
    // A target is matched by how it begins: the library and both programs.
    Targets::new().with_default(others).with_target("agentcom", ours)
}

/// Stdout without std's lock and buffer: a thread that is stuck in a write must not hold what others need to exit.
#[cfg(unix)]
fn stdout() -> Box<dyn Write + Send> {
    use std::os::fd::AsFd;
    match std::io::stdout().as_fd().try_clone_to_owned() {
        Ok(descriptor) => Box::new(std::fs::File::from(descriptor)),
        Err(_) => Box::new(std::io::stdout()),
    }
}

#[cfg(not(unix))]
fn stdout() -> Box<dyn Write + Send> {
    Box::new(std::io::stdout())
}

#[cfg(test)]
mod tests;
