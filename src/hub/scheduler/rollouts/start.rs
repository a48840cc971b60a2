//! The start of a rollout, and what it would do if it were started.

use std::sync::Arc;

use crate::hub::scheduler::Scheduler;
use crate::hub::scheduler::rollouts::Rollouts;
use crate::hub::scheduler::rollouts::facts::Fleet;
use crate::hub::scheduler::rollouts::fold::{self, Turn};
use crate::hub::scheduler::rollouts::plan::Plan;
use crate::hub::scheduler::rollouts::refused::{Shared, StartRefused};
use crate::hub::scheduler::rollouts::rollout::{Rollout, RolloutState, Targets};
use crate::hub::scheduler::rollouts::shown::DryRun;
use crate::hub::scheduler::rollouts::target::{Counts, SkipReason, Target, TargetState};

/// What a rollout is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutRequest {
    /// The reason, as text for people.
    pub reason: String,
    /// The name that the request's token proves.
    pub by: String,
    /// The selector by which the agents were found, as text.
    pub selector: String,
    /// How it goes about its targets.
    pub plan: Plan,
}

impl Scheduler {
    /// Starts a rollout over these agents, in this order, and commands its first restarts.
    ///
    /// # Errors
    /// [`StartRefused`].
    pub fn start_rollout(
        &mut self,
        id: &str,
        request: RolloutRequest,
        agents: &[String],
        now_ms: u64,
    ) -> Result<&Rollout, StartRefused> {
        if self.rollouts.get(id).is_some() {
            return Err(StartRefused::Known(id.to_owned()));
        }
        let rollout = self.planned(id, request, agents, now_ms)?;
        for target in rollout.targets.values() {
            // The run that is to end must not be forgotten where the rollout is not.
            self.inventory.store_next(&target.agent_id);
        }
        self.rollouts.next_seq += 1;
        self.rollouts.dirty.rollouts.insert(rollout.id.clone());
        self.rollouts.dirty.targets.extend(rollout.targets.keys().map(|number| (rollout.id.clone(), *number)));
        self.rollouts.insert(rollout, self.rollouts.new_rest_until);
        self.dispatch(now_ms);
        self.rollouts.get(id).ok_or_else(|| StartRefused::Known(id.to_owned()))
    }

    /// Returns what such a rollout would do now.
    ///
    /// # Errors
    /// Those of [`Self::start_rollout`].
    pub fn dry_run(&self, request: RolloutRequest, agents: &[String], now_ms: u64) -> Result<DryRun, StartRefused> {
        let rollout = self.planned("", request, agents, now_ms)?;
        let caps = rollout.plan.caps(rollout.size);
        let (max_unavailable, max_failures) = (rollout.max_unavailable(), rollout.plan.max_failures.of(rollout.size));
        let mut dry = DryRun { max_unavailable, max_failures, ..DryRun::default() };
        let fleet = Fleet::new(self, now_ms);
        for target in rollout.targets.values() {
            let facts = fleet.facts(&target.agent_id, None);
            let ends = match target.state == TargetState::Pending {
                true => match fold::turn(target, &rollout, facts.as_ref(), now_ms) {
                    Turn::Moves(next) => Some(next.state),
                    Turn::Ready | Turn::Occupied => None,
                },
                false => Some(target.state.clone()),
            };
            match ends.as_ref().map(|state| (state, state.why())) {
                Some((TargetState::Waiting { .. }, _)) => dry.waiting.push(target.agent_id.to_string()),
                Some((_, Some(why))) => dry.skipped.entry(why).or_default().push(target.agent_id.to_string()),
                Some((_, None)) | None => dry.add_target(&caps, &target.agent_id),
            }
        }
        Ok(dry)
    }

    /// Creates a rollout that is not under way yet.
    fn planned(
        &self,
        id: &str,
        request: RolloutRequest,
        agents: &[String],
        now_ms: u64,
    ) -> Result<Rollout, StartRefused> {
        let RolloutRequest { reason, by, selector, plan } = request;
        plan.check()?;
        let size = u32::try_from(agents.len()).map_err(|_| StartRefused::TooMany(agents.len()))?;
        if size == 0 {
            return Err(StartRefused::Empty);
        }
        self.rollouts.check_shared(agents.iter().map(String::as_str))?;
        let id: Arc<str> = id.into();
        let (mut targets, mut counts) = (Targets::new(), Counts::default());
        for (number, agent_id) in (0..).zip(agents) {
            let target = self.target(&id, number, agent_id, now_ms);
            counts.add(&target.state);
            targets.insert(number, Arc::new(target));
        }
        let mut rollout = Rollout {
            id,
            seq: self.rollouts.next_seq,
            reason,
            by,
            selector,
            plan: plan.settled(self.policy.restart_deadline_ms),
            size,
            created_at: now_ms,
            clock_moved_ms: 0,
            state: RolloutState::Running,
            since: now_ms,
            wave: 0,
            wave_since: now_ms,
            progressed_at: now_ms,
            forgiven: 0,
            ended_at: None,
            targets,
            counts,
        };
        rollout.state = rollout.going();
        Ok(rollout)
    }

    /// Creates a target. One that has never identified has nothing to restart.
    fn target(&self, rollout_id: &Arc<str>, number: u32, agent_id: &str, now_ms: u64) -> Target {
        let record = self.inventory.get(agent_id);
        Target {
            rollout_id: rollout_id.clone(),
            number,
            agent_id: record.map_or_else(|| agent_id.into(), |record| record.agent_id.clone()),
            run_before: record.map(|record| record.run.clone()).unwrap_or_default(),
            state: match record {
                Some(_) => TargetState::Pending,
                None => TargetState::Skipped { why: SkipReason::Offline },
            },
            since: now_ms,
            attempt: 1,
            command_id: None,
            gap_ms: None,
            detail: record.map_or_else(|| "it has never identified".to_owned(), |_| String::new()),
        }
    }
}

impl Rollouts {
    /// Checks that none of the agents is a target of a rollout that has not ended.
    pub(super) fn check_shared<'a>(&self, agents: impl Iterator<Item = &'a str>) -> Result<(), Shared> {
        let (mut other, mut shared) = (None, Vec::new());
        for agent_id in agents {
            let Some((seq, _)) = self.by_agent.get(agent_id) else { continue };
            if *other.get_or_insert(*seq) == *seq {
                shared.push(agent_id);
            }
        }
        match other.and_then(|seq| self.all.by_seq.get(&seq)) {
            Some(other) => Err(Shared::new(&other.id, &shared)),
            None => Ok(()),
        }
    }
}
