//! The registry of agents: those that are connected, and those that are away and awaited, because they hold a task or
//! are on a restart that the hub commanded. It knows nothing of tasks or commands.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use crate::common::wall_clock::move_time;
use crate::hub::scheduler::crowds::Crowds;
use crate::hub::scheduler::restart::RunIdentity;
use crate::protocol::{FEATURE_TASK_REASSIGN, Identify, JsonFields, JsonText, Pm2Info};

/// The number of a connection, unique for the life of the hub's process. Connections are numbered as they are opened,
/// before the peer learns that they are open: a connection that replaces an earlier one of the same process, or of a
/// process that has ended, has the higher number.
pub type ConnId = u64;

/// The result of registering an identify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entered {
    /// The agent is registered on this connection.
    Here {
        /// The connection that this one supersedes.
        older: Option<ConnId>,
    },
    /// The agent has already identified on a connection that was opened later: the sender of this identify is gone,
    /// and its frame was read too late.
    Late,
}

/// An agent's description of itself at identify.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// The version of the client.
    pub version: Option<String>,
    /// The kind of client.
    pub client_type: Option<String>,
    /// pm2's figures of it.
    pub pm2_info: Option<Pm2Info>,
    /// The longest time after the last word of a hub for which it may still listen to that hub, in ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silence_bound_ms: Option<u64>,
}

impl About {
    /// Returns that time, at most [`MAX_SILENCE_BOUND_MS`]; [`SILENCE_BOUND_MS`] for a client that does not say it.
    pub fn silence_bound_ms(&self) -> u64 {
        self.silence_bound_ms.map_or(SILENCE_BOUND_MS, |ms| ms.min(MAX_SILENCE_BOUND_MS))
    }
}

/// The silence bound of a sidecar with the usual heartbeat, also of a legacy one, in ms.
pub const SILENCE_BOUND_MS: u64 = 40_000;
/// The longest one that counts, in ms: an agent cannot keep the tasks of all others waiting for longer.
pub const MAX_SILENCE_BOUND_MS: u64 = 300_000;

/// One agent.
#[derive(Debug, Clone)]
pub struct Agent {
    /// The agent's connection; `None` while it is away.
    pub conn: Option<ConnId>,
    /// The network address that it connected from, for people.
    pub address: Arc<str>,
    /// The display name.
    pub name: String,
    /// The status text that the agent reports.
    pub status: String,
    /// The capabilities, as the agent sent them: an array.
    pub capabilities: JsonText,
    /// The names of the capabilities, for matching.
    pub capability_names: Arc<BTreeSet<String>>,
    /// The time of the identify, in ms since the epoch.
    pub connected_at: u64,
    /// The run of the agent's process, as restarts see it.
    pub run: RunIdentity,
    /// Whether this is a legacy sidecar: a sidecar that sends no `boot_id`.
    pub legacy: bool,
    /// Whether it keeps its work when a task is reclaimed, in case the task comes back (feature `task_reassign`).
    pub parks_work: bool,
    /// The agent's description of itself.
    pub about: Arc<About>,
    /// The last `resource_report`.
    pub resources: Arc<JsonFields>,
    /// Whether the agent sent `agent_restarting`: it takes nothing more on this connection.
    pub leaving: bool,
    /// The time from then to its return, as it announced it, in ms.
    pub expected_back_ms: u64,
    /// Whether the agent's operator wants it to take no task.
    pub cordoned: bool,
    /// Whether somebody at the hub wants it to take no task.
    pub drained: bool,
    /// The time before which the agent gets no task unless its state changes, because it rejected one as busy, in ms
    /// since the epoch.
    pub unavailable_until: Option<u64>,
    /// The time since which its status text says that it is unwell, in ms since the epoch.
    pub unwell_since: Option<u64>,
    /// Its state in the terms of the legacy hub, and the time of the last change, in ms since the epoch.
    pub state: (&'static str, u64),
}

impl Agent {
    /// Returns whether the agent speaks `restart.v2`: such a peer sends a `boot_id`.
    pub fn is_v2(&self) -> bool {
        self.run.boot_id.is_some()
    }

    /// Returns whether this is a sidecar, of this project or a legacy one, and not another kind of client.
    pub fn is_sidecar(&self) -> bool {
        self.legacy || self.is_v2()
    }

    /// Returns whether somebody wants it to take no task.
    pub fn takes_no_task(&self) -> bool {
        self.cordoned || self.drained
    }

    fn new(
        conn: ConnId,
        identify: &Identify,
        capability_names: Arc<BTreeSet<String>>,
        address: &str,
        now_ms: u64,
    ) -> Self {
        Self {
            conn: Some(conn),
            address: address.into(),
            name: identify.name.clone().unwrap_or_else(|| identify.agent_id.clone()),
            status: identify.status.clone().unwrap_or_else(|| "connected".to_owned()),
            capability_names,
            capabilities: JsonText::of(&identify.capabilities),
            connected_at: now_ms,
            run: RunIdentity::of(identify),
            legacy: identify.boot_id.is_none() && identify.client_type.as_deref() == Some("sidecar"),
            parks_work: identify.features.iter().any(|feature| feature == FEATURE_TASK_REASSIGN),
            about: Arc::new(About {
                version: identify.version.clone(),
                client_type: identify.client_type.clone(),
                pm2_info: identify.pm2_info.clone(),
                silence_bound_ms: identify.silence_bound_ms,
            }),
            resources: Arc::default(),
            leaving: false,
            expected_back_ms: 0,
            cordoned: false,
            drained: false,
            unavailable_until: None,
            unwell_since: None,
            state: (IDLE, now_ms),
        }
    }
}

/// The state of an agent that could take a task.
pub(super) const IDLE: &str = "idle";

/// Returns the name of a capability. A legacy agent may send it as `"code"` or as `{"name": "code"}`.
fn capability_name(capability: &JsonText) -> Option<String> {
    capability.string().or_else(|| capability.read::<JsonFields>().ok()?.string("name"))
}

/// The agents by id. A copy shares them with the original and costs nothing.
pub type AgentTable = OrdMap<Arc<str>, Arc<Agent>>;

/// All agents.
#[derive(Debug, Clone, Default)]
pub struct Agents {
    all: AgentTable,
    by_conn: HashMap<ConnId, Arc<str>>,
    /// The newest connection that each agent identified on, also for agents that have left.
    pub(crate) newest: BTreeMap<Arc<str>, ConnId>,
    unavailable: BTreeSet<(u64, String)>,
    crowds: Crowds,
}

impl Agents {
    /// Registers the agent on this connection, in place of an earlier registration, unless it has identified on a
    /// newer one.
    pub fn register(&mut self, conn: ConnId, identify: &Identify, address: &str, now_ms: u64) -> Entered {
        if self.newest.get(identify.agent_id.as_str()).is_some_and(|newest| *newest > conn) {
            return Entered::Late;
        }
        let agent_id: Arc<str> = identify.agent_id.as_str().into();
        self.newest.insert(agent_id.clone(), conn);
        self.set_available(&agent_id);
        self.leave_crowd(&agent_id);
        let capability_names = self.crowds.join(identify.capabilities.iter().filter_map(capability_name).collect());
        let agent = Agent::new(conn, identify, capability_names, address, now_ms);
        let older = self.all.insert(agent_id.clone(), Arc::new(agent)).and_then(|agent| agent.conn);
        let older = older.filter(|older| *older != conn);
        if let Some(older) = older {
            self.by_conn.remove(&older);
        }
        self.by_conn.insert(conn, agent_id);
        Entered::Here { older }
    }

    /// Forgets the connection and returns the agent whose current connection it was. The agent stays registered,
    /// without a connection.
    pub fn disconnect(&mut self, conn: ConnId) -> Option<String> {
        let agent_id = self.by_conn.remove(&conn)?;
        self.leave_crowd(&agent_id);
        if let Some(agent) = self.get_mut(&agent_id) {
            agent.conn = None;
        }
        Some(agent_id.as_ref().to_owned())
    }

    /// Forgets the agent, but not which of its connections was the newest.
    pub fn remove(&mut self, agent_id: &str) {
        self.set_available(agent_id);
        self.leave_crowd(agent_id);
        self.all.remove(agent_id);
    }

    /// Records whether the agent's operator wants it to take no task.
    pub fn cordon(&mut self, agent_id: &str, on: bool) {
        self.update(agent_id, |agent| agent.cordoned = on);
    }

    /// Records whether somebody at the hub wants the agent to take no task.
    pub fn drain(&mut self, agent_id: &str, on: bool) {
        self.update(agent_id, |agent| agent.drained = on);
    }

    /// Changes whether the agent takes tasks.
    fn update(&mut self, agent_id: &str, change: impl FnOnce(&mut Agent)) {
        let Some(agent) = self.all.get_mut(agent_id).map(Arc::make_mut) else { return };
        let before = agent.takes_no_task();
        change(agent);
        let after = agent.takes_no_task();
        if before != after && agent.conn.is_some() {
            self.crowds.cordon(&agent.capability_names, after);
        }
    }

    /// Returns the connected agents, counted by their capabilities.
    pub fn crowds(&self) -> &Crowds {
        &self.crowds
    }

    /// Counts the agent no more among those that are connected.
    fn leave_crowd(&mut self, agent_id: &str) {
        if let Some(agent) = self.all.get(agent_id).filter(|agent| agent.conn.is_some()) {
            self.crowds.leave(&agent.capability_names, agent.takes_no_task());
        }
    }

    /// Forgets the agent, and which of its connections was the newest: from here on a newer connection is one that
    /// identifies later.
    pub fn forget(&mut self, agent_id: &str) {
        self.remove(agent_id);
        self.newest.remove(agent_id);
    }

    /// Returns the agent whose current connection this is.
    pub fn agent_on(&self, conn: ConnId) -> Option<&str> {
        self.by_conn.get(&conn).map(Arc::as_ref)
    }

    /// Returns one agent.
    pub fn get(&self, agent_id: &str) -> Option<&Agent> {
        self.all.get(agent_id).map(Arc::as_ref)
    }

    /// Returns one agent for modification.
    pub fn get_mut(&mut self, agent_id: &str) -> Option<&mut Agent> {
        self.all.get_mut(agent_id).map(Arc::make_mut)
    }

    /// Returns one agent and its connection, if it is connected.
    pub fn connected(&self, agent_id: &str) -> Option<(&Agent, ConnId)> {
        let agent = self.get(agent_id)?;
        Some((agent, agent.conn?))
    }

    /// Returns whether the agent keeps its work when a task is reclaimed (see [`Agent::parks_work`]).
    pub fn parks_work(&self, agent_id: &str) -> bool {
        self.get(agent_id).is_some_and(|agent| agent.parks_work)
    }

    /// Returns all agents, by id.
    pub fn all(&self) -> &AgentTable {
        &self.all
    }

    /// Returns the number of connected agents.
    pub fn connected_count(&self) -> usize {
        self.by_conn.len()
    }

    /// Moves what is measured `ms` later, or earlier if that is negative, because the clock was set.
    pub(super) fn move_by(&mut self, ms: i64) {
        let agent_ids: Vec<Arc<str>> = self.all.keys().cloned().collect();
        for agent_id in agent_ids {
            let Some(agent) = self.all.get_mut(&agent_id).map(Arc::make_mut) else { continue };
            let (_, state_since) = &mut agent.state;
            [&mut agent.connected_at, state_since].into_iter().for_each(|at| move_time(at, ms));
            agent.unavailable_until.iter_mut().chain(&mut agent.unwell_since).for_each(|at| move_time(at, ms));
        }
        let unavailable = std::mem::take(&mut self.unavailable).into_iter();
        self.unavailable = unavailable.map(|(until, agent_id)| (until.saturating_add_signed(ms), agent_id)).collect();
    }

    /// Lets the agent get no task before `until_ms` (ms since the epoch).
    pub fn set_unavailable(&mut self, agent_id: &str, until_ms: u64) {
        self.set_available(agent_id);
        if let Some(agent) = self.get_mut(agent_id) {
            agent.unavailable_until = Some(until_ms);
            self.unavailable.insert((until_ms, agent_id.to_owned()));
        }
    }

    /// Lets the agent get a task again, because its state changed.
    pub fn set_available(&mut self, agent_id: &str) {
        let Some(until_ms) = self.get(agent_id).and_then(|agent| agent.unavailable_until) else { return };
        self.unavailable.remove(&(until_ms, agent_id.to_owned()));
        if let Some(agent) = self.get_mut(agent_id) {
            agent.unavailable_until = None;
        }
    }

    /// Makes the agents available whose time without tasks is over, and returns their ids.
    pub fn available_again(&mut self, now_ms: u64) -> Vec<String> {
        let later = self.unavailable.split_off(&(now_ms + 1, String::new()));
        let due = std::mem::replace(&mut self.unavailable, later);
        let due: Vec<String> = due.into_iter().map(|(_, agent_id)| agent_id).collect();
        for agent_id in &due {
            self.end_unavailability(agent_id, now_ms);
        }
        due
    }

    /// Returns when `available_again` will next have a result, in ms since the epoch.
    pub fn deadline(&self) -> Option<u64> {
        self.unavailable.first().map(|(until_ms, _)| *until_ms)
    }

    fn end_unavailability(&mut self, agent_id: &str, now_ms: u64) {
        if let Some(agent) = self.get_mut(agent_id)
            && agent.unavailable_until.is_some_and(|until_ms| until_ms <= now_ms)
        {
            agent.unavailable_until = None;
            agent.leaving = false;
        }
    }
}
