//! What the simulated hub, the agent's side and the driver have in common, and the judge of every frame. One seed has one;
//! everything in it runs on one thread, in an order that the seed decides.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agentcom::hub::desk::{Desk, Say};
use agentcom::hub::policy::Policy;
use agentcom::hub::restart::{Phase, Restart, RestartRequest};
use agentcom::hub::task::{Priority, Status, Submission, Task};
use agentcom::wire::SidecarFrame;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use crate::support::legacy_hub::core::{Core, Out};
use crate::support::legacy_hub::options::Options;
use crate::support::legacy_hub::tasks as legacy;

pub const AGENT: &str = "alice";
/// How long a connection that the existing hub has forgotten lives on.
const FORGOTTEN_MS: u64 = 4_000;

pub const TOKEN: &str = "token-of-alice";

/// A stream of numbers that its seed decides (splitmix64).
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low)
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }
}

pub enum Order {
    Say(String, Option<String>),
    Close(u16, String),
    Drop,
}

/// The rules: the shipped hub's desk with what it stored, or the existing hub's.
pub enum Rules {
    Ours { desk: Box<Desk>, tasks: BTreeMap<String, Task>, restarts: BTreeMap<String, Restart> },
    Legacy(Box<Core>),
}

#[derive(Default, Clone, Copy, Debug)]
pub struct Counts {
    pub seeds: u64,
    pub frames: u64,
    pub restarts: u64,
    pub sidecar_crashes: u64,
    pub hub_crashes: u64,
    pub faults: u64,
    pub tasks: u64,
    pub wakes: u64,
    pub rewakes: u64,
    pub ends: u64,
    pub forgotten: u64,
}

#[derive(Default)]
struct Connection {
    boot: String,
}

pub struct Shared {
    pub now: u64,
    pub rng: Rng,
    pub rules: Rules,
    pub orders: BTreeMap<u64, mpsc::UnboundedSender<Order>>,
    pub connections: u64,
    pub slow_until: u64,
    pub digest: u64,
    pub counts: Counts,
    pub violations: Vec<String>,
    pub story: Vec<String>,
    /// When each session shows itself, and when it is done.
    pub started: BTreeMap<String, u64>,
    pub results: BTreeMap<String, u64>,
    pub boots: Vec<String>,
    newest: u64,
    pub submitted: Vec<String>,
    known: BTreeMap<u64, Connection>,
    verdicts: BTreeMap<(String, u64), String>,
    /// The processes that have said their last words.
    announced: BTreeSet<String>,
    /// By task and generation: whether the last wake is known to have failed.
    wakes: BTreeMap<(String, u64), bool>,
    /// Not done before there have been more processes than so many.
    pub await_boots: usize,
    /// Since when the existing hub has had a connection on which it hands nothing out.
    forgotten: Option<(u64, u64)>,
}

pub type World = Arc<Mutex<Shared>>;

pub fn lock(world: &World) -> MutexGuard<'_, Shared> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn policy() -> Policy {
    Policy {
        accept_timeout_ms: 5_000,
        stale_timeout_ms: 15_000,
        reconcile_ms: 1_000,
        reject_retry_ms: 1_000,
        restart_deadline_ms: 3_000,
        drain_deadline_ms: 1_000,
        restart_margin_ms: 5_000,
        silence_timeout_ms: 5_000,
        ..Policy::default()
    }
}

impl Shared {
    pub fn new(seed: u64, now: u64) -> Self {
        let rules = if seed.is_multiple_of(3) {
            let options = Options {
                acceptance_ms: 5_000,
                silence_ms: Some(5_000),
                evict_after_ms: None,
                stuck_after_ms: Some(15_000),
                cooldowns_ms: [1_000, 2_000, 3_000],
                ..Options::default()
            };
            let mut core = Core::new(options);
            core.register(AGENT, TOKEN);
            Rules::Legacy(Box::new(core))
        } else {
            let desk = Box::new(Desk::load(Vec::new(), Vec::new(), policy(), now));
            Rules::Ours { desk, tasks: BTreeMap::new(), restarts: BTreeMap::new() }
        };
        Self {
            now,
            rng: Rng(seed),
            rules,
            orders: BTreeMap::new(),
            connections: 0,
            slow_until: 0,
            digest: 0xcbf2_9ce4_8422_2325,
            counts: Counts { seeds: 1, ..Counts::default() },
            violations: Vec::new(),
            story: Vec::new(),
            started: BTreeMap::new(),
            results: BTreeMap::new(),
            boots: Vec::new(),
            newest: 0,
            submitted: Vec::new(),
            known: BTreeMap::new(),
            verdicts: BTreeMap::new(),
            announced: BTreeSet::new(),
            wakes: BTreeMap::new(),
            await_boots: 0,
            forgotten: None,
        }
    }

    /// Stores what changed, then says what is to be said.
    pub fn flush(&mut self) {
        let mut out = Vec::new();
        match &mut self.rules {
            Rules::Ours { desk, tasks, restarts } => {
                let changes = desk.take_changes();
                for (id, task) in changes.tasks {
                    match task {
                        Some(task) => drop(tasks.insert(id, task.clone())),
                        None => drop(tasks.remove(&id)),
                    }
                }
                for (id, restart) in changes.restarts {
                    match restart {
                        Some(restart) => {
                            let before = restarts.insert(id.clone(), restart.clone()).map(|before| before.phase);
                            let late = (Some(Phase::Overdue), Phase::Back);
                            if before.is_some_and(|before| !before.is_open() && before != restart.phase)
                                && (before, restart.phase) != late
                            {
                                let two = format!("{id} ended twice: {before:?}, then {:?}", restart.phase);
                                self.violations.push(two);
                            }
                        }
                        None => drop(restarts.remove(&id)),
                    }
                }
                out.extend(desk.take_says().into_iter().map(|say| match say {
                    Say::Frame { conn, text, receipt } => (conn, Order::Say(text, receipt)),
                    Say::Close { conn, code, reason } => (conn, Order::Close(code, reason.to_owned())),
                }));
            }
            Rules::Legacy(core) => out.extend(core.take_outs().into_iter().map(|out| match out {
                Out::Say(conn, frame) => (conn, Order::Say(frame.to_string(), None)),
                Out::Close(conn, code, reason) => (conn, Order::Close(code, reason)),
                Out::Drop(conn) => (conn, Order::Drop),
            })),
        }
        for (conn, order) in out {
            if let Some(orders) = self.orders.get(&conn) {
                // A connection that ended meanwhile hears nothing.
                let _ = orders.send(order);
            }
        }
    }

    pub fn opened(&mut self, conn: u64, orders: mpsc::UnboundedSender<Order>) {
        self.orders.insert(conn, orders);
        if let Rules::Legacy(core) = &mut self.rules {
            core.opened(conn, self.now);
        }
    }

    pub fn closed(&mut self, conn: u64) {
        if self.orders.remove(&conn).is_none() {
            return;
        }
        match &mut self.rules {
            Rules::Ours { desk, .. } => desk.disconnected(conn, self.now),
            Rules::Legacy(core) => core.closed(conn, self.now),
        }
        self.flush();
    }

    /// The hub's process dies: what was stored stays.
    pub fn hub_dies(&mut self) {
        self.orders.clear();
        match &mut self.rules {
            Rules::Ours { desk, tasks, restarts } => {
                let (tasks, restarts) = (tasks.values().cloned().collect(), restarts.values().cloned().collect());
                **desk = Desk::load(tasks, restarts, policy(), self.now);
            }
            Rules::Legacy(core) => (1..=self.connections).for_each(|conn| core.closed(conn, self.now)),
        }
        self.flush();
    }

    pub fn tick(&mut self) {
        match &mut self.rules {
            Rules::Ours { desk, .. } => desk.tick(self.now),
            Rules::Legacy(core) => {
                core.tick(self.now);
                if let Some(conn) = core.forgotten(AGENT).filter(|conn| self.orders.contains_key(conn)) {
                    let (_, since) = *self
                        .forgotten
                        .insert(self.forgotten.filter(|(forgotten, _)| *forgotten == conn).unwrap_or((conn, self.now)));
                    // Granted: at last such a connection is lost. The existing hub itself would leave it so for ever.
                    if self.now >= since + FORGOTTEN_MS
                        && let Some(orders) = self.orders.get(&conn)
                    {
                        self.counts.forgotten += 1;
                        self.forgotten = None;
                        // A connection that is ending needs no order.
                        let _ = orders.send(Order::Drop);
                    }
                }
            }
        }
        self.flush();
    }

    pub fn submit(&mut self) {
        let id = format!("task-{}", self.submitted.len() + 1);
        self.submitted.push(id.clone());
        self.counts.tasks += 1;
        self.note(&format!("submit {id}"));
        match &mut self.rules {
            Rules::Ours { desk, .. } => {
                let submission = Submission {
                    description: "work".into(),
                    metadata: Map::new(),
                    priority: Priority::Normal,
                    max_retries: 3,
                    needed_capabilities: Vec::new(),
                    extra: Map::new(),
                    submitted_by: "operator".into(),
                };
                desk.submit(id, submission, self.now);
            }
            Rules::Legacy(core) => core.submit(legacy::Task::new(&id, "work"), self.now),
        }
        self.flush();
    }

    pub fn command_restart(&mut self, force: bool) {
        self.note(&format!("command a restart, force {force}"));
        match &mut self.rules {
            Rules::Ours { desk, restarts, .. } => {
                let id = format!("c{}", restarts.len() + 1);
                let request =
                    RestartRequest { reason: "why".into(), deadline_ms: Some(3_000), force, by: "operator".into() };
                desk.command_restart(id, AGENT, request, self.now);
            }
            Rules::Legacy(core) => drop(core.restart(AGENT, "why")),
        }
        self.flush();
    }

    /// What has not come to its end yet.
    pub fn unfinished(&self) -> Vec<String> {
        let no_run = (self.boots.len() < self.await_boots).then(|| "no new run has come".to_owned());
        match &self.rules {
            Rules::Ours { desk, tasks, restarts } => {
                let tasks = tasks.values().filter(|task| !task.status.is_final());
                let open = restarts.values().filter(|restart| restart.phase.is_open());
                let away = (desk.connected_count() == 0).then(|| "the agent is not connected".to_owned());
                tasks
                    .map(|task| format!("{} is {} {:?}", task.id, task.status.name(), task.generation))
                    .chain(open.map(|restart| format!("{} is {}", restart.command_id, restart.phase.name())))
                    .chain(away)
                    .chain(no_run)
                    .collect()
            }
            Rules::Legacy(core) => {
                let open = |id: &&String| {
                    let status = core.tasks.get(id).map(|task| task.status);
                    !matches!(status, Some(legacy::Status::Completed | legacy::Status::DeadLetter))
                };
                let lost = core.registered(AGENT).is_none() || core.forgotten(AGENT).is_some();
                let away = lost.then(|| "the agent is not connected".to_owned());
                self.submitted.iter().filter(open).map(|id| format!("{id} is open")).chain(away).chain(no_run).collect()
            }
        }
    }

    /// How often each task was completed in the hub's own books, judged at the end.
    pub fn judge_the_end(&mut self) {
        let times: Vec<(String, usize, bool)> = match &self.rules {
            Rules::Ours { tasks, .. } => self
                .submitted
                .iter()
                .map(|id| match tasks.get(id) {
                    Some(task) => {
                        let times = task.history.iter().filter(|entry| entry.event == "completed").count();
                        (id.clone(), times, task.status == Status::DeadLetter)
                    }
                    None => (id.clone(), 0, false),
                })
                .collect(),
            Rules::Legacy(core) => self
                .submitted
                .iter()
                .map(|id| match core.tasks.get(id) {
                    Some(task) => {
                        let times = task.history.iter().filter(|(_, what, _)| *what == "completed").count();
                        (id.clone(), times, task.status == legacy::Status::DeadLetter)
                    }
                    None => (id.clone(), 0, false),
                })
                .collect(),
        };
        if let Rules::Ours { restarts, .. } = &self.rules {
            self.counts.ends += restarts.len() as u64;
        }
        for (id, times, dead) in times {
            if times != usize::from(!dead) {
                self.violations.push(format!("{id} was completed {times} times, dead letter: {dead}"));
            }
        }
    }

    /// A wake begins: no hand-out is woken twice unless the last wake is known to have failed.
    pub fn woken(&mut self, task_id: &str, generation: u64) {
        self.counts.wakes += 1;
        match self.wakes.insert((task_id.to_owned(), generation), false) {
            None => {}
            Some(true) => self.counts.rewakes += 1,
            Some(false) => self.violations.push(format!("{task_id} was woken twice for generation {generation}")),
        }
    }

    /// The sidecar was told that the wake failed.
    pub fn wake_failed(&mut self, task_id: &str, generation: u64) {
        self.wakes.insert((task_id.to_owned(), generation), true);
    }

    pub fn note(&mut self, what: &str) {
        let line = format!("{:>6} {what}", self.now % 10_000_000);
        for byte in line.bytes() {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.story.push(line);
    }

    fn frame(&mut self, conn: u64, arrow: &str, text: &str) {
        let mut shown: Value = serde_json::from_str(text).unwrap_or(Value::Null);
        if let Some(frame) = shown.as_object_mut() {
            // The real memory and age of the test's process are no part of the simulated world.
            frame.remove("pm2_info");
        }
        self.counts.frames += 1;
        self.note(&format!("#{conn} {arrow} {shown}"));
    }

    pub fn said(&mut self, conn: u64, text: &str) {
        self.frame(conn, "<-", text);
    }

    pub fn written(&mut self, receipt: Option<String>) {
        if let (Rules::Ours { desk, .. }, Some(command_id)) = (&mut self.rules, receipt) {
            desk.delivered(&command_id, self.now);
            self.flush();
        }
    }

    /// A frame of the sidecar: judged, then given to the hub.
    pub fn heard(&mut self, conn: u64, text: &str) {
        self.frame(conn, "->", text);
        let frame = match SidecarFrame::parse(text) {
            Ok(frame) => frame,
            Err(error) => return self.violations.push(format!("{error}: {text}")),
        };
        self.judge(conn, &frame);
        match &mut self.rules {
            Rules::Ours { desk, .. } => {
                if let SidecarFrame::Identify(identify) = &frame {
                    desk.identified(conn, identify, self.now);
                } else {
                    desk.heard(conn, frame, self.now);
                }
            }
            Rules::Legacy(core) => core.said(conn, text, self.now),
        }
        self.flush();
    }

    fn judge(&mut self, conn: u64, frame: &SidecarFrame) {
        let known = self.known.entry(conn).or_default();
        match frame {
            SidecarFrame::Identify(identify) => {
                known.boot = identify.boot_id.clone().unwrap_or_default();
                // What a process that is gone left in a slow hub's inbox may be read after the next one's words.
                if conn > self.newest {
                    self.newest = conn;
                    if self.boots.last() != Some(&known.boot) {
                        if self.boots.contains(&known.boot) {
                            self.violations.push(format!("the run {} came back after another", known.boot));
                        }
                        self.boots.push(known.boot.clone());
                    }
                }
            }
            SidecarFrame::AgentRestarting(_) => {
                self.counts.restarts += 1;
                if !self.announced.insert(known.boot.clone()) {
                    self.violations.push(format!("the run {} announced its end twice", known.boot));
                }
            }
            SidecarFrame::TaskAccepted { .. } | SidecarFrame::TaskComplete(_) | SidecarFrame::TaskFailed { .. }
                if self.announced.contains(&known.boot) =>
            {
                self.violations.push(format!("{frame:?} after the announcement"));
            }
            SidecarFrame::TaskComplete(verdict) => {
                let said = json!([verdict.result]).to_string();
                self.verdict(verdict.task_id.clone(), verdict.generation, said);
            }
            SidecarFrame::TaskFailed { task_id, generation, reason, error } => {
                let said = json!([reason, error]).to_string();
                self.verdict(task_id.clone(), *generation, said);
            }
            // These promise nothing that is judged here.
            SidecarFrame::Ping {}
            | SidecarFrame::Status { .. }
            | SidecarFrame::TaskAccepted { .. }
            | SidecarFrame::TaskRejected { .. }
            | SidecarFrame::TaskProgress { .. }
            | SidecarFrame::TaskRecovering { .. }
            | SidecarFrame::StateReport { .. }
            | SidecarFrame::WakeResult { .. }
            | SidecarFrame::ResourceReport { .. }
            | SidecarFrame::Cordon { .. }
            | SidecarFrame::RestartAck(_) => {}
        }
    }

    fn verdict(&mut self, task_id: String, generation: u64, said: String) {
        let before = self.verdicts.entry((task_id.clone(), generation)).or_insert_with(|| said.clone());
        if *before != said {
            let two = format!("two verdicts on {task_id} generation {generation}: {before} and {said}");
            self.violations.push(two);
        }
    }
}

impl Counts {
    pub fn add(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.frames += other.frames;
        self.restarts += other.restarts;
        self.sidecar_crashes += other.sidecar_crashes;
        self.hub_crashes += other.hub_crashes;
        self.faults += other.faults;
        self.tasks += other.tasks;
        self.wakes += other.wakes;
        self.rewakes += other.rewakes;
        self.ends += other.ends;
        self.forgotten += other.forgotten;
    }
}
