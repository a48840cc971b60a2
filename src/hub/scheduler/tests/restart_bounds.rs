//! What the ledger keeps at most: steps, commands of one agent and of all, and names that are gone.

use std::sync::Arc;

use super::tests::{ack, commanded_at, identify, node, phase, request, story, v2};
use super::*;
use crate::hub::scheduler::restart::RestartStep;

/// The connection breaks and comes back so many times, in the same run.
fn flap(ledger: &mut Restarts, run: &Identify, times: u64, from_ms: u64) {
    for n in 0..times {
        ledger.socket_closed("a", from_ms + n);
        ledger.identified("a", run, from_ms + n);
    }
}

#[test]
fn a_connection_that_flaps_leaves_each_phase_and_the_newest_of_the_rest() {
    let mut ledger = v2();
    ledger.delivered("c1", 1);
    ledger.acknowledged("a", &ack(RestartAckOutcome::Accepted), 2);
    flap(&mut ledger, &identify(Some("boot-1")), 500, 10);
    ledger.identified("a", &identify(Some("boot-2")), 600);
    let told = story(&ledger);
    let first: Vec<&str> = told.iter().take(3).map(|(name, _)| name.as_str()).collect();
    assert_eq!(first, ["commanded", "delivered", "accepted"]);
    assert_eq!((told.len(), told.last()), (3 + 24 + 1, Some(&("back".to_owned(), 600))));
    assert_eq!(told[3], ("socket_closed".to_owned(), 10 + 500 - 12), "the newest");
    let shown = crate::protocol::tests::tree(&ledger.get("c1").unwrap().shown());
    assert_eq!(shown["steps_left_out"], 1_000 - 24);
}

#[test]
fn as_many_repeats_as_are_kept_leave_nothing_out() {
    let mut ledger = v2();
    flap(&mut ledger, &identify(Some("boot-1")), 12, 10);
    assert_eq!((story(&ledger).len(), ledger.get("c1").unwrap().steps_left_out), (1 + 24, 0));
}

#[test]
fn repeated_answers_leave_neither_steps_nor_texts() {
    let mut ledger = v2();
    let answer = RestartAck { detail: Some("x".repeat(2_000)), ..ack(RestartAckOutcome::Duplicate) };
    for n in 0..1_000 {
        ledger.acknowledged("a", &answer, n);
    }
    let restart = ledger.get("c1").unwrap();
    assert_eq!((restart.steps.len(), restart.steps_left_out), (2 + 24, 999 - 24));
    assert!(restart.weight() < 5_000, "{}", restart.weight());
}

#[test]
fn last_words_are_known_however_often_the_connection_flaps_after_them() {
    let mut ledger = commanded_at(0, &RunIdentity::of(&node(4)));
    let at = ledger.deadline().unwrap();
    ledger.expire(at);
    for n in 0..300 {
        ledger.draining("a", &Restarting::default(), at + n);
        ledger.socket_closed("a", at + n);
    }
    let announced = story(&ledger).iter().filter(|(name, _)| name == "draining").count();
    assert_eq!((announced, story(&ledger).len()), (1, 3 + 24));
    // pm2's count was reset: only the last words tell that this is another run.
    assert_eq!(ledger.identified("a", &node(0), at + 400), Return::Free);
    let restart = ledger.get("c1").unwrap();
    assert_eq!((restart.phase, restart.gap_ms), (RestartPhase::Back, Some(400 - 299)));
}

/// One command of each of these agents, which has ended.
fn ended(ledger: &mut Restarts, agents: std::ops::Range<u64>) {
    for n in agents {
        let agent_id = format!("a{n}");
        ledger.command(format!("c{n}"), &agent_id, &RunIdentity::of(&identify(Some("boot-1"))), request(false), n);
        ledger.identified(&agent_id, &identify(Some("boot-2")), n);
    }
}

fn ids(ledger: &Restarts) -> BTreeSet<String> {
    ledger.all.values().map(|restart| restart.command_id.clone()).collect()
}

#[test]
fn of_all_agents_together_the_newest_that_have_ended_are_kept_and_every_open_one() {
    let mut ledger = Restarts::load(Vec::new(), Policy { keep_restarts_in_all: 3, ..Policy::default() });
    ledger.command("open".into(), "o", &RunIdentity::default(), request(false), 0);
    ended(&mut ledger, 0..5);
    let changed = ledger.take_dirty();
    assert_eq!(ids(&ledger), ["c2", "c3", "c4", "open"].map(str::to_owned).into());
    assert!(changed.contains("c0") && changed.contains("c4"), "the store must hear of both");
    assert!(ledger.of_agent("a0").is_empty() && ledger.open_for("o").is_some());
}

#[test]
fn what_ends_late_is_among_the_newest() {
    let mut ledger = Restarts::load(Vec::new(), Policy { keep_restarts_in_all: 2, ..Policy::default() });
    ledger.command("late".into(), "o", &RunIdentity::of(&identify(Some("boot-1"))), request(false), 0);
    ledger.expire(ledger.deadline().unwrap());
    ended(&mut ledger, 0..1);
    ledger.take_dirty();
    ledger.identified("o", &identify(Some("boot-2")), 500_000);
    ended(&mut ledger, 1..2);
    ledger.take_dirty();
    assert_eq!(ids(&ledger), ["c1", "late"].map(str::to_owned).into());
}

#[test]
fn of_all_agents_together_so_many_bytes_are_kept_and_the_newest_always() {
    let mut probe = Restarts::load(Vec::new(), Policy::default());
    ended(&mut probe, 0..1);
    let weight = probe.get("c0").unwrap().weight();
    for (bytes, kept) in [(2 * weight, 2), (2 * weight - 1, 1), (1, 1)] {
        let mut ledger = Restarts::load(Vec::new(), Policy { keep_restart_bytes: bytes, ..Policy::default() });
        ended(&mut ledger, 0..4);
        ledger.take_dirty();
        assert_eq!(ids(&ledger).len(), kept, "{bytes} bytes");
        assert!(ledger.get("c3").is_some());
    }
}

#[test]
fn a_store_with_too_much_in_it_is_pruned_at_the_start_the_oldest_end_first() {
    let mut ledger = Restarts::load(Vec::new(), Policy::default());
    ended(&mut ledger, 0..4);
    let mut stored: Vec<Restart> = ledger.all.values().cloned().collect();
    // An older hub kept up to 200 steps.
    let step = |at_ms| Arc::new(RestartStep { step: "sent_again".into(), at_ms, detail: json!(null) });
    stored.iter_mut().for_each(|restart| restart.steps.splice(1..1, (0..190).map(step)).for_each(drop));
    let mut ledger = Restarts::load(stored, Policy { keep_restarts_in_all: 2, ..Policy::default() });
    assert_eq!(ids(&ledger), ["c2", "c3"].map(str::to_owned).into());
    assert_eq!(ledger.take_dirty(), ["c0", "c1"].map(str::to_owned).into());
    let restart = ledger.get("c3").unwrap();
    assert_eq!((restart.steps.len(), restart.steps_left_out), (2 + 24, 190 - 24));
}

#[test]
fn a_restart_of_an_older_hub_has_left_nothing_out() {
    let mut text = serde_json::to_value(v2().get("c1").unwrap()).unwrap();
    text.as_object_mut().unwrap().remove("steps_left_out").unwrap();
    assert_eq!(serde_json::from_value::<Restart>(text).unwrap().steps_left_out, 0);
}

#[test]
fn a_revoked_name_ends_its_open_command_and_nothing_brings_it_back() {
    let mut ledger = v2();
    ledger.take_dirty();
    ledger.revoked("a", 5);
    assert_eq!((phase(&ledger), ledger.open_for("a"), ledger.deadline()), (RestartPhase::Revoked, None, None));
    assert_eq!(story(&ledger).last(), Some(&("revoked".to_owned(), 5)));
    assert!(ledger.take_dirty().contains("c1") && !ledger.awaits_return("a"));
    ledger.acknowledged("a", &ack(RestartAckOutcome::Accepted), 6);
    assert_eq!(ledger.identified("a", &identify(Some("boot-2")), 7), Return::Free);
    assert_eq!(phase(&ledger), RestartPhase::Revoked);
}

#[test]
fn a_name_is_forgotten_with_all_of_its_commands_and_no_other() {
    let mut ledger = v2();
    ended(&mut ledger, 0..1);
    ledger.take_dirty();
    ledger.forget("a");
    ledger.forget("nobody");
    assert_eq!((ids(&ledger), ledger.deadline()), (["c0".to_owned()].into(), None));
    assert!(ledger.open_for("a").is_none() && ledger.index_is_right());
    assert_eq!(ledger.take_dirty(), ["c1".to_owned()].into());
}
