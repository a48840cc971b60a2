//! What the simulated hub, the agent's side and the driver have in common. One seed has one; everything in it runs on one
//! thread, in an order that the seed decides.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::sync::mpsc;

use crate::books::Rules;
pub use crate::rng::Rng;

pub const AGENT: &str = "alice";
pub const TOKEN: &str = "token-of-alice";

pub enum Order {
    Say(String, Option<String>),
    Close(u16, String),
    Drop,
}

/// What is done to the network or to one of its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, strum::EnumIter)]
pub enum Fault {
    Partition,
    /// Nothing arrives in one direction.
    OneWay,
    /// What is said arrives later, all at once.
    Held,
    HubCrash,
    SidecarCrash,
    /// The hub reads nothing for a while.
    SlowHub,
    Latency,
    /// The hub drops the connection.
    Cut,
    /// The hub closes it.
    Bye,
    /// Nobody would start the next run, or it cannot start.
    BadNextRun,
    /// What follows is found out late.
    LateNextRun,
    /// It is not found out.
    UnknownNextRun,
}

#[derive(Default, Clone, Debug)]
pub struct Counts {
    pub seeds: u64,
    pub frames: u64,
    pub restarts: u64,
    /// By kind, those that met a connection.
    pub faults: BTreeMap<Fault, u64>,
    /// Connections made beside one that the hub still took for alive.
    pub half_open: u64,
    /// First words that the hub read after those on a newer connection.
    pub overtaken: u64,
    pub tasks: u64,
    pub wakes: u64,
    pub rewakes: u64,
    pub ends: u64,
    pub ended: u64,
    pub forgotten: u64,
    pub overlooked: u64,
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
    /// The newest connection that a process identified on.
    pub newest: u64,
    pub submitted: Vec<String>,
    /// The process that identified on each connection.
    pub known: BTreeMap<u64, String>,
    pub verdicts: BTreeMap<(String, u64), String>,
    /// The processes that have said their final messages.
    pub announced: BTreeSet<String>,
    /// By task and generation: whether the last wake is known to have failed.
    pub wakes: BTreeMap<(String, u64), bool>,
    /// Not done before there have been more processes than so many.
    pub await_boots: usize,
    /// Nothing goes wrong any more.
    pub calm: bool,
}

pub type World = Arc<Mutex<Shared>>;

pub fn lock(world: &World) -> MutexGuard<'_, Shared> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub fn new(seed: u64, now: u64) -> Self {
        Self {
            now,
            rng: Rng(seed),
            rules: Rules::new(seed, now),
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
            calm: false,
        }
    }

    pub fn note(&mut self, what: &str) {
        let line = format!("{:>6} {what}", self.now % 10_000_000);
        for byte in line.bytes() {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.story.push(line);
    }

    pub fn frame(&mut self, conn: u64, arrow: &str, text: &str) {
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
}

impl Counts {
    pub fn fault(&mut self, fault: Fault) {
        *self.faults.entry(fault).or_default() += 1;
    }

    pub fn add(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.frames += other.frames;
        self.restarts += other.restarts;
        for (fault, times) in &other.faults {
            *self.faults.entry(*fault).or_default() += times;
        }
        self.half_open += other.half_open;
        self.overtaken += other.overtaken;
        self.tasks += other.tasks;
        self.wakes += other.wakes;
        self.rewakes += other.rewakes;
        self.ends += other.ends;
        self.ended += other.ended;
        self.forgotten += other.forgotten;
        self.overlooked += other.overlooked;
    }
}
