//! pm2's end of the channel in the hands of a test that reads slowly, or not at all, or hangs up: the sidecar serves on,
//! and what stands in the pipe is whole lines.
#![cfg(target_os = "linux")]

use std::cell::Cell;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::hub::Hub;
use crate::support::sidecar::{Agent, SIDECAR};
use crate::support::wait;

struct Stage {
    hub: Hub,
    agent: Agent,
    pm2: UnixStream,
    sidecar: Child,
}

impl Stage {
    /// A sidecar that pm2 seems to have started, with `autorestart: false`: a restart is in place, on the same pipe.
    fn set() -> Self {
        let hub = Hub::start();
        let agent = Agent::new("alice", &hub.url(), &hub.register("alice"));
        agent.configure("restart_intensity", json!({"max": 100, "window_ms": 60_000}));
        let (pm2, theirs) = UnixStream::pair().expect("a pair of sockets");
        pm2.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        let mut command = Command::new("sh");
        command.args(["-c", r#"exec "$0" run --config "$1" 3<&0 0</dev/null"#, SIDECAR]).arg(agent.config_file());
        let home = agent.path("pm2-home");
        command.env("pm_id", "0").env("name", "alice").env("PM2_HOME", home);
        command.env("autorestart", "false").env("NODE_CHANNEL_FD", "3").current_dir(agent.folder());
        let stdin = Stdio::from(OwnedFd::from(theirs));
        let sidecar = command.stdin(stdin).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        let stage = Self { hub, agent, pm2, sidecar };
        stage.wait_idle();
        stage
    }

    fn wait_idle(&self) {
        self.hub.wait_agent("alice", |agent| agent["fsm_state"] == "idle");
    }

    fn restart_in_place(&self) {
        let (_, answer) = self.hub.restart("alice", json!({"reason": "in place"}));
        self.hub.wait_restart(answer["command_id"].as_str().expect("an id"), "alice", "back");
    }

    fn says(&mut self, line: &str) {
        self.pm2.write_all(line.as_bytes()).expect("the sidecar reads");
    }

    /// Reads whole lines until one of them is as wanted.
    fn hear(&mut self, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let (mut heard, mut line) = (Vec::new(), Vec::new());
        let mut byte = [0];
        loop {
            self.pm2.read_exact(&mut byte).unwrap_or_else(|error| panic!("{error} after {heard:?}"));
            if byte[0] != b'\n' {
                line.push(byte[0]);
                continue;
            }
            let value: Value = serde_json::from_slice(&line).expect("a line is JSON");
            assert!(value == "ready" || value.is_object(), "{value}");
            let done = wanted(&value);
            heard.push(value);
            line.clear();
            if done {
                return heard;
            }
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.sidecar.kill();
        let _ = self.sidecar.wait();
    }
}

#[test]
fn each_run_says_everything_anew() {
    let mut stage = Stage::set();
    for _ in 0..3 {
        // Readiness and the actions come in either order: both wait for the hub.
        let left = Cell::new(2);
        let heard = stage.hear(|value| {
            let counts = value == "ready" || value["data"]["action_name"] == "cancel-restart";
            left.set(left.get() - i32::from(counts));
            left.get() == 0
        });
        let actions: Vec<_> = heard.iter().filter_map(|value| value["data"]["action_name"].as_str()).collect();
        assert_eq!(actions, ["status", "restart", "drain", "resume", "cancel-restart"]);
        stage.hear(|value| value["type"] == "axm:monitor" && value["data"]["State"]["value"] == "Idle");
        stage.restart_in_place();
    }
}

#[test]
fn a_pm2_that_does_not_read_holds_nothing_up() {
    let mut stage = Stage::set();
    // Far more answers than the pipe takes.
    for _ in 0..60 {
        stage.says(&"\"status\"\n".repeat(20));
    }
    let task = stage.hub.submit("start=0 run=0");
    stage.hub.wait_task(&task, "completed");
    // The next run goes on with a pipe that is full.
    stage.restart_in_place();
    stage.says("\"drain\"\n");
    wait::until_true("the trigger to be heard", || {
        stage.agent.log_lines().iter().any(|line| line["action"] == "drain")
    });
    stage.hear(|value| value["data"]["action_name"] == "drain" && value["type"] == "axm:reply");
}

#[test]
fn triggers_in_the_last_moment_are_answered() {
    let mut stage = Stage::set();
    stage.hear(|value| value == "ready");
    stage.says("{\"msg\":\"restart\",\"opts\":\"last\"}\n\"drain\"\n\"status\"\n");
    let answers = std::cell::RefCell::new(Vec::new());
    stage.hear(|value| {
        if value["type"] == "axm:reply" {
            answers.borrow_mut().push(value["data"]["action_name"].clone());
        }
        answers.borrow().len() == 3
    });
    let mut answers = answers.into_inner();
    answers.sort_by_key(Value::to_string);
    assert_eq!(answers, ["drain", "restart", "status"]);
}

#[test]
fn it_serves_on_when_pm2_hangs_up() {
    let mut stage = Stage::set();
    let (other, _) = UnixStream::pair().expect("a pair of sockets");
    drop(std::mem::replace(&mut stage.pm2, other));
    stage.agent.wait_log("the end of the channel", |line| {
        line["message"].as_str().is_some_and(|text| text.starts_with("pm2's channel has ended")).then_some(())
    });
    let task = stage.hub.submit("start=0 run=0");
    stage.hub.wait_task(&task, "completed");
    stage.restart_in_place();
}
