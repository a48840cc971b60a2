//! The daemon's one loop: what happened or is due goes through the machine, and its effects are carried out in order.
//! It decides nothing; see `machine` for what is decided and why.
//!
//! 1. Wait for what happens next, or for the machine's deadline, whichever is first.
//! 2. Put it through [`transition`].
//! 3. Carry the effects out, each before the next; a write's outcome is the next event.

mod carry_out;
mod leave;

use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::sync::{mpsc, watch};

use super::clock::Clock;
use super::control::RestartHandle;
use super::hooks::Hooks;
use super::hub_link::{HubLink, LinkEvent, LinkWhat};
use super::inbox::{Arrival, Inbox};
use super::log_step;
use super::next_run::NextRunChecks;
use super::observed::Observed;
use super::operator::{Askers, Request};
use super::outside::{Dice, Results, Wakes};
use super::pm2::Pm2;
use super::pm2_channel::Voice;
use super::reload::Settings;
use super::report::{found_event, link_event, wake_event};
use super::resources::Resources;
use super::result_hook::ResultHook;
use super::runs::{OutputBatch, Runs};
use super::speak::Introduction;
use super::systemd::Systemd;
use crate::common::crash_points::crash_point;
use crate::common::logging::Redactor;
use crate::config::Config;
#[cfg(debug_assertions)]
use crate::machine::Timestamp;
use crate::machine::{Effect, Ending, Event, Machine, News, Policy, TaskId, transition};
use crate::protocol::Pm2Info;

/// The journal file's field for the restarts that happened.
pub(super) const RESTART_HISTORY: &str = "restart_history";

/// What the loop works with.
pub(super) struct Adapters {
    pub(super) link: HubLink,
    pub(super) runner: Arc<dyn Wakes>,
    pub(super) results: Box<dyn Results>,
    pub(super) next_run: NextRunChecks,
    pub(super) result_hook: ResultHook,
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

/// News for the hub, until the machine has said whether they are passed on.
#[derive(Debug)]
pub(super) enum Offered {
    Output(OutputBatch),
    Resources(Map<String, Value>),
}

/// A running sidecar.
pub struct Sidecar {
    pub(super) machine: Machine,
    pub(super) policy: Policy,
    pub(super) config: Arc<Config>,
    pub(super) introduction: Introduction,
    pub(super) clock: Clock,
    pub(super) inbox: Inbox,
    /// The local socket's name, for as long as the loop runs.
    #[cfg(unix)]
    pub(super) _plate: Option<super::console::NamePlate>,
    pub(super) adapters: Adapters,
    pub(super) control: mpsc::Sender<Request>,
    /// What others may see.
    pub(super) show: watch::Sender<Observed>,
    /// Who waits for which answer.
    pub(super) askers: Askers,
    /// The content of the event that is being handled.
    pub(super) offered: Option<Offered>,
    /// Fields that other writers left in `queue.json`.
    pub(super) foreign_fields: Map<String, Value>,
    pub(super) watched: Option<TaskId>,
    pub(super) hooks: Hooks,
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
                self.end().await;
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
            let deadline = self.machine.deadline(&self.policy).map(|(at, _)| at);
            if deadline.is_some_and(|at| at <= self.clock.now()) {
                return Event::DeadlineReached;
            }
            let due = deadline.map(|at| self.clock.instant(at));
            let wake_up = due.into_iter().chain(self.adapters.systemd.feed_at()).min();
            tokio::select! {
                biased;
                arrival = self.inbox.next() => if let Some(event) = self.event(arrival) {
                    return event;
                },
                () = sleep_until(wake_up) => {}
            }
        }
    }

    /// What arrived, as the machine's event; nothing where it means nothing to the machine.
    fn event(&mut self, arrival: Arrival) -> Option<Event> {
        match arrival {
            Arrival::Request(request) => Some(self.askers.admit(request)),
            Arrival::Answer(event) => Some(event),
            Arrival::Wake(wake) => Some(wake_event(wake)),
            Arrival::Results(found) => Some(found_event(found, &self.redactor)),
            Arrival::Link(event) => {
                self.note_end(&event);
                link_event(event, &self.config.agent_id, &self.adapters.dice)
            }
            Arrival::Settings(Settings { config, policy }) => {
                // The machine is not told: where it stands does not change, only what its next step decides by.
                self.hooks = self.hooks.by(&config);
                (self.config, self.policy) = (config, policy);
                None
            }
            Arrival::Output(batch) => {
                let task_id = TaskId::new(&batch.task_id).ok()?;
                self.offered = Some(Offered::Output(batch));
                Some(Event::NewsOffered(News::Output { task_id }))
            }
            Arrival::Figures(figures) => {
                self.offered = Some(Offered::Resources(figures));
                Some(Event::NewsOffered(News::Resources))
            }
        }
    }

    /// Lets people see why a connection ended; the machine needs no words.
    fn note_end(&self, event: &LinkEvent) {
        if let LinkWhat::Closed(closed) = &event.what {
            self.show.send_modify(|observed| observed.link_ended(closed.in_words()));
        }
    }

    async fn handle(&mut self, event: Event) -> Option<Ending> {
        let effects = self.step(event);
        let ending = self.perform_all(effects).await;
        self.offered = None;
        ending
    }

    fn step(&mut self, event: Event) -> Vec<Effect> {
        let now = self.clock.now();
        let before = self.machine.clone();
        let (after, effects) = transition(before.clone(), event.clone(), now, &self.policy);
        log_step::log(&before, &event, &after, &effects);
        #[cfg(debug_assertions)]
        self.check(&before, &event, now, &after, &effects);
        self.show.send_modify(|observed| {
            observed.step(&event, &after, &effects, now);
            observed.next = after.deadline(&self.policy);
        });
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
