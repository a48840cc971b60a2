//! What [`check_step`] says of steps after which a result is gone that nobody took.

use super::*;

fn found(outcome: Outcome) -> Event {
    Event::ResultFound { task_id: task(1).id, outcome }
}

fn result() -> Outcome {
    Outcome::Completed { result: "{}".into() }
}

/// Idle, with a result in flight, or one that was refused and is parked.
fn told() -> Machine {
    after(working(), [found(result())])
}

fn stale() -> Event {
    Event::HubSaid(FromHub::VerdictRefused { complete: true, why: VerdictRefusal::NotNow, of: None })
}

fn says(message: FromHub) -> Event {
    Event::HubSaid(message)
}

fn broken(before: Machine, event: Event, spoil: impl FnOnce(&mut Told)) -> Option<Property> {
    let mut step = Told::truly(before, event, NOW);
    spoil(&mut step);
    check_step(&step.step()).err().map(|violation| violation.property)
}

fn unparked(step: &mut Told) {
    step.after.parked = ParkedWork::default();
}

#[test]
fn a_result_that_is_parked_goes_only_with_its_task() {
    assert_eq!(broken(told(), stale(), unparked), Some(Property::UnreadIsKept));
    let parked = after(told(), [stale()]);
    assert_eq!(broken(parked.clone(), nothing(), unparked), Some(Property::UnreadIsKept));
    assert_eq!(
        broken(parked.clone(), says(FromHub::TaskCancelled { task_id: "u".into() }), unparked),
        Some(Property::UnreadIsKept)
    );
    assert_eq!(broken(parked, says(FromHub::TaskCancelled { task_id: "t".into() }), unparked), None);
}

#[test]
fn the_files_of_a_task_go_with_its_result_only_where_that_was_read_or_is_not_wanted() {
    let ordered = |before: Machine, event: Event, result: ResultFile| {
        broken(before, event, |step| step.effects.push(Effect::CleanUp { task_id: task(1).id, result }))
    };
    assert_eq!(ordered(working(), nothing(), ResultFile::Read), Some(Property::UnreadIsKept));
    assert_eq!(ordered(working(), nothing(), ResultFile::OfCancelledTask), Some(Property::UnreadIsKept));
    assert_eq!(ordered(working(), nothing(), ResultFile::Unread), None);
    assert_eq!(ordered(told(), nothing(), ResultFile::Read), None);
    let cancelled = says(FromHub::TaskCancelled { task_id: "t".into() });
    assert_eq!(ordered(working(), cancelled, ResultFile::OfCancelledTask), None);
}

#[test]
fn a_verdict_is_based_on_a_result_only_where_one_was_found() {
    let claim = |step: &mut Told| {
        step.after.outbox.pending_mut().for_each(|pending| pending.verdict.result_read = true);
    };
    let waking = after(
        Machine::recover(Journal::default(), NOW, &Policy::default()).0,
        [Event::HubOpened, says(FromHub::Identified { features: Features::default() }), assigned(1)],
    );
    let refused = woken(WakeOutcome::Refused { reason: "no".into() });
    assert_eq!(broken(waking, refused, claim), Some(Property::UnreadIsKept));
    assert_eq!(broken(working(), found(Outcome::failed("no luck")), claim), None);
}
