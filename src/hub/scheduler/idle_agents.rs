//! The queue of idle agents, longest idle first. It keeps only the order; the scheduler decides which agents are idle.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// An agent's position: a number that grows with each agent that becomes idle.
type Place = u64;

/// Agents in the order of their places.
type Line = BTreeSet<(Place, Arc<str>)>;

/// Agents that could take a task and found none that they can do.
#[derive(Debug, Clone, Default)]
pub struct IdleAgents {
    all: Line,
    /// The agents with each capability, so that none without it is looked at.
    by_capability: HashMap<String, Line>,
    /// Each agent's place and capabilities.
    members: HashMap<Arc<str>, (Place, Arc<BTreeSet<String>>)>,
    next: Place,
}

impl IdleAgents {
    /// Adds the agent at the end; an agent that is present keeps its position.
    pub fn join(&mut self, agent_id: &str, capabilities: &Arc<BTreeSet<String>>) {
        let place = match self.members.get(agent_id) {
            Some((_, known)) if known == capabilities => return,
            Some((place, _)) => *place,
            None => {
                self.next += 1;
                self.next
            }
        };
        self.leave(agent_id);
        let agent_id: Arc<str> = agent_id.into();
        let entry = (place, agent_id.clone());
        for capability in capabilities.iter() {
            self.by_capability.entry(capability.clone()).or_default().insert(entry.clone());
        }
        self.all.insert(entry);
        self.members.insert(agent_id, (place, capabilities.clone()));
    }

    /// Removes the agent, if it is present.
    pub fn leave(&mut self, agent_id: &str) {
        let Some((agent_id, (place, capabilities))) = self.members.remove_entry(agent_id) else { return };
        let entry = (place, agent_id);
        for capability in capabilities.iter() {
            if let Some(line) = self.by_capability.get_mut(capability) {
                line.remove(&entry);
                if line.is_empty() {
                    self.by_capability.remove(capability);
                }
            }
        }
        self.all.remove(&entry);
    }

    /// Returns whether the agent is idle.
    pub fn contains(&self, agent_id: &str) -> bool {
        self.members.contains_key(agent_id)
    }

    /// Returns the agent that has all of these capabilities and is idle for the longest time.
    pub fn first_with(&self, needed: &BTreeSet<String>) -> Option<&str> {
        let lines: Option<Vec<&Line>> = needed.iter().map(|capability| self.by_capability.get(capability)).collect();
        // The shortest line has everybody who comes into question.
        let shortest = lines?.into_iter().min_by_key(|line| line.len()).unwrap_or(&self.all);
        let has_all = |agent_id: &str| self.members.get(agent_id).is_some_and(|(_, has)| needed.is_subset(has));
        shortest.iter().map(|(_, agent_id)| agent_id.as_ref()).find(|agent_id| has_all(agent_id))
    }

    /// Returns the agents in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(|(_, agent_id)| agent_id.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> Arc<BTreeSet<String>> {
        Arc::new(names.iter().map(|name| (*name).to_owned()).collect())
    }

    fn line() -> IdleAgents {
        let mut line = IdleAgents::default();
        for (agent_id, has) in [("d", vec![]), ("c", vec!["x"]), ("b", vec!["x", "y"]), ("a", vec!["x", "y", "z"])] {
            line.join(agent_id, &set(&has));
        }
        line
    }

    #[test]
    fn the_first_that_can_is_the_one_that_is_idle_for_the_longest_time() {
        let first = |needed: &[&str]| line().first_with(&set(needed)).map(str::to_owned);
        assert_eq!(
            [first(&[]), first(&["x"]), first(&["x", "y"]), first(&["z"]), first(&["x", "q"])],
            [Some("d".into()), Some("c".into()), Some("b".into()), Some("a".into()), None]
        );
    }

    #[test]
    fn who_joins_again_keeps_its_place_also_with_other_capabilities() {
        let mut line = line();
        line.join("c", &set(&["q"]));
        assert_eq!(line.iter().collect::<Vec<_>>(), ["d", "c", "b", "a"]);
        assert_eq!((line.first_with(&set(&["q"])), line.first_with(&set(&["x"]))), (Some("c"), Some("b")));
    }

    #[test]
    fn who_has_left_is_nowhere() {
        let mut line = line();
        ["a", "b", "c", "d", "nobody"].iter().for_each(|agent_id| line.leave(agent_id));
        assert!(line.iter().next().is_none() && line.by_capability.is_empty() && !line.contains("a"));
        assert_eq!(line.first_with(&set(&["x"])), None);
    }
}
