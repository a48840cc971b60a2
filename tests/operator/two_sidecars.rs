//! Two real sidecars with one identity, from two folders, at our hub: one stays, the other is refused, and both operators
//! are told of the other. No task is lost or begun twice for it.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::fs;
use std::time::Duration;

use crate::support::hub::Hub;
use crate::support::process::{self, Running, Signal};
use crate::support::sidecar::Agent;
use crate::support::wait;
use serde_json::{Value, json};

/// Longer than a superseded sidecar waits.
const ONE_TURN: Duration = Duration::from_millis(1_500);

/// A hub, two folders of the agent `a`, and another agent that is connected and idle.
struct Stage {
    hub: Hub,
    first: Agent,
    second: Agent,
    other: Agent,
}

impl Stage {
    fn new(arguments: &'static [&'static str]) -> Self {
        let hub = Hub::start_with(arguments);
        let token = hub.register("a");
        let agent = |id, token: &str| {
            let agent = Agent::new(id, &hub.url(), token);
            agent.configure("reconnect_min_ms", json!(50));
            agent.configure("results_scan_ms", json!(50));
            agent
        };
        let (first, second) = (agent("a", &token), agent("a", &token));
        let other = agent("other", &hub.register("other"));
        Self { hub, first, second, other }
    }

    fn start(&self, agent: &Agent) -> Running {
        let sidecar = agent.start();
        let online = || is_online(agent).then_some(());
        wait::until_or("the sidecar to be online", wait::BOUND, online, || agent.story());
        sidecar
    }

    /// A task in the hands of the first, and then the other agent beside it.
    fn start_work(&self, description: &str) -> (String, Running, Running) {
        let first = self.start(&self.first);
        let task = self.hub.submit(description);
        self.first.wait_log("running", |line| (line["stage"] == "running").then_some(()));
        (task, first, self.start(&self.other))
    }

    /// Waits until the second is refused.
    fn wait_refused(&self) {
        let refused = |line: &Value| (warns_of_another(line) && line["refused"] == true).then_some(());
        wait::until_or(
            "the second to be refused",
            wait::BOUND,
            || self.second.log_lines().iter().find_map(refused),
            || format!("{}\n{}\n{}", self.hub.output(), self.first.story(), self.second.story()),
        );
    }

    /// The hub's warnings of two sidecars.
    fn hub_warnings(&self) -> Vec<Value> {
        let output = self.hub.output();
        let lines = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| says(line, "two sidecars use one identity")).collect()
    }

    /// How often the task has taken that step, in all folders.
    fn count(&self, task: &str, step: &str) -> usize {
        [&self.first, &self.second, &self.other].map(|agent| agent.count(task, step)).into_iter().sum()
    }

    /// Waits until the task is completed, and asserts that one session did it and nobody lost it.
    fn done_once(&self, task: &str) {
        let done = self.hub.wait_task(task, "completed");
        let counts = ["woken", "started", "finished"].map(|step| self.count(task, step));
        assert_eq!(counts, [1, 1, 1], "woken, started, finished; {}\n{}", self.first.story(), self.second.story());
        assert_eq!((&done["losses"], &done["generation"]), (&json!(0), &json!(1)), "{done}");
    }
}

fn says(line: &Value, words: &str) -> bool {
    line["message"].as_str().is_some_and(|message| message.contains(words))
}

fn warns_of_another(line: &Value) -> bool {
    line["level"] == "WARN" && says(line, "another sidecar uses this identity") && says(line, "onboard")
}

fn is_online(agent: &Agent) -> bool {
    agent.operate(&["status"]).0 == 0 && agent.status()["hub"]["link"] == "online"
}

/// The exit code of `check`, and its finding about the identity.
fn check(agent: &Agent) -> (Option<i32>, Value) {
    let mut command = agent.operator(&["check", "--json"]);
    command.env("PM2_HOME", agent.path("no-pm2"));
    let (status, text) = process::run(command, wait::BOUND);
    let report: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let found = report["findings"].as_array().unwrap().iter().find(|finding| finding["check"] == "identity");
    (status.code(), found.unwrap_or_else(|| panic!("{text}")).clone())
}

/// Asserts that `status` and `check` name the other sidecar, and that the log has warned of each encounter once.
fn assert_told(agent: &Agent) {
    let status = agent.status();
    let told = &status["identity_conflict"];
    assert!(told["address"].as_str().is_some_and(|address| address.starts_with("127.0.0.1:")), "{told}");
    assert_eq!(told["recent"], true, "{told}");
    let warnings = agent.log_lines().into_iter().filter(warns_of_another).count();
    assert_eq!(told["times"], json!(warnings), "{}", agent.story());
    let (_, page) = agent.operate(&["status"]);
    let at = format!("  ! another sidecar at {} uses this identity", told["address"].as_str().unwrap());
    assert!(page.contains(&at) && page.contains("    -> stop one of the two"), "{page}");
    let (code, found) = check(agent);
    assert_eq!((code, &found["level"]), (Some(69), &json!("problem")), "{found}");
    let text = found["found"].as_str().unwrap();
    assert!(text.contains(told["address"].as_str().unwrap()) && text.contains("the hub saw them at"), "{found}");
    assert!(found["do"].as_str().is_some_and(|todo| todo.contains("onboard") && todo.contains("copied")), "{found}");
}

#[test]
fn of_two_idle_ones_the_first_stays_and_both_are_told_of_the_other() {
    let stage = Stage::new(&[]);
    let (_first, _other) = (stage.start(&stage.first), stage.start(&stage.other));
    assert_eq!(check(&stage.first).1["level"], "ok");
    let _second = stage.second.start();
    stage.wait_refused();
    let connected_at = stage.hub.agent("a").unwrap()["connected_at"].clone();
    // The second waits for as long as the hub has told it, and says so.
    let status = stage.second.status();
    let next_ms = status["next"]["in_ms"].as_u64().unwrap();
    assert!((30_000..=61_000).contains(&next_ms), "{status}");
    assert!(status["hub"]["detail"].as_str().unwrap().ends_with("a time that the hub named"), "{status}");
    assert_eq!((&status["hub"]["link"], &status["identity_conflict"]["in_our_place"]), (&json!("down"), &json!(true)));
    wait::never("the first loses its place", ONE_TURN, || {
        stage.hub.agent("a").is_none_or(|agent| agent["connected_at"] != connected_at)
    });
    assert_eq!(stage.first.status()["identity_conflict"]["in_our_place"], false);
    assert_told(&stage.first);
    assert_told(&stage.second);
    let conflict = stage.hub.agent("a").unwrap()["identity_conflict"].clone();
    let addresses = conflict["addresses"].as_array().unwrap();
    assert_eq!(addresses[0], stage.second.status()["identity_conflict"]["address"], "the one that stays");
    assert!(addresses.len() == 2 && addresses[0] != addresses[1] && conflict["last_at"].is_u64(), "{conflict}");
    assert_eq!(stage.hub.agent("other").unwrap()["identity_conflict"], Value::Null);
    // One line a minute.
    let warnings = stage.hub_warnings();
    let address = |key: &str| warnings[0][key].as_str().is_some_and(|address| address.starts_with("127.0.0.1:"));
    assert!(warnings.len() == 1 && address("older") && address("newer"), "{warnings:?}");
}

#[test]
fn the_one_that_works_keeps_its_task_and_its_place() {
    let stage = Stage::new(&[]);
    let (task, _first, _other) = stage.start_work("run=hold");
    let _second = stage.second.start();
    stage.wait_refused();
    assert_eq!(stage.hub.agent("a").unwrap()["current_task_id"], task.as_str());
    assert_told(&stage.first);
    assert_told(&stage.second);
    stage.first.go("run", &task);
    stage.done_once(&task);
}

#[test]
fn a_task_that_ends_while_the_place_changes_hands_is_completed_once() {
    let stage = Stage::new(&[]);
    let (task, _first, _other) = stage.start_work("run=2");
    let _second = stage.second.start();
    stage.done_once(&task);
    stage.wait_refused();
}

#[test]
fn a_copy_with_the_journal_of_a_running_task_does_not_begin_it_again() {
    let stage = Stage::new(&[]);
    let (task, _first, _other) = stage.start_work("run=hold");
    for name in ["queue.json".to_owned(), format!("results/{task}.started")] {
        fs::copy(stage.first.path(&name), stage.second.path(&name)).unwrap();
    }
    let _second = stage.second.start();
    stage.wait_refused();
    stage.first.go("run", &task);
    stage.done_once(&task);
}

/// The session of the copied journal belongs to another machine: it cannot be followed here.
#[test]
fn a_copy_on_another_machine_does_not_begin_a_running_task_again() {
    let stage = Stage::new(&[]);
    let (task, _first, _other) = stage.start_work("run=hold");
    let journal = fs::read_to_string(stage.first.path("queue.json")).unwrap();
    let mut journal: Value = serde_json::from_str(&journal).unwrap();
    let ours = &mut journal["active"]["sidecar"];
    assert!(ours["machine_boot"].is_string() && ours["woken"]["machine_boot"].is_string(), "{ours}");
    (ours["machine_boot"], ours["woken"]["machine_boot"]) = (json!("elsewhere"), json!("elsewhere"));
    fs::write(stage.second.path("queue.json"), journal.to_string()).unwrap();
    let _second = stage.second.start();
    stage.wait_refused();
    stage.first.go("run", &task);
    stage.done_once(&task);
}

#[test]
fn when_the_one_that_stayed_is_stopped_the_other_comes_in() {
    let stage = Stage::new(&["--identity-retry-ms", "500"]);
    let mut first = stage.start(&stage.first);
    let _second = stage.second.start();
    stage.wait_refused();
    first.signal(Signal::TERM);
    assert!(first.wait_exit().success());
    let online = || is_online(&stage.second).then_some(());
    wait::until_or("the second to come in", wait::BOUND, online, || stage.second.story());
    let told = stage.second.status()["identity_conflict"].clone();
    assert_eq!((&told["recent"], &told["in_our_place"]), (&json!(true), &json!(false)), "{told}");
    let task = stage.hub.submit("start=0 run=0");
    stage.hub.wait_task(&task, "completed");
    assert_eq!(stage.second.count(&task, "finished"), 1, "{}", stage.second.story());
}
