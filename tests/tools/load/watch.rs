//! Latencies that one operator and a few agents see while others load the hub: from a restart command to its frame, from a
//! ping to its pong, and of `GET /api/agents`. They are measured on a thread of their own, so that what is measured is the
//! hub and not this program's own queue.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::Outcome;
use crate::agent::Agent;
use crate::fleet::{Fleet, lock};
use crate::http::Client;
use crate::hub_process::Hub;
use crate::stats::Spread;

/// How often a command and a ping are sent.
const INTERVAL: Duration = Duration::from_millis(5);
/// The longest wait for a frame.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was measured.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Seen {
    /// From `POST .../restart` to `restart_sidecar` at the agent.
    pub command_to_frame: Spread,
    /// From `ping` to `pong`.
    pub ping_to_pong: Spread,
    /// `GET /api/agents`, where it was asked for.
    pub list: Spread,
    /// The size of its largest answer, in bytes.
    pub list_bytes: usize,
    /// How many times the hub had closed the operator's connection.
    pub closed_by_hub: usize,
}

/// The thread that measures, one measurement after the other.
pub struct Watcher(mpsc::Sender<Job>);

/// A measurement's work, as a whole.
type Job = Box<dyn FnOnce() + Send>;

impl Watcher {
    /// Starts the thread, with the priority that the caller has now.
    pub fn start() -> Self {
        let (sender, jobs) = mpsc::channel::<Job>();
        std::thread::spawn(move || jobs.into_iter().for_each(|job| job()));
        Self(sender)
    }
}

/// A measurement under way.
pub struct Watch {
    shared: Arc<Shared>,
    ended: oneshot::Receiver<Outcome<()>>,
}

/// What both threads know.
#[derive(Default)]
struct Shared {
    /// Whether what is measured counts.
    counts: AtomicBool,
    stop: AtomicBool,
    commands: Mutex<Vec<Duration>>,
    pongs: Mutex<Vec<Duration>>,
    lists: Mutex<Vec<Duration>>,
    list_bytes: Mutex<usize>,
    closed_by_hub: Mutex<usize>,
}

impl Shared {
    fn add(&self, times: &Mutex<Vec<Duration>>, time: Duration) {
        if self.counts.load(Ordering::Relaxed) {
            lock(times).push(time);
        }
    }

    fn stops(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl Watch {
    /// Lets the agents join and begins to measure; `lists` says whether to ask for `GET /api/agents`, again and again.
    /// Nothing counts before [`Watch::begin`].
    pub async fn start(watcher: &Watcher, hub: &Hub, agents: &[Arc<Agent>], lists: bool) -> Outcome<Self> {
        let shared = Arc::<Shared>::default();
        let (ready, is_ready) = oneshot::channel();
        let (address, admin, agents) = (hub.address, hub.admin.clone(), agents.to_vec());
        let theirs = Arc::clone(&shared);
        let (end, ended) = oneshot::channel();
        let job = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let outcome = match runtime {
                Ok(runtime) => runtime.block_on(measure(theirs, address, admin, agents, lists, ready)),
                Err(error) => Err(format!("no runtime: {error}")),
            };
            // Whoever measures may have failed meanwhile.
            let _ = end.send(outcome);
        };
        watcher.0.send(Box::new(job)).map_err(|_| "the watcher has ended")?;
        let watch = Self { shared, ended };
        match timeout(PATIENCE, is_ready).await {
            Ok(Ok(())) => Ok(watch),
            Ok(Err(_)) => Err(watch.finish().await.err().unwrap_or_else(|| "the watch ended early".to_owned())),
            Err(_) => Err("the watched agents did not join in time".to_owned()),
        }
    }

    /// Lets what is measured count from now on.
    pub fn begin(&self) {
        self.shared.counts.store(true, Ordering::Relaxed);
    }

    /// Ends the measurement and returns what was seen.
    pub async fn finish(self) -> Outcome<Seen> {
        let Self { shared, ended } = self;
        shared.counts.store(false, Ordering::Relaxed);
        shared.stop.store(true, Ordering::Relaxed);
        let outcome = timeout(PATIENCE, ended).await;
        outcome.map_err(|_| "the watch did not end in time")?.map_err(|_| "the watch panicked")??;
        Ok(Seen {
            command_to_frame: Spread::of(std::mem::take(&mut lock(&shared.commands))),
            ping_to_pong: Spread::of(std::mem::take(&mut lock(&shared.pongs))),
            list: Spread::of(std::mem::take(&mut lock(&shared.lists))),
            list_bytes: *lock(&shared.list_bytes),
            closed_by_hub: *lock(&shared.closed_by_hub),
        })
    }
}

async fn measure(
    shared: Arc<Shared>,
    address: SocketAddr,
    admin: String,
    agents: Vec<Arc<Agent>>,
    lists: bool,
    ready: oneshot::Sender<()>,
) -> Outcome<()> {
    let fleet = Fleet::new(address);
    fleet.join(&agents, Some(agents.len())).await?;
    let _ = ready.send(());
    let (pinged, commanded) = agents.split_first().ok_or("no agents to watch")?;
    let client = || Client::new(address, &admin);
    let outcome = tokio::try_join!(
        command_agents(&shared, client(), commanded),
        ping_agent(&shared, pinged),
        ask_for_lists(&shared, client(), lists),
    );
    outcome?;
    fleet.end().await
}

/// Commands one agent after the other. Each refuses, so that it can be commanded again.
async fn command_agents(shared: &Shared, mut client: Client, agents: &[Arc<Agent>]) -> Outcome<()> {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let body = json!({"reason": "measured"}).to_string();
    for agent in agents.iter().cycle() {
        if shared.stops() {
            break;
        }
        ticks.tick().await;
        let arrives = agent.next_command();
        let path = format!("/api/admin/agents/{}/restart", agent.id);
        let sent_at = Instant::now();
        let answer = client.json("POST", &path, Some(&body), 200).await?;
        if answer["repeated"] == true {
            return Err(format!("{}: its last command was still open", agent.id));
        }
        let arrived = timeout(PATIENCE, arrives).await;
        let arrived = arrived.map_err(|_| format!("{}: no restart_sidecar within {PATIENCE:?}", agent.id))?;
        let arrived_at = arrived.map_err(|_| format!("{} ended before its restart_sidecar came", agent.id))?;
        shared.add(&shared.commands, arrived_at.duration_since(sent_at));
    }
    *lock(&shared.closed_by_hub) += client.closed_by_hub;
    Ok(())
}

async fn ping_agent(shared: &Shared, agent: &Agent) -> Outcome<()> {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !shared.stops() {
        ticks.tick().await;
        let sent_at = Instant::now();
        let arrived = timeout(PATIENCE, agent.ping()).await;
        let arrived = arrived.map_err(|_| format!("{}: no pong within {PATIENCE:?}", agent.id))?;
        let arrived_at = arrived.map_err(|_| format!("{} ended before its pong came", agent.id))?;
        shared.add(&shared.pongs, arrived_at.duration_since(sent_at));
    }
    Ok(())
}

async fn ask_for_lists(shared: &Shared, mut client: Client, lists: bool) -> Outcome<()> {
    while lists && !shared.stops() {
        let sent_at = Instant::now();
        let (status, body) = client.call("GET", "/api/agents", None).await?;
        if status != 200 {
            return Err(format!("GET /api/agents was answered {status}"));
        }
        shared.add(&shared.lists, sent_at.elapsed());
        let mut largest = lock(&shared.list_bytes);
        *largest = body.len().max(*largest);
    }
    Ok(())
}
