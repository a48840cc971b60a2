//! The transition function: an event in, a machine and a list of effects out.

use alloc::vec::Vec;

use crate::machine::model::connection::Connection;
use crate::machine::model::effect::Effect;
use crate::machine::model::event::Event;
use crate::machine::model::machine::Machine;
use crate::machine::model::policy::Policy;
use crate::machine::model::state::{DrainStep, State};
use crate::machine::model::time::Timestamp;
use crate::machine::step::Step;

/// Applies `event` at `now` to `machine`. Pure and total: every event is defined in every state.
///
/// 1. The event is applied.
/// 2. Everything that is now possible, due or necessary is ordered (the flush): what durability, the connection and the
///    hub's rate limit permit, and a `Persist` when what must survive differs from what is on disk.
pub fn transition(machine: Machine, event: Event, now: Timestamp, policy: &Policy) -> (Machine, Vec<Effect>) {
    if let State::Exiting { .. } = machine.state {
        return (machine, Vec::new());
    }
    let mut step = Step { machine, now, policy, effects: Vec::new() };
    match event {
        Event::DeadlineReached => step.deadline_reached(),
        Event::HubOpened => step.hub_opened(),
        Event::HubClosed { retry_after_ms, jitter, refusal } => {
            if !matches!(step.machine.connection, Connection::Down { .. }) {
                if let Some(error) = refusal {
                    step.count_refusal(error);
                }
                step.machine.connection = step.machine.connection.after_close(retry_after_ms, jitter, now, policy);
                step.connection_lost();
            }
        }
        Event::HubSaid(message) => step.hub_message(message),
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
        Event::NextRunChecked { number, restart_method, cannot_start } => {
            step.next_run_checked(number, restart_method, cannot_start)
        }
        Event::NewsOffered(news) => step.news_offered(news),
        Event::Persisted => step.persisted(),
        Event::PersistFailed => step.persist_failed(),
        Event::RefusedResultWritten { task_id, generation, path } => {
            step.refused_result_written(&task_id, generation, path);
        }
    }
    step.flush();
    (step.machine, step.effects)
}

impl Step<'_> {
    /// Handles every deadline that is due. The flush repeats messages and journal writes that are due again.
    fn deadline_reached(&mut self) {
        // BEFORE the connection is given up: the refusals are sent on it.
        self.check_deadline();
        self.connection_deadline();
        self.job_deadline();
        self.review_deadline();
        match &self.machine.state {
            State::RestartPending { deadline, .. } if *deadline <= self.now => self.leave_work_behind(),
            State::Draining { deadline, step, .. } if *deadline <= self.now => {
                // Too late to wait for the close frame, but the goodbye can still be sent.
                if (*step, self.machine.connection.online().is_some()) == (DrainStep::Flushing, true) {
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
}
