//! pm2's settings for this process: those that decide whether it restarts after an exit, and how long a stop may take.
//! They are only read here; [`crate::sidecar::supervisor::pm2::restart_strategy`] decides.

use std::ffi::OsString;

use crate::sidecar::supervisor::pm2::process_list::Pm2Process;

/// pm2's default `kill_timeout`, ms (`KILL_TIMEOUT` in its `constants.js`).
pub(crate) const DEFAULT_KILL_TIMEOUT_MS: u64 = 1_600;
/// pm2's default `listen_timeout`, ms (`GRACEFUL_LISTEN_TIMEOUT` in its `constants.js`).
pub(crate) const DEFAULT_LISTEN_TIMEOUT_MS: u64 = 3_000;
/// pm2's default `min_uptime`, ms (`God.handleExit`).
const DEFAULT_MIN_UPTIME_MS: u64 = 1_000;
/// pm2's default `max_restarts` (`God.handleExit`).
pub(crate) const DEFAULT_MAX_RESTARTS: u64 = 16;

/// pm2's settings for this process. pm2 exports scalars only, so a list of several `stop_exit_codes` is not in the
/// environment; [`SupervisorSettings::refined_by`] adds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SupervisorSettings {
    /// Whether pm2's variables are in the environment.
    pub under_pm2: bool,
    /// Whether systemd started this process, and not pm2.
    pub under_systemd: bool,
    /// Whether the parent process is the pm2 daemon; `None` if that is not known. Variables can be inherited, parents
    /// cannot.
    pub parent_is_pm2: Option<bool>,
    /// Whether pm2 has died since it started this process: the parent process has changed, or pm2's channel has ended.
    pub pm2_gone: bool,
    /// Whether pm2 lives and lists no process with this id: it has forgotten it and would not restart it.
    pub unlisted: bool,
    /// Whether the last query for pm2's list failed: what pm2 would do is not known.
    pub silent: bool,
    /// The parent's process id when this was read; `None` if that is not known.
    pub parent: Option<u32>,
    /// How often pm2 has restarted this process (`pm2 reset` zeroes it).
    pub restart_time: Option<u64>,
    /// When pm2 started this run, ms since the epoch.
    pub pm_uptime_ms: Option<u64>,
    /// When pm2 started the first run (or the last one after it gave up), ms since the epoch.
    pub created_at_ms: Option<u64>,
    /// How many exits before this run came sooner than `min_uptime_ms`.
    pub unstable_restarts: u64,
    /// An exit sooner than this after a start counts as unstable, ms.
    pub min_uptime_ms: u64,
    /// How many unstable exits make pm2 give up.
    pub max_restarts: u64,
    /// The time from SIGINT to SIGKILL, ms.
    pub kill_timeout_ms: u64,
    /// Whether pm2 restarts the process after an exit.
    pub autorestart: bool,
    /// Exit codes after which pm2 does not restart the process.
    pub stop_exit_codes: Vec<i64>,
    /// The delay from an exit to the next start, ms.
    pub restart_delay_ms: Option<u64>,
    /// The first such delay of a growing series, ms.
    pub exp_backoff_restart_delay_ms: Option<u64>,
    /// Whether pm2 waits for `"ready"` before the status becomes online.
    pub wait_ready: bool,
    /// How long pm2 waits for `"ready"`, ms.
    pub listen_timeout_ms: Option<u64>,
    /// Whether pm2 requests a stop by a message instead of a signal.
    pub shutdown_with_message: bool,
    /// The file descriptor of the channel to pm2.
    pub channel_fd: Option<i32>,
}

impl SupervisorSettings {
    /// Reads what pm2 exported. Invalid values count as absent.
    pub fn from_env(env: impl Fn(&str) -> Option<String>) -> Self {
        let number = |key: &str| env(key).and_then(|value| value.trim().parse::<u64>().ok());
        let is = |key: &str, wanted: &str| env(key).is_some_and(|value| value == wanted);
        let under_pm2 = number("pm_id").is_some();
        // `SYSTEMD_EXEC_PID` names the process that systemd started (since version 248), even where a child inherits
        // it.
        let by_systemd = number("SYSTEMD_EXEC_PID") == Some(u64::from(std::process::id()));
        let under_systemd = !under_pm2 && (by_systemd || env("NOTIFY_SOCKET").is_some());
        Self {
            under_pm2,
            under_systemd,
            parent_is_pm2: if under_pm2 { parent_is_pm2(&env) } else { None },
            pm2_gone: false,
            unlisted: false,
            silent: false,
            parent: parent(),
            restart_time: number("restart_time"),
            pm_uptime_ms: number("pm_uptime"),
            created_at_ms: number("created_at"),
            unstable_restarts: number("unstable_restarts").unwrap_or(0),
            min_uptime_ms: number("min_uptime").unwrap_or(DEFAULT_MIN_UPTIME_MS),
            max_restarts: number("max_restarts").unwrap_or(DEFAULT_MAX_RESTARTS),
            kill_timeout_ms: number("kill_timeout").unwrap_or(DEFAULT_KILL_TIMEOUT_MS),
            autorestart: !is("autorestart", "false"),
            stop_exit_codes: env("stop_exit_codes").map(|codes| exit_codes(&codes)).unwrap_or_default(),
            restart_delay_ms: number("restart_delay"),
            exp_backoff_restart_delay_ms: number("exp_backoff_restart_delay"),
            wait_ready: is("wait_ready", "true"),
            listen_timeout_ms: number("listen_timeout"),
            shutdown_with_message: is("shutdown_with_message", "true"),
            channel_fd: env("NODE_CHANNEL_FD").and_then(|value| value.trim().parse().ok()),
        }
    }

    /// Returns whether pm2 could restart this process, as far as the environment and the process tree show. If not, pm2
    /// need not be queried.
    pub fn could_be_restarted_by_pm2(&self) -> bool {
        self.under_pm2 && !self.pm2_gone && self.parent_is_pm2 != Some(false)
    }

    /// Sets `pm2_gone` if the parent process has changed since: the new parent is not the pm2 that started this
    /// process.
    #[must_use]
    pub fn with_current_parent(mut self) -> Self {
        self.pm2_gone |= self.under_pm2 && parent() != self.parent;
        self
    }

    /// Applies what `jlist` knows better: the lists, and settings changed since this process started.
    #[must_use]
    pub fn refined_by(mut self, us: &Pm2Process) -> Self {
        if let Some(autorestart) = us.autorestart {
            self.autorestart = autorestart;
        }
        if let Some(codes) = &us.stop_exit_codes {
            self.stop_exit_codes.clone_from(codes);
        }
        if let Some(kill_timeout) = us.kill_timeout_ms {
            self.kill_timeout_ms = kill_timeout;
        }
        self
    }
}

/// Parses one code, or several separated by commas.
fn exit_codes(text: &str) -> Vec<i64> {
    text.split(',').filter_map(|code| code.trim().parse().ok()).collect()
}

fn parent() -> Option<u32> {
    Some(std::os::unix::process::parent_id())
}

/// The largest pid file that is read, bytes.
const MAX_PID_FILE_BYTES: u64 = 64;

/// Returns whether the process that `$PM2_HOME/pm2.pid` names is the parent process; `None` if there is no such file.
fn parent_is_pm2(env: impl Fn(&str) -> Option<String>) -> Option<bool> {
    let home = crate::sidecar::supervisor::pm2::query::pm2_home(&|key: &str| env(key).map(OsString::from))?;
    let text = crate::common::fs::regular_file::read(&home.join("pm2.pid"), MAX_PID_FILE_BYTES).ok()?;
    let daemon: u32 = str::from_utf8(&text).ok()?.trim().parse().ok()?;
    Some(daemon == std::os::unix::process::parent_id())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> SupervisorSettings {
        SupervisorSettings::from_env(|key| {
            variables.iter().find(|(name, _)| *name == key).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn without_pm2_its_defaults_stand() {
        let settings = settings(&[]);
        assert!(!settings.under_pm2 && settings.autorestart && settings.stop_exit_codes.is_empty());
        assert_eq!((settings.kill_timeout_ms, settings.min_uptime_ms, settings.max_restarts), (1_600, 1_000, 16));
    }

    #[test]
    fn reads_what_pm2_exports() {
        let settings = settings(&[
            ("pm_id", "1"),
            ("restart_time", "4"),
            ("kill_timeout", "5000"),
            ("autorestart", "false"),
            ("stop_exit_codes", "0"),
            ("restart_delay", "7"),
            ("wait_ready", "true"),
            ("NODE_CHANNEL_FD", "3"),
        ]);
        assert!(settings.under_pm2 && !settings.autorestart && settings.wait_ready);
        assert_eq!(settings.stop_exit_codes, [0]);
        assert_eq!(
            (settings.restart_time, settings.kill_timeout_ms, settings.restart_delay_ms),
            (Some(4), 5_000, Some(7))
        );
        assert_eq!(settings.channel_fd, Some(3));
    }

    #[test]
    fn nonsense_counts_as_absent() {
        let settings =
            settings(&[("pm_id", "0"), ("restart_time", "NaN"), ("kill_timeout", "soon"), ("stop_exit_codes", "x")]);
        assert_eq!((settings.restart_time, settings.kill_timeout_ms), (None, 1_600));
        assert!(settings.stop_exit_codes.is_empty());
    }

    #[test]
    fn a_parent_that_is_gone_was_not_ours_to_rely_on() {
        let ours = SupervisorSettings { parent_is_pm2: Some(true), ..settings(&[("pm_id", "0")]) };
        assert_eq!(ours.clone().with_current_parent(), ours);
        let orphaned = SupervisorSettings { parent: ours.parent.map(|pid| pid + 1), ..ours };
        assert!(orphaned.with_current_parent().pm2_gone);
    }

    #[test]
    fn the_pid_file_tells_whether_pm2_is_our_parent() {
        let home = tempfile::tempdir().unwrap();
        let env = [("pm_id", "0"), ("PM2_HOME", home.path().to_str().unwrap())];
        assert_eq!(settings(&env).parent_is_pm2, None);
        std::fs::write(home.path().join("pm2.pid"), std::os::unix::process::parent_id().to_string()).unwrap();
        assert_eq!(settings(&env).parent_is_pm2, Some(true));
        std::fs::write(home.path().join("pm2.pid"), std::process::id().to_string()).unwrap();
        assert_eq!(settings(&env).parent_is_pm2, Some(false));
    }
}
