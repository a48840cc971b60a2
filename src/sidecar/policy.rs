//! Derives the machine's [`Policy`] from the configuration and the supervisor's settings.

use crate::machine::{Intensity, Policy};
use crate::sidecar::agent::result_hook::RUNS;
use crate::sidecar::config::Config;
use crate::sidecar::supervisor::pm2::{Pm2, machine_boot_id};

/// The part of pm2's kill timeout that is reserved for everything but the goodbye, in ms.
pub(crate) const STOP_RESERVE_MS: u64 = 600;

/// The time that the machine grants the result hook beyond the hook's own time limit, in ms.
const RESULT_HOOK_SLACK_MS: u64 = 5_000;

/// The time that the machine grants a dial beyond `connect_timeout_ms`, in ms.
const CONNECT_SLACK_MS: u64 = 500;

/// Returns the policy for this configuration and supervisor.
pub(crate) fn policy(config: &Config, pm2: &Pm2) -> Policy {
    let settings = pm2.settings();
    let stop_budget_ms =
        config.drain_deadline_ms.min(settings.kill_timeout_ms.saturating_sub(STOP_RESERVE_MS).max(200));
    Policy {
        restart_deadline_ms: config.restart_deadline_ms,
        drain_deadline_ms: config.drain_deadline_ms,
        stop_budget_ms,
        close_budget_ms: (stop_budget_ms.min(config.drain_deadline_ms) / 2).min(400),
        restart_intensity: Intensity {
            max: config.restart_intensity.max,
            window_ms: config.restart_intensity.window_ms,
        },
        result_hook_ms: config.hooks.on_task_result.is_some().then(|| {
            // It is run again where its answer makes no sense.
            RUNS * config.hooks.timeout_ms + RESULT_HOOK_SLACK_MS
        }),
        wake_retry_delays_ms: config.wake_retry_delays_ms.clone(),
        confirmation_timeout_ms: config.confirmation_timeout_ms,
        task_timeout_ms: config.task_timeout_ms,
        progress_interval_ms: config.progress_interval_ms,
        answer_timeout_ms: config.answer_timeout_ms,
        ping_interval_ms: config.ping_interval_ms,
        pong_timeout_ms: config.pong_timeout_ms,
        // The dial itself keeps the limit, and says at which step it was over.
        connect_timeout_ms: config.connect_timeout_ms + CONNECT_SLACK_MS,
        identify_timeout_ms: config.identify_timeout_ms,
        reconnect_min_ms: config.reconnect_min_ms,
        reconnect_max_ms: config.reconnect_max_ms,
        machine_boot: machine_boot_id().unwrap_or_default(),
        ..Policy::default()
    }
}
