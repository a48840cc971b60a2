//! What a run tells the hub of the run before it and of parked work, and what it leaves in the journal for the next one.

use super::waking::{NOW, connected};
use crate::machine::*;

fn step(machine: Machine, event: Event) -> (Machine, Vec<Effect>) {
    transition(machine, event, NOW, &Policy::default())
}

fn identified(features: Features) -> Event {
    Event::HubSaid(FromHub::Identified { features })
}

/// How the run before this one ended, as `identify` says.
fn said(effects: &[Effect]) -> Option<PreviousEnd> {
    effects.iter().find_map(|effect| {
        if let Effect::Send(ToHub::Identify { previous_end, .. }) = effect { Some(*previous_end) } else { None }
    })
}

fn left_by(journal: Journal) -> Machine {
    let (machine, effects) = Machine::recover(journal, NOW, &Policy::default());
    // What the run before left is answered on the disk before anything is said.
    let written = |effect: &Effect| matches!(effect, Effect::Persist(journal) if !journal.stopped);
    match effects.iter().any(written) {
        true => step(machine, Event::Persisted).0,
        false => machine,
    }
}

#[test]
fn the_end_of_the_run_before_is_said_until_a_hub_has_heard_it() {
    let open = OpenRestart { command_id: None, reason: "r".into(), forced: false, leaving_at: Some(NOW) };
    let restarted =
        Journal { restarts: RestartLedger { open: Some(open), ..RestartLedger::default() }, ..Journal::default() };
    let stopped = Journal { stopped: true, ..Journal::default() };
    for (journal, end) in [
        (stopped, PreviousEnd::Stopped),
        (restarted, PreviousEnd::Restarted),
        (Journal::default(), PreviousEnd::Unknown),
    ] {
        let closed = Event::HubClosed { retry_after_ms: None, jitter: Jitter(0), refusal: None };
        let (unheard, effects) = step(left_by(journal), Event::HubOpened);
        assert_eq!(said(&effects), Some(end));
        let again = |machine: Machine| {
            let dialled = step(step(machine, closed.clone()).0, Event::DeadlineReached).0;
            said(&step(dialled, Event::HubOpened).1)
        };
        assert_eq!(again(unheard.clone()), Some(end));
        assert_eq!(again(step(unheard, identified(Features::default())).0), Some(PreviousEnd::Unknown));
    }
}

#[test]
fn a_stopped_run_leaves_that_in_the_journal_and_the_next_one_takes_it_out_at_once() {
    let online = connected().into_iter().fold(left_by(Journal::default()), |machine, event| step(machine, event).0);
    for machine in [left_by(Journal::default()), online] {
        let stop = Event::StopRequested { signal: StopSignal::Interrupt };
        let (_, effects) = step(machine, stop);
        let last = effects
            .iter()
            .rev()
            .find_map(|effect| if let Effect::Persist(journal) = effect { Some(journal.stopped) } else { None });
        assert_eq!(last, Some(true), "{effects:?}");
    }
    let (machine, effects) = Machine::recover(Journal { stopped: true, ..Journal::default() }, NOW, &Policy::default());
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Persist(journal) if !journal.stopped)), "{effects:?}");
    assert!(!step(machine, Event::Persisted).0.durable.stopped);
}

/// What a stop leaves in the journal delays no goodbye: the disk may be full.
#[test]
fn a_stop_says_goodbye_before_the_disk_has_answered() {
    let online = connected().into_iter().fold(left_by(Journal::default()), |machine, event| step(machine, event).0);
    let (machine, effects) = step(online, Event::StopRequested { signal: StopSignal::Interrupt });
    assert!(matches!(machine.connection, Connection::Closing { .. }), "{effects:?}");
}

#[test]
fn parked_work_is_reported_to_a_hub_that_knows_what_became_of_it() {
    let parked = ["t", "u"].map(|id| ParkedTask::Finished {
        task_id: TaskId::new(id).unwrap(),
        generation: 1,
        result: "{}".into(),
    });
    let reports = |features: Features| {
        let machine = left_by(Journal { parked: parked.clone().into(), ..Journal::default() });
        let (_, effects) = step(step(machine, Event::HubOpened).0, identified(features));
        effects.iter().filter(|effect| matches!(effect, Effect::Send(ToHub::ParkedReport { .. }))).count()
    };
    assert_eq!(reports(Features { task_reassign: true, ..Features::default() }), 2);
    assert_eq!(reports(Features::default()), 0);
}
