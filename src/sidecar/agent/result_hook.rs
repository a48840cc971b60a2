//! Runs `on_task_result` for the result that the machine wants reviewed, one at a time, and reports the outcome as the
//! hook leaves it. A hook whose answer makes no sense is run again; if that does not help, the task fails, and its result
//! is kept.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::common::logging::Redactor;
use crate::machine::{Event, Outcome, Task};
use crate::protocol::{JsonFields, stored_fields};
use crate::sidecar::agent::hooks::Hooks;
use crate::sidecar::agent::results::kept::Folders;
use crate::sidecar::agent::results::outcome::{MAX_RESULT_BYTES, ResultContent, outcome_of, too_large};
use crate::sidecar::agent::results::refused;

/// How often the hook is run for one result before an answer that makes no sense counts.
pub(crate) const RUNS: u64 = 3;

/// The wait before another try to keep a result. (The machine waits for the review up to its own deadline.)
const KEEP_AGAIN: Duration = Duration::from_secs(5);

/// Runs the result hook, at most one at a time.
#[derive(Debug)]
pub(crate) struct ResultHook {
    events: mpsc::Sender<Event>,
    running: Option<(u32, AbortHandle)>,
}

/// One result to be reviewed.
struct Reviewed {
    task: Task,
    outcome: Outcome,
    folders: Folders,
    redactor: Redactor,
}

impl ResultHook {
    /// Creates a runner that reports to `events`.
    pub(crate) fn new(events: mpsc::Sender<Event>) -> Self {
        Self { events, running: None }
    }

    /// Runs the hook for a result, in place of any hook that still runs. `folders` are for a result that is not taken.
    pub(crate) fn run(
        &mut self,
        number: u32,
        (task, outcome): (&Task, Outcome),
        hooks: &Hooks,
        (folders, redactor): (Folders, &Redactor),
    ) {
        self.abort_unless(None);
        let (hooks, events) = (hooks.clone(), self.events.clone());
        let reviewed = Reviewed { task: task.clone(), outcome, folders, redactor: redactor.clone() };
        let hook = tokio::spawn(async move {
            let outcome = reviewed.outcome_by(&hooks).await;
            // The event loop may have ended.
            let _ = events.send(Event::ResultReviewed { number, outcome }).await;
        });
        self.running = Some((number, hook.abort_handle()));
    }

    /// Aborts the hook unless the machine still waits for it: `wanted` is the number of the open review.
    pub(crate) fn abort_unless(&mut self, wanted: Option<u32>) {
        if let Some((_, hook)) = self.running.take_if(|(number, _)| Some(*number) != wanted) {
            hook.abort();
        }
    }
}

impl Reviewed {
    fn result(&self) -> JsonFields {
        match &self.outcome {
            Outcome::Completed { result } => stored_fields(result),
            Outcome::Failed { reason } => ResultContent::Failure { reason: reason.clone() }.to_object(),
        }
    }

    async fn outcome_by(self, hooks: &Hooks) -> Outcome {
        let (payload, generation) = (stored_fields(&self.task.payload), self.task.generation);
        let mut why = String::new();
        for run in 1..=RUNS {
            match hooks.review(&payload, generation, self.result()).await {
                Ok(None) => return self.outcome,
                Ok(Some(changed)) => return self.changed(&changed).await,
                Err(error) => {
                    tracing::warn!(hook = "on_task_result", run, of = RUNS, error, "a hook's answer makes no sense");
                    why = error;
                }
            }
        }
        let kept = self.keep().await;
        let own = match &self.outcome {
            Outcome::Completed { .. } => String::new(),
            Outcome::Failed { reason } => format!("; the task had failed: {reason}"),
        };
        let kept = kept.display();
        self.failed(format!("result_hook_failed: on_task_result was run {RUNS} times: {why}; the result is kept on the agent's machine in {kept}{own}"))
    }

    /// Returns the outcome that the hook made of the result.
    async fn changed(&self, changed: &JsonFields) -> Outcome {
        let text = changed.to_text();
        let bytes = text.as_str().len();
        if bytes > MAX_RESULT_BYTES {
            let kept = self.keep().await;
            return self.failed(format!(
                "{}; as it was before on_task_result, it is kept in {}",
                too_large(bytes),
                kept.display()
            ));
        }
        outcome_of(ResultContent::of(text), &self.redactor)
    }

    fn failed(&self, reason: String) -> Outcome {
        outcome_of(ResultContent::Failure { reason }, &self.redactor)
    }

    /// Writes the result to where an operator finds it, and returns where that is. It goes on trying: until the machine
    /// waits no longer, and takes the result as it is.
    async fn keep(&self) -> PathBuf {
        loop {
            let (folders, id, text) = (self.folders.clone(), self.task.id.clone(), self.result().to_text());
            let keep = move || refused::keep(&folders.results, &folders.queue_file, id.as_str(), text.as_str());
            let task_id = &self.task.id;
            match tokio::task::spawn_blocking(keep).await {
                Ok(Ok(path)) => return path,
                Ok(Err(error)) => {
                    tracing::error!(%task_id, %error, "a result cannot be put aside; it is tried again");
                }
                Err(error) => tracing::error!(%task_id, %error, "the writer of a result died; it is tried again"),
            }
            tokio::time::sleep(KEEP_AGAIN).await;
        }
    }
}
