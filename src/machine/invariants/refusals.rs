//! The properties of refused verdicts.

use alloc::format;
use alloc::vec::Vec;

use super::{Property, StepRecord, Violation, violated};
use crate::machine::{
    Delivery, Disk, Event, FromHub, Outbox, PendingVerdict, Phase, REFUSALS_CAP, TaskId, Verdict, VerdictRefusal,
};

/// Checks that the other verdicts are sent meanwhile, that the refused one ends, and that no result is dropped.
pub(super) fn refusal_blocks_nothing(step: &StepRecord<'_>) -> Result<(), Violation> {
    let (before, after) = (&step.before.outbox, &step.after.outbox);
    let listens = step.after.connection.can_send() && step.after.disk == Disk::Ready && after.in_flight().is_none();
    let waits = after.pending().find(|pending| listens && pending.is_open());
    if let (Some(pending), true) = (waits, step.after.state.phase() != Phase::Exiting) {
        return violated(Property::RefusalBlocksNothing, format!("{:?} waits for nothing", pending.verdict));
    }
    let in_flight = [before.in_flight(), after.in_flight()];
    if let [Some(then), Some(now)] = in_flight
        && then.verdict == now.verdict
        && then.times_sent < now.times_sent
        && after.pending().skip(1).any(PendingVerdict::is_open)
    {
        return violated(Property::RefusalBlocksNothing, format!("{:?} was said again before the others", now.verdict));
    }
    if let Some(pending) =
        after.pending().find(|p| p.delivery == Delivery::Refused && p.verdict.refusals >= REFUSALS_CAP)
    {
        return violated(Property::RefusalBlocksNothing, format!("{:?} is to be said once more", pending.verdict));
    }
    let results = |outbox: &Outbox| -> Vec<Verdict> {
        outbox.iter().filter(|verdict| verdict.outcome.is_completed()).cloned().collect()
    };
    let kept = results(after);
    let is_kept = |verdict: &Verdict| {
        kept.iter().any(|other| other.task_id == verdict.task_id && other.generation >= verdict.generation)
    };
    match results(before).into_iter().find(|verdict| !is_kept(verdict) && !ends_result(step.event, verdict)) {
        Some(verdict) => violated(
            Property::RefusalBlocksNothing,
            format!("the result of {} vanished on {:?}", verdict.task_id, step.event),
        ),
        None => Ok(()),
    }
}

/// Returns whether the hub has taken the result, or has assigned its task again, or the result is written elsewhere.
fn ends_result(event: &Event, verdict: &Verdict) -> bool {
    let (id, generation) = (&verdict.task_id, verdict.generation);
    if let Event::RefusedResultWritten { task_id, generation: written, path: Some(_) } = event {
        return (task_id, *written) == (id, generation);
    }
    if let Event::HubSaid(FromHub::VerdictAcknowledged { task_id }) = event {
        return task_id == id.as_str();
    }
    matches!(event, Event::HubSaid(FromHub::VerdictRefused { why: VerdictRefusal::NotNow, .. }))
}

/// Returns whether a failure of the task was refused for the last time and is not sent any more.
pub(super) fn is_given_up(step: &StepRecord<'_>, id: &TaskId) -> bool {
    let refusal = matches!(
        step.event,
        Event::HubSaid(FromHub::RefusedInOtherWords { .. }) | Event::HubClosed { refusal: Some(_), .. }
    );
    let in_flight = step.before.outbox.in_flight().map(|pending| &pending.verdict);
    let last = |verdict: &Verdict| !verdict.outcome.is_completed() && verdict.refusals >= REFUSALS_CAP - 1;
    refusal && in_flight.is_some_and(|verdict| verdict.task_id == *id && last(verdict))
}
