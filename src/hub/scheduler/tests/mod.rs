//! The scheduler: tasks, assignments, verdicts and returns. Its restarts are in `restarts`.

mod absence;
mod connections;
mod drains;
mod inventory;
mod legacy_agents;
mod losses;
mod owners;
mod planned_ends;
mod properties;
mod restarts;
pub(crate) mod rig;
mod rivals;

use serde_json::{Value, json};

use super::*;
use crate::hub::scheduler::tests::rig::{Rig, accepted, agents_of, complete, progress, rejected, report, woken};
use crate::protocol::tests::fields;
use crate::protocol::{Identify, JsonFields, JsonText, SidecarFrame, TaskCompletion};

#[test]
fn a_task_goes_to_whoever_was_idle_longest_and_its_verdict_frees_the_agent() {
    let mut rig = Rig::new();
    assert_eq!(rig.join(1, "a", None), ["1:identified"]);
    rig.join(2, "b", None);
    assert_eq!(rig.submit("t"), ["1:task_assign t#1"]);
    assert_eq!(rig.submit("u"), ["2:task_assign u#1"]);
    assert_eq!(rig.hear(1, accepted("t")), ["1:task_ack accepted"]);
    assert_eq!(rig.fsm("a"), "working");
    assert_eq!(rig.hear(1, complete("t", 1)), ["1:task_ack complete"]);
    assert_eq!(rig.fsm("a"), "idle");
}

#[test]
fn the_line_is_in_the_order_of_joining_whatever_the_names() {
    let mut rig = Rig::new();
    for (conn, agent_id) in [(1, "c"), (2, "a"), (3, "b")] {
        rig.join(conn, agent_id, None);
    }
    let said = [rig.submit("t"), rig.submit("u"), rig.submit("v")].concat();
    assert_eq!(said, ["1:task_assign t#1", "2:task_assign u#1", "3:task_assign v#1"]);
}

#[test]
fn as_many_agents_are_connected_as_have_a_socket() {
    let mut rig = Rig::new();
    let mut counts = vec![rig.scheduler.connected_count()];
    for (conn, agent_id) in [(1, "a"), (2, "b"), (3, "b")] {
        rig.join(conn, agent_id, None);
        counts.push(rig.scheduler.connected_count());
    }
    rig.drop_conn(1);
    counts.push(rig.scheduler.connected_count());
    assert_eq!(counts, [0, 1, 2, 2, 1]);
}

#[test]
fn a_failed_task_is_tried_again_until_its_tries_are_spent_and_anew_when_somebody_revives_it() {
    let mut rig = Rig::new();
    rig.join(1, "a", None);
    rig.submit("t");
    let failed = |generation: u64| {
        let frame = json!({"type": "task_failed", "task_id": "t", "generation": generation, "reason": "no"});
        SidecarFrame::parse(&frame.to_string()).unwrap()
    };
    assert_eq!(rig.hear(1, failed(1)), ["1:task_ack retried", "1:task_assign t#3"]);
    assert_eq!(rig.hear(1, failed(3)), ["1:task_ack retried", "1:task_assign t#5"]);
    assert_eq!(rig.hear(1, failed(5)), ["1:task_ack dead_letter"]);
    rig.scheduler.revive("t", rig.now).unwrap();
    assert_eq!(rig.said(), ["1:task_assign t#7"]);
}

#[test]
fn an_agent_that_becomes_free_takes_the_next_task_after_its_answer() {
    let mut rig = Rig::new();
    rig.join(1, "a", None);
    rig.submit("t");
    rig.submit("u");
    assert_eq!(rig.hear(1, complete("t", 1)), ["1:task_ack complete", "1:task_assign u#1"]);
}

#[test]
fn a_drop_takes_the_task_back_at_once_and_the_return_gets_it_under_a_new_generation() {
    let mut rig = Rig::new();
    rig.join(1, "a", None);
    rig.submit("t");
    rig.drop_conn(1);
    assert_eq!(rig.status("t"), "queued#2");
    assert_eq!(rig.join(2, "a", None), ["2:identified", "2:task_assign t#3"]);
}

#[test]
fn a_status_is_answered_and_shown() {
    let mut rig = Rig::new();
    rig.join(1, "a", None);
    assert_eq!(rig.hear(1, SidecarFrame::Status { status: "reading".into() }), ["1:status_updated"]);
    assert_eq!(agents_of(&rig.scheduler, rig.now)[0]["status"], "reading");
}

#[test]
fn who_is_known_cannot_say_anew_who_it_is() {
    let mut rig = Rig::new();
    rig.join(1, "a", None);
    let other = Identify { agent_id: "b".into(), ..Identify::default() };
    assert_eq!(rig.hear(1, SidecarFrame::Identify(Box::new(other))), ["1:error already_identified"]);
    assert_eq!((rig.fsm("a").as_str(), rig.fsm("b").as_str()), ("idle", "gone"));
}

#[test]
fn a_status_does_not_bring_a_rejected_task_straight_back() {
    let mut rig = Rig::new();
    rig.join(1, "a", Some("boot-1"));
    rig.submit("t");
    rig.hear(1, rejected("busy"));
    let said = rig.hear(1, SidecarFrame::Status { status: "idle".into() });
    assert!(!said.iter().any(|said| said.contains("task_assign")), "{said:?}");
}

#[test]
fn a_busy_agent_keeps_no_task_and_gets_it_again_only_when_its_state_changes() {
    let mut rig = Rig::new();
    rig.join(1, "a", None);
    rig.submit("t");
    assert!(rig.hear(1, rejected("busy")).is_empty());
    assert_eq!(rig.status("t"), "queued#2");
    assert_eq!(
        rig.hear(1, complete("unheard-of", 1)),
        ["1:error task_complete_failed: not_found", "1:task_assign t#3"]
    );
}

#[test]
fn a_busy_agent_whose_work_is_not_its_own_any_more_may_get_a_task_at_once() {
    let mut rig = Rig::new();
    rig.join(1, "a", None);
    rig.submit("t");
    rig.hear(1, rejected("busy"));
    assert_eq!(rig.hear(1, report(1)), ["1:state_report_ack abort", "1:task_assign t#3"]);
}

#[test]
fn how_long_a_busy_agent_gets_no_task_is_the_policys_to_say() {
    let scheduler = Scheduler::load(Vec::new(), Vec::new(), Policy { reject_retry_ms: 7, ..Policy::default() }, 0);
    let mut rig = Rig { scheduler, now: 0 };
    rig.join(1, "a", None);
    rig.submit("t");
    rig.hear(1, rejected("busy"));
    assert_eq!(rig.scheduler.deadline(), Some(7));
}

#[test]
fn a_busy_agent_that_says_nothing_more_is_asked_again_after_a_while() {
    let mut rig = Rig::new();
    rig.join(1, "a", None);
    rig.submit("t");
    rig.hear(1, rejected("busy"));
    assert!(rig.tick_at(9_999).is_empty());
    assert_eq!(rig.tick_at(10_000), ["1:task_assign t#3"]);
}

#[test]
fn a_rejection_of_another_generation_changes_nothing() {
    let mut rig = Rig::new();
    rig.join(1, "a", None);
    rig.submit("t");
    let old = SidecarFrame::TaskRejected { task_id: "t".into(), generation: Some(0), reason: "busy".into() };
    rig.hear(1, old);
    assert_eq!(rig.status("t"), "assigned#1");
}

#[test]
fn an_invalid_task_is_a_dead_letter_with_the_reason() {
    let mut rig = Rig::new();
    rig.join(1, "a", None);
    rig.submit("t");
    rig.hear(1, rejected("invalid"));
    assert_eq!(rig.status("t"), "dead_letter#1");
    assert_eq!(rig.scheduler.tasks().get("t").unwrap().last_error.as_deref(), Some("rejected as invalid by a"));
    assert_eq!(rig.fsm("a"), "idle");
}

#[test]
fn a_state_report_of_an_older_generation_is_adopted_by_those_who_can_and_aborted_by_others() {
    let adopted = vec!["2:task_assign t#3", "2:state_report_ack continue"];
    for (boot, answer) in [(Some("boot-1"), adopted), (None, vec!["2:state_report_ack abort"])] {
        let mut rig = Rig::new();
        rig.join(1, "a", boot);
        rig.submit("t");
        rig.tick_at(60_000);
        rig.tick_at(70_000);
        rig.join(2, "a", boot);
        assert_eq!(rig.hear(2, report(1)), answer);
    }
}

/// The assignment that took an earlier one's place can go down with a connection that the agent never had (found by the model
/// check): told only to go on, the agent would finish under the old generation, and its result would not count.
#[test]
fn an_agent_that_missed_the_newer_assignment_hears_it_with_the_answer_to_its_report() {
    let mut rig = Rig::new();
    rig.join(1, "a", Some("boot-1"));
    rig.submit("t");
    assert_eq!(rig.tick_at(60_000), ["1:task_cancelled"]);
    assert_eq!(rig.tick_at(70_000), ["1:task_assign t#3"]);
    rig.join(2, "a", Some("boot-1"));
    assert_eq!(rig.hear(2, report(1)), ["2:task_assign t#3", "2:state_report_ack continue"]);
}

/// Found by the model check: the acceptance of an older assignment, said again with its verdict, counted for the newer one
/// that the agent had missed.
#[test]
fn an_agent_that_missed_the_newer_assignment_hears_it_with_the_refusal_of_its_verdict() {
    let mut rig = Rig::new();
    rig.join(1, "a", Some("boot-1"));
    rig.submit("t");
    rig.tick_at(60_000);
    assert_eq!(rig.tick_at(70_000), ["1:task_assign t#3"]);
    rig.join(2, "a", Some("boot-2"));
    let verdict = TaskCompletion { task_id: "t".into(), generation: 1, result: None, rest: JsonFields::default() };
    assert_eq!(
        rig.hear(2, SidecarFrame::TaskComplete(verdict)),
        ["2:error task_complete_failed: stale_generation", "2:task_assign t#3"]
    );
}

#[test]
fn a_refused_verdict_brings_the_assignment_again_only_for_the_same_task() {
    let mut rig = Rig::new();
    rig.join(1, "a", Some("boot-1"));
    rig.join(2, "b", Some("boot-1"));
    rig.submit("t");
    rig.submit("u");
    assert_eq!(rig.hear(1, complete("u", 1)), ["1:error task_complete_failed: stale_generation"]);
    assert_eq!(rig.hear(1, complete("unheard-of", 1)), ["1:error task_complete_failed: not_found"]);
}

#[test]
fn a_peer_that_adopts_no_work_hears_no_assignment_again() {
    let mut rig = Rig::new();
    rig.join(1, "a", None);
    rig.submit("t");
    assert_eq!(rig.hear(1, complete("t", 0)), ["1:error task_complete_failed: stale_generation"]);
}

#[test]
fn recovering_a_task_that_is_not_held_any_more_is_a_reassign() {
    let mut rig = Rig::new();
    rig.join(1, "a", None);
    let recovering =
        SidecarFrame::TaskRecovering { task_id: "t".into(), last_status: None, rest: JsonFields::default() };
    assert_eq!(rig.hear(1, recovering), ["1:task_reassign"]);
}

#[test]
fn a_task_that_was_not_accepted_goes_to_another_agent_first() {
    let mut rig = Rig::new();
    rig.join(1, "a", None);
    rig.submit("t");
    rig.join(2, "b", None);
    assert_eq!(rig.tick_at(60_000), ["1:task_cancelled", "2:task_assign t#3"]);
}

/// What takes a task from its holder by the clock: it was not accepted, it shows no life, it is late.
#[test]
fn whoever_a_task_is_taken_from_hears_so() {
    let complete_by = JsonFields::from_iter([("complete_by", JsonText::of(&90_000))]);
    for (accepts, extra, at) in
        [(false, JsonFields::default(), 60_000), (true, JsonFields::default(), 600_000), (true, complete_by, 90_000)]
    {
        let mut rig = Rig::new();
        rig.join(1, "a", Some("boot-1"));
        rig.submit_with("t", extra);
        if accepts {
            rig.hear(1, accepted("t"));
        }
        assert_eq!(rig.tick_at(at), ["1:task_cancelled"]);
        assert_eq!((rig.status("t"), rig.fsm("a")), ("queued#2".into(), "idle".into()));
    }
}

#[test]
fn a_word_on_a_task_from_one_that_does_not_hold_it_is_answered_so() {
    let mut rig = Rig::new();
    rig.join(1, "a", Some("boot-1"));
    rig.join(2, "b", Some("boot-1"));
    rig.submit("t");
    for frame in [accepted("t"), progress("t"), woken("t")] {
        assert_eq!(rig.hear(2, frame.clone()), ["2:task_cancelled"], "{frame:?}");
        assert!(!rig.hear(1, frame).contains(&"1:task_cancelled".to_owned()), "the holder");
    }
    assert_eq!(rig.hear(2, progress("unheard-of")), ["2:task_cancelled"]);
}

#[test]
fn a_cancelled_task_is_said_to_its_holder_who_is_free_again() {
    let mut rig = Rig::new();
    rig.join(1, "a", None);
    rig.submit("t");
    rig.submit("u");
    rig.scheduler.cancel("t", "ops", 1).unwrap();
    assert_eq!(rig.said(), ["1:task_cancelled", "1:task_assign u#1"]);
}

#[test]
fn after_a_restart_of_the_hub_a_kept_assignment_waits_for_its_holder_and_is_then_confirmed() {
    let mut rig = Rig::new();
    rig.join(1, "a", Some("boot-1"));
    rig.submit("t");
    rig.hear(1, accepted("t"));
    let stored = rig.scheduler.tasks().list().into_iter().cloned().collect();
    let mut rig = Rig { scheduler: Scheduler::load(stored, Vec::new(), Policy::default(), 1_000), now: 1_000 };
    assert_eq!(rig.join(1, "a", Some("boot-1")), ["1:identified"]);
    assert_eq!(rig.hear(1, report(1)), ["1:state_report_ack continue"]);
    assert!(rig.tick_at(200_000).is_empty());
    assert_eq!(rig.status("t"), "assigned#1");
}

#[test]
fn after_a_restart_of_the_hub_an_assignment_that_may_never_have_been_said_is_said_again() {
    let mut rig = Rig::new();
    rig.join(1, "a", Some("boot-1"));
    rig.submit("t");
    let stored = rig.scheduler.tasks().list().into_iter().cloned().collect();
    let mut rig = Rig { scheduler: Scheduler::load(stored, Vec::new(), Policy::default(), 1_000), now: 1_000 };
    rig.join(1, "a", Some("boot-1"));
    assert_eq!(rig.tick_at(3_000), ["1:task_assign t#1"]);
}

#[test]
fn the_line_holds_no_idle_agent_beside_work_it_could_do() {
    // A drop, a rejection and a return in any order must leave nobody waiting for nothing.
    let mut rig = Rig::new();
    rig.join(1, "a", None);
    rig.join(2, "b", None);
    rig.submit("t");
    rig.submit("u");
    rig.submit("v");
    rig.drop_conn(1);
    rig.hear(2, complete("u", 1));
    rig.join(3, "a", None);
    let waiting = rig.scheduler.tasks().list().iter().filter(|task| task.status == Status::Queued).count();
    let idle = agents_of(&rig.scheduler, rig.now).iter().filter(|agent| agent["fsm_state"] == "idle").count();
    assert_eq!((waiting, idle), (0, 0));
}

#[test]
fn a_resource_report_keeps_only_the_figures_that_it_is_for() {
    let mut rig = Rig::new();
    rig.join(1, "a", None);
    let report = json!({"cpu_percent": 1.5, "protocol_version": 1, "junk": "x".repeat(9_999)});
    rig.hear(1, SidecarFrame::ResourceReport { rest: fields(&report) });
    assert_eq!(agents_of(&rig.scheduler, rig.now)[0]["resources"], json!({"cpu_percent": 1.5}));
}

#[test]
fn a_cordoned_agent_gets_no_task_until_it_says_so() {
    let mut rig = Rig::new();
    rig.join(1, "a", Some("b1"));
    rig.hear(1, SidecarFrame::Cordon { on: true });
    assert_eq!(rig.submit("t1"), Vec::<String>::new());
    let shown = agents_of(&rig.scheduler, rig.now);
    assert_eq!((&shown[0]["fsm_state"], &shown[0]["cordoned"]), (&json!("draining"), &json!(true)));
    assert_eq!(rig.hear(1, SidecarFrame::Cordon { on: false }), ["1:task_assign t1#1"]);
}

#[test]
fn a_late_result_of_a_task_that_has_ended_leaves_nothing() {
    let mut rig = Rig::new();
    rig.join_today(1, "a", "boot-1");
    rig.submit("t");
    rig.hear(1, accepted("t"));
    rig.scheduler.cancel("t", "ops", 1).unwrap();
    rig.said();
    rig.scheduler.take_changes();
    let result = json!({"output": "x".repeat(9_999)});
    let late = json!({"type": "task_complete", "task_id": "t", "generation": 1, "result": result}).to_string();
    let answer = vec!["1:error task_complete_failed: invalid_state".to_owned(), "1:task_cancelled".to_owned()];
    for _ in 0..3 {
        assert_eq!(rig.hear(1, SidecarFrame::parse(&late).unwrap()), answer);
    }
    assert!(rig.scheduler.take_changes().tasks.is_empty());
}

#[test]
fn the_reason_of_a_rejection_is_a_word_in_the_history() {
    let mut rig = Rig::new();
    rig.join(1, "a", None);
    rig.submit("t");
    rig.hear(1, rejected(&"x".repeat(2_000)));
    let details = rig.scheduler.tasks().get("t").unwrap().history[0].details.to_string();
    let details: Value = serde_json::from_str(&details).unwrap();
    assert_eq!(details["reason"].as_str().map(|reason| reason.chars().count()), Some("rejected: ".len() + 256));
}
