//! Restart commands and the restart check: would this process be started again, and can the next run start? Nothing is
//! promised before the answer; events that arrive meanwhile are handled.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::machine::model::effect::{Effect, RestartAnswer, ToHub};
use crate::machine::model::notice::Notice;
use crate::machine::model::policy::RestartMethod;
use crate::machine::model::reply::{Answer, Ticket};
use crate::machine::model::restart_check::{PENDING_RESTARTS_CAP, PendingRestart, RestartCheck};
use crate::machine::model::restart_ledger::RestartOrder;
use crate::machine::model::state::{Cause, NextRun, State};
use crate::machine::step::Step;

/// The longest time that a task may delay a restart (one day), whatever the command says.
const MAX_RESTART_DEADLINE_MS: u64 = 86_400_000;

/// The detail sent to the hub for a restart that an operator cancelled.
const CANCELLED: &str = "cancelled on the sidecar's machine";

impl Step<'_> {
    /// Handles a restart command from the hub or from an operator on this machine.
    pub(in crate::machine) fn restart_commanded(&mut self, order: RestartOrder, to: Option<Ticket>) {
        let ask = PendingRestart { order, asked_at: self.now, to };
        match &self.machine.state {
            State::Idle | State::Working { .. } => self.ask_for_restart(ask),
            State::RestartPending { .. } => {
                self.machine.restarts.note(ask.order.command_id.as_deref());
                if ask.order.force {
                    self.answer_ask(
                        &ask,
                        RestartAnswer::Duplicate,
                        Answer::RestartAccepted { after: None, forced: true },
                    );
                    self.leave_work_behind();
                } else {
                    self.answer_ask(&ask, RestartAnswer::Duplicate, Answer::RestartRepeated);
                }
            }
            State::Draining { cause: Cause::Restart { .. }, .. } => {
                self.machine.restarts.note(ask.order.command_id.as_deref());
                self.answer_ask(&ask, RestartAnswer::Duplicate, Answer::Leaving);
            }
            State::Draining { cause: Cause::Stop { signal }, .. } => {
                let detail = stopping_detail(signal);
                self.answer_ask(&ask, RestartAnswer::Refused { detail, retry_after_ms: None }, Answer::Leaving);
            }
            State::Exiting { .. } => {}
        }
    }

    /// Answers a known command at once; opens or joins a check for any other.
    fn ask_for_restart(&mut self, ask: PendingRestart) {
        let id = ask.order.command_id.as_deref();
        let ledger = &self.machine.restarts;
        if ledger.was_cancelled(id) {
            return self.answer_ask(&ask, cancelled(), Answer::Cancelled);
        }
        if ledger.knows(id) {
            return self.answer_ask(&ask, RestartAnswer::Duplicate, Answer::RestartRepeated);
        }
        if let Some(check) = &mut self.machine.check {
            let room = check.commands().count() < PENDING_RESTARTS_CAP;
            return match check.same_command(&ask.order) {
                Some(known) => {
                    known.order.force |= ask.order.force;
                    match known.to {
                        None => known.to = ask.to,
                        Some(_) => self.reply(ask.to, Answer::RestartRepeated),
                    }
                }
                None if room => check.joined.push(ask),
                None => self.refuse_ask(
                    &ask,
                    format!("{PENDING_RESTARTS_CAP} restart commands wait already for one answer"),
                    None,
                ),
            };
        }
        if let Some(wait_ms) = ledger.intensity_wait_ms(self.now, self.policy.restart_intensity) {
            return self.refuse_ask(&ask, self.intensity_refusal(wait_ms), Some(wait_ms));
        }
        let number = self.next_question();
        let deadline = self.now.plus(self.policy.next_run_check_ms);
        self.machine.check = Some(RestartCheck { number, deadline, first: ask, joined: Vec::new() });
        self.order(Effect::CheckNextRun { number, leaving: false });
    }

    /// Handles the answer of the supervisor and of the next program.
    pub(in crate::machine) fn next_run_checked(
        &mut self,
        number: u32,
        restart_method: RestartMethod,
        cannot_start: Option<String>,
    ) {
        if self.machine.check.as_ref().is_some_and(|check| check.number == number) {
            return match cannot_start {
                Some(detail) => self.refuse_check(&detail, None),
                // A config that was reloaded meanwhile may permit fewer restarts.
                None => match self.machine.restarts.intensity_wait_ms(self.now, self.policy.restart_intensity) {
                    Some(wait_ms) => self.refuse_check(&self.intensity_refusal(wait_ms), Some(wait_ms)),
                    None => self.accept_check(),
                },
            };
        }
        if let State::Draining { cause: Cause::Restart { next_run, signalled: false, .. }, .. } =
            &mut self.machine.state
            && *next_run == (NextRun::Asked { number })
        {
            *next_run = NextRun::of(restart_method, cannot_start.is_some());
            if let Some(why) = cannot_start {
                self.order(Effect::Notify(Notice::GoesOnAsItIs { why }));
            }
        }
    }

    /// Accepts the first waiting command and handles the others in the state that follows.
    fn accept_check(&mut self) {
        let Some(RestartCheck { first, joined, .. }) = self.machine.check.take() else { return };
        self.accept_restart(first);
        for ask in joined {
            self.restart_commanded(ask.order, ask.to);
        }
    }

    /// Refuses every waiting command, in order; if only for now, for so long (ms).
    fn refuse_check(&mut self, detail: &str, retry_after_ms: Option<u64>) {
        let Some(RestartCheck { first, joined, .. }) = self.machine.check.take() else { return };
        for ask in core::iter::once(first).chain(joined) {
            self.refuse_ask(&ask, detail.into(), retry_after_ms);
        }
    }

    /// Refuses the commands that wait for a check past its deadline.
    pub(in crate::machine) fn check_deadline(&mut self) {
        if self.machine.check.as_ref().is_some_and(|check| check.deadline <= self.now) {
            let limit = self.policy.next_run_check_ms;
            let detail = format!(
                "whether the next run would start was not found out within {limit} ms (a supervisor or a disk that hangs?)"
            );
            self.refuse_check(&detail, None);
        }
    }

    /// Accepts a restart: drains at once, or after the task in hand.
    fn accept_restart(&mut self, ask: PendingRestart) {
        let PendingRestart { order, asked_at, to } = ask;
        self.machine.restarts.accept(&order, self.now, self.policy.restart_intensity);
        self.order(Effect::Notify(Notice::RestartAccepted {
            reason: order.reason.clone(),
            command_id: order.command_id.clone(),
            by: order.by.clone(),
        }));
        let deadline_ms = order.deadline_ms.unwrap_or(self.policy.restart_deadline_ms).min(MAX_RESTART_DEADLINE_MS);
        let deadline = asked_at.plus(deadline_ms);
        let answer = RestartAnswer::Accepted { deadline_ms: deadline.since(self.now) };
        self.answer_hub(&order, answer);
        let task_id = self.machine.state.job().map(|job| job.task().id.clone());
        self.reply(to, Answer::RestartAccepted { after: task_id.filter(|_| !order.force), forced: order.force });
        match core::mem::replace(&mut self.machine.state, State::Idle) {
            State::Working { job } if !order.force => {
                self.machine.state = State::RestartPending { job, order, deadline };
            }
            State::Working { job } => self.drain_for_restart(order, Some(job.persisted)),
            State::Idle | State::RestartPending { .. } | State::Draining { .. } | State::Exiting { .. } => {
                self.drain_for_restart(order, None);
            }
        }
    }

    /// Cancels a restart that waits for its task or for the check. Once the sidecar is draining it is too late.
    pub(in crate::machine) fn restart_cancelled(&mut self, to: Option<Ticket>) {
        if let Some(RestartCheck { first, joined, .. }) = self.machine.check.take() {
            for ask in core::iter::once(first).chain(joined) {
                self.machine.restarts.note_cancelled(ask.order.command_id.as_deref());
                self.report_cancelled(&ask);
            }
            return self.reply_cancelled(to);
        }
        match core::mem::replace(&mut self.machine.state, State::Idle) {
            State::RestartPending { job, order, .. } => {
                self.machine.state = State::Working { job };
                self.machine.restarts.cancel();
                self.report_cancelled(&PendingRestart { order, asked_at: self.now, to: None });
                self.reply_cancelled(to);
            }
            state @ (State::Idle | State::Working { .. }) => {
                self.machine.state = state;
                self.reply(to, Answer::NoRestartToCancel);
            }
            state @ (State::Draining { .. } | State::Exiting { .. }) => {
                self.machine.state = state;
                self.reply(to, Answer::TooLate);
            }
        }
    }

    fn reply_cancelled(&mut self, to: Option<Ticket>) {
        let after = self.machine.state.job().map(|job| job.task().id.clone());
        self.reply_once_on_disk(to, Answer::RestartCancelled { after });
    }

    fn report_cancelled(&mut self, ask: &PendingRestart) {
        self.order(Effect::Notify(Notice::RestartCancelled { reason: ask.order.reason.clone() }));
        self.report_to_legacy_hub(&format!("restart {CANCELLED}"));
        self.answer_ask(ask, cancelled(), Answer::Cancelled);
    }

    /// Refuses the commands that wait for a check, because the process is stopping.
    pub(in crate::machine) fn refuse_check_for_stop(&mut self, signal: crate::machine::StopSignal) {
        self.refuse_check(&stopping_detail(&signal), None);
    }

    fn intensity_refusal(&self, wait_ms: u64) -> String {
        let limit = self.policy.restart_intensity;
        format!(
            "restart intensity: already {} commanded restarts within {} s, the next one is possible in {} s",
            limit.max,
            limit.window_ms / 1_000,
            wait_ms.div_ceil(1_000)
        )
    }

    /// Refuses a command; if only for now, for so long (ms).
    fn refuse_ask(&mut self, ask: &PendingRestart, detail: String, retry_after_ms: Option<u64>) {
        let reason = ask.order.reason.clone();
        self.order(Effect::Notify(Notice::RestartRefused { reason, detail: detail.clone() }));
        self.report_to_legacy_hub(&format!("restart refused: {detail}"));
        let answer = Answer::RestartRefused { detail: detail.clone() };
        self.answer_ask(ask, RestartAnswer::Refused { detail, retry_after_ms }, answer);
    }

    fn answer_ask(&mut self, ask: &PendingRestart, to_hub: RestartAnswer, to_operator: Answer) {
        self.answer_hub(&ask.order, to_hub);
        self.reply(ask.to, to_operator);
    }

    fn answer_hub(&mut self, order: &RestartOrder, answer: RestartAnswer) {
        let knows = self.machine.connection.online().is_some_and(|online| online.features.restart_v2);
        if let (true, Some(command_id)) = (knows, order.command_id.clone()) {
            self.order(Effect::Send(ToHub::RestartAck { command_id, answer }));
        }
    }

    /// Reports the command's outcome in the agent's status to a hub that does not know `restart_ack`.
    fn report_to_legacy_hub(&mut self, what: &str) {
        if self.machine.connection.is_legacy_hub() {
            let state = self.machine.state.work_status();
            self.order(Effect::Send(ToHub::Status { status: format!("{state} ({what})") }));
        }
    }
}

fn cancelled() -> RestartAnswer {
    RestartAnswer::Refused { detail: CANCELLED.into(), retry_after_ms: None }
}

fn stopping_detail(signal: &crate::machine::StopSignal) -> String {
    format!("the sidecar is stopping ({signal})")
}
