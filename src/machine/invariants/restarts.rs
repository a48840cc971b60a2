//! The properties of restarts: how the process ends, the answers to commands, and the restart check.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Property, StepRecord, Violation, violated};
use crate::machine::{
    Cause, Effect, Ending, Event, FromHub, Job, Machine, NextRun, Phase, RestartCheck, RestartOrder, State, Ticket,
    ToHub,
};

/// Returns the restart command of an event.
pub(super) fn restart_order(event: &Event) -> Option<&RestartOrder> {
    if let Event::HubSaid(FromHub::RestartCommanded(order)) | Event::RestartRequested { order, .. } = event {
        return Some(order);
    }
    None
}

/// Returns whether the event is the answer to the open check that permits the restart.
fn check_answered(step: &StepRecord<'_>) -> bool {
    let open = step.before.check.as_ref().map(|check| check.number);
    matches!(step.event, Event::NextRunChecked { number, cannot_start: None, .. } if open == Some(*number))
}

/// Checks that a restart begins only after a check, and that the process ends as the answer requires.
pub(super) fn comes_back(step: &StepRecord<'_>) -> Result<(), Violation> {
    if step.before.restarts.open.is_none() && step.after.restarts.open.is_some() && !check_answered(step) {
        return violated(Property::ComesBack, format!("a restart was accepted on {:?}", step.event));
    }
    let (known, found) = (next_run(&step.before.state), next_run(&step.after.state));
    if let (Some(NextRun::Found(_)), Event::NextRunChecked { number, restart_method, cannot_start }) =
        (found, step.event)
        && found != known
    {
        let asked = known == Some(NextRun::Asked { number: *number });
        if !asked || found != Some(NextRun::of(*restart_method, cannot_start.is_some())) {
            return violated(Property::ComesBack, format!("{:?} was taken for {found:?}", step.event));
        }
    } else if let (Some(NextRun::Found(_)), true) = (found, found != known) {
        return violated(Property::ComesBack, format!("{found:?} without an answer, on {:?}", step.event));
    }
    let Some(Effect::Exit { cause, ending }) = step.effects.last() else { return Ok(()) };
    let wanted = match cause {
        Cause::Restart { signalled: false, next_run: NextRun::Found(found), .. } => *found,
        Cause::Restart { signalled: false, next_run: NextRun::Asked { .. }, .. } => Ending::InPlace,
        Cause::Restart { signalled: true, .. } | Cause::Stop { .. } => Ending::Exit,
    };
    if *ending != wanted {
        return violated(Property::ComesBack, format!("{cause:?} ended by {ending}"));
    }
    Ok(())
}

fn next_run(state: &State) -> Option<NextRun> {
    match state {
        State::Draining { cause: Cause::Restart { next_run, .. }, .. }
        | State::Exiting { cause: Cause::Restart { next_run, .. }, .. } => Some(*next_run),
        State::Draining { cause: Cause::Stop { .. }, .. }
        | State::Exiting { cause: Cause::Stop { .. }, .. }
        | State::Idle
        | State::Working { .. }
        | State::RestartPending { .. } => None,
    }
}

/// Checks that every command and every operator is answered once; a command that waits for a check is answered when the
/// check ends.
pub(super) fn answered(step: &StepRecord<'_>) -> Result<(), Violation> {
    if step.before.state.phase() == Phase::Exiting {
        return Ok(());
    }
    let ids = |machine: &Machine| -> Vec<String> {
        let commands = machine.check.iter().flat_map(RestartCheck::commands);
        commands.filter_map(|ask| ask.order.command_id.clone()).collect()
    };
    let (mut owed, waiting) = (ids(step.before), ids(step.after));
    owed.extend(restart_order(step.event).and_then(|order| order.command_id.clone()));
    owed.sort();
    owed.dedup();
    let knows = step.before.connection.online().is_some_and(|online| online.features.restart_v2);
    for id in &owed {
        let is_answer =
            |e: &&Effect| matches!(e, Effect::Send(ToHub::RestartAck { command_id, .. }) if command_id == id);
        let (found, wanted) =
            (step.effects.iter().filter(is_answer).count(), usize::from(knows && !waiting.contains(id)));
        if found != wanted {
            return violated(Property::Answered, format!("{found} answers to command {id}, wanted {wanted}"));
        }
    }
    operators_answered(step)
}

fn operators_answered(step: &StepRecord<'_>) -> Result<(), Violation> {
    let tickets = |machine: &Machine| -> Vec<Ticket> {
        let commands = machine.check.iter().flat_map(RestartCheck::commands).filter_map(|ask| ask.to);
        commands.chain(machine.replies.iter().map(|reply| reply.to)).collect()
    };
    let mut owed = tickets(step.before);
    if let Event::RestartRequested { to, .. }
    | Event::RestartCancelRequested { to }
    | Event::CordonRequested { to, .. } = step.event
    {
        owed.extend(*to);
    }
    let mut answered = tickets(step.after);
    let reply = |effect: &Effect| if let Effect::Reply { to, .. } = effect { Some(*to) } else { None };
    answered.extend(step.effects.iter().filter_map(reply));
    owed.sort();
    answered.sort();
    if owed != answered {
        return violated(Property::Answered, format!("operators {owed:?} asked, and {answered:?} wait or were told"));
    }
    Ok(())
}

/// Checks that an assignment is deferred only while a question is open, and that no event changes an open check.
pub(super) fn open_questions(step: &StepRecord<'_>) -> Result<(), Violation> {
    let after = step.after;
    let check = after.check.as_ref();
    if check.is_some() && !matches!(after.state.phase(), Phase::Idle | Phase::Working) {
        return violated(Property::OpenQuestions, format!("a check is open in {}", after.state.phase()));
    }
    if let (Phase::Idle, Phase::Working, Some(_)) = (step.before.state.phase(), after.state.phase(), check) {
        return violated(Property::OpenQuestions, format!("a task was taken during a check, on {:?}", step.event));
    }
    let in_question = after.state.job().is_some_and(Job::is_in_question);
    let undecided = !after.state.is_leaving() && (check.is_some() || in_question);
    if let (Some(deferred), false) = (&after.deferred, undecided) {
        return violated(Property::OpenQuestions, format!("{} waits for nothing", deferred.task.id));
    }
    let Some(check) = check else { return Ok(()) };
    match step.before.check.as_ref().filter(|before| before.number == check.number) {
        Some(before) => {
            let same = check.deadline == before.deadline
                && check.first.asked_at == before.first.asked_at
                && check.first.order.command_id == before.first.order.command_id
                && check.first.order.deadline_ms == before.first.order.deadline_ms;
            if !same {
                return violated(Property::RepeatsChangeNothing, format!("{:?} moved an open check", step.event));
            }
        }
        None if check.deadline > step.now.plus(step.policy.next_run_check_ms) => {
            return violated(Property::Bounded, String::from("a check is given more time than it may take"));
        }
        None => {}
    }
    Ok(())
}
