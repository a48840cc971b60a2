//! Absent agents: pure. A sidecar whose connection broke keeps its task for a while: most are back within seconds, in
//! the same run, with their work under way.
//!
//! | absence | ends |
//! |---|---|
//! | a restart command is open | with the restart |
//! | the agent announced a restart of its own | after the grace, or the announced time and a margin |
//! | any other | after the grace |
//!
//! An accepted task counts one loss when its holder comes back as another run, unless that was planned, and when the
//! holder does not come back: a task that ends each agent that takes it must become a dead letter.

use crate::hub::scheduler::Scheduler;
use crate::hub::scheduler::agents::ConnId;
use crate::hub::scheduler::assignments::{Away, Returned};
use crate::hub::scheduler::inventory::close::{CloseCause, Closing};
use crate::hub::scheduler::restart::RunIdentity;
use crate::protocol::{Identify, PreviousEnd};

/// The longest absence that an agent may announce for itself, in ms: its task waits for so long.
const MAX_ANNOUNCED_MS: u64 = 600_000;
/// The number of runs that may end without accepting an assignment before it is reclaimed.
const MAX_REPLACEMENTS: u32 = 3;

/// The reason for a loss or a reclaim when the holder's process ended and another one took its place.
pub(super) const PROCESS_REPLACED: &str = "process_replaced";

/// What the hub knew of an agent before it identified.
#[derive(Debug)]
pub(super) struct Before {
    /// The run that was connected last; `None` if the agent is new to this hub process.
    run: Option<RunIdentity>,
    /// Whether the end of that run was announced or commanded.
    pub(super) planned: bool,
}

impl Scheduler {
    /// Records that a connection broke, as [`Self::closed`] does.
    pub fn disconnected(&mut self, conn: ConnId, now_ms: u64) {
        self.closed(conn, &Closing::broken(), now_ms);
    }

    /// Records that a connection is closed, and how. A sidecar that holds a task keeps it for a while; the connection of
    /// any other agent is forgotten, and its task reclaimed.
    pub fn closed(&mut self, conn: ConnId, closing: &Closing, now_ms: u64) {
        let Some(agent_id) = self.agents.disconnect(conn) else { return };
        self.inventory.closed(&agent_id, closing, self.restart_of(&agent_id), now_ms);
        self.rivals.disconnected(&agent_id);
        if self.restarts.socket_closed(&agent_id, now_ms) {
            self.tasks.assignments.holder_left(&agent_id, Away { since: now_ms, until: None, planned: true });
        } else {
            match self.agents.get(&agent_id) {
                Some(agent) if agent.is_sidecar() => {
                    let (planned, grace_ms) = (agent.leaving, self.policy.reconnect_grace_ms);
                    let announced_ms = match planned {
                        true => agent.expected_back_ms.min(MAX_ANNOUNCED_MS) + self.policy.restart_margin_ms,
                        false => 0,
                    };
                    let until = Some(now_ms + grace_ms.max(announced_ms));
                    self.tasks.assignments.holder_left(&agent_id, Away { since: now_ms, until, planned });
                }
                Some(_) | None => self.holder_lost(&agent_id, false, now_ms),
            }
        }
        self.touched.push(agent_id);
        self.dispatch(now_ms);
    }

    /// Returns the kind of restart that the agent has left for, if it has.
    fn restart_of(&self, agent_id: &str) -> Option<CloseCause> {
        let left = self.agents.get(agent_id).is_some_and(|agent| agent.leaving);
        left.then(|| match self.restarts.open_for(agent_id) {
            Some(_) => CloseCause::RestartCommanded,
            None => CloseCause::RestartAnnounced,
        })
    }

    /// Closes a connection whose token is worth nothing any more: the agent loses its task at once.
    pub fn expel(&mut self, conn: ConnId, closing: &Closing, now_ms: u64) {
        let Some(agent_id) = self.agents.agent_on(conn).map(str::to_owned) else { return };
        self.closed(conn, closing, now_ms);
        self.expel_absent(&agent_id, now_ms);
    }

    /// Reclaims the task of an absent agent.
    pub fn expel_absent(&mut self, agent_id: &str, now_ms: u64) {
        if self.agents.connected(agent_id).is_none() {
            self.tasks.reclaim(agent_id, "token_revoked", now_ms);
            self.touched.push(agent_id.to_owned());
            self.dispatch(now_ms);
        }
    }

    /// Returns what is known of the agent before it is registered anew.
    pub(super) fn before_return(&self, agent_id: &str, identify: &Identify) -> Before {
        let agent = self.agents.get(agent_id);
        let away = self.tasks.assignments.get(agent_id).and_then(|held| held.away);
        let planned = self.restarts.awaits_return(agent_id)
            || away.is_some_and(|away| away.planned)
            || agent.is_some_and(|agent| agent.leaving)
            || identify.restarted.is_some()
            || identify.previous_end.is_some_and(PreviousEnd::is_planned);
        Before { run: agent.map(|agent| agent.run.clone()), planned }
    }

    /// Records that the agent is connected again. It keeps its task, and has to mention it within the accept timeout.
    /// `displaced` says whether its connection before this one was still open.
    pub(super) fn holder_returned(&mut self, agent_id: &str, before: &Before, displaced: bool, now_ms: u64) {
        let Some(agent) = self.agents.get(agent_id) else { return };
        let (run, legacy) = (agent.run.clone(), agent.legacy);
        if let Some(boot_id) = &run.boot_id
            && let Some(task_id) = self.tasks.lost_assignments.take_if_forgiven(agent_id, boot_id, before.planned)
        {
            self.tasks.forgive_loss(&task_id);
        }
        let Some(held) = self.tasks.assignments.get(agent_id) else { return };
        let is_holder = held.run.as_ref().is_some_and(|holder| run.is_other_than(holder) == Some(false));
        let other = match &before.run {
            _ if is_holder => Some(false),
            Some(before) => run.is_other_than(before),
            None => Some(false),
        };
        // Its process may still run beside this one: what was sent to it is not sent to this one.
        let rival = displaced && other == Some(true);
        // Another run mentions what it found in its journal at once. If it does not, the journal is lost.
        let may_lack_it = other == Some(true) || !self.tasks.has_accepted(agent_id);
        let resend = legacy || (may_lack_it && !rival);
        let unclear = legacy && other.is_none() && !before.planned;
        self.tasks.assignments.holder_returned(agent_id, Returned { run: &run, resend, rival, unclear }, now_ms);
        if other != Some(true) || before.planned {
            return;
        }
        if self.tasks.has_accepted(agent_id) {
            // A run whose connection was seen to close does not come back beside this one.
            let lost_by = before.run.as_ref().filter(|_| rival).and_then(|run| run.boot_id.as_deref());
            self.count_loss(agent_id, PROCESS_REPLACED, lost_by, now_ms);
        } else if self.tasks.assignments.count_replacement(agent_id) >= MAX_REPLACEMENTS {
            // Nothing was accepted, so nothing is lost; but a sidecar that ends at once must not keep the task for ever.
            self.reclaim_from_holder(agent_id, PROCESS_REPLACED, now_ms);
        }
    }

    /// Counts a loss of the task that the agent keeps. With too many losses the task ends, and the agent hears so.
    pub(super) fn count_loss(&mut self, agent_id: &str, why: &str, lost_by: Option<&str>, now_ms: u64) {
        let task = self.tasks.task_of(agent_id).map(|task| (task.id.clone(), task.generation));
        if self.tasks.count_loss(agent_id, why, lost_by, now_ms)
            && let Some((task_id, generation)) = task
        {
            self.send_reclaimed(agent_id, &task_id, generation);
        }
    }

    /// Reclaims the task of an agent that does not come back. If it had accepted the task and nobody had planned the
    /// absence, that is a loss.
    pub(super) fn holder_lost(&mut self, agent_id: &str, planned: bool, now_ms: u64) {
        let why = if planned { "restart_overdue" } else { "agent_disconnect" };
        let run_is_known = self.tasks.assignments.get(agent_id).is_some_and(|held| held.run.is_some());
        if run_is_known && !planned && self.tasks.has_accepted(agent_id) {
            // The run that was connected last: it may have followed the one that the task was assigned to.
            let lost_by = self.agents.get(agent_id).and_then(|agent| agent.run.boot_id.clone());
            self.tasks.record_loss(agent_id, why, lost_by.as_deref(), now_ms);
        } else {
            self.tasks.reclaim(agent_id, why, now_ms);
        }
    }
}
