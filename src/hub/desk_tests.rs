use super::*;
use crate::wire::{RestartAck, RestartAckOutcome, Restarting, SidecarFrame, Verdict};
use serde_json::{Map, Value, json};

use crate::hub::restart::Phase;
use crate::hub::task::Priority;

/// A desk, a clock, and what was said.
struct Rig {
    desk: Desk,
    now: u64,
}

impl Rig {
    fn new() -> Self {
        Self { desk: Desk::load(Vec::new(), Vec::new(), Policy::default(), 0), now: 0 }
    }

    fn join(&mut self, conn: ConnId, agent_id: &str, boot: Option<&str>) -> Vec<String> {
        let identify = Identify { agent_id: agent_id.into(), boot_id: boot.map(str::to_owned), ..Identify::default() };
        self.desk.identified(conn, &identify, self.now);
        self.said()
    }

    fn submit(&mut self, task_id: &str) -> Vec<String> {
        let submission = Submission {
            description: "d".into(),
            metadata: Map::new(),
            priority: Priority::Normal,
            max_retries: 3,
            needed_capabilities: Vec::new(),
            extra: Map::new(),
            submitted_by: "ops".into(),
        };
        self.desk.submit(task_id.into(), submission, self.now);
        self.said()
    }

    fn hear(&mut self, conn: ConnId, frame: SidecarFrame) -> Vec<String> {
        self.desk.heard(conn, frame, self.now);
        self.said()
    }

    fn drop_conn(&mut self, conn: ConnId) -> Vec<String> {
        self.desk.disconnected(conn, self.now);
        self.said()
    }

    fn restart(&mut self, force: bool) -> Option<Commanded> {
        let request = RestartRequest { reason: "update".into(), deadline_ms: None, force, by: "ops".into() };
        self.desk.command_restart(format!("c{}", self.now), "a", request, self.now)
    }

    fn tick_at(&mut self, now: u64) -> Vec<String> {
        self.now = now;
        self.desk.tick(now);
        self.said()
    }

    /// What was said since the last look, as `connection:type` (and `#generation` of an assignment).
    fn said(&mut self) -> Vec<String> {
        let short = |say: Say| match say {
            Say::Close { conn, code, reason: _ } => format!("{conn}:close {code}"),
            Say::Frame { conn, text, receipt: _ } => {
                let frame: Value = serde_json::from_str(&text).unwrap();
                let detail = match frame["type"].as_str().unwrap() {
                    "task_assign" => format!(" {}#{}", frame["task_id"].as_str().unwrap(), frame["generation"]),
                    "task_continue" => format!(" #{}", frame["generation"]),
                    "task_ack" => format!(" {}", frame["status"].as_str().unwrap()),
                    "state_report_ack" => format!(" {}", frame["action"].as_str().unwrap()),
                    "error" => format!(" {}", frame["error"].as_str().unwrap()),
                    "restart_sidecar" => format!(" {} force={}", frame["command_id"], frame["force"] == true),
                    _ => String::new(),
                };
                format!("{conn}:{}{detail}", frame["type"].as_str().unwrap())
            }
        };
        self.desk.take_says().into_iter().map(short).collect()
    }

    fn status(&self, task_id: &str) -> String {
        let task = self.desk.tasks().get(task_id).unwrap();
        format!("{}#{}", task.status.name(), task.generation)
    }

    fn fsm(&self, agent_id: &str) -> String {
        let agents = self.desk.agents_json();
        let found = agents.iter().find(|agent| agent["agent_id"] == agent_id);
        found.map_or("gone".into(), |agent| agent["fsm_state"].as_str().unwrap().into())
    }

    fn phase(&self) -> Phase {
        self.desk.restarts().of_agent("a")[0].phase
    }
}

fn accepted(task_id: &str) -> SidecarFrame {
    SidecarFrame::TaskAccepted { task_id: task_id.into() }
}

fn complete(task_id: &str, generation: u64) -> SidecarFrame {
    let text = json!({"type": "task_complete", "task_id": task_id, "generation": generation}).to_string();
    SidecarFrame::parse(&text).unwrap()
}

fn rejected(reason: &str) -> SidecarFrame {
    SidecarFrame::TaskRejected { task_id: "t".into(), generation: Some(1), reason: reason.into() }
}

fn report(generation: u64) -> SidecarFrame {
    SidecarFrame::StateReport { task_id: "t".into(), status: None, generation: Some(generation), assigned_at: None }
}

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
    let mut counts = vec![rig.desk.connected_count()];
    for (conn, agent_id) in [(1, "a"), (2, "b"), (3, "b")] {
        rig.join(conn, agent_id, None);
        counts.push(rig.desk.connected_count());
    }
    rig.drop_conn(1);
    counts.push(rig.desk.connected_count());
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
    rig.desk.revive("t", rig.now).unwrap();
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
    assert_eq!(rig.phase(), Phase::Back);
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
    let recovering = SidecarFrame::TaskRecovering { task_id: "t".into(), last_status: None, rest: Map::new() };
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
    let at = rig.desk.deadline().unwrap();
    assert_eq!(rig.tick_at(at), ["2:task_assign t#3"]);
    assert_eq!(rig.fsm("a"), "gone");
    assert_eq!(rig.phase(), Phase::Overdue);
    rig.join(3, "a", Some("boot-2"));
    assert_eq!(rig.phase(), Phase::Back);
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
fn an_original_peer_is_told_why() {
    let mut rig = Rig::new();
    rig.join(1, "a", None);
    rig.restart(false).unwrap();
    let says = rig.desk.take_says();
    let [Say::Frame { text, receipt, .. }] = says.as_slice() else { panic!("{says:?}") };
    let frame: Value = serde_json::from_str(text).unwrap();
    assert_eq!(frame, json!({"type": "restart_sidecar", "reason": "update"}));
    assert_eq!(receipt.as_deref(), Some("c0"));
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
    let ack =
        RestartAck { command_id: "c0".into(), outcome: RestartAckOutcome::Refused, detail: None, deadline_ms: None };
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
fn a_status_is_answered_and_shown() {
    let mut rig = Rig::new();
    rig.join(1, "a", None);
    assert_eq!(rig.hear(1, SidecarFrame::Status { status: "reading".into() }), ["1:status_updated"]);
    assert_eq!(rig.desk.agents_json()[0]["status"], "reading");
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
    let desk = Desk::load(Vec::new(), Vec::new(), Policy { reject_retry_ms: 7, ..Policy::default() }, 0);
    let mut rig = Rig { desk, now: 0 };
    rig.join(1, "a", None);
    rig.submit("t");
    rig.hear(1, rejected("busy"));
    assert_eq!(rig.desk.deadline(), Some(7));
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
    assert_eq!(rig.desk.tasks().get("t").unwrap().last_error.as_deref(), Some("rejected as invalid by a"));
    assert_eq!(rig.fsm("a"), "idle");
}

#[test]
fn a_state_report_of_an_older_generation_is_adopted_by_those_who_can_and_aborted_by_others() {
    let adopted = vec!["2:task_assign t#3", "2:state_report_ack continue"];
    for (boot, answer) in [(Some("boot-1"), adopted), (None, vec!["2:state_report_ack abort"])] {
        let mut rig = Rig::new();
        rig.join(1, "a", boot);
        rig.submit("t");
        rig.drop_conn(1);
        rig.join(2, "a", boot);
        assert_eq!(rig.hear(2, report(1)), answer);
    }
}

/// The assignment that took a hand-out's place can go down with a connection that the agent never had (found by the model
/// check): told only to go on, the agent would finish under the old generation, and its result would not count.
#[test]
fn an_agent_that_missed_the_newer_assignment_hears_it_with_the_answer_to_its_report() {
    let mut rig = Rig::new();
    rig.join(1, "a", Some("boot-1"));
    rig.submit("t");
    assert_eq!(rig.tick_at(60_000), [] as [&str; 0]);
    assert_eq!(rig.tick_at(70_000), ["1:task_assign t#3"]);
    rig.join(2, "a", Some("boot-1"));
    assert_eq!(rig.hear(2, report(1)), ["2:task_assign t#3", "2:state_report_ack continue"]);
}

/// Found by the model check: the acceptance of an older hand-out, said again with its verdict, counted for the newer one
/// that the agent had missed.
#[test]
fn an_agent_that_missed_the_newer_assignment_hears_it_with_the_refusal_of_its_verdict() {
    let mut rig = Rig::new();
    rig.join(1, "a", Some("boot-1"));
    rig.submit("t");
    rig.tick_at(60_000);
    assert_eq!(rig.tick_at(70_000), ["1:task_assign t#3"]);
    rig.join(2, "a", Some("boot-2"));
    let verdict = Verdict { task_id: "t".into(), generation: 1, result: None, rest: Map::new() };
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
    let recovering = SidecarFrame::TaskRecovering { task_id: "t".into(), last_status: None, rest: Map::new() };
    assert_eq!(rig.hear(1, recovering), ["1:task_reassign"]);
}

#[test]
fn a_task_that_was_not_accepted_goes_to_another_agent_first() {
    let mut rig = Rig::new();
    rig.join(1, "a", None);
    rig.submit("t");
    rig.join(2, "b", None);
    assert_eq!(rig.tick_at(60_000), ["2:task_assign t#3"]);
}

#[test]
fn a_cancelled_task_is_said_to_its_holder_who_is_free_again() {
    let mut rig = Rig::new();
    rig.join(1, "a", None);
    rig.submit("t");
    rig.submit("u");
    rig.desk.cancel("t", "ops", 1).unwrap();
    assert_eq!(rig.said(), ["1:task_cancelled", "1:task_assign u#1"]);
}

#[test]
fn after_a_restart_of_the_hub_a_kept_assignment_waits_for_its_holder_and_is_then_confirmed() {
    let mut rig = Rig::new();
    rig.join(1, "a", Some("boot-1"));
    rig.submit("t");
    rig.hear(1, accepted("t"));
    let stored = rig.desk.tasks().list().into_iter().cloned().collect();
    let mut rig = Rig { desk: Desk::load(stored, Vec::new(), Policy::default(), 1_000), now: 1_000 };
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
    let stored = rig.desk.tasks().list().into_iter().cloned().collect();
    let mut rig = Rig { desk: Desk::load(stored, Vec::new(), Policy::default(), 1_000), now: 1_000 };
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
    let waiting = rig.desk.tasks().list().iter().filter(|task| task.status == Status::Queued).count();
    let idle = rig.desk.agents_json().iter().filter(|agent| agent["fsm_state"] == "idle").count();
    assert_eq!((waiting, idle), (0, 0));
}

#[test]
fn an_agent_away_on_a_restart_has_time_to_come_back_after_a_hub_that_was_down_for_long() {
    let mut rig = Rig::new();
    rig.join(1, "a", Some("boot-1"));
    rig.submit("t1");
    rig.restart(false);
    rig.drop_conn(1);
    let tasks = rig.desk.tasks().list().into_iter().cloned().collect();
    let restarts = rig.desk.restarts().of_agent("a").into_iter().cloned().collect();
    let hour = 3_600_000;
    let mut rig = Rig { desk: Desk::load(tasks, restarts, Policy::default(), hour), now: hour };
    rig.tick_at(hour + 1_000);
    assert_eq!(rig.desk.tasks().get("t1").unwrap().generation, 1, "taken back before the holder could come back");
    rig.join(2, "a", Some("boot-2"));
    assert_eq!(rig.desk.restarts().of_agent("a")[0].phase, Phase::Back);
    assert_eq!(rig.desk.tasks().task_of("a").unwrap().generation, 1);
}

#[test]
fn an_agent_away_on_a_restart_keeps_its_task_over_a_restart_of_the_hub_until_it_is_overdue() {
    let mut rig = Rig::new();
    rig.join(1, "a", Some("boot-1"));
    rig.submit("t1");
    rig.restart(false);
    let tasks = rig.desk.tasks().list().into_iter().cloned().collect();
    let restarts = rig.desk.restarts().of_agent("a").into_iter().cloned().collect();
    let mut rig = Rig { desk: Desk::load(tasks, restarts, Policy::default(), 1_000), now: 1_000 };
    assert_eq!((rig.fsm("a").as_str(), rig.desk.agents_json().len()), ("restarting", 1));
    let overdue = rig.desk.restarts().get("c0").unwrap().overdue_at;
    assert!(overdue > 1_000 + Policy::default().accept_timeout_ms);
    rig.tick_at(overdue - 1);
    assert_eq!(rig.status("t1"), "assigned#1");
    rig.tick_at(overdue);
    assert_eq!(rig.status("t1"), "queued#2");
}

#[test]
fn an_agent_that_never_comes_back_after_a_restart_of_the_hub_is_overdue_all_the_same() {
    let mut rig = Rig::new();
    rig.join(1, "a", Some("boot-1"));
    rig.submit("t1");
    rig.restart(false);
    rig.drop_conn(1);
    let tasks = rig.desk.tasks().list().into_iter().cloned().collect();
    let restarts = rig.desk.restarts().of_agent("a").into_iter().cloned().collect();
    let hour = 3_600_000;
    let mut rig = Rig { desk: Desk::load(tasks, restarts, Policy::default(), hour), now: hour };
    rig.tick_at(hour + Policy::default().accept_timeout_ms);
    assert_eq!(rig.desk.restarts().of_agent("a")[0].phase, Phase::Overdue);
    assert_eq!(rig.desk.tasks().get("t1").unwrap().generation, 2);
}

#[test]
fn a_resource_report_keeps_only_the_figures_that_it_is_for() {
    let mut rig = Rig::new();
    rig.join(1, "a", None);
    let report = json!({"cpu_percent": 1.5, "protocol_version": 1, "junk": "x".repeat(9_999)});
    rig.hear(1, SidecarFrame::ResourceReport { rest: report.as_object().unwrap().clone() });
    assert_eq!(rig.desk.agents_json()[0]["resources"], json!({"cpu_percent": 1.5}));
}

#[test]
fn a_cordoned_agent_gets_no_task_until_it_says_so() {
    let mut rig = Rig::new();
    rig.join(1, "a", Some("b1"));
    rig.hear(1, SidecarFrame::Cordon { on: true });
    assert_eq!(rig.submit("t1"), Vec::<String>::new());
    let shown = rig.desk.agents_json();
    assert_eq!((&shown[0]["fsm_state"], &shown[0]["cordoned"]), (&json!("draining"), &json!(true)));
    assert_eq!(rig.hear(1, SidecarFrame::Cordon { on: false }), ["1:task_assign t1#1"]);
}

#[test]
fn a_restart_that_was_cancelled_on_the_machine_ends_refused_and_lifts_the_fence() {
    let mut rig = Rig::new();
    rig.join(1, "a", Some("b1"));
    rig.restart(false);
    rig.said();
    let ack = |outcome| RestartAck { command_id: "c0".into(), outcome, detail: None, deadline_ms: None };
    rig.hear(1, SidecarFrame::RestartAck(ack(RestartAckOutcome::Accepted)));
    assert_eq!(rig.submit("t1"), Vec::<String>::new());
    assert_eq!(rig.hear(1, SidecarFrame::RestartAck(ack(RestartAckOutcome::Refused))), ["1:task_assign t1#1"]);
    assert_eq!(rig.desk.restarts().get("c0").unwrap().phase, Phase::Refused);
}

#[test]
fn an_agent_that_is_gone_leaves_no_timer_behind() {
    let mut rig = Rig::new();
    rig.join(1, "a", Some("boot-1"));
    rig.hear(1, SidecarFrame::AgentRestarting(Restarting::default()));
    assert!(rig.desk.deadline().is_some());
    rig.drop_conn(1);
    assert_eq!(rig.desk.deadline(), None);
}
