//! What the actor shows of itself while it works, for those who must not ask it: when its loop last came round, and since
//! when a commit has been in progress. All times are in ms by the machine's monotonic clock, which nobody sets.

use std::sync::atomic::{AtomicU64, Ordering};

/// The longest time for which the actor's loop may stand still, in ms: it comes round once a second when nothing happens.
const MAX_STILL_MS: u64 = 5_000;
/// The longest time that one commit may take, in ms.
const MAX_COMMIT_MS: u64 = 5_000;

/// The actor's signs of life.
#[derive(Debug)]
pub struct Pulse {
    /// The time of the last round, in ms by the machine's monotonic clock.
    round_at: AtomicU64,
    /// The time since which a commit is in progress, by the same clock; 0 if none is.
    commit_since: AtomicU64,
}

impl Pulse {
    /// Creates the pulse of an actor that is about to run.
    pub fn new(now_ms: u64) -> Self {
        Self { round_at: AtomicU64::new(now_ms), commit_since: AtomicU64::new(0) }
    }

    /// Records that the loop came round.
    pub fn round(&self, now_ms: u64) {
        self.round_at.store(now_ms, Ordering::Relaxed);
    }

    /// Records that a commit begins.
    pub fn commit_begins(&self, now_ms: u64) {
        self.commit_since.store(now_ms.max(1), Ordering::Relaxed);
    }

    /// Records that the commit is on disk.
    pub fn commit_ended(&self) {
        self.commit_since.store(0, Ordering::Relaxed);
    }

    /// Returns what keeps the actor from working, as the name of a check and a text for people; `None` if nothing does.
    pub fn complaint(&self, now_ms: u64) -> Option<(&'static str, String)> {
        let commit_ms = match self.commit_since.load(Ordering::Relaxed) {
            0 => 0,
            since => now_ms.saturating_sub(since),
        };
        if commit_ms > MAX_COMMIT_MS {
            let text = format!(
                "a change has been on its way to the disk for {} s (at most {} are normal): look at the disk of --data",
                commit_ms / 1_000,
                MAX_COMMIT_MS / 1_000
            );
            return Some(("store", text));
        }
        let still_ms = now_ms.saturating_sub(self.round_at.load(Ordering::Relaxed));
        (commit_ms == 0 && still_ms > MAX_STILL_MS).then(|| {
            let text = format!(
                "requests have not been handled for {} s: if it lasts, restart the hub, which keeps everything",
                still_ms / 1_000
            );
            ("actor", text)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pulse: &Pulse, now_ms: u64) -> Option<&'static str> {
        pulse.complaint(now_ms).map(|(check, _)| check)
    }

    #[test]
    fn an_actor_that_stands_still_is_named() {
        let pulse = Pulse::new(10_000);
        assert_eq!((check(&pulse, 15_000), check(&pulse, 15_001)), (None, Some("actor")));
        pulse.round(20_000);
        assert_eq!((check(&pulse, 25_000), check(&pulse, 25_001)), (None, Some("actor")));
    }

    #[test]
    fn a_commit_that_hangs_is_the_stores_and_one_that_ends_is_none() {
        let pulse = Pulse::new(10_000);
        pulse.commit_begins(10_000);
        assert_eq!((check(&pulse, 15_000), check(&pulse, 15_001)), (None, Some("store")));
        let (_, text) = pulse.complaint(70_000).unwrap();
        assert!(text.contains("for 60 s") && text.contains("--data"), "{text}");
        pulse.commit_ended();
        pulse.round(70_000);
        assert_eq!(check(&pulse, 70_001), None);
    }
}
