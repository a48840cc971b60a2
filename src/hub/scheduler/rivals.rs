//! Two sidecars with one identity (a copied folder, two machines): pure. Which of an agent's runs may be connected.
//!
//! The newest connection wins, because the hub may not have seen the end of an older one. Two runs that take each
//! other's place again and again are both alive: then one of them stays, and the other is refused for as long as the
//! first one is connected. The holder of the agent's task stays; without a task, the run that was connected first.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use crate::common::wall_clock::move_time;
use crate::protocol::RECENT_CONFLICT_MS;

/// The time in which replacements count, in ms.
const WINDOW_MS: u64 = 60_000;
/// The number of replacements after which one of the two stays.
const MAX_REPLACEMENTS: usize = 3;
/// The number of an agent's replacements that are kept; the oldest are dropped first.
const MAX_KEPT: usize = 64;
/// The number of an agent's runs that are known; the one whose last contest is longest ago is dropped first.
const MAX_RUNS: usize = 16;
/// The number of agents that are known to have more than one run; the one whose last contest is longest ago is forgotten
/// first.
const MAX_AGENTS: usize = 10_000;
/// The time in which an agent's conflicts are logged once, in ms.
const LOG_INTERVAL_MS: u64 = 60_000;

/// A connection of one run that took the place of an open connection of another run.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Replacement {
    at: u64,
    old: String,
    new: String,
}

/// A run that has competed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Run {
    boot_id: String,
    /// When it was first seen connected.
    since: u64,
    last_contest_at: u64,
}

/// The run that stays, and the runs that are refused while it is connected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Settled {
    stays: String,
    refused: Vec<String>,
}

/// The latest contest of two runs that are known to be alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastConflict {
    /// The addresses of both: of the connection that was open, and of the one that identified.
    pub addresses: [String; 2],
    /// Its time, in ms since the epoch.
    pub at: u64,
    /// The time of the last one that was logged, in ms since the epoch.
    logged_at: u64,
}

/// The runs of one agent that compete.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Rivalry {
    /// Within the window, oldest first.
    replacements: VecDeque<Replacement>,
    runs: Vec<Run>,
    settled: Settled,
    conflict: Option<PastConflict>,
    last_contest_at: u64,
}

/// All agents with more than one run. A copy shares them with the original and costs nothing.
#[derive(Debug, Clone, Default)]
pub struct Rivals {
    by_agent: OrdMap<Arc<str>, Arc<Rivalry>>,
    /// The agents by the time of their last contest.
    by_time: OrdSet<(u64, Arc<str>)>,
}

/// A connection that is about to take another one's place: the runs by their `boot_id`.
#[derive(Debug, Clone, Copy)]
pub struct Contest<'a> {
    /// The connected run.
    pub old: &'a str,
    /// The time since which it is connected, in ms since the epoch.
    pub old_since: u64,
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
        let Contest { old, old_since, new, holder } = contest;
        let rivalry = self.at_contest(agent_id, now_ms);
        rivalry.note_run(old, old_since, now_ms);
        rivalry.note_run(new, now_ms, now_ms);
        if rivalry.settled.stays == old && rivalry.settled.refused.iter().any(|run| run == new) {
            return Outcome::Refused;
        }
        rivalry.replacements.retain(|past| now_ms < past.at + WINDOW_MS);
        let between =
            |past: &&Replacement| (&*past.old, &*past.new) == (old, new) || (&*past.old, &*past.new) == (new, old);
        let past: Vec<&Replacement> = rivalry.replacements.iter().filter(between).collect();
        let alive = past.iter().any(|past| past.old == new);
        if past.len() >= MAX_REPLACEMENTS {
            let longer = if rivalry.since(new) < rivalry.since(old) { new } else { old };
            let stays = holder.filter(|run| *run == old || *run == new).unwrap_or(longer);
            rivalry.settle(stays, if stays == old { new } else { old });
            if stays == old {
                return Outcome::Refused;
            }
        }
        if rivalry.replacements.len() >= MAX_KEPT {
            rivalry.replacements.pop_front();
        }
        rivalry.replacements.push_back(Replacement { at: now_ms, old: old.to_owned(), new: new.to_owned() });
        if alive { Outcome::ReplacesRival } else { Outcome::Replaces }
    }

    /// Records a contest of two runs that are known to be alive, and returns whether it is to be logged: at most once a
    /// minute for each agent.
    pub fn record_conflict(&mut self, agent_id: &str, addresses: [&str; 2], now_ms: u64) -> bool {
        let rivalry = self.at_contest(agent_id, now_ms);
        let logged_at = rivalry.conflict.as_ref().map(|past| past.logged_at);
        let is_logged = logged_at.is_none_or(|at| at + LOG_INTERVAL_MS <= now_ms);
        let logged_at = logged_at.filter(|_| !is_logged).unwrap_or(now_ms);
        rivalry.conflict = Some(PastConflict { addresses: addresses.map(str::to_owned), at: now_ms, logged_at });
        is_logged
    }

    /// Returns the agent's latest conflict, if it is recent.
    pub fn recent_conflict(&self, agent_id: &str, now_ms: u64) -> Option<&PastConflict> {
        self.by_agent.get(agent_id)?.conflict.as_ref().filter(|past| now_ms < past.at + RECENT_CONFLICT_MS)
    }

    /// Returns the number of agents that are known to have more than one run.
    #[cfg(test)]
    pub(crate) fn agents(&self) -> usize {
        assert_eq!(self.by_agent.len(), self.by_time.len(), "each agent has one time");
        self.by_agent.len()
    }

    /// Moves every time `ms` later, or earlier if that is negative, because the clock was set.
    pub(super) fn move_by(&mut self, ms: i64) {
        let agent_ids: Vec<Arc<str>> = self.by_agent.keys().cloned().collect();
        self.by_time = OrdSet::new();
        for agent_id in agent_ids {
            let Some(rivalry) = self.by_agent.get_mut(&agent_id).map(Arc::make_mut) else { continue };
            rivalry.move_by(ms);
            self.by_time.insert((rivalry.last_contest_at, agent_id));
        }
    }

    /// Forgets the agent's runs and its conflict.
    pub fn forget(&mut self, agent_id: &str) {
        if let Some((agent_id, rivalry)) = self.by_agent.remove_with_key(agent_id) {
            self.by_time.remove(&(rivalry.last_contest_at, agent_id));
        }
    }

    /// Returns the runs of an agent that competes now, and forgets another agent's if there are too many.
    fn at_contest(&mut self, agent_id: &str, now_ms: u64) -> &mut Rivalry {
        let agent_id: Arc<str> = agent_id.into();
        if let Some(known) = self.by_agent.get(&agent_id) {
            self.by_time.remove(&(known.last_contest_at, agent_id.clone()));
        } else if self.by_agent.len() >= MAX_AGENTS
            && let Some((_, longest_ago)) = self.by_time.remove_min()
        {
            self.by_agent.remove(&longest_ago);
        }
        self.by_time.insert((now_ms, agent_id.clone()));
        let rivalry = Arc::make_mut(self.by_agent.entry(agent_id).or_default());
        rivalry.last_contest_at = now_ms;
        rivalry
    }

    /// Records that the agent's connection closed: either run may come next.
    pub fn disconnected(&mut self, agent_id: &str) {
        if let Some(rivalry) = self.by_agent.get_mut(agent_id).filter(|rivalry| rivalry.settled != Settled::default()) {
            let rivalry = Arc::make_mut(rivalry);
            rivalry.settled = Settled::default();
        }
    }

    /// Feeds what decides the future to `hasher`, as of `now_ms`. Replacements, and which run was there first, decide
    /// nothing before a run that was replaced has come back.
    pub(crate) fn state_hash(&self, now_ms: u64, hasher: &mut impl Hasher) {
        for (agent_id, rivalry) in &self.by_agent {
            let Rivalry { replacements, runs, settled, conflict: _, last_contest_at: _ } = &**rivalry;
            let counts = replacements.iter().filter(|past| now_ms < past.at + WINDOW_MS);
            let counts: Vec<_> = counts.map(|past| (now_ms - past.at, &past.old, &past.new)).collect();
            // Oldest first: a run that replaces another and is replaced in turn has not come back.
            let later = |from: usize| counts.iter().skip(from + 1);
            let came_back = counts.iter().enumerate().any(|(at, (_, old, _))| later(at).any(|(_, _, new)| old == new));
            if came_back || !settled.refused.is_empty() {
                let mut order: Vec<_> = runs.iter().map(|run| (run.since, &run.boot_id)).collect();
                order.sort_unstable();
                let order: Vec<_> = order.into_iter().map(|(_, boot_id)| boot_id).collect();
                (agent_id, counts, order, settled).hash(hasher);
            }
        }
    }
}

impl Rivalry {
    /// Records that a run competes, which is connected since then or longer.
    fn note_run(&mut self, boot_id: &str, since: u64, now_ms: u64) {
        if let Some(run) = self.runs.iter_mut().find(|run| run.boot_id == boot_id) {
            run.last_contest_at = now_ms;
            return;
        }
        self.runs.push(Run { boot_id: boot_id.to_owned(), since, last_contest_at: now_ms });
        if self.runs.len() > MAX_RUNS {
            let oldest = self.runs.iter().enumerate().min_by_key(|(_, run)| run.last_contest_at).map(|(at, _)| at);
            let dropped = oldest.map(|at| self.runs.remove(at).boot_id);
            self.settled.refused.retain(|run| Some(run) != dropped.as_ref());
        }
    }

    fn move_by(&mut self, ms: i64) {
        let Self { replacements, runs, settled: _, conflict, last_contest_at } = self;
        let replaced = replacements.iter_mut().map(|past| &mut past.at);
        let run = runs.iter_mut().flat_map(|run| [&mut run.since, &mut run.last_contest_at]);
        let conflict = conflict.iter_mut().flat_map(|past| [&mut past.at, &mut past.logged_at]);
        replaced.chain(run).chain(conflict).chain([last_contest_at]).for_each(|at| move_time(at, ms));
    }

    fn since(&self, boot_id: &str) -> u64 {
        self.runs.iter().find(|run| run.boot_id == boot_id).map_or(u64::MAX, |run| run.since)
    }

    /// Lets one run stay. Those that were refused for another one are refused for this one, too.
    fn settle(&mut self, stays: &str, refused: &str) {
        self.settled.stays = stays.to_owned();
        self.settled.refused.retain(|run| run != stays && run != refused);
        self.settled.refused.push(refused.to_owned());
    }
}

#[cfg(test)]
mod tests;
