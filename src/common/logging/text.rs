//! Log lines for a person at a terminal: time (UTC), level, message, fields. Logged values cannot control the terminal
//! or imitate a line of their own. It does not decide what is logged.

use std::fmt::{self, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
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
        let mut line = TextLine::default();
        event.record(&mut line);
        writeln!(writer, "{}", line.finish(&time_of_day(), event.metadata().level().as_str(), self.colour))
    }
}

fn colour_of(level: &str) -> &'static str {
    match level {
        "ERROR" => "\x1b[31m",
        "WARN" => "\x1b[33m",
        "INFO" => "\x1b[32m",
        _ => "\x1b[2m",
    }
}

fn time_of_day() -> String {
    let ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() % 86_400_000;
    let (seconds, ms) = (ms / 1_000, ms % 1_000);
    format!("{:02}:{:02}:{:02}.{ms:03}Z", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

/// A line of text in the making: the message of an event, and the fields after it.
#[derive(Debug, Default)]
pub struct TextLine {
    message: String,
    fields: String,
}

impl TextLine {
    /// Adds a field; the one called `message` goes before the others.
    pub fn add(&mut self, name: &str, value: &str) {
        let (name, value) = (on_one_line(name), on_one_line(value));
        if name == "message" {
            self.message = value;
        } else if value.is_empty() || value.contains(|c: char| c.is_whitespace() || matches!(c, '"' | '=')) {
            // Writing to a string cannot fail.
            let _ = write!(self.fields, " {name}=\"{}\"", value.replace('"', "'"));
        } else {
            let _ = write!(self.fields, " {name}={value}");
        }
    }

    /// Returns the line, without its end.
    pub fn finish(&self, time: &str, level: &str, colour: bool) -> String {
        let (on, off, dim) = if colour { (colour_of(level), "\x1b[0m", "\x1b[2m") } else { ("", "", "") };
        let pad = 6_usize.saturating_sub(level.len());
        let fields = match self.fields.as_str() {
            "" => String::new(),
            fields => format!(" {dim}{fields}{off}"),
        };
        format!("{time} {on}{level}{off}{:<pad$}{}{fields}", "", self.message)
    }
}

impl Visit for TextLine {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field.name(), &format!("{value:?}"));
    }
}
