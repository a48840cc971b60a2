//! Who does the work: executors by routing target, the hub's own shell commands, and hooks around a task. These are the
//! checked values alone; what is run when is the shell's to say (`shell::dispatch`).

/// A command for one kind of routing target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executor {
    /// `routing_decision.target_type` of the tasks that it is for.
    pub target: String,
    /// A shell line.
    pub command: String,
    /// What its end means.
    pub mode: ExecutorMode,
    /// How long it may run, ms; in mode `wake` the default is `wake_timeout_ms`.
    pub timeout_ms: u64,
    /// More variables for it.
    pub env: Vec<(String, String)>,
}

/// What the end of an executor's command means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ExecutorMode {
    /// The agent is woken; its files in `results_dir` tell of the task.
    #[default]
    Wake,
    /// The task is done.
    Run,
}

impl ExecutorMode {
    /// Both names.
    pub const NAMES: &'static str = "\"wake\" or \"run\"";

    /// Reads a name.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "wake" => Some(Self::Wake),
            "run" => Some(Self::Run),
            _ => None,
        }
    }
}

/// Whether a hub may have shell lines of its own (`metadata.shell_command`) run here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShellCommands {
    /// It may.
    pub enabled: bool,
    /// How long one may run, ms; a task may ask for less, not for more.
    pub timeout_ms: u64,
}

/// Commands around a task: JSON on stdin, JSON back on stdout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hooks {
    /// Before a task is begun.
    pub on_task_start: Option<String>,
    /// Before a task's result is told.
    pub on_task_result: Option<String>,
    /// How long one may run, ms.
    pub timeout_ms: u64,
}
