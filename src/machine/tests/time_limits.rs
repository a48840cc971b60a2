//! The time limit of a task: whose counts, its warning, and what becomes of the task and of its session at its end.

use super::waking::{NOW, after, connected, id, stage};
use crate::machine::*;

/// A machine that has taken a task with this limit, after these events.
fn taken(timeout_ms: Option<u64>, more: impl IntoIterator<Item = Event>) -> Machine {
    let machine = Machine::recover(Journal::default(), NOW, &Policy::default()).0;
    let task = Task { id: id(), generation: 1, payload: "{}".into() };
    let assigned = Event::HubSaid(FromHub::Assigned { task, assigned_at: None, timeout_ms });
    after(machine, connected().into_iter().chain([assigned]).chain(more))
}

fn running(timeout_ms: Option<u64>) -> Machine {
    let outcome = WakeOutcome::Succeeded;
    let woken = Event::WakeFinished { task_id: id(), generation: 1, attempt: 1, outcome };
    taken(timeout_ms, [woken, Event::Confirmed { task_id: id() }])
}

/// The machine after its deadline at `now`, once the disk holds what it orders.
fn due(machine: Machine, now: Timestamp) -> (Machine, Vec<Effect>) {
    let (machine, effects) = transition(machine, Event::DeadlineReached, now, &Policy::default());
    match machine.disk {
        Disk::Writing { .. } => (transition(machine, Event::Persisted, now, &Policy::default()).0, effects),
        Disk::Ready | Disk::Failing { .. } => (machine, effects),
    }
}

/// The effects of a look that found nothing, ordered at the end of the limit.
fn given_up(machine: Machine, now: Timestamp) -> (Machine, Vec<Effect>) {
    let (machine, effects) = due(machine, now);
    assert!(effects.contains(&Effect::LookForResults { number: 1 }), "{effects:?}");
    transition(machine, Event::ResultsLookedFor { number: 1 }, now, &Policy::default())
}

fn limit(machine: &Machine) -> Option<u64> {
    machine.state.job()?.persisted.limit.map(|limit| limit.limit_ms)
}

fn failure(machine: &Machine) -> Option<String> {
    machine.outbox.iter().find_map(|verdict| match &verdict.outcome {
        Outcome::Failed { reason } => Some(reason.clone()),
        Outcome::Completed { .. } => None,
    })
}

#[test]
fn the_shorter_limit_counts_the_tasks_or_the_agents() {
    assert_eq!((limit(&running(None)), limit(&running(Some(7)))), (None, Some(7)));
    let policy = Policy { task_timeout_ms: Some(5), ..Policy::default() };
    for (asked, counts) in [(None, 5), (Some(7), 5), (Some(3), 3)] {
        let machine = Machine::recover(Journal::default(), NOW, &policy).0;
        let task = Task { id: id(), generation: 1, payload: "{}".into() };
        let assigned = Event::HubSaid(FromHub::Assigned { task, assigned_at: None, timeout_ms: asked });
        let machine = connected()
            .into_iter()
            .chain([assigned])
            .fold(machine, |machine, event| transition(machine, event, NOW, &policy).0);
        assert_eq!(limit(&machine), Some(counts));
    }
}

#[test]
fn half_of_it_is_told_once() {
    let half = NOW.plus(5_000);
    let machine = running(Some(10_000));
    assert_eq!(machine.deadline(&Policy::default()), Some((half, Wait::TaskWarning)));
    let (machine, effects) = due(machine, half);
    let told = Effect::Notify(Notice::HalfOfTimeout { task_id: id(), limit_ms: 10_000 });
    assert!(effects.contains(&told), "{effects:?}");
    assert_eq!(machine.deadline(&Policy::default()), Some((NOW.plus(10_000), Wait::TaskTimeout)));
    assert!(!due(machine, half).1.contains(&told));
}

#[test]
fn a_session_that_may_be_at_work_at_the_end_is_a_late_one() {
    let (machine, effects) = given_up(due(running(Some(10_000)), NOW.plus(5_000)).0, NOW.plus(10_000));
    assert_eq!(failure(&machine).as_deref(), Some("task_timeout: no result came within 10000 ms"));
    assert!(effects.contains(&Effect::WithdrawWake { task_id: id() }), "{effects:?}");
    assert_eq!(machine.late_sessions.items().len(), 1);
}

#[test]
fn of_a_task_that_has_no_session_at_the_end_nothing_is_expected() {
    let outcome = WakeOutcome::Failed { error: "exit 1".into() };
    let failed = Event::WakeFinished { task_id: id(), generation: 1, attempt: 1, outcome };
    let machine = taken(Some(1_000), [failed]);
    assert!(matches!(stage(&machine), Some(Stage::RetryingWake { .. })));
    let (machine, _) = given_up(due(machine, NOW.plus(500)).0, NOW.plus(1_000));
    assert_eq!(failure(&machine).as_deref(), Some("task_timeout: no result came within 1000 ms"));
    assert!(machine.late_sessions.items().is_empty());
}

#[test]
fn no_limit_counts_while_the_result_is_reviewed() {
    let policy = Policy { result_hook_ms: Some(60_000), ..Policy::default() };
    let found = Event::ResultFound { task_id: id(), outcome: Outcome::failed("why") };
    let machine = transition(running(Some(10_000)), found, NOW, &policy).0;
    let machine = transition(machine, Event::DeadlineReached, NOW.plus(20_000), &policy).0;
    assert_eq!((stage(&machine), failure(&machine)), (Some(Stage::Running), None));
}
