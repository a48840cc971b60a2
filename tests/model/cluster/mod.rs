//! Two hubs over one database as a finite model: the shipped scheduler in each hub, the shipped machine in each agent's
//! sidecar, the shipped frames between them; the database, the lease and the gateways are abstract. A hub may take over at
//! any moment, whether or not the lease of the one before it is over: no property may depend on the lease.
//!
//! - [`scopes`]: how much may go wrong, and the rules that can be left out.
//! - [`database`]: the leader's row, the records, and commits that land or not.
//! - [`world`], [`actions`]: states, and what can happen.
//! - [`node`]: a hub's process, one batch after the other.
//! - [`agent`]: a sidecar's process and its connections.
//! - [`judge`]: what must hold.

mod actions;
mod agent;
mod database;
mod judge;
mod node;
pub mod scopes;
mod world;

use std::collections::HashSet;
use std::sync::Mutex;

use stateright::{Checker, Model, Property};

use self::actions::Action;
use self::scopes::Scope;
use self::world::World;
use super::violation::{Violation, violated};

/// The model of one scope.
pub struct Cluster {
    pub scope: Scope,
    /// Digests of states from which everything ends if nothing more goes wrong.
    end_well: Mutex<HashSet<u64>>,
}

impl Cluster {
    pub fn new(scope: &Scope) -> Self {
        Self { scope: scope.clone(), end_well: Mutex::default() }
    }

    /// Nothing more goes wrong from here on. Returns whether everything ends; what is known to do so is not followed
    /// again.
    fn ends_well(&self, world: &World) -> bool {
        let (mut world, mut passed) = (world.clone(), Vec::new());
        for _ in 0..300 {
            let here = world.digest();
            let mut known = self.end_well.lock().expect("nothing panics with it");
            if world.violation.is_some() || world.is_well() || world.is_cut() || known.contains(&here) {
                known.extend(passed);
                return true;
            }
            drop(known);
            passed.push(here);
            let Some(action) = world.well_meant() else { return false };
            world = world.after(action);
        }
        false
    }
}

impl Model for Cluster {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::beginning(&self.scope)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.violation.is_none() && !world.is_cut() {
            world.possible(actions);
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        Some(world.after(action))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let holds = Property::always("holds", |_: &Self, world: &World| world.violation.is_none());
        if self.scope.without.is_some() {
            return vec![holds];
        }
        vec![
            holds,
            Property::always("ends", |model: &Self, world: &World| model.ends_well(world)),
            Property::sometimes("is well", |_: &Self, world: &World| world.is_well()),
        ]
    }
}

/// What an exploration found.
pub struct Found {
    pub states: usize,
    /// The broken property, and what led to it.
    pub broken: Option<(Violation, Vec<String>)>,
}

impl Found {
    /// The counterexample as text: what happened, and the broken property last.
    pub fn told(&self, name: &str) -> String {
        match &self.broken {
            Some((violation, steps)) => {
                format!("# {name}\n{}\n# BROKEN: {}: {}", steps.join("\n"), violation.property, violation.detail)
            }
            None => format!("# {name}\n# nothing is broken in {} states", self.states),
        }
    }
}

/// Explores a scope, up to the first broken property.
pub fn explore(scope: &Scope, threads: usize) -> Found {
    let checker = Cluster::new(scope).checker().threads(threads).spawn_bfs().join();
    let states = checker.unique_state_count();
    for property in ["holds", "ends"] {
        let Some(path) =
            (property == "holds" || scope.without.is_none()).then(|| checker.discovery(property)).flatten()
        else {
            continue;
        };
        let broken = path.last_state().violation.clone();
        let broken = broken.unwrap_or_else(|| violated("ends", "it does not end, although nothing more fails".into()));
        let steps = path.into_actions().into_iter().map(|action| format!("{action:?}")).collect();
        return Found { states, broken: Some((broken, steps)) };
    }
    if scope.without.is_none() {
        assert!(checker.discovery("is well").is_some(), "{}: nothing ended well", scope.name);
    }
    Found { states, broken: None }
}
