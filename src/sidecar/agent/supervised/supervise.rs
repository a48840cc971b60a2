//! The supervisor of one command, as two processes of this program: the first passes the request on and reports whether
//! the command runs, the second moves to a session of its own and stays until the command has ended.
//!
//! 1. Claim the task; if it is claimed already, there is nothing to do.
//! 2. Write `<task_id>.started`.
//! 3. Start a process for the command, leading a process group of its own; record its id, let it proceed, and report
//!    that it runs.
//! 4. Pass its output on until its end, its time limit, or SIGTERM.
//! 5. Write `<task_id>.json`, whole, unless the command has written one itself, or the claim was removed meanwhile: then
//!    the result is not wanted.
//! 6. End what the command has left in its process group.

use std::ffi::OsString;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};
use tokio::time::sleep;

use crate::common::fs::{atomic_file, regular_file};
use crate::common::logging::Redactor;
use crate::common::secret::Secret;
use crate::common::signals;
use crate::common::wall_clock::now_ms;
use crate::protocol::JsonFields;
use crate::sidecar::agent::results::refused;
use crate::sidecar::agent::supervised::claim_record::{Claim, ClaimRecord, GRACE, Process, TakeOutcome, progress_path};
use crate::sidecar::agent::supervised::ended::{EndKind, Ended, RunResult};
use crate::sidecar::agent::supervised::output::{Progress, Stream};
use crate::sidecar::agent::supervised::pipes::Pipes;
use crate::sidecar::agent::supervised::request::RunRequest;
use crate::sidecar::agent::wake::process_group;

/// The argument that makes the program a supervisor; internal.
pub(super) const SUPERVISE: &str = "supervise-run";
const DETACHED: &str = "detached";
/// The argument of the command's process, which waits until it is recorded.
const COMMAND_PROCESS: &str = "held";
const PROCEED: &str = "go\n";

/// The answer when the task is under way.
const UNDER_WAY: &str = "under way";

/// How often new output is written to the progress file.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

/// How long to wait before a failed write of the result is retried.
const WRITE_RETRY: Duration = Duration::from_secs(1);

/// Returns the path of the running program, even if another file has replaced it since.
pub fn program() -> PathBuf {
    if cfg!(target_os = "linux") {
        "/proc/self/exe".into()
    } else {
        std::env::current_exe().unwrap_or_else(|_| "agentcom-sidecar".into())
    }
}

/// Returns the arguments for [`program`].
pub(crate) fn arguments() -> [&'static str; 1] {
    [SUPERVISE]
}

/// Runs a supervisor if the arguments (without the program's name) ask for one. Must be called first in `main`.
pub fn main_if_asked(mut arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    if arguments.next()? != SUPERVISE {
        return None;
    }
    let part = arguments.next();
    let answer = match part.as_ref().and_then(|word| word.to_str()) {
        Some(DETACHED) => run_detached(),
        Some(COMMAND_PROCESS) => run_command_process(arguments),
        _ => run_launcher(),
    };
    Some(match answer {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    })
}

/// Runs the first process. It ends as soon as the second one has answered, so that the second one is not a child of the
/// sidecar.
fn run_launcher() -> Result<(), String> {
    let mut request = Vec::new();
    io::stdin().read_to_end(&mut request).map_err(|e| format!("the order cannot be read: {e}"))?;
    launch(&request)
}

/// Starts the supervisor of a session, and returns once its command runs, or its task turned out to be under way.
///
/// # Errors
/// Returns why nothing was started.
pub(crate) fn start_session(request: &RunRequest) -> Result<(), String> {
    launch(&serde_json::to_vec(request).map_err(|e| format!("the request cannot be written: {e}"))?)
}

/// Starts the second process and waits for its answer.
fn launch(request: &[u8]) -> Result<(), String> {
    let mut command = std::process::Command::new(program());
    command.args([SUPERVISE, DETACHED]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|e| format!("the supervisor did not start: {e}"))?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    if let Some(mut stdin) = stdin {
        stdin.write_all(request).map_err(|e| format!("the supervisor ended at once: {e}"))?;
    }
    let mut answer = String::new();
    if let Some(stdout) = stdout {
        BufReader::new(stdout).read_line(&mut answer).map_err(|e| format!("the supervisor does not answer: {e}"))?;
    }
    match answer.trim() {
        UNDER_WAY => Ok(()),
        "" => Err("the supervisor ended before it had begun".to_owned()),
        other => Err(other.to_owned()),
    }
}

/// Runs the second process.
fn run_detached() -> Result<(), String> {
    signals::hold();
    let mut text = Vec::new();
    io::stdin().read_to_end(&mut text).map_err(|e| format!("the order cannot be read: {e}"))?;
    let request: RunRequest = serde_json::from_slice(&text).map_err(|e| format!("the order makes no sense: {e}"))?;
    leave_session();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| format!("the runtime cannot be made: {e}"))?;
    runtime.block_on(supervise(request));
    Ok(())
}

/// Runs the command's process up to the command itself. It waits until the supervisor has recorded it: a command that
/// is not recorded could not be ended any more.
fn run_command_process(mut command: impl Iterator<Item = OsString>) -> Result<(), String> {
    let mut word = String::new();
    io::stdin().read_line(&mut word).map_err(|e| format!("the supervisor does not answer: {e}"))?;
    if word != PROCEED {
        return Err("the supervisor ended before the command began".to_owned());
    }
    let name = command.next().unwrap_or_default();
    let mut program = std::process::Command::new(&name);
    program.args(command).stdin(Stdio::null());
    exec_in_place(program).map_err(|e| format!("{} did not start: {e}", name.display()))
}

fn exec_in_place(mut command: std::process::Command) -> io::Result<()> {
    use std::os::unix::process::CommandExt as _;
    Err(command.exec())
}

fn leave_session() {
    // Fails only for the leader of a process group, which a new child is not.
    let _ = rustix::process::setsid();
}

fn send_answer(text: &str) {
    let mut stdout = io::stdout();
    // One line. The first process may have been ended, and then the answer is not read.
    let _ = writeln!(stdout, "{}", text.replace('\n', " "));
    let _ = stdout.flush();
}

async fn supervise(request: RunRequest) {
    let record = ClaimRecord {
        pid: std::process::id(),
        generation: request.generation,
        machine_boot: request.machine_boot.clone(),
        claimed_at_ms: now_ms(),
        command: None,
    };
    // BEFORE the claim makes this process known.
    let stop = StopSignal::listen();
    // 1
    let mut claim = match Claim::take(&request.scratch_dir, &request.task_id, record) {
        Ok(TakeOutcome::Claimed(claim)) => claim,
        Ok(TakeOutcome::AlreadyRun) => return send_answer(UNDER_WAY),
        Err(error) => {
            return send_answer(&format!("cannot claim the task in {}: {error}", request.scratch_dir.display()));
        }
    };
    // 2
    if let Err(error) = write_started(&request) {
        claim.release();
        return send_answer(&format!("cannot write to {}: {error}", request.results_dir.display()));
    }
    // 3
    let began = Instant::now();
    let spawned = spawn(&request);
    let mut ended = match spawned {
        Err(error) => {
            send_answer(UNDER_WAY);
            Ended { kind: EndKind::NotStarted(error), streams: new_streams(&request), leader: None }
        }
        Ok(mut child) => {
            let leader = child.id();
            // Without the record, a command whose supervisor is killed is not ended: no reason to end it now.
            let _ = leader.map(|pid| claim.set_command(Process::now(pid)));
            if let Some(mut stdin) = child.stdin.take() {
                // If the command has ended already, that is noticed below.
                let _ = stdin.write_all(PROCEED.as_bytes()).await;
            }
            send_answer(UNDER_WAY);
            watch(&request, &mut child, leader, stop).await // 4
        }
    };
    // 5
    let RunResult { fields: mut result, is_unread } = ended.result(began.elapsed());
    if is_unread {
        keep_printed(&request, ended.printed(), &mut result);
    }
    write_result(&request, &claim, &result).await;
    // 6
    if let Some(leader) = ended.leader {
        end_group(leader).await;
    }
    claim.finish(&request.scratch_dir, &request.task_id);
}

/// Keeps what the command printed, since its result cannot be passed on, and says where.
fn keep_printed(request: &RunRequest, printed: &str, result: &mut JsonFields) {
    // The folder beside the journal is named like the scratch folder.
    let kept = refused::keep(&request.results_dir, &request.scratch_dir, &request.task_id, printed);
    let reason = result.string("reason").unwrap_or_default();
    let place = match kept {
        Ok(path) => format!("what it printed is kept on the agent's machine in {}", path.display()),
        Err(error) => format!("what it printed cannot be kept: {error}"),
    };
    result.set("reason", &format!("{reason}; {place}"));
}

fn write_started(request: &RunRequest) -> io::Result<()> {
    fs::create_dir_all(&request.results_dir)?;
    regular_file::make_empty(&request.results_dir.join(format!("{}.started", request.task_id)))
}

fn spawn(request: &RunRequest) -> io::Result<Child> {
    let mut command = Command::new(program());
    command.args([SUPERVISE, COMMAND_PROCESS]).args(&request.command).current_dir(&request.cwd).kill_on_drop(false);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    process_group::lead(&mut command);
    command.spawn()
}

fn new_streams(request: &RunRequest) -> [Stream; 2] {
    let secrets: Vec<Secret> = request.secrets.iter().cloned().map(Secret::new).collect();
    let redactor = Redactor::new(&secrets);
    [Stream::new("stdout", redactor.clone()), Stream::new("stderr", redactor)]
}

async fn watch(request: &RunRequest, child: &mut Child, leader: Option<u32>, mut stop: StopSignal) -> Ended {
    let mut streams = new_streams(request);
    let mut progress = Progress::create(&progress_path(&request.scratch_dir, &request.task_id));
    let mut pipes = Pipes::of(child);
    let mut time_is_over = std::pin::pin!(time_limit(request.timeout_ms));
    let mut every = tokio::time::interval(PROGRESS_EVERY);
    let kind = loop {
        let [out, err] = &mut streams;
        tokio::select! {
            biased;
            () = stop.recv() => break EndKind::Signalled,
            limit_ms = &mut time_is_over => break EndKind::TimedOut { limit_ms },
            status = child.wait() => break status.map_or_else(EndKind::Lost, EndKind::Exited),
            _ = every.tick() => progress.write([out, err]),
            () = pipes.read(out, err), if pipes.are_open() => {}
        }
    };
    if !matches!(kind, EndKind::Exited(_))
        && let Some(leader) = leader
    {
        // Both at once: a command that has ended counts as a member of its group until it is reaped, and would use up
        // the whole grace period. Either way no unreaped child is left behind.
        let reaped = tokio::time::timeout(GRACE * 2, child.wait());
        let _ = tokio::join!(end_group(leader), reaped);
    }
    let [out, err] = &mut streams;
    pipes.drain(out, err).await;
    out.finish();
    err.finish();
    progress.write([out, err]);
    Ended { kind, streams, leader }
}

/// Waits for the end of the command's time, and returns how long that was, ms. A session has no limit of its own.
async fn time_limit(limit_ms: Option<u64>) -> u64 {
    match limit_ms {
        Some(limit_ms) => {
            sleep(Duration::from_millis(limit_ms)).await;
            limit_ms
        }
        None => std::future::pending().await,
    }
}

/// Receives SIGTERM.
struct StopSignal {
    terminate: Option<tokio::signal::unix::Signal>,
}

impl StopSignal {
    /// From here on, the signals without a meaning here no longer end this process: it has the task's result to write.
    fn listen() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        // Their handlers stay installed. A failure leaves them held, and the command with them.
        let _ = signals::handle_meaningless().and_then(|()| signals::hangups());
        Self { terminate: signal(SignalKind::terminate()).ok() }
    }

    async fn recv(&mut self) {
        match &mut self.terminate {
            Some(terminate) => drop(terminate.recv().await),
            None => std::future::pending().await,
        }
    }
}

/// Sends SIGTERM to the group, and SIGKILL if a member is left after the grace period.
async fn end_group(leader: u32) {
    let deadline = Instant::now() + GRACE;
    process_group::terminate(leader);
    while process_group::is_alive(leader) && Instant::now() < deadline {
        sleep(Duration::from_millis(20)).await;
    }
    if process_group::is_alive(leader) {
        process_group::kill(leader);
    }
}

/// Writes the result where the sidecar finds it, and retries until it is written. One that the command has left there
/// counts.
async fn write_result(request: &RunRequest, claim: &Claim, result: &JsonFields) {
    let path = request.results_dir.join(format!("{}.json", request.task_id));
    let bytes = result.to_text();
    while claim.is_wanted() && !path.exists() {
        // A failure is not logged: this process has no log, and the sidecar on the same disk reports the same failure.
        if atomic_file::write_atomic(&path, bytes.as_str().as_bytes()).is_ok() {
            if !claim.is_wanted() {
                // The claim was removed during the write: the file must not pass for the result of a later assignment.
                let _ = fs::remove_file(&path);
            }
            return;
        }
        sleep(WRITE_RETRY).await;
    }
}
