//! The scheduler and tasks that end whoever takes them: what counts as lost, what is forgiven, and the end of it.

use std::ops::Range;

use super::*;
use crate::hub::scheduler::tests::rig::{Rig, accepted};
use crate::protocol::{Restarting, SidecarFrame};

/// An agent that joins under another run each time, takes the task, and does not come back in time.
fn lose(rig: &mut Rig, runs: Range<u64>) {
    for n in runs {
        rig.join(n + 1, "a", Some(&format!("boot-{n}")));
        rig.hear(n + 1, accepted("t"));
        rig.drop_conn(n + 1);
        let later = rig.now + Policy::default().reconnect_grace_ms;
        rig.tick_at(later);
    }
}

fn losses(rig: &Rig) -> u64 {
    rig.losses("t")
}

#[test]
fn a_task_that_ends_whoever_takes_it_is_a_dead_letter_in_the_end_and_says_why() {
    let mut rig = Rig::new();
    rig.submit("t");
    let most = Policy::default().max_losses;
    lose(&mut rig, 0..most - 1);
    assert_eq!(rig.status("t"), format!("queued#{}", 2 * (most - 1)));
    lose(&mut rig, most - 1..most);
    let task = rig.scheduler.tasks().get("t").unwrap();
    assert_eq!(task.status.name(), "dead_letter");
    let why = task.last_error.clone().unwrap();
    assert!(why.contains("agent_disconnect") && why.contains("by a") && why.contains(&most.to_string()), "{why}");
    assert!(rig.join(99, "a", Some("boot-99")).iter().all(|said| !said.contains("task_assign")));
}

#[test]
fn a_task_that_hangs_whoever_takes_it_is_a_dead_letter_too() {
    let mut rig = Rig::new();
    rig.join(1, "a", Some("boot-1"));
    rig.submit("t");
    let Policy { max_losses, stale_timeout_ms, reject_retry_ms, .. } = Policy::default();
    for _ in 0..max_losses {
        rig.hear(1, accepted("t"));
        let silent = rig.now + stale_timeout_ms;
        rig.tick_at(silent);
        rig.tick_at(silent + reject_retry_ms);
    }
    assert_eq!(rig.scheduler.tasks().get("t").unwrap().status.name(), "dead_letter");
    assert_eq!(rig.fsm("a"), "idle");
}

#[test]
fn a_link_that_flaps_under_the_same_run_costs_the_task_nothing() {
    let mut rig = Rig::new();
    rig.submit("t");
    for conn in 1..100 {
        rig.join(conn, "a", Some("boot-1"));
        rig.hear(conn, accepted("t"));
        rig.drop_conn(conn);
    }
    rig.join(100, "a", Some("boot-1"));
    assert_eq!((losses(&rig), rig.scheduler.tasks().get("t").unwrap().status.name()), (0, "assigned"));
}

#[test]
fn a_loss_is_forgiven_though_the_task_went_to_another_agent_meanwhile() {
    let mut rig = Rig::new();
    rig.submit("t");
    rig.join(1, "a", Some("boot-1"));
    rig.hear(1, accepted("t"));
    rig.join(2, "b", Some("boot-b"));
    rig.drop_conn(1);
    assert_eq!(rig.tick_at(30_000), ["2:task_assign t#3"]);
    assert_eq!(losses(&rig), 1);
    rig.join(3, "a", Some("boot-1"));
    assert_eq!(losses(&rig), 0);
}

#[test]
fn commanded_and_announced_restarts_cost_the_task_nothing() {
    let mut rig = Rig::new();
    rig.submit("t");
    rig.join(1, "a", Some("boot-1"));
    rig.restart(true);
    rig.drop_conn(1);
    rig.tick_at(1_000_000);
    assert_eq!((rig.status("t"), losses(&rig)), ("queued#2".into(), 0), "overdue, but planned");
    rig.join(2, "a", Some("boot-2"));
    rig.hear(2, accepted("t"));
    rig.hear(2, SidecarFrame::AgentRestarting(Restarting::default()));
    rig.drop_conn(2);
    rig.tick_at(2_000_000);
    assert_eq!((rig.status("t"), losses(&rig)), ("queued#4".into(), 0));
}

#[test]
fn an_assignment_that_nobody_accepts_costs_the_task_nothing() {
    let mut rig = Rig::new();
    rig.join(1, "a", Some("boot-1"));
    rig.submit("t");
    rig.tick_at(60_000);
    assert_eq!((rig.status("t"), losses(&rig)), ("queued#2".into(), 0));
}

#[test]
fn a_dead_letter_that_is_revived_may_be_lost_as_often_again() {
    let mut rig = Rig::new();
    rig.submit("t");
    lose(&mut rig, 0..Policy::default().max_losses);
    rig.scheduler.revive("t", rig.now).unwrap();
    assert_eq!(losses(&rig), 0);
}

#[test]
fn losses_outlive_the_hub_and_a_task_of_an_older_hub_has_none() {
    let mut rig = Rig::new();
    rig.submit("t");
    lose(&mut rig, 0..3);
    let mut stored = serde_json::to_value(rig.scheduler.tasks().get("t").unwrap()).unwrap();
    let task: Task = serde_json::from_value(stored.clone()).unwrap();
    assert_eq!(task.losses, 3);
    stored.as_object_mut().unwrap().remove("losses");
    let task: Task = serde_json::from_value(stored).unwrap();
    assert_eq!(task.losses, 0);
}
