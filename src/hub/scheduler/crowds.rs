//! The connected agents, counted by the capabilities that they have: whether anybody could do a task is answered without
//! looking at each of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::OrdMap;

/// The connected agents with the same capabilities.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Crowd {
    /// How many there are.
    pub connected: usize,
    /// How many of them take no task, by the wish of somebody on their machines or at the hub.
    pub cordoned: usize,
}

/// All connected agents. A copy shares them with the original and costs nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Crowds(OrdMap<Arc<BTreeSet<String>>, Crowd>);

impl Crowds {
    /// Counts an agent that connected, and returns its capabilities as they are shared by all that have the same.
    pub fn join(&mut self, capabilities: BTreeSet<String>) -> Arc<BTreeSet<String>> {
        let known = self.0.get_key_value(&capabilities).map(|(known, _)| known.clone());
        let shared = known.unwrap_or_else(|| Arc::new(capabilities));
        self.0.entry(shared.clone()).or_default().connected += 1;
        shared
    }

    /// Counts an agent that left.
    pub fn leave(&mut self, capabilities: &BTreeSet<String>, cordoned: bool) {
        let Some(crowd) = self.0.get_mut(capabilities) else { return };
        crowd.connected = crowd.connected.saturating_sub(1);
        crowd.cordoned = crowd.cordoned.saturating_sub(usize::from(cordoned));
        if crowd.connected == 0 {
            self.0.remove(capabilities);
        }
    }

    /// Counts an agent that takes no task from now on, or does again.
    pub fn cordon(&mut self, capabilities: &BTreeSet<String>, on: bool) {
        let Some(crowd) = self.0.get_mut(capabilities) else { return };
        crowd.cordoned = if on { crowd.cordoned + 1 } else { crowd.cordoned.saturating_sub(1) };
    }

    /// Returns how many connected agents have all of these capabilities.
    pub fn with(&self, needed: &BTreeSet<String>) -> Crowd {
        let able = self.0.iter().filter(|(has, _)| needed.is_subset(has));
        able.fold(Crowd::default(), |sum, (_, crowd)| Crowd {
            connected: sum.connected + crowd.connected,
            cordoned: sum.cordoned + crowd.cordoned,
        })
    }

    /// Returns those of these capabilities that no connected agent has.
    pub fn missing<'a>(&self, needed: &'a BTreeSet<String>) -> Vec<&'a str> {
        let has = |capability: &&String| self.0.keys().any(|has| has.contains(*capability));
        needed.iter().filter(|capability| !has(capability)).map(String::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn it_counts_who_has_all_and_names_what_nobody_has() {
        let mut crowds = Crowds::default();
        let first = crowds.join(set(&["code", "gpu"]));
        assert!(Arc::ptr_eq(&first, &crowds.join(set(&["code", "gpu"]))));
        crowds.join(set(&["code"]));
        crowds.cordon(&set(&["code"]), true);
        let count = |needed: &[&str]| {
            let Crowd { connected, cordoned } = crowds.with(&set(needed));
            (connected, cordoned)
        };
        assert_eq!([count(&[]), count(&["code"]), count(&["gpu"]), count(&["x"])], [(3, 1), (3, 1), (2, 0), (0, 0)]);
        assert_eq!(crowds.missing(&set(&["code", "gpu", "x", "y"])), ["x", "y"]);
        crowds.leave(&set(&["code"]), true);
        crowds.leave(&set(&["code", "gpu"]), false);
        crowds.leave(&set(&["code", "gpu"]), false);
        assert_eq!(crowds, Crowds::default());
    }
}
