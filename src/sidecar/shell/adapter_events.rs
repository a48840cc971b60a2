//! Translates the adapters' reports to the machine's events, and the machine's notices to log lines.

use crate::codec::decode_frame;
use crate::common::logging::Redactor;
use crate::machine::{Event, FromHub, Jitter, Notice, REFUSALS_CAP, TaskId, WakeOutcome};
use crate::protocol::Rival;
use crate::sidecar::admin::identity_conflict::REMEDY;
use crate::sidecar::agent::results::ResultsEvent;
use crate::sidecar::agent::results::outcome::outcome_of;
use crate::sidecar::agent::wake::WakeEvent;
use crate::sidecar::hub_connection::{ConnectionEvent, ConnectionEventKind};
use crate::sidecar::shell::closing;
use crate::sidecar::shell::environment::RandomBytes;

/// Translates an event of the hub connection; `None` if the machine has no use for it.
pub(crate) fn connection_event(event: ConnectionEvent, agent_id: &str, random: &RandomBytes) -> Option<Event> {
    match event.what {
        ConnectionEventKind::Opened => Some(Event::HubOpened),
        ConnectionEventKind::Frame(text) => {
            tracing::trace!(frame = text, "a frame was received");
            Some(Event::HubSaid(decode_frame(&text, agent_id)))
        }
        ConnectionEventKind::Ignored { what } => {
            tracing::warn!(what, "something that is no text frame was ignored");
            Some(Event::HubSaid(FromHub::SignOfLife))
        }
        ConnectionEventKind::Closed(closed) => {
            tracing::info!(
                code = closed.code,
                reason = closed.reason,
                clean = closed.clean,
                error = closed.error,
                "the connection to the hub ended"
            );
            if let Some(rival) = closing::rival_named_by(&closed) {
                log_rival(&rival, agent_id);
            }
            Some(closing::closed_event(&closed, random_jitter(random)))
        }
    }
}

/// Logs that the hub has another sidecar with this identity in our place.
fn log_rival(rival: &Rival, agent_id: &str) {
    let Rival { address, refused } = rival;
    let outcome = if *refused { "the hub keeps that one" } else { "it took our place" };
    tracing::warn!(agent_id, address, refused, "another sidecar uses this identity, and {outcome}: {REMEDY}");
}

/// Returns a random jitter.
fn random_jitter(random: &RandomBytes) -> Jitter {
    let mut bytes = [0; 2];
    if random(&mut bytes) {
        Jitter(u16::from_le_bytes(bytes))
    } else {
        // Without random bytes, the middle of the range.
        Jitter(u16::MAX / 2)
    }
}

/// Translates and logs the end of a wake command.
pub(crate) fn wake_event(event: WakeEvent) -> Event {
    let WakeEvent { task_id, attempt, outcome, .. } = &event;
    match outcome {
        WakeOutcome::Succeeded => {}
        WakeOutcome::Failed { error } => tracing::warn!(task_id, attempt, error, "the wake command failed"),
        WakeOutcome::Refused { reason } => tracing::warn!(task_id, attempt, reason, "the task was not begun"),
        WakeOutcome::TimedOut { after_ms } => {
            tracing::warn!(task_id, attempt, after_ms, "the wake command took too long and was ended");
        }
    }
    let outcome = event.outcome;
    match (TaskId::new(&event.task_id), u8::try_from(event.attempt)) {
        (Ok(task_id), Ok(attempt)) => Event::WakeFinished { task_id, generation: event.generation, attempt, outcome },
        // Cannot happen: the machine orders wakes with checked ids and small attempt numbers only.
        (Err(_), _) | (_, Err(_)) => Event::HubSaid(FromHub::SignOfLife),
    }
}

/// Translates a file that the agent left in the results folder. The token is removed from its content, since an agent
/// that reads config.json may print it.
pub(crate) fn results_event(event: ResultsEvent, redactor: &Redactor) -> Event {
    let (raw, outcome) = match event {
        ResultsEvent::Looked { number } => return Event::ResultsLookedFor { number },
        ResultsEvent::Started { task_id } => (task_id, None),
        ResultsEvent::Result { task_id, content } => (task_id, Some(content)),
    };
    let Ok(task_id) = TaskId::new(&raw) else {
        // Cannot happen: only ids of the machine's are watched.
        return Event::HubSaid(FromHub::SignOfLife);
    };
    match outcome {
        None => Event::Confirmed { task_id },
        Some(content) => Event::ResultFound { task_id, outcome: outcome_of(content, redactor) },
    }
}

/// Logs a notice of the machine's.
pub(crate) fn log_notice(notice: &Notice) {
    let kind: &'static str = notice.into();
    match notice {
        Notice::IdentifyRefused { error } => tracing::error!(
            notice = kind,
            error,
            "the hub does not know us: check agent_id and token in config.json against the hub"
        ),
        Notice::AssignmentRefused { task_id, why } => {
            tracing::warn!(notice = kind, task_id, why = %why, "an assignment was not taken");
        }
        Notice::Connected { returned } => {
            let gap_ms = returned.as_ref().map(|returned| returned.gap_ms);
            tracing::debug!(notice = kind, gap_ms, "the hub knows us");
        }
        Notice::HalfOfTimeout { task_id, limit_ms } => tracing::warn!(
            notice = kind, task_id = %task_id, limit_ms, "half of the task's time is over, and there is no result"
        ),
        Notice::TaskTaken { task_id } => tracing::debug!(notice = kind, task_id = %task_id, "a task was taken"),
        Notice::VerdictReached { task_id, completed } => {
            tracing::debug!(notice = kind, task_id = %task_id, completed, "a task has ended");
        }
        Notice::RestartAccepted { reason, command_id, by } => {
            tracing::info!(notice = kind, reason, command_id, by, "a restart was accepted");
        }
        Notice::GoesOnAsItIs { why } => {
            tracing::error!(
                notice = kind,
                why,
                "the program was replaced by one that cannot start: going on with the old one"
            );
        }
        Notice::RestartRefused { reason, detail } => {
            tracing::warn!(notice = kind, reason, detail, "a commanded restart was refused");
        }
        Notice::JournalFailing => tracing::error!(
            notice = kind,
            "the journal cannot be written: no task is taken and no verdict sent until it can"
        ),
        Notice::JournalRecovered => tracing::warn!(notice = kind, "the journal can be written again"),
        Notice::VerdictRefused { task_id, kept } => {
            tracing::warn!(notice = kind, task_id = %task_id, kept, "the hub did not take a verdict");
        }
        Notice::RestartCancelled { reason } => {
            tracing::warn!(notice = kind, reason, "a restart was cancelled on this machine before it happened");
        }
        Notice::Cordoned { on: true } => {
            tracing::warn!(
                notice = kind,
                "draining: the task in hand is finished, and no new one taken before `resume`"
            );
        }
        Notice::Cordoned { on: false } => tracing::warn!(notice = kind, "resumed: tasks are taken again"),
        Notice::TaskTakenBack { task_id } => {
            tracing::warn!(notice = kind, task_id = %task_id, "the hub reclaimed the task; the work under way is kept");
        }
        Notice::VerdictRefusedInOtherWords { task_id, times, error } => tracing::warn!(
            notice = kind,
            task_id = %task_id,
            times,
            of = REFUSALS_CAP,
            error,
            "the hub refused a verdict; it is sent again behind the others"
        ),
        Notice::VerdictGivenUp { task_id, error, kept: Some(path) } => {
            tracing::error!(notice = kind, task_id = %task_id, error, path, "the hub does not take a result; it is kept there");
        }
        Notice::VerdictGivenUp { task_id, error, kept: None } => {
            tracing::error!(notice = kind, task_id = %task_id, error, "the hub does not take a task_failed; it is not sent again");
        }
    }
}
