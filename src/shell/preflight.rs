//! Whether the program that a restart would start can start: tried out when its file, or the configuration, is not what
//! this process began with. It finds out and says why not; what follows from that is the machine's to say.
//!
//! The probe is `PROGRAM check --preflight` with this process's own options: the new program's word that it reads this
//! configuration, this journal, and can use this folder. A program that does not know the command (exit code 2) is asked
//! for its version.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::exit_code::ExitCode;
use super::in_place::{Program, Stamp};
use super::logging::Redactor;
use crate::config::Secret;

/// What a probe may take; it takes some milliseconds.
const PROBE_BOUND: Duration = Duration::from_secs(2);

/// Until a disk that hangs is no longer waited for.
const LOOK_BOUND: Duration = Duration::from_secs(5);

/// How much of a program's complaint is passed on, characters.
const COMPLAINT_CHARS: usize = 300;

/// Variables that are for this process alone: a channel to pm2 or systemd is not the probe's to speak on.
const NOT_FOR_A_PROBE: [&str; 5] =
    ["NODE_CHANNEL_FD", "NODE_CHANNEL_SERIALIZATION_MODE", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// Looks at the next run before it is needed.
#[derive(Debug, Clone)]
pub struct Preflight(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    program: Program,
    config: PathBuf,
    config_at_start: Option<Stamp>,
    /// Takes the token out of what a program complains of: it has read the configuration.
    redactor: Redactor,
    /// The program and the configuration that were tried out last and can start.
    passed: Mutex<Option<[Option<Stamp>; 2]>>,
}

impl Preflight {
    /// For a process that was started as this program, with this configuration file and token. Call it at the start.
    pub fn new(program: Program, config: PathBuf, token: &Secret) -> Self {
        let config_at_start = Stamp::of(&config);
        let redactor = Redactor::new(std::slice::from_ref(token));
        Self(Arc::new(Shared { program, config, config_at_start, redactor, passed: Mutex::default() }))
    }

    /// Whether the next run could start; at once where nothing has changed. Never on the caller's thread.
    ///
    /// # Errors
    /// Why not, for people, with what to do.
    pub(super) async fn look(&self) -> Result<(), String> {
        self.in_background(Shared::look).await
    }

    /// The same for the last moment before the process ends: only another program is tried out. A configuration that
    /// has become wrong meanwhile keeps this program from starting, too.
    pub(super) async fn last_look(&self) -> Result<(), String> {
        self.in_background(|shared| if shared.program.is_replaced() { shared.look() } else { Ok(()) }).await
    }

    async fn in_background(
        &self,
        look: impl FnOnce(&Shared) -> Result<(), String> + Send + 'static,
    ) -> Result<(), String> {
        let shared = self.0.clone();
        let looked = tokio::task::spawn_blocking(move || look(&shared));
        match tokio::time::timeout(LOOK_BOUND, looked).await {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(error)) => Err(format!("whether the next run can start was not found out: {error}")),
            Err(_) => Err(self.0.says("its disk does not answer")),
        }
    }
}

impl Shared {
    fn look(&self) -> Result<(), String> {
        let stamps = [Stamp::of(self.program.path()), Stamp::of(&self.config)];
        let passed = || self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        let as_at_start = !self.program.is_replaced() && stamps[1] == self.config_at_start;
        if as_at_start || passed().as_ref() == Some(&stamps) {
            return Ok(());
        }
        let verdict = self.probe().map_err(|why| self.says(&why));
        match &verdict {
            Ok(()) => {
                tracing::info!(program = %self.program.path().display(), "the next run's program or configuration is new, and can start");
                *passed() = Some(stamps);
            }
            Err(why) => tracing::error!(why, "the next run could not start"),
        }
        verdict
    }

    fn says(&self, why: &str) -> String {
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
        let before = ["check", "--preflight"].map(OsString::from);
        let (status, complaint) = self.run(before.iter().chain(options))?;
        if status.success() {
            return Ok(());
        }
        if status.code() == Some(ExitCode::Usage as i32) {
            let (status, complaint) = self.run([OsString::from("--version")].iter())?;
            return if status.success() { Ok(()) } else { Err(described("--version", status, &complaint)) };
        }
        Err(described("check --preflight", status, &complaint))
    }

    fn run<'a>(&self, arguments: impl Iterator<Item = &'a OsString>) -> Result<(ExitStatus, String), String> {
        let mut command = Command::new(self.program.path());
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        NOT_FOR_A_PROBE.iter().for_each(|name| {
            command.env_remove(name);
        });
        let mut child = command.spawn().map_err(|error| format!("it cannot be started: {error}"))?;
        match wait(&mut child, PROBE_BOUND) {
            Ok(Some(status)) => Ok((status, complaint(&mut child, &self.redactor))),
            Ok(None) => Err(format!("it gave no answer within {} s", PROBE_BOUND.as_secs())),
            Err(error) => Err(format!("it was lost: {error}")),
        }
    }
}

/// Its exit, or `None` once it has been killed for taking too long.
fn wait(child: &mut Child, bound: Duration) -> io::Result<Option<ExitStatus>> {
    let end = Instant::now() + bound;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What the program wrote on stderr before it ended: what fits in the pipe.
fn complaint(child: &mut Child, redactor: &Redactor) -> String {
    const CAP: u64 = 4 * 1024;
    let mut bytes = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        // What can be read of it is what there is to tell. A grandchild may hold the pipe open: not to the end, then.
        let _ = read_what_is_there(stderr, CAP, &mut bytes);
    }
    let text = redactor.clean(String::from_utf8_lossy(&bytes).into_owned());
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(COMPLAINT_CHARS).collect()
}

#[cfg(unix)]
fn read_what_is_there(stderr: std::process::ChildStderr, cap: u64, bytes: &mut Vec<u8>) -> io::Result<()> {
    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
    fcntl_setfl(&stderr, fcntl_getfl(&stderr)? | OFlags::NONBLOCK)?;
    stderr.take(cap).read_to_end(bytes).map(drop)
}

#[cfg(not(unix))]
fn read_what_is_there(stderr: std::process::ChildStderr, cap: u64, bytes: &mut Vec<u8>) -> io::Result<()> {
    stderr.take(cap).read_to_end(bytes).map(drop)
}

fn described(what: &str, status: ExitStatus, complaint: &str) -> String {
    let ended = match status.code() {
        Some(code) => format!("`{what}` ended with exit code {code}"),
        None => format!("`{what}` ended with {status}"),
    };
    if complaint.is_empty() { ended } else { format!("{ended} ({complaint})") }
}
