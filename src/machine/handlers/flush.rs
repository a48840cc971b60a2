//! What follows from where the machine stands: everything that the gates of durability, link and rate let through now.

use alloc::boxed::Box;

use crate::machine::model::connection::{Link, Standing};
use crate::machine::model::cordon::Cordon;
use crate::machine::model::effect::{Effect, ToHub};
use crate::machine::model::job::{Claim, Job, Saying, Stage};
use crate::machine::model::journal::{Disk, Journal};
use crate::machine::model::machine::HeldAssignment;
use crate::machine::model::outbox::Verdict;
use crate::machine::model::state::{Cause, DrainStep, State};
use crate::machine::model::task::Outcome;
use crate::machine::step::Step;

impl Step<'_> {
    /// Orders whatever is possible, due or necessary now. Settling twice orders nothing more than settling once.
    pub(in crate::machine) fn settle(&mut self) {
        // `Exit` is the last effect ever.
        if let State::Exiting { .. } = self.machine.state {
            return;
        }
        self.settle_held();
        self.settle_job();
        self.settle_outbox();
        self.settle_drain();
        self.settle_cordon();
        self.settle_standing();
        self.settle_link();
        self.settle_disk();
        self.settle_refused_results();
        self.settle_replies();
    }

    /// An assignment that waited is taken or refused once nothing is open any more.
    fn settle_held(&mut self) {
        let in_question = self.machine.state.job().is_some_and(Job::is_in_question);
        if !self.machine.state.is_leaving() && (self.machine.check.is_some() || in_question) {
            return;
        }
        if let Some(HeldAssignment { task, assigned_at }) = self.machine.held.take() {
            self.assigned(task, assigned_at);
        }
    }

    fn settle_job(&mut self) {
        self.drop_idle_look();
        let can_say = self.machine.link.can_say();
        let (now, policy) = (self.now, self.policy);
        let again_at = now.plus(policy.answer_timeout_ms);
        let durable = &self.machine.durable;
        let Some(job) = self.machine.state.job_mut() else { return };
        let in_journal = journal_holds(durable, job);
        let mut orders = alloc::vec::Vec::new();
        match &mut job.claim {
            Claim::Recovering { ask } => {
                if can_say && ask.is_due(now) {
                    *ask = Saying::Said { again_at };
                    let (task, last_status) = (job.carried.task.clone(), job.carried.stage.wire_status());
                    orders.push(Effect::Send(ToHub::TaskRecovering { task, last_status }));
                }
            }
            Claim::Ours { report: Some(report), .. } => {
                if can_say && report.again_at <= now {
                    report.again_at = again_at;
                    orders.push(Effect::Send(ToHub::StateReport {
                        task_id: job.carried.task.id.clone(),
                        generation: report.generation,
                        status: job.carried.stage.wire_status(),
                        assigned_at: job.carried.assigned_at,
                    }));
                }
            }
            Claim::Ours { accept, report: None } => {
                if can_say && in_journal && accept.is_due(now) {
                    *accept = Saying::Said { again_at };
                    orders.push(Effect::Send(ToHub::TaskAccepted { task_id: job.carried.task.id.clone() }));
                }
                // The hub has heard that the task is ours: now it may start.
                if job.carried.stage == Stage::Accepted && in_journal && *accept != Saying::Unsaid {
                    job.start_waking(1);
                }
            }
        }
        if let Stage::Waking { attempt } = job.carried.stage
            && !job.wake_ordered
            && !job.is_recovering()
            && durable.job.as_ref() == Some(&job.carried)
        {
            job.wake_ordered = true;
            orders.push(Effect::Wake { task: job.carried.task.clone(), attempt });
        }
        if can_say && !job.is_recovering() && job.progress_at <= now {
            job.progress_at = now.plus(policy.progress_interval_ms);
            orders.push(Effect::Send(ToHub::TaskProgress { task_id: job.carried.task.id.clone() }));
        }
        self.effects.append(&mut orders);
    }

    fn settle_outbox(&mut self) {
        self.settle_refusal();
        let again_at = self.now.plus(self.policy.answer_timeout_ms);
        let machine = &mut self.machine;
        let carried = machine.state.carried().map(|carried| &carried.task.id);
        let shelf = &machine.shelf;
        for pending in machine.outbox.pending_mut() {
            if !pending.cleaned && machine.durable.outbox.contains(&pending.verdict) {
                pending.cleaned = true;
                let task_id = &pending.verdict.task_id;
                // Files of a task that is in hand again belong to the work on it.
                let in_use = carried == Some(task_id) || shelf.items().iter().any(|item| item.task_id() == task_id);
                if !in_use {
                    self.effects.push(Effect::CleanUp { task_id: task_id.clone() });
                }
            }
        }
        if machine.link.can_say() {
            machine.outbox.let_others_go_first(self.now);
        }
        machine.outbox.take_turns(self.now);
        let can_say = machine.link.can_say();
        // An existing hub lets the agent go with a verdict only after it has heard `task_accepted` on the same
        // connection; else it gives nothing more before its acceptance timer has run out. Who has a job or leaves can wait.
        let forgets = machine.link.online().is_some_and(|online| !online.features.restart_v2);
        let accept_again = forgets && matches!(machine.state, State::Idle);
        if let Some(head) = machine.outbox.head_mut()
            && can_say
            && head.is_open()
            && head.said.is_due(self.now)
            && machine.durable.outbox.contains(&head.verdict)
        {
            head.said = Saying::Said { again_at };
            head.times_said = head.times_said.saturating_add(1);
            if head.verdict.accept_first || (accept_again && !head.accepted_here) {
                self.effects.push(Effect::Send(ToHub::TaskAccepted { task_id: head.verdict.task_id.clone() }));
                // It names no generation: an existing hub takes it for whichever hand-out it counts on now.
                head.accepted_here = forgets;
            }
            self.effects.push(Effect::Send(say_verdict(&head.verdict)));
        }
    }

    /// Idle, and the hub thinks otherwise.
    fn settle_standing(&mut self) {
        let idle = matches!(self.machine.state, State::Idle) && self.machine.outbox.is_empty();
        let can_say = self.machine.link.can_say();
        if let Link::Online(online) = &mut self.machine.link
            && idle
            && can_say
            && online.standing == Standing::AtWork
        {
            online.standing = Standing::ToldAgain;
            let identify = self.identify();
            self.order(Effect::Send(identify));
        }
    }

    fn settle_link(&mut self) {
        let wanted = match &self.machine.state {
            State::Idle => self.machine.cordon != Cordon::Away,
            State::Working { .. } | State::RestartPending { .. } => true,
            State::Draining { cause: Cause::Restart { .. }, step: DrainStep::Flushing, .. } => true,
            State::Draining { .. } | State::Exiting { .. } => false,
        };
        if let Link::Down { retry_at, attempt, firm: _ } = self.machine.link
            && wanted
            && retry_at <= self.now
        {
            let give_up_at = self.now.plus(self.policy.connect_timeout_ms);
            self.machine.link = Link::Dialing { give_up_at, attempt };
            self.order(Effect::Dial);
        }
    }

    fn settle_disk(&mut self) {
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

fn say_verdict(verdict: &Verdict) -> ToHub {
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
