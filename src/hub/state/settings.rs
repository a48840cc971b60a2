//! What an operator set over HTTP, as names and values. It stores nothing; its caller does.

use std::collections::BTreeMap;

/// The repository that a new agent clones: [`Settings::get`].
pub const DEFAULT_REPO: &str = "default_repo";

/// All settings.
#[derive(Debug, Default)]
pub struct Settings {
    all: BTreeMap<String, String>,
    dirty: Vec<(String, String)>,
}

impl Settings {
    /// The settings as they were stored.
    pub fn load(stored: Vec<(String, String)>) -> Self {
        Self { all: stored.into_iter().collect(), dirty: Vec::new() }
    }

    /// One setting.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all.get(name).map(String::as_str)
    }

    /// Sets it.
    pub fn set(&mut self, name: &str, value: &str) {
        self.all.insert(name.to_owned(), value.to_owned());
        self.dirty.push((name.to_owned(), value.to_owned()));
    }

    /// The settings to store since the last call.
    pub fn take_dirty(&mut self) -> Vec<(String, String)> {
        std::mem::take(&mut self.dirty)
    }
}
