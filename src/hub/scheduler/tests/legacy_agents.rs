//! What the scheduler grants an original Node sidecar, step by step: the grace of every sidecar, and little beside.

use crate::hub::scheduler::policy::Policy;
use crate::hub::scheduler::tests::rig::{Rig, accepted, complete, progress};
use crate::protocol::{Identify, Pm2Info, SidecarFrame};

const STALE_MS: u64 = 600_000;

fn identify(agent_id: &str, restart_count: Option<u64>) -> Identify {
    let pm2_info = Some(Pm2Info { restart_count, ..Pm2Info::default() });
    Identify { agent_id: agent_id.into(), client_type: Some("sidecar".into()), pm2_info, ..Identify::default() }
}

fn node(rig: &mut Rig, conn: u64, agent_id: &str) -> Vec<String> {
    rig.scheduler.identified(conn, &identify(agent_id, None), "10.0.0.1:1", rig.now);
    rig.said()
}

/// It took the task, beside an idle agent that could do it too, and its link broke.
fn gone() -> Rig {
    let mut rig = Rig::new();
    rig.submit("t");
    assert_eq!(node(&mut rig, 1, "a"), ["1:identified", "1:task_assign t#1"]);
    rig.hear(1, accepted("t"));
    rig.join_today(9, "b", "boot-b");
    assert!(rig.drop_conn(1).is_empty());
    rig
}

/// It is back on connection 2, and has said nothing yet.
fn back() -> Rig {
    let mut rig = gone();
    assert_eq!(node(&mut rig, 2, "a"), ["2:identified"]);
    rig
}

fn reports(generation: u64) -> SidecarFrame {
    let status = Some("working".to_owned());
    SidecarFrame::StateReport { task_id: "t".into(), status, generation: Some(generation), assigned_at: None }
}

fn rejects(reason: &str) -> SidecarFrame {
    SidecarFrame::TaskRejected { task_id: "t".into(), generation: None, reason: reason.into() }
}

fn recovers(task_id: &str, last_status: &str) -> SidecarFrame {
    let last_status = Some(last_status.to_owned());
    SidecarFrame::TaskRecovering { task_id: task_id.into(), last_status, rest: Default::default() }
}

#[test]
fn it_goes_on_where_it_was_when_it_is_back_in_time() {
    let mut rig = back();
    assert_eq!(rig.hear(2, reports(1)), ["2:state_report_ack continue"]);
    assert_eq!(rig.hear(2, complete("t", 1)), ["2:task_ack complete"]);
    assert_eq!(rig.losses("t"), 0);
}

#[test]
fn it_loses_its_task_when_it_is_not_as_at_its_own_hub() {
    let mut rig = gone();
    assert_eq!(rig.tick_at(Policy::default().reconnect_grace_ms), ["9:task_assign t#3"]);
    node(&mut rig, 2, "a");
    assert_eq!(rig.hear(2, reports(1)), ["2:state_report_ack abort"]);
    assert_eq!(rig.hear(2, complete("t", 1)), ["2:error task_complete_failed: stale_generation"]);
    assert_eq!(rig.hear(2, recovers("t", "working")), ["2:task_reassign"]);
}

#[test]
fn one_that_says_nothing_is_sent_its_task_again() {
    let mut rig = back();
    assert_eq!(rig.tick_at(2_000), ["2:task_assign t#1"]);
    assert!(rig.hear(2, rejects("busy")).is_empty(), "it works on it");
    assert_eq!(rig.status("t"), "assigned#1");
    assert_eq!(rig.hear(2, complete("t", 1)), ["2:task_ack complete"]);
}

#[test]
fn its_busy_means_nothing_of_a_task_that_it_never_accepted() {
    let mut rig = Rig::new();
    rig.submit("t");
    node(&mut rig, 1, "a");
    rig.hear(1, rejects("busy"));
    assert_eq!(rig.status("t"), "queued#2");
    let mut rig = back();
    rig.tick_at(2_000);
    rig.hear(2, rejects("restarting"));
    assert_eq!(rig.status("t"), "assigned#3", "nor another reason");
}

#[test]
fn what_the_process_before_it_had_woken_goes_on() {
    for status in ["waking", "waking_confirmation", "working"] {
        let mut rig = back();
        assert_eq!(rig.hear(2, recovers("t", status)), ["2:task_continue #1"], "{status}");
        assert_eq!(rig.hear(2, complete("t", 1)), ["2:task_ack complete"]);
    }
}

#[test]
fn what_the_process_before_it_had_not_woken_is_handed_out_anew() {
    for status in ["accepted", "failed"] {
        let mut rig = back();
        assert_eq!(rig.hear(2, recovers("t", status)), ["2:task_reassign", "2:task_assign t#3"], "{status}");
        assert_eq!(rig.losses("t"), 1);
    }
}

#[test]
fn a_question_about_one_task_does_not_touch_another_that_it_holds() {
    for status in ["accepted", "failed", "working"] {
        let mut rig = Rig::new();
        rig.submit("u");
        node(&mut rig, 1, "a");
        rig.hear(1, accepted("u"));
        assert_eq!(rig.hear(1, recovers("t", status)), ["1:task_reassign"], "{status}");
        assert_eq!(rig.status("u"), "assigned#1", "{status}");
    }
}

#[test]
fn a_task_that_ends_its_process_counts_one_loss_each_time() {
    let mut rig = back();
    rig.hear(2, recovers("t", "working"));
    rig.hear(2, recovers("t", "working"));
    assert_eq!(rig.losses("t"), 1, "asked twice by one process");
    rig.drop_conn(2);
    node(&mut rig, 3, "a");
    rig.hear(3, recovers("t", "working"));
    assert_eq!(rig.losses("t"), 2);
    rig.drop_conn(3);
    node(&mut rig, 4, "a");
    rig.hear(4, reports(1));
    rig.hear(4, recovers("t", "working"));
    assert_eq!(rig.losses("t"), 2, "a report shows that it is the same process");
}

#[test]
fn pm2s_count_tells_its_runs_apart_where_it_is_known() {
    let mut rig = Rig::new();
    rig.submit("t");
    for (conn, count, losses) in [(1, 0, 0), (2, 0, 0), (3, 1, 1), (4, 1, 1)] {
        rig.scheduler.identified(conn, &identify("a", Some(count)), "10.0.0.1:1", rig.now);
        rig.hear(conn, if conn == 1 { accepted("t") } else { recovers("t", "working") });
        assert_eq!(rig.losses("t"), losses, "{conn}");
        rig.drop_conn(conn);
    }
}

#[test]
fn a_commanded_restart_is_no_loss() {
    let mut rig = back();
    rig.restart(false).unwrap();
    rig.drop_conn(2);
    node(&mut rig, 3, "a");
    assert_eq!(rig.hear(3, recovers("t", "working")), ["3:task_continue #1"]);
    assert_eq!(rig.losses("t"), 0);
}

#[test]
fn it_is_asked_when_it_has_been_silent() {
    let mut rig = Rig::new();
    rig.submit("t");
    node(&mut rig, 1, "a");
    rig.hear(1, accepted("t"));
    assert_eq!(rig.tick_at(STALE_MS), ["1:task_assign t#1"]);
    assert!(rig.hear(1, rejects("busy")).is_empty());
    assert_eq!(rig.tick_at(2 * STALE_MS), ["1:task_assign t#1"]);
    assert!(rig.tick_at(2 * STALE_MS + 59_999).is_empty());
    rig.tick_at(2 * STALE_MS + 60_000);
    assert_eq!(rig.status("t"), "queued#2", "it did not answer");
}

/// It would be busy with it for ever, and it watches the session that it carried over no more.
#[test]
fn what_it_carries_over_has_one_stale_timeout_from_the_first_time_whatever_is_restarted() {
    let mut rig = back();
    rig.tick_at(1_000);
    rig.hear(2, recovers("t", "working"));
    for (conn, now) in [(3, 200_000), (4, 500_000)] {
        rig.now = now;
        rig.drop_conn(conn - 1);
        node(&mut rig, conn, "a");
        rig.hear(conn, recovers("t", "working"));
        rig.hear(conn, progress("t"));
    }
    rig.hub_crash();
    node(&mut rig, 5, "a");
    rig.hear(5, recovers("t", "working"));
    assert!(rig.tick_at(1_000 + STALE_MS - 1).is_empty());
    assert_eq!(rig.tick_at(1_000 + STALE_MS), ["5:task_cancelled"]);
    assert_eq!(rig.status("t"), "queued#2");
}

#[test]
fn one_that_names_its_runs_is_granted_nothing_of_this() {
    let mut rig = Rig::new();
    rig.submit("t");
    rig.join(1, "a", Some("boot"));
    rig.hear(1, accepted("t"));
    assert_eq!(rig.tick_at(STALE_MS), ["1:task_cancelled"]);
    rig.join(2, "b", Some("boot"));
    rig.hear(2, accepted("t"));
    rig.hear(2, rejects("busy"));
    assert_eq!(rig.status("t"), "queued#4");
}

/// Away for longer than the grace, with nobody else to take the task: back, it is assigned the task before it speaks.
fn back_late() -> Rig {
    let mut rig = Rig::new();
    rig.submit("t");
    node(&mut rig, 1, "a");
    rig.hear(1, accepted("t"));
    rig.drop_conn(1);
    rig.tick_at(Policy::default().reconnect_grace_ms);
    assert_eq!(node(&mut rig, 2, "a"), ["2:identified", "2:task_assign t#3"]);
    rig
}

#[test]
fn one_that_works_on_what_it_is_assigned_anew_goes_on_under_the_new_generation() {
    let mut rig = back_late();
    assert_eq!(rig.hear(2, reports(1)), ["2:task_continue #3", "2:state_report_ack continue"]);
    assert!(rig.hear(2, rejects("busy")).is_empty());
    assert_eq!(rig.hear(2, complete("t", 3)), ["2:task_ack complete"]);
}

#[test]
fn one_that_is_assigned_anew_what_it_had_not_woken_takes_that_assignment() {
    for status in ["accepted", "failed"] {
        let mut rig = back_late();
        assert_eq!(rig.hear(2, recovers("t", status)), ["2:task_continue #3"], "{status}");
        rig.hear(2, accepted("t"));
        assert_eq!(rig.hear(2, complete("t", 3)), ["2:task_ack complete"]);
    }
}
