//! The operator commands to a running sidecar, and the machine's answers as text. Keeps track of the operators that
//! wait for an answer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::machine::{self, Event, RestartOrder, StopSignal, Ticket};

/// An operator's command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OperatorCommand {
    /// Restart, as on the hub's command.
    Restart {
        /// The reason, for the log and the hub.
        reason: String,
        /// Do not wait for the task.
        force: bool,
    },
    /// Cancel a restart that has not begun.
    CancelRestart,
    /// Finish the current task and accept no other.
    Drain,
    /// Accept tasks again.
    Resume,
}

/// A request to the event loop from this machine.
#[derive(Debug)]
pub(crate) enum AdminRequest {
    /// The process is to end.
    Stop(StopSignal),
    /// An operator's command.
    OperatorCommand {
        /// The command.
        command: OperatorCommand,
        /// The requester's name for the log; `None` for a program that embeds the sidecar.
        by: Option<String>,
        /// Receives the answer.
        reply_to: Option<oneshot::Sender<CommandResult>>,
    },
}

/// The outcome of an operator command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandResult {
    /// Whether the command is or will be carried out.
    pub ok: bool,
    /// The outcome as text.
    pub message: String,
    /// Whether a crash would lose it, because the journal cannot be written. Left out if false.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub not_on_disk: bool,
}

impl CommandResult {
    /// Returns the outcome of a command that is carried out.
    pub(crate) fn accepted(message: impl Into<String>) -> Self {
        Self { ok: true, message: message.into(), not_on_disk: false }
    }

    /// Returns the outcome of a command that is not carried out; `message` says why.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self { ok: false, message: message.into(), not_on_disk: false }
    }

    /// Translates the machine's answer.
    fn of(answer: machine::Answer, not_on_disk: bool) -> Self {
        let answer = result_of(answer);
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

fn result_of(answer: machine::Answer) -> CommandResult {
    use machine::Answer as From;
    match answer {
        From::RestartAccepted { after: Some(task_id), .. } => {
            CommandResult::accepted(format!("accepted: restarts once task {task_id} has ended"))
        }
        From::RestartAccepted { after: None, forced: true } => CommandResult::accepted("accepted: restarts now"),
        From::RestartAccepted { after: None, forced: false } => {
            CommandResult::accepted("accepted: restarts now, there is no task to finish")
        }
        From::RestartRepeated => CommandResult::accepted("a restart is under way already; this one changes nothing"),
        From::RestartRefused { detail } => CommandResult::refused(format!("refused: {detail}")),
        From::Cancelled => CommandResult::refused("cancelled by another operator before it began"),
        From::Leaving => CommandResult::refused("the sidecar is leaving already"),
        From::RestartCancelled { after: Some(_) } => {
            CommandResult::accepted("the restart is cancelled; the task goes on")
        }
        From::RestartCancelled { after: None } => CommandResult::accepted("the restart is cancelled"),
        From::NoRestartToCancel => CommandResult::refused("there is no restart to cancel"),
        From::TooLate => CommandResult::refused("too late: the sidecar is leaving already"),
        From::Drains { after: Some(task_id) } => CommandResult::accepted(format!(
            "draining: task {task_id} is finished, and no new one taken before `resume`"
        )),
        From::Drains { after: None } => CommandResult::accepted("draining: no task is taken before `resume`"),
        From::DrainsAlready => CommandResult::accepted("it drains already"),
        From::Resumed => CommandResult::accepted("resumed: tasks are taken again"),
        From::TakesTasks => CommandResult::accepted("it takes tasks already"),
    }
}

/// The error of a request to a sidecar that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the sidecar has ended")]
pub struct SidecarGone;

/// The operators that wait for an answer.
#[derive(Debug, Default)]
pub(crate) struct WaitingOperators {
    tickets: u64,
    waiting: BTreeMap<Ticket, oneshot::Sender<CommandResult>>,
}

impl WaitingOperators {
    /// Translates a request to the machine's event, and keeps the requester until it is answered.
    pub(crate) fn register(&mut self, request: AdminRequest) -> Event {
        let (command, by, reply_to) = match request {
            AdminRequest::Stop(signal) => return Event::StopRequested { signal },
            AdminRequest::OperatorCommand { command, by, reply_to } => (command, by, reply_to),
        };
        let to = reply_to.map(|reply_to| {
            self.tickets += 1;
            self.waiting.insert(Ticket(self.tickets), reply_to);
            Ticket(self.tickets)
        });
        match command {
            OperatorCommand::Restart { reason, force } => {
                let order = RestartOrder { reason, command_id: None, deadline_ms: None, force, by };
                Event::RestartRequested { order, to }
            }
            OperatorCommand::CancelRestart => Event::RestartCancelRequested { to },
            OperatorCommand::Drain => Event::CordonRequested { on: true, to },
            OperatorCommand::Resume => Event::CordonRequested { on: false, to },
        }
    }

    /// Sends the answer to the holder of the ticket.
    pub(crate) fn answer(&mut self, to: Ticket, answer: machine::Answer, not_on_disk: bool) {
        if let Some(reply_to) = self.waiting.remove(&to) {
            // Fails only if the requester has left.
            let _ = reply_to.send(CommandResult::of(answer, not_on_disk));
        }
    }
}

/// Sends operator commands to the event loop.
#[derive(Debug, Clone)]
pub(crate) struct CommandSender {
    queue: mpsc::Sender<AdminRequest>,
}

impl CommandSender {
    pub(crate) fn new(queue: mpsc::Sender<AdminRequest>) -> Self {
        Self { queue }
    }

    /// Sends a command and waits for the machine's answer. `by` is for the log: `operator`, `pm2 trigger`.
    ///
    /// # Errors
    /// [`SidecarGone`]: the sidecar has ended.
    pub(crate) async fn ask(&self, command: OperatorCommand, by: &str) -> Result<CommandResult, SidecarGone> {
        let (reply_to, answer) = oneshot::channel();
        let request = AdminRequest::OperatorCommand { command, by: Some(by.to_owned()), reply_to: Some(reply_to) };
        self.queue.send(request).await.map_err(|_| SidecarGone)?;
        answer.await.map_err(|_| SidecarGone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{
        Effect, Features, FromHub, Journal, Machine, Policy, RestartMethod, Task, TaskId, Timestamp, transition,
    };

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    /// A machine with a working disk and an answering supervisor, and the operators that ask it.
    struct Asked {
        machine: Machine,
        askers: WaitingOperators,
    }

    impl Asked {
        fn fresh() -> Self {
            let machine = Machine::recover(Journal::default(), NOW, &Policy::default()).0;
            Self { machine, askers: WaitingOperators::default() }
        }

        fn with_task() -> Self {
            let task = Task { id: TaskId::new("t1").unwrap(), generation: 1, payload: "{}".into() };
            let events = [
                Event::HubOpened,
                Event::HubSaid(FromHub::Identified { features: Features::default() }),
                Event::HubSaid(FromHub::Assigned { task, assigned_at: None, timeout_ms: None }),
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
                    let restart_method = RestartMethod::Supervisor;
                    self.happens(Event::NextRunChecked { number, restart_method, cannot_start: None });
                } else if let Effect::Reply { to, answer, not_on_disk } = effect {
                    self.askers.answer(to, answer, not_on_disk);
                }
            }
        }

        fn told(&mut self, command: OperatorCommand) -> (bool, String) {
            let (reply_to, mut answer) = oneshot::channel();
            let event =
                self.askers.register(AdminRequest::OperatorCommand { command, by: None, reply_to: Some(reply_to) });
            self.happens(event);
            let CommandResult { ok, message, .. } = answer.try_recv().unwrap();
            (ok, message)
        }
    }

    fn restart(force: bool) -> OperatorCommand {
        OperatorCommand::Restart { reason: "r".into(), force }
    }

    #[test]
    fn a_restart_waits_for_the_task_and_can_be_cancelled_once() {
        let mut asked = Asked::with_task();
        assert_eq!(asked.told(restart(false)), (true, "accepted: restarts once task t1 has ended".into()));
        let again = (true, "a restart is under way already; this one changes nothing".into());
        assert_eq!(asked.told(restart(false)), again);
        assert_eq!(
            asked.told(OperatorCommand::CancelRestart),
            (true, "the restart is cancelled; the task goes on".into())
        );
        assert_eq!(asked.told(OperatorCommand::CancelRestart), (false, "there is no restart to cancel".into()));
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
        assert_eq!(
            asked.told(OperatorCommand::CancelRestart),
            (false, "too late: the sidecar is leaving already".into())
        );
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
        assert_eq!(asked.told(OperatorCommand::Drain), drains);
        assert_eq!(asked.told(OperatorCommand::Drain), (true, "it drains already".into()));
        assert_eq!(asked.told(OperatorCommand::Resume), (true, "resumed: tasks are taken again".into()));
        assert_eq!(asked.told(OperatorCommand::Resume), (true, "it takes tasks already".into()));
    }
}
