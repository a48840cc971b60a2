//! The checked values of `executors`, `shell_commands` and `hooks`. `agent::executor` decides which of them runs for a
//! task.

/// A command for the tasks of one routing target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executor {
    /// The `routing_decision.target_type` of its tasks.
    pub target: String,
    /// The command, a shell line.
    pub command: String,
    /// The meaning of the command's end.
    pub mode: ExecutorMode,
    /// The command's time limit, ms; in mode `wake` the default is `wake_timeout_ms`.
    pub timeout_ms: u64,
    /// Further environment variables for the command.
    pub env: Vec<(String, String)>,
}

/// The meaning of the end of an executor's command.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ExecutorMode {
    /// The agent is woken; its files in `results_dir` report on the task.
    #[default]
    Wake,
    /// The task is done.
    Run,
}

impl ExecutorMode {
    /// Both names, for error messages.
    pub const NAMES: &'static str = "\"wake\" or \"run\"";

    /// Parses a name.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "wake" => Some(Self::Wake),
            "run" => Some(Self::Run),
            _ => None,
        }
    }
}

/// Whether the hub's own shell lines (`metadata.shell_command`) are run, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShellCommands {
    /// Whether they are run.
    pub enabled: bool,
    /// The time limit of one line, ms; a task may ask for less, not for more.
    pub timeout_ms: u64,
}

/// Commands around every task, which take JSON on stdin and answer in JSON on stdout, and for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hooks {
    /// The command that runs before a task is begun.
    pub on_task_start: Option<String>,
    /// The command that runs before a task's result is reported.
    pub on_task_result: Option<String>,
    /// The command that runs for a message in a room.
    pub on_message: Option<String>,
    /// The time limit of one hook, ms.
    pub timeout_ms: u64,
}
