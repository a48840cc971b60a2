use std::collections::BTreeMap;

use super::*;

/// The outcomes of contests between `a` and `b` at these times, each begun by the run that is not connected.
fn contests(rivals: &mut Rivals, holder: Option<&str>, times: &[u64]) -> Vec<Outcome> {
    let (mut old, mut new) = ("a", "b");
    let decide = |at: &u64| {
        let outcome = rivals.decide("x", Contest { old, old_since: 0, new, holder }, *at + 1);
        if outcome != Outcome::Refused {
            std::mem::swap(&mut old, &mut new);
        }
        outcome
    };
    times.iter().map(decide).collect()
}

use Outcome::{Refused, Replaces, ReplacesRival};

#[test]
fn the_run_that_was_connected_longer_stays_after_three_replacements() {
    let outcomes = contests(&mut Rivals::default(), None, &[0, 1_000, 2_000, 3_000, 4_000]);
    // The fourth is of `a`, which was there first; then `b` is refused.
    assert_eq!(outcomes, [Replaces, ReplacesRival, ReplacesRival, ReplacesRival, Refused]);
}

#[test]
fn the_holder_of_the_task_stays() {
    let outcomes = contests(&mut Rivals::default(), Some("b"), &[0, 1_000, 2_000, 3_000, 70_000]);
    assert_eq!(outcomes, [Replaces, ReplacesRival, ReplacesRival, Refused, Refused]);
}

#[test]
fn replacements_more_than_a_minute_apart_do_not_count() {
    let outcomes = contests(&mut Rivals::default(), None, &[0, 30_000, 60_000, 90_000, 120_000]);
    assert!(outcomes.iter().all(|outcome| *outcome != Refused), "{outcomes:?}");
}

#[test]
fn who_is_refused_may_come_when_the_other_has_left() {
    let mut rivals = Rivals::default();
    contests(&mut rivals, Some("b"), &[0, 1_000, 2_000, 3_000]);
    let contest = Contest { old: "b", old_since: 0, new: "a", holder: None };
    assert_eq!(rivals.decide("x", contest, 120_000), Refused);
    rivals.disconnected("x");
    assert_eq!(rivals.decide("x", contest, 120_000), Replaces);
}

#[test]
fn a_third_run_is_not_refused_for_two_others() {
    let mut rivals = Rivals::default();
    contests(&mut rivals, Some("b"), &[0, 1_000, 2_000, 3_000]);
    assert_eq!(rivals.decide("x", Contest { old: "b", old_since: 0, new: "c", holder: Some("b") }, 3_000), Replaces);
}

/// `a`, which stays, loses its connection for a moment; `b` comes in, and both compete anew.
#[test]
fn the_run_that_was_there_first_stays_also_after_its_connection_broke() {
    let mut rivals = Rivals::default();
    assert_eq!(contests(&mut rivals, None, &[0, 1_000, 2_000, 3_000, 4_000]).last(), Some(&Refused));
    rivals.disconnected("x");
    let hour = 3_600_000;
    let mut decide =
        |old, new, at: u64| rivals.decide("x", Contest { old, old_since: hour, new, holder: None }, hour + at);
    let outcomes = [decide("b", "a", 0), decide("a", "b", 1_000), decide("b", "a", 2_000), decide("a", "b", 3_000)];
    assert_eq!(outcomes, [Replaces, ReplacesRival, ReplacesRival, Refused]);
}

/// A wait of a minute for each refused one, of a second for each replaced one.
#[test]
fn of_three_runs_one_stays_and_the_others_are_refused() {
    let (mut rivals, mut connected) = (Rivals::default(), "a");
    let mut due = BTreeMap::from([("b", 0), ("c", 500)]);
    let mut refused = Vec::new();
    for _ in 0..40 {
        let (new, at) = due.iter().min_by_key(|(_, at)| **at).map(|(run, at)| (*run, *at)).unwrap();
        due.remove(new);
        let contest = Contest { old: connected, old_since: 0, new, holder: None };
        if rivals.decide("x", contest, at) == Refused {
            due.insert(new, at + 60_000);
            refused.push(new);
        } else {
            due.insert(connected, at + 1_000);
            refused.clear();
            connected = new;
        }
    }
    assert_eq!(connected, "a");
    assert!(refused.len() >= 20, "they never settled: {refused:?}");
}

#[test]
fn a_run_that_begins_again_and_again_costs_bounded_memory() {
    let mut rivals = Rivals::default();
    for n in 0..1_000 {
        let run = format!("b{n}");
        for (old, new) in [("a", &*run), (&*run, "a")] {
            rivals.decide("x", Contest { old, old_since: 0, new, holder: None }, n);
        }
    }
    let rivalry = &rivals.by_agent["x"];
    assert_eq!((rivalry.runs.len(), rivalry.replacements.len()), (MAX_RUNS, MAX_KEPT));
    assert_eq!(rivalry.since("a"), 0, "the one that competes all the time is known");
}

#[test]
fn a_storm_of_conflicts_is_logged_once_a_minute() {
    let mut rivals = Rivals::default();
    let logged = (0..1_000).filter(|n| rivals.record_conflict("x", ["1", "2"], n * 250)).count();
    assert_eq!(logged, 5, "250 s");
    assert!(rivals.record_conflict("y", ["1", "2"], 0), "another agent");
}

#[test]
fn a_conflict_is_shown_while_it_is_recent() {
    let mut rivals = Rivals::default();
    rivals.record_conflict("x", ["1", "2"], 1_000);
    let shown = |at| rivals.recent_conflict("x", at).map(|past| past.addresses.clone());
    assert_eq!(shown(1_000 + RECENT_CONFLICT_MS - 1), Some(["1".into(), "2".into()]));
    assert_eq!(shown(1_000 + RECENT_CONFLICT_MS), None);
}

#[test]
fn the_agent_whose_last_contest_is_longest_ago_is_forgotten_first_once_there_are_too_many() {
    let mut rivals = Rivals::default();
    let contest = Contest { old: "a", old_since: 0, new: "b", holder: None };
    for n in 0..=MAX_AGENTS as u64 {
        rivals.decide(&format!("agent-{n}"), contest, n);
        rivals.record_conflict("agent-0", ["here", "there"], n);
    }
    assert_eq!(rivals.agents(), MAX_AGENTS);
    let now_ms = MAX_AGENTS as u64;
    assert!(rivals.recent_conflict("agent-0", now_ms).is_some(), "it has had another since");
    let known = |n: u64| rivals.by_agent.contains_key(format!("agent-{n}").as_str());
    assert_eq!([known(0), known(1), known(2), known(now_ms)], [true, false, true, true]);
}

#[test]
fn what_is_forgotten_counts_no_more() {
    let mut rivals = Rivals::default();
    contests(&mut rivals, None, &[0, 1_000, 2_000]);
    rivals.forget("x");
    rivals.forget("nobody");
    assert_eq!((rivals.agents(), contests(&mut rivals, None, &[3_000])), (0, vec![Replaces]));
}
