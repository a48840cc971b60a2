//! `agentcom-hub serve`: arguments, signals and exit codes of a hub that runs.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::common::http_host::WebOrigin;
use crate::common::logging::{self, LogConfig, LogLevel};
use crate::common::signals::{handle_meaningless, hangups};
use crate::hub::cli::client::{DEFAULT_DATA, Failure};
#[cfg(feature = "postgres")]
use crate::hub::cli::database::ClusterArgs;
use crate::hub::cli::exit_code::ExitCode;
use crate::hub::cli::show::output::fail;
#[cfg(feature = "postgres")]
use crate::hub::cluster::member;
use crate::hub::connections::fd_limit;
use crate::hub::connections::tls::certificate::TlsFiles;
use crate::hub::healing_file::HealingFile;
use crate::hub::http::browsers::public_url;
use crate::hub::options::{Options, ServeError};
use crate::hub::registration::Registration;
use crate::hub::scheduler::policy::Policy;
use crate::hub::server::serve;
use crate::hub::state::store::WithoutStore;

#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// Where to listen; port 0 takes any free one and logs it
    #[arg(long, value_name = "ADDRESS:PORT", env = "AGENTCOM_HUB_LISTEN", default_value = "127.0.0.1:4000")]
    listen: String,
    /// The folder of the hub's store; both are created if there is none
    #[arg(long, value_name = "DIR", env = "AGENTCOM_HUB_DATA", default_value = DEFAULT_DATA)]
    data: PathBuf,
    /// Do not start where the folder holds no store, for example because its volume is not mounted: `token NAME --init` makes one
    #[arg(long, env = "AGENTCOM_HUB_NO_INIT")]
    no_init: bool,
    /// The least severe level that is logged: error, warning, info, debug or trace
    #[arg(long, value_name = "LEVEL", env = "AGENTCOM_HUB_LOG_LEVEL", default_value = "info", value_parser = log_level)]
    log_level: LogLevel,
    /// Who may register an agent: anyone who reaches the hub (open), or only admins and who has an invitation (invite; closed,
    /// where a refusal does not mention invitations) [default: open; from the next version on, invite unless --listen is a
    /// loopback address]
    #[arg(long, value_name = "WHO", env = "AGENTCOM_HUB_REGISTRATION", value_parser = registration)]
    registration: Option<Registration>,
    /// The same as --registration closed
    #[arg(long, env = "AGENTCOM_HUB_CLOSED_REGISTRATION")]
    closed_registration: bool,
    /// Let anyone who reaches the hub read /metrics without a token; without this option, only clients on this machine may
    #[arg(long, env = "AGENTCOM_HUB_PUBLIC_METRICS")]
    public_metrics: bool,
    /// The address at which people and agents reach the hub, where a proxy or a DNS name leads to it; web pages of other
    /// addresses are refused
    #[arg(long, value_name = "URL", env = "AGENTCOM_HUB_PUBLIC_URL")]
    public_url: Option<String>,
    /// The file of the healing rules; read again when it changes, and on SIGHUP
    #[arg(long, value_name = "FILE", env = "AGENTCOM_HUB_HEALING")]
    healing: Option<PathBuf>,
    #[command(flatten)]
    timing: TimingArgs,
    #[command(flatten)]
    tls: TlsArgs,
    #[command(flatten)]
    bounds: BoundArgs,
    #[cfg(feature = "postgres")]
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// TLS on the hub's own port.
#[derive(Debug, Args)]
#[command(next_help_heading = "TLS")]
struct TlsArgs {
    /// Speak TLS with this certificate (PEM, followed by its intermediate certificates); read again on SIGHUP
    #[arg(long, value_name = "FILE", env = "AGENTCOM_HUB_TLS_CERT", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The private key of that certificate (PEM, no passphrase), readable by its owner alone
    #[arg(long, value_name = "FILE", env = "AGENTCOM_HUB_TLS_KEY", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

impl TlsArgs {
    fn files(&self) -> Option<TlsFiles> {
        let (certificate, key) = self.tls_cert.clone().zip(self.tls_key.clone())?;
        Some(TlsFiles { certificate, key, reload: Arc::default() })
    }
}

/// Bounds, as numbers.
#[derive(Debug, Args)]
#[command(next_help_heading = "Bounds")]
struct BoundArgs {
    /// Make a task a dead letter after this many losses: its agent went away unannounced, or showed no sign of life
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), env = "AGENTCOM_HUB_MAX_LOSSES", default_value_t = Policy::default().max_losses)]
    max_losses: u64,
    /// Accept no more tasks when this many have not ended
    #[arg(long, value_name = "N", env = "AGENTCOM_HUB_MAX_UNFINISHED", default_value_t = Policy::default().max_unfinished)]
    max_unfinished: usize,
    /// Forget the oldest finished tasks when all of them exceed this size
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1_048_576), env = "AGENTCOM_HUB_KEEP_FINISHED_MIB", default_value_t = Policy::default().keep_finished_bytes >> 20)]
    keep_finished_mib: u64,
    /// Call an agent stale when it has been away for longer than this many days
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u64).range(1..=36_500), env = "AGENTCOM_HUB_STALE_AFTER", default_value_t = Policy::default().stale_after_ms / DAY_MS)]
    stale_after: u64,
    /// Close the oldest unidentified connection when there are more than this many
    #[arg(long, value_name = "N", env = "AGENTCOM_HUB_MAX_UNIDENTIFIED", default_value_t = Policy::default().max_unidentified)]
    max_unidentified: usize,
}

const DAY_MS: u64 = 86_400_000;

fn log_level(name: &str) -> Result<LogLevel, String> {
    LogLevel::parse(name).ok_or_else(|| format!("expected one of {}", LogLevel::NAMES))
}

fn registration(name: &str) -> Result<Registration, String> {
    name.parse().map_err(|_| format!("expected {}", Registration::NAMES))
}

/// Timings, in ms.
#[derive(Debug, Args)]
#[command(next_help_heading = "Timings (ms)")]
struct TimingArgs {
    /// Reclaim an assignment that was not accepted for this long
    #[arg(long, value_name = "MS", value_parser = ms(), env = "AGENTCOM_HUB_ACCEPT_TIMEOUT_MS", default_value_t = Policy::default().accept_timeout_ms)]
    accept_timeout_ms: u64,
    /// Reclaim a task that showed no sign of life for this long
    #[arg(long, value_name = "MS", value_parser = ms(), env = "AGENTCOM_HUB_STALE_TIMEOUT_MS", default_value_t = Policy::default().stale_timeout_ms)]
    stale_timeout_ms: u64,
    /// Drop a socket that was silent for this long
    #[arg(long, value_name = "MS", value_parser = ms(), env = "AGENTCOM_HUB_SILENCE_TIMEOUT_MS", default_value_t = Policy::default().silence_timeout_ms)]
    silence_timeout_ms: u64,
    /// Close a socket that no agent identified on for this long
    #[arg(long, value_name = "MS", value_parser = ms(), env = "AGENTCOM_HUB_IDENTIFY_TIMEOUT_MS", default_value_t = Policy::default().identify_timeout_ms)]
    identify_timeout_ms: u64,
    /// How long the head of a request, its answer, or the pause before the next may take
    #[arg(long, value_name = "MS", value_parser = ms(), env = "AGENTCOM_HUB_REQUEST_TIMEOUT_MS", default_value_t = Policy::default().request_timeout_ms)]
    request_timeout_ms: u64,
    /// Leave the task with a sidecar whose connection broke for this long
    #[arg(long, value_name = "MS", value_parser = ms(), env = "AGENTCOM_HUB_RECONNECT_GRACE_MS", default_value_t = Policy::default().reconnect_grace_ms)]
    reconnect_grace_ms: u64,
    /// Send an assignment again when a returned agent does not mention it for this long
    #[arg(long, value_name = "MS", value_parser = ms(), env = "AGENTCOM_HUB_RECONCILE_MS", default_value_t = Policy::default().reconcile_ms)]
    reconcile_ms: u64,
    /// Tell a sidecar that is refused because another one uses its identity to try again after this long
    #[arg(long, value_name = "MS", value_parser = ms(), env = "AGENTCOM_HUB_IDENTITY_RETRY_MS", default_value_t = Policy::default().identity_retry_ms)]
    identity_retry_ms: u64,
    /// Give an agent that rejected a task no other one for this long, unless its state changes
    #[arg(long, value_name = "MS", value_parser = ms(), env = "AGENTCOM_HUB_REJECT_RETRY_MS", default_value_t = Policy::default().reject_retry_ms)]
    reject_retry_ms: u64,
    /// How long a running task may delay a restart whose command names no deadline
    #[arg(long, value_name = "MS", value_parser = ms(), env = "AGENTCOM_HUB_RESTART_DEADLINE_MS", default_value_t = Policy::default().restart_deadline_ms)]
    restart_deadline_ms: u64,
    /// How long a sidecar may take to send its final messages before it restarts
    #[arg(long, value_name = "MS", value_parser = ms(), env = "AGENTCOM_HUB_DRAIN_DEADLINE_MS", default_value_t = Policy::default().drain_deadline_ms)]
    drain_deadline_ms: u64,
    /// How long a restart may take beyond both deadlines before it is overdue
    #[arg(long, value_name = "MS", value_parser = ms(), env = "AGENTCOM_HUB_RESTART_MARGIN_MS", default_value_t = Policy::default().restart_margin_ms)]
    restart_margin_ms: u64,
}

/// Parses a duration in ms, from 1 to a year: 0 would make a busy loop.
fn ms() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..=31_536_000_000)
}

impl ServeArgs {
    /// Returns who may register agents, if that is said.
    ///
    /// # Errors
    /// Returns what to do where two things are said.
    fn registration(&self) -> Result<Option<Registration>, String> {
        match (self.registration, self.closed_registration) {
            (None | Some(Registration::Closed), true) => Ok(Some(Registration::Closed)),
            (said, false) => Ok(said),
            (Some(other @ (Registration::Open | Registration::Invite)), true) => Err(format!(
                "--closed-registration (or AGENTCOM_HUB_CLOSED_REGISTRATION) says otherwise than --registration {}: leave \
                 one of them out",
                <&str>::from(other)
            )),
        }
    }

    /// Returns the address at which people open the hub, if one is said. (Not read by clap, which would quote a password.)
    ///
    /// # Errors
    /// Returns what is wrong with it.
    fn public_url(&self) -> Result<Option<WebOrigin>, String> {
        let read = self.public_url.as_deref().map(public_url::parse).transpose();
        read.map_err(|why| format!("--public-url (or AGENTCOM_HUB_PUBLIC_URL): {why}"))
    }

    fn policy(&self) -> Policy {
        let Self { timing, bounds, .. } = self;
        Policy {
            accept_timeout_ms: timing.accept_timeout_ms,
            stale_timeout_ms: timing.stale_timeout_ms,
            silence_timeout_ms: timing.silence_timeout_ms,
            identify_timeout_ms: timing.identify_timeout_ms,
            request_timeout_ms: timing.request_timeout_ms,
            reconnect_grace_ms: timing.reconnect_grace_ms,
            reconcile_ms: timing.reconcile_ms,
            identity_retry_ms: timing.identity_retry_ms,
            reject_retry_ms: timing.reject_retry_ms,
            restart_deadline_ms: timing.restart_deadline_ms,
            drain_deadline_ms: timing.drain_deadline_ms,
            restart_margin_ms: timing.restart_margin_ms,
            max_losses: bounds.max_losses,
            stale_after_ms: bounds.stale_after * DAY_MS,
            max_unidentified: bounds.max_unidentified,
            max_unfinished: bounds.max_unfinished,
            keep_finished_bytes: bounds.keep_finished_mib << 20,
            ..Policy::default()
        }
    }
}

/// Runs the hub until it is stopped, and returns the exit code.
pub(super) fn run(args: &ServeArgs) -> ExitCode {
    // Held until the end of this function: dropping it writes the last lines.
    let _log = logging::init(LogConfig { level: args.log_level, ..LogConfig::default() });
    fd_limit::raise();
    let said = args.registration().and_then(|registration| Ok((registration, args.public_url()?)));
    let (registration, public_url) = match said {
        Ok(said) => said,
        Err(why) => return fail(ExitCode::Usage, why),
    };
    #[cfg(feature = "postgres")]
    let shared = match args.cluster.shared() {
        Ok(shared) => shared,
        Err(why) => return fail(ExitCode::Usage, why),
    };
    let healing = args.healing.clone().map(|path| HealingFile { path, reload: Arc::default() });
    let tls = args.tls.files();
    let options = Options {
        listen: args.listen.clone(),
        data_dir: args.data.clone(),
        absent: if args.no_init { WithoutStore::Refuse } else { WithoutStore::MakeFirst },
        policy: args.policy(),
        registration,
        public_metrics: args.public_metrics,
        public_url,
        healing: healing.clone(),
        tls: tls.clone(),
        #[cfg(feature = "postgres")]
        shared,
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return fail(
                ExitCode::NoResources,
                format_args!("no runtime: {error}; check the limits on threads and files"),
            );
        }
    };
    let result = runtime.block_on(async {
        if let Err(error) = handle_meaningless() {
            tracing::warn!(%error, "a write beyond `ulimit -f` will end this process");
        }
        let stop = CancellationToken::new();
        let handled = stop_on_signals(stop.clone()).and_then(|()| listen_for_hangup(healing, tls, stop.clone()));
        match handled {
            Ok(()) => serve_as_told(options, stop).await,
            Err(error) => Err(ServeError::ActorDied(format!("signals cannot be received: {error}"))),
        }
    });
    // A blocked thread must not delay the exit.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::Done,
        Err(error) => {
            tracing::error!(%error, "the hub ends");
            let Failure { code, message, .. } = error.into();
            fail(code, message)
        }
    }
}

/// Runs the hub of a file, or one of several on a database.
async fn serve_as_told(options: Options, stop: CancellationToken) -> Result<(), ServeError> {
    #[cfg(feature = "postgres")]
    if let Some(shared) = options.shared.clone() {
        return member::serve(options, shared, stop).await;
    }
    serve(options, stop).await
}

/// Cancels `stop` on SIGINT (pm2 and Ctrl-C) and on SIGTERM (all other supervisors).
fn stop_on_signals(stop: CancellationToken) -> std::io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        let name = tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        };
        tracing::info!(signal = name, "stopping");
        stop.cancel();
    });
    Ok(())
}

/// Reads the healing rules and the certificate again at each SIGHUP. Without either, SIGHUP stops a hub whose terminal is gone,
/// and no other.
fn listen_for_hangup(
    healing: Option<HealingFile>,
    tls: Option<TlsFiles>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let in_terminal = std::io::stdout().is_terminal();
    let reloads: Vec<_> = healing.map(|file| file.reload).into_iter().chain(tls.map(|files| files.reload)).collect();
    let mut arrivals = hangups()?;
    tokio::spawn(async move {
        while arrivals.recv().await.is_some() {
            if reloads.is_empty() && in_terminal {
                tracing::info!("the terminal is gone: stopping");
                stop.cancel();
            } else if reloads.is_empty() {
                tracing::info!(
                    "SIGHUP has nothing to read again here: there is no `--healing` file and no `--tls-cert`"
                );
            }
            for reload in &reloads {
                reload.notify_one();
            }
        }
    });
    Ok(())
}
