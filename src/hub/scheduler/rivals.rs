//! Two sidecars with one identity (a copied folder, two machines): pure. Which of an agent's runs may be connected.
//!
//! The newest connection wins, because the hub may not have seen the end of an older one. Two runs that take each
//! other's place again and again are both alive: then one of them stays, and the other is refused for as long as the
//! first one is connected.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{Hash, Hasher};

/// The time in which replacements count, in ms.
const WINDOW_MS: u64 = 60_000;
/// The number of replacements after which one of the two stays.
const MAX_REPLACEMENTS: usize = 3;

/// A connection of one run that took the place of an open connection of another run.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Replacement {
    at: u64,
    old: String,
    new: String,
}

/// The runs of one agent that compete.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Rivalry {
    /// Within the window, oldest first.
    replacements: VecDeque<Replacement>,
    /// The run that stays and the run that is refused.
    settled: Option<(String, String)>,
}

/// All agents with more than one run.
#[derive(Debug, Clone, Default)]
pub struct Rivals(BTreeMap<String, Rivalry>);

/// A connection that is about to take another one's place: the runs by their `boot_id`.
#[derive(Debug, Clone, Copy)]
pub struct Contest<'a> {
    /// The connected run.
    pub old: &'a str,
    /// The run that identifies.
    pub new: &'a str,
    /// The run that holds the agent's task.
    pub holder: Option<&'a str>,
}

/// The outcome of a contest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The new connection takes the place of the old one, which may be that of a process that has ended.
    Replaces,
    /// The same, and both runs are known to be alive.
    ReplacesRival,
    /// The old connection stays. Both runs are known to be alive.
    Refused,
}

impl Rivals {
    /// Decides which of the two runs is connected from now on.
    pub fn decide(&mut self, agent_id: &str, contest: Contest<'_>, now_ms: u64) -> Outcome {
        let Contest { old, new, holder } = contest;
        let rivalry = self.0.entry(agent_id.to_owned()).or_default();
        if rivalry.settled.as_ref().is_some_and(|(stays, refused)| stays == old && refused == new) {
            return Outcome::Refused;
        }
        rivalry.replacements.retain(|past| now_ms < past.at + WINDOW_MS);
        let between =
            |past: &&Replacement| (&*past.old, &*past.new) == (old, new) || (&*past.old, &*past.new) == (new, old);
        let past: Vec<&Replacement> = rivalry.replacements.iter().filter(between).collect();
        let alive = past.iter().any(|past| past.old == new);
        if past.len() >= MAX_REPLACEMENTS {
            // Without a task, the one that was connected first: the first to be replaced.
            let longer = past.first().map(|past| past.old.clone()).unwrap_or_default();
            let stays = holder.filter(|run| *run == old || *run == new).map_or(longer, str::to_owned);
            let refused = if stays == old { new } else { old }.to_owned();
            let refuses_new = stays == old;
            rivalry.settled = Some((stays, refused));
            if refuses_new {
                return Outcome::Refused;
            }
        }
        rivalry.replacements.push_back(Replacement { at: now_ms, old: old.to_owned(), new: new.to_owned() });
        if alive { Outcome::ReplacesRival } else { Outcome::Replaces }
    }

    /// Records that the agent's connection closed: either run may come next.
    pub fn disconnected(&mut self, agent_id: &str) {
        if let Some(rivalry) = self.0.get_mut(agent_id) {
            rivalry.settled = None;
        }
    }

    /// Feeds what decides the future to `hasher`, as of `now_ms`. Replacements decide nothing before a run that was
    /// replaced has come back.
    pub(crate) fn state_hash(&self, now_ms: u64, hasher: &mut impl Hasher) {
        for (agent_id, Rivalry { replacements, settled }) in &self.0 {
            let counts = replacements.iter().filter(|past| now_ms < past.at + WINDOW_MS);
            let counts: Vec<_> = counts.map(|past| (now_ms - past.at, &past.old, &past.new)).collect();
            let came_back = counts.iter().any(|(_, old, _)| counts.iter().any(|(_, _, new)| old == new));
            if came_back || settled.is_some() {
                (agent_id, counts, settled).hash(hasher);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The outcomes of contests between `a` and `b` at these times, each begun by the run that is not connected.
    fn contests(rivals: &mut Rivals, holder: Option<&str>, times: &[u64]) -> Vec<Outcome> {
        let (mut old, mut new) = ("a", "b");
        let decide = |at: &u64| {
            let outcome = rivals.decide("x", Contest { old, new, holder }, *at);
            if outcome != Outcome::Refused {
                std::mem::swap(&mut old, &mut new);
            }
            outcome
        };
        times.iter().map(decide).collect()
    }

    use Outcome::{Refused, Replaces, ReplacesRival};

    #[test]
    fn the_run_that_was_connected_longer_stays_after_three_replacements() {
        let outcomes = contests(&mut Rivals::default(), None, &[0, 1_000, 2_000, 3_000, 4_000]);
        // The fourth is of `a`, which was there first; then `b` is refused.
        assert_eq!(outcomes, [Replaces, ReplacesRival, ReplacesRival, ReplacesRival, Refused]);
    }

    #[test]
    fn the_holder_of_the_task_stays() {
        let outcomes = contests(&mut Rivals::default(), Some("b"), &[0, 1_000, 2_000, 3_000, 70_000]);
        assert_eq!(outcomes, [Replaces, ReplacesRival, ReplacesRival, Refused, Refused]);
    }

    #[test]
    fn replacements_more_than_a_minute_apart_do_not_count() {
        let outcomes = contests(&mut Rivals::default(), None, &[0, 30_000, 60_000, 90_000, 120_000]);
        assert!(outcomes.iter().all(|outcome| *outcome != Refused), "{outcomes:?}");
    }

    #[test]
    fn who_is_refused_may_come_when_the_other_has_left() {
        let mut rivals = Rivals::default();
        contests(&mut rivals, Some("b"), &[0, 1_000, 2_000, 3_000]);
        let contest = Contest { old: "b", new: "a", holder: None };
        assert_eq!(rivals.decide("x", contest, 120_000), Refused);
        rivals.disconnected("x");
        assert_eq!(rivals.decide("x", contest, 120_000), Replaces);
    }

    #[test]
    fn a_third_run_is_not_refused_for_two_others() {
        let mut rivals = Rivals::default();
        contests(&mut rivals, Some("b"), &[0, 1_000, 2_000, 3_000]);
        assert_eq!(rivals.decide("x", Contest { old: "b", new: "c", holder: Some("b") }, 3_000), Replaces);
    }
}
