//! Which of an agent's connections counts: the one that was opened last, whatever is read first.

use super::*;
use crate::hub::scheduler::tests::rig::states_of;

#[test]
fn the_newest_connection_wins_and_the_job_stays() {
    let mut rig = Rig::new();
    rig.join(1, "a", Some("boot-1"));
    rig.submit("t");
    rig.hear(1, accepted("t"));
    assert_eq!(rig.join(2, "a", Some("boot-1")), ["1:close 4001", "2:identified"]);
    rig.drop_conn(1);
    assert_eq!(rig.status("t"), "assigned#1");
    assert_eq!(rig.hear(2, report(1)), ["2:state_report_ack continue"]);
    assert_eq!(rig.hear(2, complete("t", 1)), ["2:task_ack complete"]);
}

#[test]
fn nothing_from_a_superseded_connection_counts() {
    let mut rig = Rig::new();
    rig.join(1, "a", None);
    rig.submit("t");
    rig.join(2, "a", None);
    assert!(rig.hear(1, complete("t", 1)).is_empty());
    assert_eq!(rig.status("t"), "assigned#1");
}

#[test]
fn an_agent_may_identify_twice_on_one_connection() {
    let mut rig = Rig::new();
    rig.join(1, "a", None);
    assert_eq!(rig.join(1, "a", None), ["1:identified"]);
    assert_eq!(rig.submit("t"), ["1:task_assign t#1"]);
}

#[test]
fn connected_is_who_has_a_socket() {
    let mut rig = Rig::new();
    assert!(!rig.scheduler.is_connected("a"));
    rig.join(1, "a", Some("boot-1"));
    assert!(rig.scheduler.is_connected("a") && !rig.scheduler.is_connected("b"));
    rig.restart(false).unwrap();
    rig.drop_conn(1);
    assert!(!rig.scheduler.is_connected("a"), "it is due back");
}

#[test]
fn how_an_agent_stands_is_shown_while_it_is_here_or_due_back() {
    let mut rig = Rig::new();
    assert_eq!((rig.scheduler.view().agent_state("a", rig.now), states_of(&rig.scheduler, rig.now)), (None, vec![]));
    rig.join(1, "a", Some("boot-1"));
    rig.submit("t");
    let state = rig.scheduler.view().agent_state("a", rig.now).unwrap();
    assert_eq!([&state["agent_id"], &state["fsm_state"], &state["current_task_id"]], ["a", "assigned", "t"]);
    assert_eq!(states_of(&rig.scheduler, rig.now), [state]);
    rig.hear(1, complete("t", 1));
    rig.restart(false).unwrap();
    rig.drop_conn(1);
    assert_eq!(rig.scheduler.view().agent_state("a", rig.now).unwrap()["fsm_state"], "restarting");
    // All that a hub knows of it which was started since.
    let restarts = rig.scheduler.restarts().of_agent("a").into_iter().cloned().collect();
    let scheduler = Scheduler::load(Vec::new(), restarts, Policy::default(), rig.now);
    assert_eq!(states_of(&scheduler, 0).len(), 1);
    assert_eq!(scheduler.view().agent_state("a", 0).unwrap()["connected_at"], json!(null));
}

#[test]
fn an_identify_that_is_read_late_does_not_take_a_newer_connections_place() {
    let mut rig = Rig::new();
    rig.join(2, "a", Some("boot-2"));
    rig.submit("t");
    assert_eq!(rig.join(1, "a", Some("boot-1")), ["1:close 4001"]);
    assert!(rig.drop_conn(1).is_empty());
    assert_eq!(rig.status("t"), "assigned#1");
    assert_eq!(rig.hear(2, complete("t", 1)), ["2:task_ack complete"]);
}

#[test]
fn an_identify_from_before_an_agent_that_has_left_brings_nobody_back() {
    let mut rig = Rig::new();
    rig.join(2, "a", Some("boot-2"));
    rig.drop_conn(2);
    assert_eq!(rig.join(1, "a", Some("boot-1")), ["1:close 4001"]);
    assert_eq!(rig.fsm("a"), "gone");
    assert!(rig.submit("t").is_empty());
    assert_eq!(rig.join(3, "a", Some("boot-2")), ["3:identified", "3:task_assign t#1"]);
}

#[test]
fn a_run_from_before_a_command_is_not_its_return() {
    for boots in [[Some("boot-1"), Some("boot-2")], [None, None]] {
        let mut rig = Rig::new();
        rig.join(2, "a", boots[1]);
        rig.restart(false).unwrap();
        rig.drop_conn(2);
        rig.join(1, "a", boots[0]);
        assert!(rig.phase().is_open(), "{}", rig.phase().name());
    }
}

#[test]
fn the_numbers_of_a_hubs_connections_begin_anew_with_it() {
    let mut rig = Rig::new();
    rig.join(7, "a", None);
    rig.scheduler = Scheduler::load(Vec::new(), Vec::new(), Policy::default(), rig.now);
    assert_eq!(rig.join(1, "a", None), ["1:identified"]);
}

#[test]
fn connections_of_different_agents_are_not_compared() {
    let mut rig = Rig::new();
    rig.join(2, "a", None);
    assert_eq!(rig.join(1, "b", None), ["1:identified"]);
}
