//! The sidecar's main, as a list: configuration, log, lock, run, end.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode as ProcessExit;
use std::time::Duration;

use agentcom::cli::operate::{Operator, StatusOptions};
use agentcom::config::{Config, Loaded, Override, Overrides, config_path};
use agentcom::shell::exit_code::ExitCode;
use agentcom::shell::in_place::Program;
use agentcom::shell::lock::{LockError, StateLock};
use agentcom::shell::logging::{self, LogConfig};
use agentcom::shell::pm2::Pm2;
use agentcom::shell::{Ending, start};
use clap::{Args, Parser, Subcommand};

/// How long a predecessor that is just leaving may still hold the lock.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// Runs beside an AI agent under pm2: holds the link to the hub, wakes the agent for one task at a time, and restarts
/// itself on the hub's command without losing anything.
#[derive(Parser)]
#[command(version, about, after_help = EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Command>,
}

const EXIT_CODES: &str = "\
Exit codes:
   0  done: a commanded restart (pm2 starts the next run) or a stop
   2  the command line is wrong
  69  the sidecar that a command is for does not run, or did not come back
  70  a bug
  74  the state folder cannot be used (read-only, full, another user's)
  75  another copy serves this state folder
  77  the running sidecar refused what a command asked of it
  78  the configuration is missing or wrong

Documentation: docs/configuration.md, docs/operating.md";

#[derive(Subcommand)]
enum Command {
    /// Run the sidecar (the default)
    Run(Options),
    /// Say how the running sidecar is, and what it lacks
    Status {
        /// One line of JSON, for programs
        #[arg(long)]
        json: bool,
        /// Again whenever it changes
        #[arg(long)]
        watch: bool,
        #[command(flatten)]
        options: Options,
    },
    /// Restart the sidecar once its task has ended, as the hub would
    Restart {
        /// Do not wait for the task: it goes on in its session, and the next run takes it up
        #[arg(long)]
        force: bool,
        /// Why, for the log and the hub
        #[arg(long)]
        reason: Option<String>,
        /// Wait until the next run is there, and say how long the hub was without it
        #[arg(long)]
        wait: bool,
        #[command(flatten)]
        options: Options,
    },
    /// Take a restart back that still waits for its task
    CancelRestart(Options),
    /// Finish the task in hand and take no more
    Drain {
        /// Wait until no task is left
        #[arg(long)]
        wait: bool,
        #[command(flatten)]
        options: Options,
    },
    /// Take tasks again
    Resume(Options),
    /// Have the running sidecar read its configuration again (as SIGHUP does)
    Reload(Options),
}

#[derive(Args, Clone)]
struct Options {
    /// The configuration file [default: config.json in the working folder; env: AGENTCOM_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// In place of `log_level` in the configuration: debug, info, notice, warning, error
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// In place of `log_format` in the configuration: auto, json, text
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// In place of `http_listen` in the configuration [env: AGENTCOM_HTTP_LISTEN]
    #[arg(long, value_name = "ADDRESS")]
    http_listen: Option<String>,
    /// In place of `hub_url` in the configuration
    #[arg(long, value_name = "URL")]
    hub_url: Option<String>,
}

impl Options {
    /// Said after `run` or before it; after it wins.
    fn or(self, before: Self) -> Self {
        Self {
            config: self.config.or(before.config),
            log_level: self.log_level.or(before.log_level),
            log_format: self.log_format.or(before.log_format),
            http_listen: self.http_listen.or(before.http_listen),
            hub_url: self.hub_url.or(before.hub_url),
        }
    }

    fn overrides(&self) -> Overrides {
        Overrides {
            log_level: self.log_level.as_deref().map(|level| Override::new(level, "--log-level")),
            log_format: self.log_format.as_deref().map(|format| Override::new(format, "--log-format")),
            http_listen: self.http_listen.as_deref().map(|address| Override::new(address, "--http-listen")),
            hub_url: self.hub_url.as_deref().map(|url| Override::new(url, "--hub-url")),
            ..Overrides::default()
        }
    }
}

pub(crate) fn main() -> ProcessExit {
    let cli = Cli::parse();
    let before = cli.options;
    match cli.command {
        None => run(before),
        Some(Command::Run(options)) => run(options.or(before)),
        Some(Command::Status { json, watch, options }) => {
            operate(options.or(before), |operator| operator.status(StatusOptions { json, watch }))
        }
        Some(Command::Restart { force, reason, wait, options }) => {
            operate(options.or(before), |operator| operator.restart(reason, force, wait))
        }
        Some(Command::CancelRestart(options)) => operate(options.or(before), |operator| operator.cancel_restart()),
        Some(Command::Drain { wait, options }) => operate(options.or(before), |operator| operator.drain(wait)),
        Some(Command::Resume(options)) => operate(options.or(before), |operator| operator.resume()),
        Some(Command::Reload(options)) => operate(options.or(before), |operator| operator.reload()),
    }
    .into()
}

/// Does something with the sidecar that runs by that configuration.
fn operate(options: Options, ask: impl FnOnce(&Operator<'_>) -> std::io::Result<ExitCode>) -> ExitCode {
    let env = |key: &str| std::env::var(key).ok();
    let overrides = options.overrides().over(Overrides::from_env(env));
    let config = match Config::load_with(&config_path(options.config, env), &overrides) {
        Ok(loaded) => loaded.config,
        Err(error) => return complain(&error, ExitCode::Config),
    };
    match Operator::new(&config) {
        // A stdout that is gone wants no more words.
        Ok(operator) => ask(&operator).unwrap_or(ExitCode::Done),
        Err(error) => complain(&error, ExitCode::StateUnusable),
    }
}

fn run(options: Options) -> ExitCode {
    let env = |key: &str| std::env::var(key).ok();
    let overrides = options.overrides().over(Overrides::from_env(env));
    let loaded = Config::load_with(&config_path(options.config, env), &overrides);
    let Loaded { config, warnings } = match loaded {
        Ok(loaded) => loaded,
        Err(error) => return complain(&error, ExitCode::Config),
    };
    let program = Program::of_this_process();
    let pm2 = Pm2::of_this_process();
    let lock = match StateLock::acquire(&config.queue_file, pm2.process_name(), LOCK_WAIT) {
        Ok(lock) => lock,
        Err(error @ LockError::Held { .. }) => return complain(&error, ExitCode::AlreadyRunning),
        Err(error @ LockError::Unusable(_)) => return complain(&error, ExitCode::StateUnusable),
    };
    // From here on the log file is this copy's alone.
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
        "the sidecar starts"
    );
    for warning in &warnings {
        tracing::warn!(%warning, "the configuration");
    }
    let ending = match serve(config, pm2) {
        Ok(ending) => ending,
        Err((why, code)) => {
            tracing::error!(error = why, "the sidecar cannot run");
            drop(log);
            return complain(&why, code);
        }
    };
    tracing::info!(ending = ?ending, "the sidecar ends");
    match (ending, program) {
        (Ending::Exit, _) => ExitCode::Done,
        (Ending::InPlace, Ok(program)) => {
            drop((log, lock));
            complain(&program.run_again(), ExitCode::Internal)
        }
        (Ending::InPlace, Err(error)) => complain(&error, ExitCode::Internal),
    }
}

fn serve(config: Config, pm2: Pm2) -> Result<Ending, (String, ExitCode)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| (format!("the runtime cannot be made: {error}"), ExitCode::Internal))?;
    let ending = runtime.block_on(async {
        match start(config, pm2) {
            Ok(started) => Ok(started.run().await),
            Err(error) => Err((error.to_string(), ExitCode::StateUnusable)),
        }
    });
    // Nothing that still blocks (a hung name lookup, a hung disk) may hold the exit up.
    runtime.shutdown_background();
    ending
}

/// One error for a person; a stderr that is gone changes nothing about the exit.
fn complain(error: &impl std::fmt::Display, code: ExitCode) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "agentcom-sidecar: {error}");
    code
}
