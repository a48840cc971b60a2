//! The flush: orders everything that durability, the connection and the rate limit permit in the present state.

use alloc::boxed::Box;

use crate::machine::model::connection::{Connection, HubView};
use crate::machine::model::effect::{Effect, ResultFile, ToHub};
use crate::machine::model::job::{Job, Ownership, Pending, Stage};
use crate::machine::model::journal::{Disk, Journal};
use crate::machine::model::outbox::Verdict;
use crate::machine::model::state::State;
use crate::machine::model::task::{Outcome, Task};
use crate::machine::step::Step;

impl Step<'_> {
    /// Orders everything that is possible, due or necessary now. A second flush orders nothing more than the first.
    pub(in crate::machine) fn flush(&mut self) {
        // `Exit` is the last effect ever.
        if let State::Exiting { .. } = self.machine.state {
            return;
        }
        self.flush_deferred();
        self.flush_job();
        self.flush_outbox();
        self.flush_drain();
        self.flush_cordon();
        self.flush_hub_view();
        self.flush_connection();
        self.flush_journal();
        self.flush_refused_results();
        self.flush_replies();
    }

    /// Takes or refuses the deferred assignment once no check and no question about the job is open.
    fn flush_deferred(&mut self) {
        let in_question = self.machine.state.job().is_some_and(Job::is_in_question);
        if !self.machine.state.is_leaving() && (self.machine.check.is_some() || in_question) {
            return;
        }
        if let Some(assignment) = self.machine.deferred.take() {
            self.assigned(assignment);
        }
    }

    /// Orders the messages and the wake that the job in hand is due.
    fn flush_job(&mut self) {
        self.drop_obsolete_look();
        let can_send = self.machine.connection.can_send();
        let (now, policy) = (self.now, self.policy);
        let again_at = now.plus(policy.answer_timeout_ms);
        let named = self.machine.connection.names_generations();
        let durable = &self.machine.durable;
        let Some(job) = self.machine.state.job_mut() else { return };
        let in_journal = journal_holds(durable, job);
        let mut orders = alloc::vec::Vec::new();
        match &mut job.ownership {
            Ownership::Recovering { ask } => {
                if can_send && ask.is_due(now) {
                    *ask = Pending::Sent { again_at };
                    let (task, last_status) = (job.persisted.task.clone(), job.persisted.stage.wire_status());
                    orders.push(Effect::Send(ToHub::TaskRecovering { task, last_status }));
                }
            }
            Ownership::Ours { report: Some(report), .. } => {
                if can_send && report.again_at <= now {
                    report.again_at = again_at;
                    orders.push(Effect::Send(ToHub::StateReport {
                        task_id: job.persisted.task.id.clone(),
                        generation: report.generation,
                        status: job.persisted.stage.wire_status(),
                        assigned_at: job.persisted.assigned_at,
                    }));
                }
            }
            Ownership::Ours { accept, report: None } => {
                if can_send && in_journal && accept.is_due(now) {
                    *accept = Pending::Sent { again_at };
                    let Task { id: task_id, generation, .. } = job.persisted.task.clone();
                    let generation = named.then_some(generation);
                    orders.push(Effect::Send(ToHub::TaskAccepted { task_id, generation }));
                }
                // The acceptance has been sent to the hub: now the task may start.
                if job.persisted.stage == Stage::Accepted && in_journal && *accept != Pending::Unsent {
                    job.start_waking(1);
                }
            }
        }
        if let Stage::Waking { attempt } = job.persisted.stage
            && !job.wake_ordered
            && !job.is_recovering()
            && durable.job.as_ref() == Some(&job.persisted)
        {
            job.wake_ordered = true;
            orders.push(Effect::Wake { task: job.persisted.task.clone(), attempt });
        }
        if can_send && !job.is_recovering() && job.progress_at <= now {
            job.progress_at = now.plus(policy.progress_interval_ms);
            orders.push(Effect::Send(ToHub::TaskProgress { task_id: job.persisted.task.id.clone() }));
        }
        self.effects.append(&mut orders);
    }

    /// Orders the clean-up for durable verdicts, and sends the verdict at the head if it is due.
    fn flush_outbox(&mut self) {
        self.flush_refusal();
        let again_at = self.now.plus(self.policy.answer_timeout_ms);
        let machine = &mut self.machine;
        let persisted = machine.state.persisted().map(|persisted| &persisted.task.id);
        let parked = &machine.parked;
        for pending in machine.outbox.pending_mut() {
            if !pending.cleaned && machine.durable.outbox.contains(&pending.verdict) {
                pending.cleaned = true;
                let task_id = &pending.verdict.task_id;
                // The files of a task that is in hand or parked belong to the work on it.
                let in_use = persisted == Some(task_id) || parked.contains(task_id);
                if !in_use {
                    let result = if pending.verdict.result_read { ResultFile::Read } else { ResultFile::Unread };
                    self.effects.push(Effect::CleanUp { task_id: task_id.clone(), result });
                }
            }
        }
        if machine.connection.can_send() {
            machine.outbox.rotate_unanswered(self.now);
        }
        machine.outbox.select_head(self.now);
        let can_send = machine.connection.can_send();
        // A legacy hub frees the agent with a verdict only after `task_accepted` on the same connection; otherwise it
        // assigns nothing more until its acceptance timer has run out. With a job in hand or while leaving, that can
        // wait.
        let legacy_hub = machine.connection.is_legacy_hub();
        let named = machine.connection.names_generations();
        let accept_again = legacy_hub && matches!(machine.state, State::Idle);
        if let Some(head) = machine.outbox.head_mut()
            && can_send
            && head.is_open()
            && head.sent.is_due(self.now)
            && machine.durable.outbox.contains(&head.verdict)
        {
            head.sent = Pending::Sent { again_at };
            head.times_sent = head.times_sent.saturating_add(1);
            if head.verdict.accept_first || (accept_again && !head.accepted_here) {
                let (task_id, generation) = (head.verdict.task_id.clone(), named.then_some(head.verdict.generation));
                self.effects.push(Effect::Send(ToHub::TaskAccepted { task_id, generation }));
                // `task_accepted` names no generation: a legacy hub applies it to its present assignment of the task.
                head.accepted_here = legacy_hub;
            }
            self.effects.push(Effect::Send(verdict_message(&head.verdict)));
        }
    }

    /// Sends `identify` again if the sidecar is idle and a legacy hub counts it as at work.
    fn flush_hub_view(&mut self) {
        let idle = matches!(self.machine.state, State::Idle) && self.machine.outbox.is_empty();
        let can_send = self.machine.connection.can_send();
        if let Connection::Online(online) = &mut self.machine.connection
            && idle
            && can_send
            && online.hub_view == HubView::AtWork
        {
            online.hub_view = HubView::ToldAgain;
            let identify = self.identify_message();
            self.order(Effect::Send(identify));
        }
    }

    /// Dials if a connection is wanted and the dial is due.
    fn flush_connection(&mut self) {
        if let Connection::Down { retry_at, attempt, firm: _ } = self.machine.connection
            && self.machine.wants_connection()
            && retry_at <= self.now
        {
            let give_up_at = self.now.plus(self.policy.connect_timeout_ms);
            self.machine.connection = Connection::Dialing { give_up_at, attempt };
            self.order(Effect::Dial);
        }
    }

    /// Orders a journal write if the journal differs from the one on disk, or if a failed write is due again.
    fn flush_journal(&mut self) {
        if let State::Exiting { .. } = self.machine.state {
            return;
        }
        let failing = match self.machine.disk {
            Disk::Ready => false,
            Disk::Failing { retry_at } if retry_at <= self.now => true,
            Disk::Failing { .. } | Disk::Writing { .. } => return,
        };
        let journal = Box::new(self.machine.journal());
        if failing || *journal != self.machine.durable {
            self.machine.disk = Disk::Writing { journal: journal.clone(), failing };
            self.order(Effect::Persist(journal));
        }
    }
}

fn journal_holds(durable: &Journal, job: &Job) -> bool {
    let task = job.task();
    durable.job.as_ref().is_some_and(|c| c.task.id == task.id && c.task.generation == task.generation)
}

fn verdict_message(verdict: &Verdict) -> ToHub {
    let (task_id, generation) = (verdict.task_id.clone(), verdict.generation);
    match &verdict.outcome {
        Outcome::Completed { result } => ToHub::TaskComplete { task_id, generation, result: result.clone() },
        Outcome::Failed { reason } => ToHub::TaskFailed {
            task_id: alloc::string::ToString::to_string(&task_id),
            generation,
            reason: reason.clone(),
        },
    }
}
