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
}

/// A verdict on its way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pending {
    /// The verdict.
    pub verdict: Verdict,
    /// On this connection.
    pub said: Saying,
    /// Its files in the results folder have been cleaned up.
    pub cleaned: bool,
}

/// Verdicts in the order they were reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Outbox {
    pending: Vec<Pending>,
}

impl Outbox {
    /// What a journal held. Their files may not have been cleaned up yet.
    pub fn recovered(verdicts: Vec<Verdict>) -> Self {
        let pending = verdicts.into_iter().map(|verdict| Pending { verdict, said: Saying::Unsaid, cleaned: false });
        Self { pending: pending.collect() }
    }

    /// Adds a verdict; a second one for the same hand-out is not one and is dropped.
    pub fn push(&mut self, verdict: Verdict) {
        if self.find(&verdict.task_id, verdict.generation).is_none() {
            self.pending.push(Pending { verdict, said: Saying::Unsaid, cleaned: false });
        }
    }

    /// The verdict on this hand-out.
    pub fn find(&self, task_id: &TaskId, generation: u64) -> Option<&Verdict> {
        self.iter().find(|v| v.task_id == *task_id && v.generation == generation)
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

    /// Takes the head out if it has been said on this connection and `matches`.
    pub fn answered(&mut self, matches: impl Fn(&Verdict) -> bool) -> Option<Verdict> {
        let head = self.pending.first()?;
        (head.said != Saying::Unsaid && matches(&head.verdict)).then(|| self.pending.remove(0).verdict)
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
        }
        if was_in_flight && self.pending.len() > 1 {
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
