//! The sidecar's main, as a list: configuration, log, lock, run, end.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode as ProcessExit;
use std::time::Duration;

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
  70  a bug
  74  the state folder cannot be used (read-only, full, another user's)
  75  another copy serves this state folder
  78  the configuration is missing or wrong

Documentation: docs/configuration.md, docs/operating.md";

#[derive(Subcommand)]
enum Command {
    /// Run the sidecar (the default)
    Run(Options),
}

#[derive(Args, Clone)]
struct Options {
    /// The configuration file [default: config.json in the working folder; env: AGENTCOM_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// In place of `log_level` in the configuration: debug, info, notice, warning, error
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
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
            hub_url: self.hub_url.or(before.hub_url),
        }
    }

    fn overrides(&self) -> Overrides {
        Overrides {
            log_level: self.log_level.as_deref().map(|level| Override::new(level, "--log-level")),
            hub_url: self.hub_url.as_deref().map(|url| Override::new(url, "--hub-url")),
            ..Overrides::default()
        }
    }
}

pub(crate) fn main() -> ProcessExit {
    let cli = Cli::parse();
    let options = match cli.command {
        Some(Command::Run(options)) => options.or(cli.options),
        None => cli.options,
    };
    run(options).into()
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
