//! The property of results: nothing finished is deleted unread.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Property, StepRecord, Violation, violated};
use crate::machine::{Effect, Event, FromHub, Machine, Outcome, ParkedTask, ResultFile, TaskId, Verdict};

/// Checks that a result goes only by what the hub or the disk answered: one that the machine holds, and one that still
/// lies in the results folder.
pub(super) fn unread_is_kept(step: &StepRecord<'_>) -> Result<(), Violation> {
    let kept = results(step.after);
    let vanished = results(step.before).into_iter().find(|result| !kept.contains(result));
    if let Some((id, _)) = vanished.filter(|(id, _)| !is_taken(step.event, id)) {
        return violated(Property::UnreadIsKept, format!("the result of {id} vanished on {:?}", step.event));
    }
    for effect in step.effects {
        let Effect::CleanUp { task_id, result } = effect else { continue };
        let permitted = match result {
            ResultFile::Unread => true,
            ResultFile::OfCancelledTask => is_cancelled(step.event, task_id),
            ResultFile::Read => {
                step.after.durable.outbox.iter().any(|verdict| verdict.task_id == *task_id && verdict.result_read)
            }
        };
        if !permitted {
            return violated(Property::UnreadIsKept, format!("{effect:?} on {:?}", step.event));
        }
    }
    match step.after.outbox.iter().find(|verdict| verdict.result_read && !is_based_on_result(step, verdict)) {
        Some(verdict) => violated(Property::UnreadIsKept, format!("{verdict:?} is based on no result")),
        None => Ok(()),
    }
}

/// Returns the results that the machine holds, each with its task.
fn results(machine: &Machine) -> Vec<(&TaskId, &Arc<str>)> {
    let said = machine.outbox.iter().filter_map(|verdict| match &verdict.outcome {
        Outcome::Completed { result } => Some((&verdict.task_id, result)),
        Outcome::Failed { .. } => None,
    });
    let parked = machine.parked.items().iter().filter_map(|item| match item {
        ParkedTask::Finished { task_id, result, .. } => Some((task_id, result)),
        ParkedTask::UnderWay(_) => None,
    });
    said.chain(parked).collect()
}

/// Returns whether the hub has taken the result or cancelled its task, or the result is written elsewhere.
fn is_taken(event: &Event, id: &TaskId) -> bool {
    if let Event::RefusedResultWritten { task_id, path: Some(_), .. } = event {
        return task_id == id;
    }
    let acknowledged =
        matches!(event, Event::HubSaid(FromHub::VerdictAcknowledged { task_id }) if task_id == id.as_str());
    acknowledged || is_cancelled(event, id)
}

fn is_cancelled(event: &Event, id: &TaskId) -> bool {
    matches!(event, Event::HubSaid(FromHub::TaskCancelled { task_id }) if task_id == id.as_str())
}

/// Returns whether the verdict came from a result: in this step, or as it was before.
fn is_based_on_result(step: &StepRecord<'_>, verdict: &Verdict) -> bool {
    let before = |other: &Verdict| other.task_id == verdict.task_id && other.result_read;
    let review = step.before.state.job().is_some_and(|job| job.task().id == verdict.task_id && job.review.is_some());
    let found = matches!(step.event, Event::ResultFound { task_id, .. } if *task_id == verdict.task_id);
    step.before.outbox.iter().any(before) || review || found
}
