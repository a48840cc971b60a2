//! What the existing hub decides: who is who, who has which task under which generation, what is answered. It is handed
//! the time and every frame, and hands back what to say; it owns no socket, so a recorded conversation can be replayed
//! through it in no time at all.
//!
//! Three tables that the existing hub keeps apart are kept apart here, since its oddities come from that: the *registry*
//! (which socket an agent is pushed to: the oldest that lives), the *presence* (what `/api/agents` shows: gone as soon as
//! any socket of the agent closes) and the *worker* (its state machine for the agent: follows the newest socket).

mod answers;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::limits::{Buckets, Cooldowns, Violations};
use super::options::{OnReturn, Options};
use super::tasks::{Task, Tasks};

/// Names a connection, counted from 1.
pub type ConnectionId = u64;

/// What is to be done on a connection.
#[derive(Debug, Clone, PartialEq)]
pub enum Out {
    Say(ConnectionId, Value),
    Close(ConnectionId, u16, String),
    /// Without a close frame.
    Drop(ConnectionId),
}

struct Connection {
    agent: Option<String>,
    /// Every `identify` on it subscribes it once more: presence is pushed to it so often.
    subscriptions: usize,
    violations: Violations,
    heard_ms: u64,
}

struct Presence {
    status: String,
    pinged_ms: u64,
    card: Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    Idle,
    Assigned,
    Working,
}

struct Worker {
    connection: ConnectionId,
    doing: Doing,
    task: Option<String>,
    accept_by_ms: Option<u64>,
    capabilities: BTreeSet<String>,
    /// Set from `identify` until the agent has asked after its task, or a while has passed ([`OnReturn`]).
    hold_until_ms: Option<u64>,
    held: Vec<String>,
}

/// The hub without its sockets.
pub struct Core {
    pub options: Options,
    pub tasks: Tasks,
    tokens: BTreeMap<String, String>,
    connections: BTreeMap<ConnectionId, Connection>,
    registry: BTreeMap<String, ConnectionId>,
    presence: BTreeMap<String, Presence>,
    workers: BTreeMap<String, Worker>,
    cooldowns: Cooldowns,
    buckets: Buckets,
    /// When the scheduler will have learned of the last verdict.
    schedule_at_ms: Option<u64>,
    outs: Vec<Out>,
}

impl Core {
    pub fn new(options: Options) -> Self {
        Self {
            options,
            tasks: Tasks::default(),
            tokens: BTreeMap::new(),
            connections: BTreeMap::new(),
            registry: BTreeMap::new(),
            presence: BTreeMap::new(),
            workers: BTreeMap::new(),
            cooldowns: Cooldowns::default(),
            buckets: Buckets::default(),
            schedule_at_ms: None,
            outs: Vec::new(),
        }
    }

    /// What is to be said and done since the last call, in order.
    pub fn take_outs(&mut self) -> Vec<Out> {
        std::mem::take(&mut self.outs)
    }

    /// Gives the agent this token, in addition to those it has.
    pub fn register(&mut self, agent: &str, token: &str) {
        self.tokens.insert(token.to_owned(), agent.to_owned());
    }

    /// The connection that this agent's pushes go to.
    pub fn registered(&self, agent: &str) -> Option<ConnectionId> {
        self.registry.get(agent).copied()
    }

    /// A living connection of the agent's that nothing is sent on, or nothing handed out on: an older one was heard after
    /// it and took its place. Only its end helps.
    pub fn forgotten(&self, agent: &str) -> Option<ConnectionId> {
        let registered = self.registered(agent);
        match self.workers.get(agent) {
            Some(worker) => Some(worker.connection).filter(|connection| registered != Some(*connection)),
            None => registered,
        }
    }

    /// Whether the hub would hand the agent a task.
    pub fn is_idle(&self, agent: &str) -> bool {
        self.workers.get(agent).is_some_and(|worker| worker.doing == Doing::Idle)
    }

    /// Whether a task is queued that somebody free could do, but that nobody is offered before something else happens: a
    /// new task, a verdict, an agent that comes or goes.
    pub fn overlooks_a_task(&self, now: u64) -> bool {
        let queued = self.tasks.queued();
        self.schedule_at_ms.is_none() && queued.iter().any(|task| self.free_worker(task, now).is_some())
    }

    /// The agent that identified on this connection.
    pub fn agent_of(&self, connection: ConnectionId) -> Option<String> {
        self.connections.get(&connection)?.agent.clone()
    }

    /// The status that `/api/agents` would show, if it showed the agent.
    pub fn presence_status(&self, agent: &str) -> Option<String> {
        Some(self.presence.get(agent)?.status.clone())
    }

    pub fn opened(&mut self, connection: ConnectionId, now: u64) {
        let fresh = Connection { agent: None, subscriptions: 0, violations: Violations::default(), heard_ms: now };
        self.connections.insert(connection, fresh);
    }

    /// The hub notices that a connection is gone.
    pub fn closed(&mut self, connection: ConnectionId, now: u64) {
        let Some(Connection { agent: Some(agent), .. }) = self.connections.remove(&connection) else { return };
        if self.registry.get(&agent) == Some(&connection) {
            self.registry.remove(&agent);
        }
        self.presence.remove(&agent);
        self.broadcast(&json!({"type": "agent_left", "agent_id": agent}), None);
        if self.schedule_at_ms.take().is_some() {
            self.schedule(now);
        }
        if self.workers.get(&agent).is_some_and(|worker| worker.connection == connection)
            && let Some(worker) = self.workers.remove(&agent)
        {
            for task in worker.task.iter().chain(&worker.held) {
                self.tasks.take_back(task, now);
            }
            self.schedule(now);
        }
    }

    /// The hub's process dies and a new one starts: tasks and tokens are on disk, nothing else is. Nobody takes a task
    /// back: who had one has it, under the same generation, and at its return a new acceptance timer begins.
    pub fn crashed(&mut self) {
        let (options, tokens) = (self.options.clone(), std::mem::take(&mut self.tokens));
        let tasks = std::mem::take(&mut self.tasks);
        *self = Self { tokens, tasks, ..Self::new(options) };
    }

    /// Lets time pass: everything that a timer of the hub does.
    pub fn tick(&mut self, now: u64) {
        self.release_held(now);
        if self.schedule_at_ms.take_if(|at| *at <= now).is_some() {
            self.schedule(now);
        }
        self.acceptance_timers(now);
        if self.tasks.take_back_overdue(now) {
            self.schedule(now);
        }
        if let Some(limit) = self.options.stuck_after_ms
            && self.tasks.take_back_stuck(limit, now)
        {
            self.schedule(now);
        }
        if let Some(limit) = self.options.silence_ms {
            let silent = self.connections.iter().filter(|(_, c)| now.saturating_sub(c.heard_ms) >= limit);
            let silent: Vec<_> = silent.map(|(id, _)| *id).collect();
            for id in silent {
                self.outs.push(Out::Close(id, 1002, String::new()));
                self.closed(id, now);
            }
        }
        if let Some(limit) = self.options.evict_after_ms {
            let stale = self.presence.iter().filter(|(_, p)| now.saturating_sub(p.pinged_ms) > limit);
            let stale: Vec<_> = stale.map(|(agent, _)| agent.clone()).collect();
            for agent in stale {
                if let Some(id) = self.registered(&agent) {
                    self.outs.push(Out::Drop(id));
                    self.closed(id, now);
                }
                self.presence.remove(&agent);
            }
        }
    }

    /// A new task for whoever is free and able.
    pub fn submit(&mut self, task: Task, now: u64) {
        self.tasks.add(task, now);
        self.schedule(now);
    }

    /// A task pushed past the queue, as the hub's admin can: generation 0, no record of it. False when there is nobody
    /// to push it to.
    pub fn push_untracked(&mut self, agent: &str, task: Task, now: u64) -> bool {
        let Some(connection) = self.registered(agent) else { return false };
        self.hand_to_worker(agent, &task.id, now);
        self.say(connection, task.assignment(now));
        true
    }

    /// `POST /api/admin/agents/:id/restart`; false is its 404.
    pub fn restart(&mut self, agent: &str, reason: &str) -> bool {
        let Some(connection) = self.registered(agent) else { return false };
        self.say(connection, json!({"type": "restart_sidecar", "reason": reason}));
        true
    }

    /// Takes the task off the books and tells whoever had it.
    pub fn cancel(&mut self, task: &str, now: u64) {
        let Some(agent) = self.tasks.cancel(task) else { return };
        if let Some(worker) = self.workers.get_mut(&agent) {
            worker.rest();
        }
        if let Some(connection) = self.registered(&agent) {
            self.say(connection, json!({"type": "task_cancelled", "task_id": task}));
        }
        self.schedule(now);
    }

    /// A binary frame, or JSON that is no object: the hub's handler crashes on it.
    pub fn choke(&mut self, connection: ConnectionId, now: u64) {
        self.outs.push(Out::Close(connection, 1011, String::new()));
        self.closed(connection, now);
    }

    /// Any sign of life, a websocket ping too.
    pub fn heard(&mut self, connection: ConnectionId, now: u64) {
        if let Some(entry) = self.connections.get_mut(&connection) {
            entry.heard_ms = now;
        }
    }

    /// The agent has asked after its task: whatever [`OnReturn`] held back may come now.
    fn asked(&mut self, agent: &str, now: u64) {
        if let Some(worker) = self.workers.get_mut(agent)
            && worker.hold_until_ms.is_some()
        {
            worker.hold_until_ms = Some(now);
            self.release_held(now);
        }
    }

    fn release_held(&mut self, now: u64) {
        let mut pushes = Vec::new();
        let mut released = false;
        for (agent, worker) in &mut self.workers {
            if worker.hold_until_ms.is_some_and(|until| until <= now) {
                released = true;
                worker.hold_until_ms = None;
                pushes.extend(worker.held.drain(..).map(|task| (agent.clone(), task)));
            }
        }
        for (agent, task) in pushes {
            self.push(&agent, &task, now);
        }
        if released {
            self.schedule(now);
        }
    }

    fn acceptance_timers(&mut self, now: u64) {
        let mut late = Vec::new();
        for worker in self.workers.values_mut() {
            if worker.accept_by_ms.is_some_and(|by| by <= now) {
                late.extend(worker.task.take());
                worker.rest();
            }
        }
        // Where there is nothing to take back (its verdict came without an acceptance) nobody hears that the agent is idle.
        let taken_back = late.iter().filter(|task| self.tasks.take_back(task, now)).count();
        if taken_back > 0 {
            self.schedule(now);
        }
    }

    /// Pairs queued tasks with idle workers, oldest task first.
    fn schedule(&mut self, now: u64) {
        for task in self.tasks.queued() {
            let Some(agent) = self.free_worker(&task, now) else { continue };
            self.tasks.assign(&task, &agent, now);
            match self.workers.get_mut(&agent) {
                Some(worker) if worker.hold_until_ms.is_some() => worker.held.push(task),
                Some(_) | None => self.push(&agent, &task, now),
            }
        }
    }

    fn free_worker(&self, task: &str, now: u64) -> Option<String> {
        let hold = self.options.on_return == OnReturn::AfterReassign;
        self.workers.iter().find_map(|(agent, worker)| {
            let free =
                worker.doing == Doing::Idle && worker.held.is_empty() && !(hold && worker.hold_until_ms.is_some());
            let able = self.tasks.get(task).is_some_and(|t| t.suits(agent, &worker.capabilities));
            (free && able && !self.buckets.in_disgrace(agent, now)).then(|| agent.clone())
        })
    }

    /// To the registered socket, and to no other: with none, the task stays assigned and nobody hears of it.
    fn push(&mut self, agent: &str, task: &str, now: u64) {
        let Some(connection) = self.registered(agent) else { return };
        let Some(frame) = self.tasks.get(task).map(|known| known.assignment(now)) else { return };
        self.hand_to_worker(agent, task, now);
        self.say(connection, frame);
    }

    fn hand_to_worker(&mut self, agent: &str, task: &str, now: u64) {
        let accept_by = now + self.options.acceptance_ms;
        if let Some(worker) = self.workers.get_mut(agent).filter(|worker| worker.doing == Doing::Idle) {
            (worker.doing, worker.task, worker.accept_by_ms) =
                (Doing::Assigned, Some(task.to_owned()), Some(accept_by));
        }
    }

    /// To every identified socket, but those of one agent.
    fn broadcast(&mut self, push: &Value, except: Option<&str>) {
        if self.options.presence_pushes {
            let known = self.connections.iter().filter(|(_, c)| c.agent.is_some() && c.agent.as_deref() != except);
            let known: Vec<_> = known.flat_map(|(id, c)| std::iter::repeat_n(*id, c.subscriptions)).collect();
            for id in known {
                self.say(id, push.clone());
            }
        }
    }

    fn refuse(&mut self, connection: ConnectionId, error: &str) {
        self.say(connection, json!({"type": "error", "error": error}));
    }

    fn say(&mut self, connection: ConnectionId, frame: Value) {
        self.outs.push(Out::Say(connection, frame));
    }
}

impl Worker {
    fn rest(&mut self) {
        (self.doing, self.task, self.accept_by_ms) = (Doing::Idle, None, None);
    }
}
