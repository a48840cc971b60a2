//! `session`: what a wake command calls. It starts a supervisor of the command as the sidecar does for an executor of mode
//! `run`, from the request that every wake gets as a file. It talks to no sidecar, so that none needs to run.

use std::env;
use std::ffi::OsString;
use std::io::Read as _;

use clap::Args;

use crate::common::fs::regular_file;
use crate::sidecar::agent::supervised::{RunRequest, SessionRequest, start_session};
use crate::sidecar::agent::wake::task_environment::SESSION;
use crate::sidecar::cli::options::Options;
use crate::sidecar::cli::out::print_error;
use crate::sidecar::exit_code::ExitCode;

/// The longest request that is read, bytes: paths have at most 4 KiB each.
const MAX_REQUEST_BYTES: u64 = 64 * 1024;

/// The arguments of `session`.
#[derive(Debug, Clone, Args)]
pub struct SessionArgs {
    /// The program and its arguments; it runs in this folder with the wake's variables
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Starts the session of the task that the wake is for.
pub fn session(args: SessionArgs) -> ExitCode {
    match request_of(args).and_then(|request| start_session(&request)) {
        Ok(()) => ExitCode::Done,
        Err(why) => print_error(&format!("no session was started: {why}"), ExitCode::Unavailable),
    }
}

fn request_of(args: SessionArgs) -> Result<RunRequest, String> {
    let session = read_request()?;
    let utf8 = |argument: OsString| {
        argument.into_string().map_err(|found| format!("the argument {} is not UTF-8", found.display()))
    };
    // Without the configuration the output goes as it is: the sidecar takes its token out of what it passes on, too.
    let config = Options { config: Some(session.config_file), ..Options::default() }.load();
    Ok(RunRequest {
        task_id: session.task_id,
        generation: session.generation,
        command: args.command.into_iter().map(utf8).collect::<Result<_, _>>()?,
        cwd: env::current_dir().map_err(|error| format!("its folder is not there: {error}"))?,
        timeout_ms: None,
        results_dir: session.results_dir,
        scratch_dir: session.scratch_dir,
        machine_boot: session.machine_boot,
        secrets: config.map(|loaded| vec![loaded.config.token.expose().to_owned()]).unwrap_or_default(),
    })
}

fn read_request() -> Result<SessionRequest, String> {
    let variable = format!("{SESSION}_FILE");
    let path = env::var_os(&variable).ok_or_else(|| {
        format!("{variable} is not set; call it from `wake_command`, with the variables that the sidecar gives that")
    })?;
    let file = match regular_file::open(path.as_ref()) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(
                "the wake was withdrawn: its task has ended, was cancelled or was given up meanwhile".to_owned()
            );
        }
        Err(error) => return Err(format!("{} cannot be read: {error}", path.display())),
    };
    let mut text = Vec::new();
    file.take(MAX_REQUEST_BYTES).read_to_end(&mut text).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_slice(&text).map_err(|error| format!("{} is no request of a wake: {error}", path.display()))
}
