//! One rollout: what was asked for, how far it is, and its targets. Pure.

use std::sync::Arc;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use crate::hub::scheduler::rollouts::plan::Plan;
use crate::hub::scheduler::rollouts::target::{Counts, Target};

/// Why a rollout stopped by itself.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    strum::IntoStaticStr,
    strum::VariantArray,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum HaltReason {
    /// A target of the canary failed.
    CanaryFailed,
    /// The canary took too long.
    CanaryDeadline,
    /// More targets failed than the plan bears.
    MaxFailures,
    /// Nothing moved for too long.
    ProgressDeadline,
}

/// How far a rollout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, strum::EnumDiscriminants)]
#[serde(tag = "is", rename_all = "snake_case")]
#[strum_discriminants(
    name(RolloutPhase),
    doc = "How far a rollout is, in one word.",
    derive(Serialize, Deserialize, strum::EnumString, strum::IntoStaticStr, strum::VariantNames, utoipa::ToSchema),
    serde(rename_all = "snake_case"),
    strum(serialize_all = "snake_case")
)]
pub enum RolloutState {
    /// Its canary is under way, or waits for `promote`.
    Canary,
    /// It restarts its targets.
    Running,
    /// An operator paused it.
    Paused,
    /// It stopped by itself.
    Halted {
        /// Why.
        why: HaltReason,
    },
    /// Final: each target restarted.
    Succeeded,
    /// Final: each target has ended, and not each of them restarted.
    Partial,
    /// An operator cancelled it; final once what was under way has ended.
    Cancelled,
}

impl RolloutState {
    /// Returns the state in one word.
    pub fn phase(self) -> RolloutPhase {
        self.into()
    }

    /// Returns whether it may command restarts.
    pub const fn is_going(self) -> bool {
        match self {
            Self::Canary | Self::Running => true,
            Self::Paused | Self::Halted { .. } | Self::Succeeded | Self::Partial | Self::Cancelled => false,
        }
    }

    /// Returns why it stopped by itself.
    pub fn why(self) -> Option<&'static str> {
        match self {
            Self::Halted { why } => Some(why.into()),
            Self::Canary | Self::Running | Self::Paused | Self::Succeeded | Self::Partial | Self::Cancelled => None,
        }
    }
}

impl std::fmt::Display for RolloutState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name: &'static str = self.phase().into();
        match self.why() {
            Some(why) => write!(f, "{name} ({why})"),
            None => f.write_str(name),
        }
    }
}

/// Targets by number. A copy shares them with the original and costs nothing.
pub type Targets = OrdMap<u32, Arc<Target>>;

/// One rollout, as it is stored. Its targets are stored apart, each by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// Its id.
    pub id: Arc<str>,
    /// Its number, in the order of the starts.
    pub seq: u64,
    /// The reason, as text for people.
    pub reason: String,
    /// The name that the request's token proved.
    pub by: String,
    /// The selector by which the targets were found, as text.
    pub selector: String,
    /// How it goes about its targets.
    pub plan: Plan,
    /// The number of its targets.
    pub size: u32,
    /// The time of its start, in ms since the epoch.
    pub created_at: u64,
    /// How far the machine's clock was set since then, in ms.
    #[serde(default)]
    pub clock_moved_ms: i64,
    /// How far it is.
    pub state: RolloutState,
    /// Since when, in ms since the epoch.
    pub since: u64,
    /// The present wave, from 0. The first one is the canary, if there is any.
    pub wave: u32,
    /// Since when, in ms since the epoch. The time in which the rollout is stopped does not count.
    pub wave_since: u64,
    /// The time of the last move of a target, in ms since the epoch. The time in which the rollout is stopped does not
    /// count.
    pub progressed_at: u64,
    /// The number of failures that do not count any more, because an operator resumed the rollout after them.
    pub forgiven: u32,
    /// The time at which the last target ended, in ms since the epoch.
    pub ended_at: Option<u64>,
    /// Its targets.
    #[serde(skip)]
    pub targets: Targets,
    /// How many of them are in each state.
    #[serde(skip)]
    pub counts: Counts,
}

impl Rollout {
    /// Returns until when it waits for agents that are away, in ms since the epoch.
    pub fn waits_until(&self) -> u64 {
        self.created_at.saturating_add_signed(self.clock_moved_ms).saturating_add(self.plan.wait_for_ms)
    }

    /// Returns the number of targets that may have been commanded in the present wave.
    pub fn cap(&self) -> u32 {
        let caps = self.plan.caps(self.size);
        usize::try_from(self.wave).ok().and_then(|wave| caps.get(wave).copied()).unwrap_or(self.size)
    }

    /// Returns whether the present wave is the last one.
    pub fn is_last_wave(&self) -> bool {
        usize::try_from(self.wave).is_ok_and(|wave| wave + 1 >= self.plan.caps(self.size).len())
    }

    /// Returns whether the present wave is the canary.
    pub fn is_canary(&self) -> bool {
        self.wave == 0 && self.plan.canary.is_some()
    }

    /// Returns whether all of the present wave are through. (A wave that cannot be filled ends with the rollout.)
    pub fn is_wave_over(&self) -> bool {
        self.counts.in_flight() == 0 && self.counts.commanded() >= self.cap()
    }

    /// Returns whether its canary is through and waits for an operator.
    pub fn awaits_promote(&self) -> bool {
        self.state == RolloutState::Canary && !self.plan.auto_promote && self.is_canary() && self.is_wave_over()
    }

    /// Returns the state that it has while nothing stops it.
    pub fn going(&self) -> RolloutState {
        match self.is_canary() {
            true => RolloutState::Canary,
            false => RolloutState::Running,
        }
    }

    /// Returns the number of targets that may be unavailable at once.
    pub fn max_unavailable(&self) -> u32 {
        self.plan.max_unavailable.at_least_one_of(self.size)
    }

    /// Returns why the failures so far stop it, if they do.
    pub fn failures_halt(&self) -> Option<HaltReason> {
        let failed = self.counts.failed.saturating_sub(self.forgiven);
        match self.is_canary() {
            true => (failed > 0).then_some(HaltReason::CanaryFailed),
            false => (failed > self.plan.max_failures.of(self.size)).then_some(HaltReason::MaxFailures),
        }
    }

    /// Returns the state in which it ends.
    pub fn end(&self) -> RolloutState {
        let well = self.counts.succeeded + self.counts.already_restarted == self.size;
        match self.state {
            RolloutState::Cancelled => RolloutState::Cancelled,
            RolloutState::Canary
            | RolloutState::Running
            | RolloutState::Paused
            | RolloutState::Halted { .. }
            | RolloutState::Succeeded
            | RolloutState::Partial => match well {
                true => RolloutState::Succeeded,
                false => RolloutState::Partial,
            },
        }
    }
}
