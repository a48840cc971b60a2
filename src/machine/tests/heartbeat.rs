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
