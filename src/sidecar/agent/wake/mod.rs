//! Runs wake commands: `sh -c`, the task's values in the environment, one [`WakeEvent`] for each order. It never
//! retries, reads no results, and does not decide what an outcome means for the task.
//!
//! A command is done when it exits itself. A session that the command detached (`setsid agent &`) lives on with the
//! same output file; it neither delays the outcome nor is affected by a timeout, which ends the command's process group
//! only. When this process exits, commands that still run are left alone.

pub(crate) mod output_file;
pub(crate) mod process_group;
pub(crate) mod task_environment;

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use output_file::OutputFile;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use crate::common::crash_points::crash_point;
use crate::common::logging::Redactor;
use crate::common::secret::Secret;

pub use crate::machine::WakeOutcome;

/// The time between SIGTERM and SIGKILL for a command that timed out.
const GRACE: Duration = Duration::from_secs(2);

/// How long the kernel may take to end a killed process before it is left to the runtime's reaper.
const KILL_WAIT: Duration = Duration::from_secs(5);

/// How much of a command's output is quoted, characters: with the text before it, at most the 2,000 characters that a
/// legacy hub accepts as an error. A hub would cut off the end, where the reason is.
const QUOTED_CHARS: usize = 1_900;

/// Removes from a child's environment what it must not inherit (pm2's variables and its channel).
pub type Scrub = fn(&mut Command);

/// The runner's configuration.
#[derive(Debug, Clone)]
pub struct RunnerConfig {
    /// A folder used by this sidecar only, for commands' output and for task values too long for the environment.
    /// Created when missing.
    pub scratch_dir: PathBuf,
    /// Applied to every command BEFORE its own variables are set.
    pub scrub: Scrub,
    /// Texts that must not appear in an outcome.
    pub secrets: Vec<Secret>,
}

/// One command to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WakeOrder {
    /// The id of the task; a plain file name.
    pub task_id: String,
    /// The task's generation.
    pub generation: u64,
    /// The number of this attempt.
    pub attempt: u32,
    /// The command.
    pub what: What,
    /// The command's variables, usually `TASK_ID`, `TASK_JSON` and `TASK_DESCRIPTION`. NUL bytes are removed. A value
    /// that the kernel would refuse (128 KiB with its name) is left empty and handed over in a file of mode 0600 whose
    /// path is in `<NAME>_FILE`; the file stays until [`WakeRunner::clean_up`].
    pub env: Vec<(String, String)>,
    /// The request of `agentcom-sidecar session`, if the command may call that: handed over in such a file, whatever its
    /// length.
    pub session: Option<String>,
    /// The command's time limit, ms.
    pub timeout_ms: u64,
    /// The folder in which the command runs.
    pub cwd: PathBuf,
}

/// What an order runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A shell line.
    Shell(String),
    /// A program (this one), which receives its request on stdin.
    Program {
        /// The program's path.
        program: PathBuf,
        /// Its arguments.
        arguments: Vec<String>,
        /// The content of its stdin.
        stdin: Vec<u8>,
    },
}

/// The end of one order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WakeEvent {
    /// The order's task id.
    pub task_id: String,
    /// The order's generation.
    pub generation: u64,
    /// The order's attempt.
    pub attempt: u32,
    /// The outcome.
    pub outcome: WakeOutcome,
}

/// Runs commands, several at a time if ordered.
#[derive(Debug, Clone)]
pub struct WakeRunner {
    config: RunnerConfig,
    events: mpsc::Sender<WakeEvent>,
}

impl WakeRunner {
    /// Creates a runner that reports to `events`. Output files that sessions of an earlier sidecar still write to are
    /// taken over, abandoned ones removed, in the background.
    pub fn new(config: RunnerConfig, events: mpsc::Sender<WakeEvent>) -> Self {
        for file in output_file::open_leftover_files(&config.scratch_dir) {
            file.keep_small();
        }
        Self { config, events }
    }

    /// Starts the command in the background, which leads to exactly one event.
    pub fn start(&self, order: WakeOrder) {
        let (config, events) = (self.config.clone(), self.events.clone());
        tokio::spawn(async move {
            let outcome = run(&config, &order).await;
            let WakeOrder { task_id, generation, attempt, .. } = order;
            // The receiver may be gone.
            let _ = events.send(WakeEvent { task_id, generation, attempt, outcome }).await;
        });
    }

    /// Reports an outcome for which no command was run.
    pub fn answer(&self, event: WakeEvent) {
        let events = self.events.clone();
        tokio::spawn(async move {
            // The receiver may be gone.
            let _ = events.send(event).await;
        });
    }

    /// Returns the folder of the commands' files.
    pub fn scratch_dir(&self) -> &Path {
        &self.config.scratch_dir
    }

    /// Removes the files in which long values of this task were handed over. Best effort; a task without any is fine.
    pub fn clean_up(&self, task_id: &str) {
        task_environment::remove_value_files(&self.config.scratch_dir, task_id);
    }
}

async fn run(config: &RunnerConfig, order: &WakeOrder) -> WakeOutcome {
    let prepared = {
        let (scratch, order) = (config.scratch_dir.clone(), order.clone());
        tokio::task::spawn_blocking(move || prepare(&scratch, &order)).await
    };
    let (env, output) = match prepared {
        Ok(Ok(prepared)) => prepared,
        Ok(Err(error)) => return WakeOutcome::Failed { error },
        Err(e) => return WakeOutcome::Failed { error: format!("preparing the wake command failed: {e}") },
    };
    crash_point!("before the wake command starts");
    let spawned = spawn(config, order, &env, &output);
    crash_point!("after the wake command has started");
    // From here on it is kept small.
    let output = output.close_writers(output_file::MAX_BYTES);
    let redactor = Redactor::new(&config.secrets);
    match spawned {
        Ok(mut child) => watch(&mut child, &order.what, order.timeout_ms).await.unwrap_or_else(|status| {
            WakeOutcome::Failed { error: describe_failure(status, &output.quote(QUOTED_CHARS, &redactor)) }
        }),
        Err(error) => WakeOutcome::Failed { error },
    }
}

/// Waits for the command's end. An error is the status of a command that failed.
async fn watch(child: &mut Child, what: &What, timeout_ms: u64) -> Result<WakeOutcome, ExitStatus> {
    let limit = Duration::from_millis(timeout_ms);
    let run_to_end = async {
        write_stdin(child, what).await;
        child.wait().await
    };
    let status = timeout(limit, run_to_end).await;
    match status {
        Ok(Ok(status)) if status.success() => Ok(WakeOutcome::Succeeded),
        Ok(Ok(status)) => Err(status),
        Ok(Err(e)) => Ok(WakeOutcome::Failed { error: format!("the wake command was lost: {e}") }),
        Err(_) => {
            terminate_group(child).await;
            Ok(WakeOutcome::TimedOut { after_ms: timeout_ms })
        }
    }
}

/// Writes the program's stdin. A program that ends without reading it shows why by its exit.
async fn write_stdin(child: &mut Child, what: &What) {
    if let (What::Program { stdin, .. }, Some(mut pipe)) = (what, child.stdin.take())
        && let Err(error) = pipe.write_all(stdin).await
    {
        tracing::debug!(%error, "a command did not read its order");
    }
}

type Prepared = (Vec<(String, String)>, OutputFile);

fn prepare(scratch: &std::path::Path, order: &WakeOrder) -> Result<Prepared, String> {
    if !order.cwd.is_dir() {
        return Err(format!("the wake command cannot run in {}: no such folder; create it", order.cwd.display()));
    }
    let mut env = task_environment::fit(scratch, &order.task_id, &order.env)?;
    if let Some(session) = &order.session {
        env.push(task_environment::in_file(scratch, &order.task_id, task_environment::SESSION, session)?);
    }
    let label = format!("{}.{}.{}", order.task_id, order.generation, order.attempt);
    Ok((env, OutputFile::create(scratch, &label)))
}

fn spawn(
    config: &RunnerConfig,
    order: &WakeOrder,
    env: &[(String, String)],
    output: &OutputFile,
) -> Result<Child, String> {
    let (mut command, stdin) = match &order.what {
        What::Shell(line) => {
            let mut command = Command::new("sh");
            command.arg("-c").arg(line);
            (command, Stdio::null())
        }
        What::Program { program, arguments, .. } => {
            let mut command = Command::new(program);
            command.args(arguments);
            (command, Stdio::piped())
        }
    };
    command.current_dir(&order.cwd).kill_on_drop(false);
    (config.scrub)(&mut command);
    command.envs(env.iter().map(|(name, value)| (name, value)));
    command.stdin(stdin).stdout(output.stdio()).stderr(output.stdio());
    process_group::lead(&mut command);
    command.spawn().map_err(|e| format!("the wake command did not start: {e}; check wake_command and that sh is there"))
}

/// Ends the command's process group: SIGTERM, then SIGKILL after the grace period. Reaps the command.
async fn terminate_group(child: &mut Child) {
    // None only if the command was reaped already, and then nothing is left to end.
    let Some(leader) = child.id() else { return };
    let deadline = Instant::now() + GRACE;
    process_group::terminate(leader);
    let mut reaped = timeout_at(deadline, child.wait()).await.is_ok();
    // Reaping the leader does not free its id while the group has members, and ids are assigned in a cycle: within the
    // few ms between two checks the id cannot be reused by another group.
    while reaped && process_group::is_alive(leader) && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    if !reaped || process_group::is_alive(leader) {
        process_group::kill(leader);
    }
    if !reaped {
        reaped = timeout(KILL_WAIT, child.wait()).await.is_ok();
    }
    if !reaped {
        tracing::error!(pid = leader, "the wake command survives SIGKILL (a hung disk or network mount?); left behind");
    }
}

fn describe_failure(status: ExitStatus, tail: &str) -> String {
    let what = process_group::describe_exit(status);
    if tail.is_empty() { format!("wake command {what}") } else { format!("wake command {what}: {tail}") }
}
