//! The log: lines on stdout (JSON, or text in a terminal) and in a file (JSON, of limited size). It never blocks or
//! kills the daemon and never writes a secret; when lines come too fast it drops some and writes how many. It filters
//! by level only.
//!
//! Each sink has a thread and a bounded queue of its own, so that a pm2 that reads slowly (its pipe takes about 94 KiB)
//! does not delay the file, nor a full disk stdout.

mod file;
mod level;
mod line;
mod queue;
mod text;

use std::io::{IsTerminal as _, Write};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Registry, reload};

use crate::common::fs::rotating_file::RotatingFile;
use crate::common::secret::Secret;
pub use level::{LogFormat, LogLevel};
use line::LineMaker;
pub use line::{Redactor, learn_secret};
use queue::LineQueue;
use text::TextFormat;
pub use text::TextLine;

/// The maximum size of a log file, in bytes (the legacy sidecar's figure).
pub const MAX_FILE_BYTES: u64 = 10 * 1024 * 1024;
/// The number of log files: the current one and its four predecessors, `.1` (the newest) to `.4`.
pub const MAX_FILES: u32 = 5;
/// How long a dropped [`Guard`] waits for the last lines to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(200);

/// The configuration of the log.
#[derive(Debug, Default)]
pub struct LogConfig {
    /// The least severe level that is logged.
    pub level: LogLevel,
    /// The format of lines on stdout; the file's is JSON.
    pub format: LogFormat,
    /// The log file, besides stdout.
    pub file: Option<PathBuf>,
    /// Texts that no line may contain; they are replaced by `<redacted>`.
    pub secrets: Vec<Secret>,
}

/// The guard that keeps the log running. Dropping it writes the queued lines, for up to 200 ms; later lines are lost.
#[derive(Debug)]
#[must_use = "the log ends when the guard is dropped"]
pub struct Guard {
    queues: Vec<Arc<LineQueue>>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let deadline = Instant::now() + FLUSH_TIMEOUT;
        // All are closed before the first wait, so that they finish in parallel.
        self.queues.iter().for_each(|queue| queue.close());
        self.queues.iter().for_each(|queue| queue.wait_until_done(deadline));
    }
}

/// The handle that changes the level of this process's log.
static LEVEL: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();

/// Sets the log's level. Does nothing before [`init`].
pub fn set_level(level: LogLevel) {
    if let Some(handle) = LEVEL.get() {
        // Fails only after the log has ended.
        let _ = handle.reload(targets(level));
    }
}

/// Starts the log of this process, and logs panics as error lines. A second call replaces only the panic hook, and its
/// guard has no effect.
pub fn init(config: LogConfig) -> Guard {
    let style = Style::of_this_process(config.format);
    let (subscriber, level, guard) = subscriber(config, style, stdout());
    // Fails only if a subscriber is already set: that one stays.
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

/// Returns whether text on stdout has colours: it is a terminal, and nothing says that it should have none.
pub fn colours_of_stdout() -> bool {
    Style::of_this_process(LogFormat::Text) == Style::Text { colour: true }
}

/// The style of lines on stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Json,
    Text { colour: bool },
}

impl Style {
    fn of_this_process(format: LogFormat) -> Self {
        let terminal = std::io::stdout().is_terminal();
        // no-color.org: NO_COLOR counts if it is set and not empty. TERM=dumb is a terminal without colours.
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        match format {
            LogFormat::Json => Self::Json,
            LogFormat::Auto if !terminal => Self::Json,
            LogFormat::Auto | LogFormat::Text => Self::Text { colour: terminal && !plain },
        }
    }
}

/// Creates the subscriber that writes to `out` as stdout, its level handle and its guard, without installing anything
/// in the process.
fn subscriber(
    config: LogConfig,
    style: Style,
    out: Box<dyn Write + Send>,
) -> (impl tracing::Subscriber + Send + Sync, reload::Handle<Targets, Registry>, Guard) {
    let stdout = LineQueue::start("log-stdout", queue::Stream::new(out), None);
    let mut queues = vec![Arc::clone(&stdout)];
    // The sinks that programs may read get JSON.
    let mut as_json = match style {
        Style::Json => vec![Arc::clone(&stdout)],
        Style::Text { .. } => Vec::new(),
    };
    if let Some(path) = config.file {
        let file = RotatingFile::new(path, file::LIMITS);
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

/// Returns the filter for a level. Other crates log warnings and errors only, except at `trace`.
fn targets(level: LogLevel) -> Targets {
    let (ours, others) = match level {
        LogLevel::Trace => (LevelFilter::TRACE, LevelFilter::TRACE),
        LogLevel::Debug => (LevelFilter::DEBUG, LevelFilter::WARN),
        LogLevel::Info => (LevelFilter::INFO, LevelFilter::WARN),
        LogLevel::Notice | LogLevel::Warning => (LevelFilter::WARN, LevelFilter::WARN),
        LogLevel::Error => (LevelFilter::ERROR, LevelFilter::ERROR),
    };
    // Targets match by prefix: this one is the library and both programs.
    Targets::new().with_default(others).with_target("agentcom", ours)
}

/// Returns stdout without std's lock and buffer: a thread that is blocked in a write must not hold a lock that others
/// need to exit.
fn stdout() -> Box<dyn Write + Send> {
    use std::os::fd::AsFd;
    match std::io::stdout().as_fd().try_clone_to_owned() {
        Ok(descriptor) => Box::new(std::fs::File::from(descriptor)),
        Err(_) => Box::new(std::io::stdout()),
    }
}

#[cfg(test)]
mod tests;
