//! The properties of durability and ownership: nothing is promised before it is on disk, and no accepted task is lost.

use alloc::format;

use super::refusals::is_given_up;
use super::{Property, StepRecord, Violation, violated};
use crate::machine::{Effect, Event, FromHub, Journal, Outcome, ParkedTask, Stage, TaskId, ToHub};

/// Returns whether the journal holds the task, as a job or as a verdict.
pub(super) fn holds(journal: &Journal, id: &TaskId) -> bool {
    journal.job.as_ref().is_some_and(|c| c.task.id == *id) || journal.outbox.iter().any(|v| v.task_id == *id)
}

/// Checks that messages and wakes are ordered only once the journal on disk holds what they depend on.
pub(super) fn durable_first(step: &StepRecord<'_>) -> Result<(), Violation> {
    let durable = &step.after.durable;
    for effect in step.effects {
        let permitted = match effect {
            Effect::Send(ToHub::TaskAccepted { task_id, generation: None }) => holds(durable, task_id),
            Effect::Send(ToHub::TaskAccepted { task_id, generation: Some(generation) }) => {
                let in_job = durable.job.as_ref().map(|c| (&c.task.id, c.task.generation));
                in_job == Some((task_id, *generation))
                    || durable.outbox.iter().any(|v| v.task_id == *task_id && v.generation == *generation)
            }
            Effect::Send(ToHub::TaskComplete { task_id, generation, .. }) => {
                durable.outbox.iter().any(|v| v.task_id == *task_id && v.generation == *generation)
            }
            Effect::Send(ToHub::TaskFailed { task_id, generation, .. }) => {
                // A task with an invalid id was never taken: its refusal promises nothing.
                TaskId::new(task_id)
                    .map_or(true, |id| durable.outbox.iter().any(|v| v.task_id == id && v.generation == *generation))
            }
            Effect::Wake { task, attempt } => durable.job.as_ref().is_some_and(|c| {
                c.task == *task && c.stage == (Stage::Waking { attempt: *attempt }) && c.woken == Some(task.generation)
            }),
            Effect::Persist(_)
            | Effect::Send(_)
            | Effect::Dial
            | Effect::CloseLink(_)
            | Effect::CleanUp { .. }
            | Effect::WithdrawWake { .. }
            | Effect::DropSign { .. }
            | Effect::CheckNextRun { .. }
            | Effect::RunResultHook { .. }
            | Effect::LookForResults { .. }
            | Effect::PassOn(_)
            | Effect::Reply { .. }
            | Effect::Notify(_)
            | Effect::Exit { .. }
            | Effect::KeepRefused { .. } => true,
        };
        if !permitted {
            return violated(Property::DurableFirst, format!("{effect:?} while the disk holds {durable:?}"));
        }
    }
    Ok(())
}

/// Returns whether `event` permits the machine to forget the task `id`: the hub answers its verdict, reclaims or
/// cancels it, or its result is written elsewhere, or the write of a task that was not accepted yet failed.
pub(super) fn releases(event: &Event, id: &TaskId) -> bool {
    let names = |task_id: &str| task_id == id.as_str();
    match event {
        Event::HubSaid(message) => match message {
            FromHub::VerdictAcknowledged { task_id }
            | FromHub::TaskReassigned { task_id, generation: _ }
            | FromHub::TaskCancelled { task_id } => names(task_id),
            FromHub::ReportAnswered { task_id, go_on } => !go_on && names(task_id),
            FromHub::VerdictRefused { .. } => true,
            FromHub::Identified { .. }
            | FromHub::IdentifyRefused { .. }
            | FromHub::Assigned { .. }
            | FromHub::AssignedInvalid { .. }
            | FromHub::AcceptAcknowledged { .. }
            | FromHub::TaskContinue { .. }
            | FromHub::ReportNotUnderstood
            | FromHub::RestartCommanded(_)
            | FromHub::RateLimited { .. }
            | FromHub::Forgotten
            | FromHub::SignOfLife
            | FromHub::RefusedInOtherWords { .. } => false,
        },
        Event::PersistFailed => true,
        Event::RefusedResultWritten { task_id, path, .. } => path.is_some() && task_id == id,
        Event::DeadlineReached
        | Event::HubOpened
        | Event::HubClosed { .. }
        | Event::WakeFinished { .. }
        | Event::Confirmed { .. }
        | Event::ResultFound { .. }
        | Event::ResultReviewed { .. }
        | Event::ResultsLookedFor { .. }
        | Event::StopRequested { .. }
        | Event::RestartRequested { .. }
        | Event::RestartCancelRequested { .. }
        | Event::CordonRequested { .. }
        | Event::NextRunChecked { .. }
        | Event::NewsOffered(_)
        | Event::Persisted => false,
    }
}

/// Checks that a task leaves the journal only by an event that permits it.
pub(super) fn ownership(step: &StepRecord<'_>) -> Result<(), Violation> {
    let (before, after) = (step.before.journal(), step.after.journal());
    let owned = before.job.iter().map(|c| &c.task.id).chain(before.outbox.iter().map(|v| &v.task_id));
    for id in owned {
        if !holds(&after, id) && !releases(step.event, id) && !is_given_up(step, id) {
            return violated(Property::NoLoss, format!("{id} vanished on {:?}", step.event));
        }
    }
    if matches!(step.event, Event::PersistFailed) {
        let promised = step.before.durable.job.as_ref().map(|c| &c.task.id);
        if let Some(id) = promised.filter(|id| before.job.as_ref().is_some_and(|c| c.task.id == **id))
            && !holds(&after, id)
        {
            return violated(Property::NoLoss, format!("{id} was dropped although the disk holds it"));
        }
    }
    Ok(())
}

/// Returns the verdict that an effect sends, as (task, generation, outcome).
pub(super) fn verdict_said(effect: &Effect) -> Option<(TaskId, u64, Outcome)> {
    if let Effect::Send(ToHub::TaskComplete { task_id, generation, result }) = effect {
        Some((task_id.clone(), *generation, Outcome::Completed { result: result.clone() }))
    } else if let Effect::Send(ToHub::TaskFailed { task_id, generation, reason }) = effect {
        let id = TaskId::new(task_id).ok()?;
        Some((id, *generation, Outcome::Failed { reason: reason.clone() }))
    } else {
        None
    }
}

/// Returns the tasks that a session is known to be at work on after a crash. (What a crash loses is still in the
/// results folder and is found again there.)
pub(super) fn at_work_on(journal: &Journal) -> impl Iterator<Item = &TaskId> {
    let parked = journal.parked.iter().filter_map(|item| match item {
        ParkedTask::UnderWay(persisted) => Some(persisted),
        ParkedTask::Finished { .. } => None,
    });
    let running = journal.job.iter().chain(parked).filter(|persisted| persisted.stage == Stage::Running);
    running.map(|persisted| &persisted.task.id)
}
