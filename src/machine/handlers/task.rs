//! The lifecycle of a task: assigned, confirmed, finished; reclaimed, continued, cancelled.

use alloc::format;
use alloc::string::ToString;

use crate::machine::handlers::last_look::WaitOver;
use crate::machine::model::effect::{Effect, ResultFile, ToHub, WakeReport};
use crate::machine::model::job::{Job, Ownership, Pending, Stage};
use crate::machine::model::journal::Disk;
use crate::machine::model::machine::{Assignment, Machine};
use crate::machine::model::notice::{Notice, RejectReason};
use crate::machine::model::outbox::{OUTBOX_CAP, PendingVerdict, Verdict};
use crate::machine::model::parked_work::ParkedTask;
use crate::machine::model::state::State;
use crate::machine::model::task::{Outcome, Task, TaskId};
use crate::machine::step::Step;

/// What a verdict on the job is based on.
#[derive(Debug, Clone, Copy)]
enum Basis {
    /// The result in the results folder.
    Result,
    /// No result.
    NoResult,
    /// No result, and no session had started.
    NoSession,
}

impl Step<'_> {
    /// Handles an assignment.
    pub(in crate::machine) fn assigned(&mut self, assignment: Assignment) {
        let task = &assignment.task;
        match &mut self.machine.state {
            State::Working { job } | State::RestartPending { job, .. } if job.task().id == task.id => {
                if task.generation >= job.task().generation {
                    self.adopt(assignment.task);
                }
            }
            State::Working { job } if job.is_in_question() => self.defer(assignment),
            State::Working { .. } => self.refuse(task, RejectReason::Busy),
            State::RestartPending { .. } | State::Draining { .. } | State::Exiting { .. } => {
                self.refuse(task, RejectReason::Restarting);
            }
            State::Idle if self.machine.check.is_some() => self.defer(assignment),
            State::Idle => self.take(assignment),
        }
    }

    /// Takes a task in `Idle`: from finished or parked work on it, otherwise as new.
    fn take(&mut self, assignment: Assignment) {
        let task = &assignment.task;
        // A repeated or outdated assignment: the verdict on this one or a later one is in the outbox already.
        if self.machine.outbox.answers(&task.id, task.generation) {
            return;
        }
        if self.machine.outbox.len() >= OUTBOX_CAP || matches!(self.machine.disk, Disk::Failing { .. }) {
            self.refuse(task, RejectReason::Busy);
            return;
        }
        let done = self.machine.finished(&task.id);
        let job = match (done, self.machine.parked.take(&task.id)) {
            (Some(outcome), _) => {
                self.answer_at_once(assignment.task, outcome);
                return;
            }
            (None, Some(ParkedTask::Finished { result, .. })) => {
                self.answer_at_once(assignment.task, Outcome::Completed { result });
                return;
            }
            (None, Some(ParkedTask::UnderWay(persisted))) => {
                let assigned_at = assignment.assigned_at;
                let mut job = Job::fresh(task.clone(), assigned_at, assignment.timeout_ms, self.now, self.policy);
                // Parked work in `Waking` has its wake command still running: it was ordered before.
                job.wake_ordered = matches!(persisted.stage, Stage::Waking { .. });
                job.persisted = persisted;
                job.persisted.assigned_at = assigned_at;
                let sign = job.adopt(assignment.task, self.now, self.policy);
                self.judge_sign(&job.task().id, sign);
                job
            }
            // Parked and finished work is not new work and was handled above.
            (None, None) if self.machine.cordon.is_on() => {
                self.refuse(task, RejectReason::Draining);
                return;
            }
            (None, None) => self.begin(assignment),
        };
        self.order(Effect::Notify(Notice::TaskTaken { task_id: job.task().id.clone() }));
        self.machine.state = State::Working { job };
    }

    /// Reaches the verdict on an assignment whose work is finished already; it never becomes a job.
    fn answer_at_once(&mut self, task: Task, outcome: Outcome) {
        let Task { id: task_id, generation, .. } = task;
        let verdict = Verdict {
            task_id,
            generation,
            outcome,
            accept_first: true,
            no_session_came: false,
            // The file that it was made of went with an earlier verdict.
            result_read: false,
            refusals: 0,
        };
        let completed = verdict.outcome.is_completed();
        let task_id = verdict.task_id.clone();
        self.machine.outbox.push_for_later_assignment(verdict);
        self.order(Effect::Notify(Notice::VerdictReached { task_id, completed }));
    }

    /// Continues the job in hand under a new assignment of it, or after the hub confirmed it.
    fn adopt(&mut self, task: Task) {
        if let Some(job) = self.machine.state.job_mut() {
            let sign = job.adopt(task, self.now, self.policy);
            let task_id = job.task().id.clone();
            self.judge_sign(&task_id, sign);
        }
    }

    /// Defers an assignment until it can be decided. One whose verdict is in the outbox already is dropped: once that
    /// verdict is answered, nothing here would show that the work is finished.
    fn defer(&mut self, assignment: Assignment) {
        let task = &assignment.task;
        if self.machine.outbox.answers(&task.id, task.generation) {
            return;
        }
        if self.machine.deferred.as_ref().is_some_and(|deferred| deferred.task.id != task.id) {
            self.refuse_deferred(RejectReason::Busy);
        }
        self.machine.deferred = Some(assignment);
    }

    /// Refuses the deferred assignment.
    pub(in crate::machine) fn refuse_deferred(&mut self, reason: RejectReason) {
        if let Some(deferred) = self.machine.deferred.take() {
            self.refuse(&deferred.task, reason);
        }
    }

    /// Refuses the deferred assignment after `drain`, unless there is parked or finished work on its task.
    pub(in crate::machine) fn refuse_deferred_new_work(&mut self) {
        let known = |id: &TaskId| self.machine.finished(id).is_some() || self.machine.parked.contains(id);
        if self.machine.deferred.as_ref().is_some_and(|deferred| !known(&deferred.task.id)) {
            self.refuse_deferred(RejectReason::Draining);
        }
    }

    /// Handles the hub's confirmation of the recovering job.
    pub(in crate::machine) fn task_continue(&mut self, task_id: &str, generation: Option<u64>) {
        let Some(job) = self.machine.state.job_mut().filter(|job| job.task().id.as_str() == task_id) else { return };
        let known = job.task().generation;
        let generation = generation.unwrap_or(known);
        if generation >= known {
            let task = Task { generation, ..job.task().clone() };
            self.adopt(task);
        }
    }

    /// Handles the hub's notice that the task is not assigned to this agent any more, under any generation up to this
    /// one: an assignment that came later counts. A recovering job came before everything that this connection says, so
    /// it is reclaimed whatever the generation (a hub whose store was put back knows a lower one). Without a generation
    /// the notice answers `task_recovering`, and is stale once the task has been assigned to this agent again.
    pub(in crate::machine) fn task_reassigned(&mut self, task_id: &str, generation: Option<u64>) {
        let reclaimed =
            |task: &Task| generation.is_some_and(|last| task.id.as_str() == task_id && task.generation <= last);
        self.machine.deferred.take_if(|deferred| reclaimed(&deferred.task));
        if self.has_job(task_id, |job| reclaimed(job.task()) || job.is_recovering()) {
            self.job_reclaimed();
        }
    }

    /// Handles the hub's answer to `state_report`.
    pub(in crate::machine) fn report_answered(&mut self, task_id: &str, go_on: bool) {
        let asked = |job: &Job| match &job.ownership {
            Ownership::Ours { report: Some(report), .. } => report.generation == job.task().generation,
            Ownership::Ours { report: None, .. } | Ownership::Recovering { .. } => false,
        };
        if !self.has_job(task_id, asked) {
            return;
        }
        if !go_on {
            self.job_reclaimed();
            return;
        }
        self.go_on_with_job();
    }

    /// Handles a hub that does not know `state_report`: the job continues, and the hub reclaims the task later if it is
    /// no longer assigned to this agent.
    pub(in crate::machine) fn report_not_understood(&mut self) {
        let asked = |job: &Job| matches!(job.ownership, Ownership::Ours { report: Some(_), .. });
        if self.machine.state.job().is_some_and(asked) {
            self.go_on_with_job();
        }
    }

    fn go_on_with_job(&mut self) {
        let Some(job) = self.machine.state.job_mut() else { return };
        // The hub's acceptance timer is still running, so `task_accepted` is sent again.
        job.ownership = Ownership::Ours { accept: Pending::Unsent, report: None };
    }

    /// Handles a cancellation: forgets the task and removes its files.
    pub(in crate::machine) fn task_cancelled(&mut self, task_id: &str) {
        self.machine.deferred.take_if(|deferred| deferred.task.id.as_str() == task_id);
        let Ok(id) = TaskId::new(task_id) else { return };
        let parked = self.machine.parked.take(&id).is_some();
        let in_hand = self.has_job(task_id, |_| true);
        if in_hand {
            self.end_job();
        }
        let expected = self.machine.late_sessions.forget(&id);
        let left_behind = self.forget_left_behind(task_id);
        if in_hand || parked || expected || left_behind {
            self.order(Effect::CleanUp { task_id: id, result: ResultFile::OfCancelledTask });
        }
    }

    /// Ends the wait of the job's stage after the last look: wakes again, or fails the task.
    pub(in crate::machine) fn give_up_waiting(&mut self, over: WaitOver) {
        let Some(job) = self.machine.state.job_mut() else { return };
        job.last_look = None;
        // No wake was for this assignment: it gets one of its own.
        let anew = !job.persisted.woken_for_this_generation();
        let task_id = job.task().id.clone();
        match over {
            WaitOver::RetryDue { attempt } => job.start_waking(attempt.saturating_add(1)),
            WaitOver::Unconfirmed if anew => job.start_waking(1),
            WaitOver::Unconfirmed => {
                let report = WakeReport::TimedOut { error: "confirmation_timeout".to_string() };
                self.say_if_online(ToHub::WakeResult { task_id, attempt: None, report });
                self.give_up(Outcome::failed("confirmation_timeout"));
            }
            WaitOver::Interrupted if anew => {
                job.start_waking(1);
                // The sign of the session that the reboot ended must not pass for the next one's.
                self.order(Effect::CleanUp { task_id, result: ResultFile::Unread });
            }
            WaitOver::Interrupted => {
                self.finish_without_result(Outcome::failed(
                    "machine_rebooted: the machine was rebooted while the task ran",
                ));
            }
            WaitOver::TaskTimeout { limit_ms, in_session } => {
                let outcome = Outcome::Failed { reason: format!("task_timeout: no result came within {limit_ms} ms") };
                if !in_session {
                    self.finish_without_result(outcome);
                    return;
                }
                // It may still be at work: the next assignment adopts it. (A supervised one is ended with its wake.)
                self.give_up(outcome);
            }
        }
    }

    /// Fails the task because no session started, or none was done in time, as the last look showed. Files that appear in
    /// the results folder from now on belong to a late session.
    fn give_up(&mut self, outcome: Outcome) {
        let Some(task_id) = self.machine.state.job().map(|job| job.task().id.clone()) else { return };
        self.expect_late_session();
        self.order(Effect::WithdrawWake { task_id });
        self.conclude(outcome, Basis::NoSession);
    }

    /// Ends the job by its result; its files are cleaned up once the verdict is on disk.
    pub(in crate::machine) fn finish(&mut self, outcome: Outcome) {
        self.conclude(outcome, Basis::Result);
    }

    /// Ends the job without a result; its files are cleaned up once the verdict is on disk. (A wake that failed may have
    /// left files too.)
    pub(in crate::machine) fn finish_without_result(&mut self, outcome: Outcome) {
        self.conclude(outcome, Basis::NoResult);
    }

    /// Puts the job's verdict into the outbox and ends the job.
    fn conclude(&mut self, outcome: Outcome, basis: Basis) {
        let Some(job) = self.machine.state.job() else { return };
        let accept_first = matches!(job.ownership, Ownership::Ours { accept: Pending::Unsent, .. });
        // While a report is open, the acceptance was sent on an earlier connection. Only legacy hubs distinguish that.
        let accepted_here = self.machine.connection.is_legacy_hub()
            && matches!(
                job.ownership,
                Ownership::Ours { accept: Pending::Sent { .. } | Pending::Answered, report: None }
            );
        let Task { id: task_id, generation, .. } = job.task().clone();
        if let Outcome::Completed { .. } = outcome {
            self.machine.late_sessions.forget(&task_id);
        }
        let (no_session_came, result_read) = match basis {
            Basis::Result => (false, true),
            Basis::NoResult => (false, false),
            Basis::NoSession => (true, false),
        };
        let verdict = Verdict {
            task_id: task_id.clone(),
            generation,
            outcome,
            accept_first,
            no_session_came,
            result_read,
            refusals: 0,
        };
        let completed = verdict.outcome.is_completed();
        if self.machine.outbox.push(verdict, accepted_here) {
            self.order(Effect::Notify(Notice::VerdictReached { task_id, completed }));
        }
        self.end_job();
    }

    /// Ends a job that the hub reclaimed. Work under way is parked in case the task is assigned again.
    fn job_reclaimed(&mut self) {
        let Some(job) = self.machine.state.job() else { return };
        let unordered = matches!(job.persisted.stage, Stage::Waking { .. }) && !job.wake_ordered;
        if job.persisted.is_under_way() && !unordered {
            let persisted = job.persisted.clone();
            self.order(Effect::Notify(Notice::TaskTakenBack { task_id: persisted.task.id.clone() }));
            self.park(ParkedTask::UnderWay(persisted));
        } else {
            // No session is at work on it: the files for its wake are not needed any more.
            let task_id = job.task().id.clone();
            self.order(Effect::CleanUp { task_id, result: ResultFile::Unread });
        }
        self.end_job();
    }

    /// Parks work. If there is too much of it, the oldest is given up: its result is put aside, whether it is known
    /// already or lies in the results folder.
    pub(in crate::machine) fn park(&mut self, item: ParkedTask) {
        match self.machine.parked.put(item) {
            None => {}
            Some(ParkedTask::UnderWay(persisted)) => {
                self.order(Effect::CleanUp { task_id: persisted.task.id, result: ResultFile::Unread });
            }
            Some(ParkedTask::Finished { task_id, generation, result }) => {
                self.put_aside_parked(task_id, generation, result)
            }
        }
    }

    /// Ends the job in hand, and begins the restart that waited for it.
    pub(in crate::machine) fn end_job(&mut self) {
        match core::mem::replace(&mut self.machine.state, State::Idle) {
            State::RestartPending { order, .. } => self.drain_for_restart(order, None),
            State::Working { .. } | State::Idle => {}
            state @ (State::Draining { .. } | State::Exiting { .. }) => self.machine.state = state,
        }
    }

    /// Refuses the task in hand after a failed journal write if the disk does not hold it: it was never accepted.
    pub(in crate::machine) fn refuse_unjournalled_job(&mut self) {
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

    /// Returns whether the job in hand is for `task_id` and satisfies `also`.
    fn has_job(&self, task_id: &str, also: impl Fn(&Job) -> bool) -> bool {
        self.machine.state.job().is_some_and(|job| job.task().id.as_str() == task_id && also(job))
    }
}

impl Machine {
    /// Returns the outcome of finished work on the task, of any generation, that the hub has not answered yet.
    fn finished(&self, task_id: &TaskId) -> Option<Outcome> {
        let ends =
            |pending: &&PendingVerdict| pending.verdict.task_id == *task_id && pending.decides_later_assignments();
        self.outbox.pending().find(ends).map(|pending| pending.verdict.outcome.clone())
    }
}
