//! The rollout over the whole fleet, and its bound: counted from what was committed and from who is connected, not by the
//! rollout's own index.

use std::sync::Arc;

use agentcom::hub::hub_state::HubState;
use agentcom::hub::scheduler::amount::Amount;
use agentcom::hub::scheduler::rollouts::plan::{OfflinePolicy, Plan};
use agentcom::hub::scheduler::rollouts::rollout::{Rollout, RolloutState};
use agentcom::hub::scheduler::rollouts::start::RolloutRequest;
use agentcom::hub::scheduler::rollouts::target::{Target, TargetState};
use agentcom::hub::scheduler::{Changes, Scheduler};

use super::sidecar::{name, number, version};
use super::{About, Checked, Day, Violation, of_agent};

const ID: &str = "rollout";
/// How many of a hundred may be unavailable at once.
const PERCENT: u8 = 5;

/// Bits of an agent: what makes it unavailable.
const ON_RESTART: u8 = 1;
const SOAKING: u8 = 2;
/// Together: it is away since a command of the rollout.
const COMMANDED: u8 = 4;
const AWAY: u8 = 8;

fn is_unavailable(bits: u8) -> bool {
    bits & (ON_RESTART | SOAKING) != 0 || bits & (COMMANDED | AWAY) == COMMANDED | AWAY
}

/// Who is unavailable, as the hub knows it.
pub struct Fleet {
    bits: Vec<u8>,
    unavailable: u32,
}

/// What a batch meant for the rollout.
pub struct Looked {
    /// The agents that it commanded.
    commanded: Vec<u32>,
    /// How many agents became unavailable otherwise in the same batch: it could not know.
    others: u32,
}

impl Fleet {
    pub fn new(agents: u32) -> Self {
        Self { bits: vec![AWAY; agents as usize], unavailable: 0 }
    }

    /// Sets or clears a bit. Returns whether the agent became unavailable by it.
    fn set(&mut self, agent: u32, bit: u8, on: bool) -> bool {
        let bits = &mut self.bits[agent as usize];
        let before = is_unavailable(*bits);
        if on {
            *bits |= bit
        } else {
            *bits &= !bit
        }
        let after = is_unavailable(*bits);
        self.unavailable = self.unavailable + u32::from(after) - u32::from(before);
        after && !before
    }

    fn target(&mut self, target: &Target) {
        let agent = number(&target.agent_id);
        self.set(agent, SOAKING, matches!(target.state, TargetState::Soaking { .. }));
        self.set(agent, COMMANDED, target.command_id.is_some());
    }

    /// Takes in what a batch changed.
    pub fn apply(&mut self, changes: &Changes<'_>, presence: &[(Arc<str>, bool)]) -> Looked {
        let mut looked = Looked { commanded: Vec::new(), others: 0 };
        for (_, restart) in &changes.restarts {
            let Some(restart) = restart else { continue };
            let (agent, is_open) = (number(&restart.agent_id), restart.phase.is_open());
            let began = self.set(agent, ON_RESTART, is_open);
            match restart.command_id.starts_with(ID) {
                // The first step of it: it was commanded in this batch.
                true if is_open && restart.steps.len() == 1 => looked.commanded.push(agent),
                true => {}
                false => looked.others += u32::from(began),
            }
        }
        changes.targets.iter().filter_map(|(_, target)| *target).for_each(|target| self.target(target));
        for (agent_id, connected) in presence {
            looked.others += u32::from(self.set(number(agent_id), AWAY, !connected));
        }
        looked
    }

    /// A hub starts: nobody is connected.
    pub fn load(&mut self, scheduler: &Scheduler) {
        *self = Self::new(u32::try_from(self.bits.len()).expect("counted as such"));
        for agent_id in scheduler.restarts().fenced() {
            self.set(number(agent_id), ON_RESTART, true);
        }
        for target in scheduler.rollouts().get(ID).into_iter().flat_map(|rollout| rollout.targets.values()) {
            self.target(target);
        }
    }
}

impl Day {
    /// No restart is commanded while so many are unavailable as may be.
    pub(super) fn judge_rollout(&mut self, state: &HubState, looked: Looked) -> Checked {
        let Some(rollout) = state.scheduler.rollouts().get(ID) else { return Ok(()) };
        let (unavailable, bound) = (self.hub.fleet.unavailable, rollout.max_unavailable());
        self.figures.in_flight = self.figures.in_flight.max(rollout.counts.in_flight());
        if looked.commanded.is_empty() {
            return Ok(());
        }
        self.figures.unavailable = self.figures.unavailable.max(unavailable.saturating_sub(looked.others));
        if unavailable > bound + looked.others {
            let what = format!(
                "commanded with {unavailable} unavailable, of which {} since the same moment; {bound} may be",
                looked.others
            );
            return Err(of_agent(looked.commanded[0], what));
        }
        Ok(())
    }

    pub(super) fn start_rollout(&mut self, state: &mut HubState, now: u64) -> Checked {
        let agents: Vec<String> = (0..self.options.agents).map(name).collect();
        let plan = Plan {
            max_unavailable: Amount::Percent(PERCENT),
            max_failures: Amount::Percent(1),
            offline: OfflinePolicy::Wait,
            expect_version: Some(version(2)),
            ..Plan::default()
        };
        let request = RolloutRequest {
            reason: "a new version".to_owned(),
            by: "ops".to_owned(),
            selector: "all".to_owned(),
            plan,
        };
        match state.scheduler.start_rollout(ID, request, &agents, now) {
            Ok(_) => {
                self.books.version = 2;
                self.figures.rollout_began.get_or_insert(now);
                Ok(())
            }
            Err(why) => Err(Violation { what: format!("the rollout is refused: {why}"), about: About::All }),
        }
    }

    /// An operator has seen why it stopped.
    pub(super) fn resume_rollout(&mut self, state: &mut HubState, now: u64) {
        if state.scheduler.resume_rollout(ID, now).is_ok() {
            self.figures.resumed += 1;
        }
    }

    /// The rollout, as the hub knows it.
    pub(super) fn rollout(&self) -> Option<&Rollout> {
        self.hub.state.as_ref()?.scheduler.rollouts().get(ID)
    }

    /// Whether it has stopped by itself.
    pub(super) fn rollout_halted(&self) -> bool {
        self.rollout().is_some_and(|rollout| matches!(rollout.state, RolloutState::Halted { .. }))
    }
}
