//! A rollout as a finite model around the shipped scheduler: three agents that die, return and refuse, operators who change
//! their minds, a hub that is killed between any two steps, and time that jumps to what is due next. What the hub stored is
//! all that a crash leaves.

use std::collections::{BTreeMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Mutex;

use agentcom::hub::scheduler::amount::Amount;
use agentcom::hub::scheduler::inventory::Flush;
use agentcom::hub::scheduler::inventory::record::AgentRecord;
use agentcom::hub::scheduler::policy::Policy;
use agentcom::hub::scheduler::restart::{Restart, RestartPhase, RestartRequest};
use agentcom::hub::scheduler::rollouts::plan::{OfflinePolicy, Plan};
use agentcom::hub::scheduler::rollouts::refused::Refused;
use agentcom::hub::scheduler::rollouts::rollout::{Rollout, RolloutState};
use agentcom::hub::scheduler::rollouts::start::RolloutRequest;
use agentcom::hub::scheduler::rollouts::target::{Target, TargetState};
use agentcom::hub::scheduler::{Outgoing, Scheduler};
use agentcom::protocol::{Identify, RestartAck, RestartAckOutcome, SidecarFrame};
use stateright::{Checker, Model, Property};

use super::violation::{Violation, violated};

const AGENTS: [&str; 3] = ["a", "b", "c"];
const ID: &str = "r";
/// Where the hub's clock begins.
const EPOCH_MS: u64 = 1_000_000_000;

/// How much may go wrong, and what the plan says.
#[derive(Debug, Clone)]
pub struct Scope {
    pub name: &'static str,
    max_unavailable: u32,
    canary: bool,
    offline: OfflinePolicy,
    max_failures: u32,
    left: Left,
}

/// How often each of these may still happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Left {
    /// A connection that breaks, or a process that dies, without a command.
    deaths: u8,
    refusals: u8,
    by_hand: u8,
    /// What operators do: pause, resume, cancel, recall, retry.
    acts: u8,
    crashes: u8,
}

const NOTHING: Left = Left { deaths: 0, refusals: 0, by_hand: 0, acts: 0, crashes: 0 };

const fn scope(name: &'static str, max_unavailable: u32, left: Left) -> Scope {
    Scope { name, max_unavailable, canary: false, offline: OfflinePolicy::Skip, max_failures: 1, left }
}

/// In every CI run.
pub const ROLLOUTS: &[Scope] = &[
    scope("rollout: one at a time, a death and a crash of the hub", 1, Left { deaths: 1, crashes: 1, ..NOTHING }),
    scope("rollout: two at a time, a death and a crash of the hub", 2, Left { deaths: 1, crashes: 1, ..NOTHING }),
    scope("rollout: an operator and a refusal", 2, Left { acts: 1, refusals: 1, ..NOTHING }),
    scope("rollout: an operator and a crash of the hub", 1, Left { acts: 1, crashes: 1, ..NOTHING }),
    scope("rollout: a restart by hand and a death", 2, Left { by_hand: 1, deaths: 1, ..NOTHING }),
    Scope {
        canary: true,
        ..scope("rollout: a canary, an operator and a death", 2, Left { acts: 1, deaths: 1, ..NOTHING })
    },
    Scope {
        offline: OfflinePolicy::Wait,
        ..scope("rollout: agents that are waited for", 1, Left { deaths: 1, ..NOTHING })
    },
];

/// Larger ones, for the night.
pub const ROLLOUTS_NIGHTLY: &[Scope] = &[
    scope("rollout: operators and a refusal", 2, Left { acts: 2, refusals: 1, ..NOTHING }),
    Scope {
        offline: OfflinePolicy::Wait,
        ..scope(
            "rollout: agents that are waited for, and a crash of the hub",
            1,
            Left { deaths: 1, crashes: 1, ..NOTHING },
        )
    },
];

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The agent's connection ends: it leaves for its restart, breaks, or dies.
    Leaves(usize),
    /// The agent connects, in the run that it has or in a new one.
    Comes(usize, bool),
    Refuses(usize, bool),
    Delivered(usize),
    ByHand(usize),
    Due,
    Promote,
    Pause,
    Resume,
    Cancel,
    Recall,
    Retry,
    HubCrashes,
}

/// What the hub stored.
#[derive(Debug, Clone, Default)]
struct Disk {
    rollouts: BTreeMap<String, Rollout>,
    targets: BTreeMap<String, Target>,
    restarts: BTreeMap<String, Restart>,
    agents: BTreeMap<String, AgentRecord>,
    moment: u64,
}

fn write<T: Clone>(table: &mut BTreeMap<String, T>, changes: Vec<(String, Option<&T>)>) {
    for (key, record) in changes {
        match record {
            Some(record) => table.insert(key, record.clone()),
            None => table.remove(&key),
        };
    }
}

/// One state.
#[derive(Debug, Clone)]
pub struct World {
    scheduler: Scheduler,
    disk: Disk,
    now: u64,
    next_conn: u64,
    /// The connection of each agent, and the number of its run.
    agents: [(Option<u64>, u8); 3],
    /// The number of commands that each agent may still get.
    may_get: [u8; 3],
    left: Left,
    violation: Option<Violation>,
}

impl Hash for World {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        // One connection an agent, which is its newest: which number it has decides nothing.
        self.scheduler.state_hash(self.now, |_| 0, hasher);
        let rollout = self.rollout();
        (rollout.ended_at.is_some(), rollout.state, rollout.counts).hash(hasher);
        for (conn, run) in self.agents {
            (conn.is_some(), run).hash(hasher);
        }
        (self.may_get, self.left).hash(hasher);
        self.violation.hash(hasher);
    }
}

impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        print(self) == print(other)
    }
}

fn print(world: &World) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    world.hash(&mut hasher);
    hasher.finish()
}

impl World {
    fn rollout(&self) -> &Rollout {
        self.scheduler.rollouts().get(ID).expect("it is kept")
    }

    fn command_of(&self, agent: usize) -> Option<&Restart> {
        self.scheduler.restarts().open_for(AGENTS[agent])
    }

    /// The targets that are unavailable, counted from the facts.
    fn unavailable(&self) -> usize {
        let is_unavailable = |(agent, target): (usize, &Target)| {
            let away = target.command_id.is_some() && self.agents[agent].0.is_none();
            self.command_of(agent).is_some() || away || matches!(target.state, TargetState::Soaking { .. })
        };
        let targets = self.rollout().targets.iter().map(|(number, target)| (*number as usize, &**target));
        targets.filter(|target| is_unavailable(*target)).count()
    }

    fn leaves(&mut self, agent: usize) {
        if let Some(conn) = self.agents[agent].0.take() {
            self.scheduler.disconnected(conn, self.now);
        }
    }

    fn comes(&mut self, agent: usize, as_new: bool) {
        self.next_conn += 1;
        let (conn, run) = &mut self.agents[agent];
        *run += u8::from(as_new);
        *conn = Some(self.next_conn);
        let boot_id = Some(format!("{}-{run}", AGENTS[agent]));
        let identify = Identify { agent_id: AGENTS[agent].into(), boot_id, ..Identify::default() };
        self.scheduler.identified(self.next_conn, &identify, "", self.now);
    }

    fn refuses(&mut self, agent: usize, for_now: bool) {
        let (Some(conn), Some(command_id)) =
            (self.agents[agent].0, self.command_of(agent).map(|it| it.command_id.clone()))
        else {
            return;
        };
        let retry_after_ms = for_now.then_some(1_000);
        let outcome = RestartAckOutcome::Refused;
        let ack = RestartAck { command_id, outcome, detail: None, deadline_ms: None, retry_after_ms };
        self.may_get[agent] += u8::from(for_now);
        self.scheduler.frame_received(conn, SidecarFrame::RestartAck(ack), self.now);
    }

    /// Lets an operator begin new attempts, each of which may be commanded once more. A failed target that came back late
    /// goes on with the command that it has.
    fn begins_anew(&mut self, act: impl FnOnce(&mut Scheduler, u64) -> Result<usize, Refused>) {
        let before = self.rollout().targets.clone();
        drop(act(&mut self.scheduler, self.now));
        for (number, target) in before {
            let is_anew = self.rollout().targets[&number].attempt > target.attempt;
            let had_command = matches!(target.state, TargetState::Failed { .. } | TargetState::Restarting);
            self.may_get[number as usize] += u8::from(had_command && is_anew);
        }
    }

    /// Kill -9 of the hub, and its next start.
    fn hub_crashes(&mut self) {
        let Disk { rollouts, targets, restarts, agents, moment } = &self.disk;
        self.scheduler = Scheduler::load(Vec::new(), restarts.values().cloned().collect(), Policy::default(), self.now)
            .with_agents(agents.values().cloned().collect(), *moment)
            .with_rollouts(headers(rollouts), targets.values().cloned().collect(), Some(self.now));
        self.agents.iter_mut().for_each(|agent| agent.0 = None);
    }

    fn act(&mut self, action: Action) {
        let Self { scheduler, now, .. } = self;
        // What an operator may not do changes nothing.
        match action {
            Action::Leaves(agent) => self.leaves(agent),
            Action::Comes(agent, as_new) => self.comes(agent, as_new),
            Action::Refuses(agent, for_now) => self.refuses(agent, for_now),
            Action::Delivered(agent) => {
                let command_id = self.command_of(agent).map(|open| open.command_id.clone());
                command_id.iter().for_each(|command_id| self.scheduler.delivered(command_id, self.now));
            }
            Action::ByHand(agent) => {
                let request = RestartRequest { reason: "r".into(), deadline_ms: None, force: false, by: "o".into() };
                scheduler.command_restart(format!("hand-{agent}"), AGENTS[agent], request, *now);
            }
            Action::Due => {
                *now = scheduler.deadline().unwrap_or(*now).max(*now);
                scheduler.tick(*now);
            }
            Action::Promote => drop(scheduler.promote_rollout(ID, *now)),
            Action::Pause => drop(scheduler.pause_rollout(ID, *now)),
            Action::Resume => drop(scheduler.resume_rollout(ID, *now)),
            Action::Cancel => drop(scheduler.cancel_rollout(ID, *now)),
            Action::Recall => self.begins_anew(|scheduler, now| scheduler.recall_rollout(ID, now)),
            Action::Retry => self.begins_anew(|scheduler, now| scheduler.retry_failed(ID, now)),
            Action::HubCrashes => self.hub_crashes(),
        }
    }

    /// Stores what changed, and judges the step.
    fn commit(&mut self) -> Result<(), Violation> {
        self.scheduler.flush_inventory(Flush::Last, self.now);
        let changes = self.scheduler.take_changes();
        write(&mut self.disk.rollouts, changes.rollouts);
        write(&mut self.disk.targets, changes.targets);
        write(&mut self.disk.restarts, changes.restarts);
        write(&mut self.disk.agents, changes.agents);
        self.disk.moment = changes.moment.unwrap_or(self.disk.moment);
        let sent: Vec<String> = self.scheduler.take_outgoing().into_iter().filter_map(receipt).collect();
        let rollout = self.rollout().clone();
        let mut commanded = 0;
        for command_id in sent.iter().filter(|id| id.starts_with(ID)) {
            let restart = self.scheduler.restarts().get(command_id).expect("what was sent is in the ledger");
            let agent = AGENTS.iter().position(|agent_id| *agent_id == restart.agent_id).expect("a target");
            // One that is sent again after the agent's return is the same command.
            if restart.steps.iter().any(|step| step.step == "reconnected") {
                continue;
            }
            commanded += 1;
            let frozen = rollout.targets.values().find(|target| *target.agent_id == *restart.agent_id);
            if frozen.is_none_or(|target| target.run_before.boot_id != restart.boot_before) {
                return Err(violated(
                    "frozen",
                    format!("{command_id} ends another run than the one that was selected"),
                ));
            }
            let Some(left) = self.may_get[agent].checked_sub(1) else {
                return Err(violated("once", format!("{command_id} is one command too many for {}", AGENTS[agent])));
            };
            self.may_get[agent] = left;
        }
        let (unavailable, max) = (self.unavailable(), rollout.max_unavailable() as usize);
        if commanded > 0 && unavailable > max {
            return Err(violated("budget", format!("{unavailable} of at most {max} are unavailable after a command")));
        }
        if commanded > 0 && !matches!(rollout.state, RolloutState::Canary | RolloutState::Running) {
            return Err(violated("stopped", format!("a command left while the rollout is {}", rollout.state)));
        }
        self.check_books(&rollout)
    }

    fn check_books(&self, rollout: &Rollout) -> Result<(), Violation> {
        let bare = Rollout { targets: Default::default(), counts: Default::default(), ..rollout.clone() };
        let stored: Vec<&Target> = self.disk.targets.values().collect();
        let is_stored =
            headers(&self.disk.rollouts) == [bare] && stored.into_iter().eq(rollout.targets.values().map(|it| &**it));
        if !is_stored {
            return Err(violated("stored", "the rollout is not stored as it is".to_owned()));
        }
        if rollout.ended_at.is_some() != (rollout.counts.open() == 0) {
            return Err(violated("ends", format!("it has ended or not with {:?}", rollout.counts)));
        }
        let awaits_time = rollout.state.is_going() && !rollout.awaits_promote();
        if awaits_time && self.scheduler.deadline().is_none() {
            return Err(violated("never_stuck", "nothing is due, and no operator is asked".to_owned()));
        }
        Ok(())
    }

    fn after(&self, action: Action) -> Self {
        let mut next = self.clone();
        let left = &mut next.left;
        match action {
            Action::Leaves(agent) if self.command_of(agent).is_none() => left.deaths -= 1,
            // A process that ends with its connection broken already.
            Action::Comes(agent, true) if self.command_of(agent).is_none() => {
                left.deaths = left.deaths.saturating_sub(1)
            }
            Action::Leaves(_) | Action::Comes(..) | Action::Delivered(_) | Action::Due | Action::Promote => {}
            Action::Refuses(..) => left.refusals -= 1,
            Action::ByHand(_) => left.by_hand -= 1,
            Action::Pause | Action::Resume | Action::Cancel | Action::Recall | Action::Retry => {
                left.acts = left.acts.saturating_sub(1);
            }
            Action::HubCrashes => left.crashes -= 1,
        }
        next.act(action);
        next.violation = next.commit().err();
        next
    }

    /// Everything goes well from here on: agents return, operators want it to go on. Returns whether it ends; what is
    /// known to do so is not followed again.
    fn ends_well(&self, known: &Mutex<HashSet<u64>>) -> bool {
        let mut world = self.clone();
        let mut passed = Vec::new();
        for _ in 0..60 {
            let here = print(&world);
            let mut known = known.lock().expect("nothing panics with it");
            if world.rollout().ended_at.is_some() || known.contains(&here) {
                known.extend(passed);
                return true;
            }
            drop(known);
            passed.push(here);
            for agent in 0..AGENTS.len() {
                let on_restart = world.command_of(agent).is_some();
                if on_restart || world.agents[agent].0.is_none() {
                    world.leaves(agent);
                    world.comes(agent, on_restart);
                }
            }
            for action in [Action::Due, Action::Promote, Action::Resume] {
                world.act(action);
            }
        }
        false
    }
}

/// The rollouts as a file holds them: without their targets.
fn headers(rollouts: &BTreeMap<String, Rollout>) -> Vec<Rollout> {
    let bare =
        |rollout: &Rollout| Rollout { targets: Default::default(), counts: Default::default(), ..rollout.clone() };
    rollouts.values().map(bare).collect()
}

fn receipt(outgoing: Outgoing) -> Option<String> {
    match outgoing {
        Outgoing::Frame { receipt, .. } => receipt,
        Outgoing::Close { .. } => None,
    }
}

/// The model of one scope.
pub struct Rollouts {
    scope: Scope,
    /// States from which it ends if all goes well.
    end_well: Mutex<HashSet<u64>>,
}

impl Model for Rollouts {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let Scope { max_unavailable, canary, offline, max_failures, left, .. } = &self.scope;
        let scheduler = Scheduler::load(Vec::new(), Vec::new(), Policy::default(), EPOCH_MS);
        let (disk, agents) = (Disk::default(), [(None, 0); 3]);
        let mut world = World {
            scheduler,
            disk,
            now: EPOCH_MS,
            next_conn: 0,
            agents,
            may_get: [1; 3],
            left: *left,
            violation: None,
        };
        (0..AGENTS.len()).for_each(|agent| world.comes(agent, false));
        let plan = Plan {
            max_unavailable: Amount::Number(*max_unavailable),
            canary: canary.then_some(Amount::Number(1)),
            max_failures: Amount::Number(*max_failures),
            offline: *offline,
            soak_ms: 5_000,
            ..Plan::default()
        };
        let request = RolloutRequest { reason: "r".into(), by: "o".into(), selector: "all".into(), plan };
        let agents = AGENTS.map(str::to_owned);
        world.scheduler.start_rollout(ID, request, &agents, EPOCH_MS).expect("a plan that can be");
        world.violation = world.commit().err();
        vec![world]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.violation.is_some() || world.rollout().ended_at.is_some() {
            return;
        }
        let left = world.left;
        for agent in 0..AGENTS.len() {
            let (is_here, on_restart) = (world.agents[agent].0.is_some(), world.command_of(agent).is_some());
            let may_die = left.deaths > 0;
            match is_here {
                true if on_restart || may_die => actions.push(Action::Leaves(agent)),
                true => {}
                false => {
                    actions.push(Action::Comes(agent, false));
                    actions.extend((on_restart || may_die).then_some(Action::Comes(agent, true)));
                }
            }
            if is_here && on_restart {
                let is_undelivered = world.command_of(agent).is_some_and(|it| it.phase == RestartPhase::Commanded);
                actions.extend(is_undelivered.then_some(Action::Delivered(agent)));
                if left.refusals > 0 {
                    actions.extend([Action::Refuses(agent, false), Action::Refuses(agent, true)]);
                }
            }
            actions.extend((is_here && !on_restart && left.by_hand > 0).then_some(Action::ByHand(agent)));
        }
        actions.extend(world.scheduler.deadline().map(|_| Action::Due));
        actions.extend(world.rollout().awaits_promote().then_some(Action::Promote));
        if left.acts > 0 {
            actions.extend([Action::Pause, Action::Cancel, Action::Recall, Action::Retry]);
        }
        // One that is stopped must not stay so for lack of operators.
        actions.push(Action::Resume);
        actions.extend((left.crashes > 0).then_some(Action::HubCrashes));
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        Some(world.after(action))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("holds", |_: &Self, world: &World| world.violation.is_none()),
            Property::always("ends", |model: &Self, world: &World| {
                world.violation.is_some() || world.ends_well(&model.end_well)
            }),
        ]
    }
}

/// Explores all of a scope and returns the number of its states; a broken property is told as what led to it.
pub fn explore(scope: &Scope, threads: usize) -> usize {
    let model = Rollouts { scope: scope.clone(), end_well: Mutex::default() };
    let checker = model.checker().threads(threads).spawn_bfs().join();
    for property in ["holds", "ends"] {
        let Some(path) = checker.discovery(property) else { continue };
        let told: Vec<String> = path.clone().into_actions().into_iter().map(|action| format!("{action:?}")).collect();
        let broken = path.last_state().violation.clone();
        let broken = broken.unwrap_or_else(|| violated("ends", "it does not end, although all goes well".to_owned()));
        panic!("# {}\n{}\n# BROKEN: {}: {}", scope.name, told.join("\n"), broken.property, broken.detail);
    }
    checker.unique_state_count()
}
