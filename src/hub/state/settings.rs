//! The settings that an operator made over HTTP, as names and values. The caller stores them.

use std::collections::BTreeMap;

/// The name of the setting for the repository that a new agent clones.
pub const DEFAULT_REPO: &str = "default_repo";

/// All settings.
#[derive(Debug, Default)]
pub struct Settings {
    all: BTreeMap<String, String>,
    dirty: Vec<(String, String)>,
}

impl Settings {
    /// Restores the settings from what was stored.
    pub fn load(stored: Vec<(String, String)>) -> Self {
        Self { all: stored.into_iter().collect(), dirty: Vec::new() }
    }

    /// Returns the value of a setting.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all.get(name).map(String::as_str)
    }

    /// Sets a setting.
    pub fn set(&mut self, name: &str, value: &str) {
        self.all.insert(name.to_owned(), value.to_owned());
        self.dirty.push((name.to_owned(), value.to_owned()));
    }

    /// Returns the settings to store since the last call.
    pub fn take_dirty(&mut self) -> Vec<(String, String)> {
        std::mem::take(&mut self.dirty)
    }
}
