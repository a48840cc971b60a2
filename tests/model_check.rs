//! Every interleaving and every crash point within bounds, of the shipped code: what may go wrong stands in
//! `model::scopes`, what is proved and what is assumed in `docs/verification.md`. It does not sample.
//!
//! `MODEL_CHECK=nightly cargo test --test model_check` explores the larger bounds too. `MODEL_SCOPE=name` only one.
//! `MODEL_REPIN=1` writes the numbers of states into `tests/model/states.txt`.

// The figures are the report.
#![allow(clippy::print_stdout)]

mod model;
mod scenario;

use std::collections::HashSet;
use std::fmt::Write as _;
use std::time::Instant;

use model::cluster::scopes::{CLUSTERS, CLUSTERS_NIGHTLY, Scope as ClusterScope, WITHOUT};
use model::cluster::{self, Cluster};
use model::facts::Fact;
use model::graph;
use model::rollout::{self, ROLLOUTS, ROLLOUTS_NIGHTLY};
use model::scope::Scope;
use model::scopes::{CI, NIGHTLY, PINS, pins};
use model::story::tell;
use model::system::System;
use stateright::{Checker, Model};
use strum::IntoEnumIterator;

const STATES_IN_CI: usize = 1_000_000;
/// Up to this many states the whole graph is kept in every CI run.
const GRAPH_IN_CI: usize = 40_000;
/// In the night.
const GRAPH_AT_NIGHT: usize = 600_000;
/// Up to this many, whatever leads to the same state again is followed again.
const TWICE_IN_CI: usize = 12_000;

fn only() -> Option<String> {
    std::env::var("MODEL_SCOPE").ok()
}

fn is_nightly() -> bool {
    std::env::var("MODEL_CHECK").is_ok_and(|value| value == "nightly")
}

/// The named scope, or all that are small enough.
fn scopes_within(states: usize) -> impl Iterator<Item = &'static Scope> {
    let (only, most) = (only(), if is_nightly() { GRAPH_AT_NIGHT } else { states });
    CI.iter().chain(NIGHTLY).filter(move |scope| match &only {
        Some(only) => only == scope.name,
        None => scope.is_within(most),
    })
}

/// One exploration alone is explored in one order, and finds the same counterexample each time.
fn threads() -> usize {
    if only().is_some() { 1 } else { std::thread::available_parallelism().map_or(2, usize::from) }
}

/// Explores all of a scope; a broken property is told as a story.
fn explore(scope: &Scope) -> (usize, Vec<Fact>) {
    let began = Instant::now();
    let checker = System::new(scope.clone()).checker().threads(threads()).spawn_bfs().join();
    let system = checker.model();
    if let Some(path) = checker.discovery(System::HOLDS) {
        panic!("{}", tell(system, scope.name, &path.into_actions()));
    }
    assert!(checker.discovery(System::GOOD_END).is_some(), "{}: nothing ended well", scope.name);
    let states = checker.unique_state_count();
    println!("{states:>9} states, {:>5.1} s: {}", began.elapsed().as_secs_f32(), scope.name);
    (states, system.facts.seen())
}

#[test]
fn every_property_holds_in_every_state_within_bounds() {
    let only = only();
    let began = Instant::now();
    let (mut total, mut seen, mut changed) = (0, HashSet::new(), String::new());
    let mut pins = pins();
    let larger: &[Scope] = if is_nightly() || only.is_some() { NIGHTLY } else { &[] };
    for scope in CI.iter().chain(larger) {
        if only.as_ref().is_some_and(|only| only != scope.name) {
            continue;
        }
        let (states, facts) = explore(scope);
        total += states;
        seen.extend(facts.into_iter().map(|fact| fact as u64));
        let pinned = pins.insert(scope.name.to_owned(), states);
        let not_yet = pinned.is_none() && NIGHTLY.iter().any(|larger| larger.name == scope.name);
        if not_yet {
            println!("{:>9} not pinned yet: {}", "", scope.name);
        } else if pinned != Some(states) {
            let _ = writeln!(changed, "{states} {} (pinned: {})", scope.name, pinned.unwrap_or_default());
        }
    }
    let mut explored = |name: &str, explore: &dyn Fn() -> usize| {
        let began = Instant::now();
        let states = explore();
        println!("{states:>9} states, {:>5.1} s: {name}", began.elapsed().as_secs_f32());
        let pinned = pins.insert(name.to_owned(), states);
        if pinned.is_none() && CLUSTERS_NIGHTLY.iter().any(|larger| larger.name == name) {
            println!("{:>9} not pinned yet: {name}", "");
        } else if pinned != Some(states) {
            let _ = writeln!(changed, "{states} {name} (pinned: {})", pinned.unwrap_or_default());
        }
    };
    let (rollouts, clusters): (&[_], &[_]) =
        if is_nightly() || only.is_some() { (ROLLOUTS_NIGHTLY, CLUSTERS_NIGHTLY) } else { (&[], &[]) };
    let is_meant = |name: &str| only.as_ref().is_none_or(|only| only == name);
    for scope in ROLLOUTS.iter().chain(rollouts).filter(|scope| is_meant(scope.name)) {
        explored(scope.name, &|| rollout::explore(scope, threads()));
    }
    for scope in CLUSTERS.iter().chain(clusters).filter(|scope| is_meant(scope.name)) {
        explored(scope.name, &|| {
            let found = cluster::explore(scope, threads());
            assert!(found.broken.is_none(), "{}", found.told(scope.name));
            found.states
        });
    }
    println!("{total:>9} states in {:.1} s", began.elapsed().as_secs_f32());
    if std::env::var_os("MODEL_REPIN").is_some() {
        let lines = pins.iter().fold(String::new(), |text, (name, states)| format!("{text}{states} {name}\n"));
        std::fs::write(PINS, lines).unwrap();
        return;
    }
    if only.is_none() {
        let missing: Vec<Fact> = Fact::iter().filter(|fact| !seen.contains(&(*fact as u64))).collect();
        assert!(missing.is_empty(), "nowhere did this happen: {missing:?}");
        assert!(total >= STATES_IN_CI, "{total} states are fewer than {STATES_IN_CI}");
    }
    assert!(
        changed.is_empty(),
        "the number of states is another than the pinned one. That is fine if a change in the machine, the hub or the \
         model was meant to change what can happen: `MODEL_REPIN=1 cargo test --test model_check every_property` writes \
         it into tests/model/states.txt.\n{changed}"
    );
}

/// Each rule of the cluster is needed: without it, the shortest way to something that must not be is as long as pinned,
/// and breaks the named property.
#[test]
fn each_rule_of_the_cluster_is_needed() {
    for (scope, breaks, steps) in WITHOUT.iter().filter(|(scope, ..)| only().is_none_or(|only| only == scope.name)) {
        let began = Instant::now();
        let found = cluster::explore(scope, 1);
        let broken = found.broken.as_ref().map(|(violation, way)| (violation.property, way.len()));
        println!("{:>9} states, {:>5.1} s: {}", found.states, began.elapsed().as_secs_f32(), scope.name);
        assert_eq!(broken, Some((*breaks, *steps)), "{}", found.told(scope.name));
    }
}

#[test]
fn from_every_state_the_good_end_stays_in_reach() {
    for scope in scopes_within(GRAPH_IN_CI) {
        let system = System::new(scope.clone());
        let found = graph::explore(&system);
        println!("{:>9} states, {} cut, {} well: {}", found.states, found.cut, found.well, scope.name);
        assert!(found.well > 0, "{}: nothing ended well", scope.name);
        if let Some(way) = found.stuck {
            panic!("no good end can be reached from here\n{}", tell(&system, scope.name, &way));
        }
    }
}

/// States are told apart by a digest. Were something left out of it, an exploration would follow only one of two states
/// that differ.
#[test]
fn states_with_one_digest_act_alike() {
    for scope in scopes_within(TWICE_IN_CI) {
        let system = System::new(scope.clone());
        let found = graph::first_unlike(&system);
        if let Some(unlike) = found {
            let (one, other) = (tell(&system, scope.name, &unlike.one), tell(&system, scope.name, &unlike.other));
            panic!("{}: {:?} makes a difference after\n{one}\nand after\n{other}", scope.name, unlike.action);
        }
    }
    let pins = pins();
    let is_small = |scope: &&ClusterScope| pins.get(scope.name).is_some_and(|states| *states <= TWICE_IN_CI);
    let is_meant = |scope: &&ClusterScope| only().is_none_or(|only| only == scope.name);
    for scope in CLUSTERS.iter().filter(is_small).filter(is_meant) {
        if let Some(unlike) = graph::first_unlike(&Cluster::new(scope)) {
            let graph::Unlike { one, other, action } = unlike;
            panic!("{}: {action:?} makes a difference after\n{one:?}\nand after\n{other:?}", scope.name);
        }
    }
}
