//! The daemon's one loop: what happened or is due goes through the machine, and its effects are carried out in order.
//! It decides nothing; see `machine` for what is decided and why.
//!
//! 1. Wait for what happens next, or for the machine's deadline, whichever is first.
//! 2. Put it through [`transition`].
//! 3. Carry the effects out, each before the next; a write's outcome is the next event.

mod carry_out;
mod leave;

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::sync::{mpsc, oneshot, watch};

use super::clock::Clock;
use super::control::RestartHandle;
use super::crash_points::crash_point;
use super::gate::{Gate, Opened};
use super::hooks::Hooks;
use super::hub_link::{HubLink, LinkEvent, LinkWhat};
use super::log_step;
use super::logging::Redactor;
use super::observed::Observed;
use super::operator::{Answer, Asked, Unanswered};
use super::outside::{Dice, Results, Wakes};
use super::pm2::Pm2;
use super::pm2_channel::Voice;
use super::reload::Settings;
use super::report::{found_event, link_event, wake_event};
use super::resources::Resources;
use super::results::ResultsEvent;
use super::review::Review;
use super::runner::WakeEvent;
use super::runs::{OutputBatch, Runs};
use super::speak::Introduction;
use super::start::comeback_now;
use super::systemd::Systemd;
use crate::config::Config;
#[cfg(debug_assertions)]
use crate::machine::Timestamp;
use crate::machine::{Effect, Event, FromHub, Machine, Policy, TaskId, transition};
use crate::wire::Pm2Info;

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
        if let Some(asker) = self.asker.take() {
            self.unanswered = Unanswered::of(asker, &event, &before, &after, &effects);
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
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
