//! What a child of the sidecar must not inherit: pm2's private variables and channel, and the tokens. It changes the
//! child's environment only, never this process's, and it keeps `PM2_HOME`: the agent may call pm2 itself.

use std::ffi::{OsStr, OsString};
use std::process::Command;

use crate::sidecar::config::{ADMIN_TOKEN_VARIABLE, INVITATION_VARIABLE, TOKEN_VARIABLE};
use crate::sidecar::supervisor::inherited_fd::KEPT_FOLDER;

/// Variables of this process only, under pm2 or not: the agent has no use for the tokens, and is not the process that
/// `PM2_PROCESS_NAME` names.
const PRIVATE_VARIABLES: &[&str] = &[
    TOKEN_VARIABLE,
    ADMIN_TOKEN_VARIABLE,
    INVITATION_VARIABLE,
    KEPT_FOLDER,
    "PM2_PROCESS_NAME",
    // systemd's, about this process: a child that used them would report on this process's behalf.
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "SYSTEMD_EXEC_PID",
];

/// Node's channel to pm2. A Node program that finds these opens the channel and writes to it; one malformed line there
/// crashes the whole pm2 daemon.
const CHANNEL_VARIABLES: &[&str] = &["NODE_CHANNEL_FD", "NODE_CHANNEL_SERIALIZATION_MODE", "NODE_UNIQUE_ID"];

/// What pm2 exports to everything it starts in fork mode: the scalars of its `pm2_env`. Its own fields (`God.js`,
/// `Common.js`, seen in a real environment), then the settings of `API/schema.json`, then what its command line leaves
/// behind. A user's variable with one of these names never gets through pm2 in the first place.
const PM2_EXPORTS: &[&str] = &[
    "pm_id",
    "name",
    "namespace",
    "status",
    "pm_uptime",
    "created_at",
    "restart_time",
    "unstable_restarts",
    "unique_id",
    "version",
    "exit_code",
    "prev_restart_delay",
    "km_link",
    "vizion_running",
    "pm_exec_path",
    "pm_cwd",
    "pm_out_log_path",
    "pm_err_log_path",
    "pm_log_path",
    "pm_pid_path",
    "node_version",
    "command",
    "started_inside",
    "axm_actions",
    "axm_monitor",
    "axm_options",
    "axm_dynamic",
    "pmx_module",
    "versioning",
    "append_env_to_name",
    "args",
    "automation",
    "autorestart",
    "autostart",
    "cron_restart",
    "cwd",
    "deep_monitoring",
    "disable_logs",
    "disable_source_map_support",
    "disable_trace",
    "error_file",
    "event_loop_inspector",
    "exec_interpreter",
    "exec_mode",
    "execute_command",
    "exp_backoff_restart_delay",
    "filter_env",
    "force",
    "gid",
    "ignore_watch",
    "increment_var",
    "install_url",
    "instance_var",
    "instances",
    "io",
    "kill_retry_time",
    "kill_timeout",
    "listen_timeout",
    "log_date_format",
    "log_file",
    "log_type",
    "max_memory_restart",
    "max_restarts",
    "merge_logs",
    "min_uptime",
    "name_prefix",
    "node_args",
    "out_file",
    "pid_file",
    "pmx",
    "port",
    "post_update",
    "restart_delay",
    "script",
    "shutdown_with_message",
    "source_map_support",
    "stop_exit_codes",
    "time",
    "trace",
    "treekill",
    "uid",
    "username",
    "v8",
    "vizion",
    "wait_ready",
    "watch",
    "watch_delay",
    "watch_options",
    "windowsHide",
    "write",
    "NODE_APP_INSTANCE",
    "PM2_USAGE",
    "PM2_INTERACTOR_PROCESSING",
    "PM2_JSON_PROCESSING",
    "PM2_PROGRAMMATIC",
];

/// Returns the names of those `variables` that a child must not inherit: under pm2 (`pm_id` is set) all that pm2 added,
/// otherwise only those that are never the user's own.
pub fn injected(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Vec<OsString> {
    let variables: Vec<_> = variables.into_iter().collect();
    let value = |key: &str| variables.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_os_str());
    let under_pm2 = value("pm_id").is_some();
    // pm2 also exports a variable named like the app, for its modules.
    let named_like_app = value("name").filter(|name| value_is_module_config(&variables, name));
    let is_injected = |name: &OsStr| {
        let listed = |list: &[&str]| name.to_str().is_some_and(|name| list.contains(&name));
        listed(PRIVATE_VARIABLES)
            || listed(CHANNEL_VARIABLES)
            || (under_pm2 && (listed(PM2_EXPORTS) || Some(name) == named_like_app))
    };
    variables.iter().map(|(name, _)| name.clone()).filter(|name| is_injected(name)).collect()
}

fn value_is_module_config(variables: &[(OsString, OsString)], app: &OsStr) -> bool {
    variables.iter().any(|(name, value)| name == app && value.to_str().is_some_and(|value| value.starts_with('{')))
}

/// Removes from `command` what a child must not inherit from this process.
pub fn scrub_child_env(command: &mut Command) {
    for name in injected(std::env::vars_os()) {
        command.env_remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn removed(variables: &[(&str, &str)]) -> Vec<String> {
        injected(variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))))
            .into_iter()
            .map(|name| name.into_string().unwrap())
            .collect()
    }

    #[test]
    fn under_pm2_its_variables_go_and_the_users_stay() {
        let variables = [
            ("pm_id", "0"),
            ("PATH", "/bin"),
            ("name", "p2"),
            ("p2", "{}"),
            ("NODE_CHANNEL_FD", "3"),
            ("PM2_HOME", "/h"),
            ("env_thing", "x"),
            ("status", "launching"),
            ("HOME", "/root"),
        ];
        assert_eq!(removed(&variables), ["pm_id", "name", "p2", "NODE_CHANNEL_FD", "status"]);
    }

    #[test]
    fn an_app_named_like_a_users_variable_does_not_take_it_away() {
        let variables = [("pm_id", "0"), ("name", "HOME"), ("HOME", "/root")];
        assert_eq!(removed(&variables), ["pm_id", "name"]);
    }

    #[test]
    fn without_pm2_only_what_is_ours_or_a_channel_goes() {
        let ours = [
            ("AGENTCOM_ADMIN_TOKEN", "a"),
            ("AGENTCOM_INVITATION", "i"),
            ("AGENTCOM_TOKEN", "t"),
            ("NODE_CHANNEL_FD", "3"),
        ];
        let variables = [&[("name", "me"), ("time", "1")][..], &ours].concat();
        assert_eq!(removed(&variables), ours.map(|(name, _)| name));
    }
}
