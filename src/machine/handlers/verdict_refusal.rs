//! Refused verdicts. A known refusal (`stale_generation`, `invalid_state`, `not_found`) ends the verdict. With any
//! other error the verdict is sent again, after the others, and is given up after [`REFUSALS_CAP`] refusals. No result
//! is dropped: it is written to the results folder before its verdict is removed.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use crate::machine::model::connection::HubView;
use crate::machine::model::effect::Effect;
use crate::machine::model::event::{VerdictName, VerdictRefusal};
use crate::machine::model::job::Pending;
use crate::machine::model::journal::Disk;
use crate::machine::model::notice::Notice;
use crate::machine::model::outbox::{Delivery, PendingVerdict, REFUSALS_CAP, RESULT_REFUSED, Verdict};
use crate::machine::model::parked_work::ParkedTask;
use crate::machine::model::state::State;
use crate::machine::model::task::{Outcome, TaskId};
use crate::machine::step::Step;

/// The time in ms that a refused verdict stays in flight, so that a late answer or a closed connection is counted for
/// it and not for the next verdict.
const LINGER_MS: u64 = 1_000;

impl Step<'_> {
    /// Handles a known refusal of the verdict that it names, or of the one in flight.
    pub(in crate::machine) fn verdict_refused(
        &mut self,
        complete: bool,
        why: VerdictRefusal,
        of: Option<&VerdictName>,
    ) {
        let accepted_here = self.machine.outbox.in_flight().is_some_and(|pending| pending.accepted_here);
        let verdict = match of {
            Some(VerdictName { task_id, generation }) => self.machine.outbox.refused_by_name(task_id, *generation),
            None => self.machine.outbox.refused(complete),
        };
        let Some(verdict) = verdict else { return };
        if accepted_here {
            self.change_hub_view(HubView::Known, HubView::AtWork);
        }
        let task_id = verdict.task_id.clone();
        let of_the_task = |other: &&Verdict| other.task_id == task_id;
        let superseded = self.machine.state.persisted().is_some_and(|persisted| persisted.task.id == task_id)
            || self.machine.outbox.iter().any(|other| of_the_task(&other));
        let said_again = self.machine.outbox.iter().filter(of_the_task).any(|other| other.outcome == verdict.outcome);
        let kept = match (&verdict.outcome, why) {
            (Outcome::Completed { result }, VerdictRefusal::NotNow) if !superseded => {
                let (task_id, generation, result) = (task_id.clone(), verdict.generation, result.clone());
                self.park(ParkedTask::Finished { task_id, generation, result });
                true
            }
            // The same result is the verdict on a later assignment.
            (Outcome::Completed { .. }, VerdictRefusal::NotNow) if said_again => false,
            (Outcome::Completed { .. }, VerdictRefusal::NotNow) => {
                return self.put_aside(verdict, "the task was assigned again".into(), false);
            }
            (Outcome::Completed { .. }, VerdictRefusal::Never) => {
                return self.put_aside(verdict, "not_found".into(), false);
            }
            (Outcome::Failed { .. }, VerdictRefusal::NotNow | VerdictRefusal::Never) => false,
        };
        self.order(Effect::Notify(Notice::VerdictRefused { task_id, kept }));
    }

    /// Handles an error from the hub that is not a known answer to any message.
    pub(in crate::machine) fn refused_in_other_words(
        &mut self,
        complete: Option<bool>,
        error: String,
        of: Option<&VerdictName>,
    ) {
        let Some(in_flight) = self.machine.outbox.in_flight() else { return };
        let verdict = &in_flight.verdict;
        if let Some(VerdictName { task_id, generation }) = of {
            // A hub that names the verdict answers each one: another name is a late answer.
            if verdict.task_id.as_str() == task_id && verdict.generation == *generation {
                self.count_refusal(error);
            }
            return;
        }
        let other = complete.is_some_and(|complete| complete != verdict.outcome.is_completed());
        if !other && !self.machine.outbox.take_late_answer() {
            self.count_refusal(error);
        }
    }

    /// Counts one refusal for the verdict that was sent last.
    pub(in crate::machine) fn count_refusal(&mut self, error: String) {
        let linger_until = self.now.plus(LINGER_MS.min(self.policy.answer_timeout_ms));
        let Some(head) = self.machine.outbox.head_mut() else { return };
        if head.sent == Pending::Unsent || head.delivery != Delivery::Open {
            return;
        }
        head.losses = 0;
        head.verdict.refusals = head.verdict.refusals.saturating_add(1).min(REFUSALS_CAP);
        let (task_id, times) = (head.verdict.task_id.clone(), head.verdict.refusals);
        if times < REFUSALS_CAP {
            head.delivery = Delivery::Refused;
            head.sent = Pending::Sent { again_at: linger_until };
            self.order(Effect::Notify(Notice::VerdictRefusedInOtherWords { task_id, times, error }));
        } else {
            self.give_up_verdict(error);
        }
    }

    /// Gives the verdict in flight up after its last refusal.
    fn give_up_verdict(&mut self, error: String) {
        let accepted_here = self.machine.outbox.in_flight().is_some_and(|pending| pending.accepted_here);
        let Some(verdict) = self.machine.outbox.take_in_flight() else { return };
        if accepted_here {
            self.change_hub_view(HubView::Known, HubView::AtWork);
        }
        match verdict.outcome {
            Outcome::Completed { .. } => self.put_aside(verdict, error, true),
            Outcome::Failed { .. } => {
                let task_id = verdict.task_id;
                self.order(Effect::Notify(Notice::VerdictGivenUp { task_id, error, kept: None }));
            }
        }
    }

    /// Puts the result of parked work aside that is given up for want of room.
    pub(in crate::machine) fn put_aside_parked(&mut self, task_id: TaskId, generation: u64, result: Arc<str>) {
        let outcome = Outcome::Completed { result };
        let verdict = Verdict {
            task_id,
            generation,
            outcome,
            accept_first: false,
            no_session_came: false,
            result_read: false,
            refusals: 0,
        };
        self.put_aside(verdict, "its task was not assigned again".into(), false);
    }

    /// Keeps the verdict in the journal until its result is written to the results folder.
    fn put_aside(&mut self, verdict: Verdict, error: String, fails: bool) {
        let delivery = Delivery::GivenUp { error, fails, write_at: Some(self.now) };
        // The verdict was sent, so the disk held it, and its files were cleaned up.
        self.machine.outbox.put_back(PendingVerdict { delivery, cleaned: true, ..PendingVerdict::new(verdict, false) });
    }

    /// Moves a refused verdict behind the others once it has been in flight for [`LINGER_MS`].
    pub(in crate::machine) fn flush_refusal(&mut self) {
        let until = self.now.plus(self.policy.answer_timeout_ms);
        let lingered =
            |pending: &PendingVerdict| pending.delivery == Delivery::Refused && pending.sent.is_due(self.now);
        if self.machine.outbox.in_flight().is_some_and(lingered) {
            self.machine.outbox.move_behind_others(Delivery::Resting { until });
        }
    }

    /// Orders the next refused result to be written, one at a time and only while no journal write is in progress.
    pub(in crate::machine) fn flush_refused_results(&mut self) {
        if self.machine.disk != Disk::Ready || matches!(self.machine.state, State::Exiting { .. }) {
            return;
        }
        let now = self.now;
        let under_way = |pending: &PendingVerdict| matches!(pending.delivery, Delivery::GivenUp { write_at: None, .. });
        if self.machine.outbox.pending().any(under_way) {
            return;
        }
        for pending in self.machine.outbox.pending_mut() {
            if let Delivery::GivenUp { write_at: write_at @ Some(_), .. } = &mut pending.delivery
                && write_at.is_some_and(|at| at <= now)
                && let Outcome::Completed { result } = &pending.verdict.outcome
            {
                *write_at = None;
                let (task_id, generation) = (pending.verdict.task_id.clone(), pending.verdict.generation);
                self.effects.push(Effect::KeepRefused { task_id, generation, result: result.clone() });
                return;
            }
        }
    }

    /// Handles the outcome of writing a refused result. Once it is at `path`, the verdict becomes a failure if the hub
    /// knows the task; without a path the write is tried again.
    pub(in crate::machine) fn refused_result_written(
        &mut self,
        task_id: &TaskId,
        generation: u64,
        path: Option<String>,
    ) {
        let again_at = self.now.plus(self.policy.answer_timeout_ms);
        let Some(pending) = self.machine.outbox.pending_mut().find(|pending| {
            pending.verdict.task_id == *task_id
                && pending.verdict.generation == generation
                && matches!(pending.delivery, Delivery::GivenUp { write_at: None, .. })
        }) else {
            return;
        };
        let Delivery::GivenUp { error, fails, write_at } = &mut pending.delivery else { return };
        let Some(path) = path else {
            *write_at = Some(again_at);
            return;
        };
        let (error, fails) = (core::mem::take(error), *fails);
        if fails {
            let reason = format!(
                "{RESULT_REFUSED}the hub refused the result {REFUSALS_CAP} times; it is kept on the agent's machine in {path} \
                 (last answer: {error})"
            );
            let verdict = Verdict { outcome: Outcome::Failed { reason }, refusals: 0, ..pending.verdict.clone() };
            *pending = PendingVerdict { cleaned: true, ..PendingVerdict::new(verdict, false) };
        } else {
            self.machine.outbox.remove(task_id, generation);
        }
        let notice = Notice::VerdictGivenUp { task_id: task_id.clone(), error, kept: Some(path) };
        self.order(Effect::Notify(notice));
    }
}
