//! Log lines for a person at a terminal: time (UTC), level, message, fields. Logged values cannot control the terminal
//! or imitate a line of their own. It does not decide what is logged.

use std::fmt::{self, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::common::text::on_one_line;

/// The formatter that writes events as text.
#[derive(Debug, Clone, Copy)]
pub(super) struct TextFormat {
    /// Whether to use the colours that every terminal has.
    pub(super) colour: bool,
}

impl<S, N> FormatEvent<S, N> for TextFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut parts = Parts::default();
        event.record(&mut parts);
        let level = *event.metadata().level();
        let (on, off) = if self.colour { (colour_of(level), "\x1b[0m") } else { ("", "") };
        write!(
            writer,
            "{} {on}{level}{off}{:<pad$}{}",
            time_of_day(),
            "",
            parts.message,
            pad = 6 - level.as_str().len()
        )?;
        if !parts.fields.is_empty() {
            let dim = if self.colour { "\x1b[2m" } else { "" };
            write!(writer, " {dim}{}{off}", parts.fields)?;
        }
        writeln!(writer)
    }
}

fn colour_of(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG | Level::TRACE => "\x1b[2m",
    }
}

fn time_of_day() -> String {
    let ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() % 86_400_000;
    let (seconds, ms) = (ms / 1_000, ms % 1_000);
    format!("{:02}:{:02}:{:02}.{ms:03}Z", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

/// The message of an event, and the fields after it.
#[derive(Default)]
struct Parts {
    message: String,
    fields: String,
}

impl Parts {
    fn add(&mut self, name: &str, value: &str) {
        let value = on_one_line(value);
        if name == "message" {
            self.message = value;
        } else if value.is_empty() || value.contains(|c: char| c.is_whitespace() || matches!(c, '"' | '=')) {
            // Writing to a string cannot fail.
            let _ = write!(self.fields, " {name}=\"{}\"", value.replace('"', "'"));
        } else {
            let _ = write!(self.fields, " {name}={value}");
        }
    }
}

impl Visit for Parts {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field.name(), &format!("{value:?}"));
    }
}
