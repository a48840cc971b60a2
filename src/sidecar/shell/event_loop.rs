//! The daemon's one loop: what happened or is due goes through the machine, and its effects are carried out in order.
//! It decides nothing; see `machine` for what is decided and why.
//!
//! 1. Wait for what happens next, or for the machine's deadline, whichever is first.
//! 2. Put it through [`transition`].
//! 3. Carry the effects out, each before the next; a write's outcome is the next event.

mod effects;
mod shutdown;

use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::sync::{mpsc, watch};

use crate::common::crash_points::crash_point;
use crate::common::logging::Redactor;
#[cfg(debug_assertions)]
use crate::machine::Timestamp;
use crate::machine::{Effect, Ending, Event, Machine, News, Policy, TaskId, transition};
use crate::protocol::Pm2Info;
use crate::sidecar::admin::commands::{AdminRequest, WaitingOperators};
use crate::sidecar::admin::pm2_channel::ChannelWriter;
use crate::sidecar::admin::reload::Settings;
use crate::sidecar::admin::resources::Resources;
use crate::sidecar::admin::restart_handle::RestartHandle;
use crate::sidecar::admin::snapshot::Snapshot;
use crate::sidecar::admin::systemd::Systemd;
use crate::sidecar::agent::hooks::Hooks;
use crate::sidecar::agent::result_hook::ResultHook;
use crate::sidecar::agent::side::{Results, Wakes};
use crate::sidecar::agent::supervised::{OutputBatch, Runs};
use crate::sidecar::clock::Clock;
use crate::sidecar::config::Config;
use crate::sidecar::hub_connection::{ConnectionEvent, ConnectionEventKind, HubConnection};
use crate::sidecar::shell::adapter_events::{found_event, link_event, wake_event};
use crate::sidecar::shell::environment::RandomBytes;
use crate::sidecar::shell::inbox::{Arrival, Inbox};
use crate::sidecar::shell::outbound::Identity;
use crate::sidecar::shell::restart_check::NextRunChecks;
use crate::sidecar::shell::step_log;
use crate::sidecar::supervisor::pm2::Pm2;

/// The journal file's field for the restarts that happened.
pub(crate) const RESTART_HISTORY: &str = "restart_history";

/// What the loop works with.
pub(crate) struct Adapters {
    pub(crate) link: HubConnection,
    pub(crate) runner: Arc<dyn Wakes>,
    pub(crate) results: Box<dyn Results>,
    pub(crate) next_run: NextRunChecks,
    pub(crate) result_hook: ResultHook,
    /// Where commands may be run.
    pub(crate) runs: Option<Runs>,
    pub(crate) random: RandomBytes,
    /// Whether blocking work gets a thread.
    pub(crate) threads: bool,
    pub(crate) resources: Resources,
    pub(crate) pm2: Arc<Pm2>,
    /// Speaks to pm2.
    pub(crate) voice: ChannelWriter,
    /// And to systemd.
    pub(crate) systemd: Systemd,
    /// What pm2 said last, as far as it says more than the environment.
    pub(crate) pm2_said: watch::Receiver<Option<Pm2Info>>,
}

/// News for the hub, until the machine has said whether they are passed on.
#[derive(Debug)]
pub(crate) enum Offered {
    Output(OutputBatch),
    Resources(Map<String, Value>),
}

/// A running sidecar.
pub struct Sidecar {
    pub(crate) machine: Machine,
    pub(crate) policy: Policy,
    pub(crate) config: Arc<Config>,
    pub(crate) introduction: Identity,
    pub(crate) clock: Clock,
    pub(crate) inbox: Inbox,
    /// The local socket's name, for as long as the loop runs.
    #[cfg(unix)]
    pub(crate) _plate: Option<crate::sidecar::admin::socket::SocketGuard>,
    pub(crate) adapters: Adapters,
    pub(crate) control: mpsc::Sender<AdminRequest>,
    /// What others may see.
    pub(crate) show: watch::Sender<Snapshot>,
    /// Who waits for which answer.
    pub(crate) waiting: WaitingOperators,
    /// The content of the event that is being handled.
    pub(crate) offered: Option<Offered>,
    /// Fields that other writers left in `queue.json`.
    pub(crate) foreign_fields: Map<String, Value>,
    pub(crate) watched: Option<TaskId>,
    pub(crate) hooks: Hooks,
    /// Takes the token out of what others wrote.
    pub(crate) redactor: Redactor,
    #[cfg(debug_assertions)]
    pub(crate) history: crate::machine::invariants::History,
}

impl Sidecar {
    /// Asks this sidecar to restart itself.
    pub fn restart_handle(&self) -> RestartHandle {
        RestartHandle::new(self.control.clone())
    }

    /// Runs until the machine exits. `first` are the effects of its recovery.
    pub(crate) async fn run(mut self, first: Vec<Effect>) -> Ending {
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
            Arrival::AdminRequest(request) => Some(self.waiting.admit(request)),
            Arrival::Answer(event) => Some(event),
            Arrival::Wake(wake) => Some(wake_event(wake)),
            Arrival::Results(found) => Some(found_event(found, &self.redactor)),
            Arrival::Connection(event) => {
                self.note_end(&event);
                link_event(event, &self.config.agent_id, &self.adapters.random)
            }
            Arrival::Settings(Settings { config, policy }) => {
                // The machine is not told: where it stands does not change, only what its next step decides by.
                self.hooks = self.hooks.with_config(&config);
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
    fn note_end(&self, event: &ConnectionEvent) {
        if let ConnectionEventKind::Closed(closed) = &event.what {
            self.show.send_modify(|snapshot| snapshot.link_ended(closed.in_words()));
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
        step_log::log(&before, &event, &after, &effects);
        #[cfg(debug_assertions)]
        self.check(&before, &event, now, &after, &effects);
        self.show.send_modify(|snapshot| {
            snapshot.step(&event, &after, &effects, now);
            snapshot.next = after.deadline(&self.policy);
        });
        let stops = |machine: &Machine| machine.state.stops_for_good();
        if stops(&after) && !stops(&before) {
            self.adapters.systemd.stopping();
        }
        self.adapters.resources.set_online(after.connection.online().is_some());
        self.machine = after;
        effects
    }

    /// A debug build judges itself: a property that does not hold is a bug, and the run ends here, loudly.
    #[cfg(debug_assertions)]
    fn check(&mut self, before: &Machine, event: &Event, now: Timestamp, after: &Machine, effects: &[Effect]) {
        use crate::machine::invariants::{StepRecord, check_step};
        let step = StepRecord { before, event, now, policy: &self.policy, after, effects };
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
