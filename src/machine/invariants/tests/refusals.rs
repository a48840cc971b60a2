//! What [`check_step`] says of steps that wrong a refused verdict.

use super::*;

/// Idle, with a result of "t" in flight.
fn told() -> Machine {
    let outcome = Outcome::Completed { result: "{}".into() };
    after(working(), [Event::ResultFound { task_id: task(1).id, outcome }])
}

fn error() -> Event {
    Event::HubSaid(FromHub::RefusedInOtherWords { complete: None, error: "no".into(), of: None })
}

fn broken(event: Event, spoil: impl FnOnce(&mut Machine)) -> Option<Property> {
    let mut step = Told::truly(told(), event, NOW);
    spoil(&mut step.after);
    check_step(&step.step()).err().map(|violation| violation.property)
}

#[test]
fn a_refused_verdict_does_not_wait_where_it_could_be_said() {
    let waits = broken(error(), |machine| {
        machine.outbox.move_behind_others(Delivery::Open);
        machine.disk = Disk::Ready;
    });
    assert_eq!(waits, Some(Property::RefusalBlocksNothing));
}

#[test]
fn a_refused_verdict_is_not_said_for_ever() {
    let again = broken(error(), |machine| machine.outbox.head_mut().unwrap().verdict.refusals = REFUSALS_CAP);
    assert_eq!(again, Some(Property::RefusalBlocksNothing));
}

#[test]
fn a_refused_result_does_not_vanish() {
    // The task is in hand again, so that it is not lost as a task.
    let drop_result = |machine: &mut Machine| {
        machine.outbox.remove(&task(1).id, 1);
        machine.state = working().state;
    };
    assert_eq!(broken(error(), drop_result), Some(Property::RefusalBlocksNothing));
    let written = |path: Option<&str>| {
        let path = path.map(Into::into);
        Event::RefusedResultWritten { task_id: task(1).id, generation: 1, path }
    };
    assert_eq!(broken(written(None), drop_result), Some(Property::RefusalBlocksNothing));
    assert_eq!(broken(written(Some("there")), drop_result), None);
    let stale = FromHub::VerdictRefused { complete: true, why: VerdictRefusal::NotNow, of: None };
    // It is parked, and only then gone.
    assert_eq!(broken(Event::HubSaid(stale), |_| {}), None);
}

#[test]
fn only_the_last_refusal_of_a_failure_ends_its_task() {
    let vanishes = |refusals: u8, event: Event| {
        let mut step = Told::truly(after(working(), [failed()]), event, NOW);
        step.before.outbox.head_mut().unwrap().verdict.refusals = refusals;
        step.after.outbox = Outbox::default();
        check_step(&step.step()).err().map(|violation| violation.property)
    };
    assert_eq!(vanishes(REFUSALS_CAP - 1, error()), None);
    assert_eq!(vanishes(REFUSALS_CAP - 2, error()), Some(Property::NoLoss));
    assert_eq!(vanishes(REFUSALS_CAP - 1, nothing()), Some(Property::NoLoss));
    assert_eq!(vanishes(REFUSALS_CAP - 1, closed()), Some(Property::NoLoss));
}

#[test]
fn a_verdict_is_not_said_again_before_the_others() {
    let mut step = Told::truly(told(), Event::HubSaid(FromHub::SignOfLife), NOW);
    let other = Verdict { task_id: TaskId::new("u").unwrap(), ..step.before.outbox.head().unwrap().verdict.clone() };
    for machine in [&mut step.before, &mut step.after] {
        machine.outbox.push(other.clone(), false);
        machine.durable.outbox = machine.outbox.to_journal();
    }
    step.after.outbox.head_mut().unwrap().times_sent += 1;
    let violated = check_step(&step.step()).err().map(|violation| violation.property);
    assert_eq!(violated, Some(Property::RefusalBlocksNothing));
}
