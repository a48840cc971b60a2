//! One seed: the shipped sidecar and a hub on a simulated network, a stretch of faults, then calm, in which everything
//! must come to its end.

use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use agentcom::sidecar::config::Config;
use agentcom::sidecar::hub_connection::transport::Stream;
use agentcom::sidecar::shell::environment::Environment;
use agentcom::sidecar::shell::start_in;
use agentcom::sidecar::supervisor::pm2::Pm2;
use serde_json::json;
use turmoil::Sim;

use crate::agent::Agent;
use crate::hub::{self, PORT};
use crate::look_ahead::Supervisor;
use crate::shared::{AGENT, Counts, Fault, Order, Rng, Shared, TOKEN, World, lock};

/// 2030: after any boot of the machine that runs this.
const EPOCH_S: u64 = 1_900_000_000;
const TICK_MS: u64 = 10;
const FAULTS_UNTIL_MS: u64 = 15_000;
/// From the last fault: a stale task, a restart deadline, a few retries.
const CALM_MS: u64 = 60_000;

pub struct Outcome {
    pub digest: u64,
    pub counts: Counts,
    pub violations: Vec<String>,
    pub story: Vec<String>,
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Submit,
    Restart { force: bool },
    Partition,
    Oneway(bool),
    Repair,
    Hold,
    Release,
    HubCrash,
    HubBack,
    SidecarCrash,
    SidecarBack,
    Slow(u64),
    Latency(u64),
    Cut,
    Bye,
}

impl Act {
    fn fault(self) -> Option<Fault> {
        match self {
            Self::Partition => Some(Fault::Partition),
            Self::Oneway(_) => Some(Fault::OneWay),
            Self::Hold => Some(Fault::Held),
            Self::HubCrash => Some(Fault::HubCrash),
            Self::SidecarCrash => Some(Fault::SidecarCrash),
            Self::Slow(_) => Some(Fault::SlowHub),
            Self::Latency(_) => Some(Fault::Latency),
            Self::Cut => Some(Fault::Cut),
            Self::Bye => Some(Fault::Bye),
            Self::Submit | Self::Restart { .. } | Self::Repair | Self::Release | Self::HubBack | Self::SidecarBack => {
                None
            }
        }
    }
}

fn plan(rng: &mut Rng) -> BTreeMap<(u64, u64), Act> {
    let mut plan = BTreeMap::new();
    let mut number = 0;
    let mut add = |at: u64, act: Act| {
        number += 1;
        plan.insert((at, number), act);
    };
    for _ in 0..rng.between(2, 6) {
        add(rng.between(0, FAULTS_UNTIL_MS), Act::Submit);
    }
    for _ in 0..rng.between(1, 5) {
        let (at, force) = (rng.between(200, FAULTS_UNTIL_MS), rng.one_in(4));
        add(at, Act::Restart { force });
        if rng.one_in(2) {
            add(at + rng.between(0, 1_500), Act::Restart { force: false });
        }
    }
    for _ in 0..rng.between(4, 11) {
        let at = rng.between(300, FAULTS_UNTIL_MS);
        let until = at + rng.between(50, 4_000);
        let (act, undone) = match rng.between(0, 9) {
            0 => (Act::Partition, Some(Act::Repair)),
            1 => (Act::Oneway(rng.one_in(2)), Some(Act::Repair)),
            2 => (Act::Hold, Some(Act::Release)),
            3 => (Act::HubCrash, Some(Act::HubBack)),
            4 => (Act::SidecarCrash, Some(Act::SidecarBack)),
            5 => (Act::Slow(until - at), None),
            6 => (Act::Latency(rng.between(2, 400)), None),
            7 => (Act::Cut, None),
            _ => (Act::Bye, None),
        };
        add(at, act);
        if let Some(undone) = undone {
            add(until, undone);
        }
    }
    plan
}

fn config(folder: &Path) -> Config {
    let text = json!({
        "agent_id": AGENT, "token": TOKEN, "hub_url": format!("ws://hub:{PORT}/ws"), "wake_command": "true",
        "capabilities": ["code"], "confirmation_timeout_ms": 2_000, "restart_deadline_ms": 3_000,
        "drain_deadline_ms": 1_000, "restart_intensity": {"max": 3, "window_ms": 5_000},
        "wake_retry_delays_ms": [200, 400], "wake_timeout_ms": 2_000, "progress_interval_ms": 1_500,
        "ping_interval_ms": 1_000, "pong_timeout_ms": 1_500, "reconnect_min_ms": 100, "reconnect_max_ms": 1_500,
        "connect_timeout_ms": 2_000, "identify_timeout_ms": 2_000, "answer_timeout_ms": 1_500,
        "resource_report_interval_ms": 0,
    });
    let path = folder.join("config.json");
    std::fs::write(&path, text.to_string()).expect("the seed's folder is writable");
    Config::load(&path).expect("a good configuration").config
}

async fn sidecar(config: Config, world: World, random: Arc<Mutex<Rng>>) -> turmoil::Result {
    let environment = Environment {
        random: Arc::new(move |bytes| {
            let mut random = random.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            bytes.iter_mut().for_each(|byte| *byte = random.next().to_le_bytes()[0]);
            true
        }),
        now_ms: || turmoil::since_epoch().map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
        threads: false,
        connector: Some(Arc::new(|| -> BoxFuture<'static, std::io::Result<Box<dyn Stream>>> {
            Box::pin(async {
                let stream = turmoil::net::TcpStream::connect(("hub", PORT)).await?;
                Ok(Box::new(stream) as Box<dyn Stream>)
            })
        })),
        on_a_machine: false,
        agent: Box::new(Agent(world.clone())),
        look_ahead: Some(Arc::new(Supervisor(world.clone()))),
    };
    lock(&world).note("the sidecar starts");
    let ending = start_in(config, Pm2::from_env(|_| None), environment)?.run().await;
    lock(&world).note(&format!("the sidecar ends: {ending:?}"));
    Ok(())
}

struct Driver<'a> {
    sim: Sim<'a>,
    world: World,
    plan: BTreeMap<(u64, u64), Act>,
    start: u64,
    sidecar_down: bool,
    hub_down: bool,
}

pub fn run(seed: u64, folders: &Path) -> Outcome {
    let folder = tempfile::tempdir_in(folders).expect("a folder for the seed");
    let mut rng = Rng(seed ^ 0x5eed);
    let start = EPOCH_S * 1_000;
    let world: World = Arc::new(Mutex::new(Shared::new(seed, start)));
    let mut sim = turmoil::Builder::new()
        .epoch(UNIX_EPOCH + Duration::from_secs(EPOCH_S))
        .tick_duration(Duration::from_millis(TICK_MS))
        .simulation_duration(Duration::from_secs(600))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(rng.between(2, 60)))
        .tcp_capacity(1024)
        .rng_seed(seed)
        .build();
    let theirs = world.clone();
    sim.host("hub", move || hub::serve(theirs.clone()));
    let (config, theirs, random) = (config(folder.path()), world.clone(), Arc::new(Mutex::new(Rng(seed ^ 0xd1ce))));
    sim.host("sidecar", move || sidecar(config.clone(), theirs.clone(), random.clone()));
    let plan = plan(&mut rng);
    let mut driver = Driver { sim, world, plan, start, sidecar_down: false, hub_down: false };
    driver.drive();
    let Driver { sim, world, .. } = driver;
    drop(sim);
    let mut shared = lock(&world);
    Outcome {
        digest: shared.digest,
        counts: std::mem::take(&mut shared.counts),
        violations: std::mem::take(&mut shared.violations),
        story: std::mem::take(&mut shared.story),
    }
}

impl Driver<'_> {
    fn drive(&mut self) {
        let mut last = FAULTS_UNTIL_MS;
        if let Some(((at, _), _)) = self.plan.last_key_value() {
            last = last.max(*at);
        }
        if !self.step_until(last + TICK_MS, false) {
            return;
        }
        self.calm();
        if !self.step_until(last + CALM_MS, true) {
            return;
        }
        lock(&self.world).judge_the_folder();
        // Once more, in peace: a task and a restart.
        let quiet = self.now() + 6_000;
        // Restart intensity counts commands of the last seconds.
        if !self.step_until(quiet, false) || !self.step_until(quiet + CALM_MS, true) {
            return;
        }
        let boots = lock(&self.world).boots.len();
        lock(&self.world).await_boots = boots + 1;
        lock(&self.world).submit();
        lock(&self.world).command_restart(false);
        let limit = self.now() + CALM_MS;
        if !self.step_until(limit, true) {
            return;
        }
        lock(&self.world).judge_the_folder();
        lock(&self.world).judge_the_end();
    }

    fn now(&self) -> u64 {
        lock(&self.world).now - self.start
    }

    /// Steps until then, or (where wanted) until nothing is unfinished; false when the seed has failed.
    fn step_until(&mut self, until: u64, till_done: bool) -> bool {
        loop {
            let now = u64::try_from(self.sim.elapsed().as_millis()).unwrap_or(u64::MAX);
            lock(&self.world).now = self.start + now;
            if till_done && self.plan.is_empty() && lock(&self.world).unfinished().is_empty() {
                return true;
            }
            if now >= until {
                let unfinished = lock(&self.world).unfinished();
                if till_done {
                    lock(&self.world).violations.push(format!("not finished in time: {unfinished:?}"));
                }
                return !till_done;
            }
            while let Some(entry) = self.plan.first_entry().filter(|entry| entry.key().0 <= now) {
                let act = entry.remove();
                self.act(act);
            }
            if let Err(error) = self.sim.step() {
                lock(&self.world).violations.push(format!("the simulation ended: {error}"));
            }
            if !self.sidecar_down && !self.sim.is_host_running("sidecar") {
                // The system closes what an ended process leaves open; then somebody brings it back.
                self.sim.crash("sidecar");
                self.sidecar_down = true;
                let ms = lock(&self.world).rng.between(100, 500);
                self.plan.insert((now + ms, u64::MAX), Act::SidecarBack);
            }
            if !lock(&self.world).violations.is_empty() {
                return false;
            }
        }
    }

    fn act(&mut self, act: Act) {
        lock(&self.world).note(&format!("{act:?}"));
        if let Some(fault) = act.fault() {
            let mut shared = lock(&self.world);
            if !shared.orders.is_empty() {
                shared.counts.fault(fault);
            }
        }
        match act {
            Act::Submit => lock(&self.world).submit(),
            Act::Restart { force } => lock(&self.world).command_restart(force),
            Act::Partition => self.sim.partition("sidecar", "hub"),
            Act::Oneway(true) => self.sim.partition_oneway("sidecar", "hub"),
            Act::Oneway(false) => self.sim.partition_oneway("hub", "sidecar"),
            Act::Repair => self.sim.repair("sidecar", "hub"),
            Act::Release => self.sim.release("sidecar", "hub"),
            Act::HubBack => self.hub_back(),
            Act::SidecarBack => {
                if std::mem::take(&mut self.sidecar_down) {
                    self.sim.bounce("sidecar");
                }
            }
            Act::Hold => self.sim.hold("sidecar", "hub"),
            Act::HubCrash => {
                if !std::mem::replace(&mut self.hub_down, true) {
                    self.sim.crash("hub");
                    lock(&self.world).hub_dies();
                }
            }
            Act::SidecarCrash => {
                if !std::mem::replace(&mut self.sidecar_down, true) {
                    self.sim.crash("sidecar");
                }
            }
            Act::Slow(ms) => {
                let mut shared = lock(&self.world);
                shared.slow_until = shared.now + ms;
            }
            Act::Latency(ms) => self.sim.set_max_message_latency(Duration::from_millis(ms)),
            Act::Cut => self.order(|| Order::Drop),
            Act::Bye => self.order(|| Order::Close(1001, "bye".into())),
        }
    }

    fn hub_back(&mut self) {
        if std::mem::take(&mut self.hub_down) {
            self.sim.bounce("hub");
        }
    }

    fn order(&self, order: impl Fn() -> Order) {
        for orders in lock(&self.world).orders.values() {
            // A connection that is ending needs no order.
            let _ = orders.send(order());
        }
    }

    fn calm(&mut self) {
        self.sim.repair("sidecar", "hub");
        self.sim.release("sidecar", "hub");
        self.sim.set_max_message_latency(Duration::from_millis(20));
        self.hub_back();
        let mut shared = lock(&self.world);
        shared.calm = true;
        shared.note("calm");
    }
}
