//! A task's way: handed out, woken, confirmed, done; taken back, continued, cancelled.

use alloc::format;
use alloc::string::ToString;

use crate::machine::handlers::last_look::WaitOver;
use crate::machine::model::effect::{Effect, Notice, RejectReason, ToHub, WakeReport};
use crate::machine::model::event::WakeOutcome;
use crate::machine::model::job::{Job, Ownership, Pending, Stage};
use crate::machine::model::journal::Disk;
use crate::machine::model::machine::{DeferredAssignment, Machine};
use crate::machine::model::outbox::{OUTBOX_CAP, PendingVerdict, Verdict};
use crate::machine::model::parked_work::ParkedTask;
use crate::machine::model::state::State;
use crate::machine::model::task::{Outcome, Task, TaskId};
use crate::machine::step::Step;

impl Step<'_> {
    /// The hub hands a task out to us.
    pub(in crate::machine) fn assigned(&mut self, task: Task, assigned_at: Option<u64>) {
        match &mut self.machine.state {
            State::Working { job } | State::RestartPending { job, .. } if job.task().id == task.id => {
                if task.generation >= job.task().generation {
                    self.adopt(task);
                }
            }
            State::Working { job } if job.is_in_question() => self.defer(task, assigned_at),
            State::Working { .. } => self.refuse(&task, RejectReason::Busy),
            State::RestartPending { .. } | State::Draining { .. } | State::Exiting { .. } => {
                self.refuse(&task, RejectReason::Restarting);
            }
            State::Idle if self.machine.check.is_some() => self.defer(task, assigned_at),
            State::Idle => self.take(task, assigned_at),
        }
    }

    /// Takes a task in `Idle`: from what is already done or under way for it, else afresh.
    fn take(&mut self, task: Task, assigned_at: Option<u64>) {
        // Said again, or overtaken on its way: the verdict for this hand-out or a later one is on its own way already.
        if self.machine.outbox.answers(&task.id, task.generation) {
            return;
        }
        if self.machine.outbox.len() >= OUTBOX_CAP || matches!(self.machine.disk, Disk::Failing { .. }) {
            self.refuse(&task, RejectReason::Busy);
            return;
        }
        let done = self.machine.finished(&task.id);
        let job = match (done, self.machine.parked.take(&task.id)) {
            (Some(outcome), _) => {
                self.answer_at_once(task, outcome);
                return;
            }
            (None, Some(ParkedTask::Finished { result, .. })) => {
                self.answer_at_once(task, Outcome::Completed { result });
                return;
            }
            (None, Some(ParkedTask::UnderWay(persisted))) => {
                let mut job = Job::fresh(task.clone(), assigned_at, self.now, self.policy);
                // Work on the shelf in `Waking` has its wake command still running: it was ordered before.
                job.wake_ordered = matches!(persisted.stage, Stage::Waking { .. });
                job.persisted = persisted;
                job.persisted.assigned_at = assigned_at;
                let sign = job.adopt(task, self.now, self.policy);
                self.judge_sign(&job.task().id, sign);
                job
            }
            // What is under way or done already is not new work, and came before this.
            (None, None) if self.machine.cordon.is_on() => {
                self.refuse(&task, RejectReason::Draining);
                return;
            }
            (None, None) => self.begin(task, assigned_at),
        };
        self.order(Effect::Notify(Notice::TaskTaken { task_id: job.task().id.clone() }));
        self.machine.state = State::Working { job };
    }

    /// The verdict for a hand-out of work that is done already: it never becomes a job.
    fn answer_at_once(&mut self, task: Task, outcome: Outcome) {
        let Task { id: task_id, generation, .. } = task;
        let verdict = Verdict { task_id, generation, outcome, accept_first: true, nobody_came: false, refusals: 0 };
        let completed = verdict.outcome.is_completed();
        let task_id = verdict.task_id.clone();
        self.machine.outbox.push_anew(verdict);
        self.order(Effect::Notify(Notice::VerdictReached { task_id, completed }));
    }

    /// The job in hand was handed out to us again, or confirmed as ours.
    fn adopt(&mut self, task: Task) {
        if let Some(job) = self.machine.state.job_mut() {
            let sign = job.adopt(task, self.now, self.policy);
            let task_id = job.task().id.clone();
            self.judge_sign(&task_id, sign);
        }
    }

    /// Keeps an assignment until it can be decided, unless its verdict is on its way already: that is answered meanwhile, and
    /// then nobody would know that the work is done.
    fn defer(&mut self, task: Task, assigned_at: Option<u64>) {
        if self.machine.outbox.answers(&task.id, task.generation) {
            return;
        }
        if self.machine.deferred.as_ref().is_some_and(|deferred| deferred.task.id != task.id) {
            self.refuse_deferred(RejectReason::Busy);
        }
        self.machine.deferred = Some(DeferredAssignment { task, assigned_at });
    }

    pub(in crate::machine) fn refuse_deferred(&mut self, reason: RejectReason) {
        if let Some(deferred) = self.machine.deferred.take() {
            self.refuse(&deferred.task, reason);
        }
    }

    /// An operator wants no new work; what is under way or done here for the assignment that waits is none.
    pub(in crate::machine) fn refuse_deferred_new_work(&mut self) {
        let known = |id: &TaskId| {
            self.machine.finished(id).is_some() || self.machine.parked.items().iter().any(|item| item.task_id() == id)
        };
        if self.machine.deferred.as_ref().is_some_and(|deferred| !known(&deferred.task.id)) {
            self.refuse_deferred(RejectReason::Draining);
        }
    }

    pub(in crate::machine) fn task_continue(&mut self, task_id: &str, generation: Option<u64>) {
        let Some(job) = self.machine.state.job_mut().filter(|job| job.task().id.as_str() == task_id) else { return };
        let known = job.task().generation;
        let generation = generation.unwrap_or(known);
        if generation >= known {
            let task = Task { generation, ..job.task().clone() };
            self.adopt(task);
        }
    }

    pub(in crate::machine) fn task_reassigned(&mut self, task_id: &str) {
        // The answer to a question: once the task has been handed out to us anew, it is stale.
        if self.has_job(task_id, |job| job.is_recovering()) {
            self.job_taken_back();
        }
    }

    pub(in crate::machine) fn report_answered(&mut self, task_id: &str, go_on: bool) {
        let asked = |job: &Job| match &job.ownership {
            Ownership::Ours { report: Some(report), .. } => report.generation == job.task().generation,
            Ownership::Ours { report: None, .. } | Ownership::Recovering { .. } => false,
        };
        if !self.has_job(task_id, asked) {
            return;
        }
        if !go_on {
            self.job_taken_back();
            return;
        }
        self.go_on_with_job();
    }

    /// As good as "continue": the hub takes the task back in its own time if it is not ours any more.
    pub(in crate::machine) fn report_not_understood(&mut self) {
        let asked = |job: &Job| matches!(job.ownership, Ownership::Ours { report: Some(_), .. });
        if self.machine.state.job().is_some_and(asked) {
            self.go_on_with_job();
        }
    }

    fn go_on_with_job(&mut self) {
        let Some(job) = self.machine.state.job_mut() else { return };
        // The hub's timer for the acceptance still runs: it wants to hear it again.
        job.ownership = Ownership::Ours { accept: Pending::Unsaid, report: None };
    }

    pub(in crate::machine) fn task_cancelled(&mut self, task_id: &str) {
        self.machine.deferred.take_if(|deferred| deferred.task.id.as_str() == task_id);
        let Ok(id) = TaskId::new(task_id) else { return };
        let parked = self.machine.parked.take(&id).is_some();
        let in_hand = self.has_job(task_id, |_| true);
        if in_hand {
            self.end_job();
        }
        let expected = self.machine.late_sessions.forget(&id);
        let left_behind = self.drop_left_behind(task_id);
        if in_hand || parked || expected || left_behind {
            self.order(Effect::CleanUp { task_id: id });
        }
    }

    pub(in crate::machine) fn wake_finished(
        &mut self,
        task_id: &TaskId,
        generation: u64,
        attempt: u8,
        outcome: WakeOutcome,
    ) {
        let now = self.now;
        let confirm_by = now.plus(self.policy.confirmation_timeout_ms);
        if let Some(job) = self.machine.state.job_mut()
            && job.persisted.task.id == *task_id
            && job.persisted.woken == Some(generation)
        {
            let awaited = job.persisted.stage == (Stage::Waking { attempt });
            if awaited {
                job.wake_ordered = false;
                job.persisted.stage = match outcome {
                    WakeOutcome::Succeeded => Stage::AwaitingConfirmation { until: confirm_by },
                    WakeOutcome::Failed { .. } | WakeOutcome::TimedOut { .. } | WakeOutcome::Refused { .. } => {
                        // Known to have failed: waking again repeats nothing.
                        job.persisted.woken = None;
                        Stage::RetryingWake { at: now, attempt }
                    }
                };
            }
            // News only: while the hub is asked whose the task is, it would be an answer to nothing.
            if !job.is_in_question() {
                self.report_wake(task_id.clone(), attempt, &outcome);
            }
            if awaited {
                self.plan_next_wake(attempt, &outcome);
            }
            return;
        }
        let succeeded = matches!(outcome, WakeOutcome::Succeeded);
        let mut failed = false;
        for item in self.machine.parked.items_mut() {
            if let ParkedTask::UnderWay(persisted) = item
                && persisted.task.id == *task_id
                && persisted.woken == Some(generation)
                && persisted.stage == (Stage::Waking { attempt })
            {
                persisted.stage = Stage::AwaitingConfirmation { until: confirm_by };
                failed = !succeeded;
            }
        }
        if failed {
            // Nothing is under way after all.
            self.machine.parked.take(task_id);
        }
    }

    fn report_wake(&mut self, task_id: TaskId, attempt: u8, outcome: &WakeOutcome) {
        let report = match outcome {
            WakeOutcome::Succeeded => WakeReport::Success,
            WakeOutcome::Failed { error } => WakeReport::Failed { error: error.clone() },
            WakeOutcome::Refused { reason } => WakeReport::Failed { error: reason.clone() },
            WakeOutcome::TimedOut { after_ms } => {
                WakeReport::TimedOut { error: format!("the wake command was stopped after {after_ms} ms") }
            }
        };
        self.say_if_online(ToHub::WakeResult { task_id, attempt: Some(attempt), report });
    }

    /// After a failed wake: the next try's time, or the task's failure when there is none left.
    fn plan_next_wake(&mut self, attempt: u8, outcome: &WakeOutcome) {
        let why = match outcome {
            WakeOutcome::Succeeded => return,
            WakeOutcome::Refused { reason } => {
                self.finish(Outcome::Failed { reason: reason.clone() });
                return;
            }
            WakeOutcome::Failed { error } => error.clone(),
            WakeOutcome::TimedOut { after_ms } => format!("stopped after {after_ms} ms"),
        };
        let Some(job) = self.machine.state.job_mut() else { return };
        if let (Some(delay), Some(_)) = (self.policy.wake_retry_delay_ms(attempt), attempt.checked_add(1)) {
            job.persisted.stage = Stage::RetryingWake { at: self.now.plus(delay), attempt };
            return;
        }
        let plural = if attempt == 1 { "" } else { "s" };
        self.finish(Outcome::Failed { reason: format!("wake_failed_after_{attempt}_attempt{plural}: {why}") });
    }

    pub(in crate::machine) fn confirmed(&mut self, task_id: &TaskId) {
        let Some(job) = self.machine.state.job_mut().filter(|job| job.task().id == *task_id) else { return };
        if job.is_recovering() {
            return;
        }
        match job.persisted.stage {
            Stage::Waking { .. } | Stage::RetryingWake { .. } | Stage::AwaitingConfirmation { .. } => {
                // A confirmation after a failed wake means that the wake had started the agent after all.
                job.persisted.woken.get_or_insert(job.persisted.task.generation);
                job.persisted.stage = Stage::Running;
            }
            // Not woken yet, seen before, or a sign from before the reboot.
            Stage::Accepted | Stage::Running | Stage::Interrupted { .. } => {}
        }
    }

    /// The wait of a job's stage is over, and the folder holds nothing that would change that.
    pub(in crate::machine) fn give_up_waiting(&mut self, over: WaitOver) {
        let Some(job) = self.machine.state.job_mut() else { return };
        job.last_look = None;
        // Woken for an earlier hand-out, if at all: this hand-out gets a wake of its own.
        let anew = !job.persisted.woken_for_this_generation();
        let task_id = job.task().id.clone();
        match over {
            WaitOver::Rested { attempt } => job.start_waking(attempt.saturating_add(1)),
            WaitOver::NobodyCame if anew => job.start_waking(1),
            WaitOver::NobodyCame => {
                let report = WakeReport::TimedOut { error: "confirmation_timeout".to_string() };
                self.say_if_online(ToHub::WakeResult { task_id, attempt: None, report });
                self.give_up(Outcome::failed("confirmation_timeout"));
            }
            WaitOver::Interrupted if anew => {
                job.start_waking(1);
                // The sign of the agent that the reboot ended must not pass for the next one's.
                self.order(Effect::CleanUp { task_id });
            }
            WaitOver::Interrupted => {
                self.finish(Outcome::failed("machine_rebooted: the machine was rebooted while the task ran"));
            }
        }
    }

    /// The wake ended well, the folder was looked at for the last time, and nobody came. What lies in the results folder from
    /// here on is of somebody who comes late.
    fn give_up(&mut self, outcome: Outcome) {
        let Some(task_id) = self.machine.state.job().map(|job| job.task().id.clone()) else { return };
        self.expect_late_session();
        self.order(Effect::WithdrawWake { task_id });
        self.conclude(outcome, true);
    }

    /// The job has ended, and what it left is cleaned up once the verdict is on disk. (A wake that failed may have left
    /// something too.)
    pub(in crate::machine) fn finish(&mut self, outcome: Outcome) {
        self.conclude(outcome, false);
    }

    fn conclude(&mut self, outcome: Outcome, nobody_came: bool) {
        let Some(job) = self.machine.state.job() else { return };
        let accept_first = matches!(job.ownership, Ownership::Ours { accept: Pending::Unsaid, .. });
        // With a report open, what was accepted was accepted on a connection before. Only existing hubs care.
        let accepted_here = self.machine.connection.online().is_some_and(|online| !online.features.restart_v2)
            && matches!(
                job.ownership,
                Ownership::Ours { accept: Pending::Said { .. } | Pending::Answered, report: None }
            );
        let Task { id: task_id, generation, .. } = job.task().clone();
        if let Outcome::Completed { .. } = outcome {
            self.machine.late_sessions.forget(&task_id);
        }
        let verdict = Verdict { task_id: task_id.clone(), generation, outcome, accept_first, nobody_came, refusals: 0 };
        let completed = verdict.outcome.is_completed();
        if self.machine.outbox.push(verdict, accepted_here) {
            self.order(Effect::Notify(Notice::VerdictReached { task_id, completed }));
        }
        self.end_job();
    }

    /// The hub took the job back. What is under way is kept in case it comes again.
    fn job_taken_back(&mut self) {
        let Some(job) = self.machine.state.job() else { return };
        let unordered = matches!(job.persisted.stage, Stage::Waking { .. }) && !job.wake_ordered;
        if job.persisted.is_under_way() && !unordered {
            let persisted = job.persisted.clone();
            self.order(Effect::Notify(Notice::TaskTakenBack { task_id: persisted.task.id.clone() }));
            self.park(ParkedTask::UnderWay(persisted));
        } else {
            // Nobody is at work on it: what was laid out for the wake is of no use any more.
            let task_id = job.task().id.clone();
            self.order(Effect::CleanUp { task_id });
        }
        self.end_job();
    }

    pub(in crate::machine) fn park(&mut self, item: ParkedTask) {
        if let Some(evicted) = self.machine.parked.put(item) {
            self.order(Effect::CleanUp { task_id: evicted.task_id().clone() });
        }
    }

    /// There is no job any more: what waited for that goes on.
    pub(in crate::machine) fn end_job(&mut self) {
        match core::mem::replace(&mut self.machine.state, State::Idle) {
            State::RestartPending { order, .. } => self.drain_for_restart(order, None),
            State::Working { .. } | State::Idle => {}
            state @ (State::Draining { .. } | State::Exiting { .. }) => self.machine.state = state,
        }
    }

    /// The disk would not take a task that nobody has been promised anything about: it was never accepted.
    pub(in crate::machine) fn refuse_what_was_not_journalled(&mut self) {
        let Some(job) = self.machine.state.job() else { return };
        let (durable, id) = (&self.machine.durable, &job.task().id);
        let known = durable.job.as_ref().is_some_and(|persisted| persisted.task.id == *id)
            || durable.parked.iter().any(|item| item.task_id() == id);
        if !job.is_recovering() && !known {
            let task = job.task().clone();
            self.refuse(&task, RejectReason::Busy);
            self.end_job();
        }
    }

    fn has_job(&self, task_id: &str, also: impl Fn(&Job) -> bool) -> bool {
        self.machine.state.job().is_some_and(|job| job.task().id.as_str() == task_id && also(job))
    }
}

impl Machine {
    /// How the work ended that is already done for the task, under whatever generation, where the hub has not answered it.
    fn finished(&self, task_id: &TaskId) -> Option<Outcome> {
        let ends = |pending: &&PendingVerdict| pending.verdict.task_id == *task_id && pending.ends_later_hand_outs();
        self.outbox.pending().find(ends).map(|pending| pending.verdict.outcome.clone())
    }
}
