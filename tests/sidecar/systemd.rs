//! What the sidecar tells systemd, judged by a socket of the test's own that stands in for systemd's.
#![cfg(target_os = "linux")]

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::hub::Hub;
use crate::support::process::Signal;
use crate::support::sidecar::Agent;
use crate::support::{process, wait};

struct Systemd(UnixDatagram);

impl Systemd {
    fn at(path: &Path) -> Self {
        Self::from(UnixDatagram::bind(path).expect("a socket"))
    }

    fn from(socket: UnixDatagram) -> Self {
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        Self(socket)
    }

    fn hears(&self) -> Option<String> {
        let mut bytes = [0; 4096];
        let length = self.0.recv(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
    }

    /// Waits until it is told so; answers all that it was told until then.
    fn wait_told(&self, start: &str) -> Vec<String> {
        let mut told = Vec::new();
        wait::until(&format!("systemd to be told {start}"), || {
            told.extend(self.hears());
            told.last().is_some_and(|last| last.starts_with(start)).then_some(())
        });
        told
    }
}

fn agent(hub: &Hub) -> Agent {
    Agent::new("alice", &hub.url(), &hub.register("alice"))
}

fn text(path: &Path) -> String {
    path.to_str().expect("a readable path").to_owned()
}

#[test]
fn it_says_when_it_is_ready_how_it_is_and_that_it_stops() {
    let hub = Hub::start();
    let agent = agent(&hub);
    let systemd = Systemd::at(&agent.path("notify"));
    let mut sidecar = agent.start_with(&[("NOTIFY_SOCKET", &text(&agent.path("notify")))]);
    systemd.wait_told("READY=1");
    systemd.wait_told("STATUS=Idle: waits for a task; hub online");
    let task = hub.submit("start=0 run=hold");
    systemd.wait_told("STATUS=Working: has a task");
    sidecar.signal(Signal::TERM);
    let told = systemd.wait_told("STOPPING=1");
    assert!(!told.contains(&"READY=1".to_owned()), "once: {told:?}");
    assert!(sidecar.wait_exit().success());
    agent.go("run", &task);
}

#[test]
fn it_finds_a_socket_in_the_abstract_namespace() {
    let hub = Hub::start();
    let agent = agent(&hub);
    let name = format!("agentcom-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let systemd = Systemd::from(UnixDatagram::bind_addr(&address).expect("a socket"));
    let _sidecar = agent.start_with(&[("NOTIFY_SOCKET", &format!("@{name}"))]);
    systemd.wait_told("READY=1");
}

#[test]
fn it_is_ready_without_a_hub_too() {
    let agent = Agent::new("alice", "ws://127.0.0.1:9/ws", "token");
    let systemd = Systemd::at(&agent.path("notify"));
    let _sidecar = agent.start_with(&[("NOTIFY_SOCKET", &text(&agent.path("notify")))]);
    let told = systemd.wait_told("READY=1");
    assert!(told.iter().any(|line| line.starts_with("STATUS=Idle: waits for the hub")), "{told:?}");
}

#[test]
fn a_commanded_restart_keeps_the_process_and_is_ready_again() {
    let hub = Hub::start();
    let agent = agent(&hub);
    let systemd = Systemd::at(&agent.path("notify"));
    let mut sidecar = agent.start_with(&[("NOTIFY_SOCKET", &text(&agent.path("notify")))]);
    systemd.wait_told("READY=1");
    let (_, answer) = hub.restart("alice", json!({"reason": "upgrade"}));
    hub.wait_restart(answer["command_id"].as_str().expect("an id"), "alice", "back");
    let told = systemd.wait_told("READY=1");
    assert!(!told.contains(&"STOPPING=1".to_owned()), "{told:?}");
    assert_eq!(sidecar.ended(), None);
    let why = "under systemd, which keeps the process either way and would count an exit against its start limit";
    agent.wait_log("why", |line| (line["why"] == why).then_some(()));
}

#[test]
fn the_loop_feeds_the_watchdog_at_half_its_time() {
    let hub = Hub::start();
    let agent = agent(&hub);
    let systemd = Systemd::at(&agent.path("notify"));
    let socket = text(&agent.path("notify"));
    let sidecar = agent.start_with(&[("NOTIFY_SOCKET", &socket), ("WATCHDOG_USEC", "400000")]);
    systemd.wait_told("WATCHDOG=1");
    let since = Instant::now();
    for _ in 0..5 {
        systemd.wait_told("WATCHDOG=1");
    }
    assert!(since.elapsed() >= Duration::from_millis(700), "every 200 ms: {:?}", since.elapsed());
    sidecar.signal(Signal::STOP);
    // What was on its way.
    while systemd.hears().is_some() {}
    wait::never("a process that stands still feeds it", Duration::from_millis(600), || systemd.hears().is_some());
    sidecar.signal(Signal::CONT);
    systemd.wait_told("WATCHDOG=1");
}

#[test]
fn a_watchdog_of_another_process_is_not_fed() {
    let hub = Hub::start();
    let agent = agent(&hub);
    let systemd = Systemd::at(&agent.path("notify"));
    let socket = text(&agent.path("notify"));
    let variables = [("NOTIFY_SOCKET", socket.as_str()), ("WATCHDOG_USEC", "100000"), ("WATCHDOG_PID", "1")];
    let _sidecar = agent.start_with(&variables);
    systemd.wait_told("READY=1");
    let fed = || systemd.hears().is_some_and(|line| line == "WATCHDOG=1");
    wait::never("it is fed", Duration::from_millis(500), fed);
}

#[test]
fn what_it_starts_cannot_speak_to_systemd() {
    let hub = Hub::start();
    let agent = agent(&hub);
    let systemd = Systemd::at(&agent.path("notify"));
    let file = text(&agent.path("env"));
    agent.configure("wake_command", json!(format!("env > '{file}.part' && mv '{file}.part' '{file}'")));
    let socket = text(&agent.path("notify"));
    let pid = std::process::id().to_string();
    let variables =
        [("NOTIFY_SOCKET", socket.as_str()), ("WATCHDOG_USEC", "9000000"), ("SYSTEMD_EXEC_PID", pid.as_str())];
    let _sidecar = agent.start_with(&variables);
    systemd.wait_told("READY=1");
    hub.submit("x");
    let env = wait::until("the wake command", || std::fs::read_to_string(&file).ok());
    assert!(env.contains("TASK_ID="), "{env}");
    for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "SYSTEMD_EXEC_PID"] {
        assert!(!env.lines().any(|line| line.starts_with(name)), "{env}");
    }
}

#[test]
fn a_socket_that_is_none_stops_nobody() {
    let hub = Hub::start();
    let agent = agent(&hub);
    let _sidecar = agent.start_with(&[("NOTIFY_SOCKET", "vsock:2:1234")]);
    let task = hub.submit("start=0 run=0");
    hub.wait_task(&task, "completed");
    agent.wait_log("why", |line| (line["socket"] == "vsock:2:1234").then_some(()));
}

/// Only where systemd's own checker is at hand; the unit must parse, and name nothing that it does not know.
#[test]
fn the_unit_file_is_one() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ops/agentcom-sidecar@.service");
    let folder = tempfile::tempdir().expect("a folder");
    let text = std::fs::read_to_string(unit).expect("the unit");
    for wanted in ["Type=notify", "Restart=always", "WatchdogSec=", "KillMode=process", "TimeoutStopSec="] {
        assert!(text.contains(wanted), "{wanted}");
    }
    let there = text.replace("/usr/local/bin/agentcom-sidecar", crate::support::sidecar::SIDECAR);
    std::fs::write(folder.path().join("agentcom-sidecar@.service"), there).expect("a copy");
    let mut command = std::process::Command::new("systemd-analyze");
    command.arg("verify").arg(folder.path().join("agentcom-sidecar@x.service"));
    if command.output().is_err() {
        return;
    }
    let (_, said) = process::run(command, wait::BOUND);
    let about_us: Vec<&str> = said.lines().filter(|line| line.contains("agentcom-sidecar@")).collect();
    assert!(about_us.is_empty(), "{said}");
}
