//! The settings that an operator made over HTTP, as names and values. The caller stores them.

use imbl::OrdMap;

/// The name of the setting for the repository that a new agent clones.
pub const DEFAULT_REPO: &str = "default_repo";

/// Settings by name. A copy shares them with the original and costs nothing.
pub type SettingsTable = OrdMap<String, String>;

/// All settings, and what is to be stored of them.
#[derive(Debug, Default)]
pub struct Settings {
    all: SettingsTable,
    dirty: Vec<(String, String)>,
}

impl Settings {
    /// Restores the settings from what was stored.
    pub fn load(stored: Vec<(String, String)>) -> Self {
        Self { all: stored.into_iter().collect(), dirty: Vec::new() }
    }

    /// Returns all settings.
    pub fn all(&self) -> &SettingsTable {
        &self.all
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
