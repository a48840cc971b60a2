//! Rollouts: restarts of many agents, a few at a time. Pure: no clock and no storage; the caller passes the time, carries
//! out the orders in the same step, and stores what is dirty.
//!
//! After each event the scheduler lets the rollouts look at the agents that it touched. In each step:
//!
//! 1. A target that was touched, or whose time is over, moves as far as the present facts say (`fold`).
//! 2. The rollout halts if too many failed, or if a deadline is over (`driver`).
//! 3. While its wave has room and fewer than `max_unavailable` targets are unavailable, the next one has its turn: it is
//!    commanded, waited for, or skipped.
//! 4. It ends with its last target.
//!
//! Nothing depends on having seen an event: a hub that was killed between any two steps goes on from what is stored. A
//! rollout that a starting hub finds rests for a while first, because all agents are away at that moment.

mod acts;
mod driver;
mod facts;
mod fold;
pub mod plan;
pub mod refused;
pub mod rollout;
pub mod shown;
pub mod start;
pub mod target;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use imbl::{HashMap as SharedHashMap, OrdMap};

use crate::common::wall_clock::move_time;
use crate::hub::scheduler::Scheduler;
pub(in crate::hub::scheduler) use crate::hub::scheduler::rollouts::driver::Order;
use crate::hub::scheduler::rollouts::driver::{Active, Dirty, Driver, Timer};
use crate::hub::scheduler::rollouts::facts::Fleet;
use crate::hub::scheduler::rollouts::plan::OfflinePolicy;
use crate::hub::scheduler::rollouts::rollout::Rollout;
use crate::hub::scheduler::rollouts::target::{Counts, Target, TargetPhase, TargetState};

/// The number of ended rollouts that are kept; the oldest are dropped first.
const MAX_ENDED: usize = 100;

/// All rollouts, for readers. A copy shares them with the original and costs nothing.
#[derive(Debug, Clone, Default)]
pub struct RolloutTable {
    by_seq: OrdMap<u64, Arc<Rollout>>,
    by_id: SharedHashMap<Arc<str>, u64>,
}

impl RolloutTable {
    /// Returns one rollout.
    pub fn get(&self, id: &str) -> Option<&Rollout> {
        self.by_seq.get(self.by_id.get(id)?).map(Arc::as_ref)
    }

    /// Returns the agents that are on a restart of a rollout, or back from one and not proven yet.
    pub fn agents_in_flight(&self) -> impl Iterator<Item = &Arc<str>> {
        let under_way = self.by_seq.values().filter(|rollout| rollout.counts.in_flight() > 0);
        under_way.flat_map(|rollout| rollout.targets.values()).filter_map(|target| {
            let phase = target.state.phase();
            matches!(phase, TargetPhase::Restarting | TargetPhase::Soaking).then_some(&target.agent_id)
        })
    }

    /// Returns the number of targets in each state, of the rollouts that have not ended.
    pub fn open_targets(&self) -> impl Iterator<Item = (TargetPhase, u64)> {
        let open = || self.by_seq.values().filter(|rollout| rollout.ended_at.is_none());
        let count = move |place: usize| open().map(|rollout| u64::from(rollout.counts.by_phase()[place].1)).sum();
        let phases = Counts::default().by_phase().map(|(phase, _)| phase);
        phases.into_iter().enumerate().map(move |(place, phase)| (phase, count(place)))
    }

    /// Returns the rollouts before this one, newest first; all of them for `None`.
    pub fn before(&self, seq: Option<u64>) -> impl Iterator<Item = &Rollout> {
        self.by_seq.range(..seq.unwrap_or(u64::MAX)).rev().map(|(_, rollout)| &**rollout)
    }
}

/// All rollouts.
#[derive(Debug, Clone, Default)]
pub struct Rollouts {
    all: RolloutTable,
    /// Those that have not ended.
    active: BTreeMap<u64, Active>,
    /// The target that each agent of theirs is.
    by_agent: HashMap<Arc<str>, (u64, u32)>,
    timers: BTreeSet<Timer>,
    /// The rollouts, and the targets of each, to be looked at in the next step.
    stirred: BTreeMap<u64, BTreeSet<u32>>,
    dirty: Dirty,
    next_seq: u64,
    /// How long a rollout that is started now rests, in ms since the epoch.
    new_rest_until: Option<u64>,
}

impl Rollouts {
    /// Restores the rollouts from what was stored. Those that have not ended rest until this time, in ms since the epoch.
    pub fn load(stored: Vec<Rollout>, targets: Vec<Target>, rests_until: u64) -> Self {
        let mut rollouts = Self::default();
        let mut of_rollout: HashMap<Arc<str>, Vec<Target>> = HashMap::new();
        for target in targets {
            of_rollout.entry(target.rollout_id.clone()).or_default().push(target);
        }
        for mut rollout in stored {
            for target in of_rollout.remove(&rollout.id).unwrap_or_default() {
                rollout.counts.add(&target.state);
                rollout.targets.insert(target.number, Arc::new(target));
            }
            rollouts.next_seq = rollouts.next_seq.max(rollout.seq + 1);
            rollouts.insert(rollout, Some(rests_until));
        }
        rollouts
    }

    /// Lets rollouts that are started now rest until this time, too, in ms since the epoch.
    fn resting(self, until: u64) -> Self {
        Self { new_rest_until: Some(until), ..self }
    }

    /// Returns all rollouts.
    pub fn all(&self) -> &RolloutTable {
        &self.all
    }

    /// Returns one rollout.
    pub fn get(&self, id: &str) -> Option<&Rollout> {
        self.all.get(id)
    }

    /// Returns one target.
    pub fn target(&self, id: &str, number: u32) -> Option<&Target> {
        self.get(id)?.targets.get(&number).map(Arc::as_ref)
    }

    /// Returns when [`Self::step`] will next have something to do by itself, in ms since the epoch.
    pub(super) fn deadline(&self) -> Option<u64> {
        self.timers.first().map(|(at, _, _)| *at)
    }

    /// Lets the next step look at the agent, if it is a target.
    pub(super) fn touch(&mut self, agent_id: &str) {
        if let Some((seq, number)) = self.by_agent.get(agent_id) {
            self.stirred.entry(*seq).or_default().insert(*number);
        }
    }

    /// Returns whether the next step has something to look at by this time, in ms since the epoch.
    pub(super) fn has_work(&self, now_ms: u64) -> bool {
        !self.stirred.is_empty() || self.deadline().is_some_and(|at| at <= now_ms)
    }

    /// Looks at what was touched and at what is due, and returns the restarts that are to be commanded now.
    fn step(&mut self, fleet: Fleet<'_>) -> Vec<Order> {
        self.take_due(fleet.now_ms);
        let mut orders = Vec::new();
        while let Some((seq, numbers)) = self.stirred.pop_first() {
            let settled = self.drive(seq, fleet.now_ms, |driver| {
                numbers.iter().for_each(|number| driver.look_at(*number, fleet));
                driver.settle(fleet)
            });
            orders.extend(settled.into_iter().flatten());
            self.retire_if_ended(seq);
        }
        orders
    }

    /// Stirs what is due by now.
    fn take_due(&mut self, now_ms: u64) {
        while let Some((_, seq, number)) = self.timers.first().copied().filter(|(at, _, _)| *at <= now_ms) {
            self.timers.pop_first();
            let numbers = self.stirred.entry(seq).or_default();
            numbers.extend(number);
            let Some(active) = self.active.get_mut(&seq) else { continue };
            if active.rests_until.is_some_and(|until| until <= now_ms) {
                active.rests_until = None;
                numbers.extend(self.all.by_seq.get(&seq).into_iter().flat_map(|rollout| rollout.targets.keys()));
            }
        }
    }

    /// Moves what is measured `ms` later, or earlier if that is negative, because the clock was set.
    pub(super) fn move_by(&mut self, ms: i64) {
        let Self { all, active, timers, dirty, new_rest_until, .. } = self;
        // Those that have ended, too: their failed targets may be tried again.
        let seqs: Vec<u64> = all.by_seq.keys().copied().collect();
        for seq in seqs {
            let Some(rollout) = all.by_seq.get_mut(&seq).map(Arc::make_mut) else { continue };
            rollout.move_by(ms);
            dirty.rollouts.insert(rollout.id.clone());
            let timed: Vec<u32> =
                rollout.targets.values().filter(|it| it.state.until().is_some()).map(|it| it.number).collect();
            for number in timed {
                if let Some(target) = rollout.targets.get_mut(&number) {
                    Arc::make_mut(target).move_by(ms);
                    dirty.targets.insert((rollout.id.clone(), number));
                }
            }
            if let Some(active) = active.get_mut(&seq) {
                active.move_by(ms);
            }
        }
        new_rest_until.iter_mut().for_each(|at| move_time(at, ms));
        let moved = std::mem::take(timers).into_iter();
        *timers = moved.map(|(at, seq, number)| (at.saturating_add_signed(ms), seq, number)).collect();
    }

    /// Runs `work` on a rollout that has not ended.
    fn drive<T>(&mut self, seq: u64, now_ms: u64, work: impl FnOnce(&mut Driver<'_>) -> T) -> Option<T> {
        let Self { all, active, timers, dirty, .. } = self;
        let rollout = all.by_seq.get_mut(&seq).map(Arc::make_mut)?;
        let active = active.get_mut(&seq)?;
        Some(work(&mut Driver { rollout, active, timers, dirty, now_ms }))
    }

    /// Adds a rollout; one that has not ended is under way, and rests until then.
    fn insert(&mut self, rollout: Rollout, rests_until: Option<u64>) {
        let seq = rollout.seq;
        self.all.by_id.insert(rollout.id.clone(), seq);
        let rollout = self.all.by_seq.entry(seq).or_insert(Arc::new(rollout)).clone();
        if rollout.ended_at.is_none() {
            self.activate(&rollout, rests_until);
        }
    }

    /// Sets up what is derived of a rollout.
    fn activate(&mut self, rollout: &Rollout, rests_until: Option<u64>) {
        let counts_from = rests_until.unwrap_or_default();
        let mut active = Active { rests_until, counts_from, due: rests_until, ..Active::default() };
        self.timers.extend(rests_until.map(|until| (until, rollout.seq, None)));
        let stirred = self.stirred.entry(rollout.seq).or_default();
        for (number, target) in &rollout.targets {
            self.by_agent.insert(target.agent_id.clone(), (rollout.seq, *number));
            self.timers.extend(target.state.until().map(|at| (at, rollout.seq, Some(*number))));
            stirred.insert(*number);
            if target.state == TargetState::Pending {
                active.ready.insert(*number);
            }
        }
        self.active.insert(rollout.seq, active);
    }

    /// Drops what is derived of a rollout that has ended, and the oldest such rollouts if there are too many.
    fn retire_if_ended(&mut self, seq: u64) {
        let Some(rollout) = self.all.by_seq.get(&seq).filter(|rollout| rollout.ended_at.is_some()).cloned() else {
            return;
        };
        if self.active.remove(&seq).is_none() {
            return;
        }
        for target in rollout.targets.values() {
            self.by_agent.remove(&target.agent_id);
        }
        let ended: Vec<u64> = self.all.by_seq.keys().filter(|seq| !self.active.contains_key(seq)).copied().collect();
        for oldest in &ended[..ended.len().saturating_sub(MAX_ENDED)] {
            let Some(dropped) = self.all.by_seq.remove(oldest) else { continue };
            self.all.by_id.remove(&dropped.id);
            self.dirty.targets.extend(dropped.targets.keys().map(|number| (dropped.id.clone(), *number)));
            self.dirty.rollouts.insert(dropped.id.clone());
        }
    }

    /// Returns what is to be stored (or, if there is none of it, to be deleted) since the last call.
    pub(super) fn take_dirty(&mut self) -> Dirty {
        std::mem::take(&mut self.dirty)
    }

    /// Returns whether the rollout rests after a start of the hub.
    #[cfg(test)]
    pub(crate) fn is_resting(&self, id: &str) -> bool {
        let active = self.get(id).and_then(|rollout| self.active.get(&rollout.seq));
        active.is_some_and(|active| active.rests_until.is_some())
    }

    /// Checks what is derived of a rollout against whether each target's agent is on a restart, and unavailable.
    #[cfg(test)]
    pub(crate) fn check_index(&self, id: &str, facts: impl Fn(&Target) -> (bool, bool)) {
        let Some((rollout, active)) = self.get(id).and_then(|it| Some((it, self.active.get(&it.seq)?))) else { return };
        if active.rests_until.is_some() {
            return;
        }
        for (number, target) in &rollout.targets {
            let (on_restart, unavailable) = facts(target);
            let is_ready = target.state == TargetState::Pending && !on_restart;
            assert_eq!(
                (active.ready.contains(number), active.unavailable.contains(number)),
                (is_ready, unavailable),
                "{target:?}"
            );
            let until = target.state.until();
            assert!(until.is_none_or(|at| self.timers.contains(&(at, rollout.seq, Some(*number)))), "{target:?}");
        }
    }

    /// Feeds what decides the future of rollouts to `hasher`, with every time counted by `from_now`.
    pub(super) fn state_hash(
        &self,
        scheduler: &Scheduler,
        now_ms: u64,
        from_now: impl Fn(u64) -> u64,
        hasher: &mut impl Hasher,
    ) {
        let fleet = Fleet::new(scheduler, now_ms);
        Some(scheduler.agents_return_until).filter(|until| *until > now_ms).map(&from_now).hash(hasher);
        for (seq, active) in &self.active {
            let Some(rollout) = self.all.by_seq.get(seq) else { continue };
            let Rollout { id, plan, state, wave, forgiven, .. } = &**rollout;
            (id, plan, state, wave, forgiven).hash(hasher);
            let waits_until = (plan.offline == OfflinePolicy::Wait).then(|| rollout.waits_until());
            let due = [active.rests_until, active.canary_due(rollout), active.progress_due(rollout), waits_until];
            (due.map(|at| at.map(&from_now)), &active.unavailable).hash(hasher);
            for (number, target) in &rollout.targets {
                (number, &target.agent_id, target.state.phase(), target.state.why(), target.attempt).hash(hasher);
                target.state.until().map(&from_now).hash(hasher);
                if let TargetState::Soaking { run, .. } = &target.state {
                    run.hash(hasher);
                }
                (&target.command_id, &target.run_before).hash(hasher);
                let Some(facts) = fleet.facts(&target.agent_id, target.command_id.as_deref()) else { continue };
                (facts.connected, facts.run, facts.version, facts.cordoned).hash(hasher);
                fleet.is_healthy(&target.agent_id).hash(hasher);
                // While the rollout rests, it has not seen the end of the command.
                facts.command.map(|command| (command.retry_at.map(&from_now), &command.boot_after)).hash(hasher);
            }
        }
    }
}
