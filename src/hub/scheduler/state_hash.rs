//! A hash of everything that decides a scheduler's future: two schedulers with the same hash act alike from here on.
//! It serves checks that enumerate the hub's states, and leaves out what is only shown (histories, past times, texts).

use std::hash::{Hash, Hasher};

use crate::hub::scheduler::Scheduler;
use crate::hub::scheduler::agents::{Agent, ConnId};
use crate::hub::scheduler::assignments::{ActiveAssignment, Away};
use crate::hub::scheduler::frames::HOLDER_RETURN_MS;
use crate::hub::scheduler::restart::{Restart, RestartPhase};
use crate::hub::scheduler::task::{Status, Task};

/// Times further away than a day count as equally far.
const FAR_MS: u64 = 86_400_000;

/// The present; times are counted from it, and everything that is due by now counts as equally due.
struct FromNow(u64);

impl FromNow {
    fn ms(&self, at: u64) -> u64 {
        at.saturating_sub(self.0).min(FAR_MS)
    }

    fn since(&self, at: u64) -> u64 {
        self.0.saturating_sub(at).min(FAR_MS)
    }
}

impl Scheduler {
    /// Feeds the scheduler to `hasher` with every time counted from `now_ms` and every connection by its `rank`, so
    /// that states which differ only in their dates, or in how many connections were opened before, are the same. The
    /// rank is the number of connections that are as old or older and may still deliver frames. Changes and frames
    /// that were not yet taken are left out: take them before.
    pub fn state_hash(&self, now_ms: u64, rank: impl Fn(ConnId) -> usize, hasher: &mut impl Hasher) {
        let from_now = FromNow(now_ms);
        for task in self.tasks.list() {
            hash_task(task, hasher);
            let held = task.holder().and_then(|holder| self.tasks.assignments.get(holder));
            if let Some(held) = held.filter(|held| *held.task_id == *task.id) {
                hash_assignment(held, self.policy.stale_timeout_ms, &from_now, hasher);
            }
        }
        for (agent_id, agent) in self.agents.all() {
            agent_id.hash(hasher);
            agent.conn.map(&rank).hash(hasher);
            hash_agent(agent, &from_now, hasher);
            // Until then a run that took the holder's place is not answered.
            let held = self.tasks.assignments.get(agent_id).and_then(|held| held.run.as_ref());
            let other = held.is_some_and(|holder| holder.boot_id != agent.run.boot_id);
            other.then(|| from_now.ms(agent.connected_at + HOLDER_RETURN_MS)).hash(hasher);
        }
        for (agent_id, newest) in &self.agents.newest {
            // It decides nothing if no older connection can deliver a frame any more.
            Some((agent_id, rank(*newest))).filter(|(_, rank)| *rank > 0).hash(hasher);
        }
        let mut restarts: Vec<&Restart> = self.restarts.all.values().collect();
        restarts.sort_unstable_by_key(|restart| restart.seq);
        for restart in restarts {
            hash_restart(restart, &from_now, hasher);
        }
        for agent_id in self.idle_agents.iter() {
            agent_id.hash(hasher);
        }
        self.hash_drains(|at| from_now.ms(at), hasher);
        self.healing.state_hash(|at| from_now.ms(at), |at| from_now.since(at), hasher);
        self.tasks.lost_assignments.state_hash(hasher);
        self.rivals.state_hash(now_ms, hasher);
        self.rollouts.state_hash(self, now_ms, |at| from_now.ms(at), hasher);
    }
}

fn hash_task(task: &Task, hasher: &mut impl Hasher) {
    (&task.id, task.generation, task.retry_count, task.losses, task.status.name()).hash(hasher);
    if !task.has_ended_for_good() {
        // They are told when it ends.
        task.assigned_to().hash(hasher);
    }
    match &task.status {
        Status::Assigned { agent_id, assigned_at: _, accepted, carried_since: _ } => (agent_id, accepted).hash(hasher),
        Status::Queued | Status::Completed { .. } | Status::DeadLetter | Status::Cancelled => {}
    }
}

fn hash_assignment(held: &ActiveAssignment, stale_ms: u64, from_now: &FromNow, hasher: &mut impl Hasher) {
    let ActiveAssignment {
        task_id: _,
        run,
        confirm_by,
        resend_at,
        last_alive_at,
        overdue_at,
        away,
        carried_since,
        replacements,
        run_unclear,
    } = held;
    let due = |at: &Option<u64>| at.map(|at| from_now.ms(at));
    run.as_ref().map(|run| (&run.boot_id, run.restart_count)).hash(hasher);
    (due(overdue_at), carried_since, replacements, run_unclear).hash(hasher);
    match away {
        // The other timers rest, and the return is a sign of life. The time since which it is away counts only where a
        // restart ends first.
        Some(Away { since, until: None, planned }) => (from_now.since(*since), planned).hash(hasher),
        Some(Away { since: _, until: Some(until), planned }) => (from_now.ms(*until), planned).hash(hasher),
        None => {
            let stale_at = from_now.ms(last_alive_at.saturating_add(stale_ms));
            (due(confirm_by), due(resend_at), stale_at).hash(hasher);
        }
    }
}

fn hash_agent(agent: &Agent, from_now: &FromNow, hasher: &mut impl Hasher) {
    (agent.legacy, agent.parks_work, agent.cordoned, agent.drained).hash(hasher);
    (agent.leaving, agent.leaving.then_some(agent.expected_back_ms), agent.unavailable_until.map(|at| from_now.ms(at)))
        .hash(hasher);
    (&agent.run.boot_id, agent.run.restart_count, &agent.capability_names).hash(hasher);
}

/// The latest end of a command, a day after it, is left out: the enumerations do not look that far ahead.
fn hash_restart(restart: &Restart, from_now: &FromNow, hasher: &mut impl Hasher) {
    (&restart.command_id, &restart.agent_id, restart.phase.name()).hash(hasher);
    match restart.phase {
        RestartPhase::Commanded
        | RestartPhase::Delivered
        | RestartPhase::Accepted
        | RestartPhase::Draining
        | RestartPhase::Exiting => {
            (from_now.ms(restart.overdue_at), restart.deadline_ms).hash(hasher);
        }
        // It may still become `Back`.
        RestartPhase::Overdue => {}
        RestartPhase::Back | RestartPhase::Refused | RestartPhase::Revoked | RestartPhase::Withdrawn => return,
    }
    (restart.force, restart.force_told, restart.left_at.is_some(), restart.was_announced()).hash(hasher);
    (&restart.boot_before, restart.count_before).hash(hasher);
}

#[cfg(test)]
#[path = "tests/state_hash.rs"]
mod tests;
