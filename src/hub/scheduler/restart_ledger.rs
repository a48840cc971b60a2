//! The ledger of commanded restarts, as pure code: every command ends in a phase that the hub can name (back, refused,
//! overdue, revoked, withdrawn). No clock, no sockets and no storage: the caller passes the time, sends the frames, and stores what
//! is `dirty`.
//!
//! At most one command is open for an agent, and an agent with an open command is fenced: it gets no new task.

use std::collections::BTreeSet;

use serde_json::json;

use crate::hub::scheduler::policy::Policy;
use crate::hub::scheduler::restart::{Restart, RestartPhase, RestartRequest, RunIdentity};
use crate::hub::scheduler::restart_table::RestartTable;
use crate::hub::scheduler::retention::Retention;
use crate::protocol::{Identify, RestartAck, RestartAckOutcome, Restarting};

/// The longest deadline that the hub accepts from a sidecar, in ms: a day.
pub(crate) const MAX_DEADLINE_MS: u64 = 86_400_000;
/// How a sidecar that does not say for how long begins its refusal if it has restarted too often lately.
const INTENSITY: &str = "restart intensity";
/// The time after which such a sidecar is worth another try, in ms.
const INTENSITY_MS: u64 = 60_000;

/// The result of a restart request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commanded {
    /// The open command's id: for a repeat, that of the first request.
    pub command_id: String,
    /// The open command's reason: for a repeat, that of the first request.
    pub reason: String,
    /// Whether the frame is to be sent: the command is new, or its `force` is.
    pub send: bool,
    /// Whether a command was open already.
    pub repeated: bool,
}

/// The effect of an identify on the agent's open command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Return {
    /// No command is open: it ended with this identify, or earlier.
    Free,
    /// A command is still open, and the peer has it or must not get it again.
    StillFenced,
    /// A command is still open and the peer may not have it: send it again, under the same id.
    SendAgain(String),
}

/// All commanded restarts.
#[derive(Debug, Clone, Default)]
pub struct Restarts {
    policy: Policy,
    pub(crate) all: RestartTable,
    /// The open commands by the time at which they are overdue.
    due: BTreeSet<(u64, String)>,
    /// The commands that have ended, as of the last `take_dirty`.
    ended: Retention,
    dirty: BTreeSet<String>,
    next_seq: u64,
}

impl Restarts {
    /// Restores the ledger from what was stored.
    pub fn load(stored: Vec<Restart>, policy: Policy) -> Self {
        let mut ledger = Self { policy, ..Self::default() };
        let mut ended: Vec<(u64, u64, String)> = Vec::new();
        for mut restart in stored {
            restart.bound_steps();
            ledger.next_seq = ledger.next_seq.max(restart.seq + 1);
            if !restart.phase.is_open() {
                ended.push((restart.last_step_at(), restart.seq, restart.command_id.clone()));
            }
            ledger.insert(restart);
        }
        ended.sort();
        ended.iter().for_each(|(_, _, command_id)| ledger.weigh(command_id));
        // The limits may be lower than they were before the restart.
        ledger.prune();
        ledger
    }

    /// Lets no open command become overdue before this time (ms since the epoch).
    pub fn postpone_overdue(&mut self, at_ms: u64) {
        while let Some((overdue_at, id)) = self.due.first().cloned().filter(|(overdue_at, _)| *overdue_at < at_ms) {
            self.due.remove(&(overdue_at, id.clone()));
            self.due.insert((at_ms, id.clone()));
            if let Some(restart) = self.all.get_mut(&id) {
                restart.overdue_at = at_ms;
            }
            self.dirty.insert(id);
        }
    }

    /// Moves what is measured `ms` later, or earlier if that is negative, because the clock was set.
    pub(super) fn move_by(&mut self, ms: i64) {
        self.due.clear();
        let timed = self.all.values().filter(|restart| restart.is_timed());
        let ids: Vec<String> = timed.map(|restart| restart.command_id.clone()).collect();
        for id in ids {
            let Some(restart) = self.all.get_mut(&id) else { continue };
            restart.move_by(ms);
            if restart.phase.is_open() {
                self.due.insert((restart.overdue_at, id.clone()));
            }
            self.dirty.insert(id);
        }
    }

    /// Returns one command.
    pub fn get(&self, command_id: &str) -> Option<&Restart> {
        self.all.get(command_id)
    }

    /// Returns the agent's commands, newest first.
    pub fn of_agent(&self, agent_id: &str) -> Vec<&Restart> {
        self.all.of_agent(agent_id).collect()
    }

    /// Returns the agent's open command: while there is one, the agent is fenced.
    pub fn open_for(&self, agent_id: &str) -> Option<&Restart> {
        self.all.open_for(agent_id)
    }

    /// Returns all fenced agents.
    pub fn fenced(&self) -> impl Iterator<Item = &str> {
        self.all.fenced_after(None)
    }

    /// Returns the ids of the commands to store (or, if `get` returns none, to delete) since the last call. The oldest
    /// that have ended are dropped first, if there are too many.
    pub fn take_dirty(&mut self) -> BTreeSet<String> {
        let mut changed = std::mem::take(&mut self.dirty);
        changed.iter().for_each(|command_id| self.weigh(command_id));
        self.prune();
        changed.append(&mut self.dirty);
        changed
    }

    /// Records a command and fences the agent, or returns the command that is open already. `run` is the connected
    /// run.
    pub fn command(
        &mut self,
        command_id: String,
        agent_id: &str,
        run: &RunIdentity,
        request: RestartRequest,
        now_ms: u64,
    ) -> Commanded {
        if let Some(open) = self.all.open_id(agent_id).and_then(|id| self.all.get_mut(&id)) {
            let upgrade = request.force && !open.force;
            if upgrade {
                open.force = true;
                self.due.remove(&(open.overdue_at, open.command_id.clone()));
                open.overdue_at = open.overdue_at.min(now_ms + self.policy.exit_ms());
                self.due.insert((open.overdue_at, open.command_id.clone()));
                open.add_step("force_added", json!({"by": request.by}), now_ms);
                self.dirty.insert(open.command_id.clone());
            }
            let (command_id, reason) = (open.command_id.clone(), open.reason.clone());
            return Commanded { command_id, reason, send: upgrade, repeated: true };
        }
        let asked_ms = request.deadline_ms.unwrap_or(self.policy.restart_deadline_ms).min(MAX_DEADLINE_MS);
        let max_wait_ms = if request.force { 0 } else { asked_ms };
        let mut restart = Restart {
            command_id: command_id.clone(),
            agent_id: agent_id.to_owned(),
            reason: request.reason.clone(),
            by: request.by.clone(),
            deadline_ms: request.deadline_ms,
            force: request.force,
            force_told: false,
            seq: self.next_seq,
            commanded_at: now_ms,
            clock_moved_ms: 0,
            overdue_at: now_ms + max_wait_ms + self.policy.exit_ms(),
            phase: RestartPhase::Commanded,
            boot_before: run.boot_id.clone(),
            count_before: run.restart_count,
            left_at: None,
            boot_after: None,
            gap_ms: None,
            reported_gap_ms: None,
            forced: None,
            retry_at: None,
            steps: Vec::new(),
            steps_left_out: 0,
        };
        restart.add_step(RestartPhase::Commanded.name(), json!({"by": request.by, "force": request.force}), now_ms);
        self.next_seq += 1;
        self.dirty.insert(command_id.clone());
        self.insert(restart);
        while let Some(oldest) = self.all.excess_of(agent_id, self.policy.keep_restarts.max(1)) {
            self.remove(&oldest);
        }
        Commanded { command_id, reason: request.reason, send: true, repeated: false }
    }

    /// Records that the frame was written to the agent's socket.
    pub fn delivered(&mut self, command_id: &str, now_ms: u64) {
        let Some(restart) = self.all.get_mut(command_id) else { return };
        restart.force_told = restart.force;
        if restart.phase == RestartPhase::Commanded {
            restart.phase = RestartPhase::Delivered;
            restart.add_step(RestartPhase::Delivered.name(), json!(null), now_ms);
        } else {
            restart.add_step("sent_again", json!(null), now_ms);
        }
        self.dirty.insert(command_id.to_owned());
    }

    /// Records the agent's answer to the command. Returns whether that ended the fence.
    pub fn acknowledged(&mut self, agent_id: &str, ack: &RestartAck, now_ms: u64) -> bool {
        let policy = self.policy;
        let Some(restart) = self.open_mut(agent_id, Some(&ack.command_id)) else { return false };
        let scheduled = (restart.overdue_at, restart.command_id.clone());
        let detail = json!({"detail": ack.detail, "deadline_ms": ack.deadline_ms});
        match ack.outcome {
            RestartAckOutcome::Refused => {
                restart.phase = RestartPhase::Refused;
                let unsaid = ack.detail.as_ref().is_some_and(|why| why.starts_with(INTENSITY)).then_some(INTENSITY_MS);
                let retry_after_ms = ack.retry_after_ms.or(unsaid);
                restart.retry_at = retry_after_ms.map(|after_ms| now_ms.saturating_add(after_ms.min(MAX_DEADLINE_MS)));
                restart.add_step(RestartPhase::Refused.name(), detail, now_ms);
                self.due.remove(&scheduled);
                self.all.unfence(agent_id);
                return true;
            }
            RestartAckOutcome::Accepted | RestartAckOutcome::Duplicate if restart.phase < RestartPhase::Accepted => {
                restart.phase = RestartPhase::Accepted;
                restart.add_step(RestartPhase::Accepted.name(), detail, now_ms);
            }
            // Its text is not kept: it may come any number of times.
            RestartAckOutcome::Accepted | RestartAckOutcome::Duplicate => {
                restart.add_step("duplicate", json!(null), now_ms);
            }
        }
        if let Some(deadline_ms) = ack.deadline_ms {
            // Whatever the agent answers and however often, a command ends within a day.
            let latest = restart.counts_from() + MAX_DEADLINE_MS;
            restart.overdue_at = now_ms.saturating_add(deadline_ms).min(latest) + policy.exit_ms();
            let moved = (restart.overdue_at, scheduled.1.clone());
            self.due.remove(&scheduled);
            self.due.insert(moved);
        }
        false
    }

    /// Records that the agent announced its restart. An overdue restart records it too: it tells the restart from a
    /// short loss of the connection.
    pub fn draining(&mut self, agent_id: &str, restarting: &Restarting, now_ms: u64) {
        let named = restarting.command_id.as_deref();
        let Some(restart) = self.open_or_overdue_mut(agent_id, named) else { return };
        if restart.phase.is_open() {
            if restart.phase >= RestartPhase::Draining {
                return;
            }
            restart.phase = RestartPhase::Draining;
        }
        restart.forced = restarting.forced;
        restart.left_at = Some(now_ms);
        if restart.was_announced() {
            return;
        }
        let detail = json!({"expected_back_ms": restarting.expected_back_ms, "task_id": restarting.task_id});
        restart.add_step(RestartPhase::Draining.name(), detail, now_ms);
    }

    /// Records that the agent's socket closed. Returns whether that is a planned absence.
    pub fn socket_closed(&mut self, agent_id: &str, now_ms: u64) -> bool {
        let Some(restart) = self.open_or_overdue_mut(agent_id, None) else { return false };
        if restart.phase == RestartPhase::Draining {
            restart.phase = RestartPhase::Exiting;
            restart.add_step(RestartPhase::Exiting.name(), json!(null), now_ms);
        } else {
            restart.left_at = Some(now_ms);
            restart.add_step("socket_closed", json!(null), now_ms);
        }
        restart.phase.is_open()
    }

    /// Records that the agent identified. Another run ends the open command, and also an overdue one.
    pub fn identified(&mut self, agent_id: &str, identify: &Identify, now_ms: u64) -> Return {
        let run = RunIdentity::of(identify);
        let waits = |restart: &&Restart| restart.phase.is_open() || restart.phase == RestartPhase::Overdue;
        let waiting: Vec<&Restart> = self.of_agent(agent_id).into_iter().filter(waits).collect();
        // All of them are about the one run before this: evidence that it ended counts for each.
        if waiting.iter().any(|restart| restart.is_ended_by(&run)) {
            let ids: Vec<String> = waiting.iter().map(|restart| restart.command_id.clone()).collect();
            self.all.unfence(agent_id);
            for id in ids {
                if let Some(restart) = self.all.get_mut(&id) {
                    self.due.remove(&(restart.overdue_at, id.clone()));
                    restart.mark_back(identify, now_ms);
                }
                self.dirty.insert(id);
            }
        }
        let Some(restart) = self.open_mut(agent_id, None) else { return Return::Free };
        restart.add_step("reconnected", json!({"boot_id": run.boot_id}), now_ms);
        let unanswered = restart.phase < RestartPhase::Accepted || (restart.force && !restart.force_told);
        if unanswered && run.boot_id.is_some() {
            return Return::SendAgain(restart.command_id.clone());
        }
        Return::StillFenced
    }

    /// Ends the agent's open command, because the agent has no token any more.
    pub fn revoked(&mut self, agent_id: &str, now_ms: u64) {
        let Some(restart) = self.open_mut(agent_id, None) else { return };
        restart.phase = RestartPhase::Revoked;
        restart.add_step(RestartPhase::Revoked.name(), json!(null), now_ms);
        let scheduled = (restart.overdue_at, restart.command_id.clone());
        self.due.remove(&scheduled);
        self.all.unfence(agent_id);
    }

    /// Withdraws an open command that has not reached its agent. Returns whether it is withdrawn.
    pub fn withdraw(&mut self, command_id: &str, now_ms: u64) -> bool {
        let Some(restart) = self.all.get_mut(command_id).filter(|it| it.phase == RestartPhase::Commanded) else {
            return false;
        };
        restart.phase = RestartPhase::Withdrawn;
        restart.add_step(RestartPhase::Withdrawn.name(), json!(null), now_ms);
        let (scheduled, agent_id) = ((restart.overdue_at, command_id.to_owned()), restart.agent_id.clone());
        self.due.remove(&scheduled);
        self.all.unfence(&agent_id);
        self.dirty.insert(command_id.to_owned());
        true
    }

    /// Forgets all of the agent's commands.
    pub fn forget(&mut self, agent_id: &str) {
        let ids: Vec<String> = self.all.of_agent(agent_id).map(|restart| restart.command_id.clone()).collect();
        ids.iter().for_each(|command_id| self.remove(command_id));
    }

    /// Returns whether the agent's next run may be the end of a commanded restart, in time or late.
    pub fn awaits_return(&self, agent_id: &str) -> bool {
        let waits = |restart: &Restart| restart.phase.is_open() || restart.phase == RestartPhase::Overdue;
        self.all.of_agent(agent_id).next().is_some_and(waits)
    }

    /// Makes every command that took too long overdue, and returns the agents, which are no longer fenced.
    pub fn expire(&mut self, now_ms: u64) -> Vec<String> {
        let later = self.due.split_off(&(now_ms + 1, String::new()));
        let late = std::mem::replace(&mut self.due, later);
        let mut agents = Vec::new();
        for (_, id) in late {
            let Some(restart) = self.all.get_mut(&id) else { continue };
            let stuck = restart.phase.name();
            restart.phase = RestartPhase::Overdue;
            restart.add_step(RestartPhase::Overdue.name(), json!({"while": stuck}), now_ms);
            let agent_id = restart.agent_id.clone();
            self.all.unfence(&agent_id);
            agents.push(agent_id);
            self.dirty.insert(id);
        }
        agents
    }

    /// Returns whether the index by time has each open command once, at its time.
    #[cfg(test)]
    pub(crate) fn index_is_right(&self) -> bool {
        let open = self.all.fenced_after(None).filter_map(|agent_id| self.all.open_for(agent_id));
        self.due == open.map(|restart| (restart.overdue_at, restart.command_id.clone())).collect()
    }

    /// Returns when `expire` will next have a result, in ms since the epoch.
    pub fn deadline(&self) -> Option<u64> {
        self.due.first().map(|(overdue_at, _)| *overdue_at)
    }

    fn insert(&mut self, restart: Restart) {
        if restart.phase.is_open() {
            self.due.insert((restart.overdue_at, restart.command_id.clone()));
        }
        self.all.insert(restart);
    }

    /// Returns the agent's open command if it is the named one, and marks it as dirty.
    fn open_mut(&mut self, agent_id: &str, command_id: Option<&str>) -> Option<&mut Restart> {
        let id = self.all.open_id(agent_id)?;
        if command_id.is_some_and(|named| *named != *id) {
            return None;
        }
        self.dirty.insert(id.as_ref().to_owned());
        self.all.get_mut(&id)
    }

    /// Returns the agent's open command, or else its newest if that is overdue: it may still become `Back`.
    fn open_or_overdue_mut(&mut self, agent_id: &str, command_id: Option<&str>) -> Option<&mut Restart> {
        if self.all.open_for(agent_id).is_some() {
            return self.open_mut(agent_id, command_id);
        }
        let newest = self.all.of_agent(agent_id).next()?;
        let named = command_id.is_none_or(|named| named == newest.command_id);
        if newest.phase != RestartPhase::Overdue || !named {
            return None;
        }
        let id = newest.command_id.clone();
        self.dirty.insert(id.clone());
        self.all.get_mut(&id)
    }

    fn remove(&mut self, command_id: &str) {
        let Some(restart) = self.all.remove(command_id) else { return };
        self.due.remove(&(restart.overdue_at, restart.command_id.clone()));
        self.ended.remove(command_id);
        self.dirty.insert(command_id.to_owned());
    }

    /// Counts the command among those that have ended, if it has.
    fn weigh(&mut self, command_id: &str) {
        if let Some(restart) = self.all.get(command_id).filter(|restart| !restart.phase.is_open()) {
            self.ended.push(command_id, restart.weight());
        }
    }

    /// Drops the oldest commands that have ended while there are too many.
    fn prune(&mut self) {
        let Policy { keep_restarts_in_all: most, keep_restart_bytes: most_bytes, .. } = self.policy;
        while let Some(oldest) = self.ended.pop_excess(most, most_bytes) {
            self.remove(&oldest);
        }
    }
}

#[cfg(test)]
#[path = "tests/restart_bounds.rs"]
mod bounds;
#[cfg(test)]
#[path = "tests/restart_ledger.rs"]
mod tests;
