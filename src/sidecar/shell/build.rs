//! Builds a sidecar from a checked configuration: reads the journal, recovers the machine and creates the adapters.
//! The caller holds the state folder's lock and has set up logging.

use std::sync::Arc;

use tokio::sync::{Notify, watch};

use crate::codec::{FoundEnd, Identity};
use crate::common::logging::Redactor;
use crate::machine::{Effect, Ending, Journal, Machine, Timestamp};
use crate::protocol::PreviousEnd;
use crate::sidecar::admin::commands::CommandSender;
use crate::sidecar::admin::handle::AdminHandle;
use crate::sidecar::admin::pm2_channel::{self, ChannelWriter};
use crate::sidecar::admin::signals::{self, Requests};
use crate::sidecar::admin::snapshot::{About, Snapshot};
use crate::sidecar::admin::systemd::Systemd;
use crate::sidecar::admin::{http, readiness, reload, socket};
use crate::sidecar::agent::hooks::Hooks;
use crate::sidecar::agent::results::kept::{Folders, KeptResults};
use crate::sidecar::clock::Clock;
use crate::sidecar::config::Config;
use crate::sidecar::history::writer::HistoryWriter;
use crate::sidecar::history::{HistoryEvent, RunEnd};
use crate::sidecar::hub_connection::dial::progress::{DialState, Progress};
use crate::sidecar::journal::state_folder::{FolderTrouble, StateFolder};
use crate::sidecar::journal::state_lock::StateLock;
use crate::sidecar::policy::policy;
use crate::sidecar::previous_run::facts::Facts;
use crate::sidecar::previous_run::{self, PreviousRun};
use crate::sidecar::shell::adapters::{Adapters, Foundation, scrub};
use crate::sidecar::shell::environment::{Environment, RandomBytes};
use crate::sidecar::shell::event_loop::{RESTART_HISTORY, Sidecar};
use crate::sidecar::shell::inbox::Inbox;
use crate::sidecar::shell::kept_results;
use crate::sidecar::shell::read_journal::read_journal;
use crate::sidecar::shell::start_error::StartError;
use crate::sidecar::supervisor::pm2::Pm2;
use crate::sidecar::supervisor::preflight::Preflight;

/// A sidecar that is ready to run.
pub struct Started {
    // Boxed: the futures that it passes through would each hold a copy, on the stack, while it runs.
    sidecar: Box<Sidecar>,
    first: Vec<Effect>,
}

impl Started {
    /// Returns the id of this run of the process.
    pub fn boot_id(&self) -> &str {
        &self.sidecar.identity.boot_id
    }

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
    start_with(config, pm2, preflight, (Environment::real(), None))
}

/// Builds a sidecar that looks after the state folder whose lock it is given. See [`start`].
///
/// # Errors
/// As [`start`].
pub(crate) fn start_holding(
    lock: Arc<StateLock>,
    config: Config,
    pm2: Pm2,
    preflight: Option<Preflight>,
) -> Result<Started, StartError> {
    start_with(config, pm2, preflight, (Environment::real(), Some(lock)))
}

/// Builds a sidecar in an environment of the caller's, for instance a simulated one. See [`start`].
///
/// # Errors
/// As [`start`].
pub fn start_in(config: Config, pm2: Pm2, environment: Environment) -> Result<Started, StartError> {
    start_with(config, pm2, None, (environment, None))
}

fn start_with(
    config: Config,
    pm2: Pm2,
    preflight: Option<Preflight>,
    (environment, lock): (Environment, Option<Arc<StateLock>>),
) -> Result<Started, StartError> {
    let on_a_machine = environment.on_a_machine;
    let (config, pm2) = (Arc::new(config), Arc::new(pm2));
    let clock = Clock::start(environment.now_ms);
    let policy = policy(&config, &pm2);
    if let (_, Some(why)) = pm2.restart_method_at(clock.now().as_millis()) {
        tracing::info!(%why, "as it stands, a commanded restart will replace this process in place");
    }
    let (journal, mut foreign_fields) = read_journal(&config, &policy.machine_boot)?;
    tracing::debug!("the journal was read");
    // Shown to operators only: an unreadable history counts as empty.
    let past = foreign_fields.remove(RESTART_HISTORY).and_then(|past| past.read().ok());
    let redactor = Redactor::new(std::slice::from_ref(&config.token));
    let facts = if on_a_machine { Facts::read() } else { Facts::default() };
    let previous = match on_a_machine {
        true => run_before(&config, &journal, &facts, &pm2, &redactor),
        false => None,
    };
    let journal = journal.moved_by(previous.as_ref().map_or(0, |run| run.clock_step_ms));
    let (machine, first) = Machine::recover(journal, clock.now(), &policy);

    let (reloads, settings) = reload::start(Arc::clone(&config), Arc::clone(&pm2));
    let (senders, inbox) = Inbox::new(settings);
    let control = senders.requests.clone();
    let requests = Requests { queue: control.clone() };
    if on_a_machine {
        signals::listen_for_hangup(requests.clone(), reloads.clone()).map_err(StartError::Signals)?;
        signals::listen(requests.clone()).map_err(StartError::Signals)?;
    }

    let identity = identity(&config, &pm2, boot_id(&environment.random, clock), previous.as_ref());
    let state_folder = lock.map(|lock| Arc::new(StateFolder::new(lock, &config.queue_file)));
    if let Some(folder) = &state_folder {
        tokio::spawn(Arc::clone(folder).watch(senders.journal_changed.clone()));
    }
    let (kept, kept_results) = watch::channel(None);
    let dial = Progress::new();
    let folder_trouble = state_folder.as_ref().map_or_else(|| watch::channel(None).1, |folder| folder.trouble());
    let published = (kept_results, dial.subscribe(), folder_trouble);
    let about = about(&config, (&identity.boot_id, previous.clone()), clock.now(), redactor.clone(), published);
    let (snapshot, snapshots) = watch::channel(Snapshot::new(about, clock, machine.clone(), past.unwrap_or_default()));
    let admin = AdminHandle::new(snapshots, CommandSender::new(control.clone()), reloads, pm2.clone());
    let supervisor = supervisor_channels(&pm2, &admin, requests, on_a_machine);
    let scratch_dir = config.queue_file.with_extension("wake");
    let foundation =
        Foundation { config: &config, pm2: &pm2, policy: &policy, clock, dial: &dial, scratch_dir: &scratch_dir };
    let adapters = Adapters::start(&foundation, environment, preflight, senders, supervisor);
    let hooks = Hooks::new(&config, scratch_dir, scrub, redactor.clone());
    if let Some(address) = config.http_listen {
        tokio::spawn(http::serve(address, admin.clone()));
    }
    let kept_changed = Arc::new(Notify::new());
    let mut history_writer = HistoryWriter::none();
    if on_a_machine {
        history_writer = HistoryWriter::open(&config.queue_file, identity.boot_id.clone(), clock, redactor.clone());
        let Facts { machine_boot, oom_kills, now_ms: _, uptime_ms: _ } = facts;
        let (version, pid) = (env!("CARGO_PKG_VERSION").to_owned(), std::process::id());
        history_writer.add(HistoryEvent::RunStarted { version, pid, machine_boot, oom_kills }, clock.now());
        if let Some(PreviousRun { end, why, .. }) = previous {
            history_writer.add(HistoryEvent::RunBefore { end, why }, clock.now());
        }
        socket::start(&config.queue_file, admin, state_folder.clone());
        kept_results::start(Folders::of(&config), snapshot.subscribe(), kept, Arc::clone(&kept_changed));
    }
    let sidecar = Box::new(Sidecar {
        machine,
        identity,
        snapshot,
        waiting: Default::default(),
        offered: None,
        policy,
        config,
        clock,
        inbox,
        hooks,
        redactor,
        history_writer,
        adapters,
        control,
        foreign_fields,
        watched: None,
        state_folder,
        kept_changed,
        #[cfg(debug_assertions)]
        history: Default::default(),
    });
    tracing::debug!("the adapters stand");
    Ok(Started { sidecar, first })
}

/// Finds out how the run before ended, and tells it in the log.
fn run_before(
    config: &Config,
    journal: &Journal,
    facts: &Facts,
    pm2: &Pm2,
    redactor: &Redactor,
) -> Option<PreviousRun> {
    let found = previous_run::find(&config.queue_file, journal.previous_end(), facts, pm2)?;
    let found = PreviousRun { why: redactor.clean(found.why), ..found };
    tracing::info!(end = %found.end, why = found.why, "how the run before ended");
    if found.clock_step_ms != 0 {
        let clock_step_ms = found.clock_step_ms;
        tracing::warn!(
            clock_step_ms,
            "the clock was set since the run before: its times are taken as by the clock now"
        );
    }
    Some(found)
}

/// Opens the channels to pm2 and systemd, which report when the sidecar is ready.
fn supervisor_channels(
    pm2: &Arc<Pm2>,
    admin: &AdminHandle,
    requests: Requests,
    on_a_machine: bool,
) -> (ChannelWriter, Systemd) {
    let ready = readiness::watch(admin.clone(), readiness::hub_timeout(pm2.settings().listen_timeout_ms));
    let systemd = Systemd::of_this_process(pm2.settings());
    systemd.report(admin.clone(), ready.clone());
    let pm2_channel = if on_a_machine {
        pm2_channel::open(pm2, requests, admin.clone(), ready)
    } else {
        ChannelWriter::disconnected()
    };
    (pm2_channel, systemd)
}

fn identity(config: &Config, pm2: &Pm2, boot_id: String, previous: Option<&PreviousRun>) -> Identity {
    /// The usual time from exit to `identified`, without pm2's `restart_delay`, in ms.
    const USUAL_GAP_MS: u64 = 500;
    Identity {
        agent_id: config.agent_id.clone(),
        token: config.token.clone(),
        capabilities: config.capabilities.clone(),
        labels: config.labels.clone(),
        ollama_url: config.ollama_url.clone(),
        boot_id,
        previous: previous.map(found_end),
        expected_back_ms: USUAL_GAP_MS + pm2.settings().restart_delay_ms.unwrap_or(0),
        silence_bound_ms: config.ping_interval_ms + config.pong_timeout_ms,
    }
}

/// Returns what the hub is told of how the run before ended.
fn found_end(run: &PreviousRun) -> FoundEnd {
    let end = match run.end {
        RunEnd::Crashed => PreviousEnd::Crashed,
        RunEnd::Killed => PreviousEnd::Killed,
        RunEnd::OutOfMemory => PreviousEnd::OutOfMemory,
        RunEnd::Rebooted => PreviousEnd::Rebooted,
        RunEnd::Restart | RunEnd::Stop | RunEnd::Lost => PreviousEnd::Unknown,
    };
    FoundEnd { end, is_unplanned: run.end.is_unplanned(), why: run.why.clone() }
}

/// What others publish for operators.
type Published =
    (watch::Receiver<Option<KeptResults>>, watch::Receiver<Option<DialState>>, watch::Receiver<Option<FolderTrouble>>);

fn about(
    config: &Config,
    (boot_id, previous): (&str, Option<PreviousRun>),
    started_at: Timestamp,
    redactor: Redactor,
    (kept, dial, folder_trouble): Published,
) -> About {
    About {
        agent_id: config.agent_id.clone(),
        hub_url: config.hub_url.clone(),
        boot_id: boot_id.to_owned(),
        previous,
        config: config.path.display().to_string(),
        queue_file: config.queue_file.display().to_string(),
        results_dir: config.results_dir.display().to_string(),
        started_at,
        redactor,
        kept,
        dial,
        folder_trouble,
        token_file: config.token_file.as_ref().map(|path| path.display().to_string()),
        overrides: config.overrides.of_connection(),
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
