//! One agent as the inventory shows it: its record, with what the scheduler knows of it at this moment.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};

use serde::Serialize;
use serde_json::Value;

use crate::hub::scheduler::agents::{About, Agent};
use crate::hub::scheduler::inventory::close::{CloseCause, LastClose};
use crate::hub::scheduler::inventory::hub_drain::ShownDrain;
use crate::hub::scheduler::inventory::past_restart::PastRestart;
use crate::hub::scheduler::inventory::record::{AgentRecord, OperatorLabels, RestartCounts};
use crate::hub::scheduler::inventory::status::{AgentStatus, StatusSince, Troubles, standing};
use crate::hub::scheduler::restart::RestartPhase;
use crate::hub::scheduler::selector::Subject;
use crate::hub::scheduler::task::Status;
use crate::hub::scheduler::view::{OpenRestart, View};
use crate::protocol::JsonFields;

/// How much is shown of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// What a page of agents shows: everything but the output of its task and its past restarts.
    Page,
    /// Everything but its past restarts.
    WithoutRestarts,
    /// Everything.
    Full,
}

/// One agent as the inventory shows it. Times are in ms since the epoch.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct AgentEntry<'a> {
    agent_id: &'a str,
    name: &'a str,
    status: AgentStatus,
    /// Since when it has this status, and why.
    since: u64,
    why: &'static str,
    connected: bool,
    connected_at: Option<u64>,
    away_since: Option<u64>,
    first_seen: Option<u64>,
    /// The last moment at which it is known to have been connected.
    last_seen: Option<u64>,
    #[schema(value_type = Option<Object>)]
    last_close: Option<&'a LastClose>,
    address: Option<&'a str>,
    version: Option<&'a str>,
    client_type: Option<&'a str>,
    boot_id: Option<&'a str>,
    #[schema(value_type = Option<Vec<String>>)]
    capabilities: Option<&'a BTreeSet<String>>,
    /// All labels; an operator's wins over the agent's own.
    #[schema(value_type = Object)]
    labels: BTreeMap<&'a str, &'a str>,
    /// Those of them that operators gave it, with by whom and when.
    #[schema(value_type = Option<Object>)]
    operator_labels: Option<&'a OperatorLabels>,
    #[schema(value_type = Option<Object>)]
    about: Option<&'a About>,
    #[schema(value_type = Object)]
    restarts: RestartCounts,
    /// The latest of these.
    last_restart: Option<LastRestart>,
    /// The latest of these, newest first, where one agent is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    past_restarts: Option<&'a [PastRestart]>,
    #[schema(value_type = Option<Object>)]
    restart: Option<OpenRestart<'a>>,
    drain: Drain<'a>,
    fsm_state: &'static str,
    /// The text that the agent itself shows.
    status_text: Option<&'a str>,
    current_task_id: Option<&'a str>,
    #[schema(value_type = Option<Object>)]
    task: Option<TaskEntry<'a>>,
    #[schema(value_type = Option<Object>)]
    identity_conflict: Value,
    #[schema(value_type = Option<Object>)]
    resources: Option<&'a JsonFields>,
}

/// An agent's latest restart, without what is only for those who may read its restarts.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct LastRestart {
    at: u64,
    planned: bool,
    why: CloseCause,
    /// For how long it was away, in ms, if that is known.
    away_ms: Option<u64>,
}

/// Who wants the agent to take no task.
#[derive(Debug, Default, Serialize, utoipa::ToSchema)]
struct Drain<'a> {
    /// Whether an operator on its machine does.
    own: bool,
    /// Who at the hub does, why and until when.
    hub: Option<ShownDrain<'a>>,
}

/// The task that an agent holds, or, once it has ended, the last one that the agent reported of.
#[derive(Debug, Serialize)]
struct TaskEntry<'a> {
    task_id: &'a str,
    /// Whether the agent holds it.
    held: bool,
    accepted: bool,
    /// The last sign of life, while it is held.
    last_sign_of_life_at: Option<u64>,
    last_progress_at: Option<u64>,
    /// Since when its session has printed nothing: its last output, or the assignment; while it is held.
    silent_since: Option<u64>,
    progress: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<&'a str>,
    output_cut: bool,
}

impl<'a> AgentEntry<'a> {
    /// Creates the entry of an agent that has a token since this time, and has never identified.
    pub fn never_seen(agent_id: &'a str, since: u64) -> Self {
        Self {
            agent_id,
            name: agent_id,
            status: AgentStatus::NeverSeen,
            since,
            why: "never_identified",
            connected: false,
            connected_at: None,
            away_since: None,
            first_seen: None,
            last_seen: None,
            last_close: None,
            address: None,
            version: None,
            client_type: None,
            boot_id: None,
            capabilities: None,
            labels: BTreeMap::new(),
            operator_labels: None,
            about: None,
            restarts: RestartCounts::default(),
            last_restart: None,
            past_restarts: None,
            restart: None,
            drain: Drain::default(),
            fsm_state: "offline",
            status_text: None,
            current_task_id: None,
            task: None,
            identity_conflict: Value::Null,
            resources: None,
        }
    }
}

impl View {
    /// Returns the names after this one of the agents that have identified, in order.
    pub fn recorded_after<'a>(&'a self, after: Option<&'a str>) -> impl Iterator<Item = &'a str> {
        let rest = self.records.range::<_, str>((after.map_or(Unbounded, Excluded), Unbounded));
        rest.map(|(agent_id, _)| &**agent_id)
    }

    /// Returns what is known of an agent that has identified.
    pub fn record(&self, agent_id: &str) -> Option<&AgentRecord> {
        self.records.get(agent_id).map(|record| &**record)
    }

    /// Returns the status of an agent that has identified.
    pub fn standing(&self, agent_id: &str, now_ms: u64) -> Option<StatusSince> {
        let record = self.record(agent_id)?;
        let troubles = match record.presence.is_connected() {
            true => self.troubles(agent_id, now_ms),
            false => Troubles::default(),
        };
        Some(standing(record, troubles, self.policy.stale_after_ms, now_ms))
    }

    /// Returns what a selector asks of an agent that has identified.
    pub fn subject<'a>(&'a self, agent_id: &'a str, now_ms: u64) -> Option<Subject<'a>> {
        let record = self.record(agent_id)?;
        let status = self.standing(agent_id, now_ms)?.status;
        Some(Subject { agent_id, record: Some(record), status })
    }

    /// Returns one agent that has identified, as the inventory shows it.
    pub fn entry<'a>(&'a self, agent_id: &'a str, detail: Detail, now_ms: u64) -> Option<AgentEntry<'a>> {
        let record = self.record(agent_id)?;
        let StatusSince { status, since, why } = self.standing(agent_id, now_ms)?;
        let agent: Option<&Agent> = self.agents.get(agent_id).map(|agent| &**agent);
        let here = agent.filter(|_| record.presence.is_connected());
        let since_then = record.presence.since();
        let connected = record.presence.is_connected();
        let hub = record.hub_drain.as_ref().map(|drain| drain.shown(self.task_of(agent_id).is_some(), now_ms));
        Some(AgentEntry {
            agent_id,
            name: agent.map_or(agent_id, |agent| agent.name.as_str()),
            status,
            since,
            why,
            connected,
            connected_at: connected.then_some(since_then),
            away_since: (!connected).then_some(since_then),
            first_seen: Some(record.first_seen),
            last_seen: Some(if connected { now_ms } else { since_then }),
            last_close: record.last_close.as_deref(),
            address: Some(&record.address),
            version: record.about.version.as_deref(),
            client_type: record.about.client_type.as_deref(),
            boot_id: record.run.boot_id.as_deref(),
            capabilities: Some(&record.capabilities),
            labels: record.all_labels(),
            operator_labels: Some(&record.operator_labels),
            about: Some(&record.about),
            restarts: record.restarts,
            last_restart: record.past_restarts.first().map(|past| LastRestart {
                at: past.at,
                planned: past.planned,
                why: past.why,
                away_ms: past.away_ms,
            }),
            past_restarts: (detail == Detail::Full).then_some(&record.past_restarts),
            restart: self.open_restart(agent_id),
            drain: Drain { own: record.cordoned, hub },
            fsm_state: self.fsm_state(agent_id),
            status_text: here.map(|agent| agent.status.as_str()),
            current_task_id: self.task_of(agent_id).map(|task| task.id.as_str()),
            task: self.task_entry(agent_id, record, detail),
            identity_conflict: self.identity_conflict(agent_id, now_ms),
            resources: here.map(|agent| &*agent.resources),
        })
    }

    fn task_entry<'a>(&'a self, agent_id: &str, record: &'a AgentRecord, detail: Detail) -> Option<TaskEntry<'a>> {
        let held = self.task_of(agent_id);
        let task_id = held.map(|task| task.id.as_str()).or_else(|| Some(&*record.progress.as_ref()?.task_id))?;
        let progress = record.progress.as_deref().filter(|progress| *progress.task_id == *task_id);
        let output_at = progress.and_then(|progress| progress.output_at);
        Some(TaskEntry {
            task_id,
            held: held.is_some(),
            accepted: held.is_some_and(|task| matches!(task.status, Status::Assigned { accepted: true, .. })),
            last_sign_of_life_at: self.holders.get(agent_id).map(|holding| holding.silent_since),
            last_progress_at: progress.map(|progress| progress.at),
            silent_since: held.and_then(|task| output_at.max(task.assigned_at())),
            progress: progress.and_then(|progress| progress.progress),
            output: progress.filter(|_| detail != Detail::Page).map(|progress| progress.output.as_str()),
            output_cut: progress.is_some_and(|progress| progress.output_cut),
        })
    }

    /// Returns what is wrong with a connected agent.
    fn troubles(&self, agent_id: &str, now_ms: u64) -> Troubles {
        let agent = self.agents.get(agent_id);
        let newest = self.restarts.of_agent(agent_id).next();
        let overdue = newest.filter(|restart| restart.phase == RestartPhase::Overdue);
        // A legacy sidecar says nothing while its agent works.
        let speaks = agent.is_some_and(|agent| !agent.legacy);
        let silent_at = |silent_since: u64| silent_since.saturating_add(self.policy.stale_timeout_ms / 2);
        let silent_at = self.holders.get(agent_id).filter(|_| speaks).map(|holding| silent_at(holding.silent_since));
        Troubles {
            identity_conflict: self.rivals.recent_conflict(agent_id, now_ms).map(|past| past.at),
            unwell: agent.and_then(|agent| agent.unwell_since),
            restart_overdue: overdue.map(|restart| restart.overdue_at),
            task_silent: silent_at.filter(|at| *at <= now_ms),
        }
    }
}
