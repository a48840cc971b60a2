//! Finds in a step of the machine what the history keeps of it. It writes nothing.

use crate::common::text::first_chars;
use crate::machine::{
    Cause, Effect, Ending, Event, FromHub, Machine, Notice, Outcome, PersistedJob, RestartOrder, ReturnedFrom, TaskId,
};
use crate::sidecar::history::{EndCause, HistoryEvent, TaskOutcome};

/// The most that the history keeps of a text, in characters.
const MAX_TEXT: usize = 500;

/// Returns what the step did, in order.
pub(crate) fn events_of(before: &Machine, event: &Event, after: &Machine, effects: &[Effect]) -> Vec<HistoryEvent> {
    let mut events = Vec::new();
    for effect in effects {
        if let Effect::Notify(notice) = effect {
            events.extend(of_notice(notice, before, after));
        } else if let Effect::Exit { cause, ending } = effect {
            events.push(run_ended(cause, *ending));
        }
    }
    if let Some(ended) = ended_in_silence(before, event, after, &events) {
        // Before what the same step took.
        events.insert(0, ended);
    }
    events
}

fn of_notice(notice: &Notice, before: &Machine, after: &Machine) -> Option<HistoryEvent> {
    Some(match notice {
        Notice::TaskTaken { task_id } => {
            HistoryEvent::TaskTaken { task_id: task_id.to_string(), generation: generation_in(after, task_id) }
        }
        Notice::VerdictReached { task_id, completed } => verdict_reached(task_id, *completed, after),
        Notice::TaskTakenBack { task_id } => HistoryEvent::TaskEnded {
            task_id: task_id.to_string(),
            generation: generation_in(before, task_id),
            outcome: TaskOutcome::Reclaimed,
            why: None,
        },
        Notice::RestartAccepted { reason, command_id, by } => HistoryEvent::RestartAccepted {
            reason: clipped(reason),
            command_id: command_id.clone(),
            by: by.as_deref().map(clipped),
        },
        Notice::RestartRefused { reason, detail } => {
            HistoryEvent::RestartRefused { reason: clipped(reason), detail: clipped(detail) }
        }
        Notice::RestartCancelled { reason } => HistoryEvent::RestartCancelled { reason: clipped(reason) },
        Notice::Connected { returned: Some(ReturnedFrom { restart, gap_ms }) } => HistoryEvent::Returned {
            reason: clipped(&restart.reason),
            command_id: restart.command_id.clone(),
            gap_ms: restart.leaving_at.map(|_| *gap_ms),
        },
        Notice::Cordoned { on } => HistoryEvent::Draining { on: *on },
        Notice::Connected { returned: None }
        | Notice::IdentifyRefused { .. }
        | Notice::AssignmentRefused { .. }
        | Notice::HalfOfTimeout { .. }
        | Notice::GoesOnAsItIs { .. }
        | Notice::JournalFailing
        | Notice::JournalRecovered
        | Notice::VerdictRefused { .. }
        | Notice::VerdictRefusedInOtherWords { .. }
        | Notice::VerdictGivenUp { .. } => return None,
    })
}

fn verdict_reached(task_id: &TaskId, completed: bool, after: &Machine) -> HistoryEvent {
    let verdicts = after.outbox.iter().filter(|verdict| verdict.task_id == *task_id);
    let verdict = verdicts.max_by_key(|verdict| verdict.generation);
    let why = verdict.and_then(|verdict| match &verdict.outcome {
        Outcome::Completed { .. } => None,
        Outcome::Failed { reason } => Some(clipped(reason)),
    });
    HistoryEvent::TaskEnded {
        task_id: task_id.to_string(),
        generation: verdict.map_or(0, |verdict| verdict.generation),
        outcome: if completed { TaskOutcome::Completed } else { TaskOutcome::Failed },
        why,
    }
}

/// Returns the end of a task for which the machine has no notice: it was cancelled, or reclaimed before its session began.
fn ended_in_silence(before: &Machine, event: &Event, after: &Machine, events: &[HistoryEvent]) -> Option<HistoryEvent> {
    let job = before.state.persisted()?;
    if after.state.persisted().is_some_and(|now| now.task.id == job.task.id) {
        return None;
    }
    let id = job.task.id.to_string();
    let is_told = |event: &HistoryEvent| matches!(event, HistoryEvent::TaskEnded { task_id, .. } if *task_id == id);
    if events.iter().any(is_told) {
        return None;
    }
    let is_cancelled = matches!(event, Event::HubSaid(FromHub::TaskCancelled { .. }));
    let outcome = if is_cancelled { TaskOutcome::Cancelled } else { TaskOutcome::Reclaimed };
    Some(HistoryEvent::TaskEnded { generation: job.task.generation, task_id: id, outcome, why: None })
}

fn run_ended(cause: &Cause, ending: Ending) -> HistoryEvent {
    let in_place = match ending {
        Ending::Exit => false,
        Ending::InPlace | Ending::InPlaceAsIs => true,
    };
    let by = match cause {
        Cause::Restart { order, .. } => order.by.as_deref().map(clipped),
        Cause::Stop { .. } => None,
    };
    let (cause, why) = match cause {
        Cause::Restart { order: RestartOrder { reason, .. }, signalled: false, .. } => {
            (EndCause::Restart, clipped(reason))
        }
        Cause::Restart { order: RestartOrder { reason, .. }, signalled: true, .. } => {
            (EndCause::Stop, format!("told to stop while it restarted: {}", clipped(reason)))
        }
        Cause::Stop { signal } => (EndCause::Stop, signal.to_string()),
    };
    HistoryEvent::RunEnded { cause, why, by, in_place }
}

fn generation_in(machine: &Machine, task_id: &TaskId) -> u64 {
    let job: Option<&PersistedJob> = machine.state.persisted().filter(|job| job.task.id == *task_id);
    job.map_or(0, |job| job.task.generation)
}

fn clipped(text: &str) -> String {
    first_chars(text, MAX_TEXT).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{Features, Journal, Policy, RestartMethod, StopSignal, Task, Timestamp, transition};

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    /// A machine with a working disk and an answering supervisor, and what the history has of it.
    struct Recorded {
        machine: Machine,
        events: Vec<HistoryEvent>,
    }

    impl Recorded {
        fn online() -> Self {
            let machine = Machine::recover(Journal::default(), NOW, &Policy::default()).0;
            let mut recorded = Self { machine, events: Vec::new() };
            recorded.happens(Event::HubOpened);
            recorded.says(FromHub::Identified { features: Features::default() });
            recorded
        }

        fn with_task() -> Self {
            let mut recorded = Self::online();
            let task = Task { id: TaskId::new("t1").unwrap(), generation: 4, payload: "{}".into() };
            recorded.says(FromHub::Assigned { task, assigned_at: None, timeout_ms: None });
            recorded
        }

        fn says(&mut self, said: FromHub) {
            self.happens(Event::HubSaid(said));
        }

        fn happens(&mut self, event: Event) {
            let (after, effects) = transition(self.machine.clone(), event.clone(), NOW, &Policy::default());
            self.events.extend(events_of(&self.machine, &event, &after, &effects));
            self.machine = after;
            for effect in effects {
                if let Effect::Persist(_) = effect {
                    self.happens(Event::Persisted);
                } else if let Effect::CheckNextRun { number, .. } = effect {
                    let restart_method = RestartMethod::Supervisor;
                    self.happens(Event::NextRunChecked { number, restart_method, cannot_start: None });
                } else if let Effect::CloseLink(_) = effect {
                    self.happens(Event::HubClosed {
                        retry_after_ms: None,
                        jitter: crate::machine::Jitter::default(),
                        refusal: None,
                    });
                }
            }
        }
    }

    fn taken() -> HistoryEvent {
        HistoryEvent::TaskTaken { task_id: "t1".into(), generation: 4 }
    }

    fn ended(outcome: TaskOutcome, why: Option<&str>) -> HistoryEvent {
        HistoryEvent::TaskEnded { task_id: "t1".into(), generation: 4, outcome, why: why.map(str::to_owned) }
    }

    fn order(reason: &str) -> RestartOrder {
        RestartOrder { reason: reason.into(), command_id: None, deadline_ms: None, force: false, by: Some("me".into()) }
    }

    #[test]
    fn a_failed_task_has_its_reason() {
        let mut recorded = Recorded::with_task();
        let task_id = TaskId::new("t1").unwrap();
        recorded.happens(Event::Confirmed { task_id: task_id.clone() });
        recorded.happens(Event::ResultFound { task_id, outcome: Outcome::failed("no disk") });
        assert_eq!(recorded.events, [taken(), ended(TaskOutcome::Failed, Some("no disk"))]);
    }

    #[test]
    fn a_cancelled_task_is_told_from_a_reclaimed_one() {
        let mut recorded = Recorded::with_task();
        recorded.says(FromHub::TaskCancelled { task_id: "t1".into() });
        assert_eq!(recorded.events, [taken(), ended(TaskOutcome::Cancelled, None)]);
        let mut recorded = Recorded::with_task();
        recorded.happens(Event::Confirmed { task_id: TaskId::new("t1").unwrap() });
        recorded.says(FromHub::TaskReassigned { task_id: "t1".into(), generation: Some(4) });
        assert_eq!(recorded.events, [taken(), ended(TaskOutcome::Reclaimed, None)]);
    }

    #[test]
    fn a_restart_is_accepted_by_name_and_ends_the_run() {
        let mut recorded = Recorded::online();
        recorded.happens(Event::RestartRequested { order: order("upgrade"), to: None });
        let accepted =
            HistoryEvent::RestartAccepted { reason: "upgrade".into(), command_id: None, by: Some("me".into()) };
        let run_ended = HistoryEvent::RunEnded {
            cause: EndCause::Restart,
            why: "upgrade".into(),
            by: Some("me".into()),
            in_place: false,
        };
        assert_eq!(recorded.events, [accepted, run_ended]);
    }

    #[test]
    fn a_stop_names_the_signal() {
        let mut recorded = Recorded::online();
        recorded.happens(Event::StopRequested { signal: StopSignal::Terminate });
        let run_ended =
            HistoryEvent::RunEnded { cause: EndCause::Stop, why: "SIGTERM".into(), by: None, in_place: false };
        assert_eq!(recorded.events, [run_ended]);
    }

    #[test]
    fn a_long_reason_is_cut() {
        let mut recorded = Recorded::online();
        recorded.machine.restarts.recent = vec![NOW; 3];
        recorded.happens(Event::RestartRequested { order: order(&"r".repeat(2_000)), to: None });
        let [HistoryEvent::RestartRefused { reason, detail }] = &recorded.events[..] else {
            panic!("{:?}", recorded.events)
        };
        assert!(reason.len() == MAX_TEXT && detail.contains("restart intensity"), "{detail}");
    }
}
