//! Which run of each agent identified last, to tell another run from a new connection: pure.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// The largest number of agents that are remembered. Names come and go with their tokens; beyond this all are forgotten,
/// which leaves at most one restart of each uncounted.
const MAX_AGENTS: usize = 200_000;

/// The last run of each agent that names its runs, as a hash.
#[derive(Debug, Default)]
pub(super) struct Runs(HashMap<Box<str>, u64>);

impl Runs {
    /// Records the run of an agent that identified, and returns whether it is another one than before. An agent that
    /// was not seen before has no other run.
    pub(super) fn is_other(&mut self, agent_id: &str, boot_id: &str) -> bool {
        let mut hasher = DefaultHasher::new();
        boot_id.hash(&mut hasher);
        let run = hasher.finish();
        if let Some(last) = self.0.get_mut(agent_id) {
            return std::mem::replace(last, run) != run;
        }
        if self.0.len() >= MAX_AGENTS {
            self.0.clear();
        }
        self.0.insert(agent_id.into(), run);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_run_of_the_same_agent_is_another_one() {
        let mut runs = Runs::default();
        assert!(!runs.is_other("a", "1"), "the first");
        assert!(!runs.is_other("a", "1"), "a new connection");
        assert!(!runs.is_other("b", "2"), "another agent");
        assert!(runs.is_other("a", "3"));
        assert!(!runs.is_other("a", "3"));
    }
}
