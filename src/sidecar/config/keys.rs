//! Every key of `config.json`, with the bounds of those that are numbers: the one list that the loader, the "did you
//! mean" and the test of `docs/configuration.md` all read.

/// A key that holds a whole number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NumberKey {
    /// The key, with its path.
    pub key: &'static str,
    /// What counts when it is absent.
    pub default: u64,
    /// The least that is allowed.
    pub min: u64,
    /// The most that is allowed.
    pub max: u64,
}

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

const fn number(key: &'static str, default: u64, min: u64, max: u64) -> NumberKey {
    NumberKey { key, default, min, max }
}

pub(super) const CONFIRMATION_TIMEOUT: NumberKey = number("confirmation_timeout_ms", 30 * SECOND, 100, DAY);
pub(super) const RESTART_DEADLINE: NumberKey = number("restart_deadline_ms", 2 * MINUTE, 100, DAY);
pub(super) const DRAIN_DEADLINE: NumberKey = number("drain_deadline_ms", 5 * SECOND, 100, MINUTE);
pub(super) const INTENSITY_MAX: NumberKey = number("restart_intensity.max", 3, 0, 1_000);
pub(super) const INTENSITY_WINDOW: NumberKey = number("restart_intensity.window_ms", MINUTE, 100, DAY);
pub(super) const WAKE_TIMEOUT: NumberKey = number("wake_timeout_ms", MINUTE, 100, HOUR);
// A hub drops a socket that is silent for 60 s.
pub(super) const PING_INTERVAL: NumberKey = number("ping_interval_ms", 30 * SECOND, 100, 55 * SECOND);
pub(super) const PONG_TIMEOUT: NumberKey = number("pong_timeout_ms", 10 * SECOND, 100, MINUTE);
// A hub takes back a task that shows no sign of life for a few minutes.
pub(super) const PROGRESS_INTERVAL: NumberKey = number("progress_interval_ms", 45 * SECOND, 100, MINUTE);
pub(super) const RECONNECT_MIN: NumberKey = number("reconnect_min_ms", SECOND, 10, HOUR);
pub(super) const RECONNECT_MAX: NumberKey = number("reconnect_max_ms", MINUTE, 10, HOUR);
pub(super) const CONNECT_TIMEOUT: NumberKey = number("connect_timeout_ms", 10 * SECOND, 100, 5 * MINUTE);
pub(super) const IDENTIFY_TIMEOUT: NumberKey = number("identify_timeout_ms", 10 * SECOND, 100, 5 * MINUTE);
pub(super) const ANSWER_TIMEOUT: NumberKey = number("answer_timeout_ms", 15 * SECOND, 100, HOUR);
pub(super) const RESULTS_SCAN: NumberKey = number("results_scan_ms", SECOND, 10, MINUTE);
// A task that our hub takes (a body of 1 MiB) must fit with what the hub adds: a hub hands it out again and again.
pub(super) const MAX_FRAME: NumberKey = number("max_frame_bytes", 4 << 20, 1 << 16, 1 << 26);
pub(super) const SHELL_COMMAND_TIMEOUT: NumberKey = number("shell_commands.timeout_ms", MINUTE, 100, DAY);
// The original gives its git work as long.
pub(super) const HOOK_TIMEOUT: NumberKey = number("hooks.timeout_ms", 3 * MINUTE, 100, HOUR);
/// Of one executor; in mode `wake` the default is `wake_timeout_ms`.
pub(super) const RUN_TIMEOUT: NumberKey = number("executors.*.timeout_ms", HOUR, 100, DAY);
/// 0 is allowed too, and means "off".
pub(super) const RESOURCE_REPORT_INTERVAL: NumberKey = number("resource_report_interval_ms", 30 * SECOND, SECOND, HOUR);
/// One entry of `wake_retry_delays_ms`; the default is the list, not this number.
pub(super) const WAKE_RETRY_DELAY: NumberKey = number("wake_retry_delays_ms[]", 0, 0, HOUR);
/// How many retries there may be.
pub(super) const WAKE_RETRIES_MAX: usize = 16;
/// The waits before the second, third and fourth try to wake the agent, ms.
pub(super) const WAKE_RETRY_DEFAULTS: [u64; 3] = [5 * SECOND, 15 * SECOND, 30 * SECOND];

/// Every number there is, with its default and its bounds.
pub const NUMBERS: &[NumberKey] = &[
    CONFIRMATION_TIMEOUT,
    RESTART_DEADLINE,
    DRAIN_DEADLINE,
    INTENSITY_MAX,
    INTENSITY_WINDOW,
    WAKE_TIMEOUT,
    PING_INTERVAL,
    PONG_TIMEOUT,
    PROGRESS_INTERVAL,
    RECONNECT_MIN,
    RECONNECT_MAX,
    CONNECT_TIMEOUT,
    IDENTIFY_TIMEOUT,
    ANSWER_TIMEOUT,
    RESULTS_SCAN,
    MAX_FRAME,
    SHELL_COMMAND_TIMEOUT,
    HOOK_TIMEOUT,
];

/// Every top-level key that is read, in the order of the documentation.
pub const KEYS: &[&str] = &[
    "agent_id",
    "token",
    "hub_url",
    "hub_api_url",
    "repo_dir",
    "reviewer",
    "wake_command",
    "capabilities",
    "confirmation_timeout_ms",
    "results_dir",
    "log_file",
    "log_level",
    "ollama_url",
    "queue_file",
    "restart_deadline_ms",
    "drain_deadline_ms",
    "restart_intensity",
    "wake_retry_delays_ms",
    "wake_timeout_ms",
    "progress_interval_ms",
    "ping_interval_ms",
    "pong_timeout_ms",
    "reconnect_min_ms",
    "reconnect_max_ms",
    "connect_timeout_ms",
    "identify_timeout_ms",
    "answer_timeout_ms",
    "results_scan_ms",
    "max_frame_bytes",
    "http_listen",
    "http_allow_remote",
    "log_format",
    "executors",
    "shell_commands",
    "hooks",
    "resource_report_interval_ms",
];

/// The keys inside `restart_intensity`.
pub(super) const INTENSITY_KEYS: &[&str] = &["max", "window_ms"];

/// The keys inside one of the `executors`.
pub(super) const EXECUTOR_KEYS: &[&str] = &["command", "mode", "timeout_ms", "env"];
/// The keys inside `shell_commands`.
pub(super) const SHELL_COMMANDS_KEYS: &[&str] = &["enabled", "timeout_ms"];
/// The keys inside `hooks`.
pub(super) const HOOKS_KEYS: &[&str] = &["on_task_start", "on_task_result", "timeout_ms"];

/// Names that an early AgentCom sidecar used, and what they are called now.
const FORMER: &[(&str, &str)] = &[
    ("openclaw_wake_command", "wake_command"),
    ("reconnect_base_ms", "reconnect_min_ms"),
    ("heartbeat_interval_ms", "ping_interval_ms"),
    ("queue_path", "queue_file"),
];

/// The key of `known` that was probably meant by `written`.
pub(super) fn did_you_mean(written: &str, known: &'static [&'static str]) -> Option<&'static str> {
    if let Some((_, now)) = FORMER.iter().find(|(former, now)| *former == written && known.contains(now)) {
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
