//! The table of the keys of `config.json`. The reader, the comparison of a reload, the "did you mean" and the test of
//! `docs/configuration.md` are all made from it.

use crate::common::logging::{LogFormat, LogLevel};
use crate::sidecar::config::bounds::{
    DAY, HOOK_TIMEOUT, HOUR, INTENSITY_MAX, INTENSITY_WINDOW, MINUTE, NumberKey, SECOND, SHELL_COMMAND_TIMEOUT,
    WAKE_TIMEOUT, number,
};
use crate::sidecar::config::check::First;
use crate::sidecar::config::check::reader::Reader;
use crate::sidecar::config::reload::Merge;
use crate::sidecar::config::{Config, Overrides};

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
    token: token => first.token;
    token_file: restart => first.token_file;
    hub_url: restart = hub_url(overrides.hub_url.as_ref());
    // The hub connection has a copy of these three; what is in the files is read for each dial.
    ca_file: restart = folder();
    client_cert_file: restart = folder();
    client_key_file: restart = folder();
    hub_api_url: live = http_url();
    repo_dir: live = folder();
    reviewer: live = optional_text();
    wake_command: wake_command = wake_command();
    capabilities: restart = capabilities();
    labels: restart = labels();
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
    task_timeout_ms: live = task_timeout();
    // The resource reporter has a copy.
    resource_report_interval_ms: restart = resource_report_interval();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_names_the_keys_that_a_reload_applies() {
        let doc = include_str!("../../../docs/configuration.md");
        let row = doc.lines().find(|line| line.starts_with("| count at once |")).unwrap();
        for (key, merge) in RELOADS {
            let waits = matches!(*merge, "restart" | "token");
            assert_eq!(row.contains(&format!("`{key}`")), !waits, "{key}");
        }
    }
}
