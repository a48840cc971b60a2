//! What an operator on this machine may ask of a running sidecar, and the answer. Everything is an event for the machine;
//! the answer is read off what the machine made of it.

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::control::SidecarGone;
use crate::machine::{Disk, Effect, Event, Machine, Notice, RestartOrder, State};

/// A wish of an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wish {
    /// Restart, as if the hub had asked.
    Restart {
        /// Why, for people.
        reason: String,
        /// Do not wait for the task.
        force: bool,
    },
    /// Take a restart back that still waits for its task.
    CancelRestart,
    /// Finish the task in hand and take no more.
    Drain,
    /// Take tasks again.
    Resume,
}

impl Wish {
    fn event(self, by: &str) -> Event {
        match self {
            Self::Restart { reason, force } => Event::RestartRequested(RestartOrder {
                reason,
                command_id: None,
                deadline_ms: None,
                force,
                by: Some(by.to_owned()),
            }),
            Self::CancelRestart => Event::RestartCancelRequested,
            Self::Drain => Event::CordonRequested { on: true },
            Self::Resume => Event::CordonRequested { on: false },
        }
    }
}

/// What became of a wish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// It is, or will be, as wished.
    pub ok: bool,
    /// For people.
    pub message: String,
    /// Whether a crash would forget it, because the journal cannot be written. It is not said where it would not.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub not_on_disk: bool,
}

impl Answer {
    /// Done as wished.
    pub(super) fn yes(message: impl Into<String>) -> Self {
        Self { ok: true, message: message.into(), not_on_disk: false }
    }

    /// Not done, and why.
    pub(super) fn no(message: impl Into<String>) -> Self {
        Self { ok: false, message: message.into(), not_on_disk: false }
    }

    /// The same of a wish that must outlive the process, while the disk takes no journal.
    fn not_on_disk(self) -> Self {
        let message = format!(
            "{}; that is not on disk, because the journal cannot be written (it is tried again every second): a crash \
             would forget it",
            self.message
        );
        Self { message, not_on_disk: true, ..self }
    }

    /// Reads the answer off one transition, and whether what was granted must outlive the process; `None` for an event that
    /// answers nobody.
    fn to(event: &Event, before: &Machine, after: &Machine, effects: &[Effect]) -> Option<(Self, bool)> {
        match event {
            // A process that crashes before it restarts comes back all the same.
            Event::RestartRequested(order) => Some((restart(order, before, after, effects), false)),
            Event::RestartCancelRequested => Some((cancel(before, after), true)),
            Event::CordonRequested { on } => Some((cordon(*on, before, after), true)),
            Event::DeadlineReached
            | Event::HubOpened
            | Event::HubClosed { .. }
            | Event::HubSaid(_)
            | Event::WakeFinished { .. }
            | Event::Confirmed { .. }
            | Event::ResultPending { .. }
            | Event::ResultFound { .. }
            | Event::StopRequested { .. }
            | Event::Persisted
            | Event::PersistFailed
            | Event::RefusedResultWritten { .. } => None,
        }
    }
}

fn cancel(before: &Machine, after: &Machine) -> Answer {
    match (&before.state, &after.state) {
        (State::RestartPending { .. }, State::Working { .. }) => {
            Answer::yes("the restart is cancelled; the task goes on")
        }
        (State::Draining { .. } | State::Exiting { .. }, _) => Answer::no("too late: the sidecar is leaving already"),
        (State::Idle | State::Working { .. } | State::RestartPending { .. }, _) => {
            Answer::no("there is no restart to cancel")
        }
    }
}

/// A wish that the machine has judged, and that is answered once the disk has what must outlive the process.
pub(super) struct Unanswered {
    asker: oneshot::Sender<Answer>,
    answer: Answer,
    must_outlive: bool,
}

impl Unanswered {
    /// What the step made of the wish; `None` for an event that answers nobody.
    pub(super) fn of(
        asker: oneshot::Sender<Answer>,
        event: &Event,
        before: &Machine,
        after: &Machine,
        effects: &[Effect],
    ) -> Option<Self> {
        let (answer, must_outlive) = Answer::to(event, before, after, effects)?;
        Some(Self { asker, answer, must_outlive })
    }

    /// Says what can be said by now; it is back while the journal is being written that has it.
    pub(super) fn answer(self, disk: &Disk) -> Option<Self> {
        let answer = match (disk, self.must_outlive && self.answer.ok) {
            (Disk::Writing { .. }, true) => return Some(self),
            (Disk::Failing { .. }, true) => self.answer.not_on_disk(),
            (Disk::Ready, true) | (_, false) => self.answer,
        };
        // Who asked may have left.
        let _ = self.asker.send(answer);
        None
    }
}

fn restart(order: &RestartOrder, before: &Machine, after: &Machine, effects: &[Effect]) -> Answer {
    let refused = effects.iter().find_map(|effect| match effect {
        Effect::Notify(Notice::RestartRefused { detail, .. }) => Some(detail),
        Effect::Notify(_)
        | Effect::Persist(_)
        | Effect::Send(_)
        | Effect::Wake { .. }
        | Effect::Dial
        | Effect::CloseLink(_)
        | Effect::CleanUp { .. }
        | Effect::WithdrawWake { .. }
        | Effect::DropSign { .. }
        | Effect::Exit { .. }
        | Effect::KeepRefused { .. } => None,
    });
    if let Some(detail) = refused {
        return Answer::no(format!("refused: {detail}"));
    }
    match (&before.state, &after.state) {
        (State::Draining { .. } | State::Exiting { .. }, _) => Answer::no("the sidecar is leaving already"),
        (State::RestartPending { .. }, State::RestartPending { .. }) => {
            Answer::yes("a restart is under way already; this one changes nothing")
        }
        (_, State::RestartPending { job, .. }) => {
            Answer::yes(format!("accepted: restarts once task {} has ended", job.task().id))
        }
        (_, _) if order.force => Answer::yes("accepted: restarts now"),
        (_, _) => Answer::yes("accepted: restarts now, there is no task to finish"),
    }
}

fn cordon(on: bool, before: &Machine, after: &Machine) -> Answer {
    let changed = before.cordon.is_on() != after.cordon.is_on();
    match (on, changed, after.state.job()) {
        (true, true, Some(job)) => {
            Answer::yes(format!("draining: task {} is finished, and no new one taken before `resume`", job.task().id))
        }
        (true, true, None) => Answer::yes("draining: no task is taken before `resume`"),
        (true, false, _) => Answer::yes("it drains already"),
        (false, true, _) => Answer::yes("resumed: tasks are taken again"),
        (false, false, _) => Answer::yes("it takes tasks already"),
    }
}

/// Something for the loop: what happened, and who wants to know what came of it.
#[derive(Debug)]
pub(super) struct Asked {
    /// For the machine.
    pub(super) event: Event,
    /// Gets the answer.
    pub(super) asker: Option<oneshot::Sender<Answer>>,
}

impl From<Event> for Asked {
    fn from(event: Event) -> Self {
        Self { event, asker: None }
    }
}

/// Passes wishes on to the loop.
#[derive(Debug, Clone)]
pub(super) struct Wishes {
    queue: mpsc::Sender<Asked>,
}

impl Wishes {
    pub(super) fn new(queue: mpsc::Sender<Asked>) -> Self {
        Self { queue }
    }

    /// Asks, and waits for what the machine makes of it. `by` is for the log: `operator`, `pm2 trigger`.
    ///
    /// # Errors
    /// [`SidecarGone`]: there is no one to ask any more.
    pub(super) async fn ask(&self, wish: Wish, by: &str) -> Result<Answer, SidecarGone> {
        let (asker, answer) = oneshot::channel();
        let asked = Asked { event: wish.event(by), asker: Some(asker) };
        self.queue.send(asked).await.map_err(|_| SidecarGone)?;
        answer.await.map_err(|_| SidecarGone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{Features, FromHub, Journal, Policy, Task, TaskId, Timestamp, transition};

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn told(machine: Machine, event: Event) -> (Machine, Option<Answer>) {
        let (after, effects) = transition(machine.clone(), event.clone(), NOW, &Policy::default());
        let answer = Answer::to(&event, &machine, &after, &effects);
        (after, answer.map(|(answer, _)| answer))
    }

    fn fresh() -> Machine {
        Machine::recover(Journal::default(), NOW, &Policy::default()).0
    }

    fn with_task() -> Machine {
        let task = Task { id: TaskId::new("t1").unwrap(), generation: 1, payload: "{}".into() };
        let events = [
            Event::HubOpened,
            Event::HubSaid(FromHub::Identified { features: Features::default() }),
            Event::HubSaid(FromHub::Assigned { task, assigned_at: None }),
        ];
        events.into_iter().fold(fresh(), |machine, event| told(machine, event).0)
    }

    fn says(answer: Option<Answer>) -> (bool, String) {
        answer.map(|answer| (answer.ok, answer.message)).unwrap()
    }

    fn restart(force: bool) -> Event {
        Wish::Restart { reason: "r".into(), force }.event("test")
    }

    #[test]
    fn a_restart_waits_for_the_task_and_can_be_cancelled_once() {
        let (machine, answer) = told(with_task(), restart(false));
        assert_eq!(says(answer), (true, "accepted: restarts once task t1 has ended".into()));
        let (machine, answer) = told(machine, restart(false));
        assert_eq!(says(answer), (true, "a restart is under way already; this one changes nothing".into()));
        let (machine, answer) = told(machine, Wish::CancelRestart.event("test"));
        assert_eq!(says(answer), (true, "the restart is cancelled; the task goes on".into()));
        let (_, answer) = told(machine, Wish::CancelRestart.event("test"));
        assert_eq!(says(answer), (false, "there is no restart to cancel".into()));
    }

    #[test]
    fn force_does_not_wait() {
        assert_eq!(says(told(with_task(), restart(true)).1), (true, "accepted: restarts now".into()));
    }

    #[test]
    fn what_leaves_cannot_be_asked_again() {
        let (machine, _) = told(fresh(), restart(false));
        let (machine, answer) = told(machine, Wish::CancelRestart.event("test"));
        assert_eq!(says(answer), (false, "too late: the sidecar is leaving already".into()));
        assert_eq!(says(told(machine, restart(false)).1), (false, "the sidecar is leaving already".into()));
    }

    #[test]
    fn too_many_restarts_are_refused_with_the_reason() {
        let mut machine = fresh();
        machine.restarts.recent = vec![NOW; 3];
        let (ok, message) = says(told(machine, restart(false)).1);
        assert!(!ok && message.starts_with("refused: restart intensity"), "{message}");
    }

    #[test]
    fn drain_and_resume_say_what_follows() {
        let (machine, answer) = told(with_task(), Wish::Drain.event("test"));
        assert_eq!(says(answer), (true, "draining: task t1 is finished, and no new one taken before `resume`".into()));
        let (machine, answer) = told(machine, Wish::Drain.event("test"));
        assert_eq!(says(answer), (true, "it drains already".into()));
        let (machine, answer) = told(machine, Wish::Resume.event("test"));
        assert_eq!(says(answer), (true, "resumed: tasks are taken again".into()));
        assert_eq!(says(told(machine, Wish::Resume.event("test")).1), (true, "it takes tasks already".into()));
    }
}
