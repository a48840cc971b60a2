//! Restart commands, stop signals, and the way out.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};

use super::effect::{CloseCode, Effect, Notice, RejectReason, RestartAnswer, ReturnedFrom, ToHub};
use super::job::Carried;
use super::link::Link;
use super::policy::Comeback;
use super::restarts::RestartOrder;
use super::seeded::seeded;
use super::state::{Cause, DrainStep, State, StopSignal};
use super::time::Timestamp;
use super::transition::Step;

/// No task holds a restart up for longer than a day, whatever the command says.
const MAX_RESTART_DEADLINE_MS: u64 = 86_400_000;

/// What a hub is told of a restart that was taken back.
const CANCELLED: &str = "cancelled on the sidecar's machine";

/// Between dials while the last words wait for a connection.
const DRAIN_REDIAL_MS: u64 = 250;

impl Step<'_> {
    /// A restart command, from the hub or from this machine.
    pub(super) fn restart_commanded(&mut self, order: &RestartOrder) {
        match &self.machine.state {
            State::Idle | State::Working { .. } => {
                if self.machine.restarts.was_cancelled(order.command_id.as_deref()) {
                    self.answer_restart(order, RestartAnswer::Refused { detail: CANCELLED.into() });
                } else if self.machine.restarts.knows(order.command_id.as_deref()) {
                    self.answer_restart(order, RestartAnswer::Duplicate);
                } else if let Some(wait_ms) = self.machine.restarts.too_many(self.now, self.policy.restart_intensity) {
                    self.refuse_restart(order, self.too_many(wait_ms));
                } else if let Some(why) = &self.policy.no_return {
                    self.refuse_restart(order, why.clone());
                } else {
                    self.accept_restart(order);
                }
            }
            State::RestartPending { .. } => {
                self.answer_restart(order, RestartAnswer::Duplicate);
                self.machine.restarts.note(order.command_id.as_deref());
                if seeded!(self.policy, DeadlineMovedByRepeat)
                    && let State::RestartPending { deadline, .. } = &mut self.machine.state
                {
                    *deadline = self.now.plus(self.policy.restart_deadline_ms);
                }
                if order.force && !seeded!(self.policy, ForceIgnored) {
                    self.leave_work_behind();
                }
            }
            State::Draining { cause: Cause::Restart { .. }, .. } => {
                self.answer_restart(order, RestartAnswer::Duplicate);
                self.machine.restarts.note(order.command_id.as_deref());
            }
            State::Draining { cause: Cause::Stop { signal }, .. } => {
                let detail = format!("the sidecar is stopping ({signal})");
                self.answer_restart(order, RestartAnswer::Refused { detail });
            }
            State::Exiting { .. } => {}
        }
    }

    fn accept_restart(&mut self, order: &RestartOrder) {
        let limit = self.policy.restart_intensity;
        self.machine.restarts.accept(order, self.now, limit);
        let deadline_ms = order.deadline_ms.unwrap_or(self.policy.restart_deadline_ms).min(MAX_RESTART_DEADLINE_MS);
        self.answer_restart(order, RestartAnswer::Accepted { deadline_ms });
        if let (true, Some(restart)) = (seeded!(self.policy, AnnouncedTwice), self.machine.restarts.open.clone()) {
            self.say_if_online(ToHub::AgentRestarting { restart, task_id: None, long_form: true });
        }
        match core::mem::replace(&mut self.machine.state, State::Idle) {
            State::Working { job } if !order.force => {
                let deadline = self.now.plus(deadline_ms);
                self.machine.state = State::RestartPending { job, order: order.clone(), deadline };
                self.refuse_held(RejectReason::Restarting);
            }
            State::Working { job } => {
                let cause = Cause::Restart { order: order.clone(), forced: true, signalled: false };
                self.drain(cause, Some(job.carried));
            }
            State::Idle | State::RestartPending { .. } | State::Draining { .. } | State::Exiting { .. } => {
                self.drain(Cause::Restart { order: order.clone(), forced: false, signalled: false }, None);
            }
        }
    }

    /// The task in hand goes on as if there had been no command. Once the sidecar leaves it is too late.
    pub(super) fn restart_cancelled(&mut self) {
        match core::mem::replace(&mut self.machine.state, State::Idle) {
            State::RestartPending { job, order, .. } => {
                self.machine.state = State::Working { job };
                self.machine.restarts.cancel();
                self.order(Effect::Notify(Notice::RestartCancelled { reason: order.reason.clone() }));
                self.answer_restart(&order, RestartAnswer::Refused { detail: CANCELLED.into() });
                if self.machine.link.online().is_some_and(|online| !online.features.restart_v2) {
                    let state = self.machine.state.work_status();
                    self.order(Effect::Send(ToHub::Status { status: format!("{state} (restart {CANCELLED})") }));
                }
            }
            state @ (State::Idle | State::Working { .. } | State::Draining { .. } | State::Exiting { .. }) => {
                self.machine.state = state;
            }
        }
    }

    fn too_many(&self, wait_ms: u64) -> String {
        let limit = self.policy.restart_intensity;
        format!(
            "restart intensity: already {} commanded restarts within {} s, the next one is possible in {} s",
            limit.max,
            limit.window_ms / 1_000,
            wait_ms.div_ceil(1_000)
        )
    }

    fn refuse_restart(&mut self, order: &RestartOrder, detail: String) {
        self.order(Effect::Notify(Notice::RestartRefused { reason: order.reason.clone(), detail: detail.clone() }));
        if self.machine.link.online().is_some_and(|online| !online.features.restart_v2) {
            let state = self.machine.state.work_status();
            self.order(Effect::Send(ToHub::Status { status: format!("{state} (restart refused: {detail})") }));
        }
        self.answer_restart(order, RestartAnswer::Refused { detail });
    }

    fn answer_restart(&mut self, order: &RestartOrder, answer: RestartAnswer) {
        let knows = self.machine.link.online().is_some_and(|online| online.features.restart_v2);
        if let (true, Some(command_id)) = (knows, order.command_id.clone()) {
            self.order(Effect::Send(ToHub::RestartAck { command_id, answer }));
        }
    }

    /// The deadline, or `force`: the restart happens now; the journal keeps the job.
    pub(super) fn leave_work_behind(&mut self) {
        match core::mem::replace(&mut self.machine.state, State::Idle) {
            State::RestartPending { job, order, .. } => {
                self.drain(Cause::Restart { order, forced: true, signalled: false }, Some(job.carried));
            }
            state @ (State::Idle | State::Working { .. } | State::Draining { .. } | State::Exiting { .. }) => {
                self.machine.state = state;
            }
        }
    }

    pub(super) fn stop_requested(&mut self, signal: StopSignal) {
        let budget = self.now.plus(self.policy.stop_budget_ms);
        match core::mem::replace(&mut self.machine.state, State::Idle) {
            State::Idle => self.drain(Cause::Stop { signal }, None),
            State::Working { job } | State::RestartPending { job, .. } => {
                let left = (!seeded!(self.policy, StopDropsTheJob)).then_some(job.carried);
                self.drain(Cause::Stop { signal }, left);
            }
            State::Draining { cause: Cause::Restart { order, forced, signalled: false }, deadline, step, left } => {
                self.machine.state = State::Draining {
                    cause: Cause::Restart { order, forced, signalled: true },
                    deadline: deadline.min(budget),
                    step,
                    left,
                };
            }
            state @ State::Draining { cause: Cause::Restart { signalled: true, .. } | Cause::Stop { .. }, .. } => {
                self.machine.state = state;
                self.exit();
            }
            state @ State::Exiting { .. } => self.machine.state = state,
        }
    }

    /// No new work from here on. `left` is what is left under way.
    pub(super) fn drain(&mut self, cause: Cause, left: Option<Carried>) {
        let forced = left.is_some();
        let deadline = self.now.plus(match &cause {
            Cause::Restart { .. } => self.policy.drain_deadline_ms,
            Cause::Stop { .. } => self.policy.stop_budget_ms,
        });
        if let Some(open) = &mut self.machine.restarts.open {
            open.forced = forced;
            open.leaving_at = Some(self.now);
        }
        self.machine.state = State::Draining { cause, deadline, step: DrainStep::Flushing, left };
        self.refuse_held(RejectReason::Restarting);
        if let Link::Down { retry_at, firm: false, .. } = &mut self.machine.link {
            *retry_at = self.now;
        }
    }

    /// The link was lost before the last words: they are still owed, and time is short.
    pub(super) fn hasten_redial(&mut self) {
        if let Link::Down { retry_at, firm: false, .. } = &mut self.machine.link {
            *retry_at = (*retry_at).min(self.now.plus(DRAIN_REDIAL_MS));
        }
    }

    /// When the last words are said whatever is still unanswered: the closing handshake needs the rest.
    pub(super) fn flush_deadline(&self, deadline: Timestamp) -> Timestamp {
        deadline.minus(self.policy.close_budget_ms)
    }

    /// The drain's next step, where it is possible or due.
    pub(super) fn settle_drain(&mut self) {
        let State::Draining { cause, deadline, step: DrainStep::Flushing, .. } = &self.machine.state else { return };
        let flush_over = self.flush_deadline(*deadline) <= self.now;
        let on_disk = self.machine.journal() == self.machine.durable;
        let may_wait_for_hub = match cause {
            Cause::Restart { .. } => true,
            Cause::Stop { .. } => false,
        };
        match &self.machine.link {
            Link::Online(_)
                if (flush_over && !seeded!(self.policy, DrainWithoutEnd))
                    || (on_disk && self.machine.outbox.is_empty()) =>
            {
                self.say_goodbye()
            }
            Link::Online(_) => {}
            Link::Down { .. } | Link::Dialing { .. } | Link::Identifying { .. } | Link::Closing { .. } => {
                if flush_over || (on_disk && !may_wait_for_hub) {
                    self.exit();
                }
            }
        }
    }

    /// The last words, then the close frame: `agent_restarting` is said here and nowhere else.
    pub(super) fn say_goodbye(&mut self) {
        let State::Draining { cause, step, left, .. } = &mut self.machine.state else { return };
        *step = DrainStep::Closing;
        let task_id = left.as_ref().map(|carried| carried.task.id.clone());
        let restarting = matches!(cause, Cause::Restart { .. });
        let long_form = self.machine.link.online().is_some_and(|online| online.features.restart_v2);
        let announced = restarting && !seeded!(self.policy, NeverAnnounced);
        if let (true, Some(restart)) = (announced, self.machine.restarts.open.clone()) {
            let status = restarting_status(&restart.reason);
            self.order(Effect::Send(ToHub::AgentRestarting { restart, task_id, long_form }));
            if !long_form {
                self.order(Effect::Send(ToHub::Status { status }));
            }
        }
        let attempt = self.machine.link.attempt();
        let code = if restarting { CloseCode::Restarting } else { CloseCode::Stopping };
        self.close_link(code, attempt, false);
        if seeded!(self.policy, ExitBeforeClose) {
            self.exit();
        }
    }

    /// The end. What must survive is written once more if it is not on disk, then the process goes.
    pub(super) fn exit(&mut self) {
        match core::mem::replace(&mut self.machine.state, State::Idle) {
            State::Draining { cause, left, .. } => {
                self.machine.state = State::Exiting { cause: cause.clone(), left };
                let journal = self.machine.journal();
                if journal != self.machine.durable {
                    self.order(Effect::Persist(Box::new(journal)));
                }
                let in_place = match (&cause, self.policy.comeback) {
                    (Cause::Restart { signalled: false, .. }, Comeback::InPlace) => true,
                    (Cause::Restart { .. } | Cause::Stop { .. }, Comeback::InPlace | Comeback::Supervisor) => false,
                };
                self.order(Effect::Exit { cause, in_place });
            }
            state @ (State::Idle | State::Working { .. } | State::RestartPending { .. } | State::Exiting { .. }) => {
                self.machine.state = state
            }
        }
    }

    /// The first words on a connection.
    pub(super) fn identify(&self) -> ToHub {
        let status = match &self.machine.state {
            State::Draining { cause: Cause::Restart { order, .. }, .. } => restarting_status(&order.reason),
            State::Draining { cause: Cause::Stop { .. }, .. } => "stopping".to_string(),
            State::Idle | State::Working { .. } | State::RestartPending { .. } | State::Exiting { .. } => {
                // A task in hand is the hub's to know; it asks no one's presence for it.
                if self.machine.cordon.is_on() { self.machine.presence() } else { "idle" }.to_string()
            }
        };
        let restarted = self.machine.restarts.returned.as_ref().map(|returned| ReturnedFrom {
            restart: returned.restart.clone(),
            gap_ms: returned.restart.leaving_at.map_or(0, |at| self.now.since(at)),
        });
        ToHub::Identify { status, restarted }
    }
}

fn restarting_status(reason: &str) -> String {
    format!("restarting: {reason}")
}
