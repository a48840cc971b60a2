use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;

use serde_json::json;

use crate::hub::scheduler::tests::rig::{Rig, progress};
use crate::protocol::{Restarting, SidecarFrame};

/// A scheduler with one agent, which has been handed one task, all of it at `at_ms`.
fn scheduler(at_ms: u64) -> Rig {
    let mut rig = Rig::at(at_ms);
    rig.join(1, "a", Some("boot-1"));
    submit(&mut rig);
    rig
}

/// A task that is due half a second later.
fn submit(rig: &mut Rig) {
    let extra = json!({"complete_by": rig.now + 500_000});
    rig.submit_with("t", crate::protocol::tests::fields(&extra));
}

fn command(rig: &mut Rig) {
    rig.restart_as("c".into(), false).unwrap();
}

fn state_hash(rig: &Rig, now_ms: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    rig.scheduler.state_hash(now_ms, |conn| usize::try_from(conn).unwrap(), &mut hasher);
    hasher.finish()
}

/// The digests of the same scheduler before and after this happened to it, at the same time.
fn around(mut rig: Rig, what: impl FnOnce(&mut Rig)) -> (u64, u64) {
    let before = state_hash(&rig, 100);
    what(&mut rig);
    (before, state_hash(&rig, 100))
}

#[test]
fn lives_that_differ_only_in_their_dates_are_the_same() {
    let life = |from: u64| {
        let mut rig = scheduler(from);
        rig.now = from + 10;
        command(&mut rig);
        state_hash(&rig, from + 20)
    };
    assert_eq!(life(0), life(1_000_000));
}

#[test]
fn who_was_here_last_counts_while_anything_older_may_be_heard() {
    let left = |agent_id: &str, rank: usize| {
        let mut rig = Rig::new();
        rig.join(1, agent_id, None);
        rig.drop_conn(1);
        let mut hasher = DefaultHasher::new();
        rig.scheduler.state_hash(0, |_| rank, &mut hasher);
        hasher.finish()
    };
    assert_ne!(left("a", 1), left("b", 1));
    assert_eq!(left("a", 0), left("b", 0));
}

#[test]
fn a_task_counts_and_how_far_it_came() {
    let (empty, one) = around(Rig::new(), submit);
    assert_ne!(empty, one);
    let (handed, cancelled) = around(scheduler(0), |rig| rig.scheduler.cancel("t", "ops", 0).unwrap());
    assert_ne!(handed, cancelled);
}

#[test]
fn how_long_the_hub_waits_for_a_holder_counts() {
    let rig = scheduler(0);
    assert_ne!(state_hash(&rig, 100), state_hash(&rig, 101));
    // Two schedulers that differ in nothing but what their one holder has said of its task.
    let alive = |at_ms: u64| {
        let mut rig = scheduler(0);
        for at_ms in [50, at_ms] {
            rig.now = at_ms;
            rig.hear(1, progress("t"));
        }
        state_hash(&rig, 100)
    };
    assert_ne!(alive(50), alive(60));
}

#[test]
fn an_agent_counts_and_whether_it_is_willing() {
    let (none, one) = around(Rig::new(), |rig| drop(rig.join(1, "a", Some("boot-1"))));
    assert_ne!(none, one);
    let (willing, cordoned) = around(scheduler(0), |rig| drop(rig.hear(1, SidecarFrame::Cordon { on: true })));
    assert_ne!(willing, cordoned);
}

#[test]
fn a_command_counts_and_how_far_it_came() {
    let (none, commanded) = around(scheduler(0), command);
    assert_ne!(none, commanded);
    let mut rig = scheduler(0);
    command(&mut rig);
    let (commanded, delivered) = around(rig, |rig| rig.scheduler.delivered("c", 0));
    assert_ne!(commanded, delivered);
}

/// What an overdue restart may still come to depends on whether the final messages were heard before the socket closed.
#[test]
fn the_last_words_of_an_overdue_restart_count() {
    let gone = |with_a_word: bool| {
        let mut rig = scheduler(0);
        command(&mut rig);
        let overdue = rig.scheduler.restarts().get("c").unwrap().overdue_at;
        rig.tick_at(overdue);
        if with_a_word {
            rig.hear(1, SidecarFrame::AgentRestarting(Restarting::default()));
        }
        rig.drop_conn(1);
        state_hash(&rig, overdue)
    };
    assert_ne!(gone(true), gone(false));
}

/// Who is away on a restart does not go stale, and is alive anew on the return: its last sign of life is past.
#[test]
fn the_last_sign_of_life_of_a_holder_that_is_away_does_not_count() {
    let away = |alive_at: u64| {
        let mut rig = scheduler(0);
        rig.now = alive_at;
        rig.hear(1, progress("t"));
        rig.now = 60;
        command(&mut rig);
        rig.now = 70;
        rig.drop_conn(1);
        state_hash(&rig, 100)
    };
    assert_eq!(away(40), away(50));
}
