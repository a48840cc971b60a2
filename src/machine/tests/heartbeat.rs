//! The heartbeat: a link is dead when no pong has come in time, and not before.

use super::waking::{NOW, after, connected};
use crate::machine::*;

/// A machine that has said a ping, and when.
fn pinged(policy: &Policy) -> (Machine, Timestamp) {
    let at = NOW.plus(policy.ping_interval_ms);
    let online = after(Machine::recover(Journal::default(), NOW, policy).0, connected());
    let (machine, effects) = transition(online, Event::DeadlineReached, at, policy);
    assert_eq!(effects, [Effect::Send(ToHub::Ping)]);
    (machine, at)
}

#[test]
fn a_pong_may_take_as_long_as_promised() {
    let policy = Policy::default();
    let (machine, at) = pinged(&policy);
    let dead = at.plus(policy.pong_timeout_ms);
    let (early, effects) = transition(machine.clone(), Event::DeadlineReached, dead.minus(1), &policy);
    assert_eq!((&early, effects), (&machine, vec![]));
    let (_, effects) = transition(machine, Event::DeadlineReached, dead, &policy);
    assert_eq!(effects, [Effect::CloseLink(CloseCode::Unusable)]);
}

/// What the machine counts as failed in a row once it has closed a connection that held for `ms`, after four failures.
fn failed_after(ms: u64, event: Event) -> u32 {
    let policy = Policy::default();
    let mut machine = after(Machine::recover(Journal::default(), NOW, &policy).0, connected());
    let Connection::Online(online) = &mut machine.connection else { panic!("{:?}", machine.connection) };
    (online.attempt, online.heartbeat) = (4, Heartbeat::Sent { at: NOW, answer_by: NOW.plus(ms) });
    let (machine, _) = transition(machine, event, NOW.plus(ms), &policy);
    let Connection::Closing { attempt, .. } = machine.connection else { panic!("{:?}", machine.connection) };
    attempt
}

#[test]
fn a_link_that_held_counts_as_none_that_failed_whoever_ends_it() {
    for event in [Event::DeadlineReached, Event::HubSaid(FromHub::Forgotten)] {
        assert_eq!((failed_after(9_999, event.clone()), failed_after(10_000, event)), (4, 0));
    }
}
