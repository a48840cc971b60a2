//! Verdicts that the hub has not answered. One is in flight at a time, so an answer that names no task is still clear.

use alloc::vec::Vec;

use super::job::Saying;
use super::task::{Outcome, TaskId};

/// At most this many unanswered verdicts; beyond it no further task is taken.
pub const OUTBOX_CAP: usize = 32;

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
}

/// A verdict on its way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pending {
    /// The verdict.
    pub verdict: Verdict,
    /// On this connection.
    pub said: Saying,
    /// How often, on this connection.
    pub times_said: u32,
    /// An existing hub has heard `task_accepted` for this task on this connection.
    pub accepted_here: bool,
    /// Its files in the results folder have been cleaned up.
    pub cleaned: bool,
}

impl Pending {
    fn new(verdict: Verdict, accepted_here: bool) -> Self {
        let cleaned = verdict.nobody_came;
        Self { verdict, said: Saying::Unsaid, times_said: 0, accepted_here, cleaned }
    }
}

/// Verdicts in the order they were reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Outbox {
    pending: Vec<Pending>,
    /// Answers that may still come to a verdict that was said more than once on this connection and is answered: an
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
        let pending = pending.map(|(verdict, cleaned)| Pending { cleaned, ..Pending::new(verdict, false) });
        Self { pending: pending.collect(), late_answers: 0 }
    }

    /// Adds a verdict; a second one for the same hand-out is not one and is dropped. `accepted_here`: see [`Pending`].
    pub fn push(&mut self, verdict: Verdict, accepted_here: bool) {
        if self.find(&verdict.task_id, verdict.generation).is_none() {
            self.pending.push(Pending::new(verdict, accepted_here));
        }
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

    /// The verdicts with how far each has come.
    pub fn pending_mut(&mut self) -> impl Iterator<Item = &mut Pending> {
        self.pending.iter_mut()
    }

    /// The one that is in flight or next to be said.
    pub fn head(&self) -> Option<&Pending> {
        self.pending.first()
    }

    /// The same, to be changed.
    pub fn head_mut(&mut self) -> Option<&mut Pending> {
        self.pending.first_mut()
    }

    /// An answer that names the task: takes the head out if it is the one, and was said on this connection.
    pub fn answered(&mut self, task_id: &str) -> Option<Verdict> {
        self.take_head(|verdict| verdict.task_id.as_str() == task_id)
    }

    /// An answer that names no task, to a `task_complete` or a `task_failed`: takes the head out if it is one that was
    /// said on this connection, unless the answer is a late one to a verdict before it.
    pub fn refused(&mut self, complete: bool) -> Option<Verdict> {
        if self.late_answers > 0 {
            self.late_answers -= 1;
            return None;
        }
        self.take_head(|verdict| matches!(verdict.outcome, Outcome::Completed { .. }) == complete)
    }

    fn take_head(&mut self, matches: impl Fn(&Verdict) -> bool) -> Option<Verdict> {
        let head = self.pending.first()?;
        if head.said == Saying::Unsaid || !matches(&head.verdict) {
            return None;
        }
        self.late_answers += head.times_said.saturating_sub(1);
        Some(self.pending.remove(0).verdict)
    }

    /// Whether a `task_failed` is in flight: the answer to a second one could not be told from its own.
    pub fn awaits_answer_to_failure(&self) -> bool {
        let in_flight = self.head().filter(|pending| pending.said != Saying::Unsaid);
        in_flight.is_some_and(|pending| matches!(pending.verdict.outcome, Outcome::Failed { .. }))
    }

    /// The connection is gone: whatever was said may not have arrived. A verdict that was in flight goes behind the
    /// others, so that one that a hub cannot swallow does not hold the rest up.
    pub fn link_lost(&mut self) {
        let was_in_flight = self.head().is_some_and(|p| p.said != Saying::Unsaid);
        for pending in &mut self.pending {
            pending.said = Saying::Unsaid;
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
