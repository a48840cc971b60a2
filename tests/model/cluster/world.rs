//! One state of everything: two hubs, the database, two gateways, two agents, the links between them, and what is left of
//! the budget. Data only.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use agentcom::hub::scheduler::agents::ConnId;
use agentcom::machine::{FromHub, Journal, Machine, Phase, Policy, TaskId};

use super::actions::{Action, Pace};
use super::database::Database;
use super::node::Node;
use super::scopes::{Ask, Budget, Scope};
use crate::model::connection::{Conn, End};
use crate::model::violation::Violation;

pub const AGENTS: [&str; 2] = ["a", "b"];
/// Where the clock of the database and of both hubs begins.
const EPOCH_MS: u64 = 1_000_000_000;
/// Assignments and reclaims of one task beyond which a life is not followed further.
const GENERATIONS: u64 = 4;

/// A sidecar with its disk and its agent's session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Agent {
    /// None while the supervisor is about to start it.
    pub machine: Option<Arc<Machine>>,
    /// Names the process's run.
    pub run: u8,
    pub disk: Arc<Journal>,
    /// Tasks that a session is at work on. It outlives the process.
    pub sessions: BTreeSet<TaskId>,
}

/// A connection of an agent, through a gateway, to a hub.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Link {
    pub conn: Conn,
    pub agent: usize,
    pub gateway: usize,
    pub hub: usize,
    /// The task that is the agent's, by the last word about it on this connection.
    pub word: Option<String>,
    /// What still arrives after the agent has left the connection, where it would believe that.
    pub late: VecDeque<FromHub>,
}

/// What only a spectator remembers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Ghost {
    /// Requests whose answer was given.
    pub answered: BTreeSet<Ask>,
    /// How often each was made.
    pub asked: BTreeMap<Ask, u8>,
    /// Tasks whose verdict an agent knows to be taken.
    pub taken: BTreeSet<String>,
    /// Commands that ended a process.
    pub carried_out: BTreeSet<String>,
}

#[derive(Debug, Clone)]
pub struct World {
    pub scope: Arc<Scope>,
    /// The sidecars' figures.
    pub policy: Arc<Policy>,
    pub nodes: [Node; 2],
    pub database: Arc<Database>,
    /// Whether each gateway stands still.
    pub stopped_gateways: [bool; 2],
    pub agents: [Agent; 2],
    /// Oldest first.
    pub links: Vec<Link>,
    pub dials: ConnId,
    /// Time passed since the beginning, ms.
    pub elapsed_ms: u64,
    pub left: Budget,
    pub ghost: Ghost,
    pub violation: Option<Violation>,
}

impl Hash for World {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let Self {
            scope: _, policy: _, nodes, database, stopped_gateways, agents, links, dials: _, elapsed_ms: _, ..
        } = self;
        database.state_hash(self.now(), hasher);
        for (hub, node) in nodes.iter().enumerate() {
            let rank = |id| links.iter().filter(|link| link.is_heard_by(hub) && link.conn.id <= id).count();
            node.state_hash(self.now(), database, rank, hasher);
        }
        (stopped_gateways, agents, links).hash(hasher);
        let Self { left, ghost, violation, .. } = self;
        (left, ghost, violation).hash(hasher);
    }
}

/// Equal is what has one digest, as for stateright.
impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        self.digest() == other.digest()
    }
}

impl Link {
    /// Whether this hub may still hear something on it.
    pub fn is_heard_by(&self, hub: usize) -> bool {
        self.hub == hub && self.conn.hub != End::Closed
    }
}

impl World {
    /// One hub leads, both agents are connected to it, and nothing has been asked.
    pub fn beginning(scope: &Scope) -> Self {
        let mut world = Self {
            scope: Arc::new(scope.clone()),
            policy: Arc::new(scope.machine_policy()),
            nodes: Default::default(),
            database: Arc::default(),
            stopped_gateways: [false; 2],
            agents: Default::default(),
            links: Vec::new(),
            dials: 0,
            elapsed_ms: 0,
            left: scope.budget,
            ghost: Ghost::default(),
            violation: None,
        };
        world.nodes[0].reads(&world.database);
        world = world.after(Action::TakesOver(0));
        while let Some(action) = world.prompt() {
            world = world.after(action);
        }
        world.left = scope.budget;
        world
    }

    pub fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }

    pub fn now(&self) -> u64 {
        EPOCH_MS + self.elapsed_ms
    }

    /// Whether it is not followed further: a task was assigned often enough.
    pub fn is_cut(&self) -> bool {
        self.database.records.tasks.values().any(|task| task.generation > GENERATIONS)
    }

    /// The hub that leads, as the database has it.
    pub fn leader(&self) -> Option<usize> {
        self.nodes.iter().position(|node| node.leading().is_some_and(|it| it.epoch == self.database.epoch))
    }

    /// The connection that the agent's process holds.
    pub fn own_link(&self, agent: usize) -> Option<usize> {
        self.links.iter().position(|link| link.agent == agent && link.conn.side != End::Closed)
    }

    /// The gateway that the agent dials: its own, or the other one while that stands still.
    pub fn gateway_of(&self, agent: usize) -> Option<usize> {
        [agent, 1 - agent].into_iter().find(|gateway| !self.stopped_gateways[*gateway])
    }

    /// Whether nothing is on its way to or from an agent that is connected to this hub.
    pub fn is_quiet(&self, agent: usize, hub: usize) -> bool {
        let mut links = self.links.iter().filter(|link| link.agent == agent);
        let is_quiet = |link: &Link| link.hub == hub && link.conn.is_quiet() && link.late.is_empty();
        links.next().is_some_and(is_quiet) && links.next().is_none()
    }

    /// Everything that was asked is answered and done, and all stand idle.
    pub fn is_well(&self) -> bool {
        let Some(hub) = self.leader() else { return false };
        let is_idle = |agent: usize| {
            let machine = self.agents[agent].machine.as_ref();
            self.is_quiet(agent, hub)
                && machine.is_some_and(|it| {
                    it.state.phase() == Phase::Idle && it.outbox.is_empty() && it.connection.online().is_some()
                })
        };
        let records = &self.database.records;
        let is_done = |ask: &Ask| match ask {
            Ask::Task(id) => records.tasks.get(*id).is_some_and(|task| task.status.is_final()),
            Ask::Restart(id) => records.restarts.get(*id).is_some_and(|restart| !restart.phase.is_open()),
        };
        let asks = self.scope.asks;
        self.nodes[hub].is_at_rest()
            && asks.iter().all(|ask| self.ghost.answered.contains(ask) && is_done(ask))
            && (0..AGENTS.len()).all(is_idle)
    }

    /// What happens next if nothing more goes wrong; `None` where nothing can.
    pub fn well_meant(&self) -> Option<Action> {
        let stopped_hub = self.nodes.iter().position(|node| node.stopped).map(Action::HubGoesOn);
        let stopped_gateway = self.stopped_gateways.iter().position(|stopped| *stopped).map(Action::GatewayGoesOn);
        let free = stopped_hub.or(stopped_gateway).or_else(|| self.prompt());
        free.or_else(|| self.well_meant_at_rest())
    }

    fn well_meant_at_rest(&self) -> Option<Action> {
        let Some(hub) = self.leader() else {
            let standby = self.nodes.iter().position(|node| node.leading().is_none())?;
            return Some(Action::TakesOver(standby));
        };
        let asks = self.scope.asks;
        let unanswered = asks.iter().position(|ask| !self.ghost.answered.contains(ask) && self.can_be_asked(*ask, hub));
        let ends = (0..AGENTS.len()).find(|agent| self.session_of(*agent).is_some()).map(Action::SessionEnds);
        unanswered
            .map(|ask| Action::Asked(ask, hub, Pace::Whole))
            .or(ends)
            .or_else(|| self.next_due().map(|_| Action::TimePasses))
    }
}
