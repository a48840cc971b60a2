//! How a rollout goes about its targets: the plan that its author gives, with what each field may be. Pure.

use serde::{Deserialize, Serialize};

use crate::hub::scheduler::amount::{Amount, AmountForm};
use crate::hub::scheduler::restart_ledger::MAX_DEADLINE_MS;

/// The longest time in a plan, in ms: a week.
const MAX_MS: u64 = 7 * 86_400_000;
/// The largest number of steps.
const MAX_STEPS: usize = 20;
/// The longest version that may be expected, in bytes.
const MAX_VERSION: usize = 256;
/// The time without progress after which a rollout halts, beside that of one target, if the plan does not say, in ms.
const PROGRESS_MS: u64 = 600_000;

/// What becomes of a target that is not connected when its turn comes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OfflinePolicy {
    /// It is skipped.
    #[default]
    Skip,
    /// It is waited for, until `wait_for_ms` after the start of the rollout.
    Wait,
}

/// How a rollout goes about its targets. Times are in ms.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Plan {
    /// The number of targets that may be away or unproven at once. A share is rounded down, to at least one.
    #[schema(value_type = AmountForm)]
    pub max_unavailable: Amount,
    /// The number of targets that go first, and alone.
    #[schema(value_type = Option<AmountForm>)]
    pub canary: Option<Amount>,
    /// The time within which they must be through.
    pub canary_deadline_ms: u64,
    /// Whether the others follow by themselves once the canary is through, without `promote`.
    pub auto_promote: bool,
    /// How many targets may be restarted in each of the waves after that, counted from the beginning; the last wave has
    /// all of them.
    #[schema(value_type = Vec<AmountForm>)]
    pub steps: Vec<Amount>,
    /// The time for which a target must be back, in the same run, before it has succeeded.
    pub soak_ms: u64,
    /// The number of failures that the rollout bears once its canary is through.
    #[schema(value_type = AmountForm)]
    pub max_failures: Amount,
    /// The time without any progress after which the rollout halts; 10 minutes beyond what one target may take, if absent.
    pub progress_deadline_ms: Option<u64>,
    /// What becomes of targets that are not connected.
    pub offline: OfflinePolicy,
    /// The time after the start for which they are waited for.
    pub wait_for_ms: u64,
    /// The version that each target must have once it is back.
    pub expect_version: Option<String>,
    /// The time for which a running task may delay each restart; the hub's default if absent.
    pub deadline_ms: Option<u64>,
    /// Whether the restarts do not wait for tasks.
    pub force: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            max_unavailable: Amount::Number(1),
            canary: None,
            canary_deadline_ms: 1_800_000,
            auto_promote: false,
            steps: Vec::new(),
            soak_ms: 10_000,
            max_failures: Amount::Number(0),
            progress_deadline_ms: None,
            offline: OfflinePolicy::Skip,
            wait_for_ms: 3_600_000,
            expect_version: None,
            deadline_ms: None,
            force: false,
        }
    }
}

/// A field of a plan with a value that it cannot have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {why}")]
pub struct BadPlan {
    /// The field.
    pub field: &'static str,
    /// What is wrong with it, and what to write.
    pub why: String,
}

impl Plan {
    /// Checks each field.
    ///
    /// # Errors
    /// [`BadPlan`], of the first field that cannot be.
    pub fn check(&self) -> Result<(), BadPlan> {
        let bad = |field, why: String| Err(BadPlan { field, why });
        let amounts = [("max_unavailable", Some(self.max_unavailable)), ("canary", self.canary)];
        let steps = self.steps.iter().map(|step| ("steps", Some(*step)));
        for (field, amount) in amounts.into_iter().chain(steps) {
            if amount.is_some_and(Amount::is_none) {
                return bad(field, "is 0, so nothing would be restarted: write at least 1, or \"1%\"".to_owned());
            }
        }
        if self.steps.len() > MAX_STEPS {
            return bad("steps", format!("has more than {MAX_STEPS} entries: leave some out"));
        }
        if let Some(pair) = self.steps.windows(2).find(|pair| pair[1].is_more_than(pair[0]) == Some(false)) {
            let (before, step) = (pair[0], pair[1]);
            return bad(
                "steps",
                format!("counts from the beginning, and {step} is not more than the {before} before it"),
            );
        }
        if self.auto_promote && self.canary.is_none() {
            return bad(
                "auto_promote",
                "is about a canary, and there is none: leave it out, or add `canary`".to_owned(),
            );
        }
        let times = [
            ("canary_deadline_ms", Some(self.canary_deadline_ms), MAX_MS),
            ("soak_ms", Some(self.soak_ms), MAX_MS),
            ("progress_deadline_ms", self.progress_deadline_ms, MAX_MS),
            ("wait_for_ms", Some(self.wait_for_ms), MAX_MS),
            ("deadline_ms", self.deadline_ms, MAX_DEADLINE_MS),
        ];
        for (field, time, most) in times {
            if time.is_some_and(|time| time > most) {
                return bad(field, format!("is longer than {most} ms, the most that is possible"));
            }
        }
        let deadlines = [
            ("canary_deadline_ms", self.canary.map(|_| self.canary_deadline_ms)),
            ("progress_deadline_ms", self.progress_deadline_ms),
        ];
        for (field, deadline) in deadlines {
            if deadline.is_some_and(|deadline| deadline <= self.soak_ms) {
                return bad(
                    field,
                    format!("must be longer than `soak_ms`, which is {}: nothing is through before", self.soak_ms),
                );
            }
        }
        match &self.expect_version {
            Some(version) if version.is_empty() || version.len() > MAX_VERSION => {
                bad("expect_version", format!("must have 1 to {MAX_VERSION} bytes, or be left out"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Returns the same plan with a progress deadline: if it has none, 10 minutes beyond what one target may take.
    /// `restart_deadline_ms` is the hub's default for the time that a task may delay a restart.
    #[must_use]
    pub fn settled(self, restart_deadline_ms: u64) -> Self {
        let one_ms = self.soak_ms + self.deadline_ms.unwrap_or(restart_deadline_ms);
        let progress_deadline_ms = self.progress_deadline_ms.or(Some(PROGRESS_MS + one_ms));
        Self { progress_deadline_ms, ..self }
    }

    /// Returns the time without any progress after which the rollout halts, in ms.
    pub fn progress_ms(&self) -> u64 {
        self.progress_deadline_ms.unwrap_or(PROGRESS_MS)
    }

    /// Returns how many of `total` targets may have been commanded by the end of each wave.
    pub fn caps(&self, total: u32) -> Vec<u32> {
        let waves = self.canary.iter().chain(&self.steps).map(|amount| amount.at_least_one_of(total));
        waves.chain([total]).collect()
    }
}
