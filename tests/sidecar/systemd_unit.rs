//! The unit of `docs/`, with nothing changed but its paths, under a running systemd: the machine's for root, the user's own
//! otherwise. Where neither runs there is nothing to test, and the tests say so.
#![cfg(target_os = "linux")]
#![allow(clippy::print_stderr, reason = "a test that cannot run says so")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::hub::Hub;
use crate::support::process::Signal;
use crate::support::sidecar::{Agent, SIDECAR};
use crate::support::{process, wait};

const NEEDED: &str = "/usr/local/bin/agentcom-sidecar";

/// An instance of the unit, gone with the value.
struct Unit {
    manager: &'static [&'static str],
    file: PathBuf,
    name: String,
}

impl Unit {
    /// `None` where no systemd runs that would take it.
    fn of(agent: &Agent, name: &str, changes: &[(&str, &str)]) -> Option<Self> {
        let is_root = rustix::process::getuid().is_root();
        let manager: &[&str] = if is_root { &["systemctl"] } else { &["systemctl", "--user"] };
        let mut runs = Command::new(manager[0]);
        runs.args(&manager[1..]).args(["show", "--property=Version"]);
        if !runs.output().is_ok_and(|output| output.status.success()) {
            eprintln!("no systemd runs here: not tested");
            return None;
        }
        let units = match is_root {
            true => PathBuf::from("/run/systemd/system"),
            false => Path::new(&std::env::var_os("XDG_RUNTIME_DIR")?).join("systemd/user"),
        };
        std::fs::create_dir_all(&units).expect("a folder for units");
        let name = format!("agentcom-{name}-{}", std::process::id());
        let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ops/agentcom-sidecar@.service");
        let text = std::fs::read_to_string(unit).expect("the unit");
        let folder = agent.folder().to_str().expect("a readable path");
        let paths = [(NEEDED, SIDECAR), ("/var/lib/agentcom/%i", folder), ("User=agentcom\n", "")];
        let text = paths.iter().chain(changes).fold(text, |text, (from, to)| {
            assert!(text.contains(from), "{from} is in the unit");
            text.replace(from, to)
        });
        let file = units.join(format!("{name}@.service"));
        std::fs::write(&file, text).expect("a unit");
        let unit = Self { manager, file, name: format!("{name}@alice.service") };
        unit.systemctl(&["daemon-reload"]);
        Some(unit)
    }

    fn systemctl(&self, args: &[&str]) {
        let (success, said) = self.try_systemctl(args);
        assert!(success, "{args:?}: {said}");
    }

    fn try_systemctl(&self, args: &[&str]) -> (bool, String) {
        let mut command = Command::new(self.manager[0]);
        command.args(&self.manager[1..]).args(["--no-pager"]).args(args);
        let (status, said) = process::run(command, wait::BOUND);
        (status.success(), said)
    }

    fn does(&self, what: &str) {
        self.systemctl(&[what, &self.name]);
    }

    fn property(&self, name: &str) -> String {
        let (success, said) = self.try_systemctl(&["show", "--value", "--property", name, &self.name]);
        assert!(success, "{said}");
        said.trim().to_owned()
    }

    fn pid(&self) -> u32 {
        self.property("MainPID").parse().expect("a pid")
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        let _ = self.try_systemctl(&["stop", &self.name]);
        let _ = std::fs::remove_file(&self.file);
        let _ = self.try_systemctl(&["daemon-reload"]);
        let _ = self.try_systemctl(&["reset-failed", &self.name]);
    }
}

fn agent(hub: &Hub) -> Agent {
    Agent::new("alice", &hub.url(), &hub.register("alice"))
}

#[test]
fn a_start_returns_when_the_hub_knows_it_and_a_commanded_restart_keeps_the_process() {
    let hub = Hub::start();
    let agent = agent(&hub);
    let Some(unit) = Unit::of(&agent, "restart", &[]) else { return };
    unit.does("start");
    assert_eq!(hub.agent("alice").expect("the hub knows it")["fsm_state"], "idle");
    let pid = unit.pid();
    let (_, answer) = hub.restart("alice", json!({"reason": "upgrade"}));
    hub.wait_restart(answer["command_id"].as_str().expect("an id"), "alice", "back");
    assert_eq!((unit.pid(), unit.property("NRestarts").as_str()), (pid, "0"));
    unit.does("reload");
    agent.wait_log("the reload", |line| line["message"].as_str()?.contains("reload").then_some(()));
    unit.does("stop");
    assert_eq!((unit.property("ActiveState").as_str(), unit.property("Result").as_str()), ("inactive", "success"));
    assert!(!process::alive(pid));
}

/// What works is in the unit's group of processes, and stays.
fn outlives_a_restart_of_the_unit(name: &str, task: Value) {
    let hub = Hub::start();
    let agent = agent(&hub);
    agent.configure("shell_commands", json!({"enabled": true}));
    let Some(unit) = Unit::of(&agent, name, &[]) else { return };
    unit.does("start");
    let task = hub.submit_with(task);
    agent.wait_run(&task, "started");
    let before = unit.pid();
    unit.does("restart");
    assert_ne!(unit.pid(), before);
    hub.wait_agent("alice", |agent| agent["fsm_state"] == "working");
    agent.go("run", &task);
    hub.wait_task(&task, "completed");
    assert_eq!(agent.count(&task, "started"), 1);
}

#[test]
fn a_session_outlives_a_restart_of_the_unit() {
    outlives_a_restart_of_the_unit("session", json!({"description": "start=0 run=hold"}));
}

#[test]
fn a_command_that_is_run_outlives_a_restart_of_the_unit() {
    // Until it is told to go on, as `agent.sh` does.
    let hold = "echo \"$TASK_ID 1 started\" >> runs.log; while [ ! -e go.run.$TASK_ID ]; do sleep 0.02; done";
    outlives_a_restart_of_the_unit("run", json!({"description": "d", "metadata": {"shell_command": hold}}));
}

#[test]
fn a_loop_that_hangs_is_ended_by_the_watchdog_and_started_again() {
    let hub = Hub::start();
    let agent = agent(&hub);
    let Some(unit) = Unit::of(&agent, "watchdog", &[("WatchdogSec=60", "WatchdogSec=2")]) else { return };
    unit.does("start");
    let pid = unit.pid();
    process::send(pid, Signal::STOP);
    wait::until_true("another process", || ![0, pid].contains(&unit.pid()) && unit.property("SubState") == "running");
    hub.wait_agent("alice", |agent| agent["fsm_state"] == "idle");
}
