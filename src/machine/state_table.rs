//! The table of the machine's moves, computed by applying [`transition`] to one representative of each kind of machine
//! with every possible event. `agentcom-sidecar machine` prints it and `docs/states.md` is checked against it. The
//! machine does not use it, and it distinguishes only the kinds that `Kind` does.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use crate::machine::{
    ConnectionName, Disk, DrainStep, Event, EventName, Features, FromHub, FromHubName, Jitter, Journal, Machine, News,
    Outcome, Ownership, Phase, Policy, RestartMethod, RestartOrder, StageName, StopSignal, Task, TaskId, Timestamp,
    VerdictRefusal, WakeOutcome, transition,
};

/// One possible move: in the state `from` the event may lead to the state `to` (which may be the same).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Move {
    /// The state before.
    pub from: Phase,
    /// The event's name, an [`EventName`].
    pub event: &'static str,
    /// The hub message's name, a [`FromHubName`], if the event is `HubSaid`.
    pub said: Option<&'static str>,
    /// The state after.
    pub to: Phase,
}

/// The initial states as drawn in the diagram, each with its label.
pub const BEGINNINGS: [(Phase, &str); 2] =
    [(Phase::Idle, "nothing in the journal"), (Phase::Working, "a task in the journal")];

/// The edges as drawn in the diagram, each with its label. Every other edge passes through `Draining` without stopping
/// there.
pub const DRAWN: [(Phase, Phase, &str); 8] = [
    (Phase::Idle, Phase::Working, "a task is assigned"),
    (Phase::Idle, Phase::Draining, "a checked restart, or a stop signal"),
    (Phase::Working, Phase::Idle, "the task's verdict, or the hub reclaims or cancels it"),
    (Phase::Working, Phase::RestartPending, "a checked restart"),
    (Phase::Working, Phase::Draining, "a stop signal, or a checked restart with force"),
    (Phase::RestartPending, Phase::Working, "an operator on the machine cancels the restart"),
    (Phase::RestartPending, Phase::Draining, "the task ends, or the deadline, force or a stop signal leaves it behind"),
    (
        Phase::Draining,
        Phase::Exiting,
        "everything sent and the connection closed, or the drain deadline, or a second signal",
    ),
];

/// Returns the edges among `moves`: those from one state to another.
pub fn edges(moves: &BTreeSet<Move>) -> BTreeSet<(Phase, Phase)> {
    moves.iter().filter(|step| step.from != step.to).map(|step| (step.from, step.to)).collect()
}

/// Returns the diagram of `docs/states.md` and the README, without its fences: the edges of [`DRAWN`] that are among
/// `moves`.
pub fn mermaid(moves: &BTreeSet<Move>) -> String {
    use core::fmt::Write as _;
    let edges = edges(moves);
    let mut text = "stateDiagram-v2\n".to_owned();
    // Writing to a String cannot fail.
    for (to, why) in BEGINNINGS {
        let _ = writeln!(text, "    [*] --> {to}: {why}");
    }
    for (from, to, why) in DRAWN.iter().filter(|(from, to, _)| edges.contains(&(*from, *to))) {
        let _ = writeln!(text, "    {from} --> {to}: {why}");
    }
    let _ = writeln!(text, "    {} --> [*]", Phase::Exiting);
    text
}

/// The distinguishing properties of a machine: two machines of the same kind are assumed to have the same moves.
type Kind = (Phase, &'static str, Option<&'static str>, [bool; 15]);

fn kind(machine: &Machine) -> Kind {
    let job = machine.state.job();
    let stage = machine.state.persisted().map(|persisted| StageName::from(&persisted.stage).into());
    let (closing, checking, hurried) = match &machine.state {
        crate::machine::State::Draining { step, cause, .. } => (
            *step == DrainStep::Closing,
            *step == DrainStep::Checking,
            matches!(
                cause,
                crate::machine::Cause::Stop { .. } | crate::machine::Cause::Restart { signalled: true, .. }
            ),
        ),
        crate::machine::State::Idle
        | crate::machine::State::Working { .. }
        | crate::machine::State::RestartPending { .. }
        | crate::machine::State::Exiting { .. } => (false, false, false),
    };
    let details = [
        closing,
        checking,
        hurried,
        job.is_some_and(|job| matches!(job.ownership, Ownership::Recovering { .. })),
        job.is_some_and(crate::machine::Job::is_in_question),
        matches!(machine.disk, Disk::Writing { .. }),
        matches!(machine.disk, Disk::Failing { .. }),
        machine.outbox.to_journal().is_empty(),
        machine.parked.items().is_empty(),
        machine.cordon.is_on(),
        machine.check.is_some(),
        machine.check.as_ref().is_some_and(|check| check.commands().any(|ask| ask.order.force)),
        machine.deferred.is_some(),
        job.is_some_and(|job| job.review.is_some()),
        job.is_some_and(|job| job.last_look.is_some()),
    ];
    (machine.state.phase(), ConnectionName::from(&machine.connection).into(), stage, details)
}

/// Returns every move that was found, in the order of the states.
pub fn moves() -> BTreeSet<Move> {
    let start = Timestamp::from_millis(1_000_000);
    let mut found = BTreeSet::new();
    // Without a stop budget there is no time for a goodbye, which gives further moves.
    let hurried = Policy { stop_budget_ms: 0, ..Policy::default() };
    let hooked = Policy { result_hook_ms: Some(1_000), ..Policy::default() };
    for policy in [Policy::default(), hurried, hooked] {
        let mut visited: BTreeSet<Kind> = BTreeSet::new();
        let mut open = Vec::new();
        let mut visit = |open: &mut Vec<_>, machine: Machine, now| {
            if visited.insert(kind(&machine)) {
                open.push((machine, now));
            }
        };
        visit(&mut open, Machine::recover(Journal::default(), start, &policy).0, start);
        while let Some((machine, now)) = open.pop() {
            for (event, at) in possible_events(&machine, now, &policy) {
                let said = if let Event::HubSaid(said) = &event { Some(FromHubName::from(said).into()) } else { None };
                let (from, event_name) = (machine.state.phase(), EventName::from(&event).into());
                let (after, _) = transition(machine.clone(), event, at, &policy);
                found.insert(Move { from, event: event_name, said, to: after.state.phase() });
                visit(&mut open, after, at);
            }
            // A crash at this point: the next process finds what the disk holds.
            visit(&mut open, Machine::recover(machine.durable, now, &policy).0, now);
        }
    }
    found
}

/// Returns the events that this machine can visit, each kind at least once, with their times.
fn possible_events(machine: &Machine, now: Timestamp, policy: &Policy) -> Vec<(Event, Timestamp)> {
    let due = machine.deadline(policy).map_or(now, |(at, _)| at.max(now));
    // Late enough that every deadline is due.
    let late = now.plus(policy.restart_deadline_ms);
    let mut events: Vec<(Event, Timestamp)> = Vec::new();
    events.extend([(Event::DeadlineReached, due), (Event::DeadlineReached, late)]);
    events.extend(local_events(machine).into_iter().map(|event| (event, now)));
    events.extend(hub_messages(machine).into_iter().map(|said| (Event::HubSaid(said), now)));
    events
}

/// Returns the task in hand or left behind, otherwise a new one.
fn task_of(machine: &Machine) -> Option<Task> {
    machine.state.persisted().map(|persisted| persisted.task.clone()).or_else(|| task("t", 1))
}

fn task(id: &str, generation: u64) -> Option<Task> {
    // The ids here are valid; an invalid one would show as a table without moves.
    TaskId::new(id).ok().map(|id| Task { id, generation, payload: "{}".into() })
}

fn order(force: bool) -> RestartOrder {
    RestartOrder { reason: "table".into(), command_id: None, deadline_ms: None, force, by: None }
}

fn local_events(machine: &Machine) -> Vec<Event> {
    let mut events = Vec::new();
    events.extend([
        Event::HubOpened,
        Event::HubClosed { retry_after_ms: None, jitter: Jitter(0), refusal: None },
        Event::HubClosed { retry_after_ms: None, jitter: Jitter(0), refusal: Some("table".into()) },
        Event::StopRequested { signal: StopSignal::Interrupt },
        Event::RestartRequested { order: order(false), to: None },
        Event::RestartRequested { order: order(true), to: None },
        Event::RestartCancelRequested { to: None },
        Event::CordonRequested { on: true, to: None },
        Event::CordonRequested { on: false, to: None },
        Event::NewsOffered(News::Resources),
        Event::Persisted,
        Event::PersistFailed,
    ]);
    events.extend(answers(machine));
    let Some(task) = task_of(machine) else { return events };
    let attempt = match machine.state.job().map(|job| &job.persisted.stage) {
        Some(crate::machine::Stage::Waking { attempt } | crate::machine::Stage::RetryingWake { attempt, .. }) => {
            *attempt
        }
        Some(
            crate::machine::Stage::Accepted
            | crate::machine::Stage::AwaitingConfirmation { .. }
            | crate::machine::Stage::Running
            | crate::machine::Stage::Interrupted { .. },
        )
        | None => 1,
    };
    let (id, generation) = (task.id, task.generation);
    let outcomes = [WakeOutcome::Succeeded, WakeOutcome::Failed { error: "table".into() }];
    events.extend(outcomes.map(|outcome| Event::WakeFinished { task_id: id.clone(), generation, attempt, outcome }));
    events.push(Event::Confirmed { task_id: id.clone() });
    let outcomes = [Outcome::Completed { result: "{}".into() }, Outcome::failed("table")];
    events.extend(outcomes.map(|outcome| Event::ResultFound { task_id: id.clone(), outcome }));
    events.extend([None, Some("table".to_owned())].map(|path| Event::RefusedResultWritten {
        task_id: id.clone(),
        generation,
        path,
    }));
    events
}

/// Returns answers to the questions that the machine may have open: the last one asked and the one before it.
fn answers(machine: &Machine) -> Vec<Event> {
    let mut events = Vec::new();
    for number in [machine.questions, machine.questions.wrapping_sub(1)] {
        let checked = |restart_method, cannot_start| Event::NextRunChecked { number, restart_method, cannot_start };
        events.extend([
            checked(RestartMethod::Supervisor, None),
            checked(RestartMethod::InPlace, None),
            checked(RestartMethod::Supervisor, Some("table".into())),
            Event::ResultReviewed { number, outcome: Outcome::failed("table") },
            Event::ResultsLookedFor { number },
        ]);
    }
    events
}

fn hub_messages(machine: &Machine) -> Vec<FromHub> {
    let mut messages = Vec::new();
    let full = Features { restart_v2: true, task_rejected: true, cordon: true, task_reassign: true };
    messages.extend([full, Features::default()].map(|features| FromHub::Identified { features }));
    messages.extend([false, true].map(|force| FromHub::RestartCommanded(order(force))));
    messages.extend([
        FromHub::IdentifyRefused { error: "table".into() },
        FromHub::AssignedInvalid { task_id: "/".into(), generation: 1, why: "table".into() },
        FromHub::ReportNotUnderstood,
        FromHub::RateLimited { retry_after_ms: 1_000 },
        FromHub::Forgotten,
        FromHub::SignOfLife,
    ]);
    for complete in [true, false] {
        let why = [VerdictRefusal::NotNow, VerdictRefusal::Never];
        messages.extend(why.map(|why| FromHub::VerdictRefused { complete, why, of: None }));
        messages.push(FromHub::RefusedInOtherWords { complete: Some(complete), error: "table".into(), of: None });
    }
    let Some(mine) = task_of(machine) else { return messages };
    let id = || mine.id.as_str().to_owned();
    messages.extend([
        FromHub::AcceptAcknowledged { task_id: id() },
        FromHub::VerdictAcknowledged { task_id: id() },
        FromHub::TaskContinue { task_id: id(), generation: None },
        FromHub::TaskReassigned { task_id: id(), generation: None },
        FromHub::TaskReassigned { task_id: id(), generation: Some(mine.generation) },
        FromHub::TaskCancelled { task_id: id() },
    ]);
    messages.extend([true, false].map(|go_on| FromHub::ReportAnswered { task_id: id(), go_on }));
    // The task in hand, the same task in a new assignment, and another task.
    let again = task(mine.id.as_str(), mine.generation + 1);
    let tasks = [Some(mine), again, task("u", 1)];
    messages.extend(tasks.into_iter().flatten().map(|task| FromHub::Assigned {
        task,
        assigned_at: None,
        timeout_ms: None,
    }));
    messages
}

#[cfg(test)]
#[path = "tests/state_table.rs"]
mod tests;
