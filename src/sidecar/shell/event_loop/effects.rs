//! Carries out the machine's effects, one after the other. Two of them are waited for, the write of the journal and that of
//! a refused result: between its order and its outcome nothing that relies on it may go out. A disk that hangs holds the
//! loop up; `status` shows for how long, and systemd's watchdog ends the process.

use std::error::Error;
use std::sync::Arc;

use tokio::task::JoinError;

use crate::codec::{encode_frame, resource_frame};
use crate::common::crash_points::crash_point;
use crate::common::fs::atomic_file;
use crate::machine::{Effect, Ending, Event, Journal, ResultFile, Task, TaskId, ToHub};
use crate::protocol::{JsonFields, Pm2Info, SidecarFrame};
use crate::sidecar::agent::launch::Launcher;
use crate::sidecar::agent::results::kept::Folders;
use crate::sidecar::agent::results::outcome::outcome_of;
use crate::sidecar::agent::results::refused;
use crate::sidecar::agent::supervised::Watched;
use crate::sidecar::hub_connection::SendError;
use crate::sidecar::journal;
use crate::sidecar::shell::adapter_events::log_notice;
use crate::sidecar::shell::event_loop::{Offered, RESTART_HISTORY, Sidecar};
use crate::sidecar::shell::output::output_frame;
use crate::sidecar::supervisor::pm2::Pm2;

/// The close code for a hub that does not read (RFC 6455, 7.4.1: an endpoint goes away).
const CLOSE_UNREAD: u16 = 1001;

impl Sidecar {
    /// Carries out the effects, and the effects that the outcome of a write leads to. Returns the ending once the
    /// machine exits.
    pub(super) async fn perform_all(&mut self, effects: Vec<Effect>) -> Option<Ending> {
        let mut effects = effects;
        loop {
            let mut next = None;
            for effect in effects {
                // Also the crash point after the previous effect: nothing happens between the two.
                crash_point!("before {}", crate::machine::EffectName::from(&effect));
                match effect {
                    Effect::Persist(journal) => {
                        let bytes = journal::to_bytes(&journal, &self.extra_fields());
                        next = Some(self.persist(bytes).await);
                    }
                    Effect::Exit { cause: _, ending } => return Some(ending),
                    Effect::Send(what) => self.send(what),
                    Effect::Wake { task, attempt } => self.wake(&task, attempt),
                    Effect::Dial => {
                        match self.renew_token().await {
                            Ok(()) => self.adapters.connection.dial(),
                            Err(why) => self.adapters.connection.fail(why),
                        };
                    }
                    Effect::CloseLink(code) => self.adapters.connection.close(code.code(), code.reason()),
                    Effect::CleanUp { task_id, result } => self.clean_up(&task_id, result),
                    Effect::WithdrawWake { task_id } => {
                        // A run that has just begun is ended without a report, so its `.started` file is removed too.
                        if self.withdraw_wake(&task_id) {
                            self.drop_sign(&task_id);
                        }
                    }
                    Effect::DropSign { task_id } => self.drop_sign(&task_id),
                    Effect::CheckNextRun { number, leaving } => self.adapters.next_run.check(number, leaving),
                    Effect::RunResultHook { number, task, outcome } => {
                        let folders = Folders::of(&self.config);
                        let kept = (folders, &self.redactor);
                        self.adapters.result_hook.run(number, (&task, outcome), &self.hooks, kept);
                    }
                    Effect::LookForResults { number } => self.adapters.results.look(number),
                    Effect::PassOn(_) => self.pass_on(),
                    Effect::Reply { to, answer, not_on_disk } => self.waiting.answer(to, answer, not_on_disk),
                    Effect::Notify(notice) => log_notice(&notice),
                    Effect::KeepRefused { task_id, generation, result } => {
                        next = Some(self.keep_refused(task_id, generation, result).await);
                    }
                }
            }
            crash_point!("after the last effect");
            self.update_watches();
            effects = self.step(next?);
        }
    }

    /// Returns the fields that are written beside the journal: those of other programs, and the past restarts.
    fn extra_fields(&self) -> JsonFields {
        let mut fields = self.foreign_fields.clone();
        let past = &self.snapshot.borrow().past;
        if !past.is_empty() {
            fields.set(RESTART_HISTORY, past);
        }
        fields
    }

    /// Runs blocking work on another thread; an error means that it panicked.
    pub(super) async fn on_a_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        if self.adapters.threads { tokio::task::spawn_blocking(work).await } else { Ok(work()) }
    }

    /// Writes the journal as it was last written, if others have removed or replaced the file: a later run would go on from
    /// what they put there. Between two events no write is under way.
    pub(super) async fn write_journal_again(&self) {
        // A write may have come between the look and this.
        let is_changed = self.state_folder.as_ref().is_some_and(|folder| folder.is_changed_by_others());
        if !is_changed || (self.machine.durable == Journal::default() && !self.config.queue_file.exists()) {
            return;
        }
        let bytes = journal::to_bytes(&self.machine.durable, &self.extra_fields());
        if let Event::Persisted = self.persist(bytes).await {
            let file = self.config.queue_file.display();
            tracing::warn!(%file, "the journal was removed or replaced by others: written again");
        }
    }

    async fn persist(&self, bytes: Vec<u8>) -> Event {
        let path = self.config.queue_file.clone();
        let max_bytes = journal::max_bytes(self.config.max_frame_bytes);
        let folder = self.state_folder.clone();
        let write = move || -> Result<(), Box<dyn Error + Send + Sync>> {
            folder.as_ref().map_or(Ok(()), |folder| folder.keep())?;
            let written = atomic_file::write_atomic_up_to(max_bytes, &path, &bytes)?;
            folder.inspect(|folder| folder.note_written(&written));
            Ok(())
        };
        match self.on_a_thread(write).await {
            Ok(Ok(())) => Event::Persisted,
            Ok(Err(error)) => {
                tracing::error!(%error, "the journal was not written");
                Event::PersistFailed
            }
            Err(error) => {
                tracing::error!(%error, "the journal's writer died");
                Event::PersistFailed
            }
        }
    }

    async fn keep_refused(&self, task_id: TaskId, generation: u64, result: Arc<str>) -> Event {
        let (dir, journal, id) = (self.config.results_dir.clone(), self.config.queue_file.clone(), task_id.clone());
        let kept = self.on_a_thread(move || refused::keep(&dir, &journal, id.as_str(), &result)).await;
        let path = match kept {
            Ok(Ok(path)) => Some(path.display().to_string()),
            Ok(Err(error)) => {
                let (path, error) = (error.path.display(), &error.source);
                tracing::error!(%task_id, %path, %error, "a refused result cannot be put aside: it stays in the journal, and is tried again");
                None
            }
            Err(error) => {
                tracing::error!(%task_id, %error, "the writer of a refused result died: it is tried again");
                None
            }
        };
        self.kept_changed.notify_one();
        Event::RefusedResultWritten { task_id, generation, path }
    }

    fn send(&mut self, what: ToHub) {
        let answer = self.adapters.pm2_answer.borrow().clone();
        let pm2 = &self.adapters.pm2;
        let frame = encode_frame(what, &self.identity, || pm2_info(pm2, answer));
        self.send_frame(frame);
    }

    /// Sends a frame. If it cannot be queued, the connection is closed, which the machine learns as an event.
    fn send_frame(&mut self, frame: SidecarFrame) {
        let kind = frame.kind();
        if let Err(error) = self.adapters.connection.post(frame.to_text()) {
            tracing::warn!(frame = kind, %error, "a frame was not sent");
            if error == SendError::Full {
                self.adapters.connection.close(CLOSE_UNREAD, "frames are not read");
            }
        }
    }

    fn wake(&self, task: &Task, attempt: u8) {
        let (runner, machine_boot) = (&self.adapters.runner, self.policy.machine_boot.as_str());
        Launcher { config: &self.config, hooks: &self.hooks, runner, machine_boot }.begin(task, attempt);
    }

    /// Sends the hub the news that were offered last.
    fn pass_on(&mut self) {
        let now = self.clock.now().as_millis();
        match self.offered.take() {
            Some(Offered::Output(mut batch)) => {
                // A session without the configuration could not take the token out.
                batch.text = self.redactor.clean(batch.text);
                self.send_frame(output_frame(batch, now));
            }
            Some(Offered::Resources(figures)) => self.send_frame(resource_frame(&self.identity, figures, now)),
            None => {}
        }
    }

    fn clean_up(&mut self, task_id: &TaskId, result: ResultFile) {
        // Before its files are removed: a run that is withdrawn leaves no result.
        self.withdraw_wake(task_id);
        let verdicts = &self.machine.durable.outbox;
        let made_of = |content| {
            let outcome = outcome_of(content, &self.redactor);
            verdicts.iter().any(|verdict| verdict.task_id == *task_id && verdict.outcome == outcome)
        };
        for (path, error) in self.adapters.results.clean_up(task_id.as_str(), result, &made_of) {
            tracing::warn!(path = %path.display(), %error, "a file of a finished task stays behind");
        }
        self.kept_changed.notify_one();
    }

    /// Withdraws the task's wake command. Returns whether a run of a command was ended with it.
    fn withdraw_wake(&self, task_id: &TaskId) -> bool {
        let run = self.adapters.runs.as_ref().is_some_and(|runs| runs.clean_up(task_id.as_str()));
        self.adapters.runner.clean_up(task_id.as_str());
        run
    }

    fn drop_sign(&self, task_id: &TaskId) {
        match self.adapters.results.remove_started(task_id.as_str()) {
            Ok(true) => {
                tracing::info!(%task_id, "a `.started` file of a session that is gone, or not known, was removed")
            }
            Ok(false) => {}
            Err((path, error)) => tracing::warn!(
                path = %path.display(), %error,
                "a `.started` file of an earlier session stays, and will count as the next one's"
            ),
        }
    }

    /// Updates the watched files and runs to the machine's state.
    fn update_watches(&mut self) {
        let task_id = self.machine.watching();
        if task_id != self.watched.as_ref() {
            self.watched = task_id.cloned();
            self.adapters.results.watch(self.watched.iter().map(ToString::to_string).collect());
        }
        let review = self.machine.state.job().and_then(|job| job.review.as_ref());
        self.adapters.result_hook.abort_unless(review.map(|review| review.number));
        let run = self
            .machine
            .state
            .job()
            .filter(|_| self.watched.is_some())
            .map(|job| Watched { task_id: job.task().id.to_string(), begun_for: job.persisted.woken });
        if let Some(runs) = &self.adapters.runs {
            runs.watch(run);
        }
    }
}

/// Returns what pm2 answered, with the process's own knowledge where that is newer.
fn pm2_info(pm2: &Pm2, answer: Option<Pm2Info>) -> Pm2Info {
    let own = pm2.immediate_info();
    match answer {
        Some(answer) => Pm2Info {
            name: answer.name.or(own.name),
            status: answer.status.or(own.status),
            restart_count: answer.restart_count.or(own.restart_count),
            ..own
        },
        None => own,
    }
}
