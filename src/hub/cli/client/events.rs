//! The events of a hub, read from the stream of server-sent events.

use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::hub::cli::client::failure::Failure;
use crate::hub::cli::exit_code::ExitCode;

/// The longest silence of a stream that lives: the hub says something every 15 s.
const SILENCE: Duration = Duration::from_secs(45);
/// The largest event, in bytes.
const MAX_EVENT_BYTES: usize = 4 << 20;

/// One event.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(in crate::hub::cli) struct Event {
    /// Its id, for a reader that goes on after it.
    pub(in crate::hub::cli) id: Option<String>,
    /// What it is about: `task`, `restart`, `rollout`, `agent`, `drain`, `healing`, or `missed` where others are lost.
    pub(in crate::hub::cli) kind: String,
    /// What happened, as JSON.
    pub(in crate::hub::cli) data: String,
}

impl Event {
    /// Creates the event that says that others are lost.
    pub(super) fn missed() -> Self {
        Self { id: None, kind: "missed".to_owned(), data: "{}".to_owned() }
    }
}

/// A stream of events.
#[derive(Debug)]
pub(in crate::hub::cli) struct Events {
    body: Incoming,
    parser: Parser,
    last: Option<String>,
}

/// Reads events from the text of a stream (WHATWG HTML, 9.2.6).
#[derive(Debug, Default)]
struct Parser {
    buffer: Vec<u8>,
    event: Event,
}

impl Events {
    pub(super) fn new(body: Incoming, last: Option<&str>) -> Self {
        Self { body, parser: Parser::default(), last: last.map(str::to_owned) }
    }

    /// Returns the id of the last event.
    pub(super) fn last(&self) -> Option<&str> {
        self.last.as_deref()
    }

    /// Returns the next event; `None` when the stream has ended or broken.
    ///
    /// # Errors
    /// The event is none of a hub's.
    pub(in crate::hub::cli) async fn next(&mut self) -> Result<Option<Event>, Failure> {
        loop {
            if let Some(event) = self.parser.next() {
                self.last = event.id.clone().or(self.last.take());
                return Ok(Some(event));
            }
            let Ok(Some(Ok(frame))) = timeout(SILENCE, self.body.frame()).await else { return Ok(None) };
            if let Some(data) = frame.data_ref() {
                self.parser.buffer.extend_from_slice(data);
            }
            if self.parser.buffer.len() > MAX_EVENT_BYTES {
                return Err(Failure::new(ExitCode::Internal, "the hub sent an event of more than 4 MiB"));
            }
        }
    }
}

impl Parser {
    /// Takes the next event that is there in full.
    fn next(&mut self) -> Option<Event> {
        while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.buffer.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\r', '\n']);
            if line.is_empty() {
                let event = std::mem::take(&mut self.event);
                if !event.data.is_empty() {
                    return Some(event);
                }
                continue;
            }
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match name {
                "id" => self.event.id = Some(value.to_owned()),
                "event" => self.event.kind = value.to_owned(),
                "data" => self.event.data.push_str(value),
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_however_they_are_cut() {
        let text = ": keep\n\nid: 7-1\nevent: task\ndata: {\"a\":1}\n\nevent:missed\r\ndata:{}\r\n\r\nid: 7-2\nda";
        for at in 0..text.len() {
            let mut parser = Parser::default();
            let mut found = Vec::new();
            for part in [&text[..at], &text[at..]] {
                parser.buffer.extend_from_slice(part.as_bytes());
                found.extend(std::iter::from_fn(|| parser.next()));
            }
            let task = Event { id: Some("7-1".into()), kind: "task".into(), data: "{\"a\":1}".into() };
            let missed = Event { id: None, kind: "missed".into(), data: "{}".into() };
            assert_eq!(found, [task, missed], "{at}");
        }
    }
}
