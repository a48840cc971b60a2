//! The end of a wait, as `--timeout` sets it.

use std::time::{Duration, Instant};

use crate::sidecar::admin::socket::Client;

/// The least time that a request gets.
const LEAST: Duration = Duration::from_millis(1);

/// When a wait ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    end: Option<(Instant, Duration)>,
}

impl Deadline {
    /// Returns a deadline that is never reached.
    pub(super) fn never() -> Self {
        Self { end: None }
    }

    /// Returns the deadline of a wait that begins now and lasts so many ms; without a number, for ever.
    pub(super) fn after_ms(ms: Option<u64>) -> Self {
        let end = ms.map(Duration::from_millis);
        Self { end: end.and_then(|after| Some((Instant::now().checked_add(after)?, after))) }
    }

    /// Returns the length of the wait if it is over.
    pub(super) fn over(&self) -> Option<Duration> {
        self.end.filter(|(at, _)| *at <= Instant::now()).map(|(_, after)| after)
    }

    /// Waits for `interval`, or until the deadline.
    pub(super) fn pause(&self, interval: Duration) {
        let left = self.end.map(|(at, _)| at.saturating_duration_since(Instant::now()));
        std::thread::sleep(left.map_or(interval, |left| left.min(interval)));
    }

    /// Returns the client, whose requests end with the wait at the latest.
    pub(super) fn limit(&self, client: &Client) -> Client {
        let left = self.end.map(|(at, _)| at.saturating_duration_since(Instant::now()).max(LEAST));
        match left.filter(|left| *left < client.timeout()) {
            Some(left) => client.clone().waiting_for(left),
            None => client.clone(),
        }
    }
}
