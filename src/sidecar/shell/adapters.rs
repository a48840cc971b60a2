//! The adapters that carry out the machine's effects, and their creation.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::machine::Policy;
use crate::protocol::Pm2Info;
use crate::sidecar::admin::pm2_channel::ChannelWriter;
use crate::sidecar::admin::resources::Resources;
use crate::sidecar::admin::systemd::Systemd;
use crate::sidecar::agent::message_hook::MessageHook;
use crate::sidecar::agent::result_hook::ResultHook;
use crate::sidecar::agent::results::ResultsConfig;
use crate::sidecar::agent::results::kept::Folders;
use crate::sidecar::agent::side::{Results, Wakes};
use crate::sidecar::agent::supervised::{Runs, RunsConfig};
use crate::sidecar::agent::wake::RunnerConfig;
use crate::sidecar::clock::Clock;
use crate::sidecar::config::Config;
use crate::sidecar::hub_connection::dial::progress::Progress;
use crate::sidecar::hub_connection::{ConnectionConfig, HubConnection};
use crate::sidecar::shell::environment::{Environment, RandomBytes};
use crate::sidecar::shell::inbox::Senders;
use crate::sidecar::shell::restart_check::{NextRunChecks, Pm2AndProgram};
use crate::sidecar::supervisor::pm2::{Pm2, scrub_child_env};
use crate::sidecar::supervisor::preflight::Preflight;

/// The delay before pm2 is asked about this process: its answer costs 0.2 s of CPU, which must not fall into a restart.
const ASK_PM2_AFTER: Duration = Duration::from_secs(3);

/// The adapters that carry out the machine's effects.
pub(crate) struct Adapters {
    pub(crate) connection: HubConnection,
    pub(crate) runner: Arc<dyn Wakes>,
    pub(crate) results: Box<dyn Results>,
    pub(crate) next_run: NextRunChecks,
    pub(crate) result_hook: ResultHook,
    pub(crate) message_hook: MessageHook,
    /// The commands run as tasks; `None` where commands cannot be run (in a simulation).
    pub(crate) runs: Option<Runs>,
    pub(crate) random: RandomBytes,
    /// Whether blocking work runs on a thread of its own.
    pub(crate) threads: bool,
    pub(crate) resources: Resources,
    pub(crate) pm2: Arc<Pm2>,
    /// The writer on pm2's channel.
    pub(crate) pm2_channel: ChannelWriter,
    /// The notifications to systemd.
    pub(crate) systemd: Systemd,
    /// pm2's last answer about this process, as far as it tells more than the environment.
    pub(crate) pm2_answer: watch::Receiver<Option<Pm2Info>>,
}

/// What every adapter is created from.
pub(super) struct Foundation<'a> {
    pub(super) config: &'a Config,
    pub(super) pm2: &'a Arc<Pm2>,
    pub(super) policy: &'a Policy,
    pub(super) clock: Clock,
    /// Publishes what each dial is doing.
    pub(super) dial: &'a Progress,
    /// Where wake commands and hooks keep their temporary files.
    pub(super) scratch_dir: &'a Path,
}

impl Adapters {
    /// Creates the adapters, which report to `senders`.
    pub(super) fn start(
        foundation: &Foundation<'_>,
        environment: Environment,
        preflight: Option<Preflight>,
        senders: Senders,
        (pm2_channel, systemd): (ChannelWriter, Systemd),
    ) -> Self {
        let Foundation { config, pm2, policy, clock, dial, scratch_dir } = *foundation;
        let Environment { random, now_ms: _, threads, connector, on_a_machine, agent, look_ahead } = environment;
        let look_ahead =
            look_ahead.unwrap_or_else(|| Arc::new(Pm2AndProgram { pm2: Arc::clone(pm2), preflight, clock }));
        let runs = RunsConfig {
            scratch_dir: scratch_dir.to_owned(),
            results_dir: config.results_dir.clone(),
            machine_boot: policy.machine_boot.clone(),
        };
        let wakes = RunnerConfig { scratch_dir: scratch_dir.to_owned(), scrub, secrets: vec![config.token.clone()] };
        let results = ResultsConfig {
            fallback: Some(Folders::of(config).fallback()),
            ..ResultsConfig::new(config.results_dir.clone(), config.results_scan_ms)
        };
        let (load_interval_ms, ollama_url) = (config.resource_report_interval_ms, config.ollama_url.clone());
        let connection = HubConnection::over(connection_config(config, policy), senders.connection, connector);
        Self {
            connection: connection.publishing(dial.clone()),
            resources: Resources::start(load_interval_ms, ollama_url, senders.figures),
            runs: on_a_machine.then(|| Runs::new(runs, senders.output)),
            runner: agent.wakes(wakes, senders.wakes),
            results: agent.results(results, senders.results),
            random,
            threads,
            pm2_channel,
            systemd,
            next_run: NextRunChecks::new(look_ahead, senders.answers.clone()),
            result_hook: ResultHook::new(senders.answers),
            message_hook: MessageHook::start(),
            pm2_answer: if on_a_machine { ask_pm2(pm2) } else { watch::channel(None).1 },
            pm2: Arc::clone(pm2),
        }
    }
}

/// Removes the supervisor's variables from a child process's environment.
pub(super) fn scrub(command: &mut tokio::process::Command) {
    scrub_child_env(command.as_std_mut());
}

fn connection_config(config: &Config, policy: &Policy) -> ConnectionConfig {
    ConnectionConfig {
        connect_timeout_ms: config.connect_timeout_ms,
        max_frame_bytes: usize::try_from(config.max_frame_bytes).unwrap_or(usize::MAX),
        close_timeout_ms: policy.close_timeout_ms,
        transport: config.transport(),
        ..ConnectionConfig::new(config.hub_url.clone())
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
