//! Rollouts and targets as the API shows them, and what a rollout would do if it were started.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::hub::scheduler::rollouts::plan::Plan;
use crate::hub::scheduler::rollouts::rollout::{Rollout, RolloutPhase};
use crate::hub::scheduler::rollouts::target::{Counts, Target, TargetPhase};

/// The largest number of targets that an event names.
const MAX_TOLD: usize = 100;

/// A rollout as the API shows it. Times are in ms since the epoch.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ShownRollout<'a> {
    rollout_id: &'a str,
    state: RolloutPhase,
    /// Why it halted.
    why: Option<&'static str>,
    /// Since when it has this state.
    since: u64,
    /// Whether its canary is through and waits for `promote`.
    awaits_promote: bool,
    reason: &'a str,
    by: &'a str,
    selector: &'a str,
    plan: &'a Plan,
    /// The present wave, from 0.
    wave: u32,
    waves: usize,
    /// The number of targets that may have been restarted by the end of this wave.
    wave_cap: u32,
    size: u32,
    counts: Counts,
    /// How many of the failures do not count any more.
    forgiven: u32,
    created_at: u64,
    progressed_at: u64,
    ended_at: Option<u64>,
}

/// A target as the API shows it. Times are in ms since the epoch.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ShownTarget<'a> {
    number: u32,
    agent_id: &'a str,
    state: TargetPhase,
    /// The reason of its end, or what it waits for.
    why: Option<&'static str>,
    since: u64,
    /// When it changes by itself.
    until: Option<u64>,
    attempt: u32,
    command_id: Option<&'a str>,
    boot_before: Option<&'a str>,
    /// The time for which the agent was away, in ms.
    gap_ms: Option<u64>,
    detail: &'a str,
}

/// What is told of a rollout that went on, to who follows the events.
#[derive(Debug, Serialize)]
pub struct RolloutNews<'a> {
    rollout_id: &'a str,
    state: RolloutPhase,
    why: Option<&'static str>,
    awaits_promote: bool,
    wave: u32,
    counts: Counts,
    /// The targets that moved; null where they are too many.
    targets: Option<Vec<ShownTarget<'a>>>,
}

/// What a rollout would do at this moment. Names are in the order of their turns.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct DryRun {
    /// The agents of each wave, if none fails.
    pub waves: Vec<Vec<String>>,
    /// The agents that would be left as they are, by the reason.
    pub skipped: BTreeMap<&'static str, Vec<String>>,
    /// The agents that are not connected and would be waited for.
    pub waiting: Vec<String>,
    /// The number of targets that may be unavailable at once.
    pub max_unavailable: u32,
    /// The number of failures that it bears.
    pub max_failures: u32,
}

impl Rollout {
    /// Returns the rollout as the API shows it.
    pub fn shown(&self) -> ShownRollout<'_> {
        ShownRollout {
            rollout_id: &self.id,
            state: self.state.phase(),
            why: self.state.why(),
            since: self.since,
            awaits_promote: self.awaits_promote(),
            reason: &self.reason,
            by: &self.by,
            selector: &self.selector,
            plan: &self.plan,
            wave: self.wave,
            waves: self.plan.caps(self.size).len(),
            wave_cap: self.cap(),
            size: self.size,
            counts: self.counts,
            forgiven: self.forgiven,
            created_at: self.created_at,
            progressed_at: self.progressed_at,
            ended_at: self.ended_at,
        }
    }

    /// Returns what is told of it once these targets of it have moved.
    pub fn news<'a>(&'a self, moved: impl Iterator<Item = &'a Target>) -> RolloutNews<'a> {
        let moved: Vec<ShownTarget<'a>> = moved.take(MAX_TOLD + 1).map(Target::shown).collect();
        RolloutNews {
            rollout_id: &self.id,
            state: self.state.phase(),
            why: self.state.why(),
            awaits_promote: self.awaits_promote(),
            wave: self.wave,
            counts: self.counts,
            targets: (moved.len() <= MAX_TOLD).then_some(moved),
        }
    }

    /// Returns the targets after this number, in their order; those in this state, if one is given.
    pub fn targets_after(&self, after: Option<u32>, phase: Option<TargetPhase>) -> impl Iterator<Item = &Target> {
        let rest = self.targets.range(after.map_or(0, |after| after.saturating_add(1))..).map(|(_, target)| &**target);
        rest.filter(move |target: &&Target| phase.is_none_or(|phase| target.state.phase() == phase))
    }
}

impl Target {
    /// Returns the target as the API shows it.
    pub fn shown(&self) -> ShownTarget<'_> {
        ShownTarget {
            number: self.number,
            agent_id: &self.agent_id,
            state: self.state.phase(),
            why: self.state.why(),
            since: self.since,
            until: self.state.until(),
            attempt: self.attempt,
            command_id: self.command_id.as_deref(),
            boot_before: self.run_before.boot_id.as_deref(),
            gap_ms: self.gap_ms,
            detail: &self.detail,
        }
    }
}

impl DryRun {
    /// Adds an agent that would be restarted, to the first wave with room for it.
    pub(super) fn add_target(&mut self, caps: &[u32], agent_id: &Arc<str>) {
        let taken = self.waves.iter().map(Vec::len).sum::<usize>();
        let wave = caps.iter().position(|cap| usize::try_from(*cap).is_ok_and(|cap| taken < cap));
        self.waves.resize(caps.len(), Vec::new());
        self.waves[wave.unwrap_or(caps.len() - 1)].push(agent_id.as_ref().to_owned());
    }
}
