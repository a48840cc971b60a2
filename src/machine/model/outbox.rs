//! The outbox: verdicts that the hub has not answered. One is in flight at a time, so an answer that names no task is
//! unambiguous.

use alloc::string::String;
use alloc::vec::Vec;

use crate::machine::model::job::Pending;
use crate::machine::model::policy::Policy;
use crate::machine::model::task::{Outcome, TaskId};
use crate::machine::model::time::Timestamp;

/// The most unanswered verdicts; once there are so many, no further task is taken.
pub const OUTBOX_CAP: usize = 32;

/// The number of refusals with unknown errors after which a verdict is given up.
pub const REFUSALS_CAP: u8 = 5;

/// The prefix of the reason of a failure that replaces a refused result.
pub(in crate::machine) const RESULT_REFUSED: &str = "result_refused: ";

/// The greatest counted number of connections lost in a row; the wait after it is the longest one.
const LOSSES_CAP: u8 = 16;

/// A verdict on a task: the part that survives a crash.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Verdict {
    /// The task's id.
    pub task_id: TaskId,
    /// The assignment's generation.
    pub generation: u64,
    /// The task's outcome.
    pub outcome: Outcome,
    /// Whether `task_accepted` is sent right before it, because the assignment never became a job (its result was
    /// already here).
    pub accept_first: bool,
    /// Whether no session had started for the assignment: files in the results folder belong to a late session and
    /// remain.
    pub no_session_came: bool,
    /// Whether it is made of the result in the results folder: such a file may be removed.
    pub result_read: bool,
    /// The number of refusals with unknown errors; journalled, because a process may end before the last one.
    pub refusals: u8,
}

/// The state of a verdict's delivery.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// It may be sent, or waits for its answer or its turn.
    Open,
    /// It was refused when it was sent last. It stays in flight for a moment, so that a further message from the hub
    /// about it is not taken for an answer to the next one.
    Refused,
    /// It waits while the others are sent first.
    Resting {
        /// The time before which it is not sent.
        until: Timestamp,
    },
    /// It is not sent any more; its result is written to the results folder.
    GivenUp {
        /// The hub's last error text.
        error: String,
        /// Whether the failure is sent to the hub afterwards, because the hub knows the task.
        fails: bool,
        /// The time of the next attempt to write the result; `None` while a write is in progress.
        write_at: Option<Timestamp>,
    },
}

/// A verdict with the state of its delivery.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PendingVerdict {
    /// The verdict.
    pub verdict: Verdict,
    /// Whether it was sent on this connection.
    pub sent: Pending,
    /// The number of times that it was sent on this connection without an answer.
    pub times_sent: u32,
    /// Whether `task_accepted` was sent to a legacy hub for this task on this connection.
    pub accepted_here: bool,
    /// Whether its files in the results folder have been cleaned up.
    pub cleaned: bool,
    /// The state of its delivery.
    pub delivery: Delivery,
    /// The number of connections that were lost in a row with it in flight.
    pub losses: u8,
}

impl PendingVerdict {
    /// Creates a verdict that has not been sent yet.
    pub(in crate::machine) fn new(verdict: Verdict, accepted_here: bool) -> Self {
        let cleaned = verdict.no_session_came;
        Self {
            verdict,
            sent: Pending::Unsent,
            times_sent: 0,
            accepted_here,
            cleaned,
            delivery: Delivery::Open,
            losses: 0,
        }
    }

    /// Returns whether it also decides a later assignment of the task: the work is finished, and doing it again would
    /// lead to the same outcome.
    pub fn decides_later_assignments(&self) -> bool {
        match (&self.verdict.outcome, &self.delivery) {
            (Outcome::Completed { .. }, Delivery::GivenUp { fails, .. }) => *fails,
            (Outcome::Completed { .. }, Delivery::Open | Delivery::Refused | Delivery::Resting { .. }) => true,
            (Outcome::Failed { reason }, _) => reason.starts_with(RESULT_REFUSED),
        }
    }

    /// Returns whether it may be sent or is in flight.
    pub fn is_open(&self) -> bool {
        match self.delivery {
            Delivery::Open | Delivery::Refused => true,
            Delivery::Resting { .. } | Delivery::GivenUp { .. } => false,
        }
    }
}

/// The verdicts in the order in which they are sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Outbox {
    pending: Vec<PendingVerdict>,
    /// The number of answers that may still come for verdicts that were sent more than once on this connection and are
    /// answered. An answer that names no task is counted for these first.
    late_answers: u32,
}

impl Outbox {
    /// Returns the outbox of a journal. The files of its verdicts may still have to be cleaned up, except for a task
    /// with a verdict on a later assignment: that one was taken only after the clean-up for the earlier verdict.
    pub fn recovered(verdicts: Vec<Verdict>) -> Self {
        let is_later =
            |verdict: &Verdict, than: &Verdict| verdict.task_id == than.task_id && verdict.generation > than.generation;
        let cleaned: Vec<bool> = verdicts
            .iter()
            .map(|one| one.no_session_came || verdicts.iter().any(|other| is_later(other, one)))
            .collect();
        let pending = verdicts.into_iter().zip(cleaned);
        let pending =
            pending.map(|(verdict, cleaned)| PendingVerdict { cleaned, ..PendingVerdict::new(verdict, false) });
        Self { pending: pending.collect(), late_answers: 0 }
    }

    /// Adds a verdict, unless there is one on the same assignment. Returns whether it was added. For `accepted_here`
    /// see [`PendingVerdict`].
    pub fn push(&mut self, verdict: Verdict, accepted_here: bool) -> bool {
        let new = self.find(&verdict.task_id, verdict.generation).is_none();
        if new {
            self.pending.push(PendingVerdict::new(verdict, accepted_here));
        }
        new
    }

    /// Adds a verdict on a later assignment of a task whose work was finished before. It takes over the refusals of the
    /// earlier verdict, so that a new assignment does not restart the count; an earlier verdict that is not in flight
    /// is removed.
    pub fn push_for_later_assignment(&mut self, verdict: Verdict) {
        let id = verdict.task_id.clone();
        let is_earlier = |p: &PendingVerdict| p.verdict.task_id == id && p.decides_later_assignments();
        let mut pending = PendingVerdict::new(verdict, false);
        for earlier in self.pending.iter().filter(|p| is_earlier(p)) {
            pending.verdict.refusals = pending.verdict.refusals.max(earlier.verdict.refusals);
            pending.verdict.result_read |= earlier.verdict.result_read;
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
        self.pending.retain(|p| !is_earlier(p) || p.sent != Pending::Unsent);
        self.pending.push(pending);
    }

    /// Returns the verdict on this assignment.
    pub fn find(&self, task_id: &TaskId, generation: u64) -> Option<&Verdict> {
        self.iter().find(|v| v.task_id == *task_id && v.generation == generation)
    }

    /// Returns whether there is a verdict on this assignment of the task or on a later one.
    pub fn answers(&self, task_id: &TaskId, generation: u64) -> bool {
        self.iter().any(|v| v.task_id == *task_id && v.generation >= generation)
    }

    /// Returns the verdicts in the order in which they are sent.
    pub fn iter(&self) -> impl Iterator<Item = &Verdict> {
        self.pending.iter().map(|p| &p.verdict)
    }

    /// Returns the verdicts with the state of their delivery, in the order in which they are sent.
    pub fn pending(&self) -> impl Iterator<Item = &PendingVerdict> {
        self.pending.iter()
    }

    /// Returns the verdicts mutably, in the order in which they are sent.
    pub fn pending_mut(&mut self) -> impl Iterator<Item = &mut PendingVerdict> {
        self.pending.iter_mut()
    }

    /// Returns the verdict that is in flight or is sent next.
    pub fn head(&self) -> Option<&PendingVerdict> {
        self.pending.first()
    }

    /// Returns the head mutably.
    pub fn head_mut(&mut self) -> Option<&mut PendingVerdict> {
        self.pending.first_mut()
    }

    /// Returns the verdict that was sent on this connection and is not answered.
    pub fn in_flight(&self) -> Option<&PendingVerdict> {
        self.head().filter(|pending| pending.sent != Pending::Unsent)
    }

    /// Ends the waits that are over by `now`, and moves the first verdict that may be sent to the head if none is in
    /// flight.
    pub fn select_head(&mut self, now: Timestamp) {
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

    /// Moves a verdict without an answer by `now` behind the others if one of them may be sent: a hub that does not
    /// answer this one may answer those. Its answer may still come.
    pub fn rotate_unanswered(&mut self, now: Timestamp) {
        let unanswered = |head: &PendingVerdict| head.delivery == Delivery::Open && head.sent.is_due(now);
        if self.in_flight().is_some_and(unanswered)
            && self.pending.iter().skip(1).any(PendingVerdict::is_open)
            && let Some(head) = self.pending.first_mut()
        {
            head.sent = Pending::Unsent;
            self.pending.rotate_left(1);
        }
    }

    /// Moves the verdict in flight behind the others and sets its delivery.
    pub fn move_behind_others(&mut self, delivery: Delivery) {
        if self.in_flight().is_none() {
            return;
        }
        let mut pending = self.pending.remove(0);
        self.late_answers += pending.times_sent.saturating_sub(1);
        (pending.sent, pending.times_sent, pending.delivery) = (Pending::Unsent, 0, delivery);
        self.pending.push(pending);
    }

    /// Removes and returns the verdict on the task that an answer names, if it was sent on this connection.
    pub fn answered(&mut self, task_id: &str) -> Option<Verdict> {
        let is_it = |pending: &PendingVerdict| pending.times_sent > 0 && pending.verdict.task_id.as_str() == task_id;
        let index = self.pending.iter().position(is_it)?;
        Some(self.take(index))
    }

    /// Removes and returns the verdict that a refusal without a task's name is for: the head, if it was sent on this
    /// connection as `task_complete` (`complete`) or `task_failed`, unless the refusal is a late answer to an earlier
    /// one.
    pub fn refused(&mut self, complete: bool) -> Option<Verdict> {
        if self.take_late_answer() {
            return None;
        }
        self.take_head(|verdict| verdict.outcome.is_completed() == complete)
    }

    /// Removes and returns the verdict on this assignment, if it was sent on this connection.
    pub fn refused_by_name(&mut self, task_id: &str, generation: u64) -> Option<Verdict> {
        let is_it = |pending: &PendingVerdict| {
            let verdict = &pending.verdict;
            pending.times_sent > 0 && verdict.task_id.as_str() == task_id && verdict.generation == generation
        };
        let index = self.pending.iter().position(is_it)?;
        Some(self.take(index))
    }

    /// Returns whether an answer that names no task is for a verdict that was sent before the head, and if so, counts
    /// it as received.
    pub fn take_late_answer(&mut self) -> bool {
        if self.late_answers > 0 {
            self.late_answers -= 1;
            return true;
        }
        let said_before = self.pending.iter_mut().skip(1).find(|pending| pending.times_sent > 0);
        said_before.map(|pending| pending.times_sent -= 1).is_some()
    }

    /// Removes and returns the verdict in flight.
    pub fn take_in_flight(&mut self) -> Option<Verdict> {
        self.take_head(|_| true)
    }

    /// Adds a removed verdict again, behind the others.
    pub fn put_back(&mut self, pending: PendingVerdict) {
        self.pending.push(pending);
    }

    /// Removes the verdict on this assignment.
    pub fn remove(&mut self, task_id: &TaskId, generation: u64) {
        self.pending.retain(|p| p.verdict.task_id != *task_id || p.verdict.generation != generation);
    }

    fn take_head(&mut self, matches: impl Fn(&Verdict) -> bool) -> Option<Verdict> {
        let head = self.pending.first()?;
        if head.sent == Pending::Unsent || !matches(&head.verdict) {
            return None;
        }
        Some(self.take(0))
    }

    fn take(&mut self, index: usize) -> Verdict {
        let pending = self.pending.remove(index);
        self.late_answers += pending.times_sent.saturating_sub(1);
        pending.verdict
    }

    /// Returns whether a `task_failed` is in flight: the answer to another one could not be distinguished from its own.
    pub fn awaits_answer_to_failure(&self) -> bool {
        self.in_flight().is_some_and(|pending| !pending.verdict.outcome.is_completed())
    }

    /// Handles the loss of the connection: messages sent on it may not have arrived. A verdict in flight moves behind
    /// the others, so that one that a hub cannot process does not block them. A refused one waits before it is sent
    /// again; so does one in flight at the second loss in a row, longer each time, as for dials: the connection serves
    /// the others meanwhile.
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
            pending.sent = Pending::Unsent;
            pending.times_sent = 0;
            pending.accepted_here = false;
        }
        self.late_answers = 0;
        if was_in_flight {
            self.pending.rotate_left(1);
        }
    }

    /// Returns whether every verdict is answered.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Returns the number of unanswered verdicts.
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Returns the verdicts for the journal.
    pub fn to_journal(&self) -> Vec<Verdict> {
        self.iter().cloned().collect()
    }
}
