//! Which lines of the log are printed, and how: as text for people, or as the JSON that they are. Neither can control a
//! terminal.

use std::fmt::Write as _;

use crate::common::logging::{LogLevel, TextLine, colours_of_stdout};
use crate::common::text::{is_unsafe_in_terminal, on_one_line};
use crate::protocol::{JsonFields, JsonText, JsonType, read_stored};

/// The form of the lines.
#[derive(Debug, Clone, Copy)]
pub(super) enum Format {
    Json,
    Text { colour: bool },
}

impl Format {
    pub(super) fn of(json: bool) -> Self {
        if json { Self::Json } else { Self::Text { colour: colours_of_stdout() } }
    }
}

/// Which lines are printed.
#[derive(Debug, Clone, Default)]
pub(super) struct Filter {
    /// The least severe level.
    pub(super) level: Option<LogLevel>,
    /// The earliest time, as the log writes it, or the beginning of such a text.
    pub(super) since: Option<String>,
}

impl Filter {
    fn takes(&self, fields: &JsonFields) -> bool {
        let level = || fields.string("level").and_then(|level| LogLevel::parse(&level.to_ascii_lowercase()));
        let is_severe = self.level.is_none_or(|least| level().is_some_and(|level| level >= least));
        // Both are UTC, from the year to fractions of a second: in the order of their characters.
        let is_late = |since: &String| fields.string("timestamp").is_some_and(|at| at >= *since);
        is_severe && self.since.as_ref().is_none_or(is_late)
    }

    fn is_any(&self) -> bool {
        self.level.is_some() || self.since.is_some()
    }
}

/// Returns a line as it is printed; `None` where it is left out. One that is no line of the log (torn by a crash, or
/// another program's) has no time and no level: it is printed where nothing is filtered.
pub(super) fn show(line: &[u8], filter: &Filter, format: Format) -> Option<String> {
    match (read_stored::<JsonFields>(line), format) {
        (Ok(fields), Format::Json) => filter.takes(&fields).then(|| escape_unsafe(&String::from_utf8_lossy(line))),
        (Ok(fields), Format::Text { colour }) => filter.takes(&fields).then(|| as_text(&fields, colour)),
        (Err(_), _) if filter.is_any() => None,
        (Err(_), Format::Json) => {
            let mut fields = JsonFields::default();
            fields.set("unreadable", &String::from_utf8_lossy(line));
            Some(escape_unsafe(fields.to_text().as_str()))
        }
        (Err(_), Format::Text { .. }) => Some(on_one_line(&String::from_utf8_lossy(line))),
    }
}

fn as_text(fields: &JsonFields, colour: bool) -> String {
    let mut line = TextLine::default();
    for (name, value) in fields.iter() {
        if !matches!(name, "timestamp" | "level" | "target") {
            line.add(name, &plain(value));
        }
    }
    let text = |name| on_one_line(&fields.string(name).unwrap_or_default());
    line.finish(&text("timestamp"), &text("level"), colour)
}

/// Returns the value without the quotation marks of a text.
fn plain(value: &JsonText) -> String {
    match value.json_type() {
        JsonType::String => value.string().unwrap_or_default(),
        JsonType::Null | JsonType::Boolean | JsonType::Number | JsonType::Array | JsonType::Object => {
            value.as_str().to_owned()
        }
    }
}

/// Writes what a terminal would act on as escapes. Such characters stand in texts only, where an escape is the same.
fn escape_unsafe(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if is_unsafe_in_terminal(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                let _ = write!(text, "\\u{unit:04x}");
            }
        } else {
            text.push(c);
        }
    }
    text
}

/// Returns a time as people type it, `2026-11-24`, `2026-11-24T07:46`, `2026-11-24 07:46:58.5Z`, as the beginning of a time
/// of the log; `None` if it is no such time.
pub(super) fn time_prefix(text: &str) -> Option<String> {
    const FORM: &str = "dddd-dd-ddTdd:dd:dd";
    let text = text.strip_suffix(['Z', 'z']).unwrap_or(text).replacen([' ', 't'], "T", 1);
    let (whole, fraction) = text.split_once('.').map_or((&*text, None), |(whole, fraction)| (whole, Some(fraction)));
    let lengths: &[usize] = if fraction.is_some() { &[19] } else { &[10, 16, 19] };
    let fits = |(is, form): (char, char)| if form == 'd' { is.is_ascii_digit() } else { is == form };
    let is_time = lengths.contains(&whole.len()) && whole.chars().zip(FORM.chars()).all(fits);
    let is_fraction = fraction.is_none_or(|digits| !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit()));
    (is_time && is_fraction).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"timestamp":"2026-11-24T07:46:58.903673Z","level":"WARN","message":"it\nis","why":"two words","n":3,"target":"agentcom::x"}"#;
    const TEXT: Format = Format::Text { colour: false };

    fn shown(line: &str, filter: &Filter, format: Format) -> Option<String> {
        show(line.as_bytes(), filter, format)
    }

    #[test]
    fn a_line_is_shown_with_its_fields() {
        let text = shown(LINE, &Filter::default(), TEXT).unwrap();
        assert_eq!(text, "2026-11-24T07:46:58.903673Z WARN  it is  n=3 why=\"two words\"");
        assert_eq!(shown(LINE, &Filter::default(), Format::Json).unwrap(), LINE);
    }

    #[test]
    fn a_terminal_is_not_controlled() {
        let line = "{\"message\":\"\u{202e}\u{9b}x\"}";
        assert_eq!(shown(line, &Filter::default(), Format::Json).unwrap(), r#"{"message":"\u202e\u009bx"}"#);
        assert_eq!(shown("torn \u{1b}[2J", &Filter::default(), TEXT).unwrap(), "torn  [2J");
        assert_eq!(
            shown("torn \u{1b}[2J", &Filter::default(), Format::Json).unwrap(),
            r#"{"unreadable":"torn \u001b[2J"}"#
        );
    }

    #[test]
    fn lines_are_chosen_by_level_and_time() {
        let takes = |level: &str, since: &str| {
            let level = LogLevel::parse(level);
            let since = (!since.is_empty()).then(|| time_prefix(since).unwrap());
            shown(LINE, &Filter { level, since }, TEXT).is_some()
        };
        assert!(takes("warning", "") && takes("notice", "") && takes("debug", "") && !takes("error", ""));
        assert!(takes("", "2026-11-24") && takes("", "2026-11-24 07:46") && takes("", "2026-11-24T07:46:58.9Z"));
        assert!(!takes("", "2026-11-24T07:47") && !takes("", "2026-11-25"));
        assert_eq!(shown("torn", &Filter { level: Some(LogLevel::Trace), since: None }, TEXT), None);
    }

    #[test]
    fn what_is_no_time_is_told_from_one() {
        for text in [
            "",
            "7d",
            "2026",
            "2026-11",
            "2026-11-24T07",
            "2026-11-24T07:46:5",
            "2026-11-24T07:46.5",
            "2026-11-24T07:46:58.",
        ] {
            assert_eq!(time_prefix(text), None, "{text}");
        }
    }
}
