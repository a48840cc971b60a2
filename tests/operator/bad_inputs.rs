//! What goes wrong, row by row: each bad input is given to the real binary, which must say what is wrong, where, and what
//! to do, and end with the documented code. No message may hold the token.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]
#![allow(unreachable_pub, reason = "the parts of one test")]

#[macro_use]
mod row;

mod commands;
mod configuration;
mod no_files;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::support::process;
use crate::support::sidecar::SIDECAR;
use crate::support::wait;
use row::{GONE, GOOD, RUN, Row, judge};

#[test]
fn state_folders_that_cannot_be_used() {
    const ELSEWHERE: &str = r#"{"agent_id": "a", "token": "t0ken-that-nobody-may-see", "hub_url": "ws://{gone}/ws", "queue_file": "file/queue.json"}"#;
    judge(&[
        Row {
            args: RUN,
            files: &[("config.json", ELSEWHERE), ("file", "")],
            env: &[],
            code: 74,
            says: ["a file stands where", "{dir}/file", "set `queue_file` elsewhere"],
        },
        Row {
            args: RUN,
            files: &[("config.json", GOOD), ("queue.json.lock", "<dir>")],
            env: &[],
            code: 74,
            says: ["a folder stands where the file should be", "{dir}/queue.json.lock", "move it away"],
        },
        Row {
            args: RUN,
            files: &[("config.json", GOOD), ("queue.json", "<dir>")],
            env: &[],
            code: 74,
            says: ["a folder stands where the file should be", "{dir}/queue.json", "move it away"],
        },
        Row {
            args: RUN,
            files: &[("config.json", GOOD), ("queue.json", "<link> {dir}/queue.json")],
            env: &[],
            code: 74,
            says: ["cannot follow the links to", "{dir}/queue.json", "make the links lead to a file"],
        },
        Row {
            args: RUN,
            files: &[("config.json", GOOD), ("queue.json", r#"{"schema": 99}"#)],
            env: &[],
            code: 74,
            says: ["schema 99 is a newer sidecar's", "{dir}/queue.json", "start that version, or move the file away"],
        },
        Row {
            args: "check --preflight",
            files: &[("config.json", GOOD), ("queue.json", r#"{"schema": 99}"#)],
            env: &[],
            code: 74,
            says: ["schema 99 is a newer sidecar's", "{dir}/queue.json", "start that version"],
        },
        Row {
            args: "check --preflight",
            files: &[("config.json", GOOD), ("queue.json", r#"{"active": 7}"#)],
            env: &[],
            code: 74,
            says: [
                "makes no sense to this version: at active",
                "{dir}/queue.json",
                "mend it, or let `run` move it aside",
            ],
        },
        Row {
            args: "check --preflight",
            files: &[("config.json", ELSEWHERE), ("file", "")],
            env: &[],
            code: 74,
            says: ["a file stands where", "{dir}/file", "set `queue_file` elsewhere"],
        },
        Row {
            args: "check --preflight",
            files: &[("config.json", r#"{"agent_id": 7}"#)],
            env: &[],
            code: 78,
            says: ["`agent_id`: found the number 7", "{dir}/config.json:1:14", "1 to 128 characters"],
        },
    ]);
}

#[test]
fn what_check_calls_a_problem() {
    const MUDDLED: &str = r#"{"agent_id": "a", "token": "t0ken-that-nobody-may-see", "hub_url": "ws://{gone}/ws", "wake_command": "no-such-agent x", "results_dir": "file"}"#;
    judge(&[
        Row {
            args: "check",
            files: &[],
            env: &[],
            code: 78,
            says: ["problem  config", "config.json", "docs/configuration.md has every key"],
        },
        line!("check", 69, ["problem  hub tcp", "ws://{gone}/ws", "start the hub, or correct `hub_url`"]),
        line!(
            "check --hub-url ws://no-such-hub.invalid/ws",
            69,
            ["problem  hub name", "no-such-hub.invalid", "correct `hub_url`"]
        ),
        Row {
            args: "check",
            files: &[("config.json", MUDDLED), ("file", "")],
            env: &[],
            code: 69,
            says: ["problem  results", "{dir}/file", "set `results_dir` elsewhere"],
        },
        Row {
            args: "check",
            files: &[("config.json", MUDDLED)],
            env: &[],
            code: 69,
            says: ["problem  wake", "no `no-such-agent` on the PATH", "install it, or write its whole path"],
        },
        Row {
            args: "check",
            files: &[("config.json", GOOD), ("queue.json", "{")],
            env: &[],
            code: 74,
            says: ["problem  journal", "{dir}/queue.json", "move it aside"],
        },
    ]);
}

#[test]
fn a_second_copy() {
    let folder = tempfile::tempdir().unwrap();
    let config: PathBuf = folder.path().join("config.json");
    fs::write(&config, GOOD.replace("{gone}", &GONE)).unwrap();
    let _lock = agentcom::sidecar::journal::state_lock::StateLock::acquire(
        &folder.path().join("queue.json"),
        Some("the first"),
        std::time::Duration::ZERO,
    )
    .unwrap();
    let mut command = Command::new(SIDECAR);
    command.args(["run", "--config"]).arg(&config);
    let (status, text) = process::run(command, wait::BOUND);
    assert_eq!(status.code(), Some(75), "{text}");
    for words in
        ["another copy serves this agent: \"the first\"", "queue.json.lock", "stop it first (pm2 ls, pm2 stop)"]
    {
        assert!(text.contains(words), "{words:?} in {text}");
    }
}
