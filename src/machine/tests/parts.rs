//! Every part of the machine is total by itself: called where the rest would not call it, it changes nothing.

use crate::machine::step::Step;
use crate::machine::*;

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

fn order() -> RestartOrder {
    RestartOrder { reason: "r".into(), command_id: Some("c".into()), deadline_ms: None, force: true, by: None }
}

/// A machine in each of the states that have no job.
fn without_a_job() -> [State; 3] {
    let cause = Cause::Stop { signal: StopSignal::Interrupt };
    let draining =
        State::Draining { cause: cause.clone(), deadline: NOW, step: DrainStep::Flushing, left_behind: None };
    [State::Idle, draining, State::Exiting { cause, left_behind: None }]
}

/// Whether `part` leaves a machine in `state` alone.
fn is_left_alone(state: State, part: impl FnOnce(&mut Step<'_>)) -> bool {
    let policy = Policy::default();
    let (mut machine, _) = Machine::recover(Journal::default(), NOW, &policy);
    machine.state = state;
    let mut step = Step { machine: machine.clone(), now: NOW, policy: &policy, effects: Vec::new() };
    part(&mut step);
    step.machine == machine && step.effects.is_empty()
}

#[test]
fn only_a_pending_restart_leaves_work_behind() {
    assert!(without_a_job().into_iter().all(|state| is_left_alone(state, |step| step.leave_work_behind())));
}

#[test]
fn without_a_job_none_ends() {
    assert!(without_a_job().into_iter().all(|state| is_left_alone(state, |step| step.end_job())));
}

#[test]
fn only_a_drain_ends_in_an_exit() {
    let [idle, draining, exiting] = without_a_job();
    assert!([idle, exiting].into_iter().all(|state| is_left_alone(state, |step| step.exit())));
    assert!(!is_left_alone(draining, |step| step.exit()));
}

#[test]
fn only_a_drain_ends_in_a_goodbye() {
    let [idle, draining, exiting] = without_a_job();
    assert!([idle, exiting].into_iter().all(|state| is_left_alone(state, |step| step.say_goodbye())));
    assert!(!is_left_alone(draining, |step| step.say_goodbye()));
}

#[test]
fn an_exiting_machine_hears_no_command_and_no_signal() {
    let exiting = || without_a_job()[2].clone();
    assert!(is_left_alone(exiting(), |step| step.restart_commanded(order(), None)));
    assert!(is_left_alone(exiting(), |step| step.stop_requested(StopSignal::Interrupt)));
}
