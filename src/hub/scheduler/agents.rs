//! Who is here: the connected agents and those away on a restart that we commanded. A plain registry: it knows nothing
//! of tasks or commands and decides nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Map, Value, json};

use crate::hub::scheduler::lost_assignments::AgentRun;
use crate::hub::scheduler::restart::Run;
use crate::protocol::Identify;

/// Names one connection for the life of the hub's process. Connections are numbered as they are opened, before their peer
/// hears that they are: whoever dials again after a connection of its own, or in place of a process that is gone, has the
/// higher number.
pub type ConnId = u64;

/// What an identify comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entered {
    /// The agent is here, on this connection.
    Here {
        /// The connection that this one supersedes.
        older: Option<ConnId>,
    },
    /// It has been here on a connection that was opened later. Whoever said this is gone, and was read too late.
    Late,
}

/// One agent.
#[derive(Debug, Clone)]
pub struct Agent {
    /// Its socket; none while it is away on a restart.
    pub conn: Option<ConnId>,
    /// For people.
    pub name: String,
    /// What it says of itself.
    pub status: String,
    /// As it said them.
    pub capabilities: Vec<Value>,
    /// Their names, for matching.
    pub can_do: BTreeSet<String>,
    /// ms since the epoch.
    pub connected_at: u64,
    /// Its run of the process.
    pub run: Run,
    /// An original Node sidecar: a sidecar that does not name its runs.
    pub original: bool,
    /// The life of its process, as far as it can be told from another.
    pub life: AgentRun,
    /// What it told of itself at identify (`version`, `client_type`, `pm2_info`).
    pub about: Value,
    /// Its last `resource_report`.
    pub resources: Map<String, Value>,
    /// It said `agent_restarting`: it takes nothing more on this connection.
    pub leaving: bool,
    /// Its operator wants it to take no task.
    pub cordoned: bool,
    /// It rejected a task as busy: it gets none before this, unless its state changes. ms since the epoch.
    pub unavailable_until: Option<u64>,
}

impl Agent {
    /// Whether it speaks `restart.v2`: such a peer names its runs.
    pub fn is_v2(&self) -> bool {
        self.run.boot_id.is_some()
    }

    fn new(conn: ConnId, identify: &Identify, now_ms: u64) -> Self {
        // An original agent may say a capability as "code" or as {"name": "code"}.
        let name_of = |value: &Value| value.as_str().or_else(|| value.get("name")?.as_str()).map(str::to_owned);
        Self {
            conn: Some(conn),
            name: identify.name.clone().unwrap_or_else(|| identify.agent_id.clone()),
            status: identify.status.clone().unwrap_or_else(|| "connected".to_owned()),
            can_do: identify.capabilities.iter().filter_map(name_of).collect(),
            capabilities: identify.capabilities.clone(),
            connected_at: now_ms,
            run: Run::of(identify),
            original: identify.boot_id.is_none() && identify.client_type.as_deref() == Some("sidecar"),
            life: AgentRun::of(identify, now_ms),
            about: json!({
                "version": identify.version,
                "client_type": identify.client_type,
                "pm2_info": identify.pm2_info,
            }),
            resources: Map::new(),
            leaving: false,
            cordoned: false,
            unavailable_until: None,
        }
    }
}

/// The registry.
#[derive(Debug, Clone, Default)]
pub struct Agents {
    all: HashMap<String, Agent>,
    by_conn: HashMap<ConnId, String>,
    /// By agent, also of those that have left: the newest connection that it identified on.
    pub(crate) newest: BTreeMap<String, ConnId>,
    unavailable: BTreeSet<(u64, String)>,
}

impl Agents {
    /// Enters the agent, or the agent anew, under this connection, unless it has identified on a newer one.
    pub fn enter(&mut self, conn: ConnId, identify: &Identify, now_ms: u64) -> Entered {
        if self.newest.get(&identify.agent_id).is_some_and(|newest| *newest > conn) {
            return Entered::Late;
        }
        self.newest.insert(identify.agent_id.clone(), conn);
        self.set_available(&identify.agent_id);
        let agent = Agent::new(conn, identify, now_ms);
        let older = self.all.insert(identify.agent_id.clone(), agent).and_then(|agent| agent.conn);
        let older = older.filter(|older| *older != conn);
        if let Some(older) = older {
            self.by_conn.remove(&older);
        }
        self.by_conn.insert(conn, identify.agent_id.clone());
        Entered::Here { older }
    }

    /// Forgets the connection; the answer is the agent it was current for. The agent stays, without a socket.
    pub fn disconnect(&mut self, conn: ConnId) -> Option<String> {
        let agent_id = self.by_conn.remove(&conn)?;
        if let Some(agent) = self.all.get_mut(&agent_id) {
            agent.conn = None;
        }
        Some(agent_id)
    }

    /// Forgets the agent, but not which of its connections was the newest.
    pub fn remove(&mut self, agent_id: &str) {
        self.set_available(agent_id);
        self.all.remove(agent_id);
    }

    /// The agent that this connection is current for.
    pub fn on(&self, conn: ConnId) -> Option<&str> {
        self.by_conn.get(&conn).map(String::as_str)
    }

    /// One agent.
    pub fn get(&self, agent_id: &str) -> Option<&Agent> {
        self.all.get(agent_id)
    }

    /// One agent, to change.
    pub fn get_mut(&mut self, agent_id: &str) -> Option<&mut Agent> {
        self.all.get_mut(agent_id)
    }

    /// One agent and its socket, where it is connected.
    pub fn connected(&self, agent_id: &str) -> Option<(&Agent, ConnId)> {
        let agent = self.all.get(agent_id)?;
        Some((agent, agent.conn?))
    }

    /// All agents, by id.
    pub fn list(&self) -> Vec<(&str, &Agent)> {
        let mut agents: Vec<(&str, &Agent)> = self.all.iter().map(|(id, agent)| (id.as_str(), agent)).collect();
        agents.sort_by_key(|(id, _)| *id);
        agents
    }

    /// How many have a socket.
    pub fn connected_count(&self) -> usize {
        self.by_conn.len()
    }

    /// It gets no task before `until_ms`.
    pub fn set_unavailable(&mut self, agent_id: &str, until_ms: u64) {
        self.set_available(agent_id);
        if let Some(agent) = self.all.get_mut(agent_id) {
            agent.unavailable_until = Some(until_ms);
            self.unavailable.insert((until_ms, agent_id.to_owned()));
        }
    }

    /// Its state changed: it may get a task again.
    pub fn set_available(&mut self, agent_id: &str) {
        if let Some(agent) = self.all.get_mut(agent_id)
            && let Some(until_ms) = agent.unavailable_until.take()
        {
            self.unavailable.remove(&(until_ms, agent_id.to_owned()));
        }
    }

    /// Those whose time of getting no task is over.
    pub fn available_again(&mut self, now_ms: u64) -> Vec<String> {
        let later = self.unavailable.split_off(&(now_ms + 1, String::new()));
        let due = std::mem::replace(&mut self.unavailable, later);
        let due: Vec<String> = due.into_iter().map(|(_, agent_id)| agent_id).collect();
        for agent_id in &due {
            self.clear(agent_id, now_ms);
        }
        due
    }

    /// When `available_again` will next have something to say, ms since the epoch.
    pub fn deadline(&self) -> Option<u64> {
        self.unavailable.first().map(|(until_ms, _)| *until_ms)
    }

    fn clear(&mut self, agent_id: &str, now_ms: u64) {
        if let Some(agent) = self.all.get_mut(agent_id)
            && agent.unavailable_until.is_some_and(|until_ms| until_ms <= now_ms)
        {
            agent.unavailable_until = None;
            agent.leaving = false;
        }
    }
}
