//! Builds a sidecar from a checked configuration: reads the journal, recovers the machine and creates the adapters.
//! The caller holds the state folder's lock and has set up logging.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Map;
use tokio::sync::{mpsc, watch};

use crate::common::fs::atomic_file::{self, DurableError, ReadOutcome};
use crate::common::logging::Redactor;
use crate::machine::{Effect, Ending, Journal, Machine, Policy, Timestamp};
use crate::protocol::Pm2Info;
use crate::sidecar::admin::commands::CommandSender;
use crate::sidecar::admin::handle::AdminHandle;
use crate::sidecar::admin::pm2_channel::ChannelWriter;
use crate::sidecar::admin::resources::Resources;
use crate::sidecar::admin::signals::{self, Requests};
use crate::sidecar::admin::snapshot::{About, Snapshot};
#[cfg(unix)]
use crate::sidecar::admin::socket;
use crate::sidecar::admin::systemd::Systemd;
use crate::sidecar::admin::{http, readiness, reload};
use crate::sidecar::agent::hooks::Hooks;
use crate::sidecar::agent::result_hook::ResultHook;
use crate::sidecar::agent::results::ResultsConfig;
use crate::sidecar::agent::supervised::{Runs, RunsConfig};
use crate::sidecar::agent::wake::RunnerConfig;
use crate::sidecar::clock::Clock;
use crate::sidecar::config::Config;
use crate::sidecar::hub_connection::{ConnectionConfig, HubConnection};
use crate::sidecar::journal::{self, Boot, Found};
use crate::sidecar::policy::policy;
use crate::sidecar::shell::environment::{Environment, RandomBytes};
use crate::sidecar::shell::event_loop::{Adapters, RESTART_HISTORY, Sidecar};
use crate::sidecar::shell::inbox::Inbox;
use crate::sidecar::shell::outbound::Identity;
use crate::sidecar::shell::restart_check::{NextRunChecks, Pm2AndProgram};
use crate::sidecar::supervisor::pm2::{Pm2, scrub_child_env};
use crate::sidecar::supervisor::preflight::Preflight;

/// The capacity of each channel to the event loop; adapters wait when it is full.
const INBOX: usize = 64;

/// The delay before pm2 is asked about this process: its answer costs 0.2 s of CPU, which must not fall into a restart.
const ASK_PM2_AFTER: std::time::Duration = std::time::Duration::from_secs(3);

/// An error that keeps a sidecar from starting.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The journal cannot be read, or cannot be moved aside.
    #[error("{0}")]
    Journal(DurableError),
    /// The journal was written by a newer version; it is left in place.
    #[error(
        "{}: schema {schema} is a newer sidecar's: start that version, or move the file away (a task in it will then be \
         handed out again by the hub)",
        path.display()
    )]
    Newer {
        /// The journal file.
        path: PathBuf,
        /// The journal's schema version.
        schema: u32,
    },
    /// Signal handlers cannot be installed.
    #[error("cannot listen for signals: {0}")]
    Signals(std::io::Error),
}

/// A sidecar that is ready to run.
pub struct Started {
    sidecar: Sidecar,
    first: Vec<Effect>,
}

impl Started {
    /// Returns the sidecar, to get a handle to it.
    pub fn sidecar(&self) -> &Sidecar {
        &self.sidecar
    }

    /// Runs the sidecar until the process is to end.
    pub async fn run(self) -> Ending {
        self.sidecar.run(self.first).await
    }
}

/// Builds a sidecar. Must be called inside the runtime. With `preflight`, the sidecar tries out the program that a
/// restart would start before it accepts the restart.
///
/// # Errors
/// [`StartError`]: the state folder is unusable, or signal handlers cannot be installed.
pub fn start(config: Config, pm2: Pm2, preflight: Option<Preflight>) -> Result<Started, StartError> {
    start_with(config, pm2, preflight, Environment::real())
}

/// Builds a sidecar in an environment of the caller's, for instance a simulated one. See [`start`].
///
/// # Errors
/// As [`start`].
pub fn start_in(config: Config, pm2: Pm2, environment: Environment) -> Result<Started, StartError> {
    start_with(config, pm2, None, environment)
}

fn start_with(
    config: Config,
    pm2: Pm2,
    preflight: Option<Preflight>,
    environment: Environment,
) -> Result<Started, StartError> {
    let Environment { random, now_ms, threads, connector, on_a_machine, agent, look_ahead } = environment;
    let config = Arc::new(config);
    let pm2 = Arc::new(pm2);
    let clock = Clock::start_at(now_ms());
    let policy = policy(&config, &pm2);
    if let (_, Some(why)) = pm2.restart_method_at(clock.now().as_millis()) {
        tracing::info!(%why, "as it stands, a commanded restart will replace this process in place");
    }
    let (journal, mut foreign_fields) = read_journal(&config, &policy.machine_boot)?;
    // Shown to operators only: an unreadable history counts as empty.
    let past = foreign_fields.remove(RESTART_HISTORY).and_then(|past| serde_json::from_value(past).ok());
    let (machine, first) = Machine::recover(journal, clock.now(), &policy);

    let (requests_sender, request_inbox) = mpsc::channel(INBOX);
    let requests = Requests { queue: requests_sender.clone() };
    let (reloads, settings_inbox) = reload::start(Arc::clone(&config), Arc::clone(&pm2));
    if on_a_machine {
        #[cfg(unix)]
        signals::listen_for_hangup(requests.clone(), reloads.clone()).map_err(StartError::Signals)?;
        signals::listen(requests.clone()).map_err(StartError::Signals)?;
    }
    let (connection_events, connection_inbox) = mpsc::channel(INBOX);
    let (wake_events, wake_inbox) = mpsc::channel(INBOX);
    let (results_events, results_inbox) = mpsc::channel(INBOX);
    let (answers, answers_inbox) = mpsc::channel(INBOX);
    let (output_events, output_inbox) = mpsc::channel(INBOX);
    let (figures, figures_inbox) = mpsc::channel(1);

    let identity = identity(&config, &pm2, boot_id(&random, clock));
    let about = about(&config, &identity, clock.now());
    let (snapshot, snapshots) = watch::channel(Snapshot::new(about, clock, machine.clone(), past.unwrap_or_default()));
    let admin = AdminHandle::new(snapshots, CommandSender::new(requests_sender.clone()), reloads, pm2.clone());
    let ready = readiness::watch(admin.clone(), readiness::hub_timeout(pm2.facts().listen_timeout_ms));
    let systemd = Systemd::of_this_process(pm2.facts());
    systemd.report(admin.clone(), ready.clone());
    let pm2_channel = if on_a_machine {
        open_pm2_channel(&pm2, requests, admin.clone(), ready)
    } else {
        ChannelWriter::disconnected()
    };

    let look_ahead = look_ahead.unwrap_or_else(|| Arc::new(Pm2AndProgram { pm2: pm2.clone(), preflight, clock }));
    let scratch_dir = config.queue_file.with_extension("wake");
    let adapters = Adapters {
        connection: HubConnection::over(connection_config(&config, &policy), connection_events, connector),
        resources: Resources::start(config.resource_report_interval_ms, config.ollama_url.clone(), figures),
        runs: on_a_machine.then(|| {
            let runs = RunsConfig {
                scratch_dir: scratch_dir.clone(),
                results_dir: config.results_dir.clone(),
                machine_boot: policy.machine_boot.clone(),
            };
            Runs::new(runs, output_events)
        }),
        runner: agent.wakes(
            RunnerConfig { scratch_dir: scratch_dir.clone(), scrub, secrets: vec![config.token.clone()] },
            wake_events,
        ),
        results: agent.results(ResultsConfig::new(config.results_dir.clone(), config.results_scan_ms), results_events),
        random,
        threads,
        pm2_channel,
        systemd,
        next_run: NextRunChecks::new(look_ahead, answers.clone()),
        result_hook: ResultHook::new(answers),
        pm2_answer: if on_a_machine { ask_pm2(&pm2) } else { watch::channel(None).1 },
        pm2: pm2.clone(),
    };
    let redactor = Redactor::new(std::slice::from_ref(&config.token));
    let hooks = Hooks::new(&config, scratch_dir, scrub, redactor.clone());
    if let Some(address) = config.http_listen {
        tokio::spawn(http::serve(address, admin.clone()));
    }
    #[cfg(unix)]
    let socket_guard = if on_a_machine { socket::start(&config.queue_file, admin) } else { None };
    let sidecar = Sidecar {
        machine,
        identity,
        snapshot,
        waiting: Default::default(),
        offered: None,
        policy,
        config,
        clock,
        #[cfg(unix)]
        _socket_guard: socket_guard,
        inbox: Inbox {
            requests: request_inbox,
            answers: answers_inbox,
            wakes: wake_inbox,
            results: results_inbox,
            connection: connection_inbox,
            settings: settings_inbox,
            output: output_inbox,
            figures: figures_inbox,
        },
        hooks,
        redactor,
        adapters,
        control: requests_sender,
        foreign_fields,
        watched: None,
        #[cfg(debug_assertions)]
        history: Default::default(),
    };
    Ok(Started { sidecar, first })
}

#[cfg(unix)]
fn open_pm2_channel(
    pm2: &Arc<Pm2>,
    requests: Requests,
    admin: AdminHandle,
    ready: watch::Receiver<Option<readiness::Ready>>,
) -> ChannelWriter {
    crate::sidecar::admin::pm2_channel::open(pm2, requests, admin, ready)
}

#[cfg(not(unix))]
fn open_pm2_channel(
    _: &Arc<Pm2>,
    _: Requests,
    _: AdminHandle,
    _: watch::Receiver<Option<readiness::Ready>>,
) -> ChannelWriter {
    ChannelWriter::disconnected()
}

fn scrub(command: &mut tokio::process::Command) {
    scrub_child_env(command.as_std_mut());
}

fn read_journal(config: &Config, machine_boot: &str) -> Result<(Journal, Map<String, serde_json::Value>), StartError> {
    let path = &config.queue_file;
    if let Err(error) = atomic_file::remove_leftovers(path) {
        tracing::warn!(%error, "temporary files of a killed sidecar stay behind");
    }
    let boot = Boot { id: machine_boot, since_ms: crate::sidecar::supervisor::pm2::machine_booted_at_ms() };
    let max_bytes = journal::max_bytes(config.max_frame_bytes);
    match atomic_file::read_or_quarantine(path, max_bytes, |bytes| journal::from_bytes(bytes, boot)) {
        Ok(ReadOutcome::Missing) => Ok((Journal::default(), Map::new())),
        Ok(ReadOutcome::Parsed(Found::Journal { journal, other, unread })) => {
            if !unread.is_empty() {
                set_aside(path, max_bytes, &unread, &journal, &other).map_err(StartError::Journal)?;
            }
            Ok((*journal, other))
        }
        Ok(ReadOutcome::Parsed(Found::Newer { schema })) => Err(StartError::Newer { path: path.clone(), schema }),
        Ok(ReadOutcome::Quarantined { moved_to, why }) => {
            tracing::error!(
                file = %path.display(), moved_to = %moved_to.display(), why,
                "the journal makes no sense and was moved aside: a task that was under way may have to be looked up there"
            );
            Ok((Journal::default(), Map::new()))
        }
        Err(error) => Err(StartError::Journal(error)),
    }
}

/// Copies the journal file aside, then writes it without the parts that cannot be read.
fn set_aside(
    path: &Path,
    max_bytes: u64,
    unread: &[String],
    journal: &Journal,
    other: &Map<String, serde_json::Value>,
) -> Result<(), DurableError> {
    let copied_to = atomic_file::copy_aside(path)?;
    for why in unread {
        tracing::error!(
            file = %path.display(), copied_to = %copied_to.display(), why,
            "a part of the journal makes no sense and counts for nothing; the rest does, and the whole file was copied aside"
        );
    }
    atomic_file::write_atomic_up_to(max_bytes, path, &journal::to_bytes(journal, other)).inspect_err(|_| {
        // The next start copies the file again, so a copy would fill a full disk further. It is removed only if the
        // file is unchanged: where only the folder's fsync failed, the file may have been replaced.
        if let (Ok(file), Ok(copy)) = (fs::read(path), fs::read(&copied_to))
            && file == copy
        {
            let _ = fs::remove_file(&copied_to);
        }
    })
}

fn connection_config(config: &Config, policy: &Policy) -> ConnectionConfig {
    ConnectionConfig {
        connect_timeout_ms: config.connect_timeout_ms,
        max_frame_bytes: usize::try_from(config.max_frame_bytes).unwrap_or(usize::MAX),
        close_timeout_ms: policy.close_timeout_ms,
        ..ConnectionConfig::new(config.hub_url.clone())
    }
}

fn identity(config: &Config, pm2: &Pm2, boot_id: String) -> Identity {
    /// The usual time from exit to `identified`, without pm2's `restart_delay`, in ms.
    const USUAL_GAP_MS: u64 = 500;
    Identity {
        agent_id: config.agent_id.clone(),
        token: config.token.clone(),
        capabilities: config.capabilities.clone(),
        ollama_url: config.ollama_url.clone(),
        boot_id,
        expected_back_ms: USUAL_GAP_MS + pm2.facts().restart_delay_ms.unwrap_or(0),
    }
}

fn about(config: &Config, identity: &Identity, started_at: Timestamp) -> About {
    About {
        agent_id: config.agent_id.clone(),
        hub_url: config.hub_url.clone(),
        boot_id: identity.boot_id.clone(),
        config: config.path.display().to_string(),
        queue_file: config.queue_file.display().to_string(),
        results_dir: config.results_dir.display().to_string(),
        started_at,
        redactor: Redactor::new(std::slice::from_ref(&config.token)),
    }
}

/// Returns a new id for this run of the process.
fn boot_id(random: &RandomBytes, clock: Clock) -> String {
    let mut bytes = [0; 16];
    if random(&mut bytes) {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    } else {
        // Without random bytes, the pid and the time tell two runs on one machine apart.
        format!("{}-{}", std::process::id(), clock.now().as_millis())
    }
}

/// Asks pm2 in the background about this process; `identify` does not wait for the answer.
fn ask_pm2(pm2: &Arc<Pm2>) -> watch::Receiver<Option<Pm2Info>> {
    let (answer, answers) = watch::channel(None);
    let pm2 = pm2.clone();
    tokio::spawn(async move {
        tokio::time::sleep(ASK_PM2_AFTER).await;
        match pm2.ask().await {
            Ok(process) => {
                let info = pm2.info_from(&process);
                tracing::info!(name = info.name, status = info.status, restarts = info.restart_count, "pm2 knows us");
                // Fails only once the event loop has ended.
                let _ = answer.send(Some(info));
            }
            Err(error) => tracing::info!(%error, "pm2 was not asked, or does not know us"),
        }
    });
    answers
}
