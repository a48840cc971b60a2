//! The interface between the event loop and the agent; a simulation implements it too.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::machine::ResultFile;
use crate::sidecar::agent::results::{MadeOf, ResultsConfig, ResultsEvent, ResultsWatcher};
use crate::sidecar::agent::wake::{RunnerConfig, WakeEvent, WakeOrder, WakeRunner};

/// Runs wake commands; see [`WakeRunner`].
pub trait Wakes: Send + Sync {
    /// Starts the command, which leads to exactly one event.
    fn start(&self, order: WakeOrder);
    /// Reports an outcome for which no command was run.
    fn answer(&self, event: WakeEvent);
    /// Returns the folder for files that are handed over to tasks.
    fn scratch_dir(&self) -> &Path;
    /// Removes the files that were handed over to this task.
    fn clean_up(&self, task_id: &str);
}

/// Finds the agent's files; see [`ResultsWatcher`].
pub trait Results: Send + Sync {
    /// Watches exactly these tasks from now on.
    fn watch(&self, tasks: Vec<String>);
    /// Scans the folder now and reports what is there, then [`ResultsEvent::Looked`] with this number.
    fn look(&self, number: u32);
    /// Removes a task's files, or keeps a result that was not read; returns what could not be removed and why. `made_of`
    /// tells whether the verdict on the task is made of a content.
    fn clean_up(&self, task_id: &str, result: ResultFile, made_of: MadeOf<'_>) -> Vec<(PathBuf, io::Error)>;
    /// Removes a task's `.started` file only; returns whether there was one.
    ///
    /// # Errors
    /// The file cannot be removed.
    fn remove_started(&self, task_id: &str) -> Result<bool, (PathBuf, io::Error)>;
}

impl Wakes for WakeRunner {
    fn start(&self, order: WakeOrder) {
        Self::start(self, order);
    }

    fn answer(&self, event: WakeEvent) {
        Self::answer(self, event);
    }

    fn scratch_dir(&self) -> &Path {
        Self::scratch_dir(self)
    }

    fn clean_up(&self, task_id: &str) {
        Self::clean_up(self, task_id);
    }
}

impl Results for ResultsWatcher {
    fn watch(&self, tasks: Vec<String>) {
        Self::watch(self, tasks);
    }

    fn look(&self, number: u32) {
        Self::look(self, number);
    }

    fn clean_up(&self, task_id: &str, result: ResultFile, made_of: MadeOf<'_>) -> Vec<(PathBuf, io::Error)> {
        Self::clean_up(self, task_id, result, made_of)
    }

    fn remove_started(&self, task_id: &str) -> Result<bool, (PathBuf, io::Error)> {
        Self::remove_started(self, task_id)
    }
}

/// Creates the agent's parts, inside the runtime, when the sidecar starts.
pub trait AgentSide {
    /// Creates the runner of wake commands, which reports to `events`.
    fn wakes(&self, config: RunnerConfig, events: mpsc::Sender<WakeEvent>) -> Arc<dyn Wakes>;
    /// Creates the watcher of the agent's files, which reports to `events`.
    fn results(&self, config: ResultsConfig, events: mpsc::Sender<ResultsEvent>) -> Box<dyn Results>;
}

/// The agent on this machine.
pub(crate) struct RealAgent;

impl AgentSide for RealAgent {
    fn wakes(&self, config: RunnerConfig, events: mpsc::Sender<WakeEvent>) -> Arc<dyn Wakes> {
        Arc::new(WakeRunner::new(config, events))
    }

    fn results(&self, config: ResultsConfig, events: mpsc::Sender<ResultsEvent>) -> Box<dyn Results> {
        Box::new(ResultsWatcher::new(config, events))
    }
}
