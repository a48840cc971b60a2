//! The judge is judged: each test takes a step that the machine really takes, spoils one thing in it, and wants to hear
//! which property that breaks.

mod history;
mod refusals;
mod results;
mod step;

use alloc::collections::VecDeque;

use super::*;
use crate::machine::*;

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

/// A step that may be spoiled.
#[derive(Clone)]
struct Told {
    before: Machine,
    event: Event,
    now: Timestamp,
    policy: Policy,
    after: Machine,
    effects: Vec<Effect>,
}

impl Told {
    /// What really happens; no property objects to it.
    fn truly(before: Machine, event: Event, now: Timestamp) -> Self {
        let policy = Policy::default();
        let (after, effects) = transition(before.clone(), event.clone(), now, &policy);
        let told = Self { before, event, now, policy, after, effects };
        assert_eq!(check_step(&told.step()), Ok(()));
        told
    }

    fn step(&self) -> StepRecord<'_> {
        let Self { before, event, now, policy, after, effects } = self;
        StepRecord { before, event, now: *now, policy, after, effects }
    }

    /// What this step breaks by itself.
    fn breaks(&self) -> Property {
        check_step(&self.step()).expect_err("spoiled, and nothing was said").property
    }

    /// What this step breaks after what `history` has seen.
    fn breaks_in(&self, history: &mut History) -> Property {
        history.observe(&self.step()).expect_err("spoiled, and nothing was said").property
    }

    fn with_effects(mut self, effects: Vec<Effect>) -> Self {
        self.effects = effects;
        self
    }
}

/// Something of no consequence.
fn nothing() -> Event {
    Event::HubSaid(FromHub::SignOfLife)
}

fn task(generation: u64) -> Task {
    Task { id: TaskId::new("t").unwrap(), generation, payload: "{}".into() }
}

fn assigned(generation: u64) -> Event {
    Event::HubSaid(FromHub::Assigned { task: task(generation), assigned_at: None, timeout_ms: None })
}

fn woken(outcome: WakeOutcome) -> Event {
    Event::WakeFinished { task_id: task(1).id, generation: 1, attempt: 1, outcome }
}

fn confirmed() -> Event {
    Event::Confirmed { task_id: task(1).id }
}

fn failed() -> Event {
    Event::ResultFound { task_id: task(1).id, outcome: Outcome::failed("no luck") }
}

fn restart() -> RestartOrder {
    let command_id = Some("c".into());
    RestartOrder { reason: "r".into(), command_id, deadline_ms: None, force: false, by: None }
}

fn commanded(order: RestartOrder) -> Event {
    Event::HubSaid(FromHub::RestartCommanded(order))
}

fn stop() -> Event {
    Event::StopRequested { signal: StopSignal::Interrupt }
}

/// What `machine` has become after `events`, each with a disk that works and a supervisor that answers well.
fn after(machine: Machine, events: impl IntoIterator<Item = Event>) -> Machine {
    let policy = Policy::default();
    let mut machine = machine;
    let mut todo: VecDeque<Event> = events.into_iter().collect();
    while let Some(event) = todo.pop_front() {
        let effects;
        (machine, effects) = transition(machine, event, NOW, &policy);
        for effect in effects.iter().rev() {
            if let Some(event) = answer(effect) {
                todo.push_front(event);
            }
        }
    }
    machine
}

/// What the disk and the supervisor say to an order.
fn answer(effect: &Effect) -> Option<Event> {
    if let Effect::CheckNextRun { number, .. } = effect {
        return Some(well(*number));
    }
    matches!(effect, Effect::Persist(_)).then_some(Event::Persisted)
}

/// The next run would be started, and can start.
fn well(number: u32) -> Event {
    Event::NextRunChecked { number, restart_method: RestartMethod::Supervisor, cannot_start: None }
}

/// `machine` with a restart command that waits for its check.
fn checking(machine: Machine, order: RestartOrder) -> Machine {
    let machine = transition(machine, commanded(order), NOW, &Policy::default()).0;
    assert!(machine.check.is_some());
    machine
}

/// The step in which `machine` accepts the restart, at `now`.
fn accepts(machine: Machine, order: RestartOrder, now: Timestamp) -> Told {
    let policy = Policy::default();
    let (machine, _) = transition(machine, commanded(order), now, &policy);
    let number = machine.check.as_ref().unwrap().number;
    Told::truly(machine, well(number), now)
}

fn started() -> Machine {
    Machine::recover(Journal::default(), NOW, &Policy::default()).0
}

fn identified() -> Event {
    let features = Features { restart_v2: true, task_rejected: true, cordon: true, task_reassign: true };
    Event::HubSaid(FromHub::Identified { features })
}

fn closed() -> Event {
    Event::HubClosed { retry_after_ms: None, jitter: Jitter(0), refusal: None }
}

fn idle() -> Machine {
    after(started(), [Event::HubOpened, identified()])
}

fn working() -> Machine {
    after(idle(), [assigned(1), woken(WakeOutcome::Succeeded), confirmed()])
}

fn pending() -> Machine {
    after(working(), [commanded(restart())])
}

/// Draining for a restart, with a verdict that the hub has not answered.
fn draining() -> Machine {
    after(pending(), [failed()])
}

/// Draining for a restart, with a task left behind.
fn draining_in_haste() -> Machine {
    after(pending(), [closed(), commanded_by_force()])
}

fn commanded_by_force() -> Event {
    let order = RestartOrder { force: true, command_id: None, ..restart() };
    Event::RestartRequested { order, to: None }
}

fn set_deadline(state: &mut State, to: Timestamp) {
    match state {
        State::RestartPending { deadline, .. } | State::Draining { deadline, .. } => *deadline = to,
        State::Idle | State::Working { .. } | State::Exiting { .. } => panic!("{state:?} has no deadline"),
    }
}

fn exit() -> Effect {
    Effect::Exit { cause: to_restart(false, NextRun::Found(Ending::Exit)), ending: Ending::Exit }
}

fn to_restart(forced: bool, next_run: NextRun) -> Cause {
    Cause::Restart { order: restart(), forced, signalled: false, next_run }
}

fn verdict(generation: u64, reason: &str) -> Effect {
    Effect::Send(ToHub::TaskFailed { task_id: "t".into(), generation, reason: reason.into() })
}

fn goodbye() -> Effect {
    let restart = OpenRestart { command_id: None, reason: "r".into(), forced: false, leaving_at: None };
    Effect::Send(ToHub::AgentRestarting { restart, task_id: None, long_form: true })
}

fn wake(generation: u64) -> Effect {
    Effect::Wake { task: task(generation), attempt: 1 }
}
