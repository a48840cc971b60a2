//! Checks whether the program that a restart would start can start: it is tried out if its file, or the configuration,
//! has changed since this process started. It only reports why not; the machine decides what follows.
//!
//! The probe is `PROGRAM check --preflight` with this process's own options: the new program confirms that it can read
//! this configuration and this journal, and can use this folder. A program that does not know the command (exit code 2)
//! is asked for its version. Either answer must begin with the sidecar's name, or it is another program's.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::common::logging::Redactor;
use crate::common::secret::Secret;
use crate::common::text::first_chars;
use crate::sidecar::agent::wake::process_group;
use crate::sidecar::exit_code::ExitCode;
use crate::sidecar::supervisor::exec::{Program, Stamp};
use crate::sidecar::supervisor::inherited_fd::KEPT_FOLDER;

/// The time limit of a probe; it takes some milliseconds.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// The time limit of a whole check, which a hung disk may block.
const CHECK_TIMEOUT: Duration = Duration::from_secs(4);

/// How much of a program's output is passed on, characters.
const QUOTED_CHARS: usize = 300;

/// The prefix of the sidecar's answers.
const ANSWER_PREFIX: &str = "agentcom-sidecar ";

/// Variables that are for this process only: a probe must not use its channel to pm2 or systemd.
const REMOVED_VARIABLES: [&str; 6] = [
    "NODE_CHANNEL_FD",
    "NODE_CHANNEL_SERIALIZATION_MODE",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    KEPT_FOLDER,
];

/// Checks the next run before it is needed.
#[derive(Debug, Clone)]
pub struct Preflight(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    program: Program,
    config: PathBuf,
    config_at_start: Option<Stamp>,
    /// Removes the token from a program's error output: it has read the configuration.
    redactor: Redactor,
    /// The program and the configuration that passed the last probe.
    passed: Mutex<Option<[Option<Stamp>; 2]>>,
    /// The process id of the running probe, which is not reaped yet.
    probing: Mutex<Option<u32>>,
    /// No probe is started any more.
    closed: AtomicBool,
    check_lock: Mutex<()>,
}

impl Preflight {
    /// Creates the check for a process that was started as this program, with this configuration file and token. Call
    /// it at the start.
    pub fn new(program: Program, config: PathBuf, token: &Secret) -> Self {
        let config_at_start = Stamp::of(&config);
        let redactor = Redactor::new(std::slice::from_ref(token));
        Self(Arc::new(Shared {
            program,
            config,
            config_at_start,
            redactor,
            passed: Mutex::default(),
            probing: Mutex::default(),
            closed: AtomicBool::new(false),
            check_lock: Mutex::default(),
        }))
    }

    /// Checks whether the next run could start; returns at once if nothing has changed. The check does not run on the
    /// caller's thread. With `leaving`, the program is tried only if it is not the one that runs.
    ///
    /// # Errors
    /// Returns why not, for people, with what to do.
    pub(crate) async fn look(&self, leaving: bool) -> Result<(), String> {
        let shared = self.0.clone();
        let looked = tokio::task::spawn_blocking(move || {
            if leaving && !shared.program.is_replaced() {
                return Ok(());
            }
            shared.look()
        });
        match tokio::time::timeout(CHECK_TIMEOUT, looked).await {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(error)) => Err(format!("whether the next run can start was not found out: {error}")),
            Err(_) => Err(self.0.error_message("its disk does not answer")),
        }
    }

    /// Ends a running probe: this process exits, and its answer would not be read.
    pub(crate) fn close(&self) {
        self.0.closed.store(true, Ordering::Relaxed);
        // The lock is held for long only if a disk hangs; then the probe is left alone.
        for _ in 0..20 {
            if let Ok(probing) = self.0.probing.try_lock() {
                probing.map(process_group::kill);
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Shared {
    fn probing(&self) -> MutexGuard<'_, Option<u32>> {
        self.probing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self) -> Result<(), String> {
        // An earlier check, given up by its caller, may still run.
        let _one_at_a_time = self.check_lock.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = [Stamp::of(self.program.path()), Stamp::of(&self.config)];
        let passed = || self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        let unchanged = !self.program.is_replaced() && stamps[1] == self.config_at_start;
        if unchanged || passed().as_ref() == Some(&stamps) {
            return Ok(());
        }
        let verdict = self.probe().map_err(|why| self.error_message(&why));
        match &verdict {
            Ok(()) => {
                tracing::info!(program = %self.program.path().display(), "the next run's program or configuration is new, and can start");
                *passed() = Some(stamps);
            }
            Err(why) => tracing::error!(why, "the next run could not start"),
        }
        verdict
    }

    fn error_message(&self, why: &str) -> String {
        format!(
            "the next run could not start: {}: {why}; put a program and a configuration there that can, and ask again",
            self.program.path().display()
        )
    }

    fn probe(&self) -> Result<(), String> {
        let mut options: &[OsString] = self.program.arguments();
        if options.first().is_some_and(|first| first == OsStr::new("run")) {
            options = &options[1..];
        }
        let subcommand = ["check", "--preflight"].map(OsString::from);
        let ended = self.run(subcommand.iter().chain(options))?;
        if ended.status.code() == Some(ExitCode::Usage as i32) {
            return self.run([OsString::from("--version")].iter())?.verdict("--version");
        }
        ended.verdict("check --preflight")
    }

    fn run<'a>(&self, arguments: impl Iterator<Item = &'a OsString>) -> Result<Ended, String> {
        let mut command = Command::new(self.program.path());
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        REMOVED_VARIABLES.iter().for_each(|name| {
            command.env_remove(name);
        });
        // A process group of its own, so that what the probe starts ends with it.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = self.start(&mut command)?;
        let (mut stdout, mut stderr) = (OutputReader::new(child.stdout.take()), OutputReader::new(child.stderr.take()));
        let end = Instant::now() + PROBE_TIMEOUT;
        loop {
            // BEFORE its output is read, so that its last output is not missed. The output is always read, so that a
            // full pipe does not block it.
            let exit = self.try_wait(&mut child);
            stdout.read_available();
            stderr.read_available();
            match exit {
                Ok(Some(status)) => {
                    return Ok(Ended {
                        status,
                        stdout: stdout.text(&self.redactor),
                        stderr: stderr.text(&self.redactor),
                    });
                }
                Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(2)),
                Ok(None) => {
                    self.kill(&mut child);
                    return Err(format!("it gave no answer within {} s", PROBE_TIMEOUT.as_secs()));
                }
                Err(error) => return Err(format!("it was lost: {error}")),
            }
        }
    }

    fn start(&self, command: &mut Command) -> Result<Child, String> {
        let mut probing = self.probing();
        if self.closed.load(Ordering::Relaxed) {
            return Err("this process is about to end".to_owned());
        }
        let child = command.spawn().map_err(|error| format!("it cannot be started: {error}"))?;
        *probing = Some(child.id());
        Ok(child)
    }

    /// Returns its exit status, if it has ended. It is reaped under the lock only, so that the id in `probing` always
    /// names its own process group.
    fn try_wait(&self, child: &mut Child) -> io::Result<Option<ExitStatus>> {
        let mut probing = self.probing();
        let exit = child.try_wait();
        if !matches!(exit, Ok(None)) {
            *probing = None;
        }
        exit
    }

    /// Kills it and everything that it started, and reaps it.
    fn kill(&self, child: &mut Child) {
        let mut probing = self.probing();
        process_group::kill(child.id());
        // A process that has ended already is fine.
        let _ = child.kill();
        let _ = child.wait();
        *probing = None;
    }
}

/// A probe that ended by itself.
struct Ended {
    status: ExitStatus,
    /// `None` if its output could not be read.
    stdout: Option<String>,
    stderr: Option<String>,
}

impl Ended {
    /// Returns whether the answer is a sidecar's and positive. Exit code 0 of another program means nothing.
    fn verdict(&self, arguments: &str) -> Result<(), String> {
        let stderr = self.stderr.as_ref().filter(|text| !text.is_empty());
        let because = stderr.map(|text| format!(" ({text})")).unwrap_or_default();
        match (self.status.code(), &self.stdout) {
            (Some(0), Some(stdout)) if !stdout.starts_with(ANSWER_PREFIX) => {
                Err(format!("`{arguments}` answered {stdout:?}: that is not the sidecar{because}"))
            }
            (Some(0), _) => Ok(()),
            (Some(code), _) => Err(format!("`{arguments}` ended with exit code {code}{because}")),
            (None, _) => Err(format!("`{arguments}` ended with {}{because}", self.status)),
        }
    }
}

/// Reads a program's output without waiting for it, and keeps the beginning. A grandchild may hold the pipe open.
struct OutputReader<P> {
    pipe: Option<P>,
    bytes: Vec<u8>,
}

impl<P: Read + NonBlocking> OutputReader<P> {
    fn new(pipe: Option<P>) -> Self {
        // A pipe that would block is not read.
        Self { pipe: pipe.filter(|pipe| pipe.set_nonblocking().is_ok()), bytes: Vec::new() }
    }

    fn read_available(&mut self) {
        const CAP: usize = 4 * 1024;
        let Some(pipe) = &mut self.pipe else { return };
        let mut piece = [0; 8 * 1024];
        // At most as much at a time as a pipe holds: endless output does not block the loop.
        for _ in 0..16 {
            let Ok(length @ 1..) = pipe.read(&mut piece) else { return };
            let room = CAP.saturating_sub(self.bytes.len()).min(length);
            self.bytes.extend_from_slice(&piece[..room]);
        }
    }

    fn text(&self, redactor: &Redactor) -> Option<String> {
        self.pipe.as_ref()?;
        let text = redactor.clean(String::from_utf8_lossy(&self.bytes).into_owned());
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        Some(first_chars(&line, QUOTED_CHARS).to_owned())
    }
}

/// A pipe that can be made non-blocking.
trait NonBlocking {
    fn set_nonblocking(&self) -> io::Result<()>;
}

impl<P: std::os::fd::AsFd> NonBlocking for P {
    fn set_nonblocking(&self) -> io::Result<()> {
        use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
        Ok(fcntl_setfl(self, fcntl_getfl(self)? | OFlags::NONBLOCK)?)
    }
}
