//! This process's identity in pm2, from the environment only. pm2 is not asked.

/// This process's name and id in pm2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessIdentity {
    /// The name, if it is in the environment.
    pub name: Option<String>,
    /// The source of the name.
    pub source: NameSource,
    /// pm2's id, the only thing that distinguishes two instances of one name. `None` if pm2 did not start this process.
    pub pm_id: Option<u32>,
    /// The process id.
    pub pid: u32,
}

/// The source of a process name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameSource {
    /// `PM2_PROCESS_NAME`, which `ecosystem.config.js` sets.
    ProcessNameVariable,
    /// `name`, which pm2 exports along with `pm_id`.
    Pm2Environment,
    /// Not in the environment; `pm2 jlist` may have it.
    Unknown,
}

impl ProcessIdentity {
    /// Reads `PM2_PROCESS_NAME`, `pm_id` and `name`. A `name` without a `pm_id` is not pm2's variable.
    pub fn from_env(env: impl Fn(&str) -> Option<String>) -> Self {
        let filled = |key: &str| env(key).filter(|value| !value.trim().is_empty());
        let pm_id = filled("pm_id").and_then(|value| value.trim().parse().ok());
        let (name, source) = match (filled("PM2_PROCESS_NAME"), pm_id.and_then(|_| filled("name"))) {
            (Some(name), _) => (Some(name), NameSource::ProcessNameVariable),
            (None, Some(name)) => (Some(name), NameSource::Pm2Environment),
            (None, None) => (None, NameSource::Unknown),
        };
        Self { name, source, pm_id, pid: std::process::id() }
    }

    /// Returns whether pm2's variables are in the environment.
    pub fn under_pm2(&self) -> bool {
        self.pm_id.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(variables: &[(&str, &str)]) -> ProcessIdentity {
        ProcessIdentity::from_env(|key| {
            variables.iter().find(|(name, _)| *name == key).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_configured_name_wins() {
        let us = identity(&[("PM2_PROCESS_NAME", "mine"), ("name", "theirs"), ("pm_id", "3")]);
        assert_eq!((us.name.as_deref(), us.source, us.pm_id), (Some("mine"), NameSource::ProcessNameVariable, Some(3)));
    }

    #[test]
    fn pm2s_own_name_comes_next() {
        let us = identity(&[("PM2_PROCESS_NAME", ""), ("name", "probe one"), ("pm_id", "0")]);
        assert_eq!((us.name.as_deref(), us.source), (Some("probe one"), NameSource::Pm2Environment));
    }

    #[test]
    fn a_name_without_a_number_is_not_pm2s() {
        let us = identity(&[("name", "someone")]);
        assert_eq!((us.name.as_deref(), us.source, us.under_pm2()), (None, NameSource::Unknown, false));
    }

    #[test]
    fn a_number_that_is_none_counts_as_absent() {
        assert_eq!(identity(&[("pm_id", "_old_3"), ("name", "x")]).pm_id, None);
    }
}
