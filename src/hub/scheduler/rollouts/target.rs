//! One target of a rollout: an agent, the run of it that is to end, and how far it is. Pure.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::hub::scheduler::restart::RunIdentity;

/// What a target waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, strum::VariantArray, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaitReason {
    /// The agent is not connected.
    Offline,
    /// The agent has restarted so often lately that it refused one more for now.
    Intensity,
}

/// Why a target failed.
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
pub enum FailReason {
    /// The agent refused the command.
    Refused,
    /// The agent was not back in time.
    Overdue,
    /// The run that came back did not stay.
    Crashed,
    /// It came back, and was away or not healthy in the end.
    Unhealthy,
    /// It came back with another version than the expected one.
    WrongVersion,
}

/// Why a target was left as it is.
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
pub enum SkipReason {
    /// The agent was not connected.
    Offline,
    /// The agent is drained, from the hub or on its machine.
    Cordoned,
    /// It has restarted since the rollout began, for another reason.
    AlreadyRestarted,
    /// Its last token was revoked.
    Removed,
    /// It names no version, and one is expected.
    Unsupported,
}

/// How far a target is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, strum::EnumDiscriminants)]
#[serde(tag = "is", rename_all = "snake_case")]
#[strum_discriminants(
    name(TargetPhase),
    doc = "How far a target is, in one word.",
    derive(
        Hash,
        PartialOrd,
        Ord,
        Serialize,
        Deserialize,
        strum::EnumString,
        strum::IntoStaticStr,
        strum::VariantNames,
        utoipa::ToSchema
    ),
    serde(rename_all = "snake_case"),
    strum(serialize_all = "snake_case")
)]
pub enum TargetState {
    /// Its turn has not come.
    Pending,
    /// Its turn has come, and it cannot be restarted yet.
    Waiting {
        /// What it waits for.
        why: WaitReason,
        /// How long, in ms since the epoch.
        until: u64,
    },
    /// It is on its restart.
    Restarting,
    /// It is back, and has to stay.
    Soaking {
        /// The run that came back.
        run: RunIdentity,
        /// How long, in ms since the epoch.
        until: u64,
    },
    /// It came back and stayed.
    Succeeded,
    /// It did not.
    Failed {
        /// Why.
        why: FailReason,
    },
    /// It was not restarted.
    Skipped {
        /// Why.
        why: SkipReason,
    },
    /// The rollout was cancelled before its turn came, or its command was recalled.
    Cancelled,
}

impl TargetState {
    /// Returns the state in one word.
    pub fn phase(&self) -> TargetPhase {
        self.into()
    }

    /// Returns the reason of its end, or what it waits for.
    pub fn why(&self) -> Option<&'static str> {
        match self {
            Self::Pending | Self::Restarting | Self::Soaking { .. } | Self::Succeeded | Self::Cancelled => None,
            Self::Waiting { why: WaitReason::Offline, until: _ } => Some("offline"),
            Self::Waiting { why: WaitReason::Intensity, until: _ } => Some("intensity"),
            Self::Failed { why } => Some(why.into()),
            Self::Skipped { why } => Some(why.into()),
        }
    }

    /// Returns the time at which it changes by itself, in ms since the epoch.
    pub const fn until(&self) -> Option<u64> {
        match self {
            Self::Waiting { until, .. } | Self::Soaking { until, .. } => Some(*until),
            Self::Pending
            | Self::Restarting
            | Self::Succeeded
            | Self::Failed { .. }
            | Self::Skipped { .. }
            | Self::Cancelled => None,
        }
    }
}

/// One target, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The rollout.
    pub rollout_id: Arc<str>,
    /// Its number in the rollout, which is its turn.
    pub number: u32,
    /// The agent.
    pub agent_id: Arc<str>,
    /// The run that is to end: the one that was there when the agent was selected.
    pub run_before: RunIdentity,
    /// How far it is.
    pub state: TargetState,
    /// Since when, in ms since the epoch.
    pub since: u64,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// The id of the attempt's command, once it is given.
    pub command_id: Option<String>,
    /// The time for which the agent was away on its restart, in ms.
    pub gap_ms: Option<u64>,
    /// Further details, for people.
    pub detail: String,
}

impl Target {
    /// Returns the id of the present attempt's command: the same one however often the hub starts anew.
    pub fn next_command_id(&self) -> String {
        match self.attempt {
            0 | 1 => format!("{}-{}", self.rollout_id, self.number),
            more => format!("{}-{}-{more}", self.rollout_id, self.number),
        }
    }

    /// Returns the key under which it is stored.
    pub fn key(rollout_id: &str, number: u32) -> String {
        format!("{rollout_id}/{number}")
    }
}

/// How many targets are in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Counts {
    /// Their turn has not come.
    pub pending: u32,
    /// They cannot be restarted yet.
    pub waiting: u32,
    /// They are on their restart.
    pub restarting: u32,
    /// They are back, and have to stay.
    pub soaking: u32,
    /// They came back and stayed.
    pub succeeded: u32,
    /// They did not.
    pub failed: u32,
    /// They were left as they are.
    pub skipped: u32,
    /// Those of them that had restarted already.
    pub already_restarted: u32,
    /// They were cancelled.
    pub cancelled: u32,
}

impl Counts {
    /// Counts a target in this state.
    pub fn add(&mut self, state: &TargetState) {
        self.each(state, |count| *count = count.saturating_add(1));
    }

    /// Counts a target no more.
    pub fn remove(&mut self, state: &TargetState) {
        self.each(state, |count| *count = count.saturating_sub(1));
    }

    fn each(&mut self, state: &TargetState, change: impl Fn(&mut u32)) {
        change(match state {
            TargetState::Pending => &mut self.pending,
            TargetState::Waiting { .. } => &mut self.waiting,
            TargetState::Restarting => &mut self.restarting,
            TargetState::Soaking { .. } => &mut self.soaking,
            TargetState::Succeeded => &mut self.succeeded,
            TargetState::Failed { .. } => &mut self.failed,
            TargetState::Skipped { .. } => &mut self.skipped,
            TargetState::Cancelled => &mut self.cancelled,
        });
        if (*state == TargetState::Skipped { why: SkipReason::AlreadyRestarted }) {
            change(&mut self.already_restarted);
        }
    }

    /// Returns how many are in each state.
    pub const fn by_phase(&self) -> [(TargetPhase, u32); 8] {
        [
            (TargetPhase::Pending, self.pending),
            (TargetPhase::Waiting, self.waiting),
            (TargetPhase::Restarting, self.restarting),
            (TargetPhase::Soaking, self.soaking),
            (TargetPhase::Succeeded, self.succeeded),
            (TargetPhase::Failed, self.failed),
            (TargetPhase::Skipped, self.skipped),
            (TargetPhase::Cancelled, self.cancelled),
        ]
    }

    /// Returns how many have not ended.
    pub const fn open(&self) -> u32 {
        self.pending + self.waiting + self.in_flight()
    }

    /// Returns how many are on their restart or have to stay.
    pub const fn in_flight(&self) -> u32 {
        self.restarting + self.soaking
    }

    /// Returns how many got a command that counts.
    pub const fn commanded(&self) -> u32 {
        self.in_flight() + self.succeeded + self.failed
    }
}
