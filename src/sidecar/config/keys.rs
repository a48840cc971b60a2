//! The table of the keys of `config.json`. The reader, the comparison of a reload, the "did you mean" and the test of
//! `docs/configuration.md` are all made from it.

use crate::common::logging::{LogFormat, LogLevel};
use crate::sidecar::config::check::First;
use crate::sidecar::config::check::reader::Reader;
use crate::sidecar::config::reload::Merge;
use crate::sidecar::config::{Config, Overrides};

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

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

const fn number(key: &'static str, default: u64, min: u64, max: u64) -> NumberKey {
    NumberKey { key, default, min, max }
}

/// Makes [`KEYS`], [`NUMBERS`], [`Reader::every_key`] and [`Config::merge_keys`] from the rows of the table.
macro_rules! config_keys {
    (
        |$overrides:ident, $first:ident|
        [$($number:expr),*]
        $(
            $key:ident: $merge:ident
            $(, $read_number:ident($default:expr, $min:expr, $max:expr))?
            $(= $read:ident($($argument:expr),*))?
            $(=> $value:expr)?;
        )*
    ) => {
        /// Every top-level key, in the order of [`Config`].
        pub const KEYS: &[&str] = &[$(stringify!($key)),*];

        /// Every key of a number that is documented with a default and bounds.
        pub const NUMBERS: &[NumberKey] =
            &[$($(number(stringify!($key), $default, $min, $max),)?)* $($number),*];

        /// Every top-level key with its method of `Merge`.
        #[cfg(test)]
        const RELOADS: &[(&str, &str)] = &[$((stringify!($key), stringify!($merge))),*];

        impl Reader<'_> {
            /// Reads every key, in the order of the table. A wrong value is reported and replaced by a default.
            pub(super) fn every_key(&mut self, $overrides: &Overrides, $first: First) -> Config {
                Config {
                    path: self.path.to_owned(),
                    overrides: $overrides.clone(),
                    $($key:
                        $(self.$read_number(number(stringify!($key), $default, $min, $max)))?
                        $(self.$read(stringify!($key) $(, $argument)*))?
                        $($value)?,
                    )*
                }
            }
        }

        impl Config {
            /// Merges `new` into this configuration key by key, in the order of the table.
            pub(super) fn merge_keys(&self, new: Self, merge: &mut Merge) -> Self {
                let old = self.clone();
                Self {
                    path: old.path,
                    overrides: old.overrides,
                    $($key: merge.$merge(stringify!($key), old.$key, new.$key),)*
                }
            }
        }
    };
}

// A row is `key: reload, how it is read`.
//
// The reload is a method of `Merge`: `live` applies a new value at once, `restart` keeps the old one until a restart;
// the methods that are named after a key do either.
//
// How it is read is one of
// - `, number(default, min, max)`: a whole number;
// - `= method(arguments)`: a method of `Reader`, which gets the key and the arguments;
// - `=> value`: one of the values that are read before the table, since other keys depend on them.
//
// The list in brackets has the numbers without such a row: those inside objects, and `wake_timeout_ms`.
config_keys! {
    |overrides, first|
    [WAKE_TIMEOUT, INTENSITY_MAX, INTENSITY_WINDOW, SHELL_COMMAND_TIMEOUT, HOOK_TIMEOUT]
    agent_id: restart = agent_id();
    token: restart => first.token;
    hub_url: restart = hub_url(overrides.hub_url.as_ref());
    hub_api_url: live = http_url();
    repo_dir: live = folder();
    reviewer: live = optional_text();
    wake_command: wake_command = wake_command();
    capabilities: restart = capabilities();
    confirmation_timeout_ms: live, legacy_number(30 * SECOND, 100, DAY);
    results_dir: restart = path_or("./results");
    log_file: restart = path_or("./sidecar.log");
    log_level: live = name(overrides.log_level.as_ref(), LogLevel::parse, LogLevel::NAMES);
    ollama_url: restart = optional_text();
    queue_file: restart = path_or("./queue.json");
    restart_deadline_ms: live, number(2 * MINUTE, 100, DAY);
    drain_deadline_ms: live, number(5 * SECOND, 100, MINUTE);
    restart_intensity: live = restart_intensity();
    wake_retry_delays_ms: live = wake_retry_delays();
    wake_timeout_ms: live => first.wake_timeout_ms;
    // A hub reclaims a task without a sign of life for a few minutes.
    progress_interval_ms: live, number(45 * SECOND, 100, MINUTE);
    // A hub closes a socket that is silent for 60 s.
    ping_interval_ms: live, number(30 * SECOND, 100, 55 * SECOND);
    pong_timeout_ms: live, number(10 * SECOND, 100, MINUTE);
    reconnect_min_ms: live, number(SECOND, 10, HOUR);
    reconnect_max_ms: live, number(MINUTE, 10, HOUR);
    // The hub connection has a copy.
    connect_timeout_ms: restart, number(10 * SECOND, 100, 5 * MINUTE);
    identify_timeout_ms: live, number(10 * SECOND, 100, 5 * MINUTE);
    answer_timeout_ms: live, number(15 * SECOND, 100, HOUR);
    results_scan_ms: restart, number(SECOND, 10, MINUTE);
    // A task that the hub accepts (a body of 1 MiB) must fit with what the hub adds: else the hub assigns it again and
    // again.
    max_frame_bytes: restart, number(4 << 20, 1 << 16, 1 << 26);
    http_listen: restart = http_listen(overrides.http_listen.as_ref(), first.http_allow_remote);
    http_allow_remote: restart => first.http_allow_remote;
    log_format: restart = name(overrides.log_format.as_ref(), LogFormat::parse, LogFormat::NAMES);
    executors: executors => first.executors;
    shell_commands: live = shell_commands();
    hooks: live = hooks();
    // The resource reporter has a copy.
    resource_report_interval_ms: restart = resource_report_interval();
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
pub(super) const HOOKS_KEYS: &[&str] = &["on_task_start", "on_task_result", "timeout_ms"];

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_names_the_keys_that_a_reload_applies() {
        let doc = include_str!("../../../docs/configuration.md");
        let row = doc.lines().find(|line| line.starts_with("| count at once |")).unwrap();
        for (key, merge) in RELOADS {
            assert_eq!(row.contains(&format!("`{key}`")), *merge != "restart", "{key}");
        }
    }
}
