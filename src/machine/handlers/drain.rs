//! Stop signals, the drain and the exit.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};

use crate::machine::model::connection::Connection;
use crate::machine::model::effect::{CloseCode, Effect, ToHub};
use crate::machine::model::job::PersistedJob;
use crate::machine::model::notice::ReturnedFrom;
use crate::machine::model::restart_ledger::{RestartOrder, Returned};
use crate::machine::model::state::{Cause, DrainStep, NextRun, State, StopSignal};
use crate::machine::step::Step;

/// The delay in ms before the next dial while the goodbye waits for a connection.
const DRAIN_REDIAL_MS: u64 = 250;

impl Step<'_> {
    /// Begins the pending restart now, at its deadline or by `force`; the journal keeps the job.
    pub(in crate::machine) fn leave_work_behind(&mut self) {
        match core::mem::replace(&mut self.machine.state, State::Idle) {
            State::RestartPending { job, order, .. } => {
                self.drain_for_restart(order, Some(job.persisted));
            }
            state @ (State::Idle | State::Working { .. } | State::Draining { .. } | State::Exiting { .. }) => {
                self.machine.state = state;
            }
        }
    }

    /// Handles a stop signal: the first one drains, the second one exits at once.
    pub(in crate::machine) fn stop_requested(&mut self, signal: StopSignal) {
        let budget = self.now.plus(self.policy.stop_budget_ms);
        self.refuse_check_for_stop(signal);
        match core::mem::replace(&mut self.machine.state, State::Idle) {
            State::Idle => self.drain(Cause::Stop { signal }, None),
            State::Working { job } | State::RestartPending { job, .. } => {
                self.drain(Cause::Stop { signal }, Some(job.persisted));
            }
            State::Draining {
                cause: Cause::Restart { order, forced, signalled: false, next_run },
                deadline,
                step,
                left_behind,
            } => {
                self.machine.state = State::Draining {
                    cause: Cause::Restart { order, forced, signalled: true, next_run },
                    deadline: deadline.min(budget),
                    step,
                    left_behind,
                };
            }
            state @ State::Draining { cause: Cause::Restart { signalled: true, .. } | Cause::Stop { .. }, .. } => {
                self.machine.state = state;
                self.exit();
            }
            state @ State::Exiting { .. } => self.machine.state = state,
        }
    }

    /// Begins the drain for a restart and checks the next run again, because the answer to the command may be hours
    /// old.
    pub(in crate::machine) fn drain_for_restart(&mut self, order: RestartOrder, left_behind: Option<PersistedJob>) {
        let number = self.next_question();
        self.order(Effect::CheckNextRun { number, leaving: true });
        let (forced, next_run) = (left_behind.is_some(), NextRun::Asked { number });
        self.drain(Cause::Restart { order, forced, signalled: false, next_run }, left_behind);
    }

    /// Begins the drain: no new work is taken. `left` is the job that is left under way.
    fn drain(&mut self, cause: Cause, left_behind: Option<PersistedJob>) {
        let forced = left_behind.is_some();
        let deadline = self.now.plus(match &cause {
            Cause::Restart { .. } => self.policy.drain_deadline_ms,
            Cause::Stop { .. } => self.policy.stop_budget_ms,
        });
        if let Some(open) = &mut self.machine.restarts.open {
            open.forced = forced;
            open.leaving_at = Some(self.now);
        }
        self.machine.state = State::Draining { cause, deadline, step: DrainStep::Flushing, left_behind };
        if let Connection::Down { retry_at, firm: false, .. } = &mut self.machine.connection {
            *retry_at = self.now;
        }
    }

    /// Brings the next dial forward, because the goodbye is still to be sent and the drain is short.
    pub(in crate::machine) fn hasten_redial(&mut self) {
        if let Connection::Down { retry_at, firm: false, .. } = &mut self.machine.connection {
            *retry_at = (*retry_at).min(self.now.plus(DRAIN_REDIAL_MS));
        }
    }

    /// Takes the drain's next step if it is possible or due.
    pub(in crate::machine) fn flush_drain(&mut self) {
        let State::Draining { cause, deadline, step, .. } = &self.machine.state else { return };
        match step {
            DrainStep::Flushing => {}
            DrainStep::Closing => return,
            // A dial that was in progress has succeeded.
            DrainStep::Checking if self.machine.connection.online().is_some() => return self.say_goodbye(),
            DrainStep::Checking => return self.finish_drain(),
        }
        let flush_over = self.policy.flush_deadline(*deadline) <= self.now;
        let on_disk = self.machine.is_on_disk();
        let may_wait_for_hub = match cause {
            Cause::Restart { .. } => true,
            Cause::Stop { .. } => false,
        };
        match &self.machine.connection {
            Connection::Online(online) => {
                let all_said = on_disk && self.machine.outbox.is_empty() && !online.awaits_assignment(self.now);
                if flush_over || all_said {
                    self.say_goodbye();
                }
            }
            Connection::Down { .. }
            | Connection::Dialing { .. }
            | Connection::Identifying { .. }
            | Connection::Closing { .. } => {
                if flush_over || (on_disk && !may_wait_for_hub) {
                    self.finish_drain();
                }
            }
        }
    }

    /// Sends the goodbye, then the close frame. `agent_restarting` is sent here and nowhere else.
    pub(in crate::machine) fn say_goodbye(&mut self) {
        let State::Draining { cause, step, left_behind, .. } = &mut self.machine.state else { return };
        *step = DrainStep::Closing;
        let task_id = left_behind.as_ref().map(|persisted| persisted.task.id.clone());
        let restarting = matches!(cause, Cause::Restart { .. });
        let long_form = self.machine.connection.online().is_some_and(|online| online.features.restart_v2);
        if let (true, Some(restart)) = (restarting, self.machine.restarts.open.clone()) {
            let status = restarting_status(&restart.reason);
            self.order(Effect::Send(ToHub::AgentRestarting { restart, task_id, long_form }));
            if !long_form {
                self.order(Effect::Send(ToHub::Status { status }));
            }
        }
        let attempt = self.machine.connection.attempt(self.now);
        let code = if restarting { CloseCode::Restarting } else { CloseCode::Stopping };
        self.close_connection(code, attempt, false);
    }

    /// Ends the process once it is known what follows it; there is nothing more to send.
    pub(in crate::machine) fn finish_drain(&mut self) {
        let State::Draining { cause, step, .. } = &mut self.machine.state else { return };
        if cause.awaits_check() {
            *step = DrainStep::Checking;
        } else {
            self.exit();
        }
    }

    /// Ends the process. The journal is written first if it differs from the one on disk.
    pub(in crate::machine) fn exit(&mut self) {
        match core::mem::replace(&mut self.machine.state, State::Idle) {
            State::Draining { cause, left_behind, .. } => {
                self.machine.state = State::Exiting { cause: cause.clone(), left_behind };
                let journal = self.machine.journal();
                let journal_differs = journal != self.machine.durable;
                if journal_differs {
                    self.order(Effect::Persist(Box::new(journal)));
                }
                // Answers that waited for the disk are sent now: the write ordered above is the last.
                self.order_replies(journal_differs);
                let ending = cause.ending();
                self.order(Effect::Exit { cause, ending });
            }
            state @ (State::Idle | State::Working { .. } | State::RestartPending { .. } | State::Exiting { .. }) => {
                self.machine.state = state
            }
        }
    }

    /// Returns the `identify` message, the first one on a connection.
    pub(in crate::machine) fn identify_message(&self) -> ToHub {
        let status = match &self.machine.state {
            State::Draining { cause: Cause::Restart { order, .. }, .. } => restarting_status(&order.reason),
            State::Draining { cause: Cause::Stop { .. }, .. } => "stopping".to_string(),
            State::Idle | State::Working { .. } | State::RestartPending { .. } | State::Exiting { .. } => {
                // The hub knows the task in hand and does not read it from the status.
                if self.machine.cordon.is_on() { self.machine.presence() } else { "idle" }.to_string()
            }
        };
        ToHub::Identify { status, restarted: self.returned_from(), previous_end: self.machine.previous_end }
    }

    /// Returns the restart that this run returned from, until it has been reported to a hub.
    pub(in crate::machine) fn returned_from(&self) -> Option<ReturnedFrom> {
        let Returned { restart } = self.machine.restarts.returned.as_ref()?;
        let gap_ms = restart.leaving_at.map_or(0, |at| self.now.since(at));
        Some(ReturnedFrom { restart: restart.clone(), gap_ms })
    }
}

fn restarting_status(reason: &str) -> String {
    format!("restarting: {reason}")
}
