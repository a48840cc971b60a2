//! Commands whose end is the task's end, at our own hub: across a commanded restart, crashes, and a cancellation.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::fs;

use crate::support::hub::Hub;
use crate::support::process::{self, Running};
use crate::support::sidecar::Agent;
use crate::support::wait;
use serde_json::{Value, json};

struct Stage {
    hub: Hub,
    agent: Agent,
}

/// Our hub routes nothing: the hub's own shell lines are what runs here without a wake.
fn stage() -> Stage {
    let hub = Hub::start();
    let token = hub.register("alice");
    let agent = Agent::new("alice", &hub.url(), &token);
    agent.configure("reconnect_min_ms", json!(20));
    agent.configure("reconnect_max_ms", json!(200));
    agent.configure("results_scan_ms", json!(50));
    agent.configure("shell_commands", json!({"enabled": true}));
    Stage { hub, agent }
}

impl Stage {
    fn start(&self) -> Running {
        let sidecar = self.agent.start_supervised();
        self.hub.wait_agent("alice", |agent| agent["status"] != "offline");
        sidecar
    }

    /// A task that holds until [`Self::go`], and leaves its process id.
    fn submit(&self) -> String {
        let command = "echo begun >> begun; echo $$ > pid; \
                       while test -e config.json && ! test -e go; do sleep 0.05; done; echo finished";
        self.hub.submit_with(json!({"description": "d", "metadata": {"shell_command": command}, "max_retries": 1}))
    }

    fn pid(&self) -> u32 {
        let path = self.agent.path("pid");
        let probe = || fs::read_to_string(&path).ok()?.trim().parse().ok();
        wait::until_or("the command", wait::BOUND, probe, || self.agent.story())
    }

    fn go(&self) {
        fs::write(self.agent.path("go"), "").unwrap();
    }

    fn finished_once(&self, task: &str) {
        let done: Value = self.hub.wait_task(task, "completed");
        assert_eq!(done["result"]["output"], "finished\n", "{done}");
        assert_eq!(fs::read_to_string(self.agent.path("begun")).unwrap(), "begun\n", "run once");
    }
}

#[test]
fn a_restart_within_its_deadline_waits_for_the_command() {
    let stage = stage();
    let mut sidecar = stage.start();
    let task = stage.submit();
    stage.pid();
    let (status, answer) = stage.hub.restart("alice", json!({"reason": "news"}));
    assert_eq!(status, 200, "{answer}");
    stage.agent.wait_log("RestartPending", |line| (line["phase"] == "RestartPending").then_some(()));
    assert!(sidecar.ended().is_none());
    stage.go();
    assert!(sidecar.wait_exit().success());
    stage.finished_once(&task);
    let _next = stage.start();
    stage.hub.wait_restart(answer["command_id"].as_str().unwrap(), "alice", "back");
}

#[test]
fn a_restart_past_its_deadline_leaves_the_command_running_and_the_next_sidecar_finishes_the_task() {
    let stage = stage();
    let mut sidecar = stage.start();
    let task = stage.submit();
    let pid = stage.pid();
    let (status, answer) = stage.hub.restart("alice", json!({"reason": "news", "deadline_ms": 300}));
    assert_eq!(status, 200, "{answer}");
    assert!(sidecar.wait_exit().success());
    assert!(process::alive(pid), "the command goes on");
    let _next = stage.start();
    stage.hub.wait_restart(answer["command_id"].as_str().unwrap(), "alice", "back");
    stage.go();
    stage.finished_once(&task);
}

#[test]
fn a_sidecar_that_is_killed_again_and_again_runs_the_command_once() {
    let stage = stage();
    let mut sidecar = stage.start();
    let task = stage.submit();
    stage.pid();
    for _ in 0..3 {
        sidecar.kill9();
        sidecar = stage.start();
    }
    stage.go();
    stage.finished_once(&task);
}

#[test]
fn a_stopped_sidecar_leaves_the_command_running() {
    let stage = stage();
    let mut sidecar = stage.start();
    let task = stage.submit();
    let pid = stage.pid();
    sidecar.signal(process::Signal::TERM);
    assert!(sidecar.wait_exit().success());
    assert!(process::alive(pid), "the command goes on");
    stage.go();
    let _next = stage.start();
    stage.finished_once(&task);
}
