//! `run`: reads the configuration, takes the lock, opens the log, serves, and ends the process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use crate::common::logging::{self, LogConfig};
use crate::machine::{Ending, PreviousEnd};
use crate::sidecar::cli::options::Options;
use crate::sidecar::cli::out::print_error;
use crate::sidecar::cli::runtime;
use crate::sidecar::config::{Config, Loaded};
use crate::sidecar::exit_code::ExitCode;
use crate::sidecar::journal::state_lock::{LockError, StateLock};
use crate::sidecar::previous_run::facts::Facts;
use crate::sidecar::previous_run::{self, panics};
use crate::sidecar::shell::start_holding;
use crate::sidecar::supervisor::exec::Program;
use crate::sidecar::supervisor::inherited_fd;
use crate::sidecar::supervisor::pm2::Pm2;
use crate::sidecar::supervisor::preflight::Preflight;
use crate::sidecar::supervisor::reaper;

/// The longest wait for the lock, which a process that is about to end may still hold.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// Runs the sidecar until it is stopped or restarted. `began` is when the process entered `main`; the log's first line
/// says how long each step before it took.
pub fn run(options: Options, began: Instant) -> ExitCode {
    let parsed = Instant::now();
    // Before anything is opened: its number is that of the run before.
    let kept_folder = inherited_fd::take_folder();
    let Loaded { config, warnings } = match options.load() {
        Ok(loaded) => loaded,
        Err(error) => return print_error(&error, ExitCode::Config),
    };
    let configured = Instant::now();
    let program = Program::of_this_process();
    let pm2 = Pm2::of_this_process();
    // Before the first write: the runtime makes writes beyond the file size limit fail instead of ending the process.
    let runtime = match runtime::build() {
        Ok(runtime) => runtime,
        Err(why) => return print_error(&why, ExitCode::StateUnusable),
    };
    let prepared = Instant::now();
    let lock = match StateLock::acquire_after(kept_folder, &config.queue_file, pm2.process_name(), LOCK_WAIT) {
        Ok(lock) => Arc::new(lock),
        Err(error @ LockError::Held { .. }) => return print_error(&error, ExitCode::AlreadyRunning),
        Err(error @ LockError::Unusable(_)) => return print_error(&error, ExitCode::StateUnusable),
    };
    let locked = Instant::now();
    // The lock guarantees that no other process writes to the log file.
    let log = logging::init(LogConfig {
        level: config.log_level,
        format: config.log_format,
        file: Some(config.log_file.clone()),
        secrets: vec![config.token.clone()],
    });
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        agent_id = config.agent_id,
        hub_url = config.hub_url,
        config = %config.path.display(),
        pm2_name = pm2.process_name(),
        pid = std::process::id(),
        arguments_us = micros(began, parsed),
        config_us = micros(parsed, configured),
        runtime_us = micros(configured, prepared),
        lock_us = micros(prepared, locked),
        log_us = micros(locked, Instant::now()),
        "the sidecar starts"
    );
    for warning in &warnings {
        tracing::warn!(%warning, "the configuration");
    }
    let preflight =
        program.as_ref().ok().map(|program| Preflight::new(program.clone(), config.path.clone(), &config.token));
    let queue_file = config.queue_file.clone();
    let ending = match serve(runtime, Arc::clone(&lock), (config, pm2, preflight)) {
        Ok(ending) => ending,
        Err((why, code)) => {
            // The next run reads of this start only, so this one tells of the run before.
            let pm2 = Pm2::of_this_process();
            let before = previous_run::find(&queue_file, PreviousEnd::Unknown, &Facts::read(), &pm2);
            panics::note_failed_start(&queue_file, code, &why, before);
            tracing::error!(error = why, "the sidecar cannot run");
            drop(log);
            return print_error(&why, code);
        }
    };
    tracing::info!(ending = ?ending, "the sidecar ends");
    match (ending, program) {
        (Ending::Exit, _) => ExitCode::Done,
        (Ending::InPlace, Ok(program)) => {
            drop(log);
            // Without it a second copy may come between.
            let kept_folder = lock.with_folder(inherited_fd::keep_folder).ok();
            print_error(&program.run_again(kept_folder.as_deref()), ExitCode::Internal)
        }
        (Ending::InPlaceAsIs, Ok(program)) => {
            drop(log);
            let kept_folder = lock.with_folder(inherited_fd::keep_folder).ok();
            print_error(&program.run_current_image(kept_folder.as_deref()), ExitCode::Internal)
        }
        (Ending::InPlace | Ending::InPlaceAsIs, Err(error)) => print_error(&error, ExitCode::Internal),
    }
}

/// The time between two instants, in µs.
fn micros(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.duration_since(from).as_micros()).unwrap_or(u64::MAX)
}

fn serve(
    runtime: Runtime,
    lock: Arc<StateLock>,
    (config, pm2, preflight): (Config, Pm2, Option<Preflight>),
) -> Result<Ending, (String, ExitCode)> {
    let queue_file = config.queue_file.clone();
    let ending = runtime.block_on(async {
        reaper::reap();
        reaper::reap_orphans();
        match start_holding(lock, config, pm2, preflight) {
            Ok(started) => {
                panics::note_all(queue_file, started.boot_id().to_owned());
                Ok(started.run().await)
            }
            Err(error) => Err((error.to_string(), ExitCode::StateUnusable)),
        }
    });
    // A blocked thread (a name lookup or a disk that hangs) must not delay the exit.
    runtime.shutdown_background();
    ending
}
