//! The table of moves: what was found is what is allowed, drawn and documented. It judges no single move.

use std::sync::LazyLock;

use strum::IntoEnumIterator;

use super::*;
use crate::machine::invariants::edge_allowed;

/// Found once for all of these tests.
static MOVES: LazyLock<BTreeSet<Move>> = LazyLock::new(moves);

#[test]
fn the_edges_found_are_the_edges_allowed() {
    let pairs = Phase::iter().flat_map(|from| Phase::iter().map(move |to| (from, to)));
    let allowed: BTreeSet<_> = pairs.filter(|(from, to)| from != to && edge_allowed(*from, *to)).collect();
    assert_eq!(edges(&MOVES), allowed);
}

#[test]
fn everything_that_can_happen_happened_in_every_state() {
    for phase in Phase::iter() {
        for name in EventName::iter().map(<&str>::from) {
            assert!(MOVES.iter().any(|step| step.from == phase && step.event == name), "{name} in {phase}");
        }
        for name in FromHubName::iter().map(<&str>::from) {
            assert!(MOVES.iter().any(|step| step.from == phase && step.said == Some(name)), "{name} in {phase}");
        }
    }
}

#[test]
fn the_diagram_draws_what_was_found_and_nothing_else() {
    let (all, none) = (mermaid(&MOVES), mermaid(&BTreeSet::new()));
    assert_eq!((all.lines().count(), none.lines().count()), (1 + 2 + DRAWN.len() + 1, 1 + 2 + 1));
    let edge = "    Idle --> Working: a task is assigned";
    assert!(all.lines().any(|line| line == edge) && !none.contains(edge));
    assert!(none.starts_with("stateDiagram-v2\n    [*] --> Idle: ") && none.ends_with("    Exiting --> [*]\n"));
}

#[test]
fn a_restart_that_is_refused_moves_nothing() {
    let said = Some(FromHubName::RestartCommanded.into());
    for phase in [Phase::Idle, Phase::Working] {
        assert!(MOVES.contains(&Move { from: phase, event: EventName::HubSaid.into(), said, to: phase }));
    }
}

#[test]
fn the_hub_may_hand_the_task_in_hand_out_again_and_anew() {
    let (machine, _) = Machine::recover(Journal::default(), Timestamp::default(), &Policy::default());
    let mut generations = Vec::new();
    for said in hub_messages(&machine) {
        if let FromHub::Assigned { task, .. } = said
            && task.id.as_str() == "t"
        {
            generations.push(task.generation);
        }
    }
    assert_eq!(generations, [1, 2]);
}

#[test]
fn every_drawn_edge_was_found() {
    let found = edges(&MOVES);
    assert!(DRAWN.iter().all(|(from, to, _)| found.contains(&(*from, *to))));
}
