//! Runs `on_task_result` for the result that the machine wants reviewed, one at a time, and reports the outcome as the
//! hook leaves it. It decides nothing.

use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::common::logging::Redactor;
use crate::machine::{Event, Outcome, Task};
use crate::protocol::stored_fields;
use crate::sidecar::agent::hooks::Hooks;
use crate::sidecar::agent::results::outcome::{ResultContent, outcome_of};

/// Runs the result hook, at most one at a time.
#[derive(Debug)]
pub(crate) struct ResultHook {
    events: mpsc::Sender<Event>,
    running: Option<(u32, AbortHandle)>,
}

impl ResultHook {
    /// Creates a runner that reports to `events`.
    pub(crate) fn new(events: mpsc::Sender<Event>) -> Self {
        Self { events, running: None }
    }

    /// Runs the hook for a result, in place of any hook that still runs.
    pub(crate) fn run(&mut self, number: u32, task: &Task, outcome: Outcome, hooks: &Hooks, redactor: &Redactor) {
        self.abort_unless(None);
        let (hooks, redactor, events) = (hooks.clone(), redactor.clone(), self.events.clone());
        let (payload, generation) = (stored_fields(&task.payload), task.generation);
        let hook = tokio::spawn(async move {
            let result = match &outcome {
                Outcome::Completed { result } => stored_fields(result),
                Outcome::Failed { reason } => ResultContent::Failure { reason: reason.clone() }.to_object(),
            };
            let outcome = match hooks.review(&payload, generation, result).await {
                Some(changed) => outcome_of(ResultContent::of(changed.to_text()), &redactor),
                None => outcome,
            };
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
