//! The job: a task in hand, with its stage, its ownership and the part that survives a crash.

use alloc::string::String;

use crate::machine::model::last_look::LastLook;
use crate::machine::model::policy::Policy;
use crate::machine::model::review::Review;
use crate::machine::model::task::Task;
use crate::machine::model::time::Timestamp;
use crate::machine::model::time_limit::TimeLimit;

/// The stage of a job. A deadline is stored in the variant that waits for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, strum::EnumDiscriminants)]
#[strum_discriminants(name(StageName), derive(Hash, strum::IntoStaticStr, strum::EnumIter, strum::Display))]
#[strum_discriminants(strum(serialize_all = "snake_case"), doc = "The names of the stages.")]
pub enum Stage {
    /// The task is taken and not woken: nothing has been started for it in this generation.
    Accepted,
    /// The wake command is ordered and has not ended.
    Waking {
        /// The number of the attempt, counted from 1.
        attempt: u8,
    },
    /// The wake command is known to have failed.
    RetryingWake {
        /// The time of the next wake.
        at: Timestamp,
        /// The number of the attempt that failed.
        attempt: u8,
    },
    /// The agent was woken, or possibly woken, and has not confirmed.
    AwaitingConfirmation {
        /// The time limit for the confirmation.
        until: Timestamp,
    },
    /// The agent has confirmed; its result is awaited without a limit.
    Running,
    /// The machine was rebooted meanwhile: no session works on it any more, but a result may have been written before.
    Interrupted {
        /// The time limit for finding that result.
        until: Timestamp,
    },
}

impl Stage {
    /// Returns the legacy sidecar's name for the stage, used on the wire and in `queue.json`.
    pub fn wire_status(&self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Waking { .. } | Self::RetryingWake { .. } => "waking",
            Self::AwaitingConfirmation { .. } => "waking_confirmation",
            Self::Running | Self::Interrupted { .. } => "working",
        }
    }
}

/// The part of a job that survives a crash, exactly as the journal holds it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PersistedJob {
    /// The task.
    pub task: Task,
    /// The stage.
    pub stage: Stage,
    /// The generation of the last wake that is not known to have failed; no generation is woken twice.
    pub woken: Option<u64>,
    /// The machine's boot in which the job was last confirmed as assigned to this agent; a session of another boot has
    /// ended.
    pub machine_boot: String,
    /// The time at which the hub assigned it, in ms since the epoch, if the hub sent it.
    pub assigned_at: Option<u64>,
    /// The time limit, if it has one. An adoption does not move it.
    pub limit: Option<TimeLimit>,
}

/// The meaning of a `.started` file that exists when a task is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// A session is at work. (In [`Stage::Interrupted`] the file has no meaning.)
    Counts,
    /// The session that wrote it was ended by a reboot.
    Old,
}

/// A message to the hub that expects an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pending {
    /// Not sent on this connection.
    Unsent,
    /// Sent, and not answered.
    Sent {
        /// The time at which it is sent again.
        again_at: Timestamp,
    },
    /// Answered.
    Answered,
}

/// The ownership of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ownership {
    /// The hub assigned the job to this agent during this process, or has confirmed it since.
    Ours {
        /// The state of `task_accepted`.
        accept: Pending,
        /// The `state_report` that is sent after a reconnect; `None` once it is answered.
        report: Option<Report>,
    },
    /// The job is from an earlier process: the hub is asked first (`task_recovering`).
    Recovering {
        /// The state of `task_recovering`.
        ask: Pending,
    },
}

/// A `state_report` without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Report {
    /// The reported generation; an answer to an older one is stale.
    pub generation: u64,
    /// The time at which it is sent again.
    pub again_at: Timestamp,
}

/// A task in hand.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Job {
    /// The part that survives a crash.
    pub persisted: PersistedJob,
    /// The ownership.
    pub ownership: Ownership,
    /// Whether, in `Waking`, the wake has been ordered (it is ordered once the journal holds the stage).
    pub wake_ordered: bool,
    /// The time of the next `task_progress`.
    pub progress_at: Timestamp,
    /// The review of the result by the result hook.
    pub review: Option<Review>,
    /// The last look into the results folder before a wait is given up.
    pub last_look: Option<LastLook>,
}

impl Job {
    /// Creates the job for a new assignment. `timeout_ms` is the time limit that the task asks for.
    pub fn fresh(
        task: Task,
        assigned_at: Option<u64>,
        timeout_ms: Option<u64>,
        now: Timestamp,
        policy: &Policy,
    ) -> Self {
        Self {
            persisted: PersistedJob {
                task,
                stage: Stage::Accepted,
                woken: None,
                machine_boot: policy.machine_boot.clone(),
                assigned_at,
                limit: policy.task_limit_ms(timeout_ms).map(|limit_ms| TimeLimit::new(limit_ms, now)),
            },
            ownership: Ownership::Ours { accept: Pending::Unsent, report: None },
            wake_ordered: false,
            progress_at: now.plus(policy.progress_interval_ms),
            review: None,
            last_look: None,
        }
    }

    /// Creates the job from an earlier process's journal.
    pub fn recovered(persisted: PersistedJob, now: Timestamp, policy: &Policy) -> Self {
        Self {
            persisted: persisted.after_crash(now, policy),
            ownership: Ownership::Recovering { ask: Pending::Unsent },
            wake_ordered: false,
            progress_at: now.plus(policy.progress_interval_ms),
            review: None,
            last_look: None,
        }
    }

    /// Returns the task.
    pub fn task(&self) -> &Task {
        &self.persisted.task
    }

    /// Returns whether the job is from an earlier process and the hub has not confirmed it yet.
    pub fn is_recovering(&self) -> bool {
        matches!(self.ownership, Ownership::Recovering { .. })
    }

    /// Returns whether a question to the hub about the job's ownership is open: the hub may have assigned it elsewhere.
    pub fn is_in_question(&self) -> bool {
        match &self.ownership {
            Ownership::Recovering { .. } | Ownership::Ours { report: Some(_), .. } => true,
            Ownership::Ours { report: None, .. } => false,
        }
    }

    /// Returns the time limit, unless the job waits for something else: for the hub's answer, or for the result hook.
    pub(in crate::machine) fn running_limit(&self) -> Option<TimeLimit> {
        self.persisted.limit.filter(|_| !self.is_recovering() && self.review.is_none())
    }

    /// Continues the job under the assignment `task`: work under way is kept, not repeated. Returns the meaning of a
    /// `.started` file that exists.
    #[must_use]
    pub fn adopt(&mut self, task: Task, now: Timestamp, policy: &Policy) -> Sign {
        let accept = self.accept_for(&task);
        self.persisted.task = task;
        if let (Stage::Waking { attempt }, false) = (&self.persisted.stage, self.wake_ordered) {
            // Planned and not ordered yet (the disk failed): it becomes this assignment's wake.
            self.start_waking(*attempt);
        }
        let sign = self.persisted.settle_in(now, policy);
        self.ownership = Ownership::Ours { accept, report: None };
        self.progress_at = now.plus(policy.progress_interval_ms);
        sign
    }

    /// Returns the state of `task_accepted` once the hub has assigned or confirmed the job as `task`. A legacy hub may
    /// say both of one assignment: one acceptance answers both while it awaits its own answer, because the hub reads it
    /// after it sent both. An assignment that comes after that answer restarts the hub's acceptance timer, so it is
    /// accepted again; so is one of another generation, or on a new connection (with an open report).
    fn accept_for(&self, task: &Task) -> Pending {
        match self.ownership {
            Ownership::Ours { accept: accept @ Pending::Sent { .. }, report: None }
                if task.generation == self.persisted.task.generation =>
            {
                accept
            }
            Ownership::Ours { .. } | Ownership::Recovering { .. } => Pending::Unsent,
        }
    }
}

impl PersistedJob {
    /// Moves its times `ms` later, or earlier if that is negative.
    pub(in crate::machine) fn move_by(&mut self, ms: i64) {
        // Every field is named: a new one must be placed. `assigned_at` is by the hub's clock.
        let Self { task: _, stage, woken: _, machine_boot: _, assigned_at: _, limit } = self;
        match stage {
            Stage::RetryingWake { at: time, .. }
            | Stage::AwaitingConfirmation { until: time }
            | Stage::Interrupted { until: time } => *time = time.moved_by(ms),
            Stage::Accepted | Stage::Waking { .. } | Stage::Running => {}
        }
        if let Some(TimeLimit { limit_ms: _, until, warned: _ }) = limit {
            *until = until.moved_by(ms);
        }
    }

    /// Returns the job after a crash: an ordered wake may have started the agent, so its confirmation is awaited and
    /// the wake is not repeated. No wait is longer than one that begins now, because the clock may have been set back
    /// in between.
    pub(in crate::machine) fn after_crash(mut self, now: Timestamp, policy: &Policy) -> Self {
        let confirm_by = now.plus(policy.confirmation_timeout_ms);
        self.limit = self.limit.map(|limit| limit.after_crash(now));
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

    /// Updates the stage when the hub assigns or confirms the job: a reboot has ended work under way, and a wait lasts
    /// long enough for existing files to be reported.
    fn settle_in(&mut self, now: Timestamp, policy: &Policy) -> Sign {
        let look = now.plus(policy.look_ms);
        self.limit = self.limit.map(|limit| limit.settle(now, look));
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

    /// Starts a new assignment of a task with a late session: its files are looked for before another session is woken.
    pub(in crate::machine) fn look_for_late_session(&mut self, woken_in: &str, now: Timestamp, policy: &Policy) {
        self.stage = Stage::AwaitingConfirmation { until: now };
        // Its time begins once it is known whether there is one.
        self.limit = self.limit.map(|limit| TimeLimit::new(limit.limit_ms, now.plus(policy.look_ms)));
        self.machine_boot = woken_in.into();
        // The stage counts as under way, so no sign is old.
        let _ = self.settle_in(now, policy);
    }

    /// Returns whether a session may be at work on it.
    pub fn is_under_way(&self) -> bool {
        match self.stage {
            Stage::Accepted | Stage::RetryingWake { .. } => false,
            Stage::Waking { .. } | Stage::AwaitingConfirmation { .. } | Stage::Running | Stage::Interrupted { .. } => {
                true
            }
        }
    }

    /// Returns whether the last wake was for the present assignment.
    pub fn woken_for_this_generation(&self) -> bool {
        self.woken == Some(self.task.generation)
    }
}

impl Pending {
    /// Returns whether the message is to be sent now, for the first time or again.
    pub fn is_due(&self, now: Timestamp) -> bool {
        match self {
            Self::Unsent => true,
            Self::Sent { again_at } => *again_at <= now,
            Self::Answered => false,
        }
    }

    /// Sets the repeat of a sent message to `until`, because the hub may have dropped it.
    pub(in crate::machine) fn postpone(&mut self, until: Timestamp) {
        if let Self::Sent { again_at } = self {
            *again_at = until;
        }
    }
}

impl Job {
    /// Plans the next wake of this assignment; it is ordered once the journal holds it.
    pub(in crate::machine) fn start_waking(&mut self, attempt: u8) {
        self.persisted.stage = Stage::Waking { attempt };
        self.persisted.woken = Some(self.persisted.task.generation);
        self.wake_ordered = false;
    }

    /// Resets the messages that were sent on the lost connection and not answered.
    pub(in crate::machine) fn connection_lost(&mut self) {
        match &mut self.ownership {
            Ownership::Recovering { ask } => *ask = Pending::Unsent,
            Ownership::Ours { accept, report } => {
                *report = None;
                if let Pending::Sent { .. } = accept {
                    *accept = Pending::Unsent;
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
        let persisted = PersistedJob {
            task: task(),
            stage,
            woken: None,
            machine_boot: String::new(),
            assigned_at: None,
            limit: None,
        };
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
            let mut job = Job::fresh(task(), None, None, now, &policy);
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
    fn an_assignment_that_is_confirmed_twice_is_accepted_once_unless_the_first_was_acknowledged() {
        let (now, policy) = (Timestamp::from_millis(1_000_000), Policy::default());
        let sent = Pending::Sent { again_at: now };
        let report = Some(Report { generation: 1, again_at: now });
        let adopted = |accept, report, generation| {
            let mut job = Job::fresh(task(), None, None, now, &policy);
            job.ownership = Ownership::Ours { accept, report };
            let _ = job.adopt(Task { generation, ..task() }, now, &policy);
            job.ownership
        };
        let ours = |accept| Ownership::Ours { accept, report: None };
        assert_eq!(adopted(sent, None, 1), ours(sent));
        assert_eq!(adopted(Pending::Unsent, None, 1), ours(Pending::Unsent));
        assert_eq!(
            adopted(Pending::Answered, None, 1),
            ours(Pending::Unsent),
            "the hub's timer began after its answer"
        );
        assert_eq!(adopted(sent, None, 2), ours(Pending::Unsent), "another assignment");
        assert_eq!(adopted(sent, report, 1), ours(Pending::Unsent), "accepted on another connection");
    }

    #[test]
    fn a_reboot_makes_the_sign_of_what_had_not_begun_an_old_one() {
        let now = Timestamp::from_millis(1_000_000);
        let after = Policy { machine_boot: "after".into(), ..Policy::default() };
        let rebooted = |stage| {
            let mut job =
                Job::fresh(task(), None, None, now, &Policy { machine_boot: "before".into(), ..Policy::default() });
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
