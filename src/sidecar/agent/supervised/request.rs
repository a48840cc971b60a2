//! The requests to a run's supervisor: what a session's wake gets as a file, and the whole request, which is passed on
//! stdin, so that neither the process list nor an environment shows it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What a wake tells `agentcom-sidecar session` of its assignment. It holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRequest {
    /// The task's id; a plain file name.
    pub task_id: String,
    /// The assignment's generation.
    pub generation: u64,
    /// The folder for `<task_id>.started` and `<task_id>.json`.
    pub results_dir: PathBuf,
    /// The folder for the claim and the progress file.
    pub scratch_dir: PathBuf,
    /// The id of this boot of the machine.
    pub machine_boot: String,
    /// The sidecar's configuration file, for the token that is taken out of all output.
    pub config_file: PathBuf,
}

/// A command to run for one assignment of a task.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRequest {
    /// The task's id; a plain file name.
    pub task_id: String,
    /// The assignment's generation, which is run at most once.
    pub generation: u64,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The folder in which the command runs.
    pub cwd: PathBuf,
    /// The command's time limit, ms; none for a session.
    pub timeout_ms: Option<u64>,
    /// The folder for `<task_id>.started` and `<task_id>.json`.
    pub results_dir: PathBuf,
    /// The folder for the claim and the progress file.
    pub scratch_dir: PathBuf,
    /// The id of this boot of the machine: a run of an earlier boot is over.
    pub machine_boot: String,
    /// Texts that must not appear in anything that is written.
    pub secrets: Vec<String>,
}

impl RunRequest {
    /// Returns the command of a shell line.
    pub fn shell(line: &str) -> Vec<String> {
        ["sh", "-c", line].map(str::to_owned).into()
    }
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
