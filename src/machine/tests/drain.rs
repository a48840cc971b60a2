//! The way out, where a hub makes it hard.

use crate::machine::*;

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

/// A machine that drains for a restart, online, with a verdict that the hub has not answered.
fn draining() -> Machine {
    draining_at(Features::default())
}

/// The same at a hub with these features.
fn draining_at(features: Features) -> Machine {
    let task_id = TaskId::new("t").unwrap();
    let verdict = Verdict {
        task_id,
        generation: 1,
        outcome: Outcome::failed("no luck"),
        accept_first: false,
        no_session_came: false,
        result_read: false,
        refusals: 0,
    };
    let journal = Journal { outbox: vec![verdict], ..Journal::default() };
    let machine = Machine::recover(journal, NOW, &Policy::default()).0;
    let order = RestartOrder { reason: "r".into(), command_id: None, deadline_ms: None, force: false, by: None };
    let events = [
        Event::HubOpened,
        Event::HubSaid(FromHub::Identified { features }),
        Event::RestartRequested { order, to: None },
        Event::NextRunChecked { number: 1, restart_method: RestartMethod::Supervisor, cannot_start: None },
        Event::Persisted,
    ];
    let machine =
        events.into_iter().fold(machine, |machine, event| transition(machine, event, NOW, &Policy::default()).0);
    assert_eq!(machine.state.phase(), Phase::Draining);
    machine
}

fn redial_after(retry_after_ms: Option<u64>) -> u64 {
    let closed = Event::HubClosed { retry_after_ms, jitter: Jitter(u16::MAX), refusal: None };
    let (machine, _) = transition(draining(), closed, NOW, &Policy::default());
    let Connection::Down { retry_at, .. } = machine.connection else { panic!("{:?}", machine.connection) };
    retry_at.since(NOW)
}

#[test]
fn last_words_redial_at_once_but_not_into_a_cooldown() {
    assert!(redial_after(None) <= 250);
    assert!(redial_after(Some(29_000)) >= 29_000);
}

#[test]
fn a_second_signal_is_the_end_even_when_a_verdict_is_due() {
    let stop = || Event::StopRequested { signal: StopSignal::Interrupt };
    let (machine, _) = transition(draining(), stop(), NOW, &Policy::default());
    let (_, effects) = transition(machine, stop(), NOW.plus(20_000), &Policy::default());
    assert!(matches!(effects.last(), Some(Effect::Exit { .. })), "{effects:?}");
}

#[test]
fn of_operators_who_wait_for_the_disk_one_too_many_is_told_at_once() {
    let policy = Policy::default();
    let (mut machine, _) = Machine::recover(Journal::default(), NOW, &policy);
    let cordon = |ticket| Event::CordonRequested { on: true, to: Some(Ticket(ticket)) };
    let cap = REPLIES_CAP as u64;
    let mut told = Vec::new();
    for ticket in 1..=cap + 1 {
        let (after, effects) = transition(machine, cordon(ticket), NOW, &policy);
        machine = after;
        told.extend(effects.into_iter().filter(|effect| matches!(effect, Effect::Reply { .. })));
    }
    let [Effect::Reply { to, not_on_disk, .. }] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((*to, *not_on_disk), (Ticket(cap + 1), true));
    let (_, effects) = transition(machine, Event::Persisted, NOW, &policy);
    assert_eq!(effects.iter().filter(|effect| matches!(effect, Effect::Reply { .. })).count(), REPLIES_CAP);
}

/// The time in ms for which a legacy hub may be about to assign the next task.
const NEXT_MS: u64 = 200;

fn acknowledged() -> Event {
    Event::HubSaid(FromHub::VerdictAcknowledged { task_id: "t".into() })
}

fn next_task() -> Event {
    let task = Task { id: TaskId::new("next").unwrap(), generation: 1, payload: "{}".into() };
    Event::HubSaid(FromHub::Assigned { task, assigned_at: None, timeout_ms: None })
}

fn closes(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::CloseLink(_)))
}

/// A machine whose verdict is acknowledged at `NOW`, with nothing more to say, and whether it has closed.
fn all_said(machine: Machine, policy: &Policy) -> (Machine, bool) {
    let (machine, _) = transition(machine, acknowledged(), NOW, policy);
    let (machine, effects) = transition(machine, Event::Persisted, NOW, policy);
    (machine, closes(&effects))
}

#[test]
fn at_a_legacy_hub_the_goodbye_waits_for_the_next_assignment_and_not_for_long() {
    let policy = Policy::default();
    let (machine, closed) = all_said(draining(), &policy);
    let until = NOW.plus(NEXT_MS);
    assert_eq!((closed, machine.deadline(&policy)), (false, Some((until, Wait::NextAssignment))));
    let due = |at| transition(machine.clone(), Event::DeadlineReached, at, &policy).1;
    assert_eq!((closes(&due(until.minus(1))), closes(&due(until))), (false, true));
}

#[test]
fn the_next_assignment_ends_the_wait_and_is_not_answered() {
    let policy = Policy::default();
    let (machine, effects) = transition(all_said(draining(), &policy).0, next_task(), NOW, &policy);
    assert!(matches!(
        effects.as_slice(),
        [
            Effect::Notify(Notice::AssignmentRefused { .. }),
            Effect::Send(ToHub::AgentRestarting { .. }),
            Effect::Send(ToHub::Status { .. }),
            Effect::CloseLink(CloseCode::Restarting)
        ]
    ));
    assert_eq!(machine.journal(), machine.durable, "it is not taken");
}

#[test]
fn our_hub_and_a_verdict_of_a_while_ago_are_not_waited_for() {
    let policy = Policy::default();
    let features = Features { restart_v2: true, task_rejected: true, cordon: true, task_reassign: true };
    assert!(all_said(draining_at(features), &policy).1);
    let (machine, _) = transition(draining(), acknowledged(), NOW, &policy);
    let (_, effects) = transition(machine, Event::Persisted, NOW.plus(NEXT_MS), &policy);
    assert!(closes(&effects), "the write took as long");
}

#[test]
fn a_new_connection_has_acknowledged_nothing() {
    let policy = Policy::default();
    let events = [
        Event::HubClosed { retry_after_ms: None, jitter: Jitter(0), refusal: None },
        Event::HubOpened,
        Event::HubSaid(FromHub::Identified { features: Features::default() }),
    ];
    let (mut machine, mut effects) = (all_said(draining(), &policy).0, vec![]);
    for event in events {
        (machine, effects) = transition(machine, event, NOW, &policy);
    }
    assert!(closes(&effects), "{:?}", machine.connection);
}

#[test]
fn the_budget_of_a_stop_signal_goes_before_the_wait() {
    let policy = Policy { stop_budget_ms: 500, close_budget_ms: 400, ..Policy::default() };
    let stop = Event::StopRequested { signal: StopSignal::Interrupt };
    let (machine, closed) = all_said(transition(draining(), stop.clone(), NOW, &policy).0, &policy);
    assert_eq!((closed, machine.deadline(&policy)), (false, Some((NOW.plus(100), Wait::FlushDeadline))));
    assert!(closes(&transition(machine.clone(), Event::DeadlineReached, NOW.plus(100), &policy).1));
    let (_, effects) = transition(machine, stop, NOW, &policy);
    assert!(matches!(effects.last(), Some(Effect::Exit { .. })), "{effects:?}");
}

#[test]
fn behind_a_cordon_the_next_assignment_is_waited_for_too() {
    let policy = Policy::default();
    let journal = Journal { cordoned: true, outbox: draining().durable.outbox, ..Journal::default() };
    let events = [Event::HubOpened, Event::HubSaid(FromHub::Identified { features: Features::default() })];
    let (machine, _) = Machine::recover(journal, NOW, &policy);
    let machine = events.into_iter().fold(machine, |machine, event| transition(machine, event, NOW, &policy).0);
    let (machine, closed) = all_said(machine, &policy);
    let until = NOW.plus(NEXT_MS);
    assert_eq!((closed, machine.deadline(&policy)), (false, Some((until, Wait::NextAssignment))));
    assert!(closes(&transition(machine.clone(), Event::DeadlineReached, until, &policy).1));
    assert!(closes(&transition(machine, next_task(), NOW, &policy).1));
}
