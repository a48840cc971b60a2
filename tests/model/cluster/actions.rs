//! Everything that can happen next, and what it leads to. What need not happen costs something from the budget.
//!
//! What concerns one agent alone (a frame arrives, a timer runs out) happens in one order, the first agent's first; what
//! the hubs do happens in every order. Time passes when all that nothing delays has happened.

use std::sync::Arc;

use agentcom::machine::{Connection, Event, Jitter, TaskId};

use super::scopes::{Ask, Rule};
use super::world::{AGENTS, World};
use crate::model::connection::{End, Up};
use crate::model::rebase::{NOW, Shift, comes};
use crate::model::violation::Violation;

/// How often one request is made.
const ATTEMPTS: u8 = 2;

/// How a batch goes. A point of it is counted from the moment when its events are applied (0), over the commit (1), to
/// each word that it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pace {
    Whole,
    /// The hub stands still at this point, and goes on there.
    StopsAt(u8),
    /// The hub dies at this point.
    DiesAt(u8),
    /// The hub dies while its commit is under way, which may land later.
    DiesInCommit,
    /// The connection to the database is lost, and the commit is under way; the hub finds that it has not landed, and
    /// makes it again.
    CommitsAgain,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    TimePasses,
    /// A request is made to a hub.
    Asked(usize, usize, Pace),
    HubHears(usize, Pace),
    HubSeesEnd(usize, Pace),
    HubTicks(usize, Pace),
    /// The socket reports that a command is written.
    HubWrote(usize, Pace),
    HubStops(usize),
    HubGoesOn(usize),
    HubDies(usize),
    /// A hub reads the records before it is the leader.
    ReadsEarly(usize),
    TakesOver(usize),
    /// A commit that was under way lands.
    Lands(usize),
    GatewayStops(usize),
    GatewayGoesOn(usize),
    GatewayDies(usize),
    Respawn(usize),
    AgentDies(usize),
    DeadlineFires(usize),
    /// An agent's dial reaches a hub.
    Connects(usize, usize),
    /// It reaches none.
    DialFails(usize),
    SideHears(usize),
    SideHearsLate(usize),
    SideSeesEnd(usize),
    SessionEnds(usize),
}

impl World {
    pub fn possible(&self, out: &mut Vec<Action>) {
        let of_agents = self.agents_prompt();
        self.disturbances(out);
        if !of_agents.is_empty() {
            out.extend(of_agents);
            return;
        }
        let of_hubs = self.hubs_prompt();
        if of_hubs.is_empty() {
            out.extend(self.next_due().map(|_| Action::TimePasses));
        }
        for action in of_hubs {
            self.paces(action, out);
        }
        for hub in 0..self.nodes.len() {
            for (number, ask) in self.scope.asks.iter().enumerate() {
                let asked = self.ghost.asked.get(ask).copied().unwrap_or_default();
                if asked < ATTEMPTS && !self.ghost.answered.contains(ask) && self.can_be_asked(*ask, hub) {
                    self.paces(Action::Asked(number, hub, Pace::Whole), out);
                }
            }
            if self.nodes[hub].leading().is_none() && self.left.takeovers > 0 {
                let early = self.scope.lacks(Rule::LoadsAfterTheEpoch);
                let has_read = self.nodes[hub].has_read();
                out.extend((early && !has_read).then_some(Action::ReadsEarly(hub)));
                out.extend((!early || has_read).then_some(Action::TakesOver(hub)));
            }
        }
        out.extend((0..self.database.under_way.len()).map(Action::Lands));
        out.extend((0..AGENTS.len()).filter(|agent| self.session_of(*agent).is_some()).map(Action::SessionEnds));
    }

    /// What happens at once where nothing delays it: the first of it.
    pub fn prompt(&self) -> Option<Action> {
        self.agents_prompt().first().or(self.hubs_prompt().first()).copied()
    }

    fn disturbances(&self, out: &mut Vec<Action>) {
        let left = self.left;
        for (hub, node) in self.nodes.iter().enumerate() {
            if node.stopped {
                out.push(Action::HubGoesOn(hub));
            } else if node.leading().is_some() {
                out.extend((left.hub_stops > 0).then_some(Action::HubStops(hub)));
                out.extend((left.hub_deaths > 0).then_some(Action::HubDies(hub)));
            }
        }
        for (gateway, stopped) in self.stopped_gateways.into_iter().enumerate() {
            if stopped {
                out.push(Action::GatewayGoesOn(gateway));
                continue;
            }
            out.extend((left.gateway_stops > 0).then_some(Action::GatewayStops(gateway)));
            let carries = self.links.iter().any(|link| link.gateway == gateway);
            out.extend((left.gateway_deaths > 0 && carries).then_some(Action::GatewayDies(gateway)));
        }
        let runs = |agent: &usize| left.agent_deaths > 0 && self.agents[*agent].machine.is_some();
        out.extend((0..AGENTS.len()).filter(runs).map(Action::AgentDies));
    }

    /// What is about to happen to the first agent to which something is about to happen.
    fn agents_prompt(&self) -> Vec<Action> {
        (0..AGENTS.len()).map(|agent| self.agent_prompt(agent)).find(|prompt| !prompt.is_empty()).unwrap_or_default()
    }

    fn agent_prompt(&self, agent: usize) -> Vec<Action> {
        let Some(machine) = &self.agents[agent].machine else { return vec![Action::Respawn(agent)] };
        let mut out = Vec::new();
        if machine.deadline(&self.policy).is_some_and(|(at, _)| at <= NOW) {
            out.push(Action::DeadlineFires(agent));
        }
        for (index, link) in self.links.iter().enumerate().filter(|(_, link)| link.agent == agent) {
            let (conn, is_carried) = (&link.conn, !self.stopped_gateways[link.gateway]);
            if !is_carried {
                continue;
            }
            if !link.late.is_empty() && machine.connection.online().is_some() {
                out.push(Action::SideHearsLate(index));
            }
            if conn.side == End::Open && !conn.down.is_empty() {
                out.push(Action::SideHears(index));
            }
            if conn.side == End::Open && conn.hub == End::Closed && (conn.down.is_empty() || !conn.graceful) {
                out.push(Action::SideSeesEnd(index));
            }
        }
        if matches!(machine.connection, Connection::Dialing { .. }) && self.own_link(agent).is_none() {
            let gateway = self.gateway_of(agent);
            let hubs = (0..self.nodes.len()).filter(|hub| gateway.is_some() && self.nodes[*hub].is_serving());
            let before = out.len();
            out.extend(hubs.map(|hub| Action::Connects(agent, hub)));
            if out.len() == before {
                out.push(Action::DialFails(agent));
            }
        }
        out
    }

    fn hubs_prompt(&self) -> Vec<Action> {
        let mut out = Vec::new();
        for (index, link) in self.links.iter().enumerate() {
            let is_carried = !self.stopped_gateways[link.gateway];
            if !is_carried || !self.nodes[link.hub].is_serving() || link.conn.hub == End::Closed {
                continue;
            }
            if !link.conn.up.is_empty() {
                out.push(Action::HubHears(index, Pace::Whole));
            }
            if link.conn.side == End::Closed {
                out.push(Action::HubSeesEnd(index, Pace::Whole));
            }
        }
        for (hub, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.is_serving()) {
            let due = node.leading().and_then(|it| it.scheduler.deadline()).is_some_and(|at| at <= self.now());
            out.extend(due.then_some(Action::HubTicks(hub, Pace::Whole)));
            let wrote = node.leading().is_some_and(|it| !it.written.is_empty());
            out.extend(wrote.then_some(Action::HubWrote(hub, Pace::Whole)));
        }
        out
    }

    /// A batch, whole and disturbed at each of its points.
    fn paces(&self, action: Action, out: &mut Vec<Action>) {
        out.push(action);
        let left = self.left;
        if left.hub_stops == 0 && left.hub_deaths == 0 && left.lost_commits == 0 {
            return;
        }
        let (commits, words) = self.points(action);
        let last = u8::from(commits) + words;
        if left.hub_stops > 0 {
            out.extend((0..last).map(|point| action.at(Pace::StopsAt(point))));
        }
        // A death before the commit leaves nothing that one between two batches would not leave.
        if left.hub_deaths > 0 {
            out.extend((1..last).map(|point| action.at(Pace::DiesAt(point))));
        }
        if left.lost_commits > 0 && commits {
            out.push(action.at(Pace::CommitsAgain));
            out.push(action.at(Pace::DiesInCommit));
        }
    }

    /// How long until the next deadline of anybody who runs, ms.
    pub fn next_due(&self) -> Option<u64> {
        let machines = self.agents.iter().filter_map(|agent| agent.machine.as_ref()?.deadline(&self.policy));
        let machines = machines.filter(|(at, _)| comes(*at)).map(|(at, _)| at.since(NOW));
        let serving = self.nodes.iter().filter(|node| node.is_serving()).filter_map(|node| node.leading());
        let hubs = serving.filter_map(|it| it.scheduler.deadline()).map(|at| at.saturating_sub(self.now()));
        machines.chain(hubs.filter(|ms| comes(NOW.plus(*ms)))).min()
    }

    /// The task that the agent's session is at work on, and that its sidecar waits for.
    pub fn session_of(&self, agent: usize) -> Option<TaskId> {
        let Some(machine) = &self.agents[agent].machine else { return None };
        machine.watching().filter(|id| self.agents[agent].sessions.contains(*id)).cloned()
    }

    /// Whether this hub would do what is asked.
    pub fn can_be_asked(&self, ask: Ask, hub: usize) -> bool {
        let node = &self.nodes[hub];
        let Some(leading) = node.leading().filter(|_| node.is_serving()) else { return false };
        match ask {
            Ask::Task(_) => true,
            Ask::Restart(id) => {
                leading.scheduler.restarts().get(id).is_some() || leading.scheduler.is_connected(AGENTS[0])
            }
        }
    }

    /// What `action` makes of it; a broken property is noted in the state.
    pub fn after(&self, action: Action) -> Self {
        let mut next = self.clone();
        if let Err(violation) = next.act(action).and_then(|()| next.judge()) {
            next.violation = Some(violation);
        }
        // What nobody at either end can tell from never having been.
        next.links.retain(|link| {
            let conn = &link.conn;
            let unseen = conn.side == End::Closed && conn.hub == End::Opening && conn.up.is_empty();
            (!conn.is_over() && !unseen) || !link.late.is_empty()
        });
        next
    }

    fn act(&mut self, action: Action) -> Result<(), Violation> {
        let left = &mut self.left;
        match action {
            Action::TimePasses => self.time_passes(),
            Action::Asked(.., pace)
            | Action::HubHears(_, pace)
            | Action::HubSeesEnd(_, pace)
            | Action::HubTicks(_, pace)
            | Action::HubWrote(_, pace) => {
                self.begin_batch(action);
                self.finish_batch(self.hub_of(action), pace)?;
            }
            Action::HubStops(hub) => {
                pay(&mut left.hub_stops);
                self.nodes[hub].stopped = true;
            }
            Action::HubGoesOn(hub) => {
                self.nodes[hub].stopped = false;
                self.finish_batch(hub, Pace::Whole)?;
            }
            Action::HubDies(hub) => {
                pay(&mut left.hub_deaths);
                self.hub_ends(hub);
            }
            Action::ReadsEarly(hub) => self.nodes[hub].reads(&self.database),
            Action::TakesOver(hub) => {
                pay(&mut left.takeovers);
                self.takes_over(hub);
            }
            Action::Lands(index) => {
                let database = Arc::make_mut(&mut self.database);
                let commit = database.under_way.remove(index);
                database.commit(&commit, &self.scope)?;
            }
            Action::GatewayStops(gateway) => {
                pay(&mut left.gateway_stops);
                self.stopped_gateways[gateway] = true;
            }
            Action::GatewayGoesOn(gateway) => self.stopped_gateways[gateway] = false,
            Action::GatewayDies(gateway) => {
                pay(&mut left.gateway_deaths);
                self.gateway_dies(gateway)?;
            }
            Action::Respawn(agent) => self.respawns(agent)?,
            Action::AgentDies(agent) => {
                pay(&mut left.agent_deaths);
                self.agent_ends(agent);
            }
            Action::DeadlineFires(agent) => self.event(agent, Event::DeadlineReached)?,
            Action::Connects(agent, hub) => self.connects(agent, hub)?,
            Action::DialFails(agent) => {
                // Half of the longest wait.
                let event = Event::HubClosed { retry_after_ms: None, jitter: Jitter(1 << 15), refusal: None };
                self.event(agent, event)?;
            }
            Action::SideHears(link) => self.side_hears(link)?,
            Action::SideHearsLate(link) => self.side_hears_late(link)?,
            Action::SideSeesEnd(link) => self.side_sees_end(link)?,
            Action::SessionEnds(agent) => self.session_ends(agent)?,
        }
        Ok(())
    }

    fn time_passes(&mut self) {
        let Some(ms) = self.next_due() else { return };
        self.elapsed_ms += ms;
        let shift = Shift(ms);
        for agent in &mut self.agents {
            agent.machine.iter_mut().for_each(|machine| shift.machine(Arc::make_mut(machine)));
            shift.journal(Arc::make_mut(&mut agent.disk));
        }
    }

    /// The links through it break: both ends see it, and what was on its way is lost.
    fn gateway_dies(&mut self, gateway: usize) -> Result<(), Violation> {
        let ids: Vec<_> = self.links.iter().filter(|link| link.gateway == gateway).map(|link| link.conn.id).collect();
        self.stopped_gateways[gateway] = false;
        for id in ids {
            let Some(index) = self.links.iter().position(|link| link.conn.id == id) else { continue };
            self.links[index].late.clear();
            self.links[index].conn.up.clear();
            if self.links[index].conn.side == End::Open {
                self.side_sees_end(index)?;
            }
        }
        Ok(())
    }
}

impl Action {
    /// The same batch at another pace.
    fn at(self, pace: Pace) -> Self {
        match self {
            Self::Asked(number, hub, _) => Self::Asked(number, hub, pace),
            Self::HubHears(link, _) => Self::HubHears(link, pace),
            Self::HubSeesEnd(link, _) => Self::HubSeesEnd(link, pace),
            Self::HubTicks(hub, _) => Self::HubTicks(hub, pace),
            Self::HubWrote(hub, _) => Self::HubWrote(hub, pace),
            other => other,
        }
    }
}

/// The close frame is the last word on a connection.
pub fn is_closing(up: Option<&Up>) -> bool {
    up == Some(&Up::Close)
}

pub fn pay(budget: &mut u8) {
    *budget = budget.saturating_sub(1);
}
