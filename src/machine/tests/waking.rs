//! The wake: what its answer changes, also after the hub took the task back, and the last look before it is given up.

use crate::machine::*;

pub(super) const NOW: Timestamp = Timestamp::from_millis(1_000_000);

pub(super) fn id() -> TaskId {
    TaskId::new("t").unwrap()
}

pub(super) fn after(machine: Machine, events: impl IntoIterator<Item = Event>) -> Machine {
    let policy = Policy::default();
    events.into_iter().fold(machine, |machine, event| {
        let mut machine = transition(machine, event, NOW, &policy).0;
        while let Disk::Writing { .. } = machine.disk {
            machine = transition(machine, Event::Persisted, NOW, &policy).0;
        }
        machine
    })
}

/// `machine` after its deadline at `now`, and a last look that found nothing.
pub(super) fn looked(machine: Machine, now: Timestamp, policy: &Policy) -> Machine {
    let (machine, effects) = transition(machine, Event::DeadlineReached, now, policy);
    let number = effects
        .iter()
        .find_map(|effect| if let Effect::LookForResults { number } = effect { Some(*number) } else { None });
    transition(machine, Event::ResultsLookedFor { number: number.expect("a last look") }, now, policy).0
}

pub(super) fn connected() -> [Event; 2] {
    [Event::HubOpened, Event::HubSaid(FromHub::Identified { features: Features::default() })]
}

/// A machine whose wake command runs.
pub(super) fn waking() -> Machine {
    let machine = Machine::recover(Journal::default(), NOW, &Policy::default()).0;
    let task = Task { id: id(), generation: 1, payload: "{}".into() };
    let assigned = Event::HubSaid(FromHub::Assigned { task, assigned_at: None, timeout_ms: None });
    let machine = after(machine, connected().into_iter().chain([assigned]));
    assert_eq!(stage(&machine), Some(Stage::Waking { attempt: 1 }));
    machine
}

/// The same, taken back by the hub.
fn taken_back() -> Machine {
    let closed = Event::HubClosed { retry_after_ms: None, jitter: Jitter(0), refusal: None };
    let no = Event::HubSaid(FromHub::ReportAnswered { task_id: "t".into(), go_on: false });
    let [opened, identified] = connected();
    let machine = after(waking(), [closed, Event::DeadlineReached, opened, identified, no]);
    assert_eq!((machine.state.phase(), machine.parked.items().len()), (Phase::Idle, 1));
    machine
}

fn finished(generation: u64, attempt: u8, outcome: WakeOutcome) -> Event {
    Event::WakeFinished { task_id: id(), generation, attempt, outcome }
}

fn failure() -> WakeOutcome {
    WakeOutcome::Failed { error: "exit 1".into() }
}

pub(super) fn stage(machine: &Machine) -> Option<Stage> {
    machine.state.job().map(|job| job.persisted.stage.clone())
}

fn parked(machine: &Machine) -> Option<Stage> {
    match machine.parked.items().first()? {
        ParkedTask::UnderWay(persisted) => Some(persisted.stage.clone()),
        ParkedTask::Finished { .. } => None,
    }
}

#[test]
fn a_wake_that_failed_leaves_nothing_on_the_shelf() {
    assert_eq!(parked(&after(taken_back(), [finished(1, 1, failure())])), None);
}

#[test]
fn a_wake_that_worked_is_waited_for_on_the_shelf() {
    let machine = after(taken_back(), [finished(1, 1, WakeOutcome::Succeeded)]);
    let until = NOW.plus(Policy::default().confirmation_timeout_ms);
    assert_eq!(parked(&machine), Some(Stage::AwaitingConfirmation { until }));
}

#[test]
fn the_answer_of_another_wake_says_nothing_of_the_one_on_the_shelf() {
    for other in [finished(2, 1, failure()), finished(1, 2, failure())] {
        assert_eq!(parked(&after(taken_back(), [other])), Some(Stage::Waking { attempt: 1 }));
    }
    let stranger = TaskId::new("u").unwrap();
    let other = Event::WakeFinished { task_id: stranger, generation: 1, attempt: 1, outcome: failure() };
    assert_eq!(parked(&after(taken_back(), [other])), Some(Stage::Waking { attempt: 1 }));
}

#[test]
fn the_answer_of_another_wake_says_nothing_of_the_one_in_hand() {
    for other in [finished(2, 1, failure()), finished(1, 2, failure())] {
        assert_eq!(stage(&after(waking(), [other])), Some(Stage::Waking { attempt: 1 }));
    }
}

#[test]
fn a_failed_wake_is_tried_again_after_its_delay_and_the_task_fails_after_the_last() {
    let policy = Policy { wake_retry_delays_ms: vec![5_000], ..Policy::default() };
    let run = |machine: Machine, event: Event, now| {
        let machine = transition(machine, event, now, &policy).0;
        transition(machine, Event::Persisted, now, &policy).0
    };
    let machine = run(waking(), finished(1, 1, failure()), NOW);
    assert_eq!(stage(&machine), Some(Stage::RetryingWake { at: NOW.plus(5_000), attempt: 1 }));
    assert!(machine.state.job().unwrap().persisted.woken.is_none(), "known to have failed");
    let machine = run(machine, Event::DeadlineReached, NOW.plus(4_999));
    assert_eq!(stage(&machine), Some(Stage::RetryingWake { at: NOW.plus(5_000), attempt: 1 }));
    let machine = looked(machine, NOW.plus(5_000), &policy);
    let machine = transition(machine, Event::Persisted, NOW.plus(5_000), &policy).0;
    assert_eq!(stage(&machine), Some(Stage::Waking { attempt: 2 }));
    let machine = run(machine, finished(1, 2, WakeOutcome::TimedOut { after_ms: 7 }), NOW.plus(6_000));
    let failed = Outcome::failed("wake_failed_after_2_attempts: stopped after 7 ms");
    assert_eq!(machine.outbox.head().map(|pending| &pending.verdict.outcome), Some(&failed));
}

#[test]
fn a_single_attempt_is_told_as_one() {
    let policy = Policy { wake_retry_delays_ms: vec![], ..Policy::default() };
    let machine = transition(waking(), finished(1, 1, failure()), NOW, &policy).0;
    let failed = Outcome::failed("wake_failed_after_1_attempt: exit 1");
    assert_eq!(machine.outbox.head().map(|pending| &pending.verdict.outcome), Some(&failed));
}

#[test]
fn a_refused_wake_is_not_tried_again() {
    let machine = after(waking(), [finished(1, 1, WakeOutcome::Refused { reason: "nobody".into() })]);
    let failed = Outcome::failed("nobody");
    assert_eq!(machine.outbox.head().map(|pending| &pending.verdict.outcome), Some(&failed));
}

#[test]
fn a_wait_is_over_after_a_last_look_and_not_before() {
    let policy = Policy::default();
    let until = NOW.plus(10);
    let waiting = |stage: Stage| {
        let mut machine = waking();
        machine.state.job_mut().unwrap().persisted.stage = stage;
        machine.durable = machine.journal();
        machine
    };
    let waits = [
        Stage::AwaitingConfirmation { until },
        Stage::Interrupted { until },
        Stage::RetryingWake { at: until, attempt: 1 },
    ];
    for waits in waits {
        let machine = waiting(waits.clone());
        let (early, effects) = transition(machine.clone(), Event::DeadlineReached, until.minus(1), &policy);
        assert_eq!((early, effects), (machine.clone(), vec![]));
        let (asked, effects) = transition(machine, Event::DeadlineReached, until, &policy);
        assert_eq!(effects, [Effect::LookForResults { number: 1 }]);
        assert_eq!(stage(&asked), Some(waits.clone()));
        let other = transition(asked.clone(), Event::ResultsLookedFor { number: 2 }, until, &policy);
        assert_eq!(other, (asked.clone(), vec![]), "not the question");
        let over = transition(asked.clone(), Event::ResultsLookedFor { number: 1 }, until, &policy).0;
        assert_ne!(stage(&over), Some(waits.clone()));
        let limit = until.plus(policy.last_look_ms);
        let (early, effects) = transition(asked.clone(), Event::DeadlineReached, limit.minus(1), &policy);
        assert_eq!((stage(&early), effects), (Some(waits.clone()), vec![]));
        let never = transition(asked, Event::DeadlineReached, limit, &policy).0;
        assert_ne!(stage(&never), Some(waits), "a folder that hangs is not waited for");
    }
}

#[test]
fn what_a_last_look_finds_counts() {
    let policy = Policy::default();
    let until = NOW.plus(policy.confirmation_timeout_ms);
    let awaiting = after(waking(), [finished(1, 1, WakeOutcome::Succeeded)]);
    let (asked, _) = transition(awaiting, Event::DeadlineReached, until, &policy);
    let (found, _) = transition(asked, Event::Confirmed { task_id: id() }, until, &policy);
    let (looked, _) = transition(found, Event::ResultsLookedFor { number: 1 }, until, &policy);
    assert_eq!(stage(&looked), Some(Stage::Running));
}
