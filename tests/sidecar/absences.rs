//! A broken connection is not a lost agent: whatever breaks while an agent works, with two idle agents that could do its
//! task too, it is woken once, and its result counts.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::fs;

use crate::support::hub::Hub;
use crate::support::process::{Running, Signal};
use crate::support::proxy::Proxy;
use crate::support::sidecar::Agent;
use crate::support::wait;
use serde_json::{Value, json};

/// An agent at work behind a proxy, and two idle ones.
struct Stage {
    hub: Hub,
    proxy: Proxy,
    alice: Agent,
    sidecar: Running,
    idle: Vec<(Agent, Running)>,
    task: String,
}

fn agent(hub: &Hub, url: &str, id: &str) -> Agent {
    let agent = Agent::new(id, url, &hub.register(id));
    agent.configure("reconnect_min_ms", json!(20));
    agent.configure("reconnect_max_ms", json!(200));
    agent.configure("results_scan_ms", json!(50));
    agent
}

impl Stage {
    fn new() -> Self {
        Self::with(&[])
    }

    fn with(arguments: &'static [&'static str]) -> Self {
        let hub = Hub::start_with(arguments);
        let proxy = Proxy::before(hub.address());
        let alice = agent(&hub, &proxy.url(), "alice");
        let sidecar = alice.start_supervised();
        hub.wait_agent("alice", |agent| agent["fsm_state"] == "idle");
        let task = hub.submit("run=hold");
        alice.wait_log("running", |line| (line["stage"] == "running").then_some(()));
        let start = |id: &str| {
            let agent = agent(&hub, &hub.url(), id);
            let running = agent.start_supervised();
            hub.wait_agent(id, |agent| agent["fsm_state"] == "idle");
            (agent, running)
        };
        let idle = ["bob", "carol"].map(start).into();
        Self { hub, proxy, alice, sidecar, idle, task }
    }

    /// The run of alice's sidecar, as the hub knows it.
    fn boot(&self) -> String {
        self.hub.agent("alice").unwrap()["boot_id"].as_str().unwrap().to_owned()
    }

    /// Waits until the hub lists alice, and she and it name the same task.
    fn back(&self) {
        self.hub.wait_agent("alice", |agent| agent["current_task_id"] == self.task.as_str());
    }

    /// The session ends. The task is done by alice, who was woken once, as it was assigned; the answer is the task.
    fn done_by_alice(&self) -> Value {
        self.alice.go("run", &self.task);
        let task = self.hub.wait_task(&self.task, "completed");
        assert_eq!((&task["assigned_to"], &task["generation"]), (&json!("alice"), &json!(1)), "{task}");
        let wakes = |agent: &Agent| agent.count(&self.task, "woken");
        assert_eq!((wakes(&self.alice), self.idle.iter().map(|(agent, _)| wakes(agent)).sum::<usize>()), (1, 0));
        wait::until("the files to be gone", || {
            fs::read_dir(self.alice.path("results")).unwrap().next().is_none().then_some(())
        });
        task
    }
}

#[test]
fn a_proxy_that_is_restarted_costs_nothing() {
    let stage = Stage::new();
    let before = stage.boot();
    stage.proxy.away(|| wait::until("the hub to miss her", || stage.hub.agent("alice").is_none().then_some(())));
    stage.back();
    assert_eq!(stage.boot(), before, "it is the same process");
    assert_eq!(stage.done_by_alice()["losses"], 0);
}

#[test]
fn a_result_that_is_written_while_the_proxy_is_away_is_delivered() {
    let stage = Stage::new();
    stage.proxy.away(|| {
        stage.alice.go("run", &stage.task);
        stage.alice.wait_log("the result", |line| (line["event"] == "ResultFound").then_some(()));
    });
    assert_eq!(stage.done_by_alice()["losses"], 0);
}

#[test]
fn six_cuts_in_a_row_cost_nothing() {
    let stage = Stage::new();
    for _ in 0..6 {
        stage.proxy.cut();
        stage.alice.wait_log("the answer", |line| (line["event"] == "HubClosed").then_some(()));
        stage.back();
    }
    assert_eq!(stage.done_by_alice()["losses"], 0);
}

#[test]
fn a_connection_that_carries_nothing_any_more_is_replaced_and_costs_nothing() {
    let stage = Stage::new();
    let before = stage.boot();
    stage.proxy.freeze();
    // The hub knows nothing of it, and the process is another one.
    let mut sidecar = stage.sidecar;
    sidecar.kill9();
    let sidecar = stage.alice.start_supervised();
    let stage = Stage { sidecar, ..stage };
    stage.hub.wait_agent("alice", |agent| agent["boot_id"] != before.as_str());
    assert_eq!(stage.done_by_alice()["losses"], 1, "the process ended by itself");
}

#[test]
fn kill_9_of_the_sidecar_counts_one_loss_and_no_second_wake() {
    let mut stage = Stage::new();
    stage.sidecar.kill9();
    wait::until("the hub to miss her", || stage.hub.agent("alice").is_none().then_some(()));
    stage.sidecar = stage.alice.start_supervised();
    stage.back();
    assert_eq!(stage.done_by_alice()["losses"], 1);
}

#[test]
fn a_sidecar_that_is_stopped_and_started_loses_nothing() {
    for signal in [Signal::INT, Signal::TERM] {
        let mut stage = Stage::new();
        stage.sidecar.signal(signal);
        stage.sidecar.wait_exit();
        stage.sidecar = stage.alice.start_supervised();
        stage.back();
        assert_eq!(stage.done_by_alice()["losses"], 0, "somebody wanted it");
    }
}

#[test]
fn a_restart_that_is_forced_on_the_agents_machine_loses_nothing() {
    let mut stage = Stage::new();
    let (code, said) = stage.alice.operate(&["restart", "--force"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(stage.sidecar.wait_exit().code(), Some(0));
    stage.sidecar = stage.alice.start_supervised();
    stage.back();
    assert_eq!(stage.done_by_alice()["losses"], 0);
}

#[test]
fn kill_9_of_the_hub_loses_nothing() {
    let mut stage = Stage::new();
    stage.hub.kill9();
    stage.hub.start_again();
    stage.back();
    assert_eq!(stage.done_by_alice()["losses"], 0);
}

#[test]
fn who_is_away_for_too_long_keeps_nothing_of_a_task_that_another_has_done() {
    let stage = Stage::with(&["--reconnect-grace-ms", "200"]);
    stage.proxy.away(|| {
        let (bob, carol) = (&stage.idle[0].0, &stage.idle[1].0);
        let other = wait::until("the next wake", || {
            [bob, carol].into_iter().find(|agent| agent.count(&stage.task, "started") == 1)
        });
        other.go("run", &stage.task);
        let task = stage.hub.wait_task(&stage.task, "completed");
        assert_eq!(task["losses"], 1);
    });
    wait::until("her to hear of it", || {
        stage.alice.queue().filter(|queue| queue["active"].is_null() && queue["shelf"] == json!([]))
    });
    wait::until("the files to be gone", || {
        fs::read_dir(stage.alice.path("results")).unwrap().next().is_none().then_some(())
    });
    assert_eq!(stage.alice.status()["phase"], "Idle");
    let next = stage.hub.submit_with(json!({"description": "next", "assign_to": "alice"}));
    stage.hub.wait_task(&next, "completed");
}
