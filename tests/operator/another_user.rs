//! What another user of the machine meets at a sidecar's local socket: a process of theirs, made so by the kernel. Only
//! root can start one, so these print why and pass where the tests run as somebody else.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::process::{self, Running};
use crate::support::scene::Scene;
use crate::support::sidecar::SIDECAR;
use crate::support::wait;
use serde_json::json;

/// Nobody.
const OTHER: u32 = 65_534;

/// A running sidecar, and what somebody else needs to ask it: a program and a configuration that they can read.
struct Neighbours {
    scene: Scene,
    _sidecar: Running,
    program: PathBuf,
    config: PathBuf,
}

impl Neighbours {
    /// None where the tests may not become somebody else.
    fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            let _ = writeln!(std::io::stderr(), "left out: only root can start another user's process");
            return None;
        }
        let scene = Scene::new();
        let sidecar = scene.start();
        scene.wait_online(1);
        let agent = &scene.agent;
        let chmod = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        chmod(agent.folder(), 0o755);
        let (program, config) = (agent.path("sidecar-for-all"), agent.path("theirs.json"));
        process::install(Path::new(SIDECAR), &program);
        let theirs = json!({
            "agent_id": agent.id(), "token": "not-theirs-to-know", "hub_url": "ws://127.0.0.1:1/ws",
            "queue_file": agent.path("queue.json"),
        });
        fs::write(&config, theirs.to_string()).unwrap();
        chmod(&config, 0o644);
        wait::until_true("the socket", || agent.socket().exists());
        Some(Self { scene, _sidecar: sidecar, program, config })
    }

    /// What somebody else is told when they ask.
    fn asked(&self, command: &str) -> (Option<i32>, String) {
        let mut theirs = Command::new(&self.program);
        theirs.arg(command).arg("--config").arg(&self.config).uid(OTHER).gid(OTHER).env_remove("AGENTCOM_CONFIG");
        let (status, text) = process::run(theirs, wait::BOUND);
        (status.code(), text)
    }

    fn is_undisturbed(&self) -> bool {
        let status = self.scene.agent.status();
        status["phase"] == "Idle" && status["draining"] == false && status["restarts"] == json!([])
    }
}

const EVERY: [&str; 6] = ["status", "restart", "cancel-restart", "drain", "resume", "reload"];

#[test]
fn the_socket_does_not_open_to_another_user() {
    let Some(stage) = Neighbours::new() else { return };
    for command in EVERY {
        let (code, text) = stage.asked(command);
        assert!(code == Some(77) && text.contains("is another user's"), "{command}: {code:?} {text}");
    }
    assert!(stage.is_undisturbed());
}

#[test]
fn another_user_who_comes_through_is_turned_away_by_the_sidecar_itself() {
    let Some(stage) = Neighbours::new() else { return };
    fs::set_permissions(stage.scene.agent.socket(), fs::Permissions::from_mode(0o666)).unwrap();
    for command in EVERY {
        let (code, text) = stage.asked(command);
        assert!(code == Some(77) && text.contains("this sidecar is another user's"), "{command}: {code:?} {text}");
    }
    assert!(stage.is_undisturbed());
    let uid = stage.scene.agent.wait_log("the warning", |line| line["uid"].as_u64());
    assert_eq!(uid, u64::from(OTHER));
}
