//! Twenty real sidecars at two real nodes on a real database, at work and in a rollout, while the leader dies, stands still, or
//! is cut off, and while the database fails over. In every case each session runs once, and each agent restarts once.
//!
//! All of it with `AGENTCOM_CLUSTER=nightly`; otherwise only the death of the leader, with fewer agents.
#![allow(clippy::print_stderr, reason = "the figures")]
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use crate::cluster::sidecars::{Sidecar, until};
use crate::database::proxy::Proxy;
use crate::postgres::Postgres;
use crate::support::{Hub, PATIENCE, folder, free_address, try_request};

/// The longest from the leader's end to the start of a session of a task that came later.
const AT_WORK_AGAIN: Duration = Duration::from_secs(15);
/// The longest that a request may take before the next one is sent.
const ASKED_FOR: Duration = Duration::from_secs(1);
/// The longest that the rest of the rollout may take.
const ROLLED_OUT: Duration = Duration::from_secs(120);

fn is_night() -> bool {
    std::env::var("AGENTCOM_CLUSTER").is_ok_and(|value| value == "nightly")
}

/// A node's place, where one process after the other runs.
struct Place {
    dir: TempDir,
    address: String,
    store: String,
    hub: Hub,
}

impl Place {
    fn start(store: &str, leads: bool) -> Self {
        let (dir, address) = (folder(), free_address());
        let hub = Self::process(&dir, &address, store, leads);
        Self { dir, address, store: store.to_owned(), hub }
    }

    fn process(dir: &TempDir, address: &str, store: &str, leads: bool) -> Hub {
        let flags = ["--store", store, "--cluster-listen", "127.0.0.1:0", "--listen", address];
        if leads { Hub::start(dir, &flags) } else { Hub::start_standby(dir, &flags) }
    }

    /// Does what a service manager does.
    fn start_again_if_ended(&mut self) {
        if self.hub.has_ended() {
            self.hub = Self::process(&self.dir, &self.address, &self.store, false);
        }
    }
}

struct Fleet {
    /// The first one leads at the beginning.
    places: Vec<Place>,
    admin: String,
    sidecars: Vec<Sidecar>,
    /// The tasks that the hub has confirmed.
    tasks: Vec<String>,
    rollout: String,
}

impl Fleet {
    /// Starts nodes on these addresses of one database, and sidecars at each of them. Two sidecars, at different nodes, can do
    /// the same tasks.
    async fn start(stores: [&str; 2], agents: usize) -> Self {
        let places = vec![Place::start(stores[0], true), Place::start(stores[1], false)];
        let admin = places[0].hub.admin.clone();
        let mut sidecars = Vec::new();
        for n in 0..agents {
            let (name, capability) = (format!("agent-{n}"), format!("pair-{}", n / 2));
            let token = places[0].hub.register(&name).await;
            sidecars.push(Sidecar::start(&places[n % 2].address, &name, &capability, &token));
        }
        let mut fleet = Self { places, admin, sidecars, tasks: Vec::new(), rollout: String::new() };
        until("all agents are there", async || {
            let (_, found) = fleet.ask(0, "GET", "/api/agents", &Value::Null).await?;
            (found["agents"].as_array()?.len() == agents).then_some(())
        })
        .await;
        let body = json!({
            "selector": "all", "reason": "a rollout", "max_unavailable": 2, "soak_ms": 200, "offline": "wait",
            "progress_deadline_ms": 600_000,
        });
        let (status, started) = fleet.ask(0, "POST", "/api/v1/rollouts", &body).await.unwrap();
        assert!(status < 300, "{started}");
        fleet.rollout = format!("/api/v1/rollouts/{}", started["rollout"]["rollout_id"].as_str().unwrap());
        fleet
    }

    async fn ask(&self, at: usize, method: &str, path: &str, body: &Value) -> Option<(u16, Value)> {
        timeout(ASKED_FOR, try_request(&self.places[at].address, method, path, &self.admin, body)).await.ok()?
    }

    /// Submits a task for the next pair.
    async fn submit(&mut self, at: usize) -> Option<String> {
        let pair = self.tasks.len() % (self.sidecars.len() / 2);
        let body = json!({"description": "run=0.2", "needed_capabilities": [format!("pair-{pair}")]});
        let (status, made) = self.ask(at, "POST", "/api/tasks", &body).await?;
        let task = (status == 201).then(|| made["task_id"].as_str().unwrap().to_owned())?;
        self.tasks.push(task.clone());
        Some(task)
    }

    /// How often each task has taken this step, by any agent.
    fn steps(&self, step: &str) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for run in self.sidecars.iter().flat_map(Sidecar::runs) {
            if run.ends_with(step) {
                *counts.entry(run.split(' ').next().unwrap().to_owned()).or_default() += 1;
            }
        }
        counts
    }

    /// Has it at work until the rollout has restarted a few.
    async fn get_going(&mut self) {
        let begun = Instant::now();
        loop {
            self.submit(1).await;
            let restarted = self.restarted(1).await.unwrap_or_default();
            if restarted >= 2 && self.steps("finished").len() >= 5 {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{restarted} restarted, {:?}", self.steps("finished"));
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn restarted(&self, at: usize) -> Option<u64> {
        let (_, rollout) = self.ask(at, "GET", &self.rollout, &Value::Null).await?;
        rollout["counts"]["succeeded"].as_u64()
    }

    /// Submits at a node until a task that came after `since` is at work, and returns how long that took.
    async fn at_work_again(&mut self, at: usize, since: Instant) -> Duration {
        let known = self.tasks.len();
        loop {
            self.submit(at).await;
            let started = self.steps("started");
            if self.tasks[known..].iter().any(|task| started.contains_key(task)) {
                return since.elapsed();
            }
            assert!(since.elapsed() < PATIENCE * 2, "no task is done any more");
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Looks at everything that was done, once it is over.
    async fn end_well(mut self) {
        // By day, nobody waits for agents to have stayed back for long.
        if is_night() {
            self.rollout_succeeds().await;
        }
        self.places.iter_mut().for_each(Place::start_again_if_ended);
        self.look_at_sessions().await;
        for (n, sidecar) in self.sidecars.iter().enumerate() {
            // A run says this of the one before it.
            let after_another = sidecar.log().matches("how the run before ended").count();
            assert!(after_another <= 1, "agent-{n} restarted {after_another} times");
            assert!(!is_night() || after_another == 1, "agent-{n} did not restart");
        }
    }

    /// Goes on working until the rollout is over.
    async fn rollout_succeeds(&mut self) {
        let begun = Instant::now();
        let rollout = loop {
            self.places.iter_mut().for_each(Place::start_again_if_ended);
            self.submit(1).await;
            let found = self.ask(1, "GET", &self.rollout.clone(), &Value::Null).await;
            if let Some((200, rollout)) = &found
                && !["running", "canary"].contains(&rollout["state"].as_str().unwrap())
            {
                break rollout.clone();
            }
            assert!(begun.elapsed() < ROLLED_OUT, "the rollout does not end: {found:?}");
            sleep(Duration::from_millis(200)).await;
        };
        assert_eq!(rollout["state"], "succeeded", "{rollout}");
    }

    /// Waits until all work is done, and checks that nothing is lost or was done twice.
    async fn look_at_sessions(&self) {
        for task in &self.tasks {
            let found = until("the task is over", async || {
                let (_, found) = self.ask(1, "GET", &format!("/api/tasks/{task}"), &Value::Null).await?;
                (found["status"] == "completed").then_some(found)
            })
            .await;
            assert_eq!(found["result"]["output"], format!("done {task}"), "{found}");
        }
        // Also those whose answer was lost: what has begun must end, and once.
        until("every session has ended", async || {
            (self.steps("finished").len() == self.steps("woken").len()).then_some(())
        })
        .await;
        for step in ["woken", "started", "finished"] {
            let counts = self.steps(step);
            let confirmed: BTreeSet<&String> = self.tasks.iter().collect();
            assert!(confirmed.iter().all(|task| counts.contains_key(*task)), "{step}: not all of {confirmed:?}");
            let twice: Vec<_> = counts.iter().filter(|(_, times)| **times != 1).collect();
            assert!(twice.is_empty(), "{step}: {twice:?}");
        }
    }
}

/// What becomes of the leader: of the first place, and only of it.
async fn leader_is(agents: usize, end: impl FnOnce(&Fleet), after: impl FnOnce(&mut Fleet), through: Option<&Proxy>) {
    let Some(server) = Postgres::shared() else { return };
    let direct = server.new_database();
    let first = through.map_or_else(|| direct.clone(), |proxy| proxy.url(&direct));
    let mut fleet = Fleet::start([&first, &direct], agents).await;
    fleet.get_going().await;
    let since = Instant::now();
    end(&fleet);
    let took = fleet.at_work_again(1, since).await;
    eprintln!("at work again after {took:?}");
    assert!(took < AT_WORK_AGAIN, "{took:?}");
    after(&mut fleet);
    fleet.end_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_is_killed() {
    let agents = if is_night() { 20 } else { 6 };
    leader_is(agents, |fleet| fleet.places[0].hub.send("KILL"), |_| {}, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_stands_still_for_longer_than_its_lease() {
    if !is_night() {
        return;
    }
    let goes_on = |fleet: &mut Fleet| {
        fleet.places[0].hub.send("CONT");
        assert_eq!(fleet.places[0].hub.wait(), Some(76), "it is deposed");
    };
    leader_is(20, |fleet| fleet.places[0].hub.send("STOP"), goes_on, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_is_cut_off_from_the_database() {
    let Some(server) = Postgres::shared().filter(|_| is_night()) else { return };
    let proxy = Proxy::before(server.port());
    let comes_back = |fleet: &mut Fleet| {
        assert_eq!(fleet.places[0].hub.wait(), Some(76), "its lease is over");
        proxy.thaw();
    };
    leader_is(20, |_| proxy.freeze(), comes_back, Some(&proxy)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_dies_and_its_synchronous_replica_is_promoted() {
    if !is_night() {
        return;
    }
    let Some(server) = Postgres::start() else { return };
    let url = server.new_database();
    let replica = server.replica();
    server.sql("postgres", "alter system set synchronous_standby_names = '*'");
    server.sql("postgres", "select pg_reload_conf()");
    server.wait_for(&replica);
    let both = url.replace("127.0.0.1:", &format!("127.0.0.1:{},127.0.0.1:", replica.port()));
    let mut fleet = Fleet::start([&both, &both], 20).await;
    fleet.get_going().await;
    let since = Instant::now();
    server.kill_9();
    replica.promote();
    let took = {
        // Whoever led may have ended meanwhile.
        fleet.places.iter_mut().for_each(Place::start_again_if_ended);
        fleet.at_work_again(1, since).await
    };
    eprintln!("at work again after {took:?}");
    fleet.end_well().await;
}
