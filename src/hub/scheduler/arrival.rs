//! Agents that identify: pure. Which of an agent's connections counts, and what it is sent first.

use crate::hub::scheduler::agents::{Agent, ConnId, Entered};
use crate::hub::scheduler::inventory::Arrival;
use crate::hub::scheduler::inventory::close::Closing;
use crate::hub::scheduler::inventory::past_restart::Reported;
use crate::hub::scheduler::restart_ledger::Return;
use crate::hub::scheduler::rivals::{Contest, Outcome};
use crate::hub::scheduler::{Outgoing, Scheduler};
use crate::protocol::{
    CLOSE_REFUSED, CLOSE_SUPERSEDED, FEATURE_CORDON, FEATURE_RESTART_V2, FEATURE_TASK_REASSIGN, FEATURE_TASK_REJECTED,
    HubFrame, Identify, refused_reason, superseded_reason,
};

/// The features of this hub, as `identified` names them.
const FEATURES: [&str; 4] = [FEATURE_RESTART_V2, FEATURE_TASK_REJECTED, FEATURE_CORDON, FEATURE_TASK_REASSIGN];

/// The time after which a sidecar that was superseded may connect again, in ms, where [`crate::hub::scheduler::rivals`] decides between the two.
const SUPERSEDED_RETRY_MS: u64 = 1_000;

/// Two sidecars that use one identity, both of them alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityConflict {
    /// The address of the connection that was open.
    pub older: String,
    /// The address of the connection that identified.
    pub newer: String,
    /// Whether the newer one was refused.
    pub refused: bool,
    /// Whether it is to be logged: at most once a minute for each agent.
    pub is_logged: bool,
}

impl Scheduler {
    /// Registers an agent that proved its identity, from this network address. The connection that was opened last
    /// wins, in whatever order they are read, unless another run of the agent is known to be alive (see [`crate::hub::scheduler::rivals`]);
    /// the older one is closed, and the agent's task moves to the new one.
    pub fn identified(
        &mut self,
        conn: ConnId,
        identify: &Identify,
        address: &str,
        now_ms: u64,
    ) -> Option<IdentityConflict> {
        let agent_id = identify.agent_id.as_str();
        let outcome = self.contest(conn, identify, now_ms);
        let conflict = outcome.and_then(|outcome| self.conflict(agent_id, outcome, address, now_ms));
        if let Some(IdentityConflict { older, refused: true, .. }) = &conflict {
            let reason = refused_reason(older, self.policy.identity_retry_ms);
            self.outgoing.push(Outgoing::Close { conn, code: CLOSE_REFUSED, reason });
            return conflict;
        }
        let before = self.before_return(agent_id, identify);
        let superseded = |conn, by: Option<&str>, decided: bool| {
            // A sidecar that comes back soon, where nothing decides, would supersede the other one for ever.
            let reason = superseded_reason(by, decided.then_some(SUPERSEDED_RETRY_MS));
            Outgoing::Close { conn, code: CLOSE_SUPERSEDED, reason }
        };
        let displaced = match self.agents.register(conn, identify, address, now_ms) {
            Entered::Here { older } => {
                let close = older.map(|older| superseded(older, Some(address), outcome.is_some()));
                let beside_rival = outcome == Some(Outcome::ReplacesRival);
                self.note_arrival(agent_id, identify, before.planned, beside_rival, close.as_ref(), now_ms);
                self.outgoing.extend(close);
                older.is_some()
            }
            Entered::Late => {
                let newer = self.agents.connected(agent_id).map(|(agent, _)| agent);
                let decided = newer.is_none_or(|newer| rival_runs(newer, identify).is_some());
                let by = newer.map(|newer| &*newer.address);
                self.outgoing.push(superseded(conn, by, decided));
                return None;
            }
        };
        let is_drained = self.inventory.get(agent_id).is_some_and(|record| record.hub_drain.is_some());
        self.agents.drain(agent_id, is_drained);
        let features = FEATURES.map(str::to_owned).to_vec();
        self.send(agent_id, &HubFrame::Identified { agent_id: agent_id.to_owned(), features });
        self.holder_returned(agent_id, &before, displaced, now_ms);
        match self.restarts.identified(agent_id, identify, now_ms) {
            Return::Free | Return::StillFenced => {}
            Return::SendAgain(command_id) => self.send_restart(&command_id),
        }
        self.touched.push(agent_id.to_owned());
        self.dispatch(now_ms);
        conflict
    }

    /// Records in the inventory that the agent is here. `close` is the order to the connection whose place it took.
    fn note_arrival(
        &mut self,
        agent_id: &str,
        identify: &Identify,
        planned: bool,
        beside_rival: bool,
        close: Option<&Outgoing>,
        now_ms: u64,
    ) {
        let Some(agent) = self.agents.get(agent_id) else { return };
        let superseded = match close {
            Some(Outgoing::Close { conn: _, code, reason }) => Some(Closing::superseded(*code, reason)),
            Some(Outgoing::Frame { .. }) | None => None,
        };
        let arrival = Arrival {
            labels: Some(&identify.labels),
            planned,
            beside_rival,
            reported: Reported {
                restarted: identify.restarted.as_ref(),
                end: identify.previous_end,
                end_in_words: identify.previous_end_detail.as_deref(),
            },
            superseded: superseded.as_ref(),
        };
        self.inventory.identified(agent_id, agent, arrival, now_ms);
    }

    /// Decides between an open connection of the agent and a newer one of another run. Returns `None` where there is
    /// nothing to decide, or the runs cannot be told apart.
    fn contest(&mut self, conn: ConnId, identify: &Identify, now_ms: u64) -> Option<Outcome> {
        let agent_id = identify.agent_id.as_str();
        let (agent, older) = self.agents.connected(agent_id)?;
        if conn < older {
            return None;
        }
        let (old, new) = rival_runs(agent, identify)?;
        let holder = self.tasks.assignments.get(agent_id).and_then(|held| held.run.as_ref()?.boot_id.as_deref());
        let contest = Contest { old, old_since: agent.connected_at, new, holder };
        Some(self.rivals.decide(agent_id, contest, now_ms))
    }

    /// Returns the conflict between the agent's open connection and a newer one from `newer`, if both runs are known to
    /// be alive.
    fn conflict(&mut self, agent_id: &str, outcome: Outcome, newer: &str, now_ms: u64) -> Option<IdentityConflict> {
        let refused = match outcome {
            Outcome::Replaces => return None,
            Outcome::ReplacesRival => false,
            Outcome::Refused => true,
        };
        let older = self.agents.connected(agent_id)?.0.address.to_string();
        let newer = newer.to_owned();
        let is_logged = self.rivals.record_conflict(agent_id, [&older, &newer], now_ms);
        Some(IdentityConflict { older, newer, refused, is_logged })
    }
}

/// Returns the runs of a connected agent and of an identify by their `boot_id`, if they are two and both are named.
fn rival_runs<'a>(agent: &'a Agent, identify: &'a Identify) -> Option<(&'a str, &'a str)> {
    let (old, new) = (agent.run.boot_id.as_deref()?, identify.boot_id.as_deref()?);
    (old != new).then_some((old, new))
}
