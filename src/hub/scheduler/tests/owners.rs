//! Names that change hands: what ends with an owner, and what the next one does not inherit.

use super::*;
use crate::hub::scheduler::inventory::close::Closing;
use crate::hub::scheduler::tests::rig::{Rig, accepted};
use crate::protocol::{JsonFields, JsonText, SidecarFrame};

/// A name whose owner has left with its connection closed, as the hub does it.
fn owner_leaves(rig: &mut Rig, conn: ConnId) -> Vec<String> {
    rig.scheduler.expel(conn, &Closing::revoked(), rig.now);
    rig.scheduler.owner_left("a", rig.now);
    rig.said()
}

fn addressed() -> JsonFields {
    JsonFields::from_iter([("assign_to", JsonText::of("a"))])
}

#[test]
fn an_open_restart_ends_with_its_owner_and_the_next_one_neither_hears_nor_sees_it() {
    let mut rig = Rig::new();
    rig.join_today(1, "a", "boot-1");
    rig.restart(false);
    owner_leaves(&mut rig, 1);
    assert_eq!((rig.phase().name(), rig.fsm("a").as_str()), ("revoked", "gone"));
    rig.scheduler.owner_came("a");
    assert!(rig.scheduler.restarts().of_agent("a").is_empty());
    rig.submit("t");
    assert_eq!(rig.join_today(2, "a", "boot-1"), ["2:identified", "2:task_assign t#1"]);
}

#[test]
fn a_task_goes_on_elsewhere_and_one_for_this_name_alone_is_a_dead_letter_that_says_why() {
    let mut rig = Rig::new();
    rig.join_today(1, "a", "boot-1");
    rig.submit("held");
    rig.hear(1, accepted("held"));
    rig.submit_with("queued", addressed());
    assert_eq!(owner_leaves(&mut rig, 1), Vec::<String>::new());
    assert_eq!((rig.status("held"), rig.status("queued")), ("queued#2".into(), "dead_letter#0".into()));
    let why = rig.scheduler.tasks().get("queued").unwrap().last_error.clone().unwrap();
    assert_eq!(why, "only a may do it, and the last token of that name was revoked");
    assert!(rig.scheduler.take_changes().tasks.iter().any(|(id, _)| id == "queued"), "the store must hear of it");
    rig.scheduler.owner_came("a");
    assert_eq!(rig.join_today(2, "a", "boot-2"), ["2:identified", "2:task_assign held#3"]);
    rig.scheduler.revive("queued", rig.now).unwrap();
    assert_eq!(rig.hear(2, complete("held", 3)), ["2:task_ack complete", "2:task_assign queued#2"]);
}

#[test]
fn a_task_that_only_this_name_may_do_is_a_dead_letter_also_while_it_is_held() {
    let mut rig = Rig::new();
    rig.join_today(1, "a", "boot-1");
    rig.submit_with("t", addressed());
    owner_leaves(&mut rig, 1);
    assert_eq!(rig.status("t"), "dead_letter#2");
}

#[test]
fn a_task_for_a_name_that_nobody_has_owned_yet_waits() {
    let mut rig = Rig::new();
    rig.submit_with("t", addressed());
    rig.scheduler.owner_came("a");
    assert_eq!(rig.join_today(1, "a", "boot-1"), ["1:identified", "1:task_assign t#1"]);
}

/// The loss of the former owner's run is not taken back because the next one runs under the same `boot_id`.
#[test]
fn a_loss_is_not_forgiven_for_the_next_owners_sake() {
    for leaves in [false, true] {
        let mut rig = Rig::new();
        rig.join_today(1, "a", "boot-1");
        rig.submit("t");
        rig.hear(1, accepted("t"));
        rig.drop_conn(1);
        rig.tick_at(Policy::default().reconnect_grace_ms);
        assert_eq!(rig.losses("t"), 1);
        if leaves {
            owner_leaves(&mut rig, 1);
        }
        rig.join_today(2, "a", "boot-1");
        assert_eq!(rig.losses("t"), u64::from(leaves));
    }
}

#[test]
fn the_conflict_of_two_former_sidecars_is_not_the_next_owners() {
    let mut rig = Rig::new();
    for conn in 1..5 {
        rig.join_today(conn, "a", if conn % 2 == 0 { "boot-2" } else { "boot-1" });
    }
    assert!(!agents_of(&rig.scheduler, rig.now)[0]["identity_conflict"].is_null());
    owner_leaves(&mut rig, 3);
    rig.join_today(5, "a", "boot-3");
    assert!(agents_of(&rig.scheduler, rig.now)[0]["identity_conflict"].is_null());
}

#[test]
fn a_connection_that_was_opened_before_the_former_owner_came_is_the_next_owners_all_the_same() {
    let mut rig = Rig::new();
    rig.join_today(7, "a", "boot-1");
    owner_leaves(&mut rig, 7);
    assert_eq!(rig.join_today(6, "a", "boot-2"), ["6:identified"]);
}

#[test]
fn who_comes_and_goes_under_ever_new_names_leaves_nothing() {
    let mut rig = Rig::new();
    for n in 0..100 {
        let name = format!("stranger-{n}");
        rig.scheduler.owner_came(&name);
        rig.join_today(2 * n + 1, &name, "boot-1");
        rig.join_today(2 * n + 2, &name, "boot-2");
        rig.hear(2 * n + 2, SidecarFrame::Cordon { on: true });
        rig.scheduler.expel(2 * n + 2, &Closing::revoked(), rig.now);
        rig.scheduler.owner_left(&name, rig.now);
    }
    let (agents, rivals) = (&rig.scheduler.agents, &rig.scheduler.rivals);
    assert_eq!((agents.all().len(), agents.newest.len(), agents.connected_count()), (0, 0, 0));
    assert_eq!(rivals.agents(), 0);
}
