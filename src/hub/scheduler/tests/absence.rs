//! A broken connection is not a lost agent: who keeps its task, for how long, and who is told what.

use super::*;
use crate::hub::scheduler::inventory::close::Closing;
use crate::hub::scheduler::tests::rig::{Rig, accepted, complete, progress, report};
use crate::protocol::{JsonFields, JsonText, PreviousEnd, Restarting, SidecarFrame};

const GRACE_MS: u64 = 30_000;

/// An agent at work on a task beside an idle one that could do it too.
fn at_work() -> Rig {
    let mut rig = Rig::new();
    rig.join_today(1, "a", "boot-1");
    rig.submit("t");
    rig.hear(1, accepted("t"));
    rig.join_today(2, "b", "boot-b");
    rig
}

fn recovers(task_id: &str) -> SidecarFrame {
    SidecarFrame::TaskRecovering {
        task_id: task_id.into(),
        last_status: Some("working".into()),
        rest: JsonFields::default(),
    }
}

#[test]
fn an_agent_that_is_back_within_the_grace_goes_on_and_nobody_else_gets_its_task() {
    let mut rig = at_work();
    assert!(rig.drop_conn(1).is_empty());
    assert!(rig.tick_at(GRACE_MS - 1).is_empty());
    assert_eq!(rig.join_today(3, "a", "boot-1"), ["3:identified"]);
    assert_eq!(rig.hear(3, report(1)), ["3:state_report_ack continue"]);
    assert_eq!(rig.hear(3, complete("t", 1)), ["3:task_ack complete"]);
    assert_eq!(rig.losses("t"), 0);
}

#[test]
fn an_agent_that_stays_away_loses_its_task_and_is_forgotten() {
    let mut rig = at_work();
    rig.drop_conn(1);
    assert_eq!(rig.scheduler.deadline(), Some(GRACE_MS));
    assert_eq!(rig.tick_at(GRACE_MS), ["2:task_assign t#3"]);
    assert_eq!((rig.losses("t"), rig.scheduler.agents.get("a").is_none()), (1, true));
    assert_eq!(rig.join_today(3, "a", "boot-1"), ["3:identified"]);
    assert_eq!(rig.losses("t"), 0, "only the connection had broken, for long");
    assert_eq!(rig.hear(3, report(1)), ["3:state_report_ack abort"]);
}

#[test]
fn an_absent_agent_is_not_listed_gets_no_task_and_cannot_be_restarted() {
    let mut rig = at_work();
    rig.hear(2, SidecarFrame::Cordon { on: true });
    rig.drop_conn(1);
    assert!(rig.submit("u").is_empty());
    assert_eq!(
        (rig.fsm("a"), rig.scheduler.view().agent_state("a", rig.now), rig.restart(false)),
        ("gone".into(), None, None)
    );
    assert_eq!(rig.scheduler.connected_count(), 1);
}

#[test]
fn an_idle_agent_that_leaves_is_forgotten_at_once() {
    let mut rig = at_work();
    rig.drop_conn(2);
    assert!(rig.scheduler.agents.get("b").is_none());
}

#[test]
fn another_kind_of_client_loses_its_task_at_once() {
    let mut rig = Rig::new();
    rig.join(1, "a", None);
    rig.submit("t");
    rig.join(2, "b", None);
    assert_eq!(rig.drop_conn(1), ["2:task_assign t#3"]);
}

#[test]
fn an_assignment_that_may_never_have_arrived_is_sent_again_to_the_agent_that_is_back() {
    let mut rig = Rig::new();
    rig.join_today(1, "a", "boot-1");
    rig.submit("t");
    rig.drop_conn(1);
    rig.join_today(2, "a", "boot-1");
    assert_eq!(rig.tick_at(2_000), ["2:task_assign t#1"]);
}

#[test]
fn one_that_was_never_accepted_is_no_loss_when_its_agent_stays_away() {
    let mut rig = Rig::new();
    rig.join_today(1, "a", "boot-1");
    rig.submit("t");
    rig.drop_conn(1);
    rig.tick_at(GRACE_MS);
    assert_eq!((rig.status("t"), rig.losses("t")), ("queued#2".into(), 0));
}

#[test]
fn another_run_keeps_the_task_and_counts_a_loss_unless_somebody_wanted_the_end_of_the_one_before() {
    for (previous_end, losses) in
        [(Some(PreviousEnd::Unknown), 1), (None, 1), (Some(PreviousEnd::Stopped), 0), (Some(PreviousEnd::Restarted), 0)]
    {
        let mut rig = at_work();
        rig.drop_conn(1);
        let boot_id = Some("boot-2".to_owned());
        rig.join_as(3, Identify { agent_id: "a".into(), boot_id, previous_end, ..Identify::default() });
        assert_eq!(rig.hear(3, recovers("t")), ["3:task_continue #1"]);
        assert_eq!((rig.losses("t"), rig.status("t")), (losses, "assigned#1".into()), "{previous_end:?}");
    }
}

#[test]
fn another_run_that_does_not_mention_the_task_is_sent_it_again_and_then_loses_it() {
    let mut rig = at_work();
    rig.drop_conn(1);
    assert_eq!(rig.join_today(3, "a", "boot-2"), ["3:identified"]);
    assert_eq!(rig.tick_at(2_000), ["3:task_assign t#1"]);
    assert_eq!(rig.tick_at(60_000), ["3:task_reassign #1", "2:task_assign t#3"]);
}

#[test]
fn the_same_run_is_not_sent_again_what_it_had_accepted() {
    let mut rig = at_work();
    rig.drop_conn(1);
    rig.join_today(3, "a", "boot-1");
    assert!(rig.tick_at(2_000).is_empty());
}

#[test]
fn a_task_that_ends_its_sidecar_again_and_again_is_a_dead_letter_and_the_agent_hears_so() {
    let mut rig = at_work();
    let most = Policy::default().max_losses;
    let mut conn = 1;
    for run in 2..=most {
        rig.drop_conn(conn);
        conn = 10 * run;
        rig.join_today(conn, "a", &format!("boot-{run}"));
        rig.hear(conn, recovers("t"));
        assert_eq!((rig.losses("t"), rig.status("t")), (run - 1, "assigned#1".into()));
    }
    rig.drop_conn(conn);
    assert_eq!(rig.join_today(1_000, "a", "boot-last"), ["1000:identified", "1000:task_reassign #1"]);
    assert_eq!(rig.status("t"), "dead_letter#1");
}

#[test]
fn a_restart_that_was_announced_has_the_time_that_the_agent_named() {
    let mut rig = at_work();
    let expected_back_ms = Some(60_000);
    rig.hear(1, SidecarFrame::AgentRestarting(Restarting { expected_back_ms, ..Restarting::default() }));
    rig.drop_conn(1);
    assert!(rig.tick_at(74_999).is_empty());
    rig.tick_at(75_000);
    assert_eq!((rig.status("t"), rig.losses("t")), ("assigned#3".into(), 0), "planned");
}

#[test]
fn a_commanded_restart_that_is_overdue_leaves_an_agent_that_has_just_left_its_grace() {
    let mut rig = at_work();
    rig.restart(false).unwrap();
    rig.said();
    let overdue_at = rig.scheduler.restarts().of_agent("a")[0].overdue_at;
    rig.now = overdue_at - 1_000;
    rig.hear(1, progress("t"));
    rig.drop_conn(1);
    rig.tick_at(overdue_at);
    assert_eq!((rig.phase().name(), rig.status("t")), ("overdue", "assigned#1".into()));
    rig.tick_at(overdue_at - 1_000 + GRACE_MS);
    assert_eq!((rig.status("t"), rig.losses("t")), ("assigned#3".into(), 0));
}

#[test]
fn an_agent_whose_token_is_revoked_loses_its_task_at_once_also_while_it_is_away() {
    let mut rig = at_work();
    rig.scheduler.expel(1, &Closing::revoked(), 0);
    assert_eq!((rig.said(), rig.losses("t")), (vec!["2:task_assign t#3".to_owned()], 0));
    let mut rig = at_work();
    rig.drop_conn(1);
    rig.scheduler.owner_left("a", 0);
    assert_eq!(rig.said(), ["2:task_assign t#3"]);
}

#[test]
fn after_a_crash_of_the_hub_every_holder_has_the_longer_of_accept_timeout_and_grace() {
    let mut rig = at_work();
    rig.hub_crash();
    rig.join_today(2, "b", "boot-b");
    assert!(rig.tick_at(59_999).is_empty());
    assert_eq!(rig.tick_at(60_000), ["2:task_assign t#3"]);
    assert_eq!(rig.losses("t"), 0, "the hub does not know which run had it");
}

#[test]
fn an_acceptance_of_an_older_generation_brings_the_present_assignment() {
    let mut rig = Rig::new();
    rig.join_today(1, "a", "boot-1");
    rig.submit("t");
    rig.tick_at(60_000);
    assert_eq!(rig.tick_at(70_000), ["1:task_assign t#3"]);
    let accepts = |generation| SidecarFrame::TaskAccepted { task_id: "t".into(), generation: Some(generation) };
    assert_eq!(rig.hear(1, accepts(1)), ["1:task_assign t#3"]);
    assert_eq!(rig.fsm("a"), "assigned");
    assert_eq!(rig.hear(1, accepts(3)), ["1:task_ack accepted"]);
}

#[test]
fn an_overdue_task_goes_to_others_first_and_its_holder_is_free_for_another() {
    let complete_by = JsonFields::from_iter([("complete_by", JsonText::of(&1_000))]);
    let mut rig = Rig::new();
    rig.join_today(1, "a", "boot-1");
    rig.submit_with("t", complete_by.clone());
    rig.hear(1, accepted("t"));
    rig.join_today(2, "b", "boot-b");
    assert_eq!(rig.tick_at(1_000), ["1:task_reassign #1", "2:task_assign t#3"]);
    assert_eq!(rig.submit("u"), ["1:task_assign u#1"]);
    // Where nobody else is idle, it takes its work up again.
    let mut rig = Rig::new();
    rig.join_today(1, "a", "boot-1");
    rig.submit_with("t", complete_by);
    rig.hear(1, accepted("t"));
    assert_eq!(rig.tick_at(1_000), ["1:task_reassign #1", "1:task_assign t#3"]);
}

/// A task that was given to another agent, at whose hands it ends.
fn moved_on() -> Rig {
    let mut rig = at_work();
    rig.tick_at(600_000);
    assert_eq!(rig.status("t"), "assigned#3");
    rig
}

#[test]
fn who_kept_work_on_a_task_hears_when_it_has_ended_elsewhere() {
    let mut rig = moved_on();
    assert_eq!(rig.hear(2, complete("t", 3)), ["2:task_ack complete", "1:task_cancelled"]);
    let mut rig = moved_on();
    rig.scheduler.cancel("t", "ops", rig.now).unwrap();
    assert_eq!(rig.said(), ["2:task_cancelled", "1:task_cancelled"]);
}

#[test]
fn who_was_away_then_hears_so_when_it_asks() {
    let parked = || SidecarFrame::StateReport {
        task_id: "t".into(),
        status: Some("parked".into()),
        generation: None,
        assigned_at: None,
    };
    let mut rig = moved_on();
    assert!(rig.hear(1, parked()).is_empty(), "it may still come back");
    rig.drop_conn(1);
    assert_eq!(rig.hear(2, complete("t", 3)), ["2:task_ack complete"]);
    rig.join_today(3, "a", "boot-1");
    assert_eq!(rig.hear(3, parked()), ["3:task_cancelled"]);
    assert_eq!(rig.hear(3, report(1)), ["3:task_cancelled"]);
    assert_eq!(rig.hear(3, recovers("t")), ["3:task_cancelled"]);
    let refused = rig.hear(3, complete("t", 1));
    assert_eq!(refused, ["3:error task_complete_failed: invalid_state", "3:task_cancelled"]);
}

#[test]
fn parked_work_on_a_task_that_the_agent_holds_again_brings_the_assignment() {
    let mut rig = Rig::new();
    rig.join_today(1, "a", "boot-1");
    rig.submit("t");
    let report = SidecarFrame::StateReport {
        task_id: "t".into(),
        status: Some("parked".into()),
        generation: None,
        assigned_at: None,
    };
    assert_eq!(rig.hear(1, report), ["1:task_assign t#1"]);
    assert_eq!(rig.fsm("a"), "assigned", "that is no acceptance");
}

#[test]
fn a_refused_verdict_names_itself() {
    let mut rig = at_work();
    rig.scheduler.frame_received(2, complete("t", 7), 0);
    let Some(Outgoing::Frame { text, .. }) = rig.scheduler.take_outgoing().pop() else { panic!() };
    let error: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&error["task_id"], &error["generation"]), (&json!("t"), &json!(7)));
}

/// A sidecar that ends at once, whatever it is given, beside an idle agent.
#[test]
fn an_assignment_that_three_runs_did_not_accept_goes_to_another_agent_without_a_loss() {
    let mut rig = Rig::new();
    rig.join_today(1, "a", "boot-1");
    rig.submit("t");
    rig.join_today(2, "b", "boot-b");
    let mut conn = 1;
    for run in 2..4 {
        rig.drop_conn(conn);
        conn = 10 * run;
        assert_eq!(rig.join_today(conn, "a", &format!("boot-{run}")), [format!("{conn}:identified")]);
    }
    rig.drop_conn(conn);
    assert_eq!(rig.join_today(40, "a", "boot-4"), ["40:identified", "40:task_reassign #1", "2:task_assign t#3"]);
    assert_eq!(rig.losses("t"), 0);
}

#[test]
fn a_hub_that_takes_over_leaves_a_task_with_its_holder_for_as_long_as_that_may_listen_to_the_one_before() {
    let mut rig = Rig::new();
    rig.join(1, "a", Some("boot-1"));
    rig.submit("t");
    rig.hear(1, accepted("t"));
    let tasks: Vec<_> = rig.scheduler.tasks().list().into_iter().cloned().collect();
    for (takeover_wait_ms, waits) in [(0, 60_000), (51_000, 60_000), (116_000, 116_000)] {
        let policy = Policy { takeover_wait_ms, ..Policy::default() };
        let mut next = Rig { scheduler: Scheduler::load(tasks.clone(), Vec::new(), policy, 1_000), now: 1_000 };
        next.join(2, "b", Some("boot-2"));
        assert_eq!(next.tick_at(1_000 + waits - 1), Vec::<String>::new(), "{takeover_wait_ms}");
        assert_eq!(next.tick_at(1_000 + waits), ["2:task_assign t#3"], "{takeover_wait_ms}");
    }
}

#[test]
fn a_longer_silence_bound_is_stored_with_the_commit_before_anything_is_said_to_the_agent() {
    let mut rig = Rig::new();
    let said = |ms| Identify {
        silence_bound_ms: Some(ms),
        boot_id: Some("b".into()),
        agent_id: "a".into(),
        ..Identify::default()
    };
    let mut stored_with = |conn, ms| {
        rig.join_as(conn, said(ms));
        let changes = rig.scheduler.take_changes();
        changes
            .agents
            .iter()
            .filter_map(|(_, record)| Some(record.as_ref()?.about.silence_bound_ms()))
            .collect::<Vec<_>>()
    };
    assert_eq!(stored_with(1, 40_000), Vec::<u64>::new(), "as the hub assumes of everybody");
    assert_eq!(stored_with(2, 115_000), [115_000]);
    assert_eq!(stored_with(3, 115_000), Vec::<u64>::new());
    assert_eq!(stored_with(4, u64::MAX), [300_000], "nobody keeps the others waiting for ever");
}
