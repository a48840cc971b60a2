//! The operator commands `status`, `restart`, `cancel-restart`, `drain`, `resume` and `reload`, which send a request to
//! the running sidecar over its local socket. They print its answer and return an exit code; the sidecar decides.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use clap::Args;

use crate::common::wall_clock::now_ms;
use crate::sidecar::admin::commands::CommandResult;
use crate::sidecar::admin::socket::{CallError, Client, OfflineView, SocketRequest};
use crate::sidecar::admin::status::Status;
use crate::sidecar::agent::results::kept::Folders;
use crate::sidecar::cli::options::Options;
use crate::sidecar::cli::{out, show};
use crate::sidecar::config::Config;
use crate::sidecar::exit_code::ExitCode;
use crate::sidecar::journal;

/// The interval between requests to a sidecar that is waited for.
const POLL: Duration = Duration::from_millis(100);
/// The interval while the sidecar is away, which is short during a restart.
const POLL_AWAY: Duration = Duration::from_millis(20);
/// How long the sidecar may be away before the wait is given up.
const AWAY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the hub may take to know the new run before the wait ends without the length of the gap.
const GAP_TIMEOUT: Duration = Duration::from_secs(30);

/// The arguments of `status`.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct StatusArgs {
    /// One line of JSON, for programs
    #[arg(long)]
    json: bool,
    /// Again whenever it changes, across restarts, until interrupted
    #[arg(long)]
    watch: bool,
}

/// The arguments of `restart`.
#[derive(Debug, Clone, Default, Args)]
pub struct RestartArgs {
    /// Do not wait for the task: it goes on in its session, and the next run takes it up
    #[arg(long)]
    force: bool,
    /// Why, for the log and the hub
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Wait until the next run is there, and say how long the hub was without it
    #[arg(long)]
    wait: bool,
}

/// The arguments of `drain`.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct DrainArgs {
    /// Wait until no task is left, and no verdict
    #[arg(long)]
    wait: bool,
}

/// Prints the state. Returns [`ExitCode::Done`] if the sidecar answers, whatever its state.
pub fn status(options: &Options, args: &StatusArgs) -> ExitCode {
    with_operator(options, |operator| operator.status(args))
}

/// Requests a restart.
pub fn restart(options: &Options, args: RestartArgs) -> ExitCode {
    with_operator(options, |operator| operator.restart(args))
}

/// Cancels a restart that still waits for the task.
pub fn cancel_restart(options: &Options) -> ExitCode {
    with_operator(options, |operator| operator.ask(&SocketRequest::CancelRestart {}))
}

/// Makes the sidecar take no more tasks.
pub fn drain(options: &Options, args: &DrainArgs) -> ExitCode {
    with_operator(options, |operator| operator.drain(args.wait))
}

/// Makes the sidecar take tasks again.
pub fn resume(options: &Options) -> ExitCode {
    with_operator(options, |operator| operator.ask(&SocketRequest::Resume {}))
}

/// Makes the sidecar read its configuration again.
pub fn reload(options: &Options) -> ExitCode {
    with_operator(options, |operator| operator.ask(&SocketRequest::Reload {}))
}

/// The outcome of a wait: the exit code, or the error of the socket.
type WaitResult = Result<ExitCode, CallError>;

/// The sidecar of a configuration. An [`io::Error`] of its methods is a failed write to stdout or stderr.
struct Operator {
    config: Config,
    client: Client,
}

fn with_operator(options: &Options, act: impl FnOnce(&Operator) -> io::Result<ExitCode>) -> ExitCode {
    let config = match options.load() {
        // The running sidecar logs the warnings.
        Ok(loaded) => loaded.config,
        Err(error) => return out::print_error(&error, ExitCode::Config),
    };
    let client = match Client::for_queue_file(&config.queue_file) {
        Ok(client) => client,
        Err(error) => {
            let error = format!("{}: {error}", config.queue_file.display());
            return out::print_error(&error, ExitCode::StateUnusable);
        }
    };
    match act(&Operator { config, client }) {
        Ok(code) => code,
        // A closed pipe (`| head`) is not an error.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::Done,
        Err(error) => out::print_error(&format!("cannot write to stdout: {error}"), ExitCode::StateUnusable),
    }
}

impl Operator {
    fn status(&self, options: &StatusArgs) -> io::Result<ExitCode> {
        let mut out = io::stdout();
        if options.watch {
            return self.watch(options, &mut out);
        }
        match self.client.status() {
            Ok(status) => {
                let text = if options.json { json_line(&status) } else { show::running(&status, now_ms()) };
                out.write_all(text.as_bytes())?;
                Ok(ExitCode::Done)
            }
            Err(CallError::NotRunning { .. }) => self.print_offline(options, &mut out),
            Err(error) => print_call_error(&error),
        }
    }

    fn print_offline(&self, options: &StatusArgs, out: &mut impl Write) -> io::Result<ExitCode> {
        let queue_file = &self.config.queue_file;
        let offline = OfflineView::look(&Folders::of(&self.config), journal::max_bytes(self.config.max_frame_bytes));
        let text = if options.json {
            json_line(&offline)
        } else {
            show::offline(&self.config.agent_id, &queue_file.display().to_string(), &offline)
        };
        out.write_all(text.as_bytes())?;
        Ok(ExitCode::Unavailable)
    }

    /// Prints the state whenever it changes, also across restarts: a sidecar that was seen is waited for.
    fn watch(&self, options: &StatusArgs, out: &mut (impl Write + io::IsTerminal)) -> io::Result<ExitCode> {
        let redraw = out.is_terminal() && !options.json;
        let mut last = String::new();
        let mut seen = false;
        loop {
            match self.client.watch() {
                Ok(statuses) => {
                    seen = true;
                    for status in statuses {
                        let status = match status {
                            Ok(status) => status,
                            Err(error @ CallError::Unanswered(_)) => return print_call_error(&error),
                            // The sidecar has ended or restarts: connect again.
                            Err(
                                CallError::NotRunning { .. }
                                | CallError::NotAllowed { .. }
                                | CallError::Silent { .. }
                                | CallError::Broken(_),
                            ) => break,
                        };
                        if redraw {
                            // Moves the cursor home and clears the screen.
                            write!(out, "\x1b[H\x1b[2J{}", show::running(&status, now_ms()))?;
                        } else if options.json {
                            out.write_all(json_line(&status).as_bytes())?;
                        } else {
                            print_if_changed(out, &mut last, show::running_short(&status))?;
                        }
                        out.flush()?;
                    }
                }
                Err(CallError::NotRunning { .. }) if !seen => return self.print_offline(options, out),
                Err(CallError::NotRunning { .. } | CallError::Silent { .. } | CallError::Broken(_)) => {}
                Err(error @ (CallError::NotAllowed { .. } | CallError::Unanswered(_))) => {
                    return print_call_error(&error);
                }
            }
            if !options.json {
                print_if_changed(out, &mut last, format!("{}: away", self.config.agent_id))?;
            }
            std::thread::sleep(POLL);
        }
    }

    /// Requests a restart, and with `wait` waits until the next run is there.
    fn restart(&self, args: RestartArgs) -> io::Result<ExitCode> {
        let RestartArgs { force, reason, wait } = args;
        // Before the request, so that the run that is to end is known by its boot id.
        let before = match self.client.status() {
            Ok(status) => status,
            Err(error) => return print_call_error(&error),
        };
        let code = self.ask(&SocketRequest::Restart { reason, force })?;
        if code != ExitCode::Done || !wait {
            return Ok(code);
        }
        let waited = self.wait_for_next_run(&before)?;
        waited.or_else(|error| print_call_error(&error))
    }

    fn wait_for_next_run(&self, before: &Status) -> io::Result<WaitResult> {
        let mut away_since: Option<Instant> = None;
        let mut back_since: Option<Instant> = None;
        loop {
            match self.client.status() {
                Ok(status) if status.process.boot_id != before.process.boot_id => {
                    let since = *back_since.get_or_insert_with(Instant::now);
                    if let Some(line) = next_run_message(&status, since.elapsed() > GAP_TIMEOUT) {
                        print_line(&line)?;
                        return Ok(Ok(ExitCode::Done));
                    }
                }
                Ok(status) if status.leaving.is_none() => {
                    print_line("the restart was cancelled: the sidecar goes on")?;
                    return Ok(Ok(ExitCode::Refused));
                }
                Ok(_) => away_since = None,
                Err(
                    CallError::NotRunning { .. }
                    | CallError::Silent { .. }
                    | CallError::Broken(_)
                    | CallError::Unanswered(_),
                ) => {
                    if is_overdue(&mut away_since) {
                        print_line(&format!(
                            "it left and has not come back for {} s: see its log and pm2's",
                            AWAY_TIMEOUT.as_secs()
                        ))?;
                        return Ok(Ok(ExitCode::Unavailable));
                    }
                }
                Err(error @ CallError::NotAllowed { .. }) => return Ok(Err(error)),
            }
            std::thread::sleep(if away_since.is_some() || back_since.is_some() { POLL_AWAY } else { POLL });
        }
    }

    /// Requests a drain, and with `wait` waits until no task is left.
    fn drain(&self, wait: bool) -> io::Result<ExitCode> {
        let code = self.ask(&SocketRequest::Drain {})?;
        // A drain that is not on disk is in force, and may be on disk by the time the task has ended.
        if !wait || !matches!(code, ExitCode::Done | ExitCode::NotOnDisk) {
            return Ok(code);
        }
        let mut away_since: Option<Instant> = None;
        loop {
            match self.client.status() {
                Ok(status) if !status.draining => {
                    print_line("it was resumed meanwhile")?;
                    return Ok(ExitCode::Refused);
                }
                Ok(status) if status.task.is_none() && status.journal.outbox.is_empty() => {
                    if status.journal.writable {
                        print_line("drained: no task is left, and no verdict")?;
                        return Ok(ExitCode::Done);
                    }
                    let file = &status.journal.file;
                    writeln!(
                        io::stderr(),
                        "agentcom-sidecar: drained, but {file} cannot be written: a crash would forget that no task is \
                         to be taken"
                    )?;
                    return Ok(ExitCode::NotOnDisk);
                }
                Ok(_) => away_since = None,
                // A drain outlasts a restart.
                Err(
                    CallError::NotRunning { .. }
                    | CallError::Silent { .. }
                    | CallError::Broken(_)
                    | CallError::Unanswered(_),
                ) => {
                    if is_overdue(&mut away_since) {
                        print_line("it has left with a task under way, and not come back")?;
                        return Ok(ExitCode::Unavailable);
                    }
                }
                Err(error @ CallError::NotAllowed { .. }) => return print_call_error(&error),
            }
            std::thread::sleep(POLL);
        }
    }

    fn ask(&self, request: &SocketRequest) -> io::Result<ExitCode> {
        match self.client.ask(request) {
            Ok(CommandResult { ok: true, message, not_on_disk: false }) => {
                print_line(&message)?;
                Ok(ExitCode::Done)
            }
            Ok(CommandResult { ok: true, message, not_on_disk: true }) => {
                writeln!(io::stderr(), "agentcom-sidecar: {message}")?;
                Ok(ExitCode::NotOnDisk)
            }
            Ok(CommandResult { ok: false, message, .. }) => {
                writeln!(io::stderr(), "agentcom-sidecar: {message}")?;
                Ok(ExitCode::Refused)
            }
            Err(error) => print_call_error(&error),
        }
    }
}

/// Returns whether a sidecar that does not answer, since `away_since` or now, has been away for too long.
fn is_overdue(away_since: &mut Option<Instant>) -> bool {
    away_since.get_or_insert_with(Instant::now).elapsed() > AWAY_TIMEOUT
}

/// Returns the message about the next run, or `None` while the length of the gap is not known and not `overdue`.
fn next_run_message(status: &Status, overdue: bool) -> Option<String> {
    let pid = status.process.pid;
    match status.restarts.first().and_then(|restart| restart.gap_ms) {
        Some(gap) => Some(format!("back: process {pid}; the hub was without it for {}", show::duration(gap))),
        None if overdue => Some(format!("back: process {pid}; the hub does not know it yet ({})", status.hub.detail)),
        None => None,
    }
}

fn print_call_error(error: &CallError) -> io::Result<ExitCode> {
    let (hint, code) = match error {
        CallError::NotRunning { .. } => ("; `agentcom-sidecar status` says more", ExitCode::Unavailable),
        CallError::NotAllowed { .. } | CallError::Unanswered(_) => ("", ExitCode::Refused),
        CallError::Silent { .. } | CallError::Broken(_) => ("", ExitCode::Unavailable),
    };
    writeln!(io::stderr(), "agentcom-sidecar: {error}{hint}")?;
    Ok(code)
}

fn print_line(line: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}

/// Writes the line if it differs from the last one.
fn print_if_changed(out: &mut impl Write, last: &mut String, line: String) -> io::Result<()> {
    if line != *last {
        writeln!(out, "{line}")?;
        *last = line;
    }
    Ok(())
}

fn json_line(document: &impl serde::Serialize) -> String {
    // The documents hold only texts and numbers, which always serialize.
    serde_json::to_string(document).unwrap_or_default() + "\n"
}
