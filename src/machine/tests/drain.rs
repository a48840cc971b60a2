//! The way out, where a hub makes it hard.

use crate::machine::*;

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

/// A machine that drains for a restart, online, with a verdict that the hub has not answered.
fn draining() -> Machine {
    let task_id = TaskId::new("t").unwrap();
    let verdict = Verdict {
        task_id,
        generation: 1,
        outcome: Outcome::failed("no luck"),
        accept_first: false,
        no_session_came: false,
        refusals: 0,
    };
    let journal = Journal { outbox: vec![verdict], ..Journal::default() };
    let machine = Machine::recover(journal, NOW, &Policy::default()).0;
    let order = RestartOrder { reason: "r".into(), command_id: None, deadline_ms: None, force: false, by: None };
    let events = [
        Event::HubOpened,
        Event::HubSaid(FromHub::Identified { features: Features::default() }),
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
