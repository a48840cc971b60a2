//! The one way through: an event in, a machine and a list of effects out.

use alloc::vec::Vec;

use super::effect::Effect;
use super::event::Event;
use super::journal::Disk;
use super::link::{Heartbeat, Link};
use super::policy::Policy;
use super::state::{DrainStep, State};
use super::time::Timestamp;
use super::{Machine, effect::ToHub};

/// What `event`, at `now`, does to `machine`. Pure and total: every event is defined in every state.
///
/// 1. The event is applied.
/// 2. Whatever is thereby possible, due or necessary is ordered ("settling"): what the gates of durability, link and
///    rate let through, and a `Persist` when what must survive differs from what is on disk.
pub fn transition(machine: Machine, event: Event, now: Timestamp, policy: &Policy) -> (Machine, Vec<Effect>) {
    if let State::Exiting { .. } = machine.state {
        return (machine, Vec::new());
    }
    let mut step = Step { machine, now, policy, effects: Vec::new() };
    match event {
        Event::DeadlineReached => step.deadline_reached(),
        Event::HubOpened => step.hub_opened(),
        Event::HubClosed { retry_after_ms, jitter, refusal } => {
            if !matches!(step.machine.link, Link::Down { .. }) {
                if let Some(error) = refusal {
                    step.count_refusal(error);
                }
                step.machine.link = step.machine.link.after_close(retry_after_ms, jitter, now, policy);
                step.link_lost();
            }
        }
        Event::HubSaid(said) => step.hub_said(said),
        Event::WakeFinished { task_id, generation, attempt, outcome } => {
            step.wake_finished(&task_id, generation, attempt, outcome);
        }
        Event::Confirmed { task_id } => step.confirmed(&task_id),
        Event::ResultFound { task_id, outcome } => step.result_found(&task_id, outcome),
        Event::ResultReviewed { number, outcome } => step.result_reviewed(number, outcome),
        Event::ResultsLookedFor { number } => step.results_looked_for(number),
        Event::StopRequested { signal } => step.stop_requested(signal),
        Event::RestartRequested { order, to } => step.restart_commanded(order, to),
        Event::RestartCancelRequested { to } => step.restart_cancelled(to),
        Event::CordonRequested { on, to } => step.cordon_requested(on, to),
        Event::NextRunChecked { number, comeback, no_return } => step.next_run_checked(number, comeback, no_return),
        Event::NewsOffered(news) => step.news_offered(news),
        Event::Persisted => step.persisted(),
        Event::PersistFailed => step.persist_failed(),
        Event::RefusedResultWritten { task_id, generation, path } => {
            step.refused_result_written(&task_id, generation, path);
        }
    }
    step.settle();
    (step.machine, step.effects)
}

/// The first effects of a process.
pub(super) fn begin(machine: Machine, now: Timestamp, policy: &Policy) -> (Machine, Vec<Effect>) {
    let mut step = Step { machine, now, policy, effects: Vec::new() };
    step.settle();
    (step.machine, step.effects)
}

/// One transition under way.
pub(super) struct Step<'a> {
    pub(super) machine: Machine,
    pub(super) now: Timestamp,
    pub(super) policy: &'a Policy,
    pub(super) effects: Vec<Effect>,
}

impl Step<'_> {
    /// Orders `effect` after those ordered so far.
    pub(super) fn order(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// Names the next question.
    pub(super) fn next_question(&mut self) -> u32 {
        self.machine.questions = self.machine.questions.wrapping_add(1);
        self.machine.questions
    }

    /// Says something if the hub knows us on this connection; what is lost otherwise is news, not an obligation.
    pub(super) fn say_if_online(&mut self, what: ToHub) {
        if self.machine.link.online().is_some() {
            self.order(Effect::Send(what));
        }
    }

    fn hub_opened(&mut self) {
        if let Link::Dialing { attempt, .. } = self.machine.link {
            let give_up_at = self.now.plus(self.policy.identify_timeout_ms);
            self.machine.link = Link::Identifying { give_up_at, attempt };
            let identify = self.identify();
            self.order(Effect::Send(identify));
        }
    }

    fn persisted(&mut self) {
        match core::mem::replace(&mut self.machine.disk, Disk::Ready) {
            Disk::Writing { journal, failing } => {
                self.machine.durable = *journal;
                if failing {
                    self.order(Effect::Notify(super::Notice::JournalRecovered));
                    let status = self.machine.presence().into();
                    self.say_if_online(ToHub::Status { status });
                }
            }
            other @ (Disk::Ready | Disk::Failing { .. }) => self.machine.disk = other,
        }
    }

    fn persist_failed(&mut self) {
        if let Disk::Writing { failing, .. } = self.machine.disk {
            self.machine.disk = Disk::Failing { retry_at: self.now.plus(self.policy.persist_retry_ms) };
            if !failing {
                self.order(Effect::Notify(super::Notice::JournalFailing));
                // Both kinds of hub show it: whoever looks there need not read this machine's log to see it.
                let status = "unwell: the sidecar cannot write its journal (disk full or read-only?)".into();
                self.say_if_online(ToHub::Status { status });
            }
            self.refuse_what_was_not_journalled();
        }
    }

    /// Whatever waits for this moment. What waits to be said again or written again is the settling's business.
    fn deadline_reached(&mut self) {
        // BEFORE a link that is given up: whoever waits is told on it.
        self.check_deadline();
        self.link_deadline();
        self.job_deadline();
        self.review_deadline();
        match &self.machine.state {
            State::RestartPending { deadline, .. } if *deadline <= self.now => self.leave_work_behind(),
            State::Draining { deadline, step, .. } if *deadline <= self.now => {
                // Called too late to wait for the close frame, not too late for the last words.
                if (*step, self.machine.link.online().is_some()) == (DrainStep::Flushing, true) {
                    self.say_goodbye();
                }
                self.exit();
            }
            State::Idle
            | State::Working { .. }
            | State::RestartPending { .. }
            | State::Draining { .. }
            | State::Exiting { .. } => {}
        }
    }

    fn link_deadline(&mut self) {
        let now = self.now;
        match &mut self.machine.link {
            Link::Dialing { give_up_at, attempt } | Link::Identifying { give_up_at, attempt } if *give_up_at <= now => {
                let attempt = *attempt;
                self.close_link(super::CloseCode::Unusable, attempt, false);
            }
            Link::Online(online) => {
                if online.limited_until.is_some_and(|until| until <= now) {
                    online.limited_until = None;
                }
                match online.heartbeat {
                    Heartbeat::Due { at } if at <= now => {
                        online.heartbeat =
                            Heartbeat::Sent { at: now, answer_by: now.plus(self.policy.pong_timeout_ms) };
                        self.order(Effect::Send(ToHub::Ping));
                    }
                    Heartbeat::Sent { answer_by, .. } if answer_by <= now => {
                        let attempt = online.attempt;
                        self.close_link(super::CloseCode::Unusable, attempt, false);
                    }
                    Heartbeat::Due { .. } | Heartbeat::Sent { .. } => {}
                }
            }
            Link::Down { .. } | Link::Dialing { .. } | Link::Identifying { .. } | Link::Closing { .. } => {}
        }
    }

    /// Starts the closing handshake; the adapter answers with `HubClosed`.
    pub(super) fn close_link(&mut self, code: super::CloseCode, attempt: u32, refused: bool) {
        self.machine.link = Link::Closing { attempt, refused };
        self.order(Effect::CloseLink(code));
    }

    /// The connection is gone: nothing said on it is known to have arrived unless it was answered.
    fn link_lost(&mut self) {
        self.machine.outbox.link_lost(self.now, self.policy);
        self.machine.held = None;
        if let Some(job) = self.machine.state.job_mut() {
            job.link_lost();
        }
        if let State::Draining { step, .. } = &self.machine.state {
            match step {
                DrainStep::Closing => self.said_everything(),
                DrainStep::Flushing => self.hasten_redial(),
                DrainStep::Checking => {}
            }
        }
    }
}
