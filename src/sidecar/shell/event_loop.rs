//! The daemon's event loop. It takes no decisions; see `machine`.
//!
//! 1. Wait for the next event or the machine's deadline, whichever is first.
//! 2. Pass it to [`transition`].
//! 3. Carry out the effects, one after the other; the outcome of a write is the next event.

mod effects;
mod shutdown;
mod token;

use std::sync::Arc;

use tokio::sync::{Notify, mpsc, watch};

use crate::codec::Identity;
use crate::common::crash_points::crash_point;
use crate::common::logging::Redactor;
#[cfg(debug_assertions)]
use crate::machine::Timestamp;
use crate::machine::{Effect, Ending, Event, Machine, News, Policy, TaskId, transition};
use crate::protocol::{HubFrame, JsonFields};
use crate::sidecar::admin::commands::{AdminRequest, WaitingOperators};
use crate::sidecar::admin::reload::Settings;
use crate::sidecar::admin::restart_handle::RestartHandle;
use crate::sidecar::admin::snapshot::Snapshot;
use crate::sidecar::agent::hooks::Hooks;
use crate::sidecar::agent::supervised::OutputBatch;
use crate::sidecar::clock::Clock;
use crate::sidecar::config::Config;
use crate::sidecar::history::record::events_of;
use crate::sidecar::history::writer::HistoryWriter;
use crate::sidecar::hub_connection::{ConnectionEvent, ConnectionEventKind};
use crate::sidecar::journal::state_folder::StateFolder;
use crate::sidecar::shell::adapter_events::{connection_event, results_event, wake_event};
use crate::sidecar::shell::adapters::Adapters;
use crate::sidecar::shell::closing::rival_named_by;
use crate::sidecar::shell::inbox::{Arrival, Inbox};
use crate::sidecar::shell::step_log;

/// The journal file's field for past restarts.
pub(crate) const RESTART_HISTORY: &str = "restart_history";

/// The content of a [`News`] event, kept until the machine has decided whether it is passed on to the hub.
#[derive(Debug)]
pub(crate) enum Offered {
    Output(OutputBatch),
    Resources(JsonFields),
}

/// A running sidecar.
pub struct Sidecar {
    pub(crate) machine: Machine,
    pub(crate) policy: Policy,
    pub(crate) config: Arc<Config>,
    pub(crate) identity: Identity,
    pub(crate) clock: Clock,
    pub(crate) inbox: Inbox,
    pub(crate) adapters: Adapters,
    pub(crate) control: mpsc::Sender<AdminRequest>,
    /// Publishes the state for the admin interfaces.
    pub(crate) snapshot: watch::Sender<Snapshot>,
    /// The operators that wait for an answer.
    pub(crate) waiting: WaitingOperators,
    /// The content of the [`News`] event that is being handled.
    pub(crate) offered: Option<Offered>,
    /// Fields of `queue.json` that other programs wrote.
    pub(crate) foreign_fields: JsonFields,
    pub(crate) watched: Option<TaskId>,
    /// Where the journal is, unless nobody else could remove it (in a simulation).
    pub(crate) state_folder: Option<Arc<StateFolder>>,
    /// Tells that a result may have been kept that was not taken.
    pub(crate) kept_changed: Arc<Notify>,
    pub(crate) hooks: Hooks,
    /// Removes the token from texts of the agent's and the hub's.
    pub(crate) redactor: Redactor,
    /// What this sidecar does, kept for operators.
    pub(crate) history_writer: HistoryWriter,
    #[cfg(debug_assertions)]
    pub(crate) history: crate::machine::invariants::History,
}

impl Sidecar {
    /// Returns a handle by which this sidecar can be asked to restart.
    pub fn restart_handle(&self) -> RestartHandle {
        RestartHandle::new(self.control.clone())
    }

    /// Runs until the machine exits. `first` holds the effects of its recovery.
    pub(crate) async fn run(mut self: Box<Self>, first: Vec<Effect>) -> Ending {
        let mut ending = self.perform_all(first).await;
        loop {
            if let Some(ending) = ending {
                self.shut_down().await;
                crash_point!("after the end of the loop");
                return ending;
            }
            let event = self.next_event().await; // 1
            ending = self.handle(event).await; // 2, 3
        }
    }

    /// Waits for the next event or the machine's deadline. A deadline that has passed comes first, so that a busy hub
    /// cannot delay it.
    async fn next_event(&mut self) -> Event {
        loop {
            self.adapters.systemd.feed();
            let deadline = self.machine.deadline(&self.policy).map(|(at, _)| at);
            if deadline.is_some_and(|at| at <= self.clock.now()) {
                return Event::DeadlineReached;
            }
            let due = deadline.map(|at| self.clock.instant(at));
            let next_wake_up = due.into_iter().chain(self.adapters.systemd.feed_at()).min();
            tokio::select! {
                biased;
                arrival = self.inbox.next() => if let Some(event) = self.translate(arrival).await {
                    return event;
                },
                () = sleep_until(next_wake_up) => {}
            }
        }
    }

    /// Translates an arrival to the machine's event; `None` if the machine has no use for it.
    async fn translate(&mut self, arrival: Arrival) -> Option<Event> {
        match arrival {
            Arrival::AdminRequest(request) => Some(self.waiting.register(request)),
            Arrival::Answer(event) => Some(event),
            Arrival::Wake(wake) => Some(wake_event(wake)),
            Arrival::Results(report) => {
                self.kept_changed.notify_one();
                Some(results_event(report, &self.redactor))
            }
            Arrival::Connection(event) => {
                self.record_connection_end(&event);
                self.offer_message(&event);
                connection_event(event, &self.config.agent_id, &self.adapters.random)
            }
            Arrival::Settings(Settings { config, policy }) => {
                // No event: the machine's state does not change, only what its next step decides by.
                self.hooks = self.hooks.with_config(&config);
                // The token is that of the last dial, which may have read another from `token_file`.
                let token = self.identity.token.clone();
                let config =
                    if config.token == token { config } else { Arc::new(Config { token, ..(*config).clone() }) };
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
            Arrival::JournalChanged => {
                // No event: what the machine takes for durable is to be durable again.
                self.write_journal_again().await;
                None
            }
        }
    }

    /// Passes a message in a room on to its hook. The machine does not need that.
    fn offer_message(&self, event: &ConnectionEvent) {
        if let ConnectionEventKind::Frame(text) = &event.what
            && self.hooks.has_message()
            && text.contains("room_message")
            && let Ok(HubFrame::RoomMessage { message }) = HubFrame::parse(text)
        {
            self.adapters.message_hook.offer(&self.hooks, message);
        }
    }

    /// Publishes why a connection ended, and in whose favour. The machine does not need that.
    fn record_connection_end(&self, event: &ConnectionEvent) {
        if let ConnectionEventKind::Closed(closed) = &event.what {
            let (rival, now) = (rival_named_by(closed), self.clock.now());
            self.snapshot.send_modify(|snapshot| snapshot.connection_ended(closed.in_words(), rival.as_ref(), now));
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
        events_of(&before, &event, &after, &effects).into_iter().for_each(|what| self.history_writer.add(what, now));
        #[cfg(debug_assertions)]
        self.check_invariants(&before, &event, now, &after, &effects);
        self.snapshot.send_modify(|snapshot| {
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

    /// Checks the step against the machine's invariants (debug builds only).
    ///
    /// # Panics
    /// An invariant does not hold.
    #[cfg(debug_assertions)]
    fn check_invariants(
        &mut self,
        before: &Machine,
        event: &Event,
        now: Timestamp,
        after: &Machine,
        effects: &[Effect],
    ) {
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
