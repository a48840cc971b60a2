//! All tasks, as pure code: which are queued, which agent holds which under which generation, and when the hub must
//! act. No clock, no sockets and no storage: the caller passes the time, sends the frames, and stores what is `dirty`.
//!
//! A rule of the legacy hub is kept: every assignment and every reclaim adds 1 to the generation. Verdicts are in
//! `verdicts`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::hub::scheduler::assignments::{Assignments, Due};
use crate::hub::scheduler::lost_assignments::LostAssignments;
use crate::hub::scheduler::policy::Policy;
use crate::hub::scheduler::queue::TaskQueue;
use crate::hub::scheduler::restart::RunIdentity;
use crate::hub::scheduler::retention::{Retention, Unfinished};
use crate::hub::scheduler::task::{ASSIGNED, Status, Submission, Task};
use crate::hub::scheduler::task_table::TaskTable;

/// All tasks.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    policy: Policy,
    pub(crate) all: TaskTable,
    queue: TaskQueue,
    pub(crate) assignments: Assignments,
    retention: Retention,
    unfinished: Unfinished,
    dirty: BTreeSet<String>,
    queued: Vec<String>,
    /// Agents that held a task which has ended at another's hands.
    ended: Vec<(String, String)>,
    pub(crate) lost_assignments: LostAssignments,
    next_seq: u64,
}

impl Tasks {
    /// Restores the tasks from what was stored. Holders have the accept timeout or the reconnect grace from now to come
    /// back, whichever is longer.
    pub fn load(stored: Vec<Task>, policy: Policy, now_ms: u64) -> Self {
        let mut tasks = Self { policy, assignments: Assignments::new(policy), ..Self::default() };
        let mut finished: Vec<(u64, String)> = Vec::new();
        for task in stored {
            tasks.next_seq = tasks.next_seq.max(task.seq + 1);
            match &task.status {
                Status::Queued => tasks.queue.insert(&task),
                Status::Assigned { agent_id, .. } => tasks.assignments.restore(agent_id, &task, now_ms),
                Status::Completed { .. } | Status::DeadLetter | Status::Cancelled => {
                    finished.push((task.updated_at, task.id.clone()));
                }
            }
            if !task.status.is_final() {
                tasks.unfinished.add(&task);
            }
            tasks.all.insert(task);
        }
        finished.sort();
        for task in finished.iter().filter_map(|(_, id)| tasks.all.get(id)) {
            tasks.retention.push(&task.id, task.weight());
        }
        // The limits may be lower than they were before the restart.
        tasks.prune();
        tasks
    }

    /// Returns one task.
    pub fn get(&self, task_id: &str) -> Option<&Task> {
        self.all.get(task_id)
    }

    /// Returns all tasks, by lane and order of submission.
    pub fn list(&self) -> Vec<&Task> {
        self.all.list_after(None).collect()
    }

    /// Returns the ids of the queued tasks that only this agent may do.
    pub(crate) fn queued_for(&self, agent_id: &str) -> Vec<String> {
        self.queue.addressed_to(agent_id).map(str::to_owned).collect()
    }

    /// Returns the task that the agent holds.
    pub fn task_of(&self, agent_id: &str) -> Option<&Task> {
        self.assignments.task_of(agent_id).and_then(|task_id| self.all.get(task_id))
    }

    /// Returns this task, if the agent holds it.
    pub(crate) fn held_task(&self, agent_id: &str, task_id: &str) -> Option<&Task> {
        self.task_of(agent_id).filter(|task| task.id == task_id)
    }

    /// Returns the ids of the tasks to store (or, if `get` returns none, to delete) since the last call.
    pub fn take_dirty(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.dirty)
    }

    /// Returns the tasks that were queued since the last call: an idle agent may be able to do them.
    pub fn take_queued(&mut self) -> Vec<String> {
        std::mem::take(&mut self.queued)
    }

    /// Returns the agents, with the task, that held a task before and may have kept their work on it, for the tasks that
    /// were completed or cancelled since the last call.
    pub fn take_ended(&mut self) -> Vec<(String, String)> {
        std::mem::take(&mut self.ended)
    }

    /// Returns whether another task of so many bytes may be submitted. A task that ends makes room for others.
    pub fn has_room(&self, bytes: u64) -> bool {
        self.unfinished.has_room(&self.policy, bytes)
    }

    /// Returns whether another task of so many bytes may be submitted, and half of the room is left.
    pub fn is_half_empty(&self, bytes: u64) -> bool {
        let Policy { max_unfinished, max_unfinished_bytes, .. } = self.policy;
        let half = Policy {
            max_unfinished: max_unfinished.div_ceil(2),
            max_unfinished_bytes: max_unfinished_bytes / 2,
            ..self.policy
        };
        self.unfinished.has_room(&half, bytes)
    }

    /// Queues a new task.
    pub fn submit(&mut self, id: String, submission: Submission, now_ms: u64) {
        let task = Task::new(id, self.next_seq, submission, now_ms);
        self.next_seq += 1;
        self.unfinished.add(&task);
        let id = task.id.clone();
        self.all.insert(task);
        self.enqueue(&id);
    }

    /// Returns the first queued task that this agent, with these capabilities, can do.
    pub fn first_for(&self, agent_id: &str, capabilities: &BTreeSet<String>) -> Option<String> {
        self.queue.first_for(agent_id, capabilities).map(str::to_owned)
    }

    /// Assigns a queued task to an agent that holds none. Returns `false`, and changes nothing, if the task is not
    /// queued or the agent holds another.
    pub fn assign(&mut self, task_id: &str, agent_id: &str, run: &RunIdentity, now_ms: u64) -> bool {
        if self.assignments.task_of(agent_id).is_some() {
            return false;
        }
        let Some(task) = self.all.get_mut(task_id) else { return false };
        if task.status != Status::Queued {
            return false;
        }
        self.queue.remove(task);
        task.generation += 1;
        let agent = agent_id.to_owned();
        task.status = Status::Assigned { agent_id: agent, assigned_at: now_ms, accepted: false, carried_since: None };
        task.add_history(ASSIGNED, &json!({"agent_id": agent_id, "generation": task.generation}), now_ms);
        self.assignments.assign(agent_id, task, run, now_ms);
        self.dirty.insert(task_id.to_owned());
        true
    }

    /// Records that the agent accepted the task.
    pub fn accepted(&mut self, agent_id: &str, task_id: &str, now_ms: u64) {
        if !self.record_sign_of_life(agent_id, task_id, now_ms) {
            return;
        }
        let Some(task) = self.all.get_mut(task_id) else { return };
        if let Status::Assigned { accepted: accepted @ false, .. } = &mut task.status {
            *accepted = true;
            task.add_history("accepted", &json!({"agent_id": agent_id}), now_ms);
            self.dirty.insert(task_id.to_owned());
        }
    }

    /// Records a sign of life of the task. Returns `false` if the agent does not hold it.
    pub fn record_sign_of_life(&mut self, agent_id: &str, task_id: &str, now_ms: u64) -> bool {
        self.assignments.record_sign_of_life(agent_id, task_id, now_ms)
    }

    /// Reclaims the agent's task and returns its id, if the agent holds one.
    pub fn reclaim(&mut self, agent_id: &str, why: &str, now_ms: u64) -> Option<String> {
        let task_id = self.assignments.task_of(agent_id)?.to_owned();
        self.requeue(&task_id, "reclaimed", json!({"agent_id": agent_id, "reason": why}), now_ms);
        Some(task_id)
    }

    /// Reclaims the task from an agent that lost it, and counts the loss. `lost_by` is the `boot_id` of the run that
    /// lost it.
    pub fn record_loss(&mut self, agent_id: &str, why: &str, lost_by: Option<&str>, now_ms: u64) {
        if !self.count_loss(agent_id, why, lost_by, now_ms) {
            self.reclaim(agent_id, why, now_ms);
        }
    }

    /// Counts a loss of the task that the agent holds. A task that ends or hangs every agent that takes it must not be
    /// assigned for ever: too many losses make it a dead letter. Returns whether this one did.
    ///
    /// The loss is forgiven if the run `lost_by` comes back (see [`LostAssignments`]).
    pub fn count_loss(&mut self, agent_id: &str, why: &str, lost_by: Option<&str>, now_ms: u64) -> bool {
        let Some(task_id) = self.assignments.task_of(agent_id).map(str::to_owned) else { return false };
        let Some(task) = self.all.get_mut(&task_id) else { return false };
        task.losses += 1;
        if task.losses >= self.policy.max_losses {
            let times = task.losses;
            let reason = format!(
                "broken off {times} times, the last by {agent_id} ({why}): it may crash any agent that takes it"
            );
            self.move_to_dead_letters(agent_id, &reason, now_ms);
            return true;
        }
        self.dirty.insert(task_id.clone());
        if let Some(boot_id) = lost_by {
            self.lost_assignments.record(agent_id, &task_id, boot_id);
        }
        false
    }

    /// Removes one loss from the task, unless it has ended.
    pub(crate) fn forgive_loss(&mut self, task_id: &str) {
        if let Some(task) = self.all.get_mut(task_id).filter(|task| !task.status.is_final()) {
            task.losses = task.losses.saturating_sub(1);
            self.dirty.insert(task_id.to_owned());
        }
    }

    /// Records that the agent, a legacy sidecar, took its task over from its previous process. The first time counts,
    /// also over restarts of the hub.
    pub fn set_carried_over(&mut self, agent_id: &str, now_ms: u64) {
        let Some(task_id) = self.assignments.task_of(agent_id).map(str::to_owned) else { return };
        if let Some(task) = self.all.get_mut(&task_id)
            && let Status::Assigned { carried_since: since @ None, .. } = &mut task.status
        {
            *since = Some(now_ms);
            self.dirty.insert(task_id);
            self.assignments.set_carried_since(agent_id, now_ms);
        }
    }

    /// Makes the task that the agent holds a dead letter, for this reason.
    pub fn move_to_dead_letters(&mut self, agent_id: &str, reason: &str, now_ms: u64) {
        if let Some(task_id) = self.assignments.task_of(agent_id).map(str::to_owned) {
            self.give_up(&task_id, reason, now_ms);
        }
    }

    /// Makes the task a dead letter, for this reason.
    pub(crate) fn give_up(&mut self, task_id: &str, reason: &str, now_ms: u64) {
        if let Some(task) = self.all.get_mut(task_id) {
            task.last_error = Some(reason.to_owned());
        }
        self.finish(task_id, Status::DeadLetter, "dead_letter", json!(reason), now_ms);
    }

    /// Cancels the task and returns its holder, if it had one.
    ///
    /// # Errors
    /// Returns the name of the status that the task already ended in, or `not_found`.
    pub fn cancel(&mut self, task_id: &str, by: &str, now_ms: u64) -> Result<Option<String>, &'static str> {
        let task = self.all.get(task_id).ok_or("not_found")?;
        let holder = match &task.status {
            Status::Queued => None,
            Status::Assigned { agent_id, .. } => Some(agent_id.clone()),
            Status::Completed { .. } | Status::DeadLetter | Status::Cancelled => return Err(task.status.name()),
        };
        self.finish(task_id, Status::Cancelled, "cancelled", json!({"by": by}), now_ms);
        Ok(holder)
    }

    /// Queues a dead letter again, with all its tries.
    ///
    /// # Errors
    /// Returns the name of the task's status if it is no dead letter, or `not_found`.
    pub fn revive(&mut self, task_id: &str, now_ms: u64) -> Result<(), &'static str> {
        let task = self.all.get_mut(task_id).ok_or("not_found")?;
        if task.status != Status::DeadLetter {
            return Err(task.status.name());
        }
        task.retry_count = 0;
        task.losses = 0;
        task.last_error = None;
        self.retention.remove(task_id);
        self.requeue(task_id, "queued", json!("retried from dead letter"), now_ms);
        Ok(())
    }

    /// Returns whether the agent has accepted the task that it holds.
    pub fn has_accepted(&self, agent_id: &str) -> bool {
        let accepts = |task: &Task| matches!(task.status, Status::Assigned { accepted: true, .. });
        self.task_of(agent_id).is_some_and(accepts)
    }

    /// Returns whether the agent has still to confirm the task that it holds.
    pub fn awaits_confirmation(&self, agent_id: &str) -> bool {
        self.assignments.get(agent_id).is_some_and(|held| held.confirm_by.is_some())
    }

    /// Returns what is due by now, for the caller to reclaim or to send again. Sending again is due once.
    pub fn due(&mut self, now_ms: u64) -> Vec<Due> {
        self.assignments.due(now_ms)
    }

    /// Returns when `due` will next have a result, in ms since the epoch.
    pub fn deadline(&self) -> Option<u64> {
        self.assignments.deadline()
    }

    /// Moves what is measured `ms` later, or earlier if that is negative, because the clock was set to `now_ms`.
    pub(super) fn move_by(&mut self, ms: i64, now_ms: u64) {
        let carried: Vec<String> = self.assignments.carried().map(str::to_owned).collect();
        for task_id in carried {
            if let Some(task) = self.all.get_mut(&task_id) {
                task.move_by(ms);
                self.dirty.insert(task_id);
            }
        }
        let Self { all, assignments, .. } = self;
        assignments.move_by(ms, now_ms, |task_id| all.get(task_id).and_then(Task::complete_by));
    }

    fn enqueue(&mut self, task_id: &str) {
        let Some(task) = self.all.get(task_id) else { return };
        self.queue.insert(task);
        self.dirty.insert(task_id.to_owned());
        self.queued.push(task_id.to_owned());
    }

    /// Queues the task again, at its old position, under a new generation.
    pub(crate) fn requeue(&mut self, task_id: &str, event: &str, details: Value, now_ms: u64) {
        let Some(task) = self.all.get_mut(task_id) else { return };
        let before = std::mem::replace(&mut task.status, Status::Queued);
        task.generation += 1;
        task.add_history(event, &details, now_ms);
        // Its history may have grown.
        self.unfinished.add(task);
        self.release(&before);
        self.enqueue(task_id);
    }

    pub(crate) fn finish(&mut self, task_id: &str, status: Status, event: &str, details: Value, now_ms: u64) {
        let Some(task) = self.all.get_mut(task_id) else { return };
        self.ended.extend(former_holders(task, &status));
        self.queue.remove(task);
        let before = std::mem::replace(&mut task.status, status);
        task.add_history(event, &details, now_ms);
        self.dirty.insert(task_id.to_owned());
        self.unfinished.remove(task_id);
        self.retention.push(task_id, task.weight());
        self.release(&before);
        self.prune();
    }

    /// Drops the oldest finished tasks while there are too many.
    fn prune(&mut self) {
        let Policy { keep_finished, keep_finished_bytes, .. } = self.policy;
        while let Some(oldest) = self.retention.pop_excess(keep_finished, keep_finished_bytes) {
            self.all.remove(&oldest);
            self.dirty.insert(oldest.as_ref().to_owned());
        }
    }

    fn release(&mut self, status: &Status) {
        if let Status::Assigned { agent_id, .. } = status {
            self.assignments.release(agent_id);
        }
    }
}

/// Returns the agents that held the task before its present holder, if it ends for good. (A dead letter may be revived,
/// and then the work that was kept counts.)
fn former_holders(task: &Task, end: &Status) -> Vec<(String, String)> {
    match end {
        Status::Completed { .. } | Status::Cancelled => {}
        Status::Queued | Status::Assigned { .. } | Status::DeadLetter => return Vec::new(),
    }
    let former = task.assigned_to().into_iter().filter(|agent_id| task.holder() != Some(agent_id.as_str()));
    former.map(|agent_id| (agent_id, task.id.clone())).collect()
}

#[cfg(test)]
#[path = "tests/tasks.rs"]
mod tests;
