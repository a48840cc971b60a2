//! What must always hold, once, in code: the daemon's debug build, the property tests and every model check call this.
//!
//! [`check_step`] judges one transition by itself; [`History`] judges it by everything that happened before, across
//! crashes. Neither changes a machine.

mod history;
mod refusals;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
pub use history::History;

use refusals::{is_given_up, refusal_blocks_nothing};

use super::{
    Cause, Effect, Ending, Event, FromHub, Journal, Machine, NextRun, Outcome, ParkedTask, Phase, Policy, Stage, State,
    TaskId, Ticket, Timestamp, ToHub,
};

/// The properties of `docs/states.md`, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::EnumIter, strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum Property {
    /// 1. The same machine, event and time give the same machine and effects.
    Deterministic,
    /// 2. Only the edges of the table; once leaving, never back.
    Edges,
    /// 3. At most one job; none is started in Draining or Exiting, or behind a cordon.
    OneJob,
    /// 4. Nothing is promised or started before the journal holds it.
    DurableFirst,
    /// 5. No accepted task is lost.
    NoLoss,
    /// 6. One verdict per hand-out; a failure in place of a result that the hub refused, once that is put aside.
    OneVerdict,
    /// 7. No hand-out is woken twice unless the last wake is known to have failed; work under way is adopted.
    NoDoubleWake,
    /// 8. A repeated command changes nothing.
    RepeatsChangeNothing,
    /// 9. `agent_restarting` once, after the last verdict, before the close, whenever the hub is reachable.
    AnnouncedOnce,
    /// 10. No exit with work under way unless the deadline passed, force was asked, or a stop signal came.
    NoWorkLeft,
    /// 11. From the command to the exit: at most the longer of check and restart deadline + drain deadline.
    Bounded,
    /// 12. After a deadline is handled the next is later.
    NoSpin,
    /// 13. At most N commanded restarts in a window.
    Intensity,
    /// 14. Never an exit that nobody would undo: on the supervisor's word alone a restart begins, or ends by an exit.
    ComesBack,
    /// 15. Every command gets one answer, and so does every operator.
    Answered,
    /// 16. A refused verdict blocks nothing: the others are said meanwhile, it ends, and no result is dropped for it.
    RefusalBlocksNothing,
    /// 17. Nothing overtakes a check: no task is taken meanwhile, and whatever waits waits for an answer.
    OpenQuestions,
}

/// A property that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub property: Property,
    /// What was seen.
    pub detail: String,
}

impl core::fmt::Display for Violation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "property {} ({}) does not hold: {}", self.property as u8 + 1, self.property, self.detail)
    }
}

/// One transition, as seen from outside.
#[derive(Debug, Clone, Copy)]
pub struct StepRecord<'a> {
    /// The machine before.
    pub before: &'a Machine,
    /// What happened.
    pub event: &'a Event,
    /// When.
    pub now: Timestamp,
    /// By which figures.
    pub policy: &'a Policy,
    /// The machine after.
    pub after: &'a Machine,
    /// What was ordered.
    pub effects: &'a [Effect],
}

pub(super) fn violated(property: Property, detail: String) -> Result<(), Violation> {
    Err(Violation { property, detail })
}

/// Judges one transition by itself.
///
/// # Errors
/// The first property that does not hold.
pub fn check_step(step: &StepRecord<'_>) -> Result<(), Violation> {
    edges(step)?;
    nothing_started_while_leaving(step)?;
    durable_first(step)?;
    ownership(step)?;
    repeats(step)?;
    goodbye_order(step)?;
    work_left(step)?;
    deadlines(step)?;
    comes_back(step)?;
    answered(step)?;
    open_questions(step)?;
    no_new_work_behind_a_cordon(step)?;
    refusal_blocks_nothing(step)
}

/// The edges of the table in `docs/states.md`. A transition may pass through `Draining` on its way to `Exiting`.
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

fn edges(step: &StepRecord<'_>) -> Result<(), Violation> {
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

fn nothing_started_while_leaving(step: &StepRecord<'_>) -> Result<(), Violation> {
    let past_work = matches!(step.after.state.phase(), Phase::Draining | Phase::Exiting);
    let starts = step.effects.iter().find(|e| matches!(e, Effect::Wake { .. }));
    match (past_work, starts) {
        (true, Some(effect)) => violated(Property::OneJob, format!("{effect:?} in {}", step.after.state.phase())),
        (true, None) | (false, _) => Ok(()),
    }
}

/// Whether the journal holds the task, as a job or as a verdict.
fn holds(journal: &Journal, id: &TaskId) -> bool {
    journal.job.as_ref().is_some_and(|c| c.task.id == *id) || journal.outbox.iter().any(|v| v.task_id == *id)
}

fn durable_first(step: &StepRecord<'_>) -> Result<(), Violation> {
    let durable = &step.after.durable;
    for effect in step.effects {
        let fine = match effect {
            Effect::Send(ToHub::TaskAccepted { task_id }) => holds(durable, task_id),
            Effect::Send(ToHub::TaskComplete { task_id, generation, .. }) => {
                durable.outbox.iter().any(|v| v.task_id == *task_id && v.generation == *generation)
            }
            Effect::Send(ToHub::TaskFailed { task_id, generation, .. }) => {
                // A task id that is no plain name was never taken: its refusal promises nothing.
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
        if !fine {
            return violated(Property::DurableFirst, format!("{effect:?} while the disk holds {durable:?}"));
        }
    }
    Ok(())
}

/// Whether `event` is one by which the hub answers for, or takes back, what is known as `id`; or the disk refusing a
/// task that nobody was promised anything about.
fn releases(event: &Event, id: &TaskId) -> bool {
    let names = |task_id: &str| task_id == id.as_str();
    match event {
        Event::HubSaid(said) => match said {
            FromHub::VerdictAcknowledged { task_id }
            | FromHub::TaskReassigned { task_id }
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

fn ownership(step: &StepRecord<'_>) -> Result<(), Violation> {
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

fn repeats(step: &StepRecord<'_>) -> Result<(), Violation> {
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

fn goodbye_order(step: &StepRecord<'_>) -> Result<(), Violation> {
    let position = |wanted: fn(&Effect) -> bool| step.effects.iter().position(wanted);
    let Some(said) = position(|e| matches!(e, Effect::Send(ToHub::AgentRestarting { .. }))) else { return Ok(()) };
    let close = position(|e| matches!(e, Effect::CloseLink(_)));
    let late_verdict = step.effects.iter().skip(said).any(|e| {
        matches!(e, Effect::Send(ToHub::TaskComplete { .. } | ToHub::TaskFailed { .. } | ToHub::TaskAccepted { .. }))
    });
    if close.is_none_or(|close| close < said) || late_verdict {
        return violated(Property::AnnouncedOnce, format!("the goodbye is out of order: {:?}", step.effects));
    }
    Ok(())
}

fn work_left(step: &StepRecord<'_>) -> Result<(), Violation> {
    let (State::Draining { left: Some(left), cause, .. } | State::Exiting { left: Some(left), cause }) =
        &step.after.state
    else {
        return Ok(());
    };
    let why_now = match (&step.before.state, cause) {
        (State::Draining { .. } | State::Exiting { .. }, _) => true,
        (_, Cause::Stop { .. }) => matches!(step.event, Event::StopRequested { .. }),
        (State::RestartPending { deadline, .. }, Cause::Restart { .. }) if *deadline <= step.now => true,
        (_, Cause::Restart { forced, .. }) => *forced && force_was_asked(step),
    };
    let safe = step.after.journal().job.as_ref() == Some(left);
    if !why_now || !safe {
        return violated(Property::NoWorkLeft, format!("{} was left behind on {:?}", left.task.id, step.event));
    }
    if let Some(Effect::Exit { .. }) = step.effects.last() {
        let written = step.effects.iter().any(|e| matches!(e, Effect::Persist(journal) if journal.job.is_some()));
        if !written && step.after.durable.job.as_ref() != Some(left) {
            return violated(Property::NoWorkLeft, format!("exit without {} on disk", left.task.id));
        }
    }
    Ok(())
}

/// By the command of this step, or by one that waited for a check.
fn force_was_asked(step: &StepRecord<'_>) -> bool {
    let waiting = step.before.check.iter().flat_map(super::RestartCheck::commands).map(|ask| &ask.order);
    waiting.chain(restart_order(step.event)).any(|order| order.force)
}

fn restart_order(event: &Event) -> Option<&super::RestartOrder> {
    if let Event::HubSaid(FromHub::RestartCommanded(order)) | Event::RestartRequested { order, .. } = event {
        return Some(order);
    }
    None
}

fn deadlines(step: &StepRecord<'_>) -> Result<(), Violation> {
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

/// The answer to a check that is open: whether the restart may happen.
fn check_answered(step: &StepRecord<'_>) -> bool {
    let open = step.before.check.as_ref().map(|check| check.number);
    matches!(step.event, Event::NextRunChecked { number, cannot_start: None, .. } if open == Some(*number))
}

fn comes_back(step: &StepRecord<'_>) -> Result<(), Violation> {
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

/// Whoever asked is answered once: a command that waits for a check not before the check ends.
fn answered(step: &StepRecord<'_>) -> Result<(), Violation> {
    if step.before.state.phase() == Phase::Exiting {
        return Ok(());
    }
    let ids = |machine: &Machine| -> Vec<String> {
        let commands = machine.check.iter().flat_map(super::RestartCheck::commands);
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
        let commands = machine.check.iter().flat_map(super::RestartCheck::commands).filter_map(|ask| ask.to);
        commands.chain(machine.replies.iter().map(|reply| reply.to)).collect()
    };
    let mut owed = tickets(step.before);
    owed.extend(match step.event {
        Event::RestartRequested { to, .. }
        | Event::RestartCancelRequested { to }
        | Event::CordonRequested { to, .. } => *to,
        Event::DeadlineReached
        | Event::HubOpened
        | Event::HubClosed { .. }
        | Event::HubSaid(_)
        | Event::WakeFinished { .. }
        | Event::Confirmed { .. }
        | Event::ResultFound { .. }
        | Event::ResultReviewed { .. }
        | Event::ResultsLookedFor { .. }
        | Event::StopRequested { .. }
        | Event::NextRunChecked { .. }
        | Event::NewsOffered(_)
        | Event::Persisted
        | Event::PersistFailed
        | Event::RefusedResultWritten { .. } => None,
    });
    let mut answered = tickets(step.after);
    answered.extend(step.effects.iter().filter_map(|effect| match effect {
        Effect::Reply { to, .. } => Some(*to),
        Effect::Persist(_)
        | Effect::Send(_)
        | Effect::Wake { .. }
        | Effect::Dial
        | Effect::CloseLink(_)
        | Effect::CleanUp { .. }
        | Effect::WithdrawWake { .. }
        | Effect::DropSign { .. }
        | Effect::CheckNextRun { .. }
        | Effect::RunResultHook { .. }
        | Effect::LookForResults { .. }
        | Effect::PassOn(_)
        | Effect::Notify(_)
        | Effect::Exit { .. }
        | Effect::KeepRefused { .. } => None,
    }));
    owed.sort();
    answered.sort();
    if owed != answered {
        return violated(Property::Answered, format!("operators {owed:?} asked, and {answered:?} wait or were told"));
    }
    Ok(())
}

/// Nothing waits without a question, and nothing that waits is moved.
fn open_questions(step: &StepRecord<'_>) -> Result<(), Violation> {
    let after = step.after;
    let check = after.check.as_ref();
    if check.is_some() && !matches!(after.state.phase(), Phase::Idle | Phase::Working) {
        return violated(Property::OpenQuestions, format!("a check is open in {}", after.state.phase()));
    }
    if let (Phase::Idle, Phase::Working, Some(_)) = (step.before.state.phase(), after.state.phase(), check) {
        return violated(Property::OpenQuestions, format!("a task was taken during a check, on {:?}", step.event));
    }
    let in_question = after.state.job().is_some_and(super::Job::is_in_question);
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

/// Behind a cordon a job may come from the shelf, never from nothing.
fn no_new_work_behind_a_cordon(step: &StepRecord<'_>) -> Result<(), Violation> {
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

/// The verdict that an effect says, as (task, generation, content).
pub(super) fn verdict_said(effect: &Effect) -> Option<(TaskId, u64, Outcome)> {
    match effect {
        Effect::Send(ToHub::TaskComplete { task_id, generation, result }) => {
            Some((task_id.clone(), *generation, Outcome::Completed { result: result.clone() }))
        }
        Effect::Send(ToHub::TaskFailed { task_id, generation, reason }) => {
            let id = TaskId::new(task_id).ok()?;
            Some((id, *generation, Outcome::Failed { reason: reason.clone() }))
        }
        Effect::Persist(_)
        | Effect::Send(_)
        | Effect::Wake { .. }
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
        | Effect::KeepRefused { .. } => None,
    }
}

/// The task that the agent is known to be at work on, as far as a crash would leave it known. (What a crash forgets is
/// still in the results folder, and seen again there.)
pub(super) fn at_work_on(journal: &Journal) -> impl Iterator<Item = &TaskId> {
    let parked = journal.parked.iter().filter_map(|item| match item {
        ParkedTask::UnderWay(persisted) => Some(persisted),
        ParkedTask::Finished { .. } => None,
    });
    let running = journal.job.iter().chain(parked).filter(|persisted| persisted.stage == Stage::Running);
    running.map(|persisted| &persisted.task.id)
}

#[cfg(test)]
mod tests;
