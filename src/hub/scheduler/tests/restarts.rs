//! The scheduler and commanded restarts: the fence, planned absences, repeats, and their ends.

use serde_json::{Value, json};

use super::*;
use crate::hub::scheduler::restart::RestartPhase;
use crate::hub::scheduler::tests::rig::{Rig, accepted, agents_of, complete};
use crate::protocol::{JsonFields, RestartAck, RestartAckOutcome, Restarting};

#[test]
fn a_fenced_agent_gets_nothing_from_the_command_to_the_return() {
    let mut rig = Rig::new();
    rig.join(1, "a", Some("boot-1"));
    rig.restart(false).unwrap();
    assert_eq!(rig.said(), [r#"1:restart_sidecar "c0" force=false"#]);
    assert_eq!(rig.fsm("a"), "restarting");
    assert!(rig.submit("t").is_empty());
    rig.hear(1, SidecarFrame::AgentRestarting(Restarting::default()));
    rig.drop_conn(1);
    assert_eq!(rig.fsm("a"), "restarting");
    assert!(rig.submit("u").is_empty());
    assert_eq!(rig.join(2, "a", Some("boot-2")), ["2:identified", "2:task_assign t#1"]);
    assert_eq!(rig.phase(), RestartPhase::Back);
}

#[test]
fn a_planned_absence_keeps_the_task_and_its_generation() {
    let mut rig = Rig::new();
    rig.join(1, "a", Some("boot-1"));
    rig.submit("t");
    rig.hear(1, accepted("t"));
    rig.restart(true).unwrap();
    rig.said();
    rig.hear(1, SidecarFrame::AgentRestarting(Restarting::default()));
    rig.drop_conn(1);
    assert_eq!(rig.status("t"), "assigned#1");
    assert_eq!(rig.join(2, "a", Some("boot-2")), ["2:identified"]);
    let recovering =
        SidecarFrame::TaskRecovering { task_id: "t".into(), last_status: None, rest: JsonFields::default() };
    assert_eq!(rig.hear(2, recovering), ["2:task_continue #1"]);
    assert_eq!(rig.hear(2, complete("t", 1)), ["2:task_ack complete"]);
}

#[test]
fn an_overdue_absence_gives_the_task_to_another() {
    let mut rig = Rig::new();
    rig.join(1, "a", Some("boot-1"));
    rig.submit("t");
    rig.join(2, "b", None);
    rig.restart(false).unwrap();
    rig.drop_conn(1);
    let at = rig.scheduler.deadline().unwrap();
    assert_eq!(rig.tick_at(at), ["2:task_assign t#3"]);
    assert_eq!(rig.fsm("a"), "gone");
    assert_eq!(rig.phase(), RestartPhase::Overdue);
    rig.join(3, "a", Some("boot-2"));
    assert_eq!(rig.phase(), RestartPhase::Back);
}

#[test]
fn a_repeat_is_not_sent_and_force_is_sent_under_the_same_name() {
    let mut rig = Rig::new();
    rig.join(1, "a", Some("boot-1"));
    rig.restart(false).unwrap();
    rig.said();
    rig.now = 7;
    assert_eq!(rig.restart(false).unwrap().command_id, "c0");
    assert!(rig.said().is_empty());
    rig.restart(true).unwrap();
    assert_eq!(rig.said(), [r#"1:restart_sidecar "c0" force=true"#]);
}

#[test]
fn an_original_peer_gets_only_the_reason_and_never_a_second_frame() {
    let mut rig = Rig::new();
    rig.join(1, "a", None);
    rig.restart(false).unwrap();
    assert_eq!(rig.said(), ["1:restart_sidecar null force=false"]);
    rig.restart(true).unwrap();
    assert!(rig.said().is_empty());
}

#[test]
fn an_absent_agent_cannot_be_commanded() {
    assert_eq!(Rig::new().restart(false), None);
}

#[test]
fn a_refused_restart_lifts_the_fence_and_waiting_work_starts() {
    let mut rig = Rig::new();
    rig.join(1, "a", Some("boot-1"));
    rig.restart(false).unwrap();
    rig.submit("t");
    let ack = RestartAck {
        command_id: "c0".into(),
        outcome: RestartAckOutcome::Refused,
        detail: None,
        deadline_ms: None,
        retry_after_ms: None,
    };
    assert_eq!(rig.hear(1, SidecarFrame::RestartAck(ack)), ["1:task_assign t#1"]);
}

#[test]
fn who_announces_a_restart_and_stays_is_not_fenced_for_ever() {
    let mut rig = Rig::new();
    rig.join(1, "a", Some("boot-1"));
    rig.hear(1, SidecarFrame::AgentRestarting(Restarting { reason: "r".into(), ..Restarting::default() }));
    assert!(rig.submit("t").is_empty());
    let policy = Policy::default();
    let said = rig.tick_at(rig.now + policy.drain_deadline_ms + policy.restart_margin_ms);
    assert_eq!(said, ["1:task_assign t#1"]);
}

#[test]
fn an_agent_away_on_a_restart_has_time_to_come_back_after_a_hub_that_was_down_for_long() {
    let mut rig = Rig::new();
    rig.join(1, "a", Some("boot-1"));
    rig.submit("t1");
    rig.restart(false);
    rig.drop_conn(1);
    let tasks = rig.scheduler.tasks().list().into_iter().cloned().collect();
    let restarts = rig.scheduler.restarts().of_agent("a").into_iter().cloned().collect();
    let hour = 3_600_000;
    let mut rig = Rig { scheduler: Scheduler::load(tasks, restarts, Policy::default(), hour), now: hour };
    rig.tick_at(hour + 1_000);
    assert_eq!(rig.scheduler.tasks().get("t1").unwrap().generation, 1, "taken back before the holder could come back");
    rig.join(2, "a", Some("boot-2"));
    assert_eq!(rig.scheduler.restarts().of_agent("a")[0].phase, RestartPhase::Back);
    assert_eq!(rig.scheduler.tasks().task_of("a").unwrap().generation, 1);
}

#[test]
fn an_agent_that_never_comes_back_after_a_restart_of_the_hub_is_overdue_all_the_same() {
    let mut rig = Rig::new();
    rig.join(1, "a", Some("boot-1"));
    rig.submit("t1");
    rig.restart(false);
    rig.drop_conn(1);
    let tasks = rig.scheduler.tasks().list().into_iter().cloned().collect();
    let restarts = rig.scheduler.restarts().of_agent("a").into_iter().cloned().collect();
    let hour = 3_600_000;
    let mut rig = Rig { scheduler: Scheduler::load(tasks, restarts, Policy::default(), hour), now: hour };
    rig.tick_at(hour + Policy::default().accept_timeout_ms);
    assert_eq!(rig.scheduler.restarts().of_agent("a")[0].phase, RestartPhase::Overdue);
    assert_eq!(rig.scheduler.tasks().get("t1").unwrap().generation, 2);
}

#[test]
fn a_restart_that_was_cancelled_on_the_machine_ends_refused_and_lifts_the_fence() {
    let mut rig = Rig::new();
    rig.join(1, "a", Some("b1"));
    rig.restart(false);
    rig.said();
    let ack = |outcome| RestartAck {
        command_id: "c0".into(),
        outcome,
        detail: None,
        deadline_ms: None,
        retry_after_ms: None,
    };
    rig.hear(1, SidecarFrame::RestartAck(ack(RestartAckOutcome::Accepted)));
    assert_eq!(rig.submit("t1"), Vec::<String>::new());
    assert_eq!(rig.hear(1, SidecarFrame::RestartAck(ack(RestartAckOutcome::Refused))), ["1:task_assign t1#1"]);
    assert_eq!(rig.scheduler.restarts().get("c0").unwrap().phase, RestartPhase::Refused);
}

#[test]
fn an_agent_that_is_gone_leaves_no_timer_behind() {
    let mut rig = Rig::new();
    rig.join(1, "a", Some("boot-1"));
    rig.hear(1, SidecarFrame::AgentRestarting(Restarting::default()));
    assert!(rig.scheduler.deadline().is_some());
    rig.drop_conn(1);
    assert_eq!(rig.scheduler.deadline(), None);
}

#[test]
fn an_original_peer_is_told_why() {
    let mut rig = Rig::new();
    rig.join(1, "a", None);
    rig.restart(false).unwrap();
    let outgoing = rig.scheduler.take_outgoing();
    let [Outgoing::Frame { text, receipt, .. }] = outgoing.as_slice() else { panic!("{outgoing:?}") };
    let frame: Value = serde_json::from_str(text).unwrap();
    assert_eq!(frame, json!({"type": "restart_sidecar", "reason": "update"}));
    assert_eq!(receipt.as_deref(), Some("c0"));
}

#[test]
fn an_agent_away_on_a_restart_keeps_its_task_over_a_restart_of_the_hub_until_it_is_overdue() {
    let mut rig = Rig::new();
    rig.join(1, "a", Some("boot-1"));
    rig.submit("t1");
    rig.restart(false);
    let tasks = rig.scheduler.tasks().list().into_iter().cloned().collect();
    let restarts = rig.scheduler.restarts().of_agent("a").into_iter().cloned().collect();
    let mut rig = Rig { scheduler: Scheduler::load(tasks, restarts, Policy::default(), 1_000), now: 1_000 };
    assert_eq!((rig.fsm("a").as_str(), agents_of(&rig.scheduler, rig.now).len()), ("restarting", 1));
    let overdue = rig.scheduler.restarts().get("c0").unwrap().overdue_at;
    assert!(overdue > 1_000 + Policy::default().accept_timeout_ms);
    rig.tick_at(overdue - 1);
    assert_eq!(rig.status("t1"), "assigned#1");
    rig.tick_at(overdue);
    assert_eq!(rig.status("t1"), "queued#2");
}
