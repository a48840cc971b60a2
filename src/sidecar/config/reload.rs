//! What a configuration that was read again changes in a running process, and what waits for a restart. It compares and
//! merges; it reads no file and applies nothing.

use crate::sidecar::config::{Config, ConfigError, Executor, Loaded};

/// A configuration for the running process, and how it came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// What counts from now on: the new values of the keys that can change, the old ones of the others.
    pub config: Config,
    /// The keys that have changed.
    pub changed: Vec<&'static str>,
    /// The keys that differ in the file and keep their old value until a restart.
    pub need_restart: Vec<&'static str>,
}

impl Config {
    /// Reads the same file with the same overrides again.
    ///
    /// # Errors
    /// [`ConfigError`] names the file and everything that is wrong with it.
    pub fn read_again(&self) -> Result<Loaded, ConfigError> {
        Self::load_with(&self.path, &self.overrides)
    }

    /// What `new` makes of this one while the process runs.
    pub fn merge(&self, new: Self) -> Merged {
        let mut merge = Merge { changed: Vec::new(), need_restart: Vec::new() };
        let old = self.clone();
        // Field by field, so that a new key does not compile until it is placed.
        let config = Self {
            path: old.path,
            overrides: old.overrides,
            agent_id: merge.fixed("agent_id", old.agent_id, &new.agent_id),
            token: merge.fixed("token", old.token, &new.token),
            hub_url: merge.fixed("hub_url", old.hub_url, &new.hub_url),
            hub_api_url: merge.live("hub_api_url", &old.hub_api_url, new.hub_api_url),
            repo_dir: merge.live("repo_dir", &old.repo_dir, new.repo_dir),
            reviewer: merge.live("reviewer", &old.reviewer, new.reviewer),
            wake_command: merge.wake_command(old.wake_command, new.wake_command),
            capabilities: merge.fixed("capabilities", old.capabilities, &new.capabilities),
            confirmation_timeout_ms: merge.live(
                "confirmation_timeout_ms",
                &old.confirmation_timeout_ms,
                new.confirmation_timeout_ms,
            ),
            results_dir: merge.fixed("results_dir", old.results_dir, &new.results_dir),
            log_file: merge.fixed("log_file", old.log_file, &new.log_file),
            log_level: merge.live("log_level", &old.log_level, new.log_level),
            ollama_url: merge.fixed("ollama_url", old.ollama_url, &new.ollama_url),
            queue_file: merge.fixed("queue_file", old.queue_file, &new.queue_file),
            restart_deadline_ms: merge.live("restart_deadline_ms", &old.restart_deadline_ms, new.restart_deadline_ms),
            drain_deadline_ms: merge.live("drain_deadline_ms", &old.drain_deadline_ms, new.drain_deadline_ms),
            restart_intensity: merge.live("restart_intensity", &old.restart_intensity, new.restart_intensity),
            wake_retry_delays_ms: merge.live(
                "wake_retry_delays_ms",
                &old.wake_retry_delays_ms,
                new.wake_retry_delays_ms,
            ),
            wake_timeout_ms: merge.live("wake_timeout_ms", &old.wake_timeout_ms, new.wake_timeout_ms),
            progress_interval_ms: merge.live(
                "progress_interval_ms",
                &old.progress_interval_ms,
                new.progress_interval_ms,
            ),
            ping_interval_ms: merge.live("ping_interval_ms", &old.ping_interval_ms, new.ping_interval_ms),
            pong_timeout_ms: merge.live("pong_timeout_ms", &old.pong_timeout_ms, new.pong_timeout_ms),
            reconnect_min_ms: merge.live("reconnect_min_ms", &old.reconnect_min_ms, new.reconnect_min_ms),
            reconnect_max_ms: merge.live("reconnect_max_ms", &old.reconnect_max_ms, new.reconnect_max_ms),
            // The connection's own adapter has its copy.
            connect_timeout_ms: merge.fixed("connect_timeout_ms", old.connect_timeout_ms, &new.connect_timeout_ms),
            identify_timeout_ms: merge.live("identify_timeout_ms", &old.identify_timeout_ms, new.identify_timeout_ms),
            answer_timeout_ms: merge.live("answer_timeout_ms", &old.answer_timeout_ms, new.answer_timeout_ms),
            results_scan_ms: merge.fixed("results_scan_ms", old.results_scan_ms, &new.results_scan_ms),
            max_frame_bytes: merge.fixed("max_frame_bytes", old.max_frame_bytes, &new.max_frame_bytes),
            http_listen: merge.fixed("http_listen", old.http_listen, &new.http_listen),
            http_allow_remote: merge.fixed("http_allow_remote", old.http_allow_remote, &new.http_allow_remote),
            log_format: merge.fixed("log_format", old.log_format, &new.log_format),
            executors: merge.executors(old.executors, new.executors),
            shell_commands: merge.live("shell_commands", &old.shell_commands, new.shell_commands),
            hooks: merge.live("hooks", &old.hooks, new.hooks),
            // The reporter has its copy.
            resource_report_interval_ms: merge.fixed(
                "resource_report_interval_ms",
                old.resource_report_interval_ms,
                &new.resource_report_interval_ms,
            ),
        };
        let Merge { changed, need_restart } = merge;
        Merged { config, changed, need_restart }
    }
}

struct Merge {
    changed: Vec<&'static str>,
    need_restart: Vec<&'static str>,
}

impl Merge {
    fn live<T: PartialEq>(&mut self, key: &'static str, old: &T, new: T) -> T {
        if *old != new {
            self.changed.push(key);
        }
        new
    }

    fn fixed<T: PartialEq>(&mut self, key: &'static str, old: T, new: &T) -> T {
        if old != *new {
            self.need_restart.push(key);
        }
        old
    }

    /// A wake that is planned must find a command: one that is taken out stays until a restart.
    fn wake_command(&mut self, old: Option<String>, new: Option<String>) -> Option<String> {
        match new {
            None => self.fixed("wake_command", old, &None),
            Some(_) => self.live("wake_command", &old, new),
        }
    }

    /// A task that is planned must find its executor.
    fn executors(&mut self, old: Vec<Executor>, new: Vec<Executor>) -> Vec<Executor> {
        let kept = |one: &Executor| new.iter().any(|other| other.target == one.target);
        if old.iter().all(kept) { self.live("executors", &old, new) } else { self.fixed("executors", old, &new) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::logging::LogLevel;

    fn load(text: &str) -> Config {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.json");
        std::fs::write(&file, text).unwrap();
        Config::load(&file).unwrap().config
    }

    const OLD: &str = r#"{"agent_id":"a","token":"secret","hub_url":"ws://h/ws","wake_command":"w"}"#;

    #[test]
    fn what_can_change_changes_and_the_rest_is_named() {
        let old = load(OLD);
        let new = load(
            r#"{"agent_id":"a","token":"another","hub_url":"ws://h/ws","wake_command":"w2","log_level":"debug",
                "results_scan_ms":50,"restart_intensity":{"max":9}}"#,
        );
        let merged = old.merge(new);
        assert_eq!(merged.changed, ["wake_command", "log_level", "restart_intensity"]);
        // Two temporary folders: every path differs.
        assert_eq!(merged.need_restart, ["token", "results_dir", "log_file", "queue_file", "results_scan_ms"]);
        assert_eq!(merged.config.log_level, LogLevel::Debug);
        assert_eq!((&merged.config.token, merged.config.results_scan_ms), (&old.token, old.results_scan_ms));
    }

    #[test]
    fn the_same_again_changes_nothing() {
        let old = load(OLD);
        let merged = old.merge(old.clone());
        assert_eq!((merged.config, merged.changed.len(), merged.need_restart.len()), (old, 0, 0));
    }

    #[test]
    fn a_wake_command_that_is_taken_out_stays_until_a_restart() {
        let old = load(OLD);
        let mut new = old.clone();
        new.wake_command = None;
        let merged = old.merge(new);
        assert_eq!((merged.config, merged.need_restart), (old, vec!["wake_command"]));
    }
}
