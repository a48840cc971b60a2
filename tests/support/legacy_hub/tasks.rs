//! The existing hub's task queue: generations, retries, dead letters. A generation goes up by one whenever a task is
//! assigned and whenever it is taken back or retried. It knows no sockets and no agents beyond their names.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Queued,
    Assigned,
    Completed,
    DeadLetter,
    Cancelled,
}

/// Why a verdict was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotTaken {
    StaleGeneration,
    InvalidState,
    NotFound,
}

impl NotTaken {
    pub fn text(self) -> &'static str {
        match self {
            Self::StaleGeneration => "stale_generation",
            Self::InvalidState => "invalid_state",
            Self::NotFound => "not_found",
        }
    }
}

pub enum Failed {
    Retried,
    DeadLetter,
}

/// A task as the hub keeps it. Build one with [`Task::new`] and set what a test needs.
#[derive(Debug, Clone)]
pub struct Task {
    pub id: String,
    pub status: Status,
    pub generation: u64,
    pub assigned_to: Option<String>,
    pub retries: u32,
    pub max_retries: u32,
    pub result: Option<Value>,
    pub last_error: Option<String>,
    /// Every step with its time: (ms, what, generation).
    pub history: Vec<(u64, &'static str, u64)>,
    /// `assign_to`: this agent or nobody.
    pub only_for: Option<String>,
    pub needed_capabilities: BTreeSet<String>,
    /// Fields of `task_assign` besides id, generation and time; what is not set here gets the hub's defaults.
    pub fields: Value,
    left_by: Option<String>,
    complete_by_ms: Option<u64>,
    touched_ms: u64,
    order: u64,
}

impl Task {
    pub fn new(id: &str, description: &str) -> Self {
        Self {
            id: id.to_owned(),
            status: Status::Queued,
            generation: 0,
            assigned_to: None,
            retries: 0,
            max_retries: 3,
            result: None,
            last_error: None,
            history: Vec::new(),
            only_for: None,
            needed_capabilities: BTreeSet::new(),
            fields: json!({"description": description}),
            left_by: None,
            complete_by_ms: None,
            touched_ms: 0,
            order: 0,
        }
    }

    pub fn only_for(mut self, agent: &str) -> Self {
        self.only_for = Some(agent.to_owned());
        self
    }

    pub fn max_retries(mut self, times: u32) -> Self {
        self.max_retries = times;
        self
    }

    /// When it is to be done by, ms since the epoch.
    pub fn complete_by(mut self, at_ms: u64) -> Self {
        self.complete_by_ms = Some(at_ms);
        self
    }

    /// A field of its `task_assign`, as it is to be.
    pub fn field(mut self, name: &str, value: Value) -> Self {
        self.fields[name] = value;
        self
    }

    pub fn suits(&self, agent: &str, capabilities: &BTreeSet<String>) -> bool {
        match &self.only_for {
            Some(name) => name == agent,
            None => self.needed_capabilities.is_subset(capabilities),
        }
    }

    /// The `task_assign` frame for it. A task from the queue carries a routing decision, never for `wake`.
    pub fn assignment(&self, now: u64) -> Value {
        let routed = self.status == Status::Assigned;
        let words = self.fields["description"].as_str().unwrap_or_default().split_whitespace().count();
        let reason = format!("explicit:trivial (confidence 0.00, word_count={words}, files=0)");
        let routing = json!({"classification_reason": reason,
            "effective_tier": "trivial", "estimated_cost_tier": "free", "fallback_reason": null, "fallback_used": false,
            "selected_endpoint": null, "selected_model": null, "target_type": "sidecar"});
        let complexity = json!({"effective_tier": "trivial", "explicit_tier": "trivial",
            "inferred": {"confidence": 0.0, "tier": "standard"}, "source": "explicit"});
        let mut frame = json!({
            "type": "task_assign", "task_id": self.id, "generation": self.generation, "assigned_at": now,
            "description": "", "metadata": {}, "repo": null, "branch": null, "file_hints": [], "success_criteria": [],
            "verification_steps": [], "skip_verification": false, "verification_timeout_ms": null,
            "max_verification_retries": 0,
            "complexity": if routed { complexity } else { Value::Null },
            "routing_decision": if routed { routing } else { Value::Null },
        });
        if let (Some(frame), Some(own)) = (frame.as_object_mut(), self.fields.as_object()) {
            frame.extend(own.clone());
        }
        frame
    }

    fn step(&mut self, what: &'static str, now: u64) {
        self.touched_ms = now;
        self.history.push((now, what, self.generation));
    }

    fn requeue(&mut self, what: &'static str, now: u64) {
        self.status = Status::Queued;
        self.left_by = self.assigned_to.take();
        self.generation += 1;
        self.step(what, now);
    }
}

/// All tasks, in the order they came.
#[derive(Default)]
pub struct Tasks {
    by_id: BTreeMap<String, Task>,
}

impl Tasks {
    pub fn get(&self, id: &str) -> Option<&Task> {
        self.by_id.get(id)
    }

    pub fn add(&mut self, mut task: Task, now: u64) {
        task.order = self.by_id.len() as u64;
        task.step("submitted", now);
        self.by_id.insert(task.id.clone(), task);
    }

    /// The ids of queued tasks, oldest first.
    pub fn queued(&self) -> Vec<String> {
        let mut queued: Vec<_> = self.by_id.values().filter(|task| task.status == Status::Queued).collect();
        queued.sort_by_key(|task| task.order);
        queued.into_iter().map(|task| task.id.clone()).collect()
    }

    pub fn assigned_to(&self, agent: &str) -> Option<String> {
        let theirs = |task: &&Task| task.status == Status::Assigned && task.assigned_to.as_deref() == Some(agent);
        self.by_id.values().find(theirs).map(|task| task.id.clone())
    }

    /// Whether a queued task was last this agent's.
    pub fn left_by(&self, agent: &str) -> bool {
        self.by_id.values().any(|task| task.status == Status::Queued && task.left_by.as_deref() == Some(agent))
    }

    pub fn assign(&mut self, id: &str, agent: &str, now: u64) {
        if let Some(task) = self.by_id.get_mut(id).filter(|task| task.status == Status::Queued) {
            task.status = Status::Assigned;
            task.assigned_to = Some(agent.to_owned());
            task.generation += 1;
            task.step("assigned", now);
        }
    }

    /// Does nothing to a task that nobody has; true when somebody had it.
    pub fn take_back(&mut self, id: &str, now: u64) -> bool {
        let task = self.by_id.get_mut(id).filter(|task| task.status == Status::Assigned);
        task.is_some_and(|task| {
            task.requeue("taken back", now);
            true
        })
    }

    /// Takes back what has given no sign of life for `limit_ms`; true when there was any.
    pub fn take_back_stuck(&mut self, limit_ms: u64, now: u64) -> bool {
        let stuck = |task: &&Task| task.status == Status::Assigned && now.saturating_sub(task.touched_ms) > limit_ms;
        let stuck: Vec<_> = self.by_id.values().filter(stuck).map(|task| task.id.clone()).collect();
        for id in &stuck {
            self.take_back(id, now);
        }
        !stuck.is_empty()
    }

    /// Takes back what was to be done by now; true when there was any. Signs of life do not help.
    pub fn take_back_overdue(&mut self, now: u64) -> bool {
        let overdue = |task: &&Task| task.status == Status::Assigned && task.complete_by_ms.is_some_and(|by| by < now);
        let overdue: Vec<_> = self.by_id.values().filter(overdue).map(|task| task.id.clone()).collect();
        for id in &overdue {
            // There it happens every 30 s for as long as the task is open; here once.
            self.by_id.get_mut(id).into_iter().for_each(|task| task.complete_by_ms = None);
            self.take_back(id, now);
        }
        !overdue.is_empty()
    }

    /// A sign of life.
    pub fn touch(&mut self, id: &str, now: u64) {
        if let Some(task) = self.by_id.get_mut(id).filter(|task| task.status == Status::Assigned) {
            task.touched_ms = now;
        }
    }

    /// Whoever had it.
    pub fn cancel(&mut self, id: &str) -> Option<String> {
        let task = self.by_id.get_mut(id)?;
        task.status = Status::Cancelled;
        task.assigned_to.take()
    }

    pub fn complete(&mut self, id: &str, generation: u64, result: Value, now: u64) -> Result<(), NotTaken> {
        let task = self.current(id, generation)?;
        task.status = Status::Completed;
        task.result = Some(result);
        task.step("completed", now);
        Ok(())
    }

    pub fn fail(&mut self, id: &str, generation: u64, error: &str, now: u64) -> Result<Failed, NotTaken> {
        let task = self.current(id, generation)?;
        task.retries += 1;
        task.last_error = Some(error.to_owned());
        if task.retries >= task.max_retries {
            task.status = Status::DeadLetter;
            task.step("dead letter", now);
            Ok(Failed::DeadLetter)
        } else {
            task.requeue("retried", now);
            Ok(Failed::Retried)
        }
    }

    /// The task a verdict is about, if the verdict may be taken: the generation is looked at only while it is assigned.
    fn current(&mut self, id: &str, generation: u64) -> Result<&mut Task, NotTaken> {
        let task = self.by_id.get_mut(id).ok_or(NotTaken::NotFound)?;
        match task.status {
            Status::Assigned if task.generation == generation => Ok(task),
            Status::Assigned => Err(NotTaken::StaleGeneration),
            Status::Queued | Status::Completed => Err(NotTaken::InvalidState),
            // Dead letters are kept in a table of their own, where verdicts are not looked up; a cancelled task is
            // forgotten.
            Status::DeadLetter | Status::Cancelled => Err(NotTaken::NotFound),
        }
    }
}
