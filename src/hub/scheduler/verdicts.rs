//! The effect of verdicts on tasks: pure. A rule of the legacy hub is kept: a verdict counts only for the generation
//! that it was made under; here also only from the agent that holds the task.

use serde_json::json;

use crate::hub::scheduler::task::Status;
use crate::hub::scheduler::tasks::Tasks;
use crate::protocol::{JsonFields, JsonText};

/// The reason why a verdict does not count. The names are those of the wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum VerdictError {
    /// The verdict is for another generation than the current one, or from an agent that does not hold the task.
    StaleGeneration,
    /// The task is not assigned: the verdict had arrived already, or the task was reclaimed.
    InvalidState,
    /// There is no such task.
    NotFound,
}

/// The effect of a failure on the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// The task is queued again.
    Retried,
    /// The task has no tries left.
    DeadLetter,
}

impl Tasks {
    /// Completes the task.
    ///
    /// # Errors
    /// Returns [`VerdictError`], and changes nothing, if the verdict does not count.
    pub fn complete(
        &mut self,
        agent_id: &str,
        task_id: &str,
        generation: u64,
        result: JsonText,
        report: JsonFields,
        now_ms: u64,
    ) -> Result<(), VerdictError> {
        let assigned_at = self.check_verdict(agent_id, task_id, generation)?;
        let tokens = report.get("tokens_used").cloned().unwrap_or_default();
        let status = Status::Completed { agent_id: agent_id.to_owned(), assigned_at, result, report };
        self.finish(task_id, status, "completed", json!({"agent_id": agent_id, "tokens_used": tokens}), now_ms);
        Ok(())
    }

    /// Records a failure of the task.
    ///
    /// # Errors
    /// Returns [`VerdictError`], and changes nothing, if the verdict does not count.
    pub fn fail(
        &mut self,
        agent_id: &str,
        task_id: &str,
        generation: u64,
        reason: &str,
        now_ms: u64,
    ) -> Result<Failed, VerdictError> {
        self.check_verdict(agent_id, task_id, generation)?;
        let Some(task) = self.all.get_mut(task_id) else { return Err(VerdictError::NotFound) };
        task.retry_count += 1;
        task.last_error = Some(reason.to_owned());
        if task.retry_count >= task.submission.max_retries {
            self.finish(task_id, Status::DeadLetter, "dead_letter", json!(reason), now_ms);
            return Ok(Failed::DeadLetter);
        }
        self.requeue(task_id, "retry", json!(reason), now_ms);
        Ok(Failed::Retried)
    }

    /// Checks whether a verdict counts, and returns the time of the assignment.
    fn check_verdict(&self, agent_id: &str, task_id: &str, generation: u64) -> Result<u64, VerdictError> {
        let task = self.all.get(task_id).ok_or(VerdictError::NotFound)?;
        match &task.status {
            Status::Assigned { agent_id: holder, assigned_at, .. } => {
                let counts = task.generation == generation && holder == agent_id;
                if counts { Ok(*assigned_at) } else { Err(VerdictError::StaleGeneration) }
            }
            Status::Queued | Status::Completed { .. } | Status::DeadLetter | Status::Cancelled => {
                Err(VerdictError::InvalidState)
            }
        }
    }
}
