//! The daemon's one loop: what happened or is due goes through the machine, and its effects are carried out in order.
//! It decides nothing; see `machine` for what is decided and why.
//!
//! 1. Wait for what happens next, or for the machine's deadline, whichever is first.
//! 2. Put it through [`transition`].
//! 3. Carry the effects out, each before the next; a write's outcome is the next event.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::sync::{mpsc, oneshot, watch};

use super::begin::Beginner;
use super::clock::Clock;
use super::control::RestartHandle;
use super::crash_points::crash_point;
use super::gate::{Gate, Opened};
use super::hooks::Hooks;
use super::hub_link::{HubLink, LinkEvent, LinkWhat};
use super::logging::Redactor;
use super::observed::Observed;
use super::operator::{Answer, Asked};
use super::outside::{Dice, Results, Wakes};
use super::pm2::Pm2;
use super::pm2_channel::Voice;
use super::reload::Settings;
use super::report::{found_event, link_event, notify, wake_event};
use super::resources::Resources;
use super::results::ResultsEvent;
use super::review::Review;
use super::runner::WakeEvent;
use super::runs::{OutputBatch, Runs, Watched};
use super::speak::{Introduction, output, resource_report, speak};
use super::start::comeback_now;
use super::status::Status;
use super::systemd::Systemd;
use super::{durable, journal_file, log_step};
use crate::config::Config;
#[cfg(debug_assertions)]
use crate::machine::Timestamp;
use crate::machine::{Cause, Disk, Effect, Event, FromHub, Machine, Policy, State, Task, TaskId, ToHub, transition};
use crate::wire::{Pm2Info, SidecarFrame};

/// What a frame may take once the process was asked to stop.
const HURRIED_SEND: std::time::Duration = std::time::Duration::from_millis(200);

/// The journal file's field for the restarts that happened.
pub(super) const RESTART_HISTORY: &str = "restart_history";

/// How the process is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Exit 0.
    Exit,
    /// Replace the process: nobody would start it again.
    InPlace,
    /// Replace the process by the very program that it runs: another one stands at its path, and cannot start.
    InPlaceAsIs,
}

/// The adapters' events.
pub(super) struct Inbox {
    pub(super) control: mpsc::Receiver<Asked>,
    pub(super) link: mpsc::Receiver<LinkEvent>,
    pub(super) wakes: mpsc::Receiver<WakeEvent>,
    pub(super) results: mpsc::Receiver<ResultsEvent>,
    pub(super) output: mpsc::Receiver<OutputBatch>,
    pub(super) figures: mpsc::Receiver<Map<String, Value>>,
}

/// What the loop works with.
pub(super) struct Adapters {
    pub(super) link: HubLink,
    pub(super) runner: Arc<dyn Wakes>,
    pub(super) results: Box<dyn Results>,
    /// Where commands may be run.
    pub(super) runs: Option<Runs>,
    pub(super) dice: Dice,
    /// Whether blocking work gets a thread.
    pub(super) threads: bool,
    pub(super) resources: Resources,
    pub(super) pm2: Arc<Pm2>,
    /// Speaks to pm2.
    pub(super) voice: Voice,
    /// And to systemd.
    pub(super) systemd: Systemd,
    /// What pm2 said last, as far as it says more than the environment.
    pub(super) pm2_said: watch::Receiver<Option<Pm2Info>>,
}

/// A wish that is granted, and whose answer waits for the disk.
pub(super) struct Unanswered {
    asker: oneshot::Sender<Answer>,
    answer: Answer,
    event: Event,
}

impl Unanswered {
    fn answer(self, disk: &Disk) -> Option<Self> {
        let Self { asker, answer, event } = self;
        match answer.once_on_disk(&event, disk) {
            Ok(answer) => {
                // Who asked may have left.
                let _ = asker.send(answer);
                None
            }
            Err(answer) => Some(Self { asker, answer, event }),
        }
    }
}

/// A running sidecar.
pub struct Sidecar {
    pub(super) machine: Machine,
    pub(super) policy: Policy,
    pub(super) config: Arc<Config>,
    pub(super) introduction: Introduction,
    pub(super) clock: Clock,
    pub(super) inbox: Inbox,
    /// Figures to go by from the next step on.
    pub(super) new_settings: mpsc::Receiver<Settings>,
    /// The local socket's name, for as long as the loop runs.
    #[cfg(unix)]
    pub(super) _plate: Option<super::console::NamePlate>,
    pub(super) adapters: Adapters,
    pub(super) control: mpsc::Sender<Asked>,
    /// What others may see.
    pub(super) show: watch::Sender<Observed>,
    /// Who waits for what the next step makes of a wish.
    pub(super) asker: Option<oneshot::Sender<Answer>>,
    /// At most one: a write is over before the next wish is heard.
    pub(super) unanswered: Option<Unanswered>,
    /// Where restarts wait for a look at what they depend on.
    pub(super) gate: Gate,
    /// Restarts that have passed the gate.
    pub(super) looked_at: VecDeque<Asked>,
    /// Goes up with the first wish to stop.
    pub(super) stop_wanted: watch::Receiver<bool>,
    /// Fields that other writers left in `queue.json`.
    pub(super) foreign_fields: Map<String, Value>,
    /// Found by a last look, not handled yet.
    pub(super) found: VecDeque<ResultsEvent>,
    pub(super) watched: Option<TaskId>,
    pub(super) hooks: Hooks,
    /// The result that a hook is looking at.
    pub(super) review: Review,
    /// Takes the token out of what others wrote.
    pub(super) redactor: Redactor,
    #[cfg(debug_assertions)]
    pub(super) history: crate::machine::invariants::History,
}

impl Sidecar {
    /// Asks this sidecar to restart itself.
    pub fn restart_handle(&self) -> RestartHandle {
        RestartHandle::new(self.control.clone())
    }

    /// Runs until the machine exits. `first` are the effects of its recovery.
    pub(super) async fn run(mut self, first: Vec<Effect>) -> Ending {
        let mut ending = self.perform_all(first).await;
        loop {
            if let Some(ending) = ending {
                let ending = self.end(ending).await;
                crash_point!("after the end of the loop");
                return ending;
            }
            let event = self.next_event().await; // 1
            ending = self.handle(event).await; // 2, 3
        }
    }

    /// What happens next, or the deadline. A deadline that has passed comes first: a busy hub cannot put it off.
    async fn next_event(&mut self) -> Event {
        loop {
            self.adapters.systemd.feed();
            if let Some(found) = self.found.pop_front() {
                return self.found(found);
            }
            if let Some(Asked { event, asker }) = self.looked_at.pop_front() {
                self.asker = asker;
                return event;
            }
            let now = self.clock.now();
            let deadline = self.machine.deadline(&self.policy).map(|(at, _)| at);
            if deadline.is_some_and(|at| at <= now) {
                if !self.machine.wants_last_look(now) {
                    return Event::DeadlineReached;
                }
                self.last_look().await;
                if self.found.is_empty() {
                    return Event::DeadlineReached;
                }
                continue;
            }
            let due = deadline.map(|at| self.clock.instant(at));
            let wake_up = due.into_iter().chain(self.adapters.systemd.feed_at()).min();
            let restart_waits = self.gate.is_busy();
            tokio::select! {
                biased;
                Opened { no_return, restarts } = self.gate.opened() => {
                    self.policy.no_return = no_return;
                    self.looked_at = restarts;
                }
                Some(asked) = self.inbox.control.recv() => {
                    if let Some(event) = self.admit(asked) {
                        return event;
                    }
                }
                Some(wake) = self.inbox.wakes.recv() => return wake_event(wake),
                Some(found) = self.inbox.results.recv() => return self.found(found),
                reviewed = self.review.next() => return found_event(reviewed, &self.redactor),
                Some(event) = self.inbox.link.recv(), if !restart_waits => {
                    self.note_end(&event);
                    let event = link_event(event, &self.config.agent_id, &self.adapters.dice);
                    if let Some(event) = event.and_then(|event| self.admit(event.into())) {
                        return event;
                    }
                }
                Some(Settings { config, policy }) = self.new_settings.recv() => {
                    // The machine is not told: where it stands does not change. Nor does what was found out of the next run.
                    let no_return = self.policy.no_return.take();
                    self.hooks = self.hooks.by(&config);
                    (self.config, self.policy) = (config, Policy { no_return, ..policy });
                }
                Some(batch) = self.inbox.output.recv() => self.pass_on(batch).await,
                Some(figures) = self.inbox.figures.recv() => self.tell_resources(figures).await,
                () = sleep_until(wake_up) => {}
            }
        }
    }

    /// Lets people see why a connection ended; the machine needs no words.
    fn note_end(&self, event: &LinkEvent) {
        if let LinkWhat::Closed(closed) = &event.what {
            self.show.send_modify(|observed| observed.link_ended(closed.in_words()));
        }
    }

    /// What the agent has left. A result is shown to the hook first, if there is one.
    fn found(&mut self, found: ResultsEvent) -> Event {
        if let ResultsEvent::Result { task_id, content } = &found
            && self.hooks.has_result()
            && let Some(job) = self.machine.state.job().filter(|job| job.task().id.as_str() == task_id)
        {
            self.review.begin(&self.hooks, job.task(), content.clone());
            return Event::ResultPending { task_id: job.task().id.clone() };
        }
        found_event(found, &self.redactor)
    }

    /// Before a wait for the agent's files is called over: what is there counts, seen or not.
    async fn last_look(&mut self) {
        self.found.extend(self.adapters.results.last_look(&mut self.inbox.results).await);
    }

    /// What may be handled now. A restart is looked into BEFORE it is promised, and comes again.
    fn admit(&mut self, asked: Asked) -> Option<Event> {
        if let Event::RestartRequested(_) | Event::HubSaid(FromHub::RestartCommanded(_)) = asked.event {
            self.gate.hold(asked);
            return None;
        }
        self.asker = asked.asker;
        Some(asked.event)
    }

    async fn handle(&mut self, event: Event) -> Option<Ending> {
        let effects = self.step(event);
        self.perform_all(effects).await
    }

    fn step(&mut self, event: Event) -> Vec<Effect> {
        let now = self.clock.now();
        let (comeback, why_in_place) = comeback_now(&self.adapters.pm2, now.as_millis());
        self.policy.comeback = comeback;
        let before = self.machine.clone();
        let (after, effects) = transition(before.clone(), event.clone(), now, &self.policy);
        log_step::log(&before, &event, &after, &effects);
        #[cfg(debug_assertions)]
        self.check(&before, &event, now, &after, &effects);
        if let (Some(Effect::Exit { in_place: true, .. }), Some(why)) = (effects.last(), why_in_place) {
            tracing::info!(%why, "the restart replaces this process in place");
        }
        self.show.send_modify(|observed| {
            observed.step(&event, &after, &effects, now);
            observed.next = after.deadline(&self.policy);
        });
        if let Some(asker) = self.asker.take()
            && let Some(answer) = Answer::to(&event, &before, &after, &effects)
        {
            self.unanswered = Some(Unanswered { asker, answer, event });
        }
        if let Some(unanswered) = self.unanswered.take() {
            self.unanswered = unanswered.answer(&after.disk);
        }
        let stops = |machine: &Machine| machine.state.stops_for_good();
        if stops(&after) && !stops(&before) {
            self.adapters.systemd.stopping();
        }
        self.adapters.resources.set_online(after.link.online().is_some());
        self.machine = after;
        effects
    }

    /// A debug build judges itself: a property that does not hold is a bug, and the run ends here, loudly.
    #[cfg(debug_assertions)]
    fn check(&mut self, before: &Machine, event: &Event, now: Timestamp, after: &Machine, effects: &[Effect]) {
        use crate::machine::invariants::{Step, check_step};
        let step = Step { before, event, now, policy: &self.policy, after, effects };
        if let Err(violation) = check_step(&step).and_then(|()| self.history.observe(&step)) {
            panic!("{violation}; event {event:?}; machine before: {before:?}");
        }
    }

    /// Carries out the effects, and whatever the outcome of a write leads to, until there is nothing more to do.
    async fn perform_all(&mut self, effects: Vec<Effect>) -> Option<Ending> {
        let mut effects = effects;
        loop {
            let mut next = None;
            for effect in effects {
                // After the effect before it, too: nothing happens between two of them.
                crash_point!("before {}", crate::machine::EffectName::from(&effect));
                match effect {
                    Effect::Persist(journal) => {
                        let bytes = journal_file::to_bytes(&journal, &self.beside_the_journal());
                        next = Some(self.persist(bytes).await);
                    }
                    Effect::Exit { cause: _, in_place } => {
                        return Some(if in_place { Ending::InPlace } else { Ending::Exit });
                    }
                    Effect::Send(what) => self.send(what).await,
                    Effect::Wake { task, attempt } => self.wake(&task, attempt),
                    Effect::Dial => {
                        self.adapters.link.dial();
                    }
                    Effect::CloseLink(code) => self.adapters.link.close(code.code(), code.reason()),
                    Effect::CleanUp { task_id } => self.clean_up(&task_id),
                    Effect::DropSign { task_id } => self.drop_sign(&task_id),
                    Effect::Notify(notice) => notify(&notice),
                }
            }
            crash_point!("after the last effect");
            self.rewatch();
            effects = self.step(next?);
        }
    }

    /// What the file keeps besides: other writers' fields, and the restarts that happened.
    fn beside_the_journal(&self) -> Map<String, Value> {
        let mut fields = self.foreign_fields.clone();
        let past = &self.show.borrow().past;
        if !past.is_empty() {
            // Plain texts and numbers: nothing here can fail to serialize.
            fields.insert(RESTART_HISTORY.to_owned(), serde_json::to_value(past).unwrap_or_default());
        }
        fields
    }

    async fn persist(&self, bytes: Vec<u8>) -> Event {
        let path = self.config.queue_file.clone();
        let max_bytes = journal_file::max_bytes(self.config.max_frame_bytes);
        let write = move || durable::write_atomic_up_to(max_bytes, &path, &bytes);
        let written = if self.adapters.threads { tokio::task::spawn_blocking(write).await } else { Ok(write()) };
        match written {
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

    async fn send(&mut self, what: ToHub) {
        let asked = self.adapters.pm2_said.borrow().clone();
        let pm2 = &self.adapters.pm2;
        let frame = speak(what, &self.introduction, || pm2_info(pm2, asked));
        self.send_frame(frame).await;
    }

    async fn send_frame(&mut self, frame: SidecarFrame) {
        let kind = frame.kind();
        let sent = self.adapters.link.send(frame.to_text());
        // A peer that reads nothing may hold a frame up for long; who wants to stop is not kept waiting for it.
        let mut stop_wanted = self.stop_wanted.clone();
        let hurry = async {
            // A flag that nobody can raise any more is never raised.
            if stop_wanted.wait_for(|wanted| *wanted).await.is_err() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(HURRIED_SEND).await;
        };
        // Nor does it put off the end that the machine has planned.
        let leave_by = match &self.machine.state {
            State::RestartPending { deadline, .. } | State::Draining { deadline, .. } => Some(*deadline),
            State::Idle | State::Working { .. } | State::Exiting { .. } => None,
        };
        let overdue = sleep_until(leave_by.map(|at| self.clock.instant(at)));
        // A frame that does not arrive ends the connection, and the machine hears of that: nothing to do about it here.
        tokio::select! {
            biased;
            sent = sent => if let Err(error) = sent {
                tracing::warn!(frame = kind, %error, "a frame was not sent");
            },
            () = overdue => tracing::warn!(frame = kind, "the hub reads too slowly to be told before the deadline"),
            () = hurry => tracing::warn!(frame = kind, "the hub reads too slowly to be told before the stop"),
        }
    }

    fn wake(&self, task: &Task, attempt: u8) {
        let (runner, machine_boot) = (&self.adapters.runner, self.policy.machine_boot.as_str());
        Beginner { config: &self.config, hooks: &self.hooks, runner, machine_boot }.begin(task, attempt);
    }

    /// The machine's load, while the hub knows us and we are not on our way out.
    async fn tell_resources(&mut self, figures: Map<String, Value>) {
        if self.machine.link.online().is_some() && !self.machine.state.is_leaving() {
            let now = self.clock.now().as_millis();
            self.send_frame(resource_report(&self.introduction, figures, now)).await;
        }
    }

    /// Output of the task in hand, while the hub knows us and takes the task for ours; it is news, not an obligation.
    async fn pass_on(&mut self, batch: OutputBatch) {
        let ours = self
            .machine
            .state
            .job()
            .is_some_and(|job| job.task().id.as_str() == batch.task_id && !job.is_in_question());
        if ours && self.machine.link.online().is_some() {
            self.send_frame(output(batch, self.clock.now().as_millis())).await;
        }
    }

    fn clean_up(&mut self, task_id: &TaskId) {
        self.review.end_of(task_id);
        // BEFORE its files: a run that knows that nobody wants its result leaves none.
        if let Some(runs) = &self.adapters.runs {
            runs.clean_up(task_id.as_str());
        }
        for (path, error) in self.adapters.results.clean_up(task_id.as_str()) {
            tracing::warn!(path = %path.display(), %error, "a file of a finished task stays behind");
        }
        self.adapters.runner.clean_up(task_id.as_str());
    }

    fn drop_sign(&self, task_id: &TaskId) {
        match self.adapters.results.drop_sign(task_id.as_str()) {
            Ok(true) => {
                tracing::info!(%task_id, "a sign was there whose session is gone, or not known; it was removed")
            }
            Ok(false) => {}
            Err((path, error)) => tracing::warn!(
                path = %path.display(), %error,
                "a sign of an earlier session stays: it will pass for the next one's"
            ),
        }
    }

    /// The files that are awaited follow from where the machine stands.
    fn rewatch(&mut self) {
        let wanted = self.machine.watching();
        if wanted != self.watched.as_ref() {
            self.watched = wanted.cloned();
            self.review.end();
            self.adapters.results.watch(self.watched.iter().map(ToString::to_string).collect());
        }
        let run = self
            .machine
            .state
            .job()
            .filter(|_| self.watched.is_some())
            .map(|job| Watched { task_id: job.task().id.to_string(), begun_for: job.carried.woken });
        if let Some(runs) = &self.adapters.runs {
            runs.watch(run);
        }
    }

    /// The last words may still be on their way when the deadline has come: they get a moment, not more.
    async fn end(&mut self, ending: Ending) -> Ending {
        const LAST_WORDS: std::time::Duration = std::time::Duration::from_millis(150);
        if matches!(self.machine.link, crate::machine::Link::Closing { .. }) {
            let closed = async {
                while let Some(event) = self.inbox.link.recv().await {
                    if let LinkWhat::Closed(_) = event.what {
                        return;
                    }
                }
            };
            if tokio::time::timeout(LAST_WORDS, closed).await.is_err() {
                tracing::debug!("left without the peer's close frame");
            }
        }
        let ending = self.look_behind(ending).await;
        self.take_leave_of_pm2().await;
        ending
    }

    /// A restart was promised while its program could start; by now another one may stand there. Then the one that runs
    /// goes on: an old agent is better than none. A stop is not held up for it.
    async fn look_behind(&mut self, ending: Ending) -> Ending {
        let restarts =
            matches!(&self.machine.state, State::Exiting { cause: Cause::Restart { signalled: false, .. }, .. });
        if !restarts {
            return ending;
        }
        let mut stop_wanted = self.stop_wanted.clone();
        tokio::select! {
            looked = self.gate.last_look() => match looked {
                Ok(()) => ending,
                Err(why) => {
                    tracing::error!(why, "the program was replaced by one that cannot start: going on with the old one");
                    Ending::InPlaceAsIs
                }
            },
            Ok(_) = stop_wanted.wait_for(|wanted| *wanted) => Ending::Exit,
        }
    }

    /// What was asked and not heard is answered, and pm2 told what to show of us. A pm2 that does not read gets nothing
    /// more: the channel is then left to nobody, since half a line may be in it.
    async fn take_leave_of_pm2(&mut self) {
        const LAST_ANSWERS: std::time::Duration = std::time::Duration::from_millis(250);
        self.inbox.control.close();
        while self.inbox.control.try_recv().is_ok() {}
        self.gate.close();
        self.looked_at.clear();
        let status = Status::of(&self.show.borrow(), &self.adapters.pm2);
        self.adapters.voice.say_last_words(&status);
        let between_lines = self.adapters.voice.finish(LAST_ANSWERS).await;
        #[cfg(unix)]
        if !between_lines {
            tracing::warn!("pm2 does not read its channel: a program that replaces this one goes without it");
            super::inherited_fd::abandon();
        }
    }
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// pm2's word, brought up to date by what the process knows itself.
fn pm2_info(pm2: &Pm2, asked: Option<Pm2Info>) -> Pm2Info {
    let own = pm2.immediate_info();
    match asked {
        Some(asked) => Pm2Info {
            name: asked.name.or(own.name),
            status: asked.status.or(own.status),
            restart_count: asked.restart_count.or(own.restart_count),
            ..own
        },
        None => own,
    }
}
