//! The drain of an agent from the hub: somebody there wants it to take no task, apart from what an operator on its own
//! machine wants.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The drain of one agent, as it is stored. Times are in ms since the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubDrain {
    /// The name of who wants it.
    pub by: Arc<str>,
    /// The reason, as text for people.
    pub reason: Option<Arc<str>>,
    /// Since then.
    pub since: u64,
    /// The time at which it ends by itself.
    pub until: Option<u64>,
    /// The time by which the agent should hold no task. Nothing is taken from it then; it is only told.
    pub deadline: Option<u64>,
    /// Whether that time has passed and was looked at.
    #[serde(default)]
    pub deadline_seen: bool,
}

impl HubDrain {
    /// Returns when the next of its times comes, in ms since the epoch.
    pub fn due_at(&self) -> Option<u64> {
        [self.until, self.deadline.filter(|_| !self.deadline_seen)].into_iter().flatten().min()
    }

    /// Returns whether the agent should hold no task any more.
    pub fn is_past_deadline(&self, now_ms: u64) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now_ms)
    }

    /// Returns the drain as the API shows it, of an agent that holds a task or none.
    pub fn shown(&self, holds_task: bool, now_ms: u64) -> ShownDrain<'_> {
        ShownDrain {
            by: &self.by,
            reason: self.reason.as_deref(),
            since: self.since,
            until: self.until,
            deadline: self.deadline,
            overdue: holds_task && self.is_past_deadline(now_ms),
        }
    }
}

/// A drain as the API shows it. Times are in ms since the epoch.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ShownDrain<'a> {
    /// Who wants it.
    by: &'a str,
    /// The reason.
    reason: Option<&'a str>,
    /// Since then.
    since: u64,
    /// The time at which it ends by itself.
    until: Option<u64>,
    /// The time by which the agent should hold no task.
    deadline: Option<u64>,
    /// Whether it still holds one after that time.
    overdue: bool,
}
