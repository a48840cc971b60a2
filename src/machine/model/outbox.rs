//! Verdicts that the hub has not answered. One is in flight at a time, so an answer that names no task is still clear.

use alloc::string::String;
use alloc::vec::Vec;

use crate::machine::model::job::Pending;
use crate::machine::model::policy::Policy;
use crate::machine::model::task::{Outcome, TaskId};
use crate::machine::model::time::Timestamp;

/// At most this many unanswered verdicts; beyond it no further task is taken.
pub const OUTBOX_CAP: usize = 32;

/// A verdict that the hub refuses so often, in whatever words, is given up.
pub const REFUSALS_CAP: u8 = 5;

/// How the reason of a failure begins that stands for a result that the hub refused.
pub(in crate::machine) const RESULT_REFUSED: &str = "result_refused: ";

/// So many connections lost in a row are told apart: the rests are as long as they get.
const LOSSES_CAP: u8 = 16;

/// What of a verdict survives a crash.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Verdict {
    /// Which task.
    pub task_id: TaskId,
    /// For which hand-out.
    pub generation: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// The hand-out was never taken as a job (its result was already here): `task_accepted` is said right before.
    pub accept_first: bool,
    /// Nobody had come for the hand-out: what lies in the results folder is of somebody who comes late, and stays.
    pub nobody_came: bool,
    /// How often the hub refused it in words that are no answer; journalled, since a process may not live to the last.
    pub refusals: u8,
}

/// What may be done with a verdict.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// It is said, or waits for its answer or its turn.
    Open,
    /// What was said last was refused. It stays in flight for a moment: whatever else the hub says of it is not taken for an
    /// answer to the next one.
    Refused,
    /// It is not said before this time, and the others go first.
    Resting {
        /// The time.
        until: Timestamp,
    },
    /// It is said no more: its result is put aside.
    GivenUp {
        /// What the hub said last.
        error: String,
        /// Whether the hub wants to hear of the failure: it knows the task.
        fails: bool,
        /// When to try again to write the result; none while a write is under way.
        write_at: Option<Timestamp>,
    },
}

/// A verdict on its way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PendingVerdict {
    /// The verdict.
    pub verdict: Verdict,
    /// On this connection.
    pub said: Pending,
    /// How often, on this connection, without an answer.
    pub times_said: u32,
    /// An existing hub has heard `task_accepted` for this task on this connection.
    pub accepted_here: bool,
    /// Its files in the results folder have been cleaned up.
    pub cleaned: bool,
    /// What may be done with it.
    pub delivery: Delivery,
    /// How many connections in a row were lost with it in flight.
    pub losses: u8,
}

impl PendingVerdict {
    pub(in crate::machine) fn new(verdict: Verdict, accepted_here: bool) -> Self {
        let cleaned = verdict.nobody_came;
        Self {
            verdict,
            said: Pending::Unsaid,
            times_said: 0,
            accepted_here,
            cleaned,
            delivery: Delivery::Open,
            losses: 0,
        }
    }

    /// Whether it ends a later hand-out of the task too: the work is done, and would come to the same.
    pub fn ends_later_hand_outs(&self) -> bool {
        match (&self.verdict.outcome, &self.delivery) {
            (Outcome::Completed { .. }, Delivery::GivenUp { fails, .. }) => *fails,
            (Outcome::Completed { .. }, Delivery::Open | Delivery::Refused | Delivery::Resting { .. }) => true,
            (Outcome::Failed { reason }, _) => reason.starts_with(RESULT_REFUSED),
        }
    }

    /// Whether it may be said, or is in flight.
    pub fn is_open(&self) -> bool {
        match self.delivery {
            Delivery::Open | Delivery::Refused => true,
            Delivery::Resting { .. } | Delivery::GivenUp { .. } => false,
        }
    }
}

/// Verdicts in the order they were reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Outbox {
    pending: Vec<PendingVerdict>,
    /// Answers that may still come to verdicts that were said more than once on this connection and are answered: an
    /// answer that names no task is taken for one of these first.
    late_answers: u32,
}

impl Outbox {
    /// What a journal held. Their files may not have been cleaned up yet, but for those of a task with a verdict on a later
    /// hand-out: none is taken while that is to be done for the one before it.
    pub fn recovered(verdicts: Vec<Verdict>) -> Self {
        let is_later =
            |verdict: &Verdict, than: &Verdict| verdict.task_id == than.task_id && verdict.generation > than.generation;
        let cleaned: Vec<bool> =
            verdicts.iter().map(|one| one.nobody_came || verdicts.iter().any(|other| is_later(other, one))).collect();
        let pending = verdicts.into_iter().zip(cleaned);
        let pending =
            pending.map(|(verdict, cleaned)| PendingVerdict { cleaned, ..PendingVerdict::new(verdict, false) });
        Self { pending: pending.collect(), late_answers: 0 }
    }

    /// Adds a verdict; a second one for the same hand-out is not one and is dropped. Returns whether it was added.
    /// `accepted_here`: see [`PendingVerdict`].
    pub fn push(&mut self, verdict: Verdict, accepted_here: bool) -> bool {
        let new = self.find(&verdict.task_id, verdict.generation).is_none();
        if new {
            self.pending.push(PendingVerdict::new(verdict, accepted_here));
        }
        new
    }

    /// Adds a verdict on a later hand-out of a task whose work had ended before. What the hub made of the earlier verdict holds
    /// for this one, or each new hand-out would begin to count anew; an earlier one that is not in flight can count no more.
    pub fn push_anew(&mut self, verdict: Verdict) {
        let id = verdict.task_id.clone();
        let is_earlier = |p: &PendingVerdict| p.verdict.task_id == id && p.ends_later_hand_outs();
        let mut pending = PendingVerdict::new(verdict, false);
        for earlier in self.pending.iter().filter(|p| is_earlier(p)) {
            pending.verdict.refusals = pending.verdict.refusals.max(earlier.verdict.refusals);
            pending.losses = pending.losses.max(earlier.losses);
            pending.delivery = match &earlier.delivery {
                Delivery::Open | Delivery::Refused => pending.delivery,
                Delivery::Resting { until } => Delivery::Resting { until: *until },
                Delivery::GivenUp { error, fails, write_at } => {
                    let write_at = write_at.or(Some(Timestamp::from_millis(0)));
                    Delivery::GivenUp { error: error.clone(), fails: *fails, write_at }
                }
            };
        }
        self.pending.retain(|p| !is_earlier(p) || p.said != Pending::Unsaid);
        self.pending.push(pending);
    }

    /// The verdict on this hand-out.
    pub fn find(&self, task_id: &TaskId, generation: u64) -> Option<&Verdict> {
        self.iter().find(|v| v.task_id == *task_id && v.generation == generation)
    }

    /// Whether there is a verdict on this hand-out of the task or a later one.
    pub fn answers(&self, task_id: &TaskId, generation: u64) -> bool {
        self.iter().any(|v| v.task_id == *task_id && v.generation >= generation)
    }

    /// The verdicts, first reached first.
    pub fn iter(&self) -> impl Iterator<Item = &Verdict> {
        self.pending.iter().map(|p| &p.verdict)
    }

    /// The verdicts with how far each has come, first reached first.
    pub fn pending(&self) -> impl Iterator<Item = &PendingVerdict> {
        self.pending.iter()
    }

    /// The same, to be changed.
    pub fn pending_mut(&mut self) -> impl Iterator<Item = &mut PendingVerdict> {
        self.pending.iter_mut()
    }

    /// The one that is in flight or next to be said.
    pub fn head(&self) -> Option<&PendingVerdict> {
        self.pending.first()
    }

    /// The same, to be changed.
    pub fn head_mut(&mut self) -> Option<&mut PendingVerdict> {
        self.pending.first_mut()
    }

    /// Whether one was said on this connection and has no answer.
    pub fn in_flight(&self) -> Option<&PendingVerdict> {
        self.head().filter(|pending| pending.said != Pending::Unsaid)
    }

    /// Ends the rests that are over by `now`, and brings the first that may be said to the head where none is in flight.
    pub fn take_turns(&mut self, now: Timestamp) {
        for pending in &mut self.pending {
            if matches!(pending.delivery, Delivery::Resting { until } if until <= now) {
                pending.delivery = Delivery::Open;
            }
        }
        if self.in_flight().is_none()
            && let Some(index) = self.pending.iter().position(PendingVerdict::is_open)
        {
            let next = self.pending.remove(index);
            self.pending.insert(0, next);
        }
    }

    /// One in flight that has had no answer by `now` goes behind the others, if any may be said: a hub that does not answer
    /// this one may answer those. Its answer may still come.
    pub fn let_others_go_first(&mut self, now: Timestamp) {
        let unanswered = |head: &PendingVerdict| head.delivery == Delivery::Open && head.said.is_due(now);
        if self.in_flight().is_some_and(unanswered)
            && self.pending.iter().skip(1).any(PendingVerdict::is_open)
            && let Some(head) = self.pending.first_mut()
        {
            head.said = Pending::Unsaid;
            self.pending.rotate_left(1);
        }
    }

    /// The one in flight goes behind the others, on this course.
    pub fn step_aside(&mut self, delivery: Delivery) {
        if self.in_flight().is_none() {
            return;
        }
        let mut pending = self.pending.remove(0);
        self.late_answers += pending.times_said.saturating_sub(1);
        (pending.said, pending.times_said, pending.delivery) = (Pending::Unsaid, 0, delivery);
        self.pending.push(pending);
    }

    /// An answer that names the task: takes its verdict out if that was said on this connection.
    pub fn answered(&mut self, task_id: &str) -> Option<Verdict> {
        let is_it = |pending: &PendingVerdict| pending.times_said > 0 && pending.verdict.task_id.as_str() == task_id;
        let index = self.pending.iter().position(is_it)?;
        Some(self.take(index))
    }

    /// An answer that names no task, to a `task_complete` or a `task_failed`: takes the head out if it is one that was
    /// said on this connection, unless the answer is a late one to a verdict before it.
    pub fn refused(&mut self, complete: bool) -> Option<Verdict> {
        if self.is_late_answer() {
            return None;
        }
        self.take_head(|verdict| verdict.outcome.is_completed() == complete)
    }

    /// Whether an answer that names no task is one to a verdict that was said before the head; it is counted as heard then.
    pub fn is_late_answer(&mut self) -> bool {
        if self.late_answers > 0 {
            self.late_answers -= 1;
            return true;
        }
        let said_before = self.pending.iter_mut().skip(1).find(|pending| pending.times_said > 0);
        said_before.map(|pending| pending.times_said -= 1).is_some()
    }

    /// Takes out the one in flight, whatever it is.
    pub fn take_in_flight(&mut self) -> Option<Verdict> {
        self.take_head(|_| true)
    }

    /// Puts one that was taken out behind the others.
    pub fn put_back(&mut self, pending: PendingVerdict) {
        self.pending.push(pending);
    }

    /// Drops the verdict on this hand-out.
    pub fn remove(&mut self, task_id: &TaskId, generation: u64) {
        self.pending.retain(|p| p.verdict.task_id != *task_id || p.verdict.generation != generation);
    }

    fn take_head(&mut self, matches: impl Fn(&Verdict) -> bool) -> Option<Verdict> {
        let head = self.pending.first()?;
        if head.said == Pending::Unsaid || !matches(&head.verdict) {
            return None;
        }
        Some(self.take(0))
    }

    fn take(&mut self, index: usize) -> Verdict {
        let pending = self.pending.remove(index);
        self.late_answers += pending.times_said.saturating_sub(1);
        pending.verdict
    }

    /// Whether a `task_failed` is in flight: the answer to a second one could not be told from its own.
    pub fn awaits_answer_to_failure(&self) -> bool {
        self.in_flight().is_some_and(|pending| !pending.verdict.outcome.is_completed())
    }

    /// The connection is gone: whatever was said may not have arrived. A verdict that was in flight goes behind the
    /// others, so that one that a hub cannot swallow does not hold the rest up. One that was refused rests; so does one that
    /// loses its second connection in a row, longer each time, as dials do: the link lives for the others meanwhile.
    pub fn connection_lost(&mut self, now: Timestamp, policy: &Policy) {
        let was_in_flight = self.in_flight().is_some();
        if let (true, Some(head)) = (was_in_flight, self.pending.first_mut()) {
            let refused = head.delivery == Delivery::Refused;
            let rest_ms = if refused { policy.answer_timeout_ms } else { policy.backoff_ms(head.losses.into()) };
            if refused || head.losses > 0 {
                head.delivery = Delivery::Resting { until: now.plus(rest_ms) };
            }
            head.losses = if refused { 0 } else { head.losses.saturating_add(1).min(LOSSES_CAP) };
        }
        for pending in &mut self.pending {
            pending.said = Pending::Unsaid;
            pending.times_said = 0;
            pending.accepted_here = false;
        }
        self.late_answers = 0;
        if was_in_flight {
            self.pending.rotate_left(1);
        }
    }

    /// Whether everything was answered.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// How many are not.
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// What the journal holds.
    pub fn to_journal(&self) -> Vec<Verdict> {
        self.iter().cloned().collect()
    }
}
