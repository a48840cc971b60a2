//! What an operator on this machine may ask of a running sidecar, and the machine's answers in words. It keeps who waits for
//! which answer; it decides nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::machine::{self, Event, RestartOrder, StopSignal, Ticket};

/// A wish of an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Restart, as if the hub had asked.
    Restart {
        /// Why, for people.
        reason: String,
        /// Do not wait for the task.
        force: bool,
    },
    /// Take a restart back that has not begun.
    CancelRestart,
    /// Finish the task in hand and take no more.
    Drain,
    /// Take tasks again.
    Resume,
}

/// Something for the loop, from this machine.
#[derive(Debug)]
pub(crate) enum Request {
    /// The process is to end.
    Stop(StopSignal),
    /// An operator's wish.
    Wish {
        /// What.
        wish: Wish,
        /// Who, for the log; `None` for the library's user.
        by: Option<String>,
        /// Gets the answer.
        asker: Option<oneshot::Sender<Answer>>,
    },
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
    pub(crate) fn yes(message: impl Into<String>) -> Self {
        Self { ok: true, message: message.into(), not_on_disk: false }
    }

    /// Not done, and why.
    pub(crate) fn no(message: impl Into<String>) -> Self {
        Self { ok: false, message: message.into(), not_on_disk: false }
    }

    /// The machine's answer in words.
    fn of(answer: machine::Answer, not_on_disk: bool) -> Self {
        let answer = words(answer);
        if !not_on_disk || !answer.ok {
            return answer;
        }
        let message = format!(
            "{}; that is not on disk, because the journal cannot be written (it is tried again every second): a crash \
             would forget it",
            answer.message
        );
        Self { message, not_on_disk, ..answer }
    }
}

fn words(answer: machine::Answer) -> Answer {
    use machine::Answer as From;
    match answer {
        From::RestartAccepted { after: Some(task_id), .. } => {
            Answer::yes(format!("accepted: restarts once task {task_id} has ended"))
        }
        From::RestartAccepted { after: None, forced: true } => Answer::yes("accepted: restarts now"),
        From::RestartAccepted { after: None, forced: false } => {
            Answer::yes("accepted: restarts now, there is no task to finish")
        }
        From::RestartRepeated => Answer::yes("a restart is under way already; this one changes nothing"),
        From::RestartRefused { detail } => Answer::no(format!("refused: {detail}")),
        From::Cancelled => Answer::no("cancelled by another operator before it began"),
        From::Leaving => Answer::no("the sidecar is leaving already"),
        From::RestartCancelled { after: Some(_) } => Answer::yes("the restart is cancelled; the task goes on"),
        From::RestartCancelled { after: None } => Answer::yes("the restart is cancelled"),
        From::NoRestartToCancel => Answer::no("there is no restart to cancel"),
        From::TooLate => Answer::no("too late: the sidecar is leaving already"),
        From::Drains { after: Some(task_id) } => {
            Answer::yes(format!("draining: task {task_id} is finished, and no new one taken before `resume`"))
        }
        From::Drains { after: None } => Answer::yes("draining: no task is taken before `resume`"),
        From::DrainsAlready => Answer::yes("it drains already"),
        From::Resumed => Answer::yes("resumed: tasks are taken again"),
        From::TakesTasks => Answer::yes("it takes tasks already"),
    }
}

/// The sidecar has ended already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SidecarGone;

impl core::fmt::Display for SidecarGone {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the sidecar has ended")
    }
}

impl std::error::Error for SidecarGone {}

/// Who waits for which answer.
#[derive(Debug, Default)]
pub(crate) struct Askers {
    tickets: u64,
    waiting: BTreeMap<Ticket, oneshot::Sender<Answer>>,
}

impl Askers {
    /// The request as an event for the machine.
    pub(crate) fn admit(&mut self, request: Request) -> Event {
        let (wish, by, asker) = match request {
            Request::Stop(signal) => return Event::StopRequested { signal },
            Request::Wish { wish, by, asker } => (wish, by, asker),
        };
        let to = asker.map(|asker| {
            self.tickets += 1;
            self.waiting.insert(Ticket(self.tickets), asker);
            Ticket(self.tickets)
        });
        match wish {
            Wish::Restart { reason, force } => {
                let order = RestartOrder { reason, command_id: None, deadline_ms: None, force, by };
                Event::RestartRequested { order, to }
            }
            Wish::CancelRestart => Event::RestartCancelRequested { to },
            Wish::Drain => Event::CordonRequested { on: true, to },
            Wish::Resume => Event::CordonRequested { on: false, to },
        }
    }

    /// Gives the answer to whoever holds the ticket.
    pub(crate) fn answer(&mut self, to: Ticket, answer: machine::Answer, not_on_disk: bool) {
        if let Some(asker) = self.waiting.remove(&to) {
            // Who asked may have left.
            let _ = asker.send(Answer::of(answer, not_on_disk));
        }
    }
}

/// Passes wishes on to the loop.
#[derive(Debug, Clone)]
pub(crate) struct Wishes {
    queue: mpsc::Sender<Request>,
}

impl Wishes {
    pub(crate) fn new(queue: mpsc::Sender<Request>) -> Self {
        Self { queue }
    }

    /// Asks, and waits for what the machine makes of it. `by` is for the log: `operator`, `pm2 trigger`.
    ///
    /// # Errors
    /// [`SidecarGone`]: there is no one to ask any more.
    pub(crate) async fn ask(&self, wish: Wish, by: &str) -> Result<Answer, SidecarGone> {
        let (asker, answer) = oneshot::channel();
        let request = Request::Wish { wish, by: Some(by.to_owned()), asker: Some(asker) };
        self.queue.send(request).await.map_err(|_| SidecarGone)?;
        answer.await.map_err(|_| SidecarGone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{
        Comeback, Effect, Features, FromHub, Journal, Machine, Policy, Task, TaskId, Timestamp, transition,
    };

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    /// A machine, whose disk works and whose supervisor answers, and who asks it.
    struct Asked {
        machine: Machine,
        askers: Askers,
    }

    impl Asked {
        fn fresh() -> Self {
            let machine = Machine::recover(Journal::default(), NOW, &Policy::default()).0;
            Self { machine, askers: Askers::default() }
        }

        fn with_task() -> Self {
            let task = Task { id: TaskId::new("t1").unwrap(), generation: 1, payload: "{}".into() };
            let events = [
                Event::HubOpened,
                Event::HubSaid(FromHub::Identified { features: Features::default() }),
                Event::HubSaid(FromHub::Assigned { task, assigned_at: None }),
            ];
            let mut asked = Self::fresh();
            events.into_iter().for_each(|event| asked.happens(event));
            asked
        }

        fn happens(&mut self, event: Event) {
            let (machine, effects) = transition(self.machine.clone(), event, NOW, &Policy::default());
            self.machine = machine;
            for effect in effects {
                if let Effect::Persist(_) = effect {
                    self.happens(Event::Persisted);
                } else if let Effect::CheckNextRun { number, .. } = effect {
                    let comeback = Comeback::Supervisor;
                    self.happens(Event::NextRunChecked { number, comeback, no_return: None });
                } else if let Effect::Reply { to, answer, not_on_disk } = effect {
                    self.askers.answer(to, answer, not_on_disk);
                }
            }
        }

        fn told(&mut self, wish: Wish) -> (bool, String) {
            let (asker, mut answer) = oneshot::channel();
            let event = self.askers.admit(Request::Wish { wish, by: None, asker: Some(asker) });
            self.happens(event);
            let Answer { ok, message, .. } = answer.try_recv().unwrap();
            (ok, message)
        }
    }

    fn restart(force: bool) -> Wish {
        Wish::Restart { reason: "r".into(), force }
    }

    #[test]
    fn a_restart_waits_for_the_task_and_can_be_cancelled_once() {
        let mut asked = Asked::with_task();
        assert_eq!(asked.told(restart(false)), (true, "accepted: restarts once task t1 has ended".into()));
        let again = (true, "a restart is under way already; this one changes nothing".into());
        assert_eq!(asked.told(restart(false)), again);
        assert_eq!(asked.told(Wish::CancelRestart), (true, "the restart is cancelled; the task goes on".into()));
        assert_eq!(asked.told(Wish::CancelRestart), (false, "there is no restart to cancel".into()));
    }

    #[test]
    fn force_does_not_wait() {
        assert_eq!(Asked::with_task().told(restart(true)), (true, "accepted: restarts now".into()));
        let mut asked = Asked::with_task();
        asked.told(restart(false));
        assert_eq!(asked.told(restart(true)), (true, "accepted: restarts now".into()));
    }

    #[test]
    fn what_leaves_cannot_be_asked_again() {
        let mut asked = Asked::fresh();
        assert_eq!(asked.told(restart(false)), (true, "accepted: restarts now, there is no task to finish".into()));
        assert_eq!(asked.told(Wish::CancelRestart), (false, "too late: the sidecar is leaving already".into()));
        assert_eq!(asked.told(restart(false)), (false, "the sidecar is leaving already".into()));
    }

    #[test]
    fn too_many_restarts_are_refused_with_the_reason() {
        let mut asked = Asked::fresh();
        asked.machine.restarts.recent = vec![NOW; 3];
        let (ok, message) = asked.told(restart(false));
        assert!(!ok && message.starts_with("refused: restart intensity"), "{message}");
    }

    #[test]
    fn drain_and_resume_say_what_follows() {
        let mut asked = Asked::with_task();
        let drains = (true, "draining: task t1 is finished, and no new one taken before `resume`".into());
        assert_eq!(asked.told(Wish::Drain), drains);
        assert_eq!(asked.told(Wish::Drain), (true, "it drains already".into()));
        assert_eq!(asked.told(Wish::Resume), (true, "resumed: tasks are taken again".into()));
        assert_eq!(asked.told(Wish::Resume), (true, "it takes tasks already".into()));
    }
}
