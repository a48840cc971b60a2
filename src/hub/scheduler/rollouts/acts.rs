//! What operators do with rollouts, and how the scheduler carries them out.

use std::sync::Arc;

use crate::hub::scheduler::Scheduler;
use crate::hub::scheduler::restart::{RestartRequest, RunIdentity};
use crate::hub::scheduler::rollouts::driver::{Driver, Order};
use crate::hub::scheduler::rollouts::facts::Fleet;
use crate::hub::scheduler::rollouts::fold::{self, Move};
use crate::hub::scheduler::rollouts::refused::Refused;
use crate::hub::scheduler::rollouts::rollout::{Rollout, RolloutState};
use crate::hub::scheduler::rollouts::target::{Target, TargetState};
use crate::hub::scheduler::rollouts::{RolloutTable, Rollouts};

/// How a failed target is tried once more.
struct Retry {
    agent_id: Arc<str>,
    next: Move,
    /// The run that it is to end, if it is restarted anew.
    run_now: RunIdentity,
}

impl Scheduler {
    /// Restores the rollouts that were stored, for a hub that starts, or (without a time) for a change that is made while
    /// no hub runs.
    #[must_use]
    pub fn with_rollouts(mut self, stored: Vec<Rollout>, targets: Vec<Target>, now_ms: Option<u64>) -> Self {
        self.rollouts = match now_ms {
            Some(now_ms) => {
                let wait_ms = self.policy.accept_timeout_ms.max(self.policy.takeover_wait_ms);
                self.agents_return_until = now_ms.saturating_add(wait_ms);
                Rollouts::load(stored, targets, self.agents_return_until)
            }
            None => Rollouts::load(stored, targets, u64::MAX).resting(u64::MAX),
        };
        self
    }

    /// Lets the waves after the canary begin.
    ///
    /// # Errors
    /// [`Refused`], unless the canary is through and waits for that.
    pub fn promote_rollout(&mut self, id: &str, now_ms: u64) -> Result<(), Refused> {
        let needs = "only a rollout whose canary is through, and waits for that, can be promoted";
        self.act(id, now_ms, needs, |rollout| rollout.awaits_promote(), |driver| driver.begin_next_wave())
    }

    /// Stops a rollout: it commands nothing more, and what is under way is followed to its end.
    ///
    /// # Errors
    /// [`Refused`], unless it goes on.
    pub fn pause_rollout(&mut self, id: &str, now_ms: u64) -> Result<(), Refused> {
        let needs = "only one that is in its canary or running can be paused";
        self.act(id, now_ms, needs, |rollout| rollout.state.is_going(), |driver| driver.enter(RolloutState::Paused))
    }

    /// Lets a rollout go on that was paused or has halted: the failures so far do not count any more, and its deadlines
    /// begin anew.
    ///
    /// # Errors
    /// [`Refused`], unless it was paused or has halted.
    pub fn resume_rollout(&mut self, id: &str, now_ms: u64) -> Result<(), Refused> {
        let needs = "only one that was paused or has halted can be resumed";
        let is_stopped = |rollout: &Rollout| is_stopped(rollout.state);
        self.act(id, now_ms, needs, is_stopped, |driver| {
            driver.rollout.forgiven = driver.rollout.counts.failed;
            (driver.rollout.wave_since, driver.rollout.progressed_at) = (now_ms, now_ms);
            driver.enter(driver.rollout.going());
        })
    }

    /// Ends a rollout: it commands nothing more, and what is under way is followed to its end.
    ///
    /// # Errors
    /// [`Refused`], if it has ended or was cancelled.
    pub fn cancel_rollout(&mut self, id: &str, now_ms: u64) -> Result<(), Refused> {
        let needs = "it was cancelled before, or has ended";
        let can = |rollout: &Rollout| rollout.ended_at.is_none() && rollout.state != RolloutState::Cancelled;
        self.act(id, now_ms, needs, can, |driver| {
            driver.enter(RolloutState::Cancelled);
            for number in driver.numbers(|state| matches!(state, TargetState::Pending | TargetState::Waiting { .. })) {
                driver.apply(number, Move::to(TargetState::Cancelled));
            }
        })
    }

    /// Withdraws the commands of a stopped rollout that have not reached their agents, and returns how many.
    ///
    /// # Errors
    /// [`Refused`], unless it was paused or cancelled, or has halted.
    pub fn recall_rollout(&mut self, id: &str, now_ms: u64) -> Result<usize, Refused> {
        let needs = "only one that was paused or cancelled, or has halted, and has not ended, can be recalled";
        let can = |rollout: &Rollout| is_stopped(rollout.state) || rollout.state == RolloutState::Cancelled;
        let on_restart =
            self.check_act(id, needs, can)?.targets.values().filter(|it| it.state == TargetState::Restarting);
        let on_restart: Vec<Arc<Target>> = on_restart.cloned().collect();
        let mut withdrawn = Vec::new();
        for target in on_restart {
            if target.command_id.as_deref().is_some_and(|command_id| self.restarts.withdraw(command_id, now_ms)) {
                // A task whose holder is away is not kept for the restart any more.
                self.tasks.assignments.restart_overdue(&target.agent_id);
                self.touched.push(target.agent_id.to_string());
                withdrawn.push(target.number);
            }
        }
        let count = withdrawn.len();
        self.act(id, now_ms, needs, can, |driver| {
            withdrawn.iter().for_each(|number| driver.apply(*number, Move::anew()));
        })?;
        Ok(count)
    }

    /// Lets the failed targets of a rollout be tried once more, and returns how many. A rollout that had ended goes on; one
    /// that is stopped stays so.
    ///
    /// # Errors
    /// [`Refused`], if none failed, if it was cancelled, or if one of its agents is a target of another rollout meanwhile.
    pub fn retry_failed(&mut self, id: &str, now_ms: u64) -> Result<usize, Refused> {
        let needs = "only one with failed targets that was not cancelled can try them again";
        let can = |rollout: &Rollout| rollout.counts.failed > 0 && rollout.state != RolloutState::Cancelled;
        let rollout = self.rollouts.get(id).ok_or_else(|| Refused::Unknown(id.to_owned()))?;
        if !can(rollout) {
            return Err(refused_state(rollout, needs));
        }
        let failed: Vec<u32> = numbers(rollout, |state| matches!(state, TargetState::Failed { .. }));
        if rollout.ended_at.is_some() {
            let agents = rollout.targets.values().map(|target| &*target.agent_id);
            self.rollouts.check_shared(agents)?;
            self.rollouts.reopen(id, now_ms);
        }
        let retries: Vec<(u32, Retry)> =
            failed.iter().filter_map(|number| Some((*number, self.retry_of(id, *number, now_ms)?))).collect();
        self.touched.extend(retries.iter().map(|(_, retry)| retry.agent_id.to_string()));
        self.act(id, now_ms, needs, can, |driver| {
            for (number, retry) in retries {
                driver.retry(number, retry);
            }
            driver.rollout.forgiven = 0;
        })?;
        Ok(failed.len())
    }

    /// Returns how a failed target is tried once more.
    fn retry_of(&self, id: &str, number: u32, now_ms: u64) -> Option<Retry> {
        let rollout = self.rollouts.get(id)?;
        let target = rollout.targets.get(&number)?;
        let facts = Fleet::new(self, now_ms).facts(&target.agent_id, target.command_id.as_deref());
        Some(Retry {
            agent_id: target.agent_id.clone(),
            next: fold::retry(target, rollout, facts.as_ref(), now_ms),
            run_now: facts.map(|facts| facts.run.clone()).unwrap_or_default(),
        })
    }

    /// Returns the rollout, if it has not ended and is as it has to be.
    fn check_act(&self, id: &str, needs: &'static str, can: impl Fn(&Rollout) -> bool) -> Result<&Rollout, Refused> {
        let rollout = self.rollouts.get(id).ok_or_else(|| Refused::Unknown(id.to_owned()))?;
        match rollout.ended_at.is_none() && can(rollout) {
            true => Ok(rollout),
            false => Err(refused_state(rollout, needs)),
        }
    }

    /// Does something with a rollout, if it is as it has to be, and what follows from that.
    fn act(
        &mut self,
        id: &str,
        now_ms: u64,
        needs: &'static str,
        can: impl Fn(&Rollout) -> bool,
        work: impl FnOnce(&mut Driver<'_>),
    ) -> Result<(), Refused> {
        let seq = self.check_act(id, needs, can)?.seq;
        self.rollouts.drive(seq, now_ms, |driver| {
            driver.dirty.rollouts.insert(driver.rollout.id.clone());
            work(driver);
        });
        self.rollouts.stirred.entry(seq).or_default();
        self.dispatch(now_ms);
        Ok(())
    }

    /// Lets the rollouts look at what was touched, and commands what they decide. Returns whether there was anything.
    pub(in crate::hub::scheduler) fn step_rollouts(&mut self, now_ms: u64) -> bool {
        if !self.rollouts.has_work(now_ms) {
            return false;
        }
        let mut rollouts = std::mem::take(&mut self.rollouts);
        let orders = rollouts.step(Fleet::new(self, now_ms));
        self.rollouts = rollouts;
        let is_any = !orders.is_empty();
        for Order { command_id, agent_id, reason, by, deadline_ms, force } in orders {
            let request = RestartRequest { reason, deadline_ms, force, by };
            self.order_restart(command_id, &agent_id, request, now_ms);
        }
        is_any
    }

    /// Returns all rollouts.
    pub fn rollouts(&self) -> &RolloutTable {
        self.rollouts.all()
    }
}

impl Rollouts {
    /// Lets a rollout that had ended go on.
    fn reopen(&mut self, id: &str, now_ms: u64) {
        let Some(rollout) = self.all.by_id.get(id).and_then(|seq| self.all.by_seq.get_mut(seq)).map(Arc::make_mut)
        else {
            return;
        };
        (rollout.state, rollout.since, rollout.ended_at) = (rollout.going(), now_ms, None);
        (rollout.wave_since, rollout.progressed_at) = (now_ms, now_ms);
        let rollout = rollout.clone();
        self.activate(&rollout, self.new_rest_until);
    }
}

impl Driver<'_> {
    /// Returns the numbers of the targets in such a state.
    fn numbers(&self, is_meant: impl Fn(&TargetState) -> bool) -> Vec<u32> {
        numbers(self.rollout, is_meant)
    }

    /// Tries a target once more.
    fn retry(&mut self, number: u32, Retry { agent_id: _, next, run_now }: Retry) {
        let is_anew = next.is_retry;
        self.apply(number, next);
        if let Some(target) = self.rollout.targets.get_mut(&number).filter(|_| is_anew).map(Arc::make_mut) {
            target.run_before = run_now;
        }
    }
}

fn numbers(rollout: &Rollout, is_meant: impl Fn(&TargetState) -> bool) -> Vec<u32> {
    rollout.targets.iter().filter(|(_, target)| is_meant(&target.state)).map(|(number, _)| *number).collect()
}

const fn is_stopped(state: RolloutState) -> bool {
    match state {
        RolloutState::Paused | RolloutState::Halted { .. } => true,
        RolloutState::Canary
        | RolloutState::Running
        | RolloutState::Succeeded
        | RolloutState::Partial
        | RolloutState::Cancelled => false,
    }
}

fn refused_state(rollout: &Rollout, needs: &'static str) -> Refused {
    Refused::State { id: rollout.id.to_string(), state: rollout.state.to_string(), needs }
}
