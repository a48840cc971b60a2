//! The bounds of the numbers of `config.json`, the keys inside its objects, and the "did you mean".

/// A key that holds a whole number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NumberKey {
    /// The key, with its path.
    pub key: &'static str,
    /// The value when the key is absent.
    pub default: u64,
    /// The least value that is allowed.
    pub min: u64,
    /// The greatest value that is allowed.
    pub max: u64,
}

pub(super) const SECOND: u64 = 1_000;
pub(super) const MINUTE: u64 = 60 * SECOND;
pub(super) const HOUR: u64 = 60 * MINUTE;
pub(super) const DAY: u64 = 24 * HOUR;

pub(super) const fn number(key: &'static str, default: u64, min: u64, max: u64) -> NumberKey {
    NumberKey { key, default, min, max }
}

pub(super) const WAKE_TIMEOUT: NumberKey = number("wake_timeout_ms", MINUTE, 100, HOUR);
pub(super) const INTENSITY_MAX: NumberKey = number("restart_intensity.max", 3, 0, 1_000);
pub(super) const INTENSITY_WINDOW: NumberKey = number("restart_intensity.window_ms", MINUTE, 100, DAY);
pub(super) const SHELL_COMMAND_TIMEOUT: NumberKey = number("shell_commands.timeout_ms", MINUTE, 100, DAY);
// The legacy sidecar gives its git work as long.
pub(super) const HOOK_TIMEOUT: NumberKey = number("hooks.timeout_ms", 3 * MINUTE, 100, HOUR);
/// The time limit of one executor; in mode `wake` the default is `wake_timeout_ms`.
pub(super) const RUN_TIMEOUT: NumberKey = number("executors.*.timeout_ms", HOUR, 100, DAY);
/// The value 0 is allowed too, and means "off".
pub(super) const TASK_TIMEOUT: NumberKey = number("task_timeout_ms", 0, 100, 7 * DAY);
pub(super) const RESOURCE_REPORT_INTERVAL: NumberKey = number("resource_report_interval_ms", 30 * SECOND, SECOND, HOUR);
/// One entry of `wake_retry_delays_ms`; the default is the list, not this number.
pub(super) const WAKE_RETRY_DELAY: NumberKey = number("wake_retry_delays_ms[]", 0, 0, HOUR);
/// The greatest number of retries.
pub(super) const WAKE_RETRIES_MAX: usize = 16;
/// The waits before the second, third and fourth try to wake the agent, ms.
pub(super) const WAKE_RETRY_DEFAULTS: [u64; 3] = [5 * SECOND, 15 * SECOND, 30 * SECOND];

/// The keys inside `restart_intensity`.
pub(super) const INTENSITY_KEYS: &[&str] = &["max", "window_ms"];

/// The keys inside one of the `executors`.
pub(super) const EXECUTOR_KEYS: &[&str] = &["command", "mode", "timeout_ms", "env"];
/// The keys inside `shell_commands`.
pub(super) const SHELL_COMMANDS_KEYS: &[&str] = &["enabled", "timeout_ms"];
/// The keys inside `hooks`.
pub(super) const HOOKS_KEYS: &[&str] = &["on_task_start", "on_task_result", "on_message", "timeout_ms"];

/// The names of keys in an early AgentCom sidecar, with their present names.
const FORMER_NAMES: &[(&str, &str)] = &[
    ("openclaw_wake_command", "wake_command"),
    ("reconnect_base_ms", "reconnect_min_ms"),
    ("heartbeat_interval_ms", "ping_interval_ms"),
    ("queue_path", "queue_file"),
];

/// Returns the key of `known` that was probably meant by `written`.
pub(super) fn did_you_mean(written: &str, known: &'static [&'static str]) -> Option<&'static str> {
    if let Some((_, now)) = FORMER_NAMES.iter().find(|(former, now)| *former == written && known.contains(now)) {
        return Some(now);
    }
    let lower = written.to_lowercase().replace('-', "_");
    known
        .iter()
        .map(|key| (strsim::normalized_damerau_levenshtein(&lower, key), *key))
        .filter(|(likeness, _)| *likeness >= 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, key)| key)
}
