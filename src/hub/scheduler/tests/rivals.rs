//! Two sidecars with one identity: whose connection counts, and that no task is woken twice.

use super::*;
use crate::hub::scheduler::arrival::IdentityConflict;
use crate::hub::scheduler::tests::rig::{Rig, accepted, agents_of, report};

/// Two runs that take each other's place `times` times. Returns the number of the last connection.
fn fight(rig: &mut Rig, times: u64) -> u64 {
    for n in 0..=times {
        rig.now += 1_000;
        rig.join_today(10 + n, "a", if n % 2 == 0 { "boot-1" } else { "boot-2" });
    }
    10 + times
}

fn identify(boot: &str) -> Identify {
    Identify { agent_id: "a".into(), boot_id: Some(boot.into()), ..Identify::default() }
}

#[test]
fn a_conflict_is_told_with_both_addresses_once_both_are_known_to_live() {
    let mut rig = Rig::new();
    let conflict = |rig: &mut Rig, conn, boot: &str| {
        rig.now += 1_000;
        rig.scheduler.identified(conn, &identify(boot), &format!("host-{boot}"), rig.now)
    };
    assert_eq!(conflict(&mut rig, 1, "boot-1"), None);
    assert_eq!(conflict(&mut rig, 2, "boot-2"), None, "the end of the first may not have been seen");
    let (older, newer) = ("host-boot-2".to_owned(), "host-boot-1".to_owned());
    assert_eq!(
        conflict(&mut rig, 3, "boot-1"),
        Some(IdentityConflict { older, newer, refused: false, is_logged: true })
    );
    conflict(&mut rig, 4, "boot-2");
    conflict(&mut rig, 5, "boot-1");
    let (older, newer) = ("host-boot-1".to_owned(), "host-boot-2".to_owned());
    assert_eq!(
        conflict(&mut rig, 6, "boot-2"),
        Some(IdentityConflict { older, newer, refused: true, is_logged: false })
    );
}

#[test]
fn the_one_that_was_connected_longer_stays_and_the_other_is_refused_with_a_time() {
    let mut rig = Rig::new();
    let last = fight(&mut rig, 4);
    assert_eq!(last % 2, 0, "the first run is connected");
    rig.scheduler.identified(50, &identify("boot-2"), "10.9.9.9:1", rig.now);
    let Some(Outgoing::Close { conn: 50, code: 1008, reason }) = rig.scheduler.take_outgoing().pop() else { panic!() };
    assert_eq!(reason, "identity in use by a sidecar at 10.0.0.14:1: retry in 60s");
    assert!(rig.scheduler.is_connected("a"));
    rig.now += 600_000;
    assert_eq!(rig.join_today(51, "a", "boot-2"), ["51:close 1008"], "for as long as the first is connected");
    rig.drop_conn(last);
    assert_eq!(rig.join_today(52, "a", "boot-2"), ["52:identified"]);
}

#[test]
fn the_holder_of_the_task_stays_and_loses_nothing() {
    let mut rig = Rig::new();
    rig.join_today(1, "a", "boot-1");
    rig.submit("t");
    rig.hear(1, accepted("t"));
    for (conn, boot) in [(2, "boot-2"), (3, "boot-1"), (4, "boot-2")] {
        rig.now += 1_000;
        let said = rig.join_today(conn, "a", boot);
        assert!(!said.iter().any(|said| said.contains("task_assign")), "{said:?}");
        let now = rig.now + 3_000;
        assert!(rig.tick_at(now).is_empty(), "nothing is sent to the one beside it");
    }
    assert_eq!(rig.join_today(5, "a", "boot-1"), ["4:close 4001", "5:identified"]);
    assert_eq!(rig.hear(5, report(1)), ["5:state_report_ack continue"]);
    assert_eq!((rig.status("t"), rig.losses("t")), ("assigned#1".into(), 0));
    assert_eq!(rig.join_today(6, "a", "boot-2"), ["6:close 1008"]);
}

/// The first may have it and wake its agent: the other is not given it too.
#[test]
fn an_assignment_that_was_not_accepted_is_not_sent_to_the_run_beside_it() {
    let mut rig = Rig::new();
    rig.join_today(1, "a", "boot-1");
    rig.submit("t");
    rig.join_today(2, "a", "boot-2");
    assert!(rig.tick_at(59_999).is_empty());
    assert_eq!(rig.tick_at(60_000), ["2:task_reassign #1"]);
}

#[test]
fn a_run_that_follows_another_whose_end_was_seen_is_no_rival() {
    let mut rig = Rig::new();
    for run in 1..20 {
        assert_eq!(rig.join_today(run, "a", &format!("boot-{run}")), [format!("{run}:identified")]);
        rig.drop_conn(run);
    }
}

#[test]
fn a_legacy_sidecar_is_not_refused() {
    let mut rig = Rig::new();
    fight(&mut rig, 4);
    assert_eq!(rig.join(70, "a", None).last().map(String::as_str), Some("70:identified"));
}

/// The reasons of the closes since the last look.
fn close_reasons(rig: &mut Rig) -> Vec<String> {
    let reason = |outgoing| match outgoing {
        Outgoing::Close { reason, .. } => Some(reason),
        Outgoing::Frame { .. } => None,
    };
    rig.scheduler.take_outgoing().into_iter().filter_map(reason).collect()
}

#[test]
fn the_superseded_one_comes_back_soon_where_the_hub_decides_between_the_two() {
    let mut rig = Rig::new();
    rig.join_today(1, "a", "boot-1");
    rig.scheduler.identified(2, &identify("boot-2"), "10.9.9.9:1", rig.now);
    assert_eq!(close_reasons(&mut rig), ["superseded by a newer connection from 10.9.9.9:1: retry in 1s"]);
    // The same run, on a connection that the hub holds for open; and a run that has no name. Neither is ever refused.
    rig.scheduler.identified(3, &identify("boot-2"), "10.9.9.9:2", rig.now);
    assert_eq!(close_reasons(&mut rig), ["superseded by a newer connection from 10.9.9.9:2"]);
    let nameless = Identify { agent_id: "a".into(), client_type: Some("sidecar".into()), ..Identify::default() };
    rig.scheduler.identified(4, &nameless, "10.9.9.9:3", rig.now);
    assert_eq!(close_reasons(&mut rig), ["superseded by a newer connection from 10.9.9.9:3"]);
}

#[test]
fn one_that_is_heard_late_is_told_the_address_of_the_newer_one() {
    let mut rig = Rig::new();
    rig.join_today(2, "a", "boot-2");
    rig.scheduler.identified(1, &identify("boot-1"), "10.9.9.9:1", rig.now);
    assert_eq!(close_reasons(&mut rig), ["superseded by a newer connection from 10.0.0.2:1: retry in 1s"]);
    rig.drop_conn(2);
    rig.scheduler.identified(1, &identify("boot-1"), "10.9.9.9:1", rig.now);
    assert_eq!(close_reasons(&mut rig), ["superseded by a newer connection: retry in 1s"]);
}

#[test]
fn the_agent_is_shown_with_both_addresses_while_the_conflict_is_recent() {
    let mut rig = Rig::new();
    rig.join_today(1, "a", "boot-1");
    let shown = |rig: &Rig| agents_of(&rig.scheduler, rig.now)[0]["identity_conflict"].clone();
    rig.join_today(2, "a", "boot-2");
    assert_eq!(shown(&rig), Value::Null, "the end of the first may not have been seen");
    rig.now = 5_000;
    rig.join_today(3, "a", "boot-1");
    let conflict = json!({"addresses": ["10.0.0.2:1", "10.0.0.3:1"], "last_at": 5_000});
    assert_eq!(shown(&rig), conflict);
    assert_eq!(rig.scheduler.view().agent_state("a", rig.now).unwrap()["identity_conflict"], conflict);
    rig.now += 600_000;
    assert_eq!(shown(&rig), Value::Null);
}

#[test]
fn the_time_of_a_refused_one_is_the_policy_s() {
    let mut rig = Rig::new();
    rig.scheduler.policy.identity_retry_ms = 250;
    fight(&mut rig, 4);
    rig.scheduler.identified(50, &identify("boot-2"), "10.9.9.9:1", rig.now);
    assert_eq!(close_reasons(&mut rig), ["identity in use by a sidecar at 10.0.0.14:1: retry in 250ms"]);
}
