//! The rules for one target, as pure functions of its record and of the facts of this moment. Nothing here depends on
//! having seen an event: a target is looked at as often as one likes, and moves only if the facts say so.

use crate::common::text::first_chars;
use crate::hub::scheduler::restart::{Restart, RestartPhase, RunIdentity};
use crate::hub::scheduler::rollouts::facts::{Facts, Fleet};
use crate::hub::scheduler::rollouts::plan::OfflinePolicy;
use crate::hub::scheduler::rollouts::rollout::Rollout;
use crate::hub::scheduler::rollouts::target::{FailReason, SkipReason, Target, TargetState, WaitReason};

/// The largest number of characters of a target's detail.
const MAX_DETAIL: usize = 256;
/// How often a target that refuses for now is commanded before it has failed: one that always does would never end.
pub(super) const MAX_TRIES: u32 = 10;

/// A move of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Move {
    /// The state that it gets.
    pub(super) state: TargetState,
    /// What is said of it.
    pub(super) detail: String,
    /// The time for which the agent was away, if it is back, in ms.
    pub(super) gap_ms: Option<u64>,
    /// Whether a new attempt begins.
    pub(super) is_retry: bool,
}

impl Move {
    pub(super) fn to(state: TargetState) -> Self {
        Self { state, detail: String::new(), gap_ms: None, is_retry: false }
    }

    /// Returns the move to a new attempt.
    pub(super) fn anew() -> Self {
        Self { is_retry: true, ..Self::to(TargetState::Pending) }
    }

    fn skip(why: SkipReason) -> Self {
        Self::to(TargetState::Skipped { why })
    }

    fn fail(why: FailReason) -> Self {
        Self::to(TargetState::Failed { why })
    }

    fn saying(self, detail: &str) -> Self {
        Self { detail: first_chars(detail, MAX_DETAIL).to_owned(), ..self }
    }
}

/// What the turn of a target comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Turn {
    /// It moves, and nothing is commanded.
    Moves(Move),
    /// It is to be restarted.
    Ready,
    /// The agent is on somebody else's restart.
    Occupied,
}

/// Decides what the turn of a pending target comes to.
pub(super) fn turn(target: &Target, rollout: &Rollout, facts: Option<&Facts<'_>>, now_ms: u64) -> Turn {
    let Some(facts) = facts else { return Turn::Moves(Move::skip(SkipReason::Removed)) };
    let plan = &rollout.plan;
    if facts.cordoned {
        return Turn::Moves(Move::skip(SkipReason::Cordoned));
    }
    // What is known of the run of an agent that is away may be old.
    if !facts.connected {
        let until = match plan.offline {
            OfflinePolicy::Wait => rollout.waits_until().max(facts.returns_until),
            OfflinePolicy::Skip => facts.returns_until,
        };
        return Turn::Moves(match now_ms < until {
            true => Move::to(TargetState::Waiting { why: WaitReason::Offline, until }),
            false => Move::skip(SkipReason::Offline),
        });
    }
    let expected = plan.expect_version.as_deref();
    if expected.is_some() && facts.version.is_none() {
        return Turn::Moves(Move::skip(SkipReason::Unsupported));
    }
    // One that restarted, and not to the expected version, is not where the rollout shall bring it.
    let is_as_expected = expected.is_none() || facts.version == expected;
    if is_as_expected && facts.run.replaces(&target.run_before) == Some(true) {
        return Turn::Moves(Move::skip(SkipReason::AlreadyRestarted));
    }
    match facts.on_restart {
        true => Turn::Occupied,
        false => Turn::Ready,
    }
}

/// Returns the next move of a target whose turn has come, if there is one.
pub(super) fn next_move(
    target: &Target,
    rollout: &Rollout,
    facts: Option<&Facts<'_>>,
    fleet: Fleet<'_>,
) -> Option<Move> {
    let removed = || Some(Move::skip(SkipReason::Removed));
    let now_ms = fleet.now_ms;
    match &target.state {
        // Its turn decides.
        TargetState::Pending => None,
        TargetState::Waiting { why, until } => {
            let Some(facts) = facts else { return removed() };
            match why {
                WaitReason::Offline if facts.connected => Some(Move::to(TargetState::Pending)),
                WaitReason::Offline => (now_ms >= *until).then(|| Move::skip(SkipReason::Offline)),
                WaitReason::Intensity => (now_ms >= *until).then(Move::anew),
            }
        }
        TargetState::Restarting => {
            let Some(facts) = facts else { return removed() };
            facts.command.map_or_else(removed, |restart| restarted(restart, target, rollout, facts, now_ms))
        }
        TargetState::Soaking { run, until } => {
            let Some(facts) = facts else { return removed() };
            if facts.connected && facts.run.replaces(run) == Some(true) {
                return Some(Move::fail(FailReason::Crashed).saying("another run took its place while it had to stay"));
            }
            let end = || match (facts.connected, fleet.is_healthy(&target.agent_id)) {
                (true, true) => Move::to(TargetState::Succeeded),
                (true, false) => Move::fail(FailReason::Unhealthy).saying("it is connected, and not healthy"),
                (false, _) => Move::fail(FailReason::Unhealthy).saying("it is not connected any more"),
            };
            (now_ms >= *until).then(end)
        }
        TargetState::Succeeded | TargetState::Failed { .. } | TargetState::Skipped { .. } | TargetState::Cancelled => {
            None
        }
    }
}

/// Returns the move of a failed target that is to be tried once more. One that came back after it was called overdue, and is
/// there still, has restarted: it is not restarted again, and only has to stay.
pub(super) fn retry(target: &Target, rollout: &Rollout, facts: Option<&Facts<'_>>, now_ms: u64) -> Move {
    let is_overdue = target.state == TargetState::Failed { why: FailReason::Overdue };
    let came_late = facts.filter(|facts| is_overdue && facts.connected).and_then(|facts| {
        let is_there = |restart: &&Restart| restart.boot_after.is_some() && restart.boot_after == facts.run.boot_id;
        restarted(facts.command.filter(is_there)?, target, rollout, facts, now_ms)
    });
    let is_as_expected = |next: &Move| matches!(next.state, TargetState::Soaking { .. });
    came_late.filter(is_as_expected).unwrap_or_else(Move::anew)
}

/// Returns the move of a target whose restart has come this far.
fn restarted(restart: &Restart, target: &Target, rollout: &Rollout, facts: &Facts<'_>, now_ms: u64) -> Option<Move> {
    match restart.phase {
        RestartPhase::Commanded
        | RestartPhase::Delivered
        | RestartPhase::Accepted
        | RestartPhase::Draining
        | RestartPhase::Exiting => None,
        RestartPhase::Back => {
            let expected = rollout.plan.expect_version.as_deref();
            let back = match expected.filter(|expected| facts.version != Some(expected)) {
                Some(_) => {
                    let version = facts.version.unwrap_or("no version");
                    Move::fail(FailReason::WrongVersion).saying(&format!("it came back with {version}"))
                }
                None => {
                    // The agent may have restarted once more while no hub looked.
                    let boot_id = restart.boot_after.clone();
                    let run = match boot_id.is_some() {
                        true => RunIdentity { boot_id, restart_count: None },
                        false => facts.run.clone(),
                    };
                    Move::to(TargetState::Soaking { run, until: now_ms.saturating_add(rollout.plan.soak_ms) })
                }
            };
            Some(Move { gap_ms: restart.gap_ms, ..back })
        }
        RestartPhase::Refused => {
            let detail = restart.refused_because().unwrap_or_default();
            Some(match restart.retry_at {
                Some(_) if target.attempt.is_multiple_of(MAX_TRIES) => {
                    Move::fail(FailReason::Refused).saying(&format!("{MAX_TRIES} times: {detail}"))
                }
                Some(until) => Move::to(TargetState::Waiting { why: WaitReason::Intensity, until }).saying(detail),
                None => Move::fail(FailReason::Refused).saying(detail),
            })
        }
        RestartPhase::Overdue => Some(Move::fail(FailReason::Overdue)),
        RestartPhase::Revoked => Some(Move::skip(SkipReason::Removed)),
        RestartPhase::Withdrawn => Some(Move::anew()),
    }
}

/// Returns whether the target's agent is unavailable, as far as the rollout goes: it is on a restart, whoever commanded
/// it, it has to show that it stays, or it is away since a command of the rollout.
pub(super) fn is_unavailable(target: &Target, facts: Option<&Facts<'_>>) -> bool {
    let is_soaking = matches!(target.state, TargetState::Soaking { .. });
    let is_away = |facts: &Facts<'_>| target.command_id.is_some() && !facts.connected;
    facts.is_some_and(|facts| facts.on_restart || is_soaking || is_away(facts))
}
