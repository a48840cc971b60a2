//! The real hub, one agent whose state folder is the disk that fails, and a loop that stands in for pm2. What must hold in
//! every story is here; what happens in it stands in the story.

use std::process::Command;

use serde_json::{Value, json};

use super::fault::{Disk, Fault, failing_fsync};
use crate::support::hub::Hub;
use crate::support::process::Running;
use crate::support::sidecar::{Agent, SIDECAR};
use crate::support::wait;

pub(crate) const ALICE: &str = "alice";

/// The exit code for a state folder that cannot be used; whatever supervises the sidecar starts it again.
const STATE_UNUSABLE: i32 = 74;

pub(crate) struct Stage {
    sidecar: Option<Running>,
    // Unmounted before the agent's folder goes.
    pub(crate) fault: Disk,
    pub(crate) hub: Hub,
    pub(crate) agent: Agent,
    /// How often the sidecar was started.
    pub(crate) starts: u32,
}

impl Stage {
    pub(crate) fn new(fault: Fault) -> Option<Self> {
        let hub = Hub::start();
        let agent = Agent::new(ALICE, &hub.url(), &hub.register(ALICE));
        let fault = Disk::new(fault, agent.path("state"))?;
        agent.configure("queue_file", json!("./state/queue.json"));
        agent.configure("reconnect_min_ms", json!(10));
        agent.configure("reconnect_max_ms", json!(50));
        agent.configure("results_scan_ms", json!(20));
        agent.configure("answer_timeout_ms", json!(500));
        agent.configure("confirmation_timeout_ms", json!(5_000));
        Some(Self { sidecar: None, fault, hub, agent, starts: 0 })
    }

    pub(crate) fn start(&mut self) {
        self.starts += 1;
        let mut command = Command::new(SIDECAR);
        command.args(["run", "--config"]).arg(self.agent.config_file()).current_dir(self.agent.folder());
        for inherited in ["pm_id", "name", "PM2_HOME", "PM2_PROCESS_NAME", "NODE_CHANNEL_FD", "AGENTCOM_CONFIG"] {
            command.env_remove(inherited);
        }
        if matches!(self.fault.fault, Fault::FileSync | Fault::FolderSync) {
            command.env("LD_PRELOAD", failing_fsync(self.agent.folder())).env("AGENTCOM_TEST_EIO", &self.fault.order);
        }
        self.sidecar = Some(Running::start(command, self.agent.folder(), "sidecar"));
        if self.starts == 1 {
            self.hub.wait_agent(ALICE, |agent| agent["fsm_state"] == "idle");
        }
    }

    pub(crate) fn kill(&mut self) {
        self.sidecar = None;
    }

    /// A task whose session waits to be told to finish, journalled as running.
    pub(crate) fn with_a_running_task(&self) -> String {
        let task = self.hub.submit("run=hold");
        self.wait_journalled("running");
        task
    }

    /// Until the journal has the task in hand in that stage.
    pub(crate) fn wait_journalled(&self, stage: &str) {
        let there = || {
            let queue: Value =
                serde_json::from_slice(&std::fs::read(self.agent.path("state/queue.json")).ok()?).ok()?;
            (queue["active"]["sidecar"]["stage"]["name"] == stage).then_some(())
        };
        wait::until_or(&format!("the task to be journalled as {stage}"), wait::BOUND, there, || self.agent.story());
    }

    /// The error says what happened, where, and what to do now.
    pub(crate) fn must_complain(&mut self) {
        let (said, folder) = (self.fault.fault.said(), self.fault.folder.display().to_string());
        self.agent.wait_log(said, |line| {
            let error = line["error"].as_str()?;
            (line["level"] == "ERROR" && error.contains(said) && error.contains(&folder)).then_some(())
        });
        self.agent.wait_log("health turns red", |line| (line["notice"] == "journal_failing").then_some(()));
    }

    /// The same, of the run after a kill: in its log, or on stderr if it may not even lock its folder.
    pub(crate) fn must_complain_again(&mut self) {
        let said = self.fault.fault.said();
        let before = self.times_said(said);
        let end = std::time::Instant::now() + wait::BOUND;
        while self.times_said(said) == before {
            self.supervise();
            assert!(std::time::Instant::now() < end, "the next run does not say {said:?}\n{}", self.agent.story());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    fn times_said(&self, said: &str) -> usize {
        let errors = std::fs::read_to_string(self.agent.path("sidecar.err")).unwrap_or_default();
        let logged = self.agent.log_lines().into_iter().filter(|line| line["level"] == "ERROR");
        errors.matches(said).count() + logged.filter(|line| line.to_string().contains(said)).count()
    }

    /// What pm2 does; an end for another reason than the disk is a failure.
    fn supervise(&mut self) {
        let Some(status) = self.sidecar.as_mut().and_then(Running::ended) else { return };
        assert_eq!(status.code(), Some(STATE_UNUSABLE), "{status}\n{}", self.agent.story());
        self.start();
    }

    /// Waits until the hub has the task's result, and asserts that the work was done by one session.
    pub(crate) fn must_be_done_once(&mut self, task: &str) {
        let end = std::time::Instant::now() + wait::BOUND;
        while self.hub.task(task)["status"] != "completed" {
            self.supervise();
            assert!(std::time::Instant::now() < end, "{}\n{}", self.hub.task(task), self.agent.story());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        for step in ["woken", "started", "finished"] {
            assert_eq!(self.agent.count(task, step), 1, "{step}\n{}", self.agent.story());
        }
        let history = self.hub.task(task)["history"].clone();
        let completed = history.as_array().unwrap().iter().filter(|entry| entry["event"] == "completed").count();
        assert_eq!(completed, 1, "{history}");
    }
}
