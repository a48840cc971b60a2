//! One rollout under way: moves its targets, takes new ones as far as its wave and its budget go, and stops or ends it.
//! It commands nothing itself: what it decides is an [`Order`], which is carried out in the same step.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::common::wall_clock::move_time;
use crate::hub::scheduler::rollouts::facts::{Facts, Fleet};
use crate::hub::scheduler::rollouts::fold::{self, Move, Turn};
use crate::hub::scheduler::rollouts::rollout::{HaltReason, Rollout, RolloutState};
use crate::hub::scheduler::rollouts::target::{Target, TargetState};

/// A restart that a rollout decided on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::hub::scheduler) struct Order {
    /// The command's id.
    pub(in crate::hub::scheduler) command_id: String,
    /// The agent.
    pub(in crate::hub::scheduler) agent_id: Arc<str>,
    /// The reason.
    pub(in crate::hub::scheduler) reason: String,
    /// The author of the rollout.
    pub(in crate::hub::scheduler) by: String,
    /// The time for which a task may delay it, in ms.
    pub(in crate::hub::scheduler) deadline_ms: Option<u64>,
    /// Whether it does not wait for the task.
    pub(in crate::hub::scheduler) force: bool,
}

/// When something is due: at this time (ms since the epoch), of a rollout, a target of it or the rollout itself.
pub(super) type Timer = (u64, u64, Option<u32>);

/// What is to be stored.
#[derive(Debug, Clone, Default)]
pub(in crate::hub::scheduler) struct Dirty {
    /// The rollouts, by id.
    pub(in crate::hub::scheduler) rollouts: BTreeSet<Arc<str>>,
    /// The targets, each by its rollout and its number.
    pub(in crate::hub::scheduler) targets: BTreeSet<(Arc<str>, u32)>,
}

/// What is derived of a rollout that has not ended, so that an event costs as much as it changes.
#[derive(Debug, Clone, Default)]
pub(super) struct Active {
    /// The pending targets whose agents are on no restart.
    pub(super) ready: BTreeSet<u32>,
    /// The targets whose agents are unavailable.
    pub(super) unavailable: BTreeSet<u32>,
    /// The time until which it rests, in ms since the epoch: after a start of the hub all agents are away for a moment.
    pub(super) rests_until: Option<u64>,
    /// No deadline counts from before this time, in ms since the epoch.
    pub(super) counts_from: u64,
    /// When the rollout itself is due, in ms since the epoch.
    pub(super) due: Option<u64>,
}

impl Active {
    /// Returns when the rollout itself is due, in ms since the epoch.
    pub(super) fn next_due(&self, rollout: &Rollout) -> Option<u64> {
        let deadlines = self.canary_due(rollout).into_iter().chain(self.progress_due(rollout));
        self.rests_until.or_else(|| deadlines.min())
    }

    /// Returns when the canary has taken too long, in ms since the epoch.
    pub(super) fn canary_due(&self, rollout: &Rollout) -> Option<u64> {
        let since = rollout.wave_since.max(self.counts_from);
        let counts = rollout.state.is_going() && rollout.is_canary() && !rollout.awaits_promote();
        counts.then(|| since.saturating_add(rollout.plan.canary_deadline_ms))
    }

    /// Returns when nothing has moved for too long, in ms since the epoch. Where all that is left waits for a time of its
    /// own, nothing has to move.
    pub(super) fn progress_due(&self, rollout: &Rollout) -> Option<u64> {
        let since = rollout.progressed_at.max(self.counts_from);
        let can_move = rollout.counts.pending + rollout.counts.in_flight() > 0;
        let counts = rollout.state.is_going() && can_move && !rollout.awaits_promote();
        counts.then(|| since.saturating_add(rollout.plan.progress_ms()))
    }

    /// Moves every time.
    pub(super) fn move_by(&mut self, ms: i64) {
        let Self { ready: _, unavailable: _, rests_until, counts_from, due } = self;
        rests_until.iter_mut().chain(due).chain([counts_from]).for_each(|at| move_time(at, ms));
    }
}

/// A rollout under way at one moment.
pub(super) struct Driver<'a> {
    pub(super) rollout: &'a mut Rollout,
    pub(super) active: &'a mut Active,
    pub(super) timers: &'a mut BTreeSet<Timer>,
    pub(super) dirty: &'a mut Dirty,
    pub(super) now_ms: u64,
}

impl Driver<'_> {
    /// Moves a target as far as the facts say.
    pub(super) fn look_at(&mut self, number: u32, fleet: Fleet<'_>) {
        if self.active.rests_until.is_some() {
            return;
        }
        while let Some(target) = self.rollout.targets.get(&number).cloned() {
            let facts = fleet.facts(&target.agent_id, target.command_id.as_deref());
            match fold::next_move(&target, self.rollout, facts.as_ref(), fleet) {
                Some(next) => self.apply(number, next),
                None => return self.note(&target, facts.as_ref()),
            }
        }
    }

    /// Does what follows from the states of all targets, and returns what is to be commanded.
    pub(super) fn settle(&mut self, fleet: Fleet<'_>) -> Vec<Order> {
        let mut orders = Vec::new();
        if self.rollout.counts.open() > 0 && self.rollout.state.is_going() && self.active.rests_until.is_none() {
            self.halt_if_due();
            while self.rollout.state.is_going() {
                self.take_targets(fleet, &mut orders);
                if !self.next_wave() {
                    break;
                }
            }
        }
        if self.rollout.counts.open() == 0 && self.rollout.ended_at.is_none() {
            self.enter(self.rollout.end());
            self.rollout.ended_at = Some(self.now_ms);
        }
        self.set_timer();
        orders
    }

    /// Gives pending targets their turns, in their order, until the wave is full or too many are unavailable. Who is away
    /// for a moment before its turn is not skipped for it.
    fn take_targets(&mut self, fleet: Fleet<'_>, orders: &mut Vec<Order>) {
        let (cap, max) = (self.rollout.cap(), self.rollout.max_unavailable());
        while self.rollout.counts.commanded() < cap && self.unavailable() < max {
            let next = self.active.ready.first().and_then(|number| self.rollout.targets.get(number)).cloned();
            let Some(target) = next else { return };
            let facts = fleet.facts(&target.agent_id, None);
            match fold::turn(&target, self.rollout, facts.as_ref(), self.now_ms) {
                Turn::Moves(next) => self.apply(target.number, next),
                Turn::Occupied => self.note(&target, facts.as_ref()),
                Turn::Ready => orders.push(self.command(&target)),
            }
        }
    }

    fn unavailable(&self) -> u32 {
        u32::try_from(self.active.unavailable.len()).unwrap_or(u32::MAX)
    }

    /// Records that a target is commanded, and returns the order.
    fn command(&mut self, target: &Target) -> Order {
        let command_id = target.next_command_id();
        self.apply(target.number, Move::to(TargetState::Restarting));
        if let Some(target) = self.rollout.targets.get_mut(&target.number) {
            Arc::make_mut(target).command_id = Some(command_id.clone());
        }
        self.active.unavailable.insert(target.number);
        let Rollout { reason, by, plan, .. } = &*self.rollout;
        Order {
            command_id,
            agent_id: target.agent_id.clone(),
            reason: reason.clone(),
            by: by.clone(),
            deadline_ms: plan.deadline_ms,
            force: plan.force,
        }
    }

    /// Begins the next wave if this one is over. Returns whether it did.
    fn next_wave(&mut self) -> bool {
        let rollout = &mut *self.rollout;
        if !rollout.is_wave_over() || rollout.awaits_promote() || rollout.is_last_wave() {
            return false;
        }
        self.begin_next_wave();
        true
    }

    /// Begins the next wave.
    pub(super) fn begin_next_wave(&mut self) {
        self.rollout.wave += 1;
        (self.rollout.wave_since, self.rollout.progressed_at) = (self.now_ms, self.now_ms);
        self.enter(self.rollout.going());
    }

    fn halt_if_due(&mut self) {
        let is_due = |at: Option<u64>| at.is_some_and(|at| at <= self.now_ms);
        let why = match self.rollout.failures_halt() {
            Some(why) => Some(why),
            None if is_due(self.active.canary_due(self.rollout)) => Some(HaltReason::CanaryDeadline),
            None if is_due(self.active.progress_due(self.rollout)) => Some(HaltReason::ProgressDeadline),
            None => None,
        };
        if let Some(why) = why {
            self.enter(RolloutState::Halted { why });
        }
    }

    fn set_timer(&mut self) {
        let due = self.active.next_due(self.rollout).filter(|_| self.rollout.ended_at.is_none());
        let seq = self.rollout.seq;
        if let Some(before) = std::mem::replace(&mut self.active.due, due) {
            self.timers.remove(&(before, seq, None));
        }
        self.timers.extend(due.map(|at| (at, seq, None)));
    }

    /// Lets the rollout enter a state.
    pub(super) fn enter(&mut self, state: RolloutState) {
        if self.rollout.state != state {
            (self.rollout.state, self.rollout.since) = (state, self.now_ms);
        }
        self.dirty.rollouts.insert(self.rollout.id.clone());
    }

    /// Moves a target. In a rollout that was cancelled nothing waits any more.
    pub(super) fn apply(&mut self, number: u32, next: Move) {
        let Some(target) = self.rollout.targets.get_mut(&number).map(Arc::make_mut) else { return };
        let waits = matches!(next.state, TargetState::Pending | TargetState::Waiting { .. });
        let is_cancelled = waits && self.rollout.state == RolloutState::Cancelled;
        let state = if is_cancelled { TargetState::Cancelled } else { next.state };
        let seq = self.rollout.seq;
        self.timers.extend(state.until().map(|at| (at, seq, Some(number))));
        let before = std::mem::replace(&mut target.state, state);
        if let Some(at) = before.until().filter(|at| target.state.until() != Some(*at)) {
            self.timers.remove(&(at, seq, Some(number)));
        }
        self.rollout.counts.remove(&before);
        self.rollout.counts.add(&target.state);
        (target.since, target.detail) = (self.now_ms, next.detail);
        target.gap_ms = next.gap_ms.or(target.gap_ms);
        if next.is_retry && !is_cancelled {
            target.attempt += 1;
            (target.command_id, target.gap_ms) = (None, None);
        }
        match target.state == TargetState::Pending {
            true => self.active.ready.insert(number),
            false => self.active.ready.remove(&number),
        };
        self.rollout.progressed_at = self.now_ms;
        self.dirty.rollouts.insert(self.rollout.id.clone());
        self.dirty.targets.insert((self.rollout.id.clone(), number));
    }

    /// Notes what the facts of a target mean for the budget and for the targets behind it.
    fn note(&mut self, target: &Target, facts: Option<&Facts<'_>>) {
        let Active { ready, unavailable, .. } = &mut *self.active;
        let mark = |set: &mut BTreeSet<u32>, on: bool| match on {
            true => set.insert(target.number),
            false => set.remove(&target.number),
        };
        let on_restart = facts.is_some_and(|facts| facts.on_restart);
        mark(ready, target.state == TargetState::Pending && !on_restart);
        mark(unavailable, fold::is_unavailable(target, facts));
    }
}
