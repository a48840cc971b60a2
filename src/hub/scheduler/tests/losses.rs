//! The scheduler and tasks that end whoever takes them: what counts as lost, what is forgiven, and the end of it.

use std::ops::Range;

use super::*;
use crate::hub::scheduler::tests::rig::{Rig, accepted};
use crate::protocol::{Pm2Info, Restarting, SidecarFrame};

/// An agent that joins under another run each time, takes the task, and is gone.
fn lose(rig: &mut Rig, runs: Range<u64>) {
    for n in runs {
        rig.join(n + 1, "a", Some(&format!("boot-{n}")));
        rig.hear(n + 1, accepted("t"));
        rig.drop_conn(n + 1);
    }
}

fn losses(rig: &Rig) -> u64 {
    rig.scheduler.tasks().get("t").unwrap().losses
}

fn node(rig: &mut Rig, conn: ConnId, uptime_ms: Option<u64>) {
    let pm2_info = Some(Pm2Info { uptime_ms, restart_count: Some(0), ..Pm2Info::default() });
    let identify = Identify { agent_id: "a".into(), pm2_info, ..Identify::default() };
    rig.scheduler.identified(conn, &identify, rig.now);
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
    rig.join(2, "b", Some("boot-b"));
    assert_eq!(rig.drop_conn(1), ["2:task_assign t#3"]);
    assert_eq!(losses(&rig), 1);
    rig.join(3, "a", Some("boot-1"));
    assert_eq!(losses(&rig), 0);
}

#[test]
fn an_original_sidecar_is_the_same_run_where_pm2_says_that_it_began_at_the_same_time() {
    let mut rig = Rig::new();
    rig.submit("t");
    rig.now = 10_000;
    node(&mut rig, 1, Some(4_000));
    rig.now = 20_000;
    rig.drop_conn(1);
    rig.now = 25_000;
    node(&mut rig, 2, Some(19_400));
    assert_eq!(losses(&rig), 0, "both began at about 6,000");
    rig.drop_conn(2);
    node(&mut rig, 3, Some(500));
    assert_eq!(losses(&rig), 1, "a count of restarts alone says nothing: a reboot puts it to 0");
    rig.drop_conn(3);
    node(&mut rig, 4, None);
    assert_eq!(losses(&rig), 2, "without pm2 nothing shows yet that it is the same run");
}

/// An original sidecar without pm2's word, that took the task and whose link broke; it is back on connection 2.
fn node_back() -> Rig {
    let mut rig = Rig::new();
    rig.submit("t");
    node(&mut rig, 1, None);
    rig.hear(1, accepted("t"));
    rig.drop_conn(1);
    node(&mut rig, 2, None);
    assert_eq!(losses(&rig), 1);
    rig
}

fn reports(task_id: &str) -> SidecarFrame {
    let status = Some("working".to_owned());
    SidecarFrame::StateReport { task_id: task_id.into(), status, generation: Some(1), assigned_at: None }
}

fn rejects(reason: &str) -> SidecarFrame {
    SidecarFrame::TaskRejected { task_id: "t".into(), generation: None, reason: reason.into() }
}

fn recovers() -> SidecarFrame {
    SidecarFrame::TaskRecovering { task_id: "t".into(), last_status: None, rest: Default::default() }
}

#[test]
fn an_original_sidecar_that_has_the_task_in_hand_still_lost_nothing() {
    for outgoing in [reports("t"), rejects("busy")] {
        let mut rig = node_back();
        rig.hear(2, outgoing);
        assert_eq!(losses(&rig), 0);
        rig.hear(2, reports("t"));
        assert_eq!(losses(&rig), 0, "what is forgiven is forgiven once");
    }
}

#[test]
fn a_word_that_another_process_could_say_forgives_nothing() {
    for outgoing in [reports("u"), rejects("restarting"), recovers()] {
        let mut rig = node_back();
        rig.hear(2, outgoing);
        assert_eq!(losses(&rig), 1);
    }
    let mut rig = node_back();
    rig.hear(2, recovers());
    rig.hear(2, reports("t"));
    assert_eq!(losses(&rig), 1, "it had begun anew before it took the work up again");
}

#[test]
fn what_one_agent_has_in_hand_forgives_no_other_its_loss() {
    let mut rig = node_back();
    rig.join(3, "b", Some("boot-b"));
    rig.hear(3, reports("t"));
    assert_eq!(losses(&rig), 1);
}

#[test]
fn a_healthy_original_sidecar_on_a_link_that_flaps_keeps_its_task_from_becoming_a_dead_letter() {
    let mut rig = Rig::new();
    rig.submit("t");
    for conn in 1..100 {
        node(&mut rig, conn, None);
        rig.hear(conn, if conn == 1 { accepted("t") } else { reports("t") });
        rig.drop_conn(conn);
    }
    assert_eq!((losses(&rig), rig.scheduler.tasks().get("t").unwrap().status.name()), (1, "queued"));
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
    rig.hear(2, SidecarFrame::AgentRestarting(Restarting::default()));
    rig.drop_conn(2);
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
