//! The properties of the lifecycle: the states' edges, the deadlines, the goodbye and work that is left behind.

use alloc::format;
use alloc::string::String;

use super::restarts::restart_order;
use super::{Property, StepRecord, Violation, violated};
use crate::machine::{Cause, Effect, Event, Phase, RestartCheck, State, ToHub};

/// Returns whether the table in `docs/states.md` has the edge. A transition may pass through `Draining` on its way to
/// `Exiting`.
pub fn edge_allowed(from: Phase, to: Phase) -> bool {
    match (from, to) {
        (Phase::Idle, _) => to != Phase::RestartPending,
        (Phase::Working, _) => true,
        (Phase::RestartPending, to) => to != Phase::Idle,
        (Phase::Draining, Phase::Draining | Phase::Exiting) => true,
        (Phase::Exiting, Phase::Exiting) => true,
        (Phase::Draining, Phase::Idle | Phase::Working | Phase::RestartPending)
        | (Phase::Exiting, Phase::Idle | Phase::Working | Phase::RestartPending | Phase::Draining) => false,
    }
}

/// Checks the edge of the transition, the event that causes it, and that `Exit` is the last effect.
pub(super) fn edges(step: &StepRecord<'_>) -> Result<(), Violation> {
    let (from, to) = (step.before.state.phase(), step.after.state.phase());
    if !edge_allowed(from, to) {
        return violated(Property::Edges, format!("{from} -> {to}"));
    }
    let cancelled = matches!(step.event, Event::RestartCancelRequested { .. });
    if (from, to) == (Phase::RestartPending, Phase::Working) && !cancelled {
        return violated(Property::Edges, format!("{:?} took a restart back", step.event));
    }
    let begins = matches!(from, Phase::Idle | Phase::Working) && leaves_for_restart(&step.after.state);
    if begins && !matches!(step.event, Event::NextRunChecked { .. }) {
        return violated(Property::Edges, format!("a restart began by {:?}", step.event));
    }
    if from == Phase::Exiting && (!step.effects.is_empty() || step.before != step.after) {
        return violated(Property::Edges, format!("an exiting machine was moved by {:?}", step.event));
    }
    let exits = step.effects.iter().filter(|e| matches!(e, Effect::Exit { .. })).count();
    let exiting_now = from != Phase::Exiting && to == Phase::Exiting;
    let last = matches!(step.effects.last(), Some(Effect::Exit { .. }));
    if exits != usize::from(exiting_now) || last != exiting_now {
        return violated(Property::Edges, format!("{exits} Exit effects on {from} -> {to}, last: {last}"));
    }
    Ok(())
}

fn leaves_for_restart(state: &State) -> bool {
    match state {
        State::RestartPending { .. } => true,
        State::Draining { cause, .. } | State::Exiting { cause, .. } => matches!(cause, Cause::Restart { .. }),
        State::Idle | State::Working { .. } => false,
    }
}

/// Checks that no wake is ordered in `Draining` or `Exiting`.
pub(super) fn nothing_started_while_leaving(step: &StepRecord<'_>) -> Result<(), Violation> {
    let past_work = matches!(step.after.state.phase(), Phase::Draining | Phase::Exiting);
    let starts = step.effects.iter().find(|e| matches!(e, Effect::Wake { .. }));
    match (past_work, starts) {
        (true, Some(effect)) => violated(Property::OneJob, format!("{effect:?} in {}", step.after.state.phase())),
        (true, None) | (false, _) => Ok(()),
    }
}

/// Checks that behind a cordon a new job is only taken from parked work.
pub(super) fn no_new_work_behind_a_cordon(step: &StepRecord<'_>) -> Result<(), Violation> {
    let (Some(job), true) = (step.after.state.job(), step.before.cordon.is_on() && step.after.cordon.is_on()) else {
        return Ok(());
    };
    let id = &job.task().id;
    let known = step.before.state.job().is_some_and(|before| before.task().id == *id)
        || step.before.parked.items().iter().any(|item| item.task_id() == id);
    if known {
        return Ok(());
    }
    violated(Property::OneJob, format!("{id} was taken behind a cordon"))
}

/// Checks that no event postpones a deadline or replaces the restart command.
pub(super) fn repeats(step: &StepRecord<'_>) -> Result<(), Violation> {
    let moved = match (&step.before.state, &step.after.state) {
        (State::RestartPending { deadline: old, order: first, .. }, State::RestartPending { deadline, order, .. }) => {
            deadline != old || order != first
        }
        (
            State::Draining { deadline: old, cause: Cause::Restart { order: first, .. }, .. },
            State::Draining { deadline, cause: Cause::Restart { order, .. }, .. },
        ) => deadline > old || order != first,
        (State::Draining { deadline: old, .. }, State::Draining { deadline, .. }) => deadline > old,
        (
            State::RestartPending { .. },
            State::Idle | State::Working { .. } | State::Draining { .. } | State::Exiting { .. },
        )
        | (
            State::Draining { .. },
            State::Idle | State::Working { .. } | State::RestartPending { .. } | State::Exiting { .. },
        )
        | (
            State::Idle | State::Working { .. } | State::Exiting { .. },
            State::Idle
            | State::Working { .. }
            | State::RestartPending { .. }
            | State::Draining { .. }
            | State::Exiting { .. },
        ) => false,
    };
    if moved {
        return violated(Property::RepeatsChangeNothing, format!("{:?} moved a deadline or a cause", step.event));
    }
    Ok(())
}

/// Checks that `agent_restarting` comes after every verdict and before the close.
pub(super) fn goodbye_order(step: &StepRecord<'_>) -> Result<(), Violation> {
    let position = |wanted: fn(&Effect) -> bool| step.effects.iter().position(wanted);
    let Some(sent) = position(|e| matches!(e, Effect::Send(ToHub::AgentRestarting { .. }))) else { return Ok(()) };
    let close = position(|e| matches!(e, Effect::CloseLink(_)));
    let late_verdict = step.effects.iter().skip(sent).any(|e| {
        matches!(e, Effect::Send(ToHub::TaskComplete { .. } | ToHub::TaskFailed { .. } | ToHub::TaskAccepted { .. }))
    });
    if close.is_none_or(|close| close < sent) || late_verdict {
        return violated(Property::AnnouncedOnce, format!("the goodbye is out of order: {:?}", step.effects));
    }
    Ok(())
}

/// Checks that work is left behind only for a permitted reason, and that the journal holds it.
pub(super) fn work_left(step: &StepRecord<'_>) -> Result<(), Violation> {
    let (State::Draining { left_behind: Some(left_behind), cause, .. }
    | State::Exiting { left_behind: Some(left_behind), cause }) = &step.after.state
    else {
        return Ok(());
    };
    let permitted = match (&step.before.state, cause) {
        (State::Draining { .. } | State::Exiting { .. }, _) => true,
        (_, Cause::Stop { .. }) => matches!(step.event, Event::StopRequested { .. }),
        (State::RestartPending { deadline, .. }, Cause::Restart { .. }) if *deadline <= step.now => true,
        (_, Cause::Restart { forced, .. }) => *forced && force_was_asked(step),
    };
    let journalled = step.after.journal().job.as_ref() == Some(left_behind);
    if !permitted || !journalled {
        return violated(Property::NoWorkLeft, format!("{} was left behind on {:?}", left_behind.task.id, step.event));
    }
    if let Some(Effect::Exit { .. }) = step.effects.last() {
        let written = step.effects.iter().any(|e| matches!(e, Effect::Persist(journal) if journal.job.is_some()));
        if !written && step.after.durable.job.as_ref() != Some(left_behind) {
            return violated(Property::NoWorkLeft, format!("exit without {} on disk", left_behind.task.id));
        }
    }
    Ok(())
}

/// Returns whether the command of this step, or one that waited for a check, has `force`.
fn force_was_asked(step: &StepRecord<'_>) -> bool {
    let waiting = step.before.check.iter().flat_map(RestartCheck::commands).map(|ask| &ask.order);
    waiting.chain(restart_order(step.event)).any(|order| order.force)
}

/// Checks that every deadline that was due has been handled.
pub(super) fn deadlines(step: &StepRecord<'_>) -> Result<(), Violation> {
    if !matches!(step.event, Event::DeadlineReached) {
        return Ok(());
    }
    let overdue = match &step.after.state {
        State::RestartPending { deadline, .. } | State::Draining { deadline, .. } => *deadline <= step.now,
        State::Idle | State::Working { .. } | State::Exiting { .. } => false,
    };
    if overdue {
        return violated(Property::Bounded, format!("still {} after its deadline", step.after.state.phase()));
    }
    if step.after.check.as_ref().is_some_and(|check| check.deadline <= step.now) {
        return violated(Property::Bounded, String::from("a check of the next run is open after its deadline"));
    }
    match step.after.deadline(step.policy) {
        Some((at, wait)) if at <= step.now => violated(
            Property::NoSpin,
            format!("the deadline for {wait} at {} was handled and is due again", at.as_millis()),
        ),
        Some(_) | None => Ok(()),
    }
}
