//! Every interleaving and every crash point within bounds, of the shipped code: what may go wrong stands in
//! `model::scopes`, what is proved and what is assumed in `docs/verification.md`. It does not sample.
//!
//! `MODEL_CHECK=nightly cargo test --test model_check` explores the larger bounds too. `MODEL_SCOPE=name` only one.

mod model;
mod scenario;

use std::collections::HashSet;
use std::time::Instant;

use model::facts::Fact;
use model::graph;
use model::scope::Scope;
use model::scopes::{CI, NIGHTLY};
use model::story::tell;
use model::system::System;
use stateright::{Checker, Model};
use strum::IntoEnumIterator;

const STATES_IN_CI: usize = 1_000_000;

/// Explores all of a scope; a broken property is told as a story.
fn explore(scope: &Scope) -> (usize, Vec<Fact>) {
    let began = Instant::now();
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let checker = System::new(scope.clone()).checker().threads(threads).spawn_bfs().join();
    let system = checker.model();
    if let Some(path) = checker.discovery(System::HOLDS) {
        panic!("{}", tell(system, scope.name, &path.into_actions()));
    }
    assert!(checker.discovery(System::GOOD_END).is_some(), "{}: nothing ended well", scope.name);
    let states = checker.unique_state_count();
    println!(
        "{states:>9} states, depth {:>3}, {:>5.1} s: {}",
        checker.max_depth(),
        began.elapsed().as_secs_f32(),
        scope.name
    );
    (states, system.facts.seen())
}

#[test]
fn every_property_holds_in_every_state_within_bounds() {
    let nightly = std::env::var("MODEL_CHECK").is_ok_and(|value| value == "nightly");
    let only = std::env::var("MODEL_SCOPE").ok();
    let began = Instant::now();
    let (mut total, mut seen, mut changed) = (0, HashSet::new(), Vec::new());
    let larger: &[(Scope, usize)] = if nightly { NIGHTLY } else { &[] };
    for (scope, pinned) in CI.iter().chain(larger) {
        if only.as_ref().is_some_and(|only| only != scope.name) {
            continue;
        }
        let (states, facts) = explore(scope);
        total += states;
        seen.extend(facts.into_iter().map(|fact| fact as u64));
        if states != *pinned {
            changed.push(format!("{:?}: pinned {pinned}, found {states}", scope.name));
        }
    }
    println!("{total:>9} states in {:.1} s", began.elapsed().as_secs_f32());
    if only.is_some() {
        return;
    }
    let missing: Vec<Fact> = Fact::iter().filter(|fact| !seen.contains(&(*fact as u64))).collect();
    assert!(missing.is_empty(), "nowhere did this happen: {missing:?}");
    assert!(total >= STATES_IN_CI, "{total} states are fewer than {STATES_IN_CI}");
    assert!(
        changed.is_empty(),
        "the number of states is another than the pinned one. That is fine if a change in the machine, the hub or the \
         model was meant to change what can happen: write the new figures into tests/model/scopes.rs.\n{}",
        changed.join("\n")
    );
}

#[test]
fn from_every_state_the_good_end_stays_in_reach() {
    for (scope, _) in CI.iter().filter(|(scope, _)| scope.is_small()) {
        let system = System::new(scope.clone());
        let found = graph::explore(&system);
        println!("{:>9} states, {} cut, {} well: {}", found.states, found.cut, found.well, scope.name);
        assert!(found.well > 0, "{}: nothing ended well", scope.name);
        if let Some(way) = found.stuck {
            panic!("no good end can be reached from here\n{}", tell(&system, scope.name, &way));
        }
    }
}
