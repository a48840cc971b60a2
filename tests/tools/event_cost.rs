//! What one event costs the hub, by the number of its agents, in two ways:
//!
//! - through the actor: a frame is read and checked, the actor applies it, stores it (on the disk of the temporary folder)
//!   and publishes the state. No ratio to 1,000 agents may be above 2.
//! - in memory: the same without the actor's thread and the disk, in batches of 16. What is left of these ratios is memory:
//!   of 100,000 agents none is in the processor's caches.
//!
//! `npm run bench:events` prints both; with `-- --judge` it exits 1 if a ratio through the actor is above 2.

#![allow(clippy::print_stdout, reason = "it prints a table")]
#![allow(clippy::unwrap_used, reason = "a bench that cannot set its stage has failed")]

use std::hint::black_box;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use agentcom::common::wall_clock::now_ms;
use agentcom::hub::actor::{Actor, Handle};
use agentcom::hub::hub_state::{HubState, Snapshot};
use agentcom::hub::scheduler::Scheduler;
use agentcom::hub::scheduler::agents::ConnId;
use agentcom::hub::scheduler::inventory::close::Closing;
use agentcom::hub::scheduler::policy::Policy;
use agentcom::hub::scheduler::restart::RestartRequest;
use agentcom::hub::scheduler::task::{Priority, Submission};
use agentcom::hub::state::roles::Role;
use agentcom::hub::state::settings::Settings;
use agentcom::hub::state::store::{Store, WithoutStore};
use agentcom::hub::state::tokens::{Principal, TokenSelector, Tokens};
use agentcom::protocol::schema::{Incoming, read_frame};
use agentcom::protocol::{
    FEATURE_TASK_REASSIGN, Identify, JsonFields, JsonText, Restarting, SidecarFrame, TaskCompletion,
};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

const SIZES: [usize; 3] = [1_000, 10_000, 100_000];
/// The largest ratio that is allowed.
const BAR: f64 = 2.0;
/// The number of events that the actor applies before it publishes the state: some arrive while it commits those before.
const BATCH: usize = 16;
/// The number of rounds; the least time of them counts, because the machine has other work at times.
const ROUNDS: usize = 5;
/// The number of events of each kind in a round, in memory and through the actor.
const EVENTS: usize = 2_000;
const ACTOR_EVENTS: usize = 200;

/// Where the state is.
enum Hub {
    Memory(Box<HubState>),
    Actor(Handle, Runtime, CancellationToken),
}

impl Drop for Hub {
    fn drop(&mut self) {
        if let Self::Actor(_, _, stop) = self {
            stop.cancel();
        }
    }
}

/// A hub with agents: every second one is idle, the others work. Every tenth can do `rare`, and works.
struct Fleet {
    hub: Hub,
    published: Snapshot,
    size: usize,
    tokens: Vec<String>,
    conns: Vec<ConnId>,
    next_conn: ConnId,
    next_task: u64,
    now_ms: u64,
    random: u64,
    /// The number of events in the present batch.
    waiting: usize,
    spent: Duration,
}

fn secret(n: usize) -> [u8; 32] {
    let mut secret = [0; 32];
    secret[..8].copy_from_slice(&n.to_le_bytes());
    secret
}

fn name(n: usize) -> String {
    format!("agent-{n:06}")
}

fn task(needed: &[&str]) -> Submission {
    Submission {
        description: "Write a function that adds two numbers, and a test for it.".to_owned(),
        metadata: JsonText::empty_object(),
        priority: Priority::Normal,
        max_retries: 3,
        needed_capabilities: needed.iter().map(|name| (*name).to_owned()).collect(),
        extra: JsonFields::default(),
        submitted_by: "ops".to_owned(),
        submitter_since: None,
    }
}

/// Does what the actor does once for a batch, but for the disk.
fn finish_batch(state: &mut HubState, now_ms: u64) -> Snapshot {
    if state.scheduler.deadline().is_some_and(|at| at <= now_ms) {
        state.scheduler.tick(now_ms);
    }
    black_box(state.take_aside());
    let changes = state.scheduler.take_changes();
    for (_, task) in &changes.tasks {
        black_box(serde_json::to_vec(task).unwrap());
    }
    for (_, restart) in &changes.restarts {
        black_box(serde_json::to_vec(restart).unwrap());
    }
    let published = state.snapshot();
    black_box(state.take_outgoing());
    published
}

impl Fleet {
    fn new(size: usize) -> Self {
        let mut tokens = Tokens::default();
        let principal = |n| Principal::new(&name(n), Role::Agent, 1);
        let texts = (0..size).map(|n| tokens.issue(secret(n), principal(n), true).unwrap()).collect();
        let scheduler = Scheduler::load(Vec::new(), Vec::new(), Policy::default(), now_ms());
        let state = HubState::new(scheduler, tokens, Settings::default(), Vec::new());
        let mut fleet = Self {
            published: state.snapshot(),
            hub: Hub::Memory(Box::new(state)),
            size,
            tokens: texts,
            conns: vec![0; size],
            next_conn: 1,
            next_task: 0,
            now_ms: now_ms(),
            random: 0x9e37_79b9_7f4a_7c15,
            waiting: 0,
            spent: Duration::ZERO,
        };
        for n in 0..size {
            fleet.join(n);
        }
        // Every second agent works: the tasks name it.
        for n in (1..size).step_by(2) {
            let mut submission = task(&[]);
            submission.extra.set("assign_to", &name(n));
            let id = fleet.submit(submission);
            fleet.hear(n, SidecarFrame::TaskAccepted { task_id: id, generation: None });
        }
        fleet
    }

    /// Picks an agent of any place, idle or not.
    fn any(&mut self) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random % self.size as u64).unwrap()
    }

    /// Hands the state to the real actor, with a store in this folder.
    fn start_actor(&mut self, folder: &Path) {
        if let Hub::Memory(state) = &mut self.hub {
            let empty = HubState::new(Scheduler::default(), Tokens::default(), Settings::default(), Vec::new());
            let state = std::mem::replace(&mut **state, empty);
            let runtime = Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
            let (actor, handle) = Actor::new(state, Store::open(folder, WithoutStore::Make).unwrap());
            let stop = CancellationToken::new();
            runtime.spawn(actor.run(stop.clone()));
            self.hub = Hub::Actor(handle, runtime, stop);
        }
    }

    /// Does what the hub does for an event, and adds up the time.
    fn step<T: Send + 'static>(&mut self, event: impl FnOnce(&mut HubState, u64) -> T + Send + 'static) -> T {
        self.now_ms += 1;
        let began = Instant::now();
        let result = match &mut self.hub {
            Hub::Actor(handle, runtime, _) => runtime.block_on(handle.ask(event)).unwrap(),
            Hub::Memory(state) => {
                let result = event(state, self.now_ms);
                self.waiting = (self.waiting + 1) % BATCH;
                if self.waiting == 0 {
                    self.published = finish_batch(state, self.now_ms);
                }
                result
            }
        };
        self.spent += began.elapsed();
        result
    }

    fn join(&mut self, n: usize) {
        let conn = self.next_conn;
        self.next_conn += 1;
        let mut capabilities = vec![JsonText::of("code")];
        if n % 10 == 1 {
            capabilities.push(JsonText::of("rare"));
        }
        let identify = Identify {
            agent_id: name(n),
            token: self.tokens[n].clone(),
            capabilities,
            client_type: Some("sidecar".to_owned()),
            boot_id: Some(format!("boot-{conn:016x}")),
            version: Some("0.1.0".to_owned()),
            features: vec![FEATURE_TASK_REASSIGN.to_owned()],
            ..Identify::default()
        };
        let text = SidecarFrame::Identify(Box::new(identify)).to_text();
        self.step(move |state, now_ms| match read_frame(&text).0 {
            Incoming::Frame(SidecarFrame::Identify(identify)) => {
                state.identify(conn, &identify, "10.0.0.1:50000", now_ms)
            }
            refused @ (Incoming::Frame(_) | Incoming::Ignored | Incoming::NotJson | Incoming::Invalid { .. }) => {
                panic!("{refused:?}")
            }
        })
        .unwrap();
        self.conns[n] = conn;
    }

    fn hear(&mut self, n: usize, frame: SidecarFrame) {
        let (conn, text) = (self.conns[n], frame.to_text());
        self.step(move |state, now_ms| match read_frame(&text).0 {
            Incoming::Frame(frame) => state.scheduler.frame_received(conn, frame, now_ms),
            refused @ (Incoming::Ignored | Incoming::NotJson | Incoming::Invalid { .. }) => panic!("{refused:?}"),
        });
    }

    fn submit(&mut self, submission: Submission) -> String {
        let id = format!("task-{:016x}", self.next_task);
        self.next_task += 1;
        let task_id = id.clone();
        self.step(move |state, now_ms| state.scheduler.submit(task_id, submission, now_ms));
        id
    }
}

/// One kind of event: its name, and one example of it. Whatever it changes, it or the next of its kind changes back.
type Kind = (&'static str, fn(&mut Fleet));

const KINDS: &[Kind] = &[
    ("status", |fleet| {
        let n = fleet.any();
        fleet.hear(n, SidecarFrame::Status { status: "reading".to_owned() });
    }),
    ("progress of a task", |fleet| {
        let n = fleet.any() | 1;
        let held = format!("task-{:016x}", n / 2);
        fleet.hear(n, SidecarFrame::TaskProgress { task_id: held, progress: Some(50), execution_event: None });
    }),
    ("a task from submission to completion", |fleet| {
        let id = fleet.submit(task(&["code"]));
        let wanted = id.clone();
        let holder = move |state: &mut HubState, _| state.scheduler.tasks().get(&wanted)?.holder().map(str::to_owned);
        let holder = fleet.step(holder).unwrap();
        let n: usize = holder["agent-".len()..].parse().unwrap();
        fleet.hear(n, SidecarFrame::TaskAccepted { task_id: id.clone(), generation: Some(1) });
        let done = TaskCompletion { task_id: id, generation: 1, result: None, rest: JsonFields::default() };
        fleet.hear(n, SidecarFrame::TaskComplete(done));
    }),
    ("a task that nobody idle can do, and its end", |fleet| {
        let id = fleet.submit(task(&["code", "rare"]));
        fleet.step(move |state, now_ms| state.scheduler.cancel(&id, "ops", now_ms)).unwrap();
    }),
    ("a restart from the command to the return", |fleet| {
        let n = fleet.any() & !1;
        let command = format!("restart-{:016x}", fleet.next_conn);
        let request =
            RestartRequest { reason: "update".to_owned(), deadline_ms: None, force: false, by: "ops".to_owned() };
        let (id, agent_id) = (command.clone(), name(n));
        fleet.step(move |state, now_ms| state.scheduler.command_restart(id, &agent_id, request, now_ms)).unwrap();
        let written = command.clone();
        fleet.step(move |state, now_ms| state.scheduler.delivered(&written, now_ms));
        let leaving = Restarting { reason: "update".to_owned(), command_id: Some(command), ..Restarting::default() };
        fleet.hear(n, SidecarFrame::AgentRestarting(leaving));
        let conn = fleet.conns[n];
        fleet.step(move |state, now_ms| state.gone(conn, &Closing::broken(), now_ms));
        fleet.join(n);
    }),
    ("a connection that breaks and is back", |fleet| {
        let n = fleet.any() & !1;
        let conn = fleet.conns[n];
        fleet.step(move |state, now_ms| state.gone(conn, &Closing::broken(), now_ms));
        fleet.join(n);
    }),
    ("a token that is made and revoked", |fleet| {
        let principal = Principal::new("new", Role::Agent, 1);
        fleet.step(move |state, _| state.tokens.issue([9; 32], principal, true)).unwrap();
        fleet.step(move |state, now_ms| state.revoke("new", &TokenSelector::All, now_ms));
    }),
    ("a tick with nothing due", |fleet| {
        fleet.step(move |state, now_ms| state.scheduler.tick(now_ms));
    }),
];

fn main() -> ExitCode {
    let judge = std::env::args().any(|arg| arg == "--judge");
    let mut memory = Vec::new();
    let mut actor = Vec::new();
    for size in SIZES {
        let folder = tempfile::tempdir().unwrap();
        let mut fleet = Fleet::new(size);
        memory.push(measure(&mut fleet, EVENTS));
        fleet.start_actor(folder.path());
        actor.push(measure(&mut fleet, ACTOR_EVENTS));
    }
    print("in memory", &memory);
    let highest = print("through the actor", &actor);
    let missed = highest > BAR;
    println!("the bar: no ratio through the actor above {BAR}{}", if missed { ": MISSED" } else { "" });
    if missed && judge { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Prints the times at the first size and the ratios of the others to it, and returns the highest ratio.
fn print(title: &str, times: &[Vec<f64>]) -> f64 {
    println!("{title:<46} {:>9} {:>9} {:>9}", "1,000", "10,000", "100,000");
    let mut highest: f64 = 0.0;
    for (at, (kind, _)) in KINDS.iter().enumerate() {
        let first = times[0][at];
        let ratios = [times[1][at] / first, times[2][at] / first];
        highest = ratios.iter().fold(highest, |highest, ratio| highest.max(*ratio));
        println!("  {kind:<44} {first:>6.1} us {:>9.2} {:>9.2}", ratios[0], ratios[1]);
    }
    highest
}

/// Returns the time of one event of each kind, in microseconds.
fn measure(fleet: &mut Fleet, events: usize) -> Vec<f64> {
    let mut least = vec![f64::INFINITY; KINDS.len()];
    for _ in 0..ROUNDS {
        for (time, (_, event)) in least.iter_mut().zip(KINDS) {
            fleet.spent = Duration::ZERO;
            for _ in 0..events {
                event(fleet);
            }
            *time = time.min(fleet.spent.as_secs_f64() * 1e6 / events as f64);
        }
    }
    least
}
