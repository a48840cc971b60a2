//! The result that `on_task_result` is looking at: one at a time, of the task in hand. It hands the result on; what becomes
//! of it is the machine's to say.

use tokio::task::{JoinError, JoinHandle};

use super::hooks::Hooks;
use super::results::{ResultContent, ResultsEvent};
use super::speak::object;
use crate::machine::{Task, TaskId};

/// What is being looked at, if anything is.
#[derive(Debug, Default)]
pub(super) struct Review(Option<Under>);

#[derive(Debug)]
struct Under {
    task_id: TaskId,
    /// Should the hook be lost.
    content: ResultContent,
    hook: JoinHandle<ResultContent>,
}

impl Review {
    /// Lets the hook look at the task's result.
    pub(super) fn begin(&mut self, hooks: &Hooks, task: &Task, content: ResultContent) {
        self.end();
        let (hooks, payload, generation) = (hooks.clone(), object(&task.payload), task.generation);
        let theirs = content.clone();
        let hook = tokio::spawn(async move { hooks.review(payload, generation, theirs).await });
        self.0 = Some(Under { task_id: task.id.clone(), content, hook });
    }

    /// The result as it counts; never, where there is none.
    pub(super) async fn next(&mut self) -> ResultsEvent {
        let Some(under) = &mut self.0 else { return std::future::pending().await };
        let reviewed: Result<ResultContent, JoinError> = (&mut under.hook).await;
        let (task_id, content) = (under.task_id.to_string(), under.content.clone());
        self.0 = None;
        ResultsEvent::Result { task_id, content: reviewed.unwrap_or(content) }
    }

    /// Nobody wants the result any more, or not under this watch: it is found again, and looked at again, if it counts.
    pub(super) fn end(&mut self) {
        if let Some(under) = self.0.take() {
            under.hook.abort();
        }
    }

    /// The same if it is this task's.
    pub(super) fn end_of(&mut self, task_id: &TaskId) {
        if self.0.as_ref().is_some_and(|under| under.task_id == *task_id) {
            self.end();
        }
    }
}
