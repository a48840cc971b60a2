//! The latest events, for readers that follow them: what happened to tasks, restarts and agents, each after its commit. A
//! reader that was away goes on after the last event that it has seen.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::watch;

use crate::protocol::JsonText;

/// The largest number of events that are kept; the oldest are dropped first.
pub const MAX_EVENTS: usize = 10_000;
/// The largest size of all of them together, in bytes.
pub const MAX_BYTES: usize = 8 << 20;

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The event's number, counted from 1 since the hub's start.
    pub number: u64,
    /// The kind of event: `task`, `restart`, `agent`, `drain` or `healing`.
    pub kind: &'static str,
    /// What happened.
    pub data: JsonText,
}

/// The events since the hub's start, as far as they are kept.
#[derive(Debug)]
pub struct EventLog {
    /// The time of the hub's start, which tells the events of one run from those of another.
    run: u64,
    kept: Mutex<KeptEvents>,
    newest: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct KeptEvents {
    events: VecDeque<Event>,
    bytes: usize,
    newest: u64,
}

/// The events after one.
#[derive(Debug, PartialEq)]
pub struct Following {
    /// Whether events between that one and these are lost to the reader.
    pub gap: bool,
    /// The events, oldest first.
    pub events: Vec<Event>,
}

impl EventLog {
    /// Creates a log without events; `run` is the time of the hub's start, in ms since the epoch.
    pub fn new(run: u64) -> Self {
        Self { run, kept: Mutex::default(), newest: watch::Sender::new(0) }
    }

    /// Adds events in the order in which they happened.
    pub fn add<T: Serialize>(&self, events: impl IntoIterator<Item = (&'static str, T)>) {
        let mut kept = self.lock();
        for (kind, data) in events {
            kept.newest += 1;
            let data = JsonText::of(&data);
            kept.bytes += data.as_str().len();
            let number = kept.newest;
            kept.events.push_back(Event { number, kind, data });
            while kept.events.len() > MAX_EVENTS || kept.bytes > MAX_BYTES {
                let dropped = kept.events.pop_front().map_or(0, |event| event.data.as_str().len());
                kept.bytes -= dropped;
            }
        }
        let newest = kept.newest;
        drop(kept);
        self.newest.send_if_modified(|number| std::mem::replace(number, newest) != newest);
    }

    /// Returns at most `limit` events after the one with this number.
    pub fn after(&self, number: u64, limit: usize) -> Following {
        let kept = self.lock();
        let first_kept = kept.newest - kept.events.len() as u64 + 1;
        let skipped = usize::try_from(number.saturating_add(1).saturating_sub(first_kept)).unwrap_or(usize::MAX);
        let events = kept.events.iter().skip(skipped).take(limit).cloned().collect();
        Following { gap: number.saturating_add(1) < first_kept || number > kept.newest, events }
    }

    /// Returns the number of the newest event, and of each later one.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// Returns the id of an event.
    pub fn id_of(&self, number: u64) -> String {
        format!("{}-{number}", self.run)
    }

    /// Returns the number of the event with this id; `None` if it is no event of this run.
    pub fn number_of(&self, id: &str) -> Option<u64> {
        let (run, number) = id.split_once('-')?;
        (run.parse() == Ok(self.run)).then(|| number.parse().ok())?
    }

    fn lock(&self) -> MutexGuard<'_, KeptEvents> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(following: &Following) -> Vec<u64> {
        following.events.iter().map(|event| event.number).collect()
    }

    #[test]
    fn a_reader_goes_on_where_it_was() {
        let log = EventLog::new(7);
        log.add([("task", "a"), ("task", "b"), ("agent", "c")]);
        let following = log.after(1, 10);
        assert_eq!((following.gap, numbers(&following)), (false, vec![2, 3]));
        assert_eq!(numbers(&log.after(0, 2)), [1, 2]);
        assert_eq!(numbers(&log.after(3, 2)), Vec::<u64>::new());
        assert_eq!((log.number_of(&log.id_of(2)), log.number_of("8-2"), log.number_of("x")), (Some(2), None, None));
    }

    #[test]
    fn a_reader_that_was_away_for_too_long_learns_of_the_gap() {
        let log = EventLog::new(7);
        for _ in 0..MAX_EVENTS + 5 {
            log.add([("task", 0)]);
        }
        let following = log.after(3, 1);
        assert_eq!((following.gap, numbers(&following)), (true, vec![6]));
        assert!(!log.after(5, 1).gap);
        // An event that is still to come was of another run.
        assert!(log.after(99_999_999, 1).gap);
    }

    #[test]
    fn large_events_are_bounded_by_their_bytes() {
        let log = EventLog::new(7);
        let large = "x".repeat(MAX_BYTES / 2);
        for _ in 0..5 {
            log.add([("task", &large)]);
        }
        assert_eq!(log.after(0, 10).events.len(), 1);
    }
}
