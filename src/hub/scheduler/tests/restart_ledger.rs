use super::*;
use crate::protocol::{Pm2Info, Restarted};

pub(super) fn request(force: bool) -> RestartRequest {
    RestartRequest { reason: "update".into(), deadline_ms: None, force, by: "ops".into() }
}

pub(super) fn identify(boot_id: Option<&str>) -> Identify {
    Identify { agent_id: "a".into(), boot_id: boot_id.map(str::to_owned), ..Identify::default() }
}

pub(super) fn node(restart_count: u64) -> Identify {
    let pm2_info = Some(Pm2Info { restart_count: Some(restart_count), ..Pm2Info::default() });
    Identify { pm2_info, ..identify(None) }
}

pub(super) fn commanded_at(now_ms: u64, run: &RunIdentity) -> Restarts {
    let mut ledger = Restarts::load(Vec::new(), Policy::default());
    let commanded = ledger.command("c1".into(), "a", run, request(false), now_ms);
    assert!(commanded.send && !commanded.repeated);
    ledger
}

pub(super) fn v2() -> Restarts {
    commanded_at(0, &RunIdentity::of(&identify(Some("boot-1"))))
}

pub(super) fn ack(outcome: RestartAckOutcome) -> RestartAck {
    RestartAck { command_id: "c1".into(), outcome, detail: Some("why".into()), deadline_ms: None, retry_after_ms: None }
}

pub(super) fn phase(ledger: &Restarts) -> RestartPhase {
    ledger.get("c1").unwrap().phase
}

pub(super) fn story(ledger: &Restarts) -> Vec<(String, u64)> {
    ledger.get("c1").unwrap().steps.iter().map(|step| (step.step.clone(), step.at_ms)).collect()
}

#[test]
fn the_whole_way_there_and_back_with_the_gap() {
    let mut ledger = v2();
    ledger.delivered("c1", 1);
    ledger.acknowledged("a", &ack(RestartAckOutcome::Accepted), 2);
    ledger.draining("a", &Restarting { command_id: Some("c1".into()), ..Restarting::default() }, 100);
    assert!(ledger.socket_closed("a", 103));
    let restarted = Restarted { command_id: Some("c1".into()), gap_ms: 38, ..Restarted::default() };
    let back = Identify { restarted: Some(restarted), ..identify(Some("boot-2")) };
    assert_eq!(ledger.identified("a", &back, 140), Return::Free);
    let restart = ledger.get("c1").unwrap();
    assert_eq!((restart.gap_ms, restart.reported_gap_ms), (Some(40), Some(38)));
    assert_eq!(restart.boot_after.as_deref(), Some("boot-2"));
    let names: Vec<String> = story(&ledger).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["commanded", "delivered", "accepted", "draining", "exiting", "back"]);
    assert!(ledger.open_for("a").is_none());
}

#[test]
fn a_return_is_awaited_from_the_command_until_it_ends() {
    assert!(!Restarts::load(Vec::new(), Policy::default()).awaits_return("a"));
    let mut ledger = v2();
    assert!(ledger.awaits_return("a") && !ledger.awaits_return("b"));
    ledger.socket_closed("a", 103);
    ledger.expire(u64::MAX / 2);
    assert!(ledger.awaits_return("a"), "it may still come late");
    ledger.identified("a", &identify(Some("boot-2")), 140);
    assert!(!ledger.awaits_return("a"));
}

#[test]
fn a_second_command_is_the_first_one_and_is_not_sent() {
    let mut ledger = v2();
    let second = ledger.command("c2".into(), "a", &RunIdentity::default(), request(false), 5);
    assert_eq!((second.command_id.as_str(), second.send, second.repeated), ("c1", false, true));
    assert!(ledger.get("c2").is_none());
}

#[test]
fn force_upgrades_the_open_command_once_and_shortens_its_patience() {
    let mut ledger = v2();
    let before = ledger.get("c1").unwrap().overdue_at;
    let forced = ledger.command("c2".into(), "a", &RunIdentity::default(), request(true), 5);
    assert_eq!((forced.command_id.as_str(), forced.send), ("c1", true));
    let open = ledger.get("c1").unwrap();
    assert!(open.force && open.overdue_at < before);
    assert_eq!(open.overdue_at, 5 + 5_000 + 15_000);
    assert!(!ledger.command("c3".into(), "a", &RunIdentity::default(), request(true), 6).send);
}

#[test]
fn a_refusal_ends_the_fence() {
    let mut ledger = v2();
    assert!(ledger.acknowledged("a", &ack(RestartAckOutcome::Refused), 2));
    assert_eq!(phase(&ledger), RestartPhase::Refused);
    assert!(ledger.open_for("a").is_none());
}

#[test]
fn a_duplicate_before_the_return_is_a_promise_not_an_end() {
    let mut ledger = v2();
    assert!(!ledger.acknowledged("a", &ack(RestartAckOutcome::Duplicate), 2));
    assert_eq!(phase(&ledger), RestartPhase::Accepted);
}

#[test]
fn a_second_answer_is_told_as_a_duplicate_and_takes_nothing_back() {
    let mut ledger = v2();
    ledger.acknowledged("a", &ack(RestartAckOutcome::Accepted), 2);
    ledger.acknowledged("a", &ack(RestartAckOutcome::Accepted), 3);
    ledger.draining("a", &Restarting::default(), 4);
    ledger.acknowledged("a", &ack(RestartAckOutcome::Duplicate), 5);
    let names: Vec<String> = story(&ledger).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["commanded", "accepted", "duplicate", "draining", "duplicate"]);
    assert_eq!(phase(&ledger), RestartPhase::Draining);
}

#[test]
fn a_duplicate_after_the_return_changes_nothing() {
    let mut ledger = v2();
    ledger.identified("a", &identify(Some("boot-2")), 5);
    ledger.acknowledged("a", &ack(RestartAckOutcome::Duplicate), 6);
    assert_eq!(phase(&ledger), RestartPhase::Back);
}

#[test]
fn an_answer_for_another_command_changes_nothing() {
    let mut ledger = v2();
    let other = RestartAck { command_id: "c9".into(), ..ack(RestartAckOutcome::Refused) };
    assert!(!ledger.acknowledged("a", &other, 2));
    assert_eq!(phase(&ledger), RestartPhase::Commanded);
}

#[test]
fn what_takes_too_long_is_overdue_and_a_late_return_is_still_back() {
    let mut ledger = v2();
    let at = ledger.deadline().unwrap();
    assert_eq!(at, 120_000 + 5_000 + 15_000);
    assert!(ledger.expire(at - 1).is_empty());
    assert_eq!(ledger.expire(at), ["a"]);
    assert_eq!(phase(&ledger), RestartPhase::Overdue);
    assert!(ledger.open_for("a").is_none());
    ledger.identified("a", &identify(Some("boot-1")), at + 1);
    assert_eq!(phase(&ledger), RestartPhase::Overdue, "the same run is not a return");
    ledger.identified("a", &identify(Some("boot-2")), at + 2);
    assert_eq!(phase(&ledger), RestartPhase::Back);
}

#[test]
fn the_sidecars_own_deadline_moves_the_overdue_time() {
    let mut ledger = v2();
    ledger.acknowledged("a", &RestartAck { deadline_ms: Some(300_000), ..ack(RestartAckOutcome::Accepted) }, 1_000);
    assert_eq!(ledger.deadline(), Some(1_000 + 300_000 + 20_000));
}

#[test]
fn the_same_run_that_has_not_answered_gets_the_command_again() {
    let mut ledger = v2();
    ledger.delivered("c1", 1);
    ledger.socket_closed("a", 2);
    assert_eq!(ledger.identified("a", &identify(Some("boot-1")), 3), Return::SendAgain("c1".into()));
}

#[test]
fn the_same_run_that_has_answered_does_not_get_it_again() {
    let mut ledger = v2();
    ledger.acknowledged("a", &ack(RestartAckOutcome::Accepted), 2);
    assert_eq!(ledger.identified("a", &identify(Some("boot-1")), 3), Return::StillFenced);
}

#[test]
fn another_run_is_back_whatever_was_heard_before() {
    let mut ledger = v2();
    assert_eq!(ledger.identified("a", &identify(Some("boot-2")), 3), Return::Free);
    assert_eq!(phase(&ledger), RestartPhase::Back);
}

#[test]
fn a_node_sidecar_is_back_after_its_last_words() {
    let mut ledger = commanded_at(0, &RunIdentity::of(&node(4)));
    ledger.draining("a", &Restarting { reason: "update".into(), ..Restarting::default() }, 10);
    ledger.socket_closed("a", 20);
    // pm2's count may be unknown or reset; the words are enough.
    assert_eq!(ledger.identified("a", &node(0), 30), Return::Free);
    assert_eq!(phase(&ledger), RestartPhase::Back);
}

#[test]
fn a_node_sidecar_whose_link_only_blinked_is_not_back_and_gets_nothing_again() {
    let mut ledger = commanded_at(0, &RunIdentity::of(&node(4)));
    ledger.socket_closed("a", 20);
    assert_eq!(ledger.identified("a", &node(4), 30), Return::StillFenced);
    assert_eq!(phase(&ledger), RestartPhase::Commanded);
    assert_eq!(ledger.identified("a", &node(5), 40), Return::Free);
}

#[test]
fn a_peer_that_tells_nothing_of_its_runs_is_back_when_its_socket_had_closed() {
    let mut ledger = commanded_at(0, &RunIdentity::default());
    ledger.socket_closed("a", 20);
    assert_eq!(ledger.identified("a", &identify(None), 30), Return::Free);
}

#[test]
fn a_return_says_whether_it_was_late_and_of_which_command_it_knew() {
    for late in [false, true] {
        let mut ledger = v2();
        if late {
            ledger.expire(ledger.deadline().unwrap());
        }
        ledger.identified("a", &identify(Some("boot-2")), 500_000);
        let last = ledger.get("c1").unwrap().steps.last().unwrap();
        let wanted = json!({"boot_id": "boot-2", "late": late, "named_the_command": false});
        assert_eq!((last.step.as_str(), &last.detail), ("back", &wanted));
    }
}

#[test]
fn the_api_shows_a_restart_with_every_step() {
    let mut ledger = v2();
    ledger.delivered("c1", 1);
    let shown = crate::protocol::tests::tree(&ledger.get("c1").unwrap().shown());
    let seen = ["command_id", "agent_id", "reason", "by", "state", "open", "overdue_at", "boot_before"];
    let seen = seen.map(|key| shown[key].clone());
    assert_eq!(json!(seen), json!(["c1", "a", "update", "ops", "delivered", true, 140_000, "boot-1"]));
    assert_eq!(shown["steps"].as_array().map(Vec::len), Some(2));
}

#[test]
fn the_ledger_lists_the_newest_first_and_forgets_the_oldest() {
    let mut ledger = Restarts::load(Vec::new(), Policy { keep_restarts: 2, ..Policy::default() });
    for n in 1..=3u64 {
        let run = RunIdentity::of(&identify(Some(&format!("boot-{n}"))));
        ledger.command(format!("c{n}"), "a", &run, request(false), n);
        ledger.identified("a", &identify(Some(&format!("boot-{}", n + 1))), n);
    }
    let ids: Vec<&str> = ledger.of_agent("a").iter().map(|restart| restart.command_id.as_str()).collect();
    assert_eq!(ids, ["c3", "c2"]);
    assert!(ledger.take_dirty().contains("c1"), "the store must hear of the deletion");
}

#[test]
fn commands_stand_in_the_order_they_were_given_whatever_their_names_and_whether_the_hub_was_restarted() {
    let command = |ledger: &mut Restarts, id: &str, n: u64| {
        ledger.command(id.into(), "a", &RunIdentity::of(&identify(Some(&format!("boot-{n}")))), request(false), n);
        ledger.identified("a", &identify(Some(&format!("boot-{}", n + 1))), n);
    };
    let mut ledger = Restarts::load(Vec::new(), Policy::default());
    command(&mut ledger, "z", 1);
    command(&mut ledger, "m", 2);
    let stored = ledger.of_agent("a").into_iter().cloned().collect();
    let mut ledger = Restarts::load(stored, Policy::default());
    command(&mut ledger, "b", 3);
    let ids: Vec<&str> = ledger.of_agent("a").iter().map(|restart| restart.command_id.as_str()).collect();
    assert_eq!(ids, ["b", "m", "z"]);
}

#[test]
fn only_a_command_that_would_be_overdue_too_soon_is_put_off() {
    let mut ledger = v2();
    ledger.take_dirty();
    let at = ledger.deadline().unwrap();
    ledger.postpone_overdue(at);
    assert!(ledger.take_dirty().is_empty());
    ledger.postpone_overdue(at + 1);
    assert_eq!((ledger.deadline(), ledger.take_dirty().contains("c1")), (Some(at + 1), true));
}

#[test]
fn what_was_stored_is_the_same_ledger_again() {
    let mut ledger = v2();
    ledger.delivered("c1", 1);
    let text = serde_json::to_string(ledger.get("c1").unwrap()).unwrap();
    let mut loaded = Restarts::load(vec![serde_json::from_str(&text).unwrap()], Policy::default());
    assert_eq!(loaded.open_for("a"), ledger.get("c1"));
    assert_eq!(loaded.identified("a", &identify(Some("boot-1")), 3), Return::SendAgain("c1".into()));
}

#[test]
fn force_that_was_added_while_the_agent_was_away_is_said_when_it_returns() {
    let mut ledger = v2();
    ledger.delivered("c1", 1);
    ledger.acknowledged("a", &ack(RestartAckOutcome::Accepted), 2);
    ledger.socket_closed("a", 3);
    ledger.command("c2".into(), "a", &RunIdentity::default(), request(true), 4);
    assert_eq!(ledger.identified("a", &identify(Some("boot-1")), 5), Return::SendAgain("c1".into()));
    ledger.delivered("c1", 6);
    assert_eq!(ledger.identified("a", &identify(Some("boot-1")), 7), Return::StillFenced);
}

#[test]
fn the_last_words_of_an_overdue_restart_make_its_return_known() {
    let mut ledger = commanded_at(0, &RunIdentity::default());
    let at = ledger.deadline().unwrap();
    ledger.expire(at);
    ledger.draining("a", &Restarting { reason: "update".into(), ..Restarting::default() }, at + 100);
    assert!(!ledger.socket_closed("a", at + 101), "an overdue absence is not a planned one");
    ledger.identified("a", &identify(None), at + 150);
    let restart = ledger.get("c1").unwrap();
    assert_eq!((restart.phase, restart.gap_ms), (RestartPhase::Back, Some(49)));
}

#[test]
fn last_words_are_those_of_the_command_that_they_name_and_of_none_that_has_ended() {
    let last_words = |ledger: &mut Restarts, named: &str, at_ms: u64| {
        ledger.draining("a", &Restarting { command_id: Some(named.into()), ..Restarting::default() }, at_ms);
        ledger.get("c1").unwrap().left_at
    };
    let mut overdue = v2();
    let at = overdue.deadline().unwrap();
    overdue.expire(at);
    assert_eq!(last_words(&mut overdue, "c9", at + 1), None);
    assert_eq!(last_words(&mut overdue, "c1", at + 2), Some(at + 2));
    let mut back = v2();
    back.identified("a", &identify(Some("boot-2")), 5);
    assert_eq!(last_words(&mut back, "c1", 6), None);
}

#[test]
fn one_return_ends_an_overdue_restart_and_the_command_that_followed_it() {
    let mut ledger = commanded_at(0, &RunIdentity::of(&node(4)));
    let at = ledger.deadline().unwrap();
    ledger.expire(at);
    ledger.draining("a", &Restarting::default(), at + 1);
    ledger.command("c2".into(), "a", &RunIdentity::of(&node(4)), request(false), at + 2);
    assert_eq!(ledger.identified("a", &node(4), at + 3), Return::Free);
    assert_eq!((phase(&ledger), ledger.get("c2").unwrap().phase), (RestartPhase::Back, RestartPhase::Back));
    assert!(ledger.open_for("a").is_none());
}

#[test]
fn a_reset_of_pm2s_count_hides_no_return_and_feigns_none() {
    let mut ledger = commanded_at(0, &RunIdentity::of(&node(5)));
    ledger.delivered("c1", 1);
    // The link blinked after `pm2 reset`: still the same run.
    ledger.socket_closed("a", 2);
    ledger.identified("a", &node(0), 3);
    assert!(phase(&ledger).is_open());
    ledger.socket_closed("a", 4);
    assert_eq!(ledger.identified("a", &node(1), 5), Return::Free);
    assert_eq!(phase(&ledger), RestartPhase::Back);
}
