//! How an agent does, in one word, with since when and why: pure.

use serde::{Deserialize, Serialize};

use crate::hub::scheduler::inventory::close::CloseCause;
use crate::hub::scheduler::inventory::record::AgentRecord;

/// How an agent does.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    strum::IntoStaticStr,
    strum::EnumString,
    strum::VariantArray,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum AgentStatus {
    /// Connected, and nothing is wrong with it.
    Healthy,
    /// Connected, but something is wrong.
    Degraded,
    /// Away.
    Offline,
    /// Away for so long that nobody waits for it.
    Stale,
    /// It has a token, and has never identified.
    NeverSeen,
}

impl AgentStatus {
    /// Returns the name in the API.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// An agent's status, since when, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusSince {
    /// The status.
    pub status: AgentStatus,
    /// Since then, in ms since the epoch.
    pub since: u64,
    /// The reason, for programs: a [`CloseCause`] of an agent that is away.
    pub why: &'static str,
}

/// What is wrong with a connected agent, each with the time since which it is so, in ms since the epoch.
#[derive(Debug, Clone, Copy, Default)]
pub struct Troubles {
    /// Two sidecars use its identity.
    pub identity_conflict: Option<u64>,
    /// It says that it is unwell: its journal cannot be written.
    pub unwell: Option<u64>,
    /// A commanded restart has taken too long, and the same run is still here.
    pub restart_overdue: Option<u64>,
    /// Its task has shown no sign of life for half the time after which it is reclaimed.
    pub task_silent: Option<u64>,
}

impl Troubles {
    /// Returns the gravest.
    fn gravest(self) -> Option<(&'static str, u64)> {
        let Self { identity_conflict, unwell, restart_overdue, task_silent } = self;
        let named = [
            ("identity_conflict", identity_conflict),
            ("journal_failing", unwell),
            ("restart_overdue", restart_overdue),
            ("task_silent", task_silent),
        ];
        named.into_iter().find_map(|(why, since)| Some((why, since?)))
    }
}

/// Returns the status of an agent that has identified. One that is away is stale after `stale_after_ms`.
pub fn standing(record: &AgentRecord, troubles: Troubles, stale_after_ms: u64, now_ms: u64) -> StatusSince {
    let since = record.presence.since();
    if record.presence.is_connected() {
        return match troubles.gravest() {
            Some((why, since)) => StatusSince { status: AgentStatus::Degraded, since, why },
            None => StatusSince { status: AgentStatus::Healthy, since, why: "connected" },
        };
    }
    let why = record.last_close.as_ref().map_or(CloseCause::Unknown, |close| close.why).name();
    let stale_at = since.saturating_add(stale_after_ms);
    match now_ms > stale_at {
        true => StatusSince { status: AgentStatus::Stale, since: stale_at, why },
        false => StatusSince { status: AgentStatus::Offline, since, why },
    }
}
