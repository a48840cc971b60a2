//! The owner of the hub's state: applies a batch of events, stores what changed, and only then sends frames and
//! answers. The decisions are made by the [`crate::hub::scheduler::Scheduler`].
//!
//! Nothing is sent or answered before the state that it relies on is on disk. Each round of [`Actor::run`]:
//!
//! 1. Waits for messages, the next deadline, or the stop signal; then follows the wall clock, if that was set.
//! 2. Applies all messages that arrived, and everything that is due.
//! 3. Stores the changes, in one commit for the whole batch. Where other hubs share the store, a batch that only speaks asks it,
//!    too, whether this hub still leads: nothing is said that the store did not allow.
//! 4. Publishes the new state for readers, who do not ask the actor.
//! 5. Sends the outgoing frames.
//! 6. Answers the requests.
//! 7. Stores what agents did by coming, going and reporting, a part at a time and when nothing else waits: nobody is
//!    answered later for it, and a crash forgets the last few seconds of it.

pub mod event_log;
pub mod pulse;
mod watched_store;

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::hub::actor::event_log::EventLog;
use crate::hub::actor::pulse::Pulse;
use crate::hub::actor::watched_store::WatchedStore;
use crate::hub::clock::ClockMove;
use crate::hub::connections::outbox;
use crate::hub::hub_state::{HubState, IdentifyRefused, Revocation, Snapshot, WhyWorthless};
use crate::hub::log_budget::LogBudget;
use crate::hub::metrics::Metrics;
use crate::hub::metrics::recorder::Recorder;
use crate::hub::scheduler::agents::ConnId;
use crate::hub::scheduler::arrival::IdentityConflict;
use crate::hub::scheduler::inventory::Flush;
use crate::hub::scheduler::inventory::close::Closing;
use crate::hub::scheduler::rollouts::rollout::RolloutState;
use crate::hub::scheduler::task::Status;
use crate::hub::scheduler::{Changes, Outgoing};
use crate::hub::state::store::{AuditReader, StateChanges, Store, StoreError};
use crate::hub::state::tokens::TokenHash;
use crate::protocol::{Identify, JsonText, SidecarFrame};

/// The number of messages that the inbox holds; a sender waits while it is full.
const INBOX: usize = 1_024;
/// The largest number of messages in one commit.
const BATCH: usize = 256;
/// The time between two commits of what agents did by coming, going and reporting, in ms, where nothing else waits.
const INVENTORY_PAUSE_MS: u64 = 1_000;
/// The same where there is always something else.
const INVENTORY_LATEST_MS: u64 = 4_000;
/// The longest sleep when no deadline is set, in ms.
const LONGEST_SLEEP_MS: u64 = 1_000;

/// How often the uses of tokens are stored, in ms.
const USES_STORED_EVERY_MS: u64 = 60_000;
/// The number of uses of tokens in one commit.
const USES_AT_ONCE: usize = 512;

/// An order to the task of one socket.
#[derive(Debug)]
pub enum ToSocket {
    /// Write this frame; then report the restart command in it as written, if there is one.
    Frame(String, Option<String>),
    /// Close the socket with this code and reason.
    Close(u16, String),
}

type Answer = Box<dyn FnOnce() + Send>;
type Question = Box<dyn FnOnce(&mut HubState, u64) -> Answer + Send>;

enum Message {
    Identify {
        conn: ConnId,
        identify: Box<Identify>,
        address: String,
        socket: outbox::Sender<ToSocket>,
        reply: oneshot::Sender<Result<(), IdentifyRefused>>,
    },
    Frame(ConnId, SidecarFrame),
    Written(String),
    Gone(ConnId, Closing),
    Used(TokenHash),
    Ask(Question),
}

/// A message, and when it was sent.
type Sent = (Instant, Message);

/// The error of a request to a hub that is stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopping;

/// The sender side of the actor's inbox, for sockets and HTTP alike.
#[derive(Clone)]
pub struct Handle {
    inbox: mpsc::Sender<Sent>,
    published: watch::Receiver<Arc<Snapshot>>,
    metrics: Arc<Metrics>,
    pulse: Arc<Pulse>,
    events: Arc<EventLog>,
    audit: AuditReader,
    store: Weak<Store>,
}

/// The error of a request whose token was revoked, or had expired, before the request was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revoked;

impl Handle {
    /// Identifies an agent and registers its connection from this network address. Its frames are sent to `socket`,
    /// `identified` first.
    ///
    /// # Errors
    /// Returns [`Stopping`] if the hub is stopping; the inner error if the token does not prove the agent.
    pub async fn identify(
        &self,
        conn: ConnId,
        identify: Box<Identify>,
        address: String,
        socket: outbox::Sender<ToSocket>,
    ) -> Result<Result<(), IdentifyRefused>, Stopping> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Identify { conn, identify, address, socket, reply }).await?;
        answer.await.map_err(|_| Stopping)
    }

    /// Applies a frame of an identified agent.
    ///
    /// # Errors
    /// Returns [`Stopping`] if the hub is stopping.
    pub async fn frame_received(&self, conn: ConnId, frame: SidecarFrame) -> Result<(), Stopping> {
        self.send(Message::Frame(conn, frame)).await
    }

    /// Records that a restart frame was written to its socket.
    ///
    /// # Errors
    /// Returns [`Stopping`] if the hub is stopping.
    pub async fn written(&self, command_id: String) -> Result<(), Stopping> {
        self.send(Message::Written(command_id)).await
    }

    /// Records that a connection is closed, and how.
    ///
    /// # Errors
    /// Returns [`Stopping`] if the hub is stopping.
    pub async fn gone(&self, conn: ConnId, closing: Closing) -> Result<(), Stopping> {
        self.send(Message::Gone(conn, closing)).await
    }

    /// Runs `work` on the state and the current time (ms since the epoch), and returns its result once everything that
    /// it changed is on disk.
    ///
    /// # Errors
    /// Returns [`Stopping`] if the hub is stopping.
    pub async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut HubState, u64) -> T + Send + 'static,
    ) -> Result<T, Stopping> {
        let (reply, answer) = oneshot::channel();
        let question: Question = Box::new(move |state, now_ms| {
            let value = work(state, now_ms);
            Box::new(move || {
                // The caller may have gone; the change stands.
                let _ = reply.send(value);
            })
        });
        self.send(Message::Ask(question)).await?;
        answer.await.map_err(|_| Stopping)
    }

    /// Does what [`Self::ask`] does, if the token with this hash is still valid when the request is applied.
    ///
    /// # Errors
    /// Returns [`Stopping`] if the hub is stopping; the inner error, and changes nothing, if the token is not valid.
    pub async fn ask_as<T: Send + 'static>(
        &self,
        token: TokenHash,
        work: impl FnOnce(&mut HubState, u64) -> T + Send + 'static,
    ) -> Result<Result<T, Revoked>, Stopping> {
        self.ask(move |state, now_ms| match state.tokens.valid().is_valid(&token, now_ms) {
            true => Ok(work(state, now_ms)),
            false => Err(Revoked),
        })
        .await
    }

    /// Notes that a token was used. It waits for nothing, and an actor with too much to do forgets it.
    pub fn note_use(&self, token: TokenHash) {
        // The next request with the token tells it again.
        let _ = self.inbox.try_send((Instant::now(), Message::Used(token)));
    }

    /// Returns the reader of the audit.
    pub fn audit(&self) -> AuditReader {
        self.audit.clone()
    }

    /// Returns whether something may be said now: whether no other hub can lead (see [`Store::may_speak`]).
    pub fn may_speak(&self) -> bool {
        self.store.upgrade().is_none_or(|store| store.may_speak())
    }

    /// Makes sure that no other hub has taken over: where the store is shared, it is asked, once for all who wait.
    ///
    /// # Errors
    /// Returns [`Stopping`] if the hub is stopping, as it does when another one leads.
    pub async fn confirm(&self) -> Result<(), Stopping> {
        if self.store.upgrade().is_some_and(|store| store.is_shared()) {
            self.ask(|_, _| ()).await?;
        }
        Ok(())
    }

    /// Returns the state as of the last commit. It does not wait for the actor. Everything that was answered or sent is
    /// in it.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.published.borrow().clone()
    }

    /// Returns what was recorded for the metrics.
    pub fn metrics(&self) -> Arc<Metrics> {
        self.metrics.clone()
    }

    /// Returns the actor's signs of life.
    pub fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// Returns the latest events.
    pub fn events(&self) -> &EventLog {
        &self.events
    }

    async fn send(&self, message: Message) -> Result<(), Stopping> {
        self.inbox.send((Instant::now(), message)).await.map_err(|_| Stopping)
    }
}

/// The actor, before it runs.
pub struct Actor {
    state: HubState,
    disk: WatchedStore,
    sockets: HashMap<ConnId, outbox::Sender<ToSocket>>,
    inbox: mpsc::Receiver<Sent>,
    published: watch::Sender<Arc<Snapshot>>,
    events: Arc<EventLog>,
    log_budget: LogBudget,
    /// The time at which the uses of tokens were last stored, in ms by the machine's monotonic clock.
    uses_stored_at: u64,
    /// Whether what is due is done.
    time_passes: bool,
}

impl Actor {
    /// Creates the actor of a store for changes while no hub runs, and the handle to it: nothing becomes due.
    pub fn to_edit(state: HubState, store: impl Into<Arc<Store>>) -> (Self, Handle) {
        let (actor, handle) = Self::new(state, store);
        (Self { time_passes: false, ..actor }, handle)
    }

    /// Creates an actor over a store, and the handle to it.
    pub fn new(state: HubState, store: impl Into<Arc<Store>>) -> (Self, Handle) {
        let store = store.into();
        let (sender, inbox) = mpsc::channel(INBOX);
        let snapshot = state.snapshot();
        let (now_ms, steady_ms) = (state.clock.now_ms(), state.clock.steady_ms());
        let (metrics, pulse) = (Arc::new(Metrics::new(now_ms)), Arc::new(Pulse::new(steady_ms)));
        let recorder = Recorder::new(metrics.clone(), &snapshot.view, store.bytes());
        let (publisher, published) = watch::channel(Arc::new(snapshot));
        let events = Arc::new(EventLog::new(now_ms));
        let audit = store.audit();
        let shared = Arc::downgrade(&store);
        let actor = Self {
            state,
            disk: WatchedStore { store, recorder, pulse: pulse.clone() },
            sockets: HashMap::new(),
            inbox,
            published: publisher,
            events: events.clone(),
            log_budget: LogBudget::default(),
            uses_stored_at: steady_ms,
            time_passes: true,
        };
        (actor, Handle { inbox: sender, published, metrics, pulse, events, audit, store: shared })
    }

    /// Runs until `stop` is cancelled. Commits block, so it needs a thread of its own.
    ///
    /// # Errors
    /// Returns the error of the first commit that fails: memory is then ahead of the disk, so the hub must end and
    /// start again from the disk.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), StoreError> {
        let ended = self.rounds(&stop).await;
        if ended.is_err() {
            // Before the queues of the sockets are dropped with the actor, which would look like slow peers.
            stop.cancel();
        }
        ended
    }

    async fn rounds(&mut self, stop: &CancellationToken) -> Result<(), StoreError> {
        let mut batch = Vec::with_capacity(BATCH);
        let mut inventory_stored_at = self.state.clock.steady_ms();
        loop {
            // 1. Wait.
            let wait_ms = self.deadline().map_or(LONGEST_SLEEP_MS, |at| at.saturating_sub(self.state.clock.now_ms()));
            let sleep = tokio::time::sleep(Duration::from_millis(wait_ms.min(LONGEST_SLEEP_MS)));
            tokio::select! {
                () = stop.cancelled() => {}
                _ = self.inbox.recv_many(&mut batch, BATCH) => {}
                () = sleep => {}
            }
            self.state.follow_clock().into_iter().for_each(ClockMove::log);
            let (now, steady) = (self.state.clock.now_ms(), self.state.clock.steady_ms());
            // Checked after receiving: sockets that close because the hub stops must not look like agents that left.
            if stop.is_cancelled() {
                match self.store_inventory(Flush::Last, now) {
                    Err(error) if !matches!(error, StoreError::TakenAway { .. }) => {
                        tracing::warn!(%error, "when agents came and went last could not be stored; nothing else is lost");
                    }
                    Ok(()) | Err(_) => {}
                }
                return self.disk.store.check();
            }
            // 2. Apply.
            self.disk.pulse.round(steady);
            let answers: Vec<Answer> = batch.drain(..).filter_map(|message| self.handle(message, now)).collect();
            if self.deadline().is_some_and(|at| at <= now) {
                self.state.tick(now);
            }
            // 3. Store.
            let mut aside = self.state.take_aside();
            // No request waits for these.
            if answers.is_empty() && steady.saturating_sub(self.uses_stored_at) >= USES_STORED_EVERY_MS {
                aside.tokens.extend(self.state.tokens.take_used(USES_AT_ONCE));
                if aside.tokens.len() < USES_AT_ONCE {
                    self.uses_stored_at = steady;
                }
            }
            let (presence, news) = (self.state.take_presence(), self.state.take_news());
            let outgoing = self.state.take_outgoing();
            aside.speaks = !answers.is_empty() || !outgoing.is_empty();
            let changes = self.state.scheduler.take_changes();
            self.disk.commit(&self.published.borrow().view, &changes, &aside)?;
            log_changes(&changes, &mut self.log_budget, now, steady);
            news.log(&mut self.log_budget, steady);
            let events = events_of(&changes, presence);
            self.log_revocations(steady);
            // 4. Publish.
            self.published.send_replace(Arc::new(self.state.snapshot()));
            self.events.add(events.into_iter().chain(news.events()));
            // 5. Send.
            for outgoing in outgoing {
                self.send_to_socket(outgoing);
            }
            // 6. Answer.
            for answer in answers {
                answer();
            }
            for (kind, lines) in self.log_budget.end_window(steady) {
                tracing::info!(kind, lines, "more of the same in the last 10 s, not logged one by one");
            }
            // 7. Store what has time.
            let waited_ms = steady.saturating_sub(inventory_stored_at);
            if waited_ms >= INVENTORY_LATEST_MS || (waited_ms >= INVENTORY_PAUSE_MS && self.inbox.is_empty()) {
                inventory_stored_at = steady;
                self.store_inventory(Flush::Part, now)?;
            }
        }
    }

    fn deadline(&self) -> Option<u64> {
        if self.time_passes { self.state.deadline() } else { None }
    }

    /// Stores a part of what agents did by coming, going and reporting, or all of it.
    fn store_inventory(&mut self, part: Flush, now_ms: u64) -> Result<(), StoreError> {
        match self.state.scheduler.flush_inventory(part, now_ms) {
            true => {
                let aside = StateChanges { clock: Some(self.state.clock.mark()), ..StateChanges::default() };
                let (before, changes) = (self.published.borrow(), self.state.scheduler.take_changes());
                self.disk.commit(&before.view, &changes, &aside)
            }
            false => Ok(()),
        }
    }

    fn handle(&mut self, (sent_at, message): Sent, now_ms: u64) -> Option<Answer> {
        self.disk.recorder.handled_after(sent_at.elapsed());
        self.apply(message, now_ms)
    }

    fn apply(&mut self, message: Message, now_ms: u64) -> Option<Answer> {
        match message {
            Message::Identify { conn, identify, address, socket, reply } => {
                let result = self.identify(conn, &identify, &address, socket, now_ms);
                return Some(Box::new(move || {
                    // The socket may have closed meanwhile; its task then reports that itself.
                    let _ = reply.send(result);
                }));
            }
            Message::Frame(conn, frame) => self.state.scheduler.frame_received(conn, frame, now_ms),
            Message::Written(command_id) => self.state.scheduler.delivered(&command_id, now_ms),
            Message::Gone(conn, closing) => {
                self.sockets.remove(&conn);
                self.state.gone(conn, &closing, now_ms);
            }
            Message::Used(token) => self.state.tokens.note_use(&token, now_ms),
            Message::Ask(question) => return Some(question(&mut self.state, now_ms)),
        }
        None
    }

    fn identify(
        &mut self,
        conn: ConnId,
        identify: &Identify,
        address: &str,
        socket: outbox::Sender<ToSocket>,
        now_ms: u64,
    ) -> Result<(), IdentifyRefused> {
        let is_commanded = self.state.scheduler.restarts().awaits_return(&identify.agent_id);
        let conflict = self.state.identify(conn, identify, address, now_ms)?;
        self.sockets.insert(conn, socket);
        // Of two that use one identity, neither has ended.
        if conflict.is_none() {
            self.disk.recorder.identified(identify, is_commanded);
        }
        if let Some(IdentityConflict { older, newer, refused, is_logged: true }) = conflict
            && self.log_budget.permits("identity_conflict", self.state.clock.steady_ms())
        {
            let agent_id = &identify.agent_id;
            let outcome =
                if refused { "the newer one is refused" } else { "the newer one takes the older one's place" };
            tracing::warn!(
                agent_id,
                older,
                newer,
                "two sidecars use one identity: {outcome}; stop one of them, or onboard it under a name of its own"
            );
        }
        Ok(())
    }

    fn log_revocations(&mut self, steady_ms: u64) {
        for Revocation { name, why, tokens, connections } in self.state.take_revocations() {
            if !self.log_budget.permits("revoked_tokens", steady_ms) {
                continue;
            }
            match why {
                WhyWorthless::Expired => tracing::info!(name, connections, "a token has expired"),
                WhyWorthless::Revoked => tracing::info!(name, revoked = tokens, connections, "tokens are revoked"),
                WhyWorthless::Unclaimed => {
                    tracing::info!(name, "an agent registered openly and never used its token: it is dropped")
                }
            }
        }
    }

    fn send_to_socket(&mut self, outgoing: Outgoing) {
        let (conn, bytes, order) = match outgoing {
            Outgoing::Frame { conn, text, receipt } => (conn, text.len(), ToSocket::Frame(text, receipt)),
            Outgoing::Close { conn, code, reason } => (conn, reason.len(), ToSocket::Close(code, reason)),
        };
        let Some(socket) = self.sockets.get(&conn) else { return };
        if socket.try_send(order, bytes).is_err() {
            // The queue is full: the peer does not read. Dropping this sender ends the socket's task, which reports
            // the connection as closed.
            if self.log_budget.permits("slow_socket", self.state.clock.steady_ms()) {
                tracing::warn!(conn, "a socket does not keep up and is closed");
            }
            self.sockets.remove(&conn);
        }
    }
}

/// Returns what is told of what was stored, and of the agents that came or went.
fn events_of(changes: &Changes<'_>, presence: Vec<(Arc<str>, bool)>) -> Vec<(&'static str, JsonText)> {
    let agents = presence
        .into_iter()
        .map(|(agent_id, connected)| ("agent", JsonText::of(&json!({"agent_id": agent_id, "connected": connected}))));
    let tasks = changes.tasks.iter().filter_map(|(task_id, task)| {
        let task = (*task)?;
        let (status, agent_id) = (task.status.name(), task.holder());
        let told = json!({"task_id": task_id, "status": status, "agent_id": agent_id, "generation": task.generation});
        Some(("task", JsonText::of(&told)))
    });
    let restarts = changes.restarts.iter().filter_map(|(command_id, restart)| {
        let restart = (*restart)?;
        let step = restart.steps.last().map(|step| step.step.as_str());
        let (agent_id, state, gap_ms) = (&restart.agent_id, restart.phase.name(), restart.gap_ms);
        let told =
            json!({"command_id": command_id, "agent_id": agent_id, "state": state, "open": restart.phase.is_open(), "step": step, "gap_ms": gap_ms});
        Some(("restart", JsonText::of(&told)))
    });
    let rollouts = changes.rollouts.iter().filter_map(|(rollout_id, rollout)| {
        let rollout = (*rollout)?;
        let moved =
            changes.targets.iter().filter_map(|(_, target)| (*target).filter(|it| *it.rollout_id == **rollout_id));
        Some(("rollout", JsonText::of(&rollout.news(moved))))
    });
    agents.chain(tasks).chain(restarts).chain(rollouts).collect()
}

/// Logs what was stored: restarts and dead letters as far as the budget goes, tasks at debug level.
fn log_changes(changes: &Changes<'_>, budget: &mut LogBudget, now_ms: u64, steady_ms: u64) {
    for (command_id, restart) in &changes.restarts {
        let Some(restart) = restart else { continue };
        let state = restart.phase.name();
        if budget.permits(state, steady_ms) {
            let step = restart.steps.last().map_or("", |step| step.step.as_str());
            let agent_id = &restart.agent_id;
            tracing::info!(%command_id, %agent_id, state, step, gap_ms = restart.gap_ms, "restart");
        }
    }
    for (rollout_id, rollout) in &changes.rollouts {
        let Some(rollout) = rollout.filter(|rollout| rollout.since == now_ms) else { continue };
        let (state, failed) = (rollout.state.to_string(), rollout.counts.failed);
        let (wave, size) = (rollout.wave, rollout.size);
        match rollout.state {
            _ if !budget.permits("rollout", steady_ms) => {}
            RolloutState::Halted { .. } => {
                tracing::warn!(%rollout_id, state, wave, size, failed, "a rollout has halted")
            }
            RolloutState::Canary
            | RolloutState::Running
            | RolloutState::Paused
            | RolloutState::Succeeded
            | RolloutState::Partial
            | RolloutState::Cancelled => tracing::info!(%rollout_id, state, wave, size, failed, "rollout"),
        }
    }
    for (task_id, task) in &changes.tasks {
        let Some(task) = task else { continue };
        let status = task.status.name();
        if task.status == Status::DeadLetter && budget.permits(status, steady_ms) {
            tracing::warn!(%task_id, error = task.last_error, losses = task.losses, "a task is a dead letter");
        }
        tracing::debug!(%task_id, status, agent_id = task.holder(), generation = task.generation, "task");
    }
}
