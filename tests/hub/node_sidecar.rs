//! The hub with original Node sidecars: a double that does what they do with each frame, as their public source and the
//! recorded conversations have it. It counts how often the agent was woken for a task, and knows nothing of the hub.

use crate::support::{Got, Hub, PATIENCE, Peer, folder, identify, node, run};
use serde_json::{Value, json};
use tempfile::TempDir;

/// What it does not do in every version.
#[derive(Clone, Copy)]
struct Version {
    /// Tells of the task in hand after a reconnect.
    reports: bool,
    /// Knows `restart_sidecar`.
    restarts: bool,
}

const NEW: Version = Version { reports: true, restarts: true };
const OLD: Version = Version { reports: false, restarts: false };

/// One agent's Node sidecar: its queue.json, and its process and connection while there is one.
struct Node {
    agent_id: String,
    token: String,
    version: Version,
    starts: u64,
    active: Option<Value>,
    recovering: Option<Value>,
    /// By task: the generation that its verdict names.
    generations: std::collections::HashMap<String, u64>,
    woken: Vec<String>,
    peer: Option<Peer>,
    /// Idle agents that could do its task too.
    bystanders: Vec<Peer>,
}

impl Node {
    async fn new(hub: &Hub, agent_id: &str, version: Version) -> Self {
        let token = hub.register(agent_id).await;
        let mut node = Self {
            agent_id: agent_id.to_owned(),
            token,
            version,
            starts: 0,
            active: None,
            recovering: None,
            generations: std::collections::HashMap::new(),
            woken: Vec::new(),
            peer: None,
            bystanders: Vec::new(),
        };
        node.connect(hub).await;
        node
    }

    /// Dials, identifies, and says what it says after `identified`.
    async fn connect(&mut self, hub: &Hub) {
        let mut peer = Peer::connect(hub).await;
        peer.say(identify(&self.agent_id, &self.token, node(self.starts))).await;
        peer.expect("identified").await;
        if let Some(task) = &self.recovering {
            peer.say(json!({
                "type": "task_recovering", "task_id": task["task_id"], "description": "d", "metadata": {},
                "last_status": task["status"], "protocol_version": 1,
            }))
            .await;
        }
        if let (Some(task), true) = (&self.active, self.version.reports) {
            peer.say(json!({
                "type": "state_report", "task_id": task["task_id"], "status": task["status"],
                "generation": task["generation"], "assigned_at": 1, "protocol_version": 1,
            }))
            .await;
        }
        self.peer = Some(peer);
    }

    /// The link breaks; the process lives.
    fn lose_link(&mut self) {
        self.peer = None;
    }

    /// The process ends, by whatever, and pm2 starts the next one.
    async fn start_again(&mut self, hub: &Hub) {
        self.peer = None;
        self.generations.clear();
        self.starts += 1;
        if let Some(task) = self.active.take() {
            self.recovering = Some(task);
        }
        self.connect(hub).await;
    }

    fn peer(&mut self) -> &mut Peer {
        self.peer.as_mut().unwrap()
    }

    async fn say(&mut self, frame: Value) {
        self.peer().say(frame).await;
    }

    /// Takes the next frame and does with it what the Node sidecar does. The answer is its type.
    async fn take(&mut self) -> String {
        let frame = match self.peer().next().await {
            Got::Frame(frame) => frame,
            end @ (Got::Close(..) | Got::End) => panic!("the hub ended it: {end:?}"),
        };
        let kind = frame["type"].as_str().unwrap().to_owned();
        let task_id = frame["task_id"].as_str().unwrap_or_default().to_owned();
        let of = |slot: &Option<Value>| slot.as_ref().is_some_and(|task| task["task_id"] == task_id.as_str());
        match kind.as_str() {
            "task_assign" => self.assigned(&task_id, &frame).await,
            "task_reassign" if of(&self.recovering) => self.recovering = None,
            "task_continue" => {
                self.generations.insert(task_id.clone(), frame["generation"].as_u64().unwrap());
                if of(&self.recovering) {
                    self.active = self.recovering.take();
                }
            }
            "state_report_ack" if frame["action"] == "abort" && of(&self.active) => self.active = None,
            "task_cancelled" => {
                for slot in [&mut self.active, &mut self.recovering] {
                    slot.take_if(|task| task["task_id"] == task_id.as_str());
                }
            }
            _ => {}
        }
        kind
    }

    async fn assigned(&mut self, task_id: &str, frame: &Value) {
        if self.active.is_some() {
            self.say(json!({"type": "task_rejected", "task_id": task_id, "reason": "busy", "protocol_version": 1}))
                .await;
            return;
        }
        self.generations.insert(task_id.to_owned(), frame["generation"].as_u64().unwrap());
        self.active = Some(json!({"task_id": task_id, "status": "accepted", "generation": frame["generation"]}));
        self.say(json!({"type": "task_accepted", "task_id": task_id, "protocol_version": 1})).await;
    }

    /// Takes frames until one of this type was taken.
    async fn take_until(&mut self, kind: &str) {
        let taking = async { while self.take().await != kind {} };
        tokio::time::timeout(PATIENCE, taking).await.unwrap_or_else(|_| panic!("{kind} never came"));
    }

    /// The wake command ended well, and the agent's session shows itself.
    async fn wake(&mut self) {
        let task = self.active.as_mut().unwrap();
        task["status"] = json!("working");
        let task_id = task["task_id"].as_str().unwrap().to_owned();
        self.woken.push(task_id.clone());
        let sign = json!({"type": "wake_result", "task_id": task_id, "status": "success", "attempt": 1, "protocol_version": 1});
        self.say(sign).await;
    }

    /// A task is handed out, accepted and woken.
    async fn take_task(&mut self) -> String {
        self.take_until("task_assign").await;
        let task_id = self.active.as_ref().unwrap()["task_id"].as_str().unwrap().to_owned();
        self.wake().await;
        task_id
    }

    /// The session's result is there.
    async fn finish(&mut self) {
        let task = self.active.take().unwrap();
        let task_id = task["task_id"].as_str().unwrap().to_owned();
        let generation = self.generations.remove(&task_id).unwrap_or(0);
        self.say(json!({
            "type": "task_complete", "task_id": task_id, "generation": generation, "protocol_version": 1,
            "result": {"status": "success", "output": "done"}, "verification_report": null, "verification_history": null,
        }))
        .await;
    }
}

async fn a_task_in_hand(hub: &Hub, version: Version) -> (Node, String) {
    let mut node = Node::new(hub, "n", version).await;
    let task = hub.submit(json!({"description": "d"})).await;
    assert_eq!(node.take_task().await, task);
    node.take_until("task_ack").await;
    for name in ["idle-1", "idle-2"] {
        let token = hub.register(name).await;
        node.bystanders.push(Peer::join(hub, name, &token, run("boot")).await);
    }
    (node, task)
}

/// The task comes to its end, once, and was woken so often.
async fn completed_after(hub: &Hub, node: &Node, task: &str, wakes: usize) -> Value {
    let done = hub.task_until(task, |task| task["status"] == "completed").await;
    let events = done["history"].as_array().unwrap().iter().filter(|event| event["event"] == "completed").count();
    assert_eq!((node.woken.len(), events), (wakes, 1), "{done}");
    let holders = done["history"].as_array().unwrap().iter().filter(|event| event["event"] == "assigned");
    for holder in holders {
        assert_eq!(holder["details"]["agent_id"], node.agent_id.as_str(), "{done}");
    }
    done
}

fn start(flags: &[&str]) -> (TempDir, Hub) {
    let dir = folder();
    let hub = Hub::start(&dir, flags);
    (dir, hub)
}

#[tokio::test]
async fn a_link_that_breaks_mid_task_costs_neither_the_task_nor_a_second_wake() {
    let (_dir, hub) = start(&[]);
    let (mut node, task) = a_task_in_hand(&hub, NEW).await;
    for _ in 0..3 {
        node.lose_link();
        node.connect(&hub).await;
        node.take_until("state_report_ack").await;
    }
    node.finish().await;
    let done = completed_after(&hub, &node, &task, 1).await;
    assert_eq!(done["losses"], 0);
}

#[tokio::test]
async fn one_that_does_not_report_is_asked_and_its_busy_is_a_sign_of_life() {
    let (_dir, hub) = start(&["--reconcile-ms", "100", "--accept-timeout-ms", "300", "--stale-timeout-ms", "1000"]);
    let (mut node, task) = a_task_in_hand(&hub, OLD).await;
    node.lose_link();
    node.connect(&hub).await;
    node.take_until("task_assign").await;
    // The next asking comes when the accept timeout is long over.
    node.take_until("task_assign").await;
    node.finish().await;
    completed_after(&hub, &node, &task, 1).await;
}

#[tokio::test]
async fn a_verdict_that_died_with_the_link_is_asked_for_and_the_task_done_again() {
    let (_dir, hub) = start(&["--reconcile-ms", "100"]);
    let (mut node, task) = a_task_in_hand(&hub, NEW).await;
    node.lose_link();
    // It forgets the task with the frame that it could not send.
    node.active = None;
    node.connect(&hub).await;
    assert_eq!(node.take_task().await, task);
    node.finish().await;
    completed_after(&hub, &node, &task, 2).await;
}

#[tokio::test]
async fn a_process_that_was_killed_mid_task_goes_on_with_the_session_it_had_woken() {
    let (_dir, hub) = start(&[]);
    let (mut node, task) = a_task_in_hand(&hub, NEW).await;
    node.start_again(&hub).await;
    node.take_until("task_continue").await;
    node.finish().await;
    completed_after(&hub, &node, &task, 1).await;
}

#[tokio::test]
async fn a_verdict_that_comes_before_any_report_counts_while_nobody_else_has_the_task() {
    let (_dir, hub) = start(&[]);
    let (mut node, task) = a_task_in_hand(&hub, OLD).await;
    node.lose_link();
    node.connect(&hub).await;
    node.finish().await;
    completed_after(&hub, &node, &task, 1).await;
}

#[tokio::test]
async fn what_a_killed_process_had_not_woken_is_handed_out_anew() {
    let (_dir, hub) = start(&[]);
    let mut node = Node::new(&hub, "n", NEW).await;
    let task = hub.submit(json!({"description": "d"})).await;
    node.take_until("task_assign").await;
    node.start_again(&hub).await;
    node.take_until("task_reassign").await;
    assert_eq!(node.take_task().await, task);
    node.finish().await;
    completed_after(&hub, &node, &task, 1).await;
}

#[tokio::test]
async fn one_that_is_away_for_longer_than_the_grace_lets_go_of_what_another_was_given() {
    for killed in [false, true] {
        let (_dir, hub) = start(&["--reconnect-grace-ms", "200"]);
        let (mut node, task) = a_task_in_hand(&hub, NEW).await;
        node.bystanders.clear();
        node.lose_link();
        let mut other = Node::new(&hub, "m", NEW).await;
        assert_eq!(other.take_task().await, task);
        if killed {
            node.start_again(&hub).await;
            node.take_until("task_reassign").await;
        } else {
            node.connect(&hub).await;
            node.take_until("state_report_ack").await;
        }
        assert_eq!((&node.active, &node.recovering), (&None, &None));
        other.finish().await;
        let done = hub.task_until(&task, |task| task["status"] == "completed").await;
        assert_eq!((other.woken.len(), &done["losses"]), (1, &json!(1)));
    }
}

#[tokio::test]
async fn a_task_that_takes_longer_than_the_stale_timeout_is_asked_about_and_stays() {
    let (_dir, hub) = start(&["--stale-timeout-ms", "300"]);
    let (mut node, task) = a_task_in_hand(&hub, NEW).await;
    for _ in 0..2 {
        node.take_until("task_assign").await;
    }
    node.finish().await;
    let done = completed_after(&hub, &node, &task, 1).await;
    assert_eq!(done["losses"], 0);
}

#[tokio::test]
async fn one_that_is_stuck_with_a_task_of_the_process_before_it_is_freed() {
    let (_dir, hub) = start(&["--stale-timeout-ms", "1000", "--reject-retry-ms", "100"]);
    let (mut node, task) = a_task_in_hand(&hub, NEW).await;
    node.bystanders.clear();
    // No restart makes the hub wait longer.
    for _ in 0..2 {
        node.start_again(&hub).await;
        node.take_until("task_continue").await;
    }
    let begun = std::time::Instant::now();
    // The result was written while it was down, and it never looks.
    node.take_until("task_cancelled").await;
    assert!(begun.elapsed() < PATIENCE / 2, "after the stale timeout");
    assert_eq!(node.take_task().await, task);
    node.finish().await;
    let done = completed_after(&hub, &node, &task, 2).await;
    assert_eq!(done["losses"], 3, "two processes, and the silence");
}

#[tokio::test]
async fn a_restart_in_the_middle_of_a_wake_keeps_the_task_and_wakes_nothing_twice() {
    let (_dir, hub) = start(&[]);
    let (mut node, task) = a_task_in_hand(&hub, NEW).await;
    node.active.as_mut().unwrap()["status"] = json!("waking_confirmation");
    hub.restart("n", json!({"reason": "update"})).await;
    node.take_until("restart_sidecar").await;
    // It waits only where the agent works already.
    node.say(json!({"type": "agent_restarting", "reason": "update", "protocol_version": 1})).await;
    node.start_again(&hub).await;
    node.take_until("task_continue").await;
    hub.restart_until("n", "back").await;
    node.finish().await;
    let done = completed_after(&hub, &node, &task, 1).await;
    assert_eq!(done["generation"], 1);
}

#[tokio::test]
async fn a_restart_before_the_wake_costs_the_task_no_loss() {
    let (_dir, hub) = start(&[]);
    let mut node = Node::new(&hub, "n", NEW).await;
    let task = hub.submit(json!({"description": "d"})).await;
    node.take_until("task_assign").await;
    hub.restart("n", json!({"reason": "update"})).await;
    node.take_until("restart_sidecar").await;
    node.say(json!({"type": "agent_restarting", "reason": "update", "protocol_version": 1})).await;
    node.start_again(&hub).await;
    assert_eq!(node.take_task().await, task);
    node.finish().await;
    let done = completed_after(&hub, &node, &task, 1).await;
    assert_eq!(done["losses"], 0);
}

#[tokio::test]
async fn one_that_does_not_know_the_command_works_on_and_the_command_is_overdue() {
    let (_dir, hub) =
        start(&["--restart-deadline-ms", "100", "--drain-deadline-ms", "100", "--restart-margin-ms", "100"]);
    let (mut node, task) = a_task_in_hand(&hub, OLD).await;
    assert!(!node.version.restarts);
    hub.restart("n", json!({"reason": "update"})).await;
    node.take_until("restart_sidecar").await;
    hub.restart_until("n", "overdue").await;
    node.finish().await;
    completed_after(&hub, &node, &task, 1).await;
    let next = hub.submit(json!({"description": "next", "assign_to": "n"})).await;
    assert_eq!(node.take_task().await, next);
}

#[tokio::test]
async fn a_second_connection_of_the_same_process_takes_the_task_along() {
    let (_dir, hub) = start(&[]);
    let (mut node, task) = a_task_in_hand(&hub, NEW).await;
    let mut half_open = node.peer.take().unwrap();
    node.connect(&hub).await;
    half_open.expect_close(4001).await;
    drop(half_open);
    node.take_until("state_report_ack").await;
    node.finish().await;
    let done = completed_after(&hub, &node, &task, 1).await;
    assert_eq!(done["generation"], 1);
}

#[tokio::test]
async fn kill_9_of_the_hub_mid_task_costs_neither_the_task_nor_a_second_wake() {
    for (version, word) in [(NEW, "state_report_ack"), (OLD, "task_assign")] {
        let dir = folder();
        let hub = Hub::start(&dir, &[]);
        let (mut node, task) = a_task_in_hand(&hub, version).await;
        hub.kill_9();
        node.lose_link();
        let hub = Hub::start(&dir, &["--reconcile-ms", "100"]);
        node.connect(&hub).await;
        node.take_until(word).await;
        node.finish().await;
        let done = completed_after(&hub, &node, &task, 1).await;
        assert_eq!(done["generation"], 1);
    }
}

#[tokio::test]
async fn a_cancelled_task_frees_it() {
    let (_dir, hub) = start(&[]);
    let (mut node, task) = a_task_in_hand(&hub, NEW).await;
    let (status, _) = hub.admin("POST", &format!("/api/tasks/{task}/cancel"), Value::Null).await;
    assert_eq!(status, 200);
    node.take_until("task_cancelled").await;
    let next = hub.submit(json!({"description": "next", "assign_to": "n"})).await;
    assert_eq!(node.take_task().await, next);
}
