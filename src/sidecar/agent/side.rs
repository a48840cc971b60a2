//! The agent's side as the event loop sees it; a simulation gives another.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::sidecar::agent::results::{ResultsConfig, ResultsEvent, ResultsWatcher};
use crate::sidecar::agent::wake::{RunnerConfig, WakeEvent, WakeOrder, WakeRunner};

/// What runs wake commands; see [`WakeRunner`].
pub trait Wakes: Send + Sync {
    /// Starts the command; it ends in exactly one event.
    fn start(&self, order: WakeOrder);
    /// Reports an outcome for which nothing had to be run.
    fn answer(&self, event: WakeEvent);
    /// Where tasks' files of passage are kept.
    fn scratch_dir(&self) -> &Path;
    /// Removes what was handed over for this task in files.
    fn clean_up(&self, task_id: &str);
}

/// What finds the agent's files; see [`ResultsWatcher`].
pub trait Results: Send + Sync {
    /// Watches exactly these tasks from now on.
    fn watch(&self, tasks: Vec<String>);
    /// Looks now, and reports what is there, then [`ResultsEvent::Looked`] with this number.
    fn look(&self, number: u32);
    /// Removes a task's files; returns what could not be removed and why.
    fn clean_up(&self, task_id: &str) -> Vec<(PathBuf, io::Error)>;
    /// Removes a task's sign alone; returns whether there was one.
    ///
    /// # Errors
    /// It cannot be removed.
    fn drop_sign(&self, task_id: &str) -> Result<bool, (PathBuf, io::Error)>;
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

    fn clean_up(&self, task_id: &str) -> Vec<(PathBuf, io::Error)> {
        Self::clean_up(self, task_id)
    }

    fn drop_sign(&self, task_id: &str) -> Result<bool, (PathBuf, io::Error)> {
        Self::drop_sign(self, task_id)
    }
}

/// Makes the agent's side, inside the runtime, when the sidecar starts.
pub trait AgentSide {
    /// What runs wake commands and reports to `events`.
    fn wakes(&self, config: RunnerConfig, events: mpsc::Sender<WakeEvent>) -> Arc<dyn Wakes>;
    /// What finds the agent's files and reports to `events`.
    fn results(&self, config: ResultsConfig, events: mpsc::Sender<ResultsEvent>) -> Box<dyn Results>;
}

/// The agent of this machine.
pub(crate) struct RealAgent;

impl AgentSide for RealAgent {
    fn wakes(&self, config: RunnerConfig, events: mpsc::Sender<WakeEvent>) -> Arc<dyn Wakes> {
        Arc::new(WakeRunner::new(config, events))
    }

    fn results(&self, config: ResultsConfig, events: mpsc::Sender<ResultsEvent>) -> Box<dyn Results> {
        Box::new(ResultsWatcher::new(config, events))
    }
}
