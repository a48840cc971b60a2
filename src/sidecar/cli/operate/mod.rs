//! The operator commands `status`, `restart`, `cancel-restart`, `drain`, `resume` and `reload`, which send a request to
//! the running sidecar over its local socket. They print its answer and return an exit code; the sidecar decides.

mod deadline;
mod status;
mod waiting;

use std::io;

use clap::Args;

use crate::common::duration::parse_duration;
use crate::sidecar::admin::commands::CommandResult;
use crate::sidecar::admin::socket::{CallError, Client, SocketRequest};
use crate::sidecar::cli::operate::deadline::Deadline;
use crate::sidecar::cli::options::Options;
use crate::sidecar::cli::report::{Report, exit_code_of};
use crate::sidecar::config::Config;
use crate::sidecar::exit_code::ExitCode;

/// The arguments of `status`.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct StatusArgs {
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
    /// Print it again whenever it changes, across restarts, until interrupted
    #[arg(long)]
    watch: bool,
    /// How long a busy sidecar may take to answer, such as 30s or 5m [default: 15s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, conflicts_with = "watch")]
    timeout: Option<u64>,
}

/// The arguments of `restart`.
#[derive(Debug, Clone, Default, Args)]
pub struct RestartArgs {
    /// Do not wait for the task: it goes on in its session, and the next run adopts it
    #[arg(long)]
    force: bool,
    /// The reason, for the log and the hub
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Wait until the hub knows the next run, and print how long the hub was without it
    #[arg(long)]
    wait: bool,
    /// Wait no longer than this, such as 30s or 5m; then exit with 124, with the restart still in force
    #[arg(long, value_name = "TIME", value_parser = parse_duration, requires = "wait")]
    timeout: Option<u64>,
    #[command(flatten)]
    output: OutputArgs,
}

/// The arguments of `drain`.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct DrainArgs {
    /// Wait until no task is left, and no verdict without an answer
    #[arg(long)]
    wait: bool,
    /// Wait no longer than this, such as 30s or 5m; then exit with 124, with the drain still in force
    #[arg(long, value_name = "TIME", value_parser = parse_duration, requires = "wait")]
    timeout: Option<u64>,
    #[command(flatten)]
    output: OutputArgs,
}

/// How a command says what came of it.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct OutputArgs {
    /// Print one line of JSON, also of a failure
    #[arg(long)]
    json: bool,
}

/// Prints the state. Returns [`ExitCode::Done`] if the sidecar answers, whatever its state.
pub fn status(options: &Options, args: &StatusArgs) -> ExitCode {
    with_operator(options, args.json, |operator| operator.status(args))
}

/// Requests a restart.
pub fn restart(options: &Options, args: RestartArgs) -> ExitCode {
    let json = args.output.json;
    with_operator(options, json, |operator| Ok(operator.restart(args).print(json)))
}

/// Cancels a restart that still waits for the task.
pub fn cancel_restart(options: &Options, args: OutputArgs) -> ExitCode {
    request(options, args, &SocketRequest::CancelRestart {})
}

/// Makes the sidecar take no more tasks.
pub fn drain(options: &Options, args: &DrainArgs) -> ExitCode {
    let json = args.output.json;
    with_operator(options, json, |operator| Ok(operator.drain(args).print(json)))
}

/// Makes the sidecar take tasks again.
pub fn resume(options: &Options, args: OutputArgs) -> ExitCode {
    request(options, args, &SocketRequest::Resume {})
}

/// Makes the sidecar read its configuration again.
pub fn reload(options: &Options, args: OutputArgs) -> ExitCode {
    request(options, args, &SocketRequest::Reload {})
}

fn request(options: &Options, args: OutputArgs, request: &SocketRequest) -> ExitCode {
    with_operator(options, args.json, |operator| {
        Ok(operator.ask(request, Deadline::never()).unwrap_or_else(|error| report_of(&error)).print(args.json))
    })
}

/// The sidecar of a configuration. An [`io::Error`] of its methods is a failed write to stdout.
struct Operator {
    config: Config,
    client: Client,
}

fn with_operator(options: &Options, json: bool, act: impl FnOnce(&Operator) -> io::Result<ExitCode>) -> ExitCode {
    let config = match options.load() {
        // The running sidecar logs the warnings.
        Ok(loaded) => loaded.config,
        Err(error) => return Report::new(ExitCode::Config, error.to_string()).print(json),
    };
    let client = match Client::for_queue_file(&config.queue_file) {
        Ok(client) => client,
        Err(error) => {
            let error = format!("{}: {error}", config.queue_file.display());
            return Report::new(ExitCode::StateUnusable, error).print(json);
        }
    };
    exit_code_of(act(&Operator { config, client }))
}

impl Operator {
    /// Sends a request and waits for its answer, until the deadline or for the client's own time.
    fn ask(&self, request: &SocketRequest, deadline: Deadline) -> Result<Report, CallError> {
        let CommandResult { ok, message, not_on_disk } = deadline.limit(&self.client).ask(request)?;
        let code = match (ok, not_on_disk) {
            (true, false) => ExitCode::Done,
            (true, true) => ExitCode::NotOnDisk,
            (false, _) => ExitCode::Refused,
        };
        Ok(Report::new(code, message))
    }
}

/// Returns the report of a request that the sidecar did not answer.
fn report_of(error: &CallError) -> Report {
    let (hint, code) = match error {
        CallError::NotRunning { .. } => ("; `agentcom-sidecar status` says more", ExitCode::Unavailable),
        CallError::NotAllowed { .. } | CallError::Unanswered(_) => ("", ExitCode::Refused),
        CallError::Silent { .. } | CallError::Broken(_) => ("", ExitCode::Unavailable),
    };
    Report::new(code, format!("{error}{hint}"))
}
