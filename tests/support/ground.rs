//! Hub and sidecar beside each other under one real pm2, both by the real `ecosystem.config.js`, and what pm2's list and
//! the hub's API say of them. It starts and tells; what is right stands in the test.
//!
//! ```text
//! let ground = Ground::new();                   // pm2 with the hub; an agent "alice" that is registered, not started
//! ground.agent.configure("log_level", json!("trace"));
//! ground.launch();                              // the sidecar by ecosystem.config.js; waits until the hub calls it idle
//! let before = ground.listed();                 // Listed { pid, restarts, status }, by `pm2 jlist`
//! let task = ground.start_task("start=0 run=hold");         // submitted and under way
//! let command = ground.command(json!({"reason": "why"}));   // POST .../restart; answers the command's id
//! let ledger = ground.wait_back(&command);      // the ledger says "back", and the hub calls the agent idle or working
//! ground.finish(&task);                         // lets a held task go on; waits until the hub calls it completed
//! ground.assert_ran_once(&task);                // woken, started and finished once; completed once in its history
//! ```

use std::cell::OnceCell;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::{Value, json};

use super::hub::{Client, HUB, new_token};
use super::pm2::Pm2;
use super::process::Running;
use super::sidecar::Agent;
use super::{process, wait};

/// pm2's name for the hub.
pub const HUB_APP: &str = "agentcom-hub";
/// The agent, on the hub and in pm2.
pub const ALICE: &str = "alice";

/// One pm2, one hub, one agent. pm2 goes first when it is dropped, then the folders.
pub struct Ground {
    pub pm2: Pm2,
    pub hub: Client,
    pub agent: Agent,
    /// Idle agents, not under pm2, that could do each task too.
    idle: OnceCell<[(Agent, Running); 2]>,
    _orphans: Orphans,
    data: tempfile::TempDir,
}

/// What outlived a pm2 that was killed ends with the test.
struct Orphans(Vec<PathBuf>);

impl Drop for Orphans {
    fn drop(&mut self) {
        self.0.iter().flat_map(|word| running_with(word)).for_each(process::kill9);
    }
}

/// What `pm2 jlist` says of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub pid: u32,
    pub restarts: u64,
    pub status: String,
}

impl Ground {
    pub fn new() -> Self {
        Self::with_hub(&[])
    }

    /// Ground with more in the hub's environment: `("AGENTCOM_HUB_RESTART_MARGIN_MS", "5000")`.
    pub fn with_hub(settings: &[(&str, &str)]) -> Self {
        let pm2 = Pm2::start();
        let data = tempfile::Builder::new().prefix("hub-").tempdir().expect("a folder for the hub");
        let address = free_address();
        let path = data.path().to_str().expect("a readable path");
        let listen = address.to_string();
        let bin = Path::new(HUB).parent().and_then(Path::to_str).expect("a readable path");
        let variables = [
            ("AGENTCOM_BIN_DIR", bin),
            ("AGENTCOM_LOG_DIR", path),
            ("AGENTCOM_HUB_LISTEN", &listen),
            ("AGENTCOM_HUB_DATA", path),
        ];
        let variables = [&variables, settings].concat();
        pm2.launch_file(&ecosystem(), &variables, Some(HUB_APP));
        wait_healthy(address);
        let hub = Client::new(address, new_token(data.path(), "tester", true));
        let token = hub.register(ALICE);
        let agent = Agent::new(ALICE, &hub.url(), &token);
        agent.configure("reconnect_min_ms", json!(50));
        agent.configure("reconnect_max_ms", json!(500));
        let orphans = Orphans(vec![data.path().to_owned(), agent.config_file()]);
        Self { pm2, hub, agent, idle: OnceCell::new(), _orphans: orphans, data }
    }

    /// Ground, and the sidecar on it.
    pub fn launched() -> Self {
        let ground = Self::new();
        ground.launch();
        ground
    }

    /// Starts the sidecar by `ecosystem.config.js`.
    pub fn launch(&self) {
        self.agent.launch_under(&self.pm2);
        self.wait_idle();
    }

    /// Starts the sidecar as an app of its own kind.
    pub fn launch_as(&self, app: Value) {
        self.pm2.launch(app);
        self.wait_idle();
    }

    pub fn wait_idle(&self) {
        self.hub.wait_agent(ALICE, |agent| agent["fsm_state"] == "idle");
    }

    /// The sidecar in `pm2 jlist`.
    pub fn listed(&self) -> Listed {
        self.listed_as(ALICE)
    }

    pub fn listed_as(&self, name: &str) -> Listed {
        let list = self.pm2.jlist();
        let app = list.iter().find(|app| app["name"] == name).unwrap_or_else(|| panic!("pm2 jlist has no {name}"));
        Listed {
            pid: app["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0),
            restarts: app["pm2_env"]["restart_time"].as_u64().expect("a restart count"),
            status: app["pm2_env"]["status"].as_str().expect("a status").to_owned(),
        }
    }

    /// Asserts that pm2 itself has restarted the sidecar so many times since `before`, as another process, online.
    pub fn assert_restarted(&self, before: &Listed, times: u64) {
        let now = self.listed();
        assert_eq!((now.restarts, now.status.as_str()), (before.restarts + times, "online"), "{before:?} -> {now:?}");
        assert_ne!(now.pid, before.pid);
    }

    /// Submits a task that holds, and waits until the agent works on it, beside two idle agents.
    pub fn start_task(&self, description: &str) -> String {
        let task = self.hub.submit(description);
        self.agent.wait_run(&task, "started");
        self.hub.wait_agent(ALICE, |agent| agent["fsm_state"] == "working");
        self.idle.get_or_init(|| ["bob", "carol"].map(|id| self.idle_agent(id)));
        task
    }

    fn idle_agent(&self, id: &str) -> (Agent, Running) {
        let agent = Agent::new(id, &self.hub.url(), &self.hub.register(id));
        agent.configure("reconnect_min_ms", json!(50));
        agent.configure("reconnect_max_ms", json!(500));
        let running = agent.start_supervised();
        self.hub.wait_agent(id, |agent| agent["fsm_state"] == "idle");
        (agent, running)
    }

    /// Commands a restart; answers its id.
    pub fn command(&self, body: Value) -> String {
        let (status, answer) = self.hub.restart(ALICE, body);
        assert_eq!((status, &answer["status"]), (200, &json!("restart_commanded")), "{answer}");
        answer["command_id"].as_str().expect("a command_id").to_owned()
    }

    /// Waits until the command has ended with a return, and the agent is no longer called `restarting`.
    pub fn wait_back(&self, command: &str) -> Value {
        let ledger = self.hub.wait_restart(command, ALICE, "back");
        self.hub.wait_agent(ALICE, |agent| agent["fsm_state"] == "idle" || agent["fsm_state"] == "working");
        ledger
    }

    /// Lets a task go on that holds while it runs, and waits for the hub to have its result.
    pub fn finish(&self, task: &str) {
        self.agent.go("run", task);
        self.hub.wait_task(task, "completed");
    }

    /// A task from submission to completion: the agent is not stranded.
    pub fn assert_works(&self) {
        let task = self.hub.submit("start=0 run=0");
        self.hub.wait_task(&task, "completed");
    }

    /// Asserts that the agent was woken once, worked once and finished once, that no other agent was woken, and that the
    /// hub has completed the task once.
    pub fn assert_ran_once(&self, task: &str) {
        let steps = ["woken", "started", "finished"].map(|step| self.agent.count(task, step));
        assert_eq!(steps, [1, 1, 1], "woken, started, finished; {:?}", self.agent.runs());
        let others = self.idle.get().into_iter().flatten().map(|(agent, _)| agent.count(task, "woken"));
        assert_eq!(others.sum::<usize>(), 0, "others were woken");
        let history = &self.hub.task(task)["history"];
        let completed = |list: &Vec<Value>| list.iter().filter(|entry| entry["event"] == "completed").count();
        assert_eq!(history.as_array().map(completed), Some(1), "{history}");
    }

    /// Whether anyone answers at the hub's address.
    pub fn hub_answers(&self) -> bool {
        super::hub::request(self.hub.address(), "GET", "/health", None, None).is_ok()
    }

    /// pm2's daemon.
    pub fn daemon(&self) -> u32 {
        let text = std::fs::read_to_string(self.pm2.home().join("pm2.pid")).expect("pm2.pid");
        text.trim().parse().expect("a pid")
    }

    /// Every process that runs the sidecar with the agent's config.
    pub fn copies(&self) -> Vec<u32> {
        running_with(&self.agent.config_file())
    }

    /// The hub's own output so far.
    pub fn hub_output(&self) -> String {
        let read = |end| std::fs::read_to_string(self.data.path().join(format!("{HUB_APP}.{end}.log")));
        ["out", "err"].map(|end| read(end).unwrap_or_default()).concat()
    }

    /// What pm2's daemon has logged of exits: `App [alice:1] exited with code [0] via signal [SIGINT]`.
    pub fn exits(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.pm2.home().join("pm2.log")).unwrap_or_default();
        let ours = format!("App [{ALICE}:");
        text.lines().filter(|line| line.contains(&ours) && line.contains("exited with")).map(str::to_owned).collect()
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("== hub\n{}", self.hub_output());
        }
    }
}

pub fn ecosystem() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("ecosystem.config.js")
}

fn wait_healthy(address: SocketAddr) {
    let probe = || super::hub::request(address, "GET", "/health", None, None).is_ok();
    wait::until_true("the hub to answer", probe);
}

/// Every process of ours that has this file or folder among its arguments.
fn running_with(argument: &Path) -> Vec<u32> {
    let argument = argument.to_str().expect("a readable path");
    let pids = std::fs::read_dir("/proc").expect("/proc can be listed");
    let pids = pids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let runs = |pid: &u32| {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.contains("agentcom-") && line.split('\0').any(|word| word == argument)
    };
    pids.filter(runs).collect()
}

/// A port that the hub keeps when pm2 restarts it: below those that the kernel hands out by itself (32768 and up), so
/// that no other test's socket takes it meanwhile.
fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = u16::try_from(std::process::id() % 400).expect("below 400") * 25;
    wait::until("a free port", || {
        let port = 20_000 + (base + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        TcpListener::bind(address).ok().map(|_| address)
    })
}
