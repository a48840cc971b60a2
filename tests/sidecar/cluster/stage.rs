//! Two hubs on one database, and sidecars that know one of them each. A loop stands in for pm2, which starts again whatever has
//! ended.

use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::hub::{HUB, new_token, request, request_once};
use crate::support::process::Running;
use crate::support::sidecar::Agent;
use crate::support::wait;

/// By when everything must have come to its end. An agent's task is left with it for as long as it may have listened to the last
/// leader (40 s), and a lease (10 s).
const AFTERWARDS: Duration = Duration::from_secs(150);

/// One of the hubs.
pub(super) struct Node {
    data: TempDir,
    address: SocketAddr,
    store: String,
    pub(super) running: Running,
    /// The exit codes of those that have ended; of one that was killed, `None`.
    pub(super) ends: Vec<Option<i32>>,
}

impl Node {
    fn new(store: &str) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
        let data = tempfile::Builder::new().prefix("node-").tempdir().expect("a folder for the node");
        let running = Self::start(&data, free, store);
        let node = Self { data, address: free, store: store.to_owned(), running, ends: Vec::new() };
        wait::until_or("the node", wait::BOUND, || node.health(), || node.running.output());
        node
    }

    fn start(data: &TempDir, address: SocketAddr, store: &str) -> Running {
        let mut command = Command::new(HUB);
        command.args(["serve", "--listen", &address.to_string(), "--cluster-listen", "127.0.0.1:0"]);
        // For so long a rollout rests after a start of the hub.
        command.args(["--accept-timeout-ms", "5000", "--data"]).arg(data.path()).env("AGENTCOM_HUB_STORE", store);
        Running::start(command, data.path(), "hub")
    }

    fn look(&mut self) {
        if let Some(status) = self.running.ended() {
            self.ends.push(status.code());
            self.running = Self::start(&self.data, self.address, &self.store);
        }
    }

    fn health(&self) -> Option<Value> {
        request(self.address, "GET", "/health", None, None).ok().map(|(_, body)| body)
    }

    fn leads(&self) -> bool {
        self.health().is_some_and(|health| health["role"] == "leader")
    }
}

struct Sidecar {
    agent: Agent,
    running: Running,
    /// How often it ended by itself.
    exits: u32,
}

/// Everything that runs.
pub(super) struct Stage {
    pub(super) nodes: [Node; 2],
    /// Those of them that are asked, in this order: one that stands still would not answer.
    pub(super) asked: Vec<usize>,
    sidecars: Vec<Sidecar>,
    admin: String,
    tasks: Vec<String>,
    rollout: String,
    keys: u32,
}

impl Stage {
    /// Starts both nodes, of which the first leads, and the agents: every second one at the other node. Each has one capability
    /// with one of the other node. `other` is the store's address for the second node, if it has one of its own.
    pub(super) fn new(store: &str, other: Option<&str>, agents: usize) -> Self {
        let first = Node::new(store);
        wait::until_true("the first node to lead", || first.leads());
        let nodes = [first, Node::new(other.unwrap_or(store))];
        let admin = new_token(nodes[0].data.path(), "tester", true);
        let sidecars = (0..agents).map(|n| {
            let (name, address) = (format!("agent-{n}"), nodes[n % 2].address);
            let body = json!({"agent_id": name});
            let registered = request(nodes[0].address, "POST", "/api/onboard/register", Some(&admin), Some(&body));
            let (status, answer) = registered.expect("an answer");
            assert_eq!(status, 201, "{answer}");
            let agent = Agent::new(&name, &format!("ws://{address}/ws"), answer["token"].as_str().expect("a token"));
            for (key, value) in [
                ("capabilities", json!([format!("pair-{}", n / 2)])),
                ("reconnect_min_ms", json!(20)),
                ("reconnect_max_ms", json!(500)),
                ("connect_timeout_ms", json!(2_000)),
                ("ping_interval_ms", json!(2_000)),
                ("pong_timeout_ms", json!(2_000)),
                ("results_scan_ms", json!(50)),
                ("log_level", json!("info")),
            ] {
                agent.configure(key, value);
            }
            let running = agent.start_supervised();
            Sidecar { agent, running, exits: 0 }
        });
        let sidecars = sidecars.collect();
        Self { nodes, asked: vec![1, 0], sidecars, admin, tasks: Vec::new(), rollout: String::new(), keys: 0 }
    }

    /// Starts again whatever has ended.
    fn look(&mut self) {
        self.nodes.iter_mut().for_each(Node::look);
        for sidecar in &mut self.sidecars {
            if let Some(status) = sidecar.running.ended() {
                assert_eq!(status.code(), Some(0), "a sidecar died\n{}", sidecar.agent.story());
                sidecar.exits += 1;
                sidecar.running = sidecar.agent.start_supervised();
            }
        }
    }

    /// The answer of whichever node has one; a request is sent again under its key until then.
    fn ask(&mut self, method: &str, path: &str, body: Option<&Value>) -> Value {
        self.keys += 1;
        let key = format!("key-{}", self.keys);
        let begun = Instant::now();
        let mut heard = String::new();
        loop {
            for at in self.asked.clone() {
                self.look();
                let (address, key) = (self.nodes[at].address, body.is_some().then_some(key.as_str()));
                match request_once(address, method, path, Some(&self.admin), key, body) {
                    Ok((status, answer)) if (200..300).contains(&status) => return answer,
                    Ok((503, answer)) => heard = answer.to_string(),
                    Ok((status, answer)) => panic!("{method} {path}: {status} {answer}"),
                    Err(error) => heard = error.to_string(),
                }
            }
            assert!(begun.elapsed() < AFTERWARDS, "{method} {path}: {heard}");
        }
    }

    fn until(&mut self, what: &str, bound: Duration, mut done: impl FnMut(&mut Self) -> bool) {
        let begun = Instant::now();
        while !done(self) {
            assert!(begun.elapsed() < bound, "waited {bound:?} in vain for {what}\n{}", self.story());
            self.look();
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn submit(&mut self) -> String {
        let pair = self.tasks.len() % (self.sidecars.len() / 2);
        let task = json!({"description": "run=0.5", "needed_capabilities": [format!("pair-{pair}")]});
        let answer = self.ask("POST", "/api/tasks", Some(&task));
        let id = answer["task_id"].as_str().expect("an id").to_owned();
        self.tasks.push(id.clone());
        id
    }

    fn task(&mut self, id: &str) -> Value {
        self.ask("GET", &format!("/api/tasks/{id}"), None)
    }

    fn rollout(&mut self) -> Value {
        let path = format!("/api/v1/rollouts/{}", self.rollout);
        self.ask("GET", &path, None)
    }

    /// Submits tasks, starts a rollout over everybody, and waits until both are under way.
    pub(super) fn begin(&mut self) {
        for _ in 0..3 * self.sidecars.len() {
            self.submit();
        }
        let request = json!({
            "selector": "all", "reason": "a new version", "max_unavailable": (self.sidecars.len() / 5).max(1), "soak_ms": 500,
            "offline": "wait", "max_failures": self.sidecars.len(), "progress_deadline_ms": 120_000,
        });
        let started = self.ask("POST", "/api/v1/rollouts", Some(&request));
        self.rollout = started["rollout"]["rollout_id"].as_str().unwrap_or_else(|| panic!("{started}")).to_owned();
        let first = self.tasks[0].clone();
        self.until("a task and a restart", AFTERWARDS, |stage| {
            stage.task(&first)["status"] == "completed"
                && stage.rollout()["counts"]["succeeded"].as_u64().is_some_and(|count| count > 0)
        });
    }

    /// Waits until a task that is submitted from now on is at work.
    pub(super) fn works_within(&mut self, since: &str, bound: Duration) {
        let begun = Instant::now();
        let task = self.submit();
        self.until("the next task to be at work", AFTERWARDS, |stage| {
            stage.sidecars.iter().any(|sidecar| sidecar.agent.count(&task, "woken") > 0)
        });
        let took = begun.elapsed();
        eprintln!("{since}: the next task is at work after {:.1} s", took.as_secs_f64());
        assert!(took < bound, "{since}: the next task was at work after {took:?}\n{}", self.story());
    }

    pub(super) fn goes_on_for(&mut self, time: Duration) {
        let begun = Instant::now();
        self.until("nothing", time * 2, |_| begun.elapsed() >= time);
    }

    /// Waits until everything has come to its end, and judges it.
    pub(super) fn end(&mut self) {
        for task in self.tasks.clone() {
            self.until(&format!("{task} to be done"), AFTERWARDS, |stage| stage.task(&task)["status"] == "completed");
        }
        self.until("the rollout to end", AFTERWARDS, |stage| !stage.rollout()["ended_at"].is_null());
        // One whose connection broke after its restart counts as failed.
        let (rollout, count) =
            (self.rollout(), |rollout: &Value, what: &str| rollout["counts"][what].as_u64().unwrap_or(0));
        let ended = count(&rollout, "succeeded") + count(&rollout, "failed");
        assert_eq!(ended, self.sidecars.len() as u64, "{rollout}");
        for sidecar in &self.sidecars {
            assert!(sidecar.exits <= 1, "restarted {} times\n{}", sidecar.exits, sidecar.agent.story());
        }
        for task in self.tasks.clone() {
            let found = self.task(&task);
            let completed = found["history"].as_array().expect("a history").iter();
            assert_eq!(completed.filter(|entry| entry["event"] == "completed").count(), 1, "{found}");
            for step in ["woken", "started", "finished"] {
                let times: usize = self.sidecars.iter().map(|sidecar| sidecar.agent.count(&task, step)).sum();
                assert_eq!(times, 1, "{task} was {step} {times} times: {found}\n{}", self.story());
            }
        }
    }

    fn story(&self) -> String {
        let nodes = self.nodes.iter().map(|node| format!("== {}\n{}", node.address, node.running.output()));
        let agents = self.sidecars.iter().map(|sidecar| sidecar.agent.story());
        nodes.chain(agents).collect::<Vec<_>>().join("\n")
    }
}
