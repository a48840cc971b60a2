//! One task in our hands: how far it has come, whose it is, and what of that survives a crash.

use alloc::string::String;

use crate::machine::model::last_look::LastLook;
use crate::machine::model::policy::Policy;
use crate::machine::model::review::Review;
use crate::machine::model::task::Task;
use crate::machine::model::time::Timestamp;

/// How far a job has come. A deadline stands in the variant that waits for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, strum::EnumDiscriminants)]
#[strum_discriminants(name(StageName), derive(Hash, strum::IntoStaticStr, strum::EnumIter, strum::Display))]
#[strum_discriminants(strum(serialize_all = "snake_case"), doc = "The names of the stages.")]
pub enum Stage {
    /// Taken, not woken: nothing has been started for it in this generation.
    Accepted,
    /// The wake command was ordered and has not answered.
    Waking {
        /// Counted from 1.
        attempt: u8,
    },
    /// The wake command is known to have failed.
    RetryingWake {
        /// When to wake again.
        at: Timestamp,
        /// The attempt that failed.
        attempt: u8,
    },
    /// Woken, or possibly woken; the agent has not shown itself.
    AwaitingConfirmation {
        /// When to stop waiting for it.
        until: Timestamp,
    },
    /// The agent has shown itself; its result is awaited without a limit.
    Running,
    /// The machine rebooted under it: nobody works on it any more, but a result may have been written before.
    Interrupted {
        /// When to stop looking for that result.
        until: Timestamp,
    },
}

impl Stage {
    /// The existing sidecar's word for it, used on the wire and in `queue.json`.
    pub fn wire_status(&self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Waking { .. } | Self::RetryingWake { .. } => "waking",
            Self::AwaitingConfirmation { .. } => "waking_confirmation",
            Self::Running | Self::Interrupted { .. } => "working",
        }
    }
}

/// What of a job survives: exactly what the journal holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PersistedJob {
    /// The task.
    pub task: Task,
    /// How far it had come.
    pub stage: Stage,
    /// The generation of the last wake not known to have failed: none is woken twice.
    pub woken: Option<u64>,
    /// The machine's boot in which the task was last ours: whoever had shown himself in another one is gone.
    pub machine_boot: String,
    /// When the hub assigned it (ms since the epoch), where it said so.
    pub assigned_at: Option<u64>,
}

/// What a `.started` tells that lies there when a task becomes ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// What it always does: somebody is at work. (In [`Stage::Interrupted`] it tells nothing.)
    Counts,
    /// Whoever gave it was ended by a reboot.
    Old,
}

/// Something said to the hub that wants an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pending {
    /// Not said on this connection.
    Unsaid,
    /// Said.
    Said {
        /// When to say it again.
        again_at: Timestamp,
    },
    /// Answered.
    Answered,
}

/// Whose a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ownership {
    /// The hub handed it out to us in this process's life, or has confirmed it since.
    Ours {
        /// `task_accepted`.
        accept: Pending,
        /// `state_report`, said after a reconnect; `None` when there is no question.
        report: Option<Report>,
    },
    /// PersistedJob over from a process before this one: the hub is asked first (`task_recovering`).
    Recovering {
        /// The question.
        ask: Pending,
    },
}

/// A `state_report` without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Report {
    /// The generation reported: an answer to an older one is stale.
    pub generation: u64,
    /// When to say it again.
    pub again_at: Timestamp,
}

/// One task in our hands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Job {
    /// What survives a crash.
    pub persisted: PersistedJob,
    /// Whose it is.
    pub ownership: Ownership,
    /// In `Waking`: the order has been given (it is given once the journal holds the stage).
    pub wake_ordered: bool,
    /// When to give the next sign of life.
    pub progress_at: Timestamp,
    /// The result that the hook is looking at.
    pub review: Option<Review>,
    /// The look into the results folder that decides whether a wait is over.
    pub last_look: Option<LastLook>,
}

impl Job {
    /// A task that the hub just handed out.
    pub fn fresh(task: Task, assigned_at: Option<u64>, now: Timestamp, policy: &Policy) -> Self {
        Self {
            persisted: PersistedJob {
                task,
                stage: Stage::Accepted,
                woken: None,
                machine_boot: policy.machine_boot.clone(),
                assigned_at,
            },
            ownership: Ownership::Ours { accept: Pending::Unsaid, report: None },
            wake_ordered: false,
            progress_at: now.plus(policy.progress_interval_ms),
            review: None,
            last_look: None,
        }
    }

    /// A task from the journal of a process before this one.
    pub fn recovered(persisted: PersistedJob, now: Timestamp, policy: &Policy) -> Self {
        Self {
            persisted: persisted.after_crash(now, policy),
            ownership: Ownership::Recovering { ask: Pending::Unsaid },
            wake_ordered: false,
            progress_at: now.plus(policy.progress_interval_ms),
            review: None,
            last_look: None,
        }
    }

    /// The task.
    pub fn task(&self) -> &Task {
        &self.persisted.task
    }

    /// Whether the hub has been asked and not answered.
    pub fn is_recovering(&self) -> bool {
        matches!(self.ownership, Ownership::Recovering { .. })
    }

    /// Whether the hub has been asked whose the job is and has not answered: it may not be ours any more.
    pub fn is_in_question(&self) -> bool {
        match &self.ownership {
            Ownership::Recovering { .. } | Ownership::Ours { report: Some(_), .. } => true,
            Ownership::Ours { report: None, .. } => false,
        }
    }

    /// Takes the job (back) under the hand-out `task`: what is under way is kept, not repeated. Returns what is to be
    /// thought of a sign that lies there.
    #[must_use]
    pub fn adopt(&mut self, task: Task, now: Timestamp, policy: &Policy) -> Sign {
        self.persisted.task = task;
        if let (Stage::Waking { attempt }, false) = (&self.persisted.stage, self.wake_ordered) {
            // Planned and not ordered yet (the disk failed): it will be this hand-out's wake.
            self.start_waking(*attempt);
        }
        let sign = self.persisted.settle_in(now, policy);
        self.ownership = Ownership::Ours { accept: Pending::Unsaid, report: None };
        self.progress_at = now.plus(policy.progress_interval_ms);
        sign
    }
}

impl PersistedJob {
    /// What a crash leaves known: an ordered wake may have started the agent, so it is waited for, not repeated. No wait
    /// is longer than it would be if it began now: the clock may have been set back in between.
    pub(in crate::machine) fn after_crash(mut self, now: Timestamp, policy: &Policy) -> Self {
        let confirm_by = now.plus(policy.confirmation_timeout_ms);
        self.stage = match self.stage {
            Stage::Waking { .. } => Stage::AwaitingConfirmation { until: confirm_by },
            Stage::AwaitingConfirmation { until } => Stage::AwaitingConfirmation { until: until.min(confirm_by) },
            Stage::RetryingWake { at, attempt } => {
                let latest = now.plus(policy.wake_retry_delay_ms(attempt).unwrap_or(0));
                Stage::RetryingWake { at: at.min(latest), attempt }
            }
            Stage::Interrupted { until } => Stage::Interrupted { until: until.min(now.plus(policy.look_ms)) },
            stage @ (Stage::Accepted | Stage::Running) => stage,
        };
        self
    }

    /// Judges the stage afresh when the job becomes ours (again): a reboot ended what was under way, and files that
    /// are already there get time to be seen before a wait is called over.
    fn settle_in(&mut self, now: Timestamp, policy: &Policy) -> Sign {
        let look = now.plus(policy.look_ms);
        let rebooted = self.machine_boot != policy.machine_boot;
        self.machine_boot.clone_from(&policy.machine_boot);
        if rebooted && self.is_under_way() {
            self.stage = Stage::Interrupted { until: look };
            return Sign::Counts;
        }
        self.stage = match core::mem::replace(&mut self.stage, Stage::Running) {
            Stage::AwaitingConfirmation { until } => Stage::AwaitingConfirmation { until: until.max(look) },
            Stage::Interrupted { until } => Stage::Interrupted { until: until.max(look) },
            stage @ (Stage::Accepted | Stage::Waking { .. } | Stage::RetryingWake { .. } | Stage::Running) => stage,
        };
        if rebooted { Sign::Old } else { Sign::Counts }
    }

    /// A new hand-out of a task that was given up before anybody showed up for it: whoever was woken then may have come
    /// late, and is looked for before anybody else is woken.
    pub(in crate::machine) fn look_for_late_session(&mut self, woken_in: &str, now: Timestamp, policy: &Policy) {
        self.stage = Stage::AwaitingConfirmation { until: now };
        self.machine_boot = woken_in.into();
        // Under way: no sign is called old.
        let _ = self.settle_in(now, policy);
    }

    /// Whether somebody may be working on it.
    pub fn is_under_way(&self) -> bool {
        match self.stage {
            Stage::Accepted | Stage::RetryingWake { .. } => false,
            Stage::Waking { .. } | Stage::AwaitingConfirmation { .. } | Stage::Running | Stage::Interrupted { .. } => {
                true
            }
        }
    }

    /// Whether the last wake was for the present hand-out.
    pub fn woken_for_this_generation(&self) -> bool {
        self.woken == Some(self.task.generation)
    }
}

impl Pending {
    /// Whether it is to be said now, for the first time or again.
    pub fn is_due(&self, now: Timestamp) -> bool {
        match self {
            Self::Unsaid => true,
            Self::Said { again_at } => *again_at <= now,
            Self::Answered => false,
        }
    }

    /// What was said may have been dropped: it is said again at `until`.
    pub(in crate::machine) fn postpone(&mut self, until: Timestamp) {
        if let Self::Said { again_at } = self {
            *again_at = until;
        }
    }
}

impl Job {
    /// The next wake of this hand-out; ordered once the journal holds it.
    pub(in crate::machine) fn start_waking(&mut self, attempt: u8) {
        self.persisted.stage = Stage::Waking { attempt };
        self.persisted.woken = Some(self.persisted.task.generation);
        self.wake_ordered = false;
    }

    /// Nothing said on the lost connection counts unless it was answered.
    pub(in crate::machine) fn connection_lost(&mut self) {
        match &mut self.ownership {
            Ownership::Recovering { ask } => *ask = Pending::Unsaid,
            Ownership::Ours { accept, report } => {
                *report = None;
                if let Pending::Said { .. } = accept {
                    *accept = Pending::Unsaid;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::TaskId;

    fn task() -> Task {
        Task { id: TaskId::new("t").unwrap(), generation: 1, payload: "{}".into() }
    }

    fn recovered(stage: Stage, now: Timestamp) -> Stage {
        let persisted =
            PersistedJob { task: task(), stage, woken: None, machine_boot: String::new(), assigned_at: None };
        Job::recovered(persisted, now, &Policy::default()).persisted.stage
    }

    #[test]
    fn a_clock_that_was_set_back_prolongs_no_wait() {
        let (now, tomorrow) = (Timestamp::from_millis(1_000_000), Timestamp::from_millis(90_000_000));
        let waits = Stage::AwaitingConfirmation { until: tomorrow };
        assert_eq!(recovered(waits, now), Stage::AwaitingConfirmation { until: now.plus(30_000) });
        let retries = Stage::RetryingWake { at: tomorrow, attempt: 1 };
        assert_eq!(recovered(retries, now), Stage::RetryingWake { at: now.plus(5_000), attempt: 1 });
        let looks = Stage::Interrupted { until: tomorrow };
        assert_eq!(recovered(looks, now), Stage::Interrupted { until: now.plus(2_000) });
    }

    #[test]
    fn a_wait_that_is_shorter_stays_as_it_is() {
        let now = Timestamp::from_millis(1_000_000);
        let waits = Stage::AwaitingConfirmation { until: now.plus(5) };
        assert_eq!(recovered(waits.clone(), now), waits);
    }

    #[test]
    fn a_job_that_comes_back_gets_time_for_its_files_to_be_seen() {
        let (now, policy) = (Timestamp::from_millis(1_000_000), Policy::default());
        let settled = |stage| {
            let mut job = Job::fresh(task(), None, now, &policy);
            job.persisted.stage = stage;
            assert_eq!(job.adopt(task(), now, &policy), Sign::Counts);
            job.persisted.stage
        };
        let (soon, look, late) = (now.plus(1), now.plus(policy.look_ms), now.plus(policy.look_ms + 1));
        assert_eq!(settled(Stage::Interrupted { until: soon }), Stage::Interrupted { until: look });
        assert_eq!(settled(Stage::Interrupted { until: late }), Stage::Interrupted { until: late });
        assert_eq!(settled(Stage::AwaitingConfirmation { until: soon }), Stage::AwaitingConfirmation { until: look });
        assert_eq!(settled(Stage::AwaitingConfirmation { until: late }), Stage::AwaitingConfirmation { until: late });
    }

    #[test]
    fn a_reboot_makes_the_sign_of_what_had_not_begun_an_old_one() {
        let now = Timestamp::from_millis(1_000_000);
        let after = Policy { machine_boot: "after".into(), ..Policy::default() };
        let rebooted = |stage| {
            let mut job = Job::fresh(task(), None, now, &Policy { machine_boot: "before".into(), ..Policy::default() });
            job.persisted.stage = stage;
            let sign = job.adopt(task(), now, &after);
            (sign, job.persisted.stage, job.persisted.machine_boot)
        };
        for stage in [Stage::Accepted, Stage::RetryingWake { at: now, attempt: 1 }] {
            assert_eq!(rebooted(stage.clone()), (Sign::Old, stage, "after".into()));
        }
        let interrupted = Stage::Interrupted { until: now.plus(after.look_ms) };
        assert_eq!(rebooted(Stage::Running), (Sign::Counts, interrupted, "after".into()));
    }
}
