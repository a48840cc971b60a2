//! What the scheduler grants an original Node sidecar, step by step.

use serde_json::json;

use crate::hub::scheduler::policy::Policy;
use crate::hub::scheduler::tests::rig::{Rig, accepted, complete, woken};
use crate::protocol::{Identify, SidecarFrame};

fn node(rig: &mut Rig, conn: u64, agent_id: &str) -> Vec<String> {
    let identify = Identify { agent_id: agent_id.into(), client_type: Some("sidecar".into()), ..Identify::default() };
    rig.scheduler.identified(conn, &identify, rig.now);
    rig.said()
}

/// It took the task, and its link broke.
fn gone() -> Rig {
    let mut rig = Rig::new();
    rig.submit("t");
    assert_eq!(node(&mut rig, 1, "a"), ["1:identified", "1:task_assign t#1"], "who had nothing waits for nothing");
    rig.hear(1, accepted("t"));
    assert!(rig.drop_conn(1).is_empty());
    assert_eq!(rig.status("t"), "queued#2", "the task is anybody's at once");
    rig
}

/// It is back on connection 2, and has said nothing yet.
fn back() -> Rig {
    let mut rig = gone();
    assert_eq!(node(&mut rig, 2, "a"), ["2:identified"], "it speaks first");
    rig
}

fn reports(generation: u64) -> SidecarFrame {
    let status = Some("working".to_owned());
    SidecarFrame::StateReport { task_id: "t".into(), status, generation: Some(generation), assigned_at: None }
}

fn rejects(reason: &str) -> SidecarFrame {
    SidecarFrame::TaskRejected { task_id: "t".into(), generation: None, reason: reason.into() }
}

fn recovers(last_status: &str) -> SidecarFrame {
    let last_status = Some(last_status.to_owned());
    SidecarFrame::TaskRecovering { task_id: "t".into(), last_status, rest: Default::default() }
}

fn fails(generation: u64) -> SidecarFrame {
    let text = json!({"type": "task_failed", "task_id": "t", "generation": generation, "reason": "r"}).to_string();
    SidecarFrame::parse(&text).unwrap()
}

#[test]
fn what_it_reports_is_its_own_again_under_the_generation_that_it_knows() {
    let mut rig = back();
    assert_eq!(rig.hear(2, reports(1)), ["2:state_report_ack continue"]);
    assert_eq!(rig.status("t"), "assigned#3");
    assert_eq!(rig.hear(2, reports(1)), ["2:state_report_ack continue"], "also when it says so again");
    assert_eq!(rig.hear(2, complete("t", 2)), ["2:error task_complete_failed: stale_generation"]);
    assert_eq!(rig.hear(2, complete("t", 1)), ["2:task_ack complete"]);
}

#[test]
fn what_it_left_with_lasts_over_more_than_one_absence() {
    let mut rig = back();
    rig.hear(2, reports(1));
    rig.drop_conn(2);
    assert_eq!(node(&mut rig, 3, "a"), ["3:identified"]);
    assert_eq!(rig.hear(3, reports(1)), ["3:state_report_ack continue"]);
    assert_eq!(rig.hear(3, complete("t", 1)), ["3:task_ack complete"]);
}

#[test]
fn one_that_says_nothing_gets_it_anew_after_half_a_second() {
    let mut rig = back();
    let report_ms = Policy::default().report_ms;
    assert!(rig.tick_at(report_ms - 1).is_empty());
    assert_eq!(rig.tick_at(report_ms), ["2:task_assign t#3"]);
}

#[test]
fn its_busy_says_that_it_works_on_what_it_left_with() {
    let mut rig = back();
    rig.tick_at(Policy::default().report_ms);
    assert!(rig.hear(2, rejects("busy")).is_empty());
    assert_eq!(rig.status("t"), "assigned#3");
    assert_eq!(rig.hear(2, complete("t", 1)), ["2:task_ack complete"]);
}

#[test]
fn another_reason_or_another_task_is_no_sign_of_that() {
    let mut rig = back();
    rig.tick_at(Policy::default().report_ms);
    rig.hear(2, rejects("restarting"));
    assert_eq!(rig.status("t"), "queued#4");

    let mut rig = Rig::new();
    rig.submit("t");
    node(&mut rig, 1, "a");
    rig.hear(1, rejects("busy"));
    assert_eq!(rig.status("t"), "queued#2", "it had accepted nothing");
}

#[test]
fn a_report_that_comes_late_counts_for_what_was_handed_out_meanwhile() {
    let mut rig = back();
    rig.tick_at(Policy::default().report_ms);
    assert_eq!(rig.hear(2, reports(1)), ["2:state_report_ack continue"]);
    assert_eq!(rig.hear(2, complete("t", 1)), ["2:task_ack complete"]);

    let mut rig = back();
    rig.tick_at(Policy::default().report_ms);
    assert_eq!(rig.hear(2, reports(2)), ["2:state_report_ack abort"], "that hand-out it never had");

    let mut rig = back();
    assert_eq!(rig.hear(2, reports(2))[0], "2:state_report_ack abort", "nor while the task waits");
}

#[test]
fn a_verdict_on_what_it_left_with_counts_while_nobody_has_the_task() {
    let mut rig = back();
    assert_eq!(rig.hear(2, complete("t", 1)), ["2:task_ack complete"]);

    let mut rig = back();
    assert_eq!(rig.hear(2, complete("t", 2))[0], "2:error task_complete_failed: invalid_state");

    let mut rig = back();
    assert_eq!(rig.hear(2, fails(1))[0], "2:task_ack retried");
}

#[test]
fn nothing_is_taken_from_whoever_has_got_the_task_since() {
    let mut rig = gone();
    rig.join(5, "b", Some("boot"));
    rig.hear(5, accepted("t"));
    node(&mut rig, 2, "a");
    assert_eq!(rig.hear(2, reports(1)), ["2:state_report_ack abort"]);
    assert_eq!(rig.hear(2, complete("t", 1)), ["2:error task_complete_failed: stale_generation"]);
    assert_eq!(rig.hear(2, recovers("working")), ["2:task_reassign"]);
    assert_eq!(rig.status("t"), "assigned#3");
}

#[test]
fn what_the_process_before_it_had_woken_goes_on() {
    let mut rig = back();
    assert_eq!(rig.hear(2, recovers("working")), ["2:task_continue #3"]);
    assert_eq!(rig.hear(2, complete("t", 3)), ["2:task_ack complete"]);
}

#[test]
fn what_the_process_before_it_had_not_woken_is_handed_out_anew() {
    let mut rig = back();
    rig.tick_at(Policy::default().report_ms);
    for status in ["accepted", "failed"] {
        let generation = rig.scheduler.tasks().get("t").unwrap().generation;
        let said = rig.hear(2, recovers(status));
        assert_eq!(said[0], "2:task_reassign", "{status}");
        assert_eq!(said[1], format!("2:task_assign t#{}", generation + 2), "{status}");
    }
}

#[test]
fn a_question_about_one_task_does_not_touch_another_that_it_holds() {
    for status in ["accepted", "failed", "working"] {
        let mut rig = Rig::new();
        rig.submit("u");
        node(&mut rig, 1, "a");
        rig.hear(1, accepted("u"));
        assert_eq!(rig.hear(1, recovers(status)), ["1:task_reassign"], "{status}");
        assert_eq!(rig.status("u"), "assigned#1", "{status}");
    }
}

#[test]
fn while_it_is_to_restart_it_is_given_nothing_back() {
    let mut rig = back();
    rig.restart(false);
    rig.said();
    assert_eq!(rig.hear(2, recovers("working")), ["2:task_reassign"]);
    assert_eq!(rig.hear(2, reports(1)), ["2:state_report_ack abort"]);
    assert_eq!(rig.status("t"), "queued#2");
}

#[test]
fn one_that_is_asked_and_says_nothing_loses_its_task() {
    let Policy { stale_timeout_ms, accept_timeout_ms, .. } = Policy::default();
    let mut rig = Rig::new();
    rig.submit("t");
    node(&mut rig, 1, "a");
    rig.hear(1, accepted("t"));
    rig.tick_at(stale_timeout_ms);
    assert!(rig.tick_at(stale_timeout_ms + accept_timeout_ms - 1).is_empty());
    rig.tick_at(stale_timeout_ms + accept_timeout_ms);
    assert_eq!(rig.status("t"), "queued#2");
}

#[test]
fn it_is_asked_when_it_has_been_silent_and_not_a_second_time_about_what_it_carried_over() {
    let stale_ms = Policy::default().stale_timeout_ms;
    let mut rig = Rig::new();
    rig.submit("t");
    node(&mut rig, 1, "a");
    rig.hear(1, accepted("t"));
    assert_eq!(rig.tick_at(stale_ms), ["1:task_assign t#1"]);
    assert!(rig.hear(1, rejects("busy")).is_empty());
    assert_eq!(rig.tick_at(2 * stale_ms), ["1:task_assign t#1"]);

    let mut rig = back();
    rig.hear(2, recovers("working"));
    let said = rig.tick_at(stale_ms);
    assert_eq!(said[0], "2:task_cancelled", "it would be busy with it for ever");
    assert_eq!(rig.status("t"), "queued#4");
}

#[test]
fn one_that_names_its_runs_is_granted_nothing_of_this() {
    let mut rig = Rig::new();
    rig.submit("t");
    rig.join(1, "a", Some("boot"));
    rig.hear(1, accepted("t"));
    rig.drop_conn(1);
    assert_eq!(rig.join(2, "a", Some("boot")), ["2:identified", "2:task_assign t#3"]);
    assert_eq!(rig.hear(2, complete("t", 1))[0], "2:error task_complete_failed: stale_generation");
    rig.hear(2, rejects("restarting"));
    assert_eq!(rig.hear(2, recovers("working")), ["2:task_reassign"], "and it still waits for a while");
    // It has been back: an original one in its place has nothing to speak of.
    rig.drop_conn(2);
    assert_eq!(node(&mut rig, 3, "a"), ["3:identified", "3:task_assign t#5"]);
}

#[test]
fn a_task_that_it_cannot_do_any_more_is_not_its_own_again() {
    let mut rig = Rig::new();
    let needs = json!({"assign_to": "a"});
    rig.submit_with("t", needs.as_object().unwrap().clone());
    node(&mut rig, 1, "a");
    node(&mut rig, 2, "b");
    assert_eq!(rig.hear(2, recovers("working")), ["2:task_reassign"], "it is meant for another");
    rig.hear(1, accepted("t"));
    rig.drop_conn(1);
    assert_eq!(rig.hear(2, recovers("working")), ["2:task_reassign"], "also while it waits for that");
    assert_eq!(rig.status("t"), "queued#2");
}

/// Told that the task is not its own, it would drop work that nobody else was given.
#[test]
fn a_word_on_what_it_had_accepted_when_it_went_makes_it_its_own_again() {
    let mut rig = Rig::new();
    rig.submit("t");
    node(&mut rig, 1, "a");
    rig.hear(1, accepted("t"));
    rig.drop_conn(1);
    node(&mut rig, 2, "a");
    assert_eq!(rig.hear(2, woken("t")), [] as [&str; 0]);
    assert_eq!((rig.status("t"), rig.fsm("a")), ("assigned#3".into(), "working".into()));
    assert_eq!(rig.hear(2, complete("t", 1)), ["2:task_ack complete"]);
}
