//! The queue, as a pure fold: who waits, who holds what under which generation, and when the hub must act.
//! No clock, no sockets and no storage: the caller says the time, sends what is to be said, and stores what is `dirty`.
//!
//! A rule kept from the original hub: +1 on the generation for every hand-out and every take-back. Verdicts are in
//! `verdicts`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use serde_json::{Value, json};

use crate::hub::scheduler::assignments::{Assignments, Due};
use crate::hub::scheduler::lost_assignments::{AgentRun, LostAssignments};
use crate::hub::scheduler::policy::Policy;
use crate::hub::scheduler::queue::{TaskQueue, Turn, turn};
use crate::hub::scheduler::retention::{Retention, Unfinished};
use crate::hub::scheduler::task::{Status, Submission, Task};

/// All tasks.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    policy: Policy,
    pub(crate) all: HashMap<String, Task>,
    order: BTreeMap<Turn, String>,
    queue: TaskQueue,
    pub(crate) assignments: Assignments,
    retention: Retention,
    unfinished: Unfinished,
    dirty: BTreeSet<String>,
    queued: Vec<String>,
    pub(crate) lost_assignments: LostAssignments,
    next_seq: u64,
}

impl Tasks {
    /// The queue as it was stored. Assignments have `accept_timeout_ms` from now to come back.
    pub fn load(stored: Vec<Task>, policy: Policy, now_ms: u64) -> Self {
        let mut tasks = Self { policy, assignments: Assignments::new(policy), ..Self::default() };
        let mut finished: Vec<(u64, String)> = Vec::new();
        for task in stored {
            tasks.next_seq = tasks.next_seq.max(task.seq + 1);
            match &task.status {
                Status::Queued => tasks.queue.insert(&task),
                Status::Assigned { agent_id, .. } => tasks.assignments.hand(agent_id, &task, now_ms),
                Status::Completed { .. } | Status::DeadLetter | Status::Cancelled => {
                    finished.push((task.updated_at, task.id.clone()));
                }
            }
            if !task.status.is_final() {
                tasks.unfinished.add(&task);
            }
            tasks.insert(task);
        }
        finished.sort();
        for task in finished.iter().filter_map(|(_, id)| tasks.all.get(id)) {
            tasks.retention.push(task);
        }
        // The bounds may be lower than those of the hub before.
        tasks.prune();
        tasks
    }

    /// One task.
    pub fn get(&self, task_id: &str) -> Option<&Task> {
        self.all.get(task_id)
    }

    /// All tasks, by lane and order of submission.
    pub fn list(&self) -> Vec<&Task> {
        self.list_after(None).collect()
    }

    /// The same, from after this turn on.
    pub fn list_after(&self, after: Option<Turn>) -> impl Iterator<Item = &Task> {
        let rest = self.order.range((after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded));
        rest.filter_map(|(_, id)| self.all.get(id))
    }

    /// The task that the agent holds.
    pub fn task_of(&self, agent_id: &str) -> Option<&Task> {
        self.assignments.task_of(agent_id).and_then(|task_id| self.all.get(task_id))
    }

    /// The tasks to store (or, where `get` has none, to delete) since the last call.
    pub fn take_dirty(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.dirty)
    }

    /// The tasks that began to wait since the last call: somebody idle may be able to do them.
    pub fn take_queued(&mut self) -> Vec<String> {
        std::mem::take(&mut self.queued)
    }

    /// Whether another task of so many bytes may be submitted. One that ends leaves room for others.
    pub fn has_room(&self, bytes: u64) -> bool {
        self.unfinished.has_room(&self.policy, bytes)
    }

    /// Puts a new task in its lane.
    pub fn submit(&mut self, id: String, submission: Submission, now_ms: u64) {
        let task = Task::new(id, self.next_seq, submission, now_ms);
        self.next_seq += 1;
        self.unfinished.add(&task);
        self.enqueue(task);
    }

    /// The first waiting task that this agent, with these capabilities, can do.
    pub fn first_for(&self, agent_id: &str, capabilities: &BTreeSet<String>) -> Option<String> {
        self.queue.first_for(agent_id, capabilities).map(str::to_owned)
    }

    /// Hands a waiting task to an agent that holds none. `false`, and nothing changed, where either is not so.
    pub fn assign(&mut self, task_id: &str, agent_id: &str, now_ms: u64) -> bool {
        if self.assignments.task_of(agent_id).is_some() {
            return false;
        }
        let Some(task) = self.all.get_mut(task_id) else { return false };
        if task.status != Status::Queued {
            return false;
        }
        self.queue.remove(task);
        task.generation += 1;
        task.status = Status::Assigned { agent_id: agent_id.to_owned(), assigned_at: now_ms, accepted: false };
        task.note("assigned", json!({"agent_id": agent_id, "generation": task.generation}), now_ms);
        self.assignments.hand(agent_id, task, now_ms);
        self.dirty.insert(task_id.to_owned());
        true
    }

    /// The agent said that the task is its own.
    pub fn accepted(&mut self, agent_id: &str, task_id: &str, now_ms: u64) {
        if !self.alive(agent_id, task_id, now_ms) {
            return;
        }
        let Some(task) = self.all.get_mut(task_id) else { return };
        if let Status::Assigned { accepted: accepted @ false, .. } = &mut task.status {
            *accepted = true;
            task.note("accepted", json!({"agent_id": agent_id}), now_ms);
            self.dirty.insert(task_id.to_owned());
        }
    }

    /// A sign of life of the task from its holder. `false` where it comes from somebody else.
    pub fn alive(&mut self, agent_id: &str, task_id: &str, now_ms: u64) -> bool {
        self.assignments.alive(agent_id, task_id, now_ms)
    }

    /// Takes the agent's task back, if it holds one, and says which it was.
    pub fn take_back(&mut self, agent_id: &str, why: &str, now_ms: u64) -> Option<String> {
        let task_id = self.assignments.task_of(agent_id)?.to_owned();
        self.requeue(&task_id, "reclaimed", json!({"agent_id": agent_id, "reason": why}), now_ms);
        Some(task_id)
    }

    /// Takes the task back from an agent that broke it off. What ends or hangs whoever takes it must not go round for
    /// ever: too many losses make a dead letter. `life` is whose loss it was: [`Tasks::returned`] forgives it to the same.
    pub fn lose(&mut self, agent_id: &str, why: &str, life: Option<AgentRun>, now_ms: u64) {
        let Some(task_id) = self.assignments.task_of(agent_id).map(str::to_owned) else { return };
        let Some(task) = self.all.get_mut(&task_id) else { return };
        task.losses += 1;
        if task.losses >= self.policy.max_losses {
            let times = task.losses;
            let reason =
                format!("broken off {times} times, the last by {agent_id} ({why}): it may end whoever takes it");
            task.last_error = Some(reason.clone());
            self.finish(&task_id, Status::DeadLetter, "dead_letter", json!(reason), now_ms);
            return;
        }
        if let Some(life) = life {
            self.lost_assignments.note(agent_id, &task_id, life);
        }
        self.requeue(&task_id, "reclaimed", json!({"agent_id": agent_id, "reason": why}), now_ms);
    }

    /// The agent is here. If it lives the same life as when it lost a task, only the link had broken: that loss counts no
    /// more, whoever has the task now.
    pub fn returned(&mut self, agent_id: &str, life: &AgentRun) {
        if let Some(task_id) = self.lost_assignments.returned(agent_id, life) {
            self.forgive(&task_id);
        }
    }

    /// The agent says of the task what only the process can that took it. Had it lost it, and could nothing else tell that
    /// it lives the same life, that loss counts no more.
    pub fn still_in_hand(&mut self, agent_id: &str, task_id: &str) {
        if self.lost_assignments.has_it_still(agent_id, task_id) {
            self.forgive(task_id);
        }
    }

    /// The agent's process is another one than before: what it lost stays lost.
    pub fn began_anew(&mut self, agent_id: &str) {
        self.lost_assignments.began_anew(agent_id);
    }

    fn forgive(&mut self, task_id: &str) {
        if let Some(task) = self.all.get_mut(task_id).filter(|task| !task.status.is_final()) {
            task.losses = task.losses.saturating_sub(1);
            self.dirty.insert(task_id.to_owned());
        }
    }

    /// The holder cannot do the task, and nobody could.
    pub fn condemn(&mut self, agent_id: &str, reason: &str, now_ms: u64) {
        let Some(task_id) = self.assignments.task_of(agent_id).map(str::to_owned) else { return };
        if let Some(task) = self.all.get_mut(&task_id) {
            task.last_error = Some(reason.to_owned());
        }
        self.finish(&task_id, Status::DeadLetter, "dead_letter", json!(reason), now_ms);
    }

    /// The task is not wanted any more. The answer is its holder, if it had one; an error is its final status.
    ///
    /// # Errors
    /// The name of the status that it already ended in, or `not_found`.
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

    /// Gives a dead letter all its tries again.
    ///
    /// # Errors
    /// The name of the status that it is in instead, or `not_found`.
    pub fn revive(&mut self, task_id: &str, now_ms: u64) -> Result<(), &'static str> {
        let task = self.all.get_mut(task_id).ok_or("not_found")?;
        if task.status != Status::DeadLetter {
            return Err(task.status.name());
        }
        task.retry_count = 0;
        task.losses = 0;
        task.last_error = None;
        self.retention.remove(task_id);
        self.unfinished.add(task);
        self.requeue(task_id, "queued", json!("retried from dead letter"), now_ms);
        Ok(())
    }

    /// The holder left on a restart that we commanded: it keeps the task until the restart ends.
    pub fn holder_left(&mut self, agent_id: &str) {
        self.assignments.left(agent_id);
    }

    /// The holder is connected again and kept its task: it has to confirm it anew. What it had not accepted is said again
    /// unless it mentions it; with `always`, so is what it had.
    pub fn holder_returned(&mut self, agent_id: &str, always: bool, now_ms: u64) {
        let say_again = always || !self.had_accepted(agent_id);
        self.assignments.returned(agent_id, say_again, now_ms);
    }

    /// Whether the agent has accepted the task that it holds.
    pub fn had_accepted(&self, agent_id: &str) -> bool {
        let accepts = |task: &Task| matches!(task.status, Status::Assigned { accepted: true, .. });
        self.task_of(agent_id).is_some_and(accepts)
    }

    /// What is due by now. The caller takes back and says again; a saying is due once.
    pub fn due(&mut self, now_ms: u64) -> Vec<Due> {
        self.assignments.due(now_ms)
    }

    /// When `due` will next have something to say, ms since the epoch.
    pub fn deadline(&self) -> Option<u64> {
        self.assignments.deadline()
    }

    fn enqueue(&mut self, task: Task) {
        self.queue.insert(&task);
        self.dirty.insert(task.id.clone());
        self.queued.push(task.id.clone());
        self.insert(task);
    }

    fn insert(&mut self, task: Task) {
        self.order.insert(turn(&task), task.id.clone());
        self.all.insert(task.id.clone(), task);
    }

    /// Back into its lane, at its old place, under a new generation.
    pub(crate) fn requeue(&mut self, task_id: &str, event: &str, details: Value, now_ms: u64) {
        let Some(mut task) = self.all.remove(task_id) else { return };
        self.release(&task.status);
        task.status = Status::Queued;
        task.generation += 1;
        task.note(event, details, now_ms);
        self.enqueue(task);
    }

    pub(crate) fn finish(&mut self, task_id: &str, status: Status, event: &str, details: Value, now_ms: u64) {
        let Some(mut task) = self.all.remove(task_id) else { return };
        self.release(&task.status);
        self.queue.remove(&task);
        task.status = status;
        task.note(event, details, now_ms);
        self.dirty.insert(task_id.to_owned());
        self.unfinished.remove(task_id);
        self.retention.push(&task);
        self.all.insert(task_id.to_owned(), task);
        self.prune();
    }

    /// Forgets the oldest finished tasks where there are too many.
    fn prune(&mut self) {
        while let Some(oldest) = self.retention.pop_over(&self.policy) {
            if let Some(task) = self.all.remove(&oldest) {
                self.order.remove(&turn(&task));
            }
            self.dirty.insert(oldest);
        }
    }

    fn release(&mut self, status: &Status) {
        if let Status::Assigned { agent_id, .. } = status {
            self.assignments.release(agent_id);
        }
    }
}

#[cfg(test)]
#[path = "tests/tasks.rs"]
mod tests;
