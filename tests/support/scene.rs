//! The stage of most stories: the double of the existing hub, one agent named alice with short times, the real binary.
//! It also watches over what holds in every story: the sidecar says nothing that an existing hub calls invalid but
//! `agent_restarting`, and that at most once a connection. What a story is about stands in the test.
//!
//! ```text
//! let scene = Scene::new();                      // or Scene::with(Options { .. })
//! let sidecar = scene.start();                   // and waits until both know each other
//! scene.wait_online(2);                          // the second `identified`
//! scene.agent.configure("ping_interval_ms", json!(200)); scene.hub.submit("run=hold");
//! scene.frames(1)                                // what the sidecar said on connection 1: [("identify", {..}), ..]
//! scene.goodbye(1)                               // asserts the final messages there: verdicts, agent_restarting, status, 1012
//! ```

use serde_json::{Value, json};

use super::legacy_hub::{Entry, LegacyHub, Options, Status, What};
use super::process::Running;
use super::sidecar::Agent;
use super::wait;

/// The agent's name.
pub const ALICE: &str = "alice";

/// The stage.
pub struct Scene {
    pub hub: LegacyHub,
    pub agent: Agent,
}

impl Scene {
    pub fn new() -> Self {
        Self::with(Options::default())
    }

    pub fn with(options: Options) -> Self {
        // Stories reconnect more often than ten times a minute.
        let hub = LegacyHub::start_with(Options { rate_limits: false, ..options });
        let token = hub.register(ALICE);
        let agent = Agent::new(ALICE, &hub.url(), &token);
        agent.configure("reconnect_min_ms", json!(20));
        agent.configure("reconnect_max_ms", json!(200));
        agent.configure("results_scan_ms", json!(50));
        agent.configure("wake_retry_delays_ms", json!([20, 20, 20]));
        Self { hub, agent }
    }

    /// Starts the sidecar and waits until the hub knows it, and it the hub.
    pub fn start(&self) -> Running {
        self.and_online(Agent::start)
    }

    /// The same, as pm2 would.
    pub fn start_supervised(&self) -> Running {
        self.and_online(Agent::start_supervised)
    }

    /// The same with more on the command line.
    pub fn start_with_args(&self, args: &[&str]) -> Running {
        self.and_online(|agent| {
            let mut command = agent.operator(&[&["run"], args].concat());
            for inherited in ["pm_id", "name", "PM2_HOME", "PM2_PROCESS_NAME", "NODE_CHANNEL_FD"] {
                command.env_remove(inherited);
            }
            Running::start(command, agent.folder(), "sidecar")
        })
    }

    fn and_online(&self, start: impl FnOnce(&Agent) -> Running) -> Running {
        let before = self.times_online();
        let running = start(&self.agent);
        self.wait_online(before + 1);
        let told = || self.says_online().then_some(());
        wait::until_or("the sidecar to hear of it", wait::BOUND, told, || self.agent.story());
        running
    }

    /// Whether this run of the sidecar has heard the hub's welcome. One that logs for people is not asked.
    fn says_online(&self) -> bool {
        let lines = self.agent.log_lines();
        let start = lines.iter().rposition(|line| line["message"] == "the sidecar starts");
        lines.is_empty() || start.is_some_and(|at| lines[at..].iter().any(|line| line["link"] == "online"))
    }

    fn times_online(&self) -> usize {
        self.hub.log().iter().filter(|entry| entry.heard("identified").is_some()).count()
    }

    /// Waits for the `count`-th `identified`.
    pub fn wait_online(&self, count: usize) {
        wait::until_or(
            "the sidecar to be online",
            wait::BOUND,
            || (self.times_online() >= count).then_some(()),
            || self.hub.story(),
        );
    }

    /// Whatever of the log is about that connection.
    pub fn on_connection(&self, connection: u64) -> Vec<Entry> {
        self.hub.log().into_iter().filter(|entry| entry.connection == connection).collect()
    }

    /// What the sidecar said on that connection: types and frames, in order.
    pub fn frames(&self, connection: u64) -> Vec<(String, Value)> {
        let said = self.on_connection(connection).into_iter().filter_map(|entry| match entry.what {
            What::Sidecar(frame) => Some((frame["type"].as_str().unwrap_or_default().to_owned(), frame)),
            What::Opened | What::Garbage(_) | What::Hub { .. } | What::Raw(_) => None,
            What::SidecarClosed(_) | What::Ended | What::HubClosed(..) | What::HubDropped => None,
        });
        said.collect()
    }

    /// How often the agent said it, on all connections.
    pub fn times_said(&self, kind: &str) -> usize {
        self.hub.said(ALICE, kind).len()
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        self.hub.log().iter().filter(|entry| entry.what == What::Opened).count()
    }

    /// Waits for the end of that connection and asserts that it was a goodbye before a restart: whatever verdict was
    /// said was answered before it, `agent_restarting` once, then `status`, then a close frame with 1012, and nothing
    /// else. Answers the reason.
    pub fn goodbye(&self, connection: u64) -> String {
        let ended = |entry: &&Entry| matches!(entry.what, What::SidecarClosed(_) | What::Ended);
        self.hub.wait("the end of the connection", |log| {
            log.iter().filter(|entry| entry.connection == connection).find(ended).map(|_| ())
        });
        let entries = self.on_connection(connection);
        let position = |find: &dyn Fn(&Entry) -> bool| entries.iter().position(find);
        let story = self.hub.story();
        let bye = position(&|entry| entry.said("agent_restarting").is_some());
        let bye = bye.unwrap_or_else(|| panic!("no agent_restarting on #{connection}\n{story}"));
        let said = entries[bye..].iter().filter_map(|entry| match &entry.what {
            What::Sidecar(frame) => frame["type"].as_str().map(str::to_owned),
            What::SidecarClosed(why) => Some(format!("close {:?}", why.as_ref().map(|(code, _)| *code))),
            What::Garbage(_) | What::Ended => Some("broken off".to_owned()),
            What::Opened | What::Hub { .. } | What::Raw(_) | What::HubClosed(..) | What::HubDropped => None,
        });
        let said: Vec<_> = said.collect();
        assert_eq!(said, ["agent_restarting", "status", "close Some(1012)"], "on #{connection}\n{story}");
        let verdicts = entries[..bye].iter().filter(|entry| is_verdict(entry)).count();
        let answers = entries[..bye].iter().filter(|entry| is_answer(entry)).count();
        assert_eq!(answers, verdicts, "a verdict was not answered before the goodbye on #{connection}\n{story}");
        let frame = entries[bye].said("agent_restarting").cloned().unwrap_or_default();
        let reason = frame["reason"].as_str().unwrap_or_default().to_owned();
        let status = entries[bye..].iter().find_map(|entry| entry.said("status").cloned()).unwrap_or_default();
        assert_eq!(status["status"], format!("restarting: {reason}"));
        reason
    }

    /// Waits until the task is done, and asserts that it was done by one session.
    pub fn done_once(&self, task: &str) {
        self.hub.wait_task(task, Status::Completed);
        for step in ["started", "finished"] {
            assert_eq!(self.agent.count(task, step), 1, "{step}\n{}\n{}", self.agent.story(), self.hub.story());
        }
    }

    /// Waits until nothing is left in the journal: no task, no verdict.
    pub fn wait_quiet(&self) {
        let quiet = || self.agent.queue().filter(|queue| queue["active"].is_null() && queue["outbox"] == json!([]));
        wait::until_or("the journal to be empty", wait::BOUND, quiet, || self.agent.story());
    }

    /// What the hub called invalid: the connection and the frame's type.
    fn violations(&self) -> Vec<(u64, String)> {
        let invalid = self.hub.log().into_iter().filter_map(|entry| {
            let frame = entry.heard("error").filter(|frame| frame["error"] == "validation_failed")?;
            Some((entry.connection, frame["message_type"].as_str().unwrap_or_default().to_owned()))
        });
        invalid.collect()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("== the hub's log\n{}", self.hub.story());
            return;
        }
        let mut violations = self.violations();
        assert!(violations.iter().all(|(_, kind)| kind == "agent_restarting"), "{violations:?}\n{}", self.hub.story());
        let all = violations.len();
        violations.dedup();
        assert_eq!(violations.len(), all, "agent_restarting twice on a connection\n{}", self.hub.story());
    }
}

fn is_verdict(entry: &Entry) -> bool {
    entry.said("task_complete").is_some() || entry.said("task_failed").is_some()
}

fn is_answer(entry: &Entry) -> bool {
    let acknowledged = entry.heard("task_ack").is_some_and(|frame| frame["status"] != "accepted");
    let refused = entry.heard("error").is_some_and(|frame| {
        frame["error"].as_str().is_some_and(|error| error.starts_with("task_") && error.contains("_failed: "))
    });
    acknowledged || refused
}
