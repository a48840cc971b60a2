use serde_json::json;

use super::*;
use crate::hub::scheduler::assignments::{Away, Returned};
use crate::hub::scheduler::task::Priority;
use crate::hub::scheduler::tests::rig::submission;
use crate::hub::scheduler::verdicts::{Failed, VerdictError};
use crate::protocol::tests::{fields, tree};
use crate::protocol::{JsonFields, JsonText};

fn queue_of(lanes: &[(&str, Priority)]) -> Tasks {
    let mut tasks = Tasks::load(Vec::new(), Policy::default(), 0);
    for (id, lane) in lanes {
        tasks.submit((*id).into(), submission(*lane), 0);
    }
    tasks
}

fn one_assigned() -> Tasks {
    let mut tasks = queue_of(&[("t", Priority::Normal)]);
    assert!(tasks.assign("t", "a", &RunIdentity::default(), 10));
    tasks
}

fn complete(tasks: &mut Tasks, agent: &str, generation: u64) -> Result<(), VerdictError> {
    tasks.complete(agent, "t", generation, JsonText::empty_object(), JsonFields::default(), 20)
}

#[test]
fn lanes_come_in_order_and_inside_a_lane_the_first_comes_first() {
    use Priority::{High, Low, Normal, Urgent};
    let mut tasks = queue_of(&[("l", Low), ("n1", Normal), ("n2", Normal), ("u", Urgent), ("h", High)]);
    let mut order = Vec::new();
    while let Some(id) = tasks.first_for("any", &BTreeSet::new()) {
        assert!(tasks.assign(&id, &format!("agent-{id}"), &RunIdentity::default(), 1));
        order.push(id);
    }
    assert_eq!(order, ["u", "h", "n1", "n2", "l"]);
}

#[test]
fn a_task_taken_back_keeps_its_place_before_later_ones() {
    let mut tasks = queue_of(&[("t", Priority::Normal), ("later", Priority::Normal)]);
    tasks.assign("t", "a", &RunIdentity::default(), 1);
    tasks.reclaim("a", "agent_disconnect", 2);
    assert_eq!(tasks.first_for("any", &BTreeSet::new()).as_deref(), Some("t"));
}

#[test]
fn an_agent_needs_every_capability_that_the_task_names() {
    let mut tasks = queue_of(&[]);
    let needs = Submission { needed_capabilities: vec!["code".into(), "gpu".into()], ..submission(Priority::Normal) };
    tasks.submit("t".into(), needs, 0);
    let can = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(tasks.first_for("any", &can(&["code"])), None);
    assert_eq!(tasks.first_for("any", &can(&["code", "gpu", "more"])).as_deref(), Some("t"));
}

#[test]
fn every_hand_out_and_every_take_back_is_a_new_generation() {
    let mut tasks = one_assigned();
    assert_eq!(tasks.get("t").unwrap().generation, 1);
    tasks.reclaim("a", "agent_disconnect", 11);
    assert_eq!(tasks.get("t").unwrap().generation, 2);
    tasks.assign("t", "b", &RunIdentity::default(), 12);
    assert_eq!(tasks.get("t").unwrap().generation, 3);
}

#[test]
fn an_agent_holds_one_task_at_a_time() {
    let mut tasks = queue_of(&[("t", Priority::Normal), ("u", Priority::Normal)]);
    assert!(tasks.assign("t", "a", &RunIdentity::default(), 1));
    assert!(!tasks.assign("u", "a", &RunIdentity::default(), 1));
}

#[test]
fn a_verdict_for_an_old_generation_is_stale() {
    let mut tasks = one_assigned();
    assert_eq!(complete(&mut tasks, "a", 0), Err(VerdictError::StaleGeneration));
    assert_eq!(tasks.get("t").unwrap().status.name(), "assigned");
}

#[test]
fn a_verdict_from_an_agent_that_does_not_hold_the_task_is_stale() {
    let mut tasks = one_assigned();
    assert_eq!(complete(&mut tasks, "b", 1), Err(VerdictError::StaleGeneration));
}

#[test]
fn a_repeated_verdict_is_in_an_invalid_state_and_changes_nothing() {
    let mut tasks = one_assigned();
    complete(&mut tasks, "a", 1).unwrap();
    let before = tasks.get("t").cloned();
    assert_eq!(complete(&mut tasks, "a", 1), Err(VerdictError::InvalidState));
    assert_eq!(tasks.get("t").cloned(), before);
}

#[test]
fn a_verdict_for_a_task_nobody_knows_is_not_found() {
    assert_eq!(complete(&mut queue_of(&[]), "a", 1), Err(VerdictError::NotFound));
}

#[test]
fn the_third_failure_of_three_makes_a_dead_letter() {
    let mut tasks = one_assigned();
    assert_eq!(tasks.fail("a", "t", 1, "no", 20), Ok(Failed::Retried));
    tasks.assign("t", "a", &RunIdentity::default(), 21);
    assert_eq!(tasks.fail("a", "t", 3, "no", 22), Ok(Failed::Retried));
    tasks.assign("t", "a", &RunIdentity::default(), 23);
    assert_eq!(tasks.fail("a", "t", 5, "worse", 24), Ok(Failed::DeadLetter));
    let task = tasks.get("t").unwrap();
    assert_eq!((task.status.name(), task.last_error.as_deref()), ("dead_letter", Some("worse")));
    assert_eq!(tasks.first_for("any", &BTreeSet::new()), None);
}

#[test]
fn a_dead_letter_that_is_revived_has_all_its_tries_again() {
    let mut tasks = queue_of(&[]);
    tasks.submit("t".into(), Submission { max_retries: 1, ..submission(Priority::Normal) }, 0);
    tasks.assign("t", "a", &RunIdentity::default(), 1);
    assert_eq!(tasks.fail("a", "t", 1, "no", 2), Ok(Failed::DeadLetter));
    tasks.revive("t", 3).unwrap();
    let task = tasks.get("t").unwrap();
    assert_eq!((task.status.name(), task.retry_count, task.generation), ("queued", 0, 2));
}

#[test]
fn a_dead_letter_that_is_revived_is_not_forgotten_with_the_finished() {
    let mut tasks = Tasks::load(Vec::new(), Policy { keep_finished: 1, ..Policy::default() }, 0);
    for id in ["t", "u"] {
        tasks.submit(id.into(), Submission { max_retries: 1, ..submission(Priority::Normal) }, 0);
    }
    tasks.assign("t", "a", &RunIdentity::default(), 1);
    assert_eq!(tasks.fail("a", "t", 1, "no", 2), Ok(Failed::DeadLetter));
    tasks.revive("t", 3).unwrap();
    tasks.cancel("u", "ops", 4).unwrap();
    assert!(tasks.get("t").is_some() && tasks.get("u").is_some());
}

#[test]
fn a_holder_from_the_store_has_the_time_that_the_policy_says() {
    let stored: Vec<Task> = one_assigned().list().into_iter().cloned().collect();
    let policy = |reconnect_grace_ms| Policy { accept_timeout_ms: 7, reconnect_grace_ms, ..Policy::default() };
    let deadline = |grace| Tasks::load(stored.clone(), policy(grace), 1_000).deadline();
    assert_eq!((deadline(5), deadline(9)), (Some(1_007), Some(1_009)));
}

#[test]
fn an_assignment_that_nobody_accepts_is_due_after_the_accept_timeout() {
    let mut tasks = one_assigned();
    assert_eq!(tasks.deadline(), Some(60_010));
    assert_eq!(tasks.due(60_009), []);
    assert_eq!(tasks.due(60_010), [Due::Reclaim { agent_id: "a".into(), why: "not_accepted" }]);
}

#[test]
fn an_accepted_task_without_life_is_due_after_the_stale_timeout_and_progress_puts_that_off() {
    let mut tasks = one_assigned();
    tasks.accepted("a", "t", 1_000);
    tasks.record_sign_of_life("a", "t", 300_000);
    assert_eq!(tasks.deadline(), Some(900_000));
    assert_eq!(tasks.due(899_999), []);
    assert_eq!(tasks.due(900_000), [Due::Reclaim { agent_id: "a".into(), why: "stale" }]);
}

fn away(until: Option<u64>) -> Away {
    Away { since: 10, until, planned: false }
}

fn returned(run: &RunIdentity, resend: bool) -> Returned<'_> {
    Returned { run, resend, rival: false, unclear: false }
}

#[test]
fn a_holder_away_on_a_restart_is_never_due() {
    let mut tasks = one_assigned();
    tasks.assignments.holder_left("a", away(None));
    assert_eq!(tasks.deadline(), None);
    assert_eq!(tasks.due(u64::MAX / 2), []);
}

#[test]
fn all_timers_rest_while_a_holder_is_away_but_the_one_of_its_absence() {
    let mut tasks = one_assigned();
    tasks.assignments.holder_left("a", away(Some(700_000)));
    assert_eq!((tasks.deadline(), tasks.due(699_999)), (Some(700_000), vec![]));
    assert_eq!(tasks.due(700_000), [Due::Expired { agent_id: "a".into(), planned: false }]);
}

#[test]
fn a_restart_that_is_overdue_leaves_the_grace_of_a_broken_connection() {
    let mut tasks = one_assigned();
    tasks.assignments.holder_left("a", away(None));
    tasks.assignments.restart_overdue("a");
    assert_eq!(tasks.deadline(), Some(10 + Policy::default().reconnect_grace_ms));
    let mut tasks = one_assigned();
    tasks.assignments.holder_left("a", away(Some(5)));
    tasks.assignments.restart_overdue("a");
    assert_eq!(tasks.deadline(), Some(5), "it does not wait for the restart");
}

#[test]
fn a_returned_holder_that_never_accepted_hears_the_assignment_again_once() {
    let mut tasks = one_assigned();
    tasks.assignments.holder_returned("a", returned(&RunIdentity::default(), true), 100);
    assert_eq!(tasks.due(2_100), [Due::Resend { agent_id: "a".into() }]);
    assert_eq!(tasks.due(2_101), []);
}

#[test]
fn a_returned_holder_that_had_accepted_is_not_told_again_but_must_confirm() {
    let mut tasks = one_assigned();
    tasks.accepted("a", "t", 11);
    tasks.assignments.holder_returned("a", returned(&RunIdentity::default(), false), 100);
    assert_eq!(tasks.due(60_099), []);
    assert_eq!(tasks.due(60_100), [Due::Reclaim { agent_id: "a".into(), why: "not_accepted" }]);
}

#[test]
fn the_api_shows_a_task_with_what_became_of_it() {
    let mut tasks = queue_of(&[]);
    let extra = fields(&json!({"repo": "r"}));
    tasks.submit("t".into(), Submission { extra, ..submission(Priority::Low) }, 5);
    tasks.assign("t", "a", &RunIdentity::default(), 10);
    tasks.accepted("a", "t", 11);
    let task = tasks.get("t").unwrap();
    let shown = tree(&task.shown(None));
    let seen = ["task_id", "priority", "status", "accepted", "assigned_to", "assigned_at", "generation", "repo"];
    let seen = seen.map(|key| shown[key].clone());
    let wanted = json!(["t", 3, "assigned", true, "a", 10, 1, "r"]);
    assert_eq!(json!(seen), wanted);
    assert_eq!((task.holder(), task.updated_at, task.history.len()), (Some("a"), 11, 3));
    let result = JsonText::of(&json!({"output": "o"}));
    let report = fields(&json!({"tokens_used": 9}));
    tasks.complete("a", "t", 1, result, report, 20).unwrap();
    let task = tasks.get("t").unwrap();
    let shown = tree(&task.shown(None));
    let seen = ["status", "accepted", "assigned_to", "result", "tokens_used"].map(|key| shown[key].clone());
    assert_eq!(json!(seen), json!(["completed", false, "a", {"output": "o"}, 9]));
    assert_eq!(task.holder(), Some("a"));
}

#[test]
fn an_assignment_carries_the_task_and_its_generation() {
    let tasks = one_assigned();
    let assignment = tasks.get("t").unwrap().assignment();
    assert_eq!((assignment.task_id.as_str(), assignment.generation), ("t", 1));
    let rest = tree(&assignment.rest);
    assert_eq!((&rest["description"], &rest["assigned_at"]), (&json!("d"), &json!(10)));
    assert_eq!(rest["complexity"]["effective_tier"], "standard");
}

#[test]
fn a_task_is_final_once_nothing_moves_it_by_itself() {
    let mut tasks = queue_of(&[("t", Priority::Urgent)]);
    let is_final = |tasks: &Tasks| tasks.get("t").unwrap().status.is_final();
    assert!(!is_final(&tasks));
    tasks.assign("t", "a", &RunIdentity::default(), 1);
    assert!(!is_final(&tasks));
    tasks.cancel("t", "ops", 2).unwrap();
    assert!(is_final(&tasks));
}

#[test]
fn what_was_stored_is_the_same_queue_again() {
    let mut tasks = queue_of(&[("t", Priority::Normal), ("u", Priority::Urgent)]);
    tasks.assign("u", "a", &RunIdentity::default(), 10);
    let stored: Vec<Task> = tasks.list().into_iter().cloned().collect();
    let text = serde_json::to_string(&stored).unwrap();
    let loaded = Tasks::load(serde_json::from_str(&text).unwrap(), Policy::default(), 1_000);
    assert_eq!(loaded.queue, tasks.queue);
    assert_eq!(loaded.next_seq, tasks.next_seq);
    assert_eq!(loaded.task_of("a").map(|task| task.id.as_str()), Some("u"));
    assert_eq!(loaded.deadline(), Some(61_000));
}

#[test]
fn only_the_newest_finished_tasks_are_kept() {
    let policy = Policy { keep_finished: 2, ..Policy::default() };
    let mut tasks = Tasks::load(Vec::new(), policy, 0);
    for id in ["1", "2", "3"] {
        tasks.submit(id.into(), submission(Priority::Normal), 0);
        tasks.assign(id, "a", &RunIdentity::default(), 1);
        tasks.complete("a", id, 1, JsonText::empty_object(), JsonFields::default(), 2).unwrap();
    }
    assert!(tasks.get("1").is_none());
    assert!(tasks.take_dirty().contains("1"), "the store must hear of the deletion");
    assert!(tasks.get("2").is_some() && tasks.get("3").is_some());
}

#[test]
fn a_cancelled_task_is_free_of_its_holder_and_takes_no_verdict() {
    let mut tasks = one_assigned();
    assert_eq!(tasks.cancel("t", "ops", 11), Ok(Some("a".into())));
    assert_eq!(tasks.task_of("a"), None);
    assert_eq!(complete(&mut tasks, "a", 1), Err(VerdictError::InvalidState));
    assert_eq!(tasks.cancel("t", "ops", 12), Err("cancelled"));
}

#[test]
fn a_task_that_is_handed_out_at_its_completion_time_is_not_taken_back_for_it() {
    let mut tasks = queue_of(&[]);
    let extra = fields(&json!({"complete_by": 5_000}));
    tasks.submit("t".into(), Submission { extra, ..submission(Priority::Normal) }, 0);
    tasks.assign("t", "a", &RunIdentity::default(), 5_000);
    assert_eq!(tasks.due(5_000), []);
}

#[test]
fn a_task_that_is_still_held_at_its_completion_time_is_taken_back_once() {
    let mut tasks = queue_of(&[]);
    let extra = fields(&json!({"complete_by": 5_000}));
    tasks.submit("t".into(), Submission { extra, ..submission(Priority::Normal) }, 0);
    tasks.assign("t", "a", &RunIdentity::default(), 10);
    tasks.accepted("a", "t", 11);
    assert_eq!(tasks.deadline(), Some(5_000));
    assert_eq!(tasks.due(5_000), [Due::Reclaim { agent_id: "a".into(), why: "overdue" }]);
    tasks.reclaim("a", "overdue", 5_000);
    tasks.assign("t", "b", &RunIdentity::default(), 5_001);
    assert_eq!(tasks.due(5_002), []);
}

#[test]
fn large_finished_tasks_make_room_by_their_bytes_and_an_unfinished_one_never_does() {
    let policy = Policy { keep_finished_bytes: 6_500, ..Policy::default() };
    let mut tasks = Tasks::load(Vec::new(), policy, 0);
    let large = JsonText::of(&json!({"output": "x".repeat(2_000)}));
    for id in ["unfinished", "1", "2", "3"] {
        tasks.submit(id.into(), Submission { metadata: large.clone(), ..submission(Priority::Normal) }, 0);
    }
    for id in ["1", "2", "3"] {
        tasks.assign(id, "a", &RunIdentity::default(), 1);
        tasks.complete("a", id, 1, JsonText::empty_object(), JsonFields::default(), 2).unwrap();
    }
    assert!(tasks.get("1").is_none() && tasks.take_dirty().contains("1"));
    assert!(tasks.get("2").is_some() && tasks.get("3").is_some() && tasks.get("unfinished").is_some());
    assert_eq!(tasks.list().len(), 3);
}

#[test]
fn a_finished_task_that_is_larger_than_all_may_be_stays_until_the_next() {
    let policy = Policy { keep_finished_bytes: 10, ..Policy::default() };
    let mut tasks = Tasks::load(Vec::new(), policy, 0);
    for id in ["1", "2"] {
        tasks.submit(id.into(), submission(Priority::Normal), 0);
        tasks.assign(id, "a", &RunIdentity::default(), 1);
        tasks.complete("a", id, 1, JsonText::empty_object(), JsonFields::default(), 2).unwrap();
        assert!(tasks.get(id).is_some(), "somebody waits for it");
    }
    assert!(tasks.get("1").is_none());
}

#[test]
fn a_hub_with_lower_bounds_forgets_the_oldest_at_once() {
    let mut tasks = queue_of(&[("1", Priority::Normal), ("2", Priority::Normal)]);
    tasks.cancel("1", "ops", 1).unwrap();
    tasks.cancel("2", "ops", 2).unwrap();
    let stored = tasks.list().into_iter().cloned().collect();
    let mut tasks = Tasks::load(stored, Policy { keep_finished: 1, ..Policy::default() }, 3);
    assert!(tasks.get("1").is_none() && tasks.get("2").is_some());
    assert!(tasks.take_dirty().contains("1"));
}

#[test]
fn a_dead_letter_that_is_revived_weighs_nothing_any_more() {
    let policy = Policy { keep_finished_bytes: 1_500, ..Policy::default() };
    let mut tasks = Tasks::load(Vec::new(), policy, 0);
    let large = JsonText::of(&json!({"output": "x".repeat(800)}));
    for id in ["1", "2"] {
        tasks.submit(id.into(), Submission { metadata: large.clone(), ..submission(Priority::Normal) }, 0);
    }
    tasks.assign("1", "a", &RunIdentity::default(), 1);
    tasks.move_to_dead_letters("a", "invalid", 2);
    tasks.revive("1", 3).unwrap();
    tasks.cancel("2", "ops", 4).unwrap();
    assert!(tasks.get("1").is_some() && tasks.get("2").is_some());
}

#[test]
fn a_task_for_one_agent_waits_for_that_one_whatever_it_can_do() {
    for (extra, metadata) in [
        (json!({"assign_to": "b"}), json!({})),
        (json!({}), json!({"assign_to": "b"})),
        (json!({}), json!({"target_agent": "b"})),
    ] {
        let mut tasks = queue_of(&[]);
        let named = Submission {
            extra: fields(&extra),
            metadata: JsonText::of(&metadata),
            needed_capabilities: vec!["gpu".into()],
            ..submission(Priority::Normal)
        };
        tasks.submit("t".into(), named, 0);
        assert_eq!(tasks.first_for("a", &BTreeSet::from(["gpu".to_owned()])), None);
        assert_eq!(tasks.first_for("b", &BTreeSet::new()).as_deref(), Some("t"));
    }
}

#[test]
fn what_has_not_ended_leaves_room_for_no_more_at_some_point_and_what_ends_makes_room() {
    let policy = Policy { max_unfinished: 2, max_unfinished_bytes: 5_000, ..Policy::default() };
    let mut tasks = Tasks::load(Vec::new(), policy, 0);
    tasks.submit("1".into(), submission(Priority::Normal), 0);
    assert!(tasks.has_room(100));
    assert!(!tasks.has_room(5_000), "too heavy");
    tasks.submit("2".into(), submission(Priority::Normal), 0);
    assert!(!tasks.has_room(0), "too many");
    tasks.assign("1", "a", &RunIdentity::default(), 1);
    assert!(!tasks.has_room(0), "under way is not ended");
    tasks.move_to_dead_letters("a", "invalid", 2);
    assert!(tasks.has_room(100));
    tasks.revive("1", 3).unwrap();
    assert!(!tasks.has_room(0));
    let stored: Vec<Task> = tasks.list().into_iter().cloned().collect();
    assert!(!Tasks::load(stored, policy, 4).has_room(0));
}
