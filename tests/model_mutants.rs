//! The check of the check: every mistake that can be switched on in the core (feature `seeded-bugs`) is caught by a
//! property, in the first exploration of its list that can show it. Prints which property caught which.

mod model;
mod scenario;

use agentcom::machine::SeededBug;
use model::scope::{Budget, HubKind, Scope};
use model::scopes::NOTHING;
use model::story::tell;
use model::system::System;
use stateright::{Checker, Model};
use strum::IntoEnumIterator;

/// What has to go right or wrong for the mistake to show.
fn shows_in(bug: SeededBug) -> Scope {
    let ours = |budget| Scope::new("seeded", HubKind::Ours, budget);
    let legacy = |budget| Scope::new("seeded", HubKind::Legacy, budget);
    let restart = Budget { commands: 1, ..NOTHING };
    match bug {
        SeededBug::AcceptBeforePersist | SeededBug::VerdictBeforePersist | SeededBug::OutboxClearedAtSend => {
            ours(NOTHING)
        }
        SeededBug::DeadlineMovedByRepeat => legacy(Budget { breaks: 1, ..restart }),
        // A task is cancelled while its verdict is under way, and the next one handed out before the verdict is answered.
        // (The shipped hub hands nothing out to an agent that it commands to restart.)
        SeededBug::AssignedWhileDraining => {
            Scope { generations: 2, ..legacy(Budget { cancels: 1, submits: 1, ..restart }) }
        }
        SeededBug::DrainWithoutEnd => ours(Budget { delays: 1, ..restart }),
        SeededBug::RestartForgottenOnResult
        | SeededBug::ExitBeforeClose
        | SeededBug::AnnouncedTwice
        | SeededBug::NeverAnnounced
        | SeededBug::RestartDeadlineIgnored => ours(restart),
        SeededBug::RestartForgottenOnCancel => ours(Budget { cancels: 1, ..restart }),
        SeededBug::JournalWithoutGeneration | SeededBug::WakeRepeatedAfterCrash => {
            ours(Budget { crashes: 1, ..NOTHING })
        }
        SeededBug::StaleAbortDropsAdopted => legacy(Budget { breaks: 1, ..NOTHING }),
        // The timer runs out before the hub sees the end of the connection before.
        SeededBug::ContinueWithoutReaccept => legacy(Budget { breaks: 1, delays: 1, ..NOTHING }),
        SeededBug::ShelfNotJournalled => legacy(Budget { breaks: 1, crashes: 1, ..NOTHING }),
        SeededBug::ForceIgnored => ours(Budget { forced: 1, ..restart }),
        SeededBug::IntensityNotJournalled => Scope { intensity: 1, ..ours(Budget { commands: 2, ..NOTHING }) },
        SeededBug::HeldAssignmentLost => {
            Scope { generations: 2, ..legacy(Budget { stops: 1, submits: 1, cancels: 1, ..NOTHING }) }
        }
        SeededBug::StopDropsTheJob => ours(Budget { stops: 1, ..NOTHING }),
        SeededBug::CleanUpBeforePersist => ours(NOTHING),
        SeededBug::FailedWriteCounts => ours(Budget { disk_faults: 1, ..NOTHING }),
        SeededBug::OldSignBelieved => ours(Budget { reboots: 1, failed_wakes: 1, ..NOTHING }),
        SeededBug::LatecomerForgotten => ours(Budget { no_shows: 1, crashes: 1, ..NOTHING }),
        SeededBug::AdoptedWorkWokenAgain => legacy(Budget { breaks: 1, ..NOTHING }),
    }
}

/// The property that caught the mistake, and after how many states.
fn catch(bug: SeededBug) -> Option<(&'static str, usize, String)> {
    let system = System::with_policy(shows_in(bug), |policy| policy.bug = Some(bug));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let checker = system.checker().threads(threads).spawn_bfs().join();
    let path = checker.discovery(System::HOLDS)?;
    let property = path.last_state().violation.as_ref()?.property;
    let name: &'static str = bug.into();
    Some((property, checker.unique_state_count(), tell(checker.model(), name, &path.into_actions())))
}

#[test]
fn every_seeded_bug_is_caught() {
    let mut missed = Vec::new();
    println!("| mistake | caught by | after states |\n|---|---|---|");
    for bug in SeededBug::iter() {
        match catch(bug) {
            Some((property, states, _)) => println!("| {bug:?} | {property} | {states} |"),
            None => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "nothing caught {missed:?}");
}

/// A counterexample is a scenario file that only lacks its place in `tests/scenarios`.
#[test]
fn a_counterexample_is_a_story_that_can_be_played() {
    let (_, _, story) = catch(SeededBug::ExitBeforeClose).unwrap();
    let played = scenario::story::play(&story);
    assert_eq!(played.trouble, None, "{story}");
    assert!(story.contains("hub restart"), "{story}");
    assert!(story.contains("# BROKEN: last_words_arrive"), "{story}");
    assert!(story.contains("Send agent_restarting"), "{story}");
}
