//! Merges a configuration that was read again into that of the running process: what changes now, and what waits for a
//! restart. It applies nothing.

use crate::common::secret::Secret;
use crate::sidecar::config::{Config, ConfigError, Executor, Loaded};

/// The configuration after a reload, with the keys that differ in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// The configuration in force: the new values of the keys that a reload applies, the old ones of the others.
    pub config: Config,
    /// The keys whose new value is applied.
    pub changed: Vec<&'static str>,
    /// The keys that keep their old value until a restart.
    pub need_restart: Vec<&'static str>,
}

impl Config {
    /// Reads the same file with the same overrides again.
    ///
    /// # Errors
    /// Returns a [`ConfigError`] that names the file and everything that is wrong with it.
    pub fn read_again(&self) -> Result<Loaded, ConfigError> {
        Self::load_with(&self.path, &self.overrides)
    }

    /// Merges `new` into this configuration.
    pub fn merge(&self, new: Self) -> Merged {
        let token_from_file = self.token_file.is_some() && self.token_file == new.token_file;
        let mut merge = Merge { changed: Vec::new(), need_restart: Vec::new(), token_from_file };
        let config = self.merge_keys(new, &mut merge);
        let Merge { changed, need_restart, token_from_file: _ } = merge;
        Merged { config, changed, need_restart }
    }
}

/// The keys that differ so far. Its methods return the value of a key that is in force.
pub(super) struct Merge {
    changed: Vec<&'static str>,
    need_restart: Vec<&'static str>,
    /// Whether the token is that of `token_file`, before and after.
    token_from_file: bool,
}

impl Merge {
    /// Applies the new value.
    pub(super) fn live<T: PartialEq>(&mut self, key: &'static str, old: T, new: T) -> T {
        if old != new {
            self.changed.push(key);
        }
        new
    }

    /// Keeps the old value until a restart.
    pub(super) fn restart<T: PartialEq>(&mut self, key: &'static str, old: T, new: T) -> T {
        if old != new {
            self.need_restart.push(key);
        }
        old
    }

    /// Keeps the token until a restart; that of `token_file` until the next connection, for which the file is read.
    pub(super) fn token(&mut self, key: &'static str, old: Secret, new: Secret) -> Secret {
        if self.token_from_file { old } else { self.restart(key, old, new) }
    }

    /// Applies a new command, and keeps one that is removed until a restart: a planned wake must find a command.
    pub(super) fn wake_command(
        &mut self,
        key: &'static str,
        old: Option<String>,
        new: Option<String>,
    ) -> Option<String> {
        if new.is_some() { self.live(key, old, new) } else { self.restart(key, old, new) }
    }

    /// Applies new executors, and keeps the old ones until a restart if one is removed: a planned task must find its
    /// executor.
    pub(super) fn executors(&mut self, key: &'static str, old: Vec<Executor>, new: Vec<Executor>) -> Vec<Executor> {
        let kept = |one: &Executor| new.iter().any(|other| other.target == one.target);
        if old.iter().all(kept) { self.live(key, old, new) } else { self.restart(key, old, new) }
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
