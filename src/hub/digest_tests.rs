use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;

use serde_json::{Map, json};

use crate::hub::desk::Desk;
use crate::hub::policy::Policy;
use crate::hub::restart::RestartRequest;
use crate::hub::task::{Priority, Submission};
use crate::wire::{Identify, Restarting, SidecarFrame};

/// A desk with one agent, which has accepted one task, all of it at `at_ms`.
fn desk(at_ms: u64) -> Desk {
    let mut desk = Desk::load(Vec::new(), Vec::new(), Policy::default(), at_ms);
    join(&mut desk, "a", at_ms);
    submit(&mut desk, "t", at_ms);
    desk
}

fn join(desk: &mut Desk, agent_id: &str, at_ms: u64) {
    let identify = Identify { agent_id: agent_id.into(), boot_id: Some("boot-1".into()), ..Identify::default() };
    desk.identified(1, &identify, at_ms);
}

fn submit(desk: &mut Desk, task_id: &str, at_ms: u64) {
    let submission = Submission {
        description: "d".into(),
        metadata: Map::new(),
        priority: Priority::Normal,
        max_retries: 3,
        needed_capabilities: Vec::new(),
        extra: json!({"complete_by": at_ms + 500_000}).as_object().cloned().unwrap(),
        submitted_by: "ops".into(),
    };
    desk.submit(task_id.into(), submission, at_ms);
}

fn command(desk: &mut Desk, at_ms: u64) {
    let request = RestartRequest { reason: "r".into(), deadline_ms: None, force: false, by: "ops".into() };
    desk.command_restart("c".into(), "a", request, at_ms).unwrap();
}

fn digest(desk: &Desk, now_ms: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    desk.digest(now_ms, |conn| usize::try_from(conn).unwrap(), &mut hasher);
    hasher.finish()
}

/// The digests of the same desk before and after this happened to it, at the same time.
fn around(mut desk: Desk, what: impl FnOnce(&mut Desk)) -> (u64, u64) {
    let before = digest(&desk, 100);
    what(&mut desk);
    (before, digest(&desk, 100))
}

#[test]
fn lives_that_differ_only_in_their_dates_are_the_same() {
    let life = |from: u64| {
        let mut desk = desk(from);
        command(&mut desk, from + 10);
        digest(&desk, from + 20)
    };
    assert_eq!(life(0), life(1_000_000));
}

#[test]
fn a_task_counts_and_how_far_it_came() {
    let (empty, one) = around(Desk::load(Vec::new(), Vec::new(), Policy::default(), 0), |desk| submit(desk, "t", 0));
    assert_ne!(empty, one);
    let (handed, cancelled) = around(desk(0), |desk| desk.cancel("t", "ops", 0).unwrap());
    assert_ne!(handed, cancelled);
}

#[test]
fn how_long_the_hub_waits_for_a_holder_counts() {
    let desk = desk(0);
    assert_ne!(digest(&desk, 100), digest(&desk, 101));
    // Two desks that differ in nothing but what their one holder has said of its task.
    let alive = |at_ms: u64| {
        let mut desk = self::desk(0);
        for at_ms in [50, at_ms] {
            let progress = json!({"type": "task_progress", "task_id": "t"}).to_string();
            desk.heard(1, SidecarFrame::parse(&progress).unwrap(), at_ms);
        }
        digest(&desk, 100)
    };
    assert_ne!(alive(50), alive(60));
}

#[test]
fn an_agent_counts_and_whether_it_is_willing() {
    let empty = || Desk::load(Vec::new(), Vec::new(), Policy::default(), 0);
    let (none, one) = around(empty(), |desk| join(desk, "a", 0));
    assert_ne!(none, one);
    let (willing, cordoned) = around(desk(0), |desk| desk.heard(1, SidecarFrame::Cordon { on: true }, 0));
    assert_ne!(willing, cordoned);
}

#[test]
fn a_command_counts_and_how_far_it_came() {
    let (none, commanded) = around(desk(0), |desk| command(desk, 0));
    assert_ne!(none, commanded);
    let mut desk = desk(0);
    command(&mut desk, 0);
    let (commanded, delivered) = around(desk, |desk| desk.delivered("c", 0));
    assert_ne!(commanded, delivered);
}

/// What an overdue restart may still come to depends on whether the last words were heard before the socket closed.
#[test]
fn the_last_words_of_an_overdue_restart_count() {
    let gone = |with_a_word: bool| {
        let mut desk = desk(0);
        command(&mut desk, 0);
        let overdue = desk.restarts().get("c").unwrap().overdue_at;
        desk.tick(overdue);
        if with_a_word {
            desk.heard(1, SidecarFrame::AgentRestarting(Restarting::default()), overdue);
        }
        desk.disconnected(1, overdue);
        digest(&desk, overdue)
    };
    assert_ne!(gone(true), gone(false));
}

/// Who is away on a restart does not go stale, and is alive anew on the return: its last sign of life is past.
#[test]
fn the_last_sign_of_life_of_a_holder_that_is_away_does_not_count() {
    let away = |alive_at: u64| {
        let mut desk = desk(0);
        let progress = json!({"type": "task_progress", "task_id": "t"}).to_string();
        desk.heard(1, SidecarFrame::parse(&progress).unwrap(), alive_at);
        command(&mut desk, 60);
        desk.disconnected(1, 70);
        digest(&desk, 100)
    };
    assert_eq!(away(40), away(50));
}
