//! What a supervisor is told, on its stdin: neither the list of processes nor an environment shows it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One command to run for one hand-out of a task.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRequest {
    /// The task; a plain file name.
    pub task_id: String,
    /// The hand-out: run once at most.
    pub generation: u64,
    /// A shell line.
    pub command: String,
    /// Where it runs.
    pub cwd: PathBuf,
    /// How long it may run, ms.
    pub timeout_ms: u64,
    /// Where `<task_id>.started` and `<task_id>.json` go.
    pub results_dir: PathBuf,
    /// Where the claim and the progress go.
    pub scratch_dir: PathBuf,
    /// This boot of the machine: what was under way before another one is over.
    pub machine_boot: String,
    /// Texts that nothing written may hold.
    pub secrets: Vec<String>,
}

impl core::fmt::Debug for RunRequest {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // Without the secrets.
        f.debug_struct("RunOrder")
            .field("task_id", &self.task_id)
            .field("generation", &self.generation)
            .field("command", &self.command)
            .finish_non_exhaustive()
    }
}
